//! What the log itself tells of its seals: their digests, their stamps, and which of them had their rows removed.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::Row;
use crate::legal_log::seal::{Sealed, Stamped};
use crate::legal_log::{Entry, EventKind};
use crate::model::TemporalReference;

/// The rows about seals among those that were seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    pub seals: BTreeMap<u64, ToldSeal>,
    /// The SHA-256 of each time stamp.
    pub stamps: BTreeMap<u64, ToldSeal>,
    /// The seal whose rows were removed, and when, by the number of each row that says so.
    pub purges: BTreeMap<i64, (u64, TemporalReference)>,
}

/// A row about a seal, and the digest of the file that it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ToldSeal {
    pub sequence: i64,
    pub sha256: [u8; 32],
}

#[derive(Deserialize)]
struct PurgeDetails {
    number: u64,
}

impl Told {
    /// Hears a row that may be about a seal.
    pub fn hear(&mut self, row: &Row) {
        // Nearly all rows are about something else, and are not read for it.
        if matches!(row.kind(), Some("seal" | "stamp" | "purge")) {
            if let Some(entry) = row.entry() {
                self.hear_entry(row.link.sequence, &entry);
            }
        }
    }

    /// The same for an entry that was read.
    pub fn hear_entry(&mut self, sequence: i64, entry: &Entry) {
        match entry.kind {
            EventKind::Seal => {
                if let Some(Sealed { number, sha256, .. }) = Sealed::of(entry) {
                    self.seals.insert(number, ToldSeal { sequence, sha256 });
                }
            }
            EventKind::Stamp => {
                if let Some(Stamped { number, sha256, .. }) = Stamped::of(entry) {
                    self.stamps.insert(number, ToldSeal { sequence, sha256 });
                }
            }
            EventKind::Purge => {
                let details = entry.details.as_deref().and_then(|text| serde_json::from_str::<PurgeDetails>(text).ok());
                if let Some(PurgeDetails { number }) = details {
                    self.purges.insert(sequence, (number, entry.at));
                }
            }
            _ => {}
        }
    }
}
