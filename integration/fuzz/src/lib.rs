//! What holds for every input from outside, whatever its octets: one function per reader, which panics where it does not.
//!
//! The fuzz targets beside this file call these functions with what libFuzzer invents; `integration/corpus.rs` calls them
//! with every file of `testdata/corpus/`, so that what was found once is looked at in every test run.

mod certification_data;
mod delivery_status;
mod directory;
mod evidence;
mod lmtp;
mod material;
mod netstring;
mod signature;
mod submission;
mod timestamp;

pub use certification_data::certification_data;
pub use delivery_status::delivery_status;
pub use directory::directory;
pub use evidence::evidence;
pub use lmtp::lmtp;
pub use netstring::netstring;
pub use signature::{ENVELOPE, signature};
pub use submission::submission;
pub use timestamp::timestamp;

/// Reads an input and panics where it does not have the properties of its kind.
pub type Property = fn(&[u8]);

/// Each by the name of its target and of its folder below `testdata/corpus/`.
pub const READERS: [(&str, Property); 9] = [
    ("certification_data", certification_data),
    ("delivery_status", delivery_status),
    ("directory", directory),
    ("evidence", evidence),
    ("lmtp", lmtp),
    ("netstring", netstring),
    ("signature", signature),
    ("submission", submission),
    ("timestamp", timestamp),
];
