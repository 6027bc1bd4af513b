//! The test material of testdata/certificates and testdata/signatures, by name; see the notes.txt beside it.

use std::path::PathBuf;

use openssl::pkey::PKey;

use super::{Engine, Signer, SignerCertificate, SigningKey, pem, software_key};

/// An instant at which all test certificates but `expired` are valid: 2024-07-15.
pub(crate) const NOW: i64 = 1_721_032_245;

/// What every signature of the test material is over.
pub(crate) fn content() -> Vec<u8> {
    read("signatures/content.eml")
}

pub(crate) fn signature(name: &str) -> Vec<u8> {
    read(&format!("signatures/{name}.p7s"))
}

pub(crate) fn certificate(name: &str) -> SignerCertificate {
    SignerCertificate::from_der(&certificate_der(name)).unwrap()
}

pub(crate) fn certificate_der(name: &str) -> Vec<u8> {
    pem::certificates(&read(&format!("certificates/{name}.pem"))).unwrap().remove(0).to_der().unwrap()
}

/// The key of the certificate `provider`.
pub(crate) fn key(engine: Engine) -> Box<dyn SigningKey> {
    let key = PKey::private_key_from_pem(&read("certificates/provider-key.pem")).unwrap();
    software_key(&key.private_key_to_pkcs8().unwrap(), engine).unwrap()
}

pub(crate) fn signer(engine: Engine) -> Signer {
    Signer::new(key(engine), certificate("provider"), &[certificate("issuing")]).unwrap()
}

pub(crate) fn read(path: &str) -> Vec<u8> {
    std::fs::read(at(path)).unwrap()
}

pub(crate) fn at(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata").join(path)
}
