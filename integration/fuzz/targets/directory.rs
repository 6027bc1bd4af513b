#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| pec_fuzz::directory(octets));
