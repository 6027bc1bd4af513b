//! The chain that binds each row of the log to all rows before it (§2.3), so that a row changed, removed or put in
//! afterwards shows.
//!
//! A row's hash is the SHA-256 of these octets, one after the other:
//!
//! * the hash of the row before, 32 octets; for the first row, 32 zero octets;
//! * the sequence and the instant (seconds since 1970), each as 8 octets, signed, most significant first;
//! * the texts kind, queue id, PEC msgid, client msgid, sender, recipient, subject, notification, provider, details and
//!   slot, in this order: an absent one is the octet 0; a present one is the octet 1, its length in octets as 8 octets,
//!   most significant first, and its UTF-8 octets.
//!
//! This encoding never changes once released. Rows cut off at the end do not show here: the time stamp on the day's log
//! holds the last hash against that.

use sha2::{Digest, Sha256};

use crate::legal_log::Entry;

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
    let mut digest = Sha256::new();
    digest.update(previous);
    digest.update(sequence.to_be_bytes());
    digest.update(entry.at.unix().to_be_bytes());
    for text in [
        Some(entry.kind.name()),
        entry.queue_id.as_deref(),
        entry.pec_msgid.as_ref().map(|id| id.as_str()),
        entry.client_msgid.as_ref().map(|id| id.as_str()),
        entry.sender.as_deref(),
        entry.recipient.as_deref(),
        entry.subject.as_deref(),
        entry.notification.as_ref().map(|id| id.as_str()),
        entry.provider.as_deref(),
        entry.details.as_deref(),
        entry.slot.as_ref().map(|slot| slot.as_str()),
    ] {
        match text {
            None => digest.update([0]),
            Some(text) => {
                digest.update([1]);
                digest.update((text.len() as u64).to_be_bytes());
                digest.update(text);
            }
        }
    }
    digest.finalize().into()
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
            details: Some(String::new()),
            slot: Some(Slot::arrival("4Sxyz1")),
        }
    }

    #[test]
    fn the_hash_is_the_one_the_description_gives() {
        // Computed by another program from the description at the head of this file.
        let expected = "c1daad7883b55b623ed55de6abeacf710c17b56e1e8bde5b5b719701b3170f7f";
        let link = Link::BEFORE_FIRST.next(&entry());
        assert_eq!(link.sequence, 1);
        assert_eq!(link.hash.map(|octet| format!("{octet:02x}")).concat(), expected);
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
