//! Answers of a time stamping authority: whatever is done to them, only the stamp that it gave counts.

use std::sync::LazyLock;

use pec_milter::smime::Trust;
use pec_milter::smime::timestamp::{TimeStamp, check};

const ROOT: &[u8] = include_bytes!("../../../testdata/timestamps/root.pem");
const GRANTED: &[u8] = include_bytes!("../../../testdata/corpus/timestamp/granted.tsr");

/// The SHA-256 of "stamped".
const DIGEST: [u8; 32] = [
    0xca, 0x2f, 0xe8, 0x06, 0x80, 0x58, 0x4c, 0xc1, 0x3e, 0xa8, 0x28, 0x8c, 0x0c, 0xa1, 0xdb, 0x71, 0x59, 0xe6, 0x2f,
    0x52, 0x3c, 0x73, 0x77, 0x5e, 0xf7, 0xce, 0xec, 0xd0, 0x62, 0xbf, 0x15, 0xa1,
];

static TRUST: LazyLock<Trust> = LazyLock::new(|| Trust::from_pem(ROOT).unwrap());
static STAMP: LazyLock<TimeStamp> = LazyLock::new(|| check(GRANTED, &DIGEST, None, &TRUST).expect("it was granted"));

/// The octets as an answer.
pub fn timestamp(octets: &[u8]) {
    if let Ok(stamp) = check(octets, &DIGEST, None, &TRUST) {
        assert_eq!(stamp, *STAMP);
    }
    // Nothing that holds over one content holds over another.
    let other = check(octets, &[0; 32], None, &TRUST);
    assert!(other.is_err(), "a stamp over zeros: {other:?}");
}
