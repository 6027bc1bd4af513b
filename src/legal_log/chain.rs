//! The chain that binds each row of the log to all rows before it (§2.3), so that a row changed, removed or put in
//! afterwards shows.
//!
//! A row's hash is the SHA-256 of one line of text: the hash of the row before in 64 lower-case hexadecimal digits (zeros
//! for the first row), a blank, the row as `line` writes it, and a line feed. So whoever has an export needs no more than
//! `sha256sum` to follow it:
//!
//! ```text
//! printf '%s %s\n' "$hash_of_the_row_before" "$row" | sha256sum
//! ```
//!
//! This encoding never changes once released. Rows cut off at the end do not show here: the tail that the database keeps
//! beside its rows, and the seals, hold the last hash against that.

use sha2::{Digest, Sha256};

use crate::legal_log::{Entry, line};

/// The place of a row in the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    pub sequence: i64,
    pub hash: [u8; 32],
}

/// Where a log stops being the one that was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChainBreak {
    #[error("row {found} stands where row {expected} belongs")]
    Gap { expected: i64, found: i64 },
    #[error("row {sequence} does not have the hash of its content and of the rows before it")]
    Hash { sequence: i64 },
    #[error(
        "the log ends with row {found}, but there were rows up to {last}: the end was cut off, or put in past the program"
    )]
    Tail { found: i64, last: i64 },
    #[error(
        "the rows of seal {number} are not those that were sealed: they end with row {found}, or with another content or newest instant"
    )]
    Sealed { number: u64, found: i64 },
    #[error("the {column} of row {sequence} holds no value that was ever written there")]
    Unreadable { sequence: i64, column: &'static str },
}

impl Link {
    /// What the first row follows.
    pub const BEFORE_FIRST: Link = Link { sequence: 0, hash: [0; 32] };

    /// The link of the row that holds `entry` and comes right after this one.
    pub fn next(&self, entry: &Entry) -> Link {
        // Saturating: a log that reached the end of the numbers refuses the row because its sequence is taken.
        let sequence = self.sequence.saturating_add(1);
        Link { sequence, hash: hash(&self.hash, sequence, entry) }
    }

    /// Whether `link`, read together with `entry`, is what comes right after this one.
    pub fn check_next(&self, link: &Link, entry: &Entry) -> Result<(), ChainBreak> {
        let expected = self.next(entry);
        if link.sequence != expected.sequence {
            return Err(ChainBreak::Gap { expected: expected.sequence, found: link.sequence });
        }
        if link.hash != expected.hash {
            return Err(ChainBreak::Hash { sequence: link.sequence });
        }
        Ok(())
    }
}

fn hash(previous: &[u8; 32], sequence: i64, entry: &Entry) -> [u8; 32] {
    let line = line::write(sequence, entry);
    let digest = Sha256::new().chain_update(hexadecimal(previous)).chain_update(" ").chain_update(line);
    digest.chain_update("\n").finalize().into()
}

/// As hashes stand in exports.
pub fn hexadecimal(hash: &[u8; 32]) -> String {
    // Twice for each row that is verified: a formatter for each octet would take longer than the hash.
    let digit = |value: u8| char::from_digit(u32::from(value), 16).unwrap_or_default();
    hash.iter().flat_map(|octet| [digit(octet >> 4), digit(octet & 0x0f)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::legal_log::{EventKind, Slot};
    use crate::model::TemporalReference;

    fn entry() -> Entry {
        Entry {
            kind: EventKind::Delivery,
            at: TemporalReference::from_unix(1_700_000_000),
            queue_id: Some("4Sxyz1".into()),
            pec_msgid: Some("pec.1@alfa.example".parse().unwrap()),
            client_msgid: None,
            sender: Some("anna@alfa.example".into()),
            recipient: Some("bruno@beta.example".into()),
            subject: Some("perché no".into()),
            notification: Some("<n.1@alfa.example>".parse().unwrap()),
            provider: None,
            issuer: None,
            details: Some(String::new()),
            slot: Some(Slot::arrival("4Sxyz1")),
        }
    }

    #[test]
    fn the_hash_is_the_one_the_description_gives() {
        // Computed by sha256sum from the description at the head of this file.
        let expected = "6202e1fc5a9acffc5c7dba494b467477fb91ec6e7ddfc396a37b2993b0fa4ae9";
        let link = Link::BEFORE_FIRST.next(&entry());
        assert_eq!((link.sequence, hexadecimal(&link.hash).as_str()), (1, expected));
    }

    #[test]
    fn text_moved_from_one_field_to_the_next_changes_the_hash() {
        let first = Link::BEFORE_FIRST.next(&entry());
        let moved = Entry { sender: None, recipient: entry().sender, subject: entry().recipient, ..entry() };
        assert_ne!(Link::BEFORE_FIRST.next(&moved).hash, first.hash);
        let absent = Entry { details: None, ..entry() };
        assert_ne!(Link::BEFORE_FIRST.next(&absent).hash, first.hash);
    }

    #[test]
    fn a_row_fits_only_after_the_row_it_was_written_after() {
        let first = Link::BEFORE_FIRST.next(&entry());
        let second = first.next(&entry());
        assert_eq!(first.check_next(&second, &entry()), Ok(()));
        assert_eq!(Link::BEFORE_FIRST.check_next(&second, &entry()), Err(ChainBreak::Gap { expected: 1, found: 2 }));
        let forged = Link { sequence: 2, ..first };
        assert_eq!(first.check_next(&forged, &entry()), Err(ChainBreak::Hash { sequence: 2 }));
    }
}
