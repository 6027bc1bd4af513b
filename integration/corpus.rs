//! What the fuzz targets found, and what they started from: everything in `testdata/corpus/` has the properties that
//! `fuzz/src/` demands of every input.

#[path = "fuzz/src/lib.rs"]
mod properties;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use properties::{ENVELOPE, READERS};

/// Ten times what the slowest input takes, on a machine with something else to do.
const PATIENCE: Duration = Duration::from_secs(10);

/// In less time than this nothing is measured.
const NOISE: Duration = Duration::from_millis(20);

/// How much is made of each pattern.
const LARGE: usize = 1 << 18;

const MIXED: &str = "From: a@b\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n";
const REPORT: &str = "Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n\
    --b\r\nContent-Type: message/rfc822\r\n\r\n--b\r\nContent-Type: message/delivery-status\r\n\r\n";
const DATICERT: &str = "<postacert tipo='accettazione'><intestazione>";

/// For each reader what might cost it the square of its input: what comes first, what is repeated, what comes last.
const PATTERNS: &[(&str, &str, &str, &str)] = &[
    ("submission", "From: ", "(", ""),
    ("submission", "From: ", "a ", ""),
    ("submission", "", "a@b,", "a@b"),
    ("submission", "", "a:b@c;,", "a@b"),
    ("submission", "", "(a)", "a@b"),
    ("submission", "", "\"a\"", "@b"),
    ("submission", "a@", "\u{e9}", ""),
    ("submission", "a@", "\u{e9}.", "b"),
    ("submission", "a@", "\u{5b57}\u{e9}\u{3b1}\u{430}.", "b"),
    ("submission", "a@", "xn--perch-fsa.", "b"),
    ("submission", "To: ", "a@b,\r\n ", "a@b\r\n\r\n"),
    ("submission", "", "To: a@b\r\n", "\r\n"),
    ("submission", "", "A:\r\n", "\r\n"),
    ("submission", "", "\r\n ", ""),
    ("submission", "Subject:", "=?UTF-8?Q?a?= ", "\r\n\r\n"),
    ("submission", "Subject:", "=?UTF-8?B?", "\r\n\r\n"),
    ("submission", "Subject:", "=?", "\r\n\r\n"),
    ("submission", "Content-Type: a/b", ";a=b", "\r\n\r\n"),
    ("submission", "Content-Type: a/b", ";a*0=b", "\r\n\r\n"),
    ("submission", "Content-Type: a/b", ";a*1*=%41", "\r\n\r\n"),
    ("submission", "Content-Type: a/b", ";", "\r\n\r\n"),
    ("submission", "Content-Type: ", "(", "\r\n\r\n"),
    ("submission", "Content-Type: a/b; name=\"", "=?UTF-8?Q?a?= ", "\"\r\n\r\n"),
    ("submission", "Content-Type: a/b; name=\"", "\\\"", "\"\r\n\r\n"),
    ("submission", "Content-Type: a/b; name*=", "''%", "\r\n\r\n"),
    ("submission", MIXED, "--b\r\n", "--b--"),
    ("submission", MIXED, "--b", ""),
    ("submission", MIXED, "\r\n--b ", ""),
    ("submission", MIXED, "--b\r\nContent-Type: a/b; name=c\r\n", "--b--"),
    ("submission", MIXED, "--b\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n", "--b--"),
    ("submission", "", "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n", "--b--"),
    ("delivery_status", REPORT, "\r\n", "\r\n--b--"),
    ("delivery_status", REPORT, "Final-Recipient: rfc822;a@b\r\nAction: failed\r\n\r\n", "\r\n--b--"),
    ("delivery_status", REPORT, "A:b\r\n\r\n", "\r\n--b--"),
    ("delivery_status", REPORT, "Action: failed\r\n", "\r\n--b--"),
    ("delivery_status", REPORT, "\n\r", "\r\n--b--"),
    ("certification_data", DATICERT, "<destinatari>a@b</destinatari>", ""),
    ("certification_data", "", "<a>", ""),
    ("certification_data", "<a", " x='y'", "/>"),
    ("certification_data", "<a>", "&#65;", "</a>"),
    ("certification_data", "<a>", "<![CDATA[", "</a>"),
    ("certification_data", "<a>", "<!--", "</a>"),
    ("certification_data", "", "<a xmlns:a='b'>", ""),
    ("directory", "dn: a\n", "managedDomains: a.example\n", ""),
    ("directory", "dn: a\n", "managedDomains: a b\n", ""),
    ("directory", "dn: a\n", "providerCertificate: a\n", ""),
    ("directory", "", "dn: a\n", ""),
    ("directory", "dn: ", "a\n ", ""),
    ("directory", "dn: a\na:: ", "YWFh\n ", ""),
    ("directory", "", "\n", ""),
    (
        "evidence",
        "{\"sequence\":1,\"at\":\"1970-01-01T00:00:00Z\",\"kind\":\"seal\",\"details\":{\"a\":\"",
        "\\u0041",
        "\"}}",
    ),
    ("evidence", "{\"sequence\":1,\"at\":\"1970-01-01T00:00:00Z\",\"kind\":\"seal\",\"subject\":\"", "\\n", "\"}"),
    ("evidence", "pec-milter seal 1\nnumber 1\nprovider ", "x", ""),
    ("evidence", "", "[", ""),
    ("lmtp", "", "NOOP\r\n", ""),
    ("lmtp", "", "\r\n", ""),
    ("lmtp", "", "x", ""),
    ("lmtp", "LHLO x\r\nMAIL FROM:<a@b>\r\n", "RCPT TO:<c@d>\r\n", "DATA\r\n.\r\n"),
    ("lmtp", "LHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n", "\r\n..", ""),
    ("lmtp", "LHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n", "\r", ""),
    ("netstring", "", "0:,", ""),
    ("netstring", "", "1:a,", "1024:a"),
    ("netstring", "1024:", "1", ""),
    ("lmtp", "LHLO x\r\n", "MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n.\r\n", ""),
];

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/corpus")
}

#[test]
fn corpus_files_have_the_properties_of_their_reader() {
    for (name, holds) in READERS {
        let mut files: Vec<PathBuf> =
            fs::read_dir(corpus().join(name)).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        assert!(!files.is_empty(), "{name} has no corpus");
        for file in files {
            let octets = fs::read(&file).unwrap();
            println!("{}", file.display());
            let begun = Instant::now();
            holds(&octets);
            assert!(begun.elapsed() < PATIENCE, "{} took {:?}", file.display(), begun.elapsed());
        }
    }
}

/// Without it, what must not happen to a certified message would be tried on none.
#[test]
fn corpus_holds_the_certified_message_that_its_readers_know() {
    let file = corpus().join("signature/envelope.eml");
    if fs::read(&file).is_ok_and(|octets| octets == **ENVELOPE) {
        return;
    }
    let failed = file.with_extension("eml.failed");
    fs::write(&failed, &**ENVELOPE).unwrap();
    panic!("{} differs from what is composed and signed today: {}", file.display(), failed.display());
}

#[test]
fn corpus_patterns_cost_time_in_proportion() {
    for (name, before, repeated, after) in PATTERNS {
        let (_, holds) = READERS.iter().find(|(reader, _)| reader == name).unwrap();
        let cost = |size: usize| {
            let input = [before, &repeated.repeat(size / repeated.len())[..], after].concat();
            let begun = Instant::now();
            holds(input.as_bytes());
            begun.elapsed()
        };
        // Four times the input costs four times the time, and the square of it sixteen times.
        let is_in_proportion = || {
            let (small, large) = (cost(LARGE / 4), cost(LARGE));
            println!("{name}: {repeated:?} after {before:?} takes {small:?}, four times of it {large:?}");
            large < 10 * small.max(NOISE)
        };
        // Once more, because the machine may have had something else to do.
        assert!(is_in_proportion() || is_in_proportion(), "{name}: {repeated:?} after {before:?}");
    }
}
