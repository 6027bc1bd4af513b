//! What was removed after its retention (§2.3): the log itself says which rows are gone, so that no other gap can pass for
//! a purge.
//!
//! Whole sealed ranges go, and each purge is an entry that tells its own range and all that went before it. So the last
//! one explains every gap of the log, also when the entries of earlier purges are gone themselves; and each gap keeps the
//! hash of its last row, from which the chain goes on.

use serde::{Deserialize, Serialize};

use crate::legal_log::seal::{Seal, octets};
use crate::legal_log::{Entry, EventKind, Link, Slot, hexadecimal};
use crate::model::TemporalReference;

/// Rows that are gone: from the first to the last, without any in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Purged {
    pub first: i64,
    pub last: Link,
}

/// What the details of a purge keep; the database itself reads `first` and `last` before it lets a row go.
#[derive(Serialize, Deserialize)]
struct Details {
    /// The number of the seal.
    number: u64,
    first: i64,
    last: i64,
    purged: Vec<Range>,
}

#[derive(Serialize, Deserialize)]
struct Range {
    first: i64,
    last: i64,
    hash: String,
}

/// The entry that removes the rows of a seal, after the ranges that an earlier one tells.
pub fn entry(seal: &Seal, before: &[Purged], at: TemporalReference) -> Entry {
    let range = |purged: &Purged| Range {
        first: purged.first,
        last: purged.last.sequence,
        hash: hexadecimal(&purged.last.hash),
    };
    let details = Details {
        number: seal.number,
        first: seal.first(),
        last: seal.last.sequence,
        purged: with(before, seal).iter().map(range).collect(),
    };
    Entry {
        details: serde_json::to_string(&details).ok(),
        slot: Some(Slot::purge(seal.number)),
        ..Entry::new(EventKind::Purge, at)
    }
}

/// The first and last row that a purge itself removed; none where it is no purge or not readable.
pub fn removed(entry: &Entry) -> Option<(i64, i64)> {
    details(entry).map(|details| (details.first, details.last))
}

/// All ranges that a purge tells, in order; none where it is no purge or not readable.
pub fn purged(entry: &Entry) -> Option<Vec<Purged>> {
    let details = details(entry)?;
    let purged = |range: &Range| {
        let last = Link { sequence: range.last, hash: octets(&range.hash)? };
        Some(Purged { first: range.first, last })
    };
    details.purged.iter().map(purged).collect()
}

/// The row before the one with this number, where rows between it and `last` may have been purged.
pub fn across(gaps: &[Purged], last: Link, next: i64) -> Link {
    let after_last = last.sequence.saturating_add(1);
    let is_between = |gap: &&Purged| gap.first == after_last && gap.last.sequence < next;
    gaps.iter().find(is_between).map_or(last, |gap| gap.last)
}

fn details(entry: &Entry) -> Option<Details> {
    let details = entry.details.as_deref().filter(|_| entry.kind == EventKind::Purge)?;
    serde_json::from_str(details).ok()
}

/// Ranges that touch become one.
fn with(before: &[Purged], seal: &Seal) -> Vec<Purged> {
    let mut ranges = before.to_vec();
    ranges.push(Purged { first: seal.first(), last: seal.last });
    ranges.sort_by_key(|range| range.first);
    let mut merged: Vec<Purged> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match merged.last_mut() {
            Some(earlier) if range.first <= earlier.last.sequence.saturating_add(1) => {
                if range.last.sequence > earlier.last.sequence {
                    earlier.last = range.last;
                }
            }
            _ => merged.push(range),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seal(number: u64, first: i64, last: i64) -> Seal {
        Seal {
            number,
            provider: "Alfa S.p.A.".into(),
            sealed: TemporalReference::from_unix(1_700_000_000),
            before: Link { sequence: first - 1, hash: [0; 32] },
            last: Link { sequence: last, hash: [u8::try_from(number).unwrap(); 32] },
            newest: TemporalReference::from_unix(1_700_000_000),
            previous: [0; 32],
            rows: [0; 32],
        }
    }

    #[test]
    fn the_chain_goes_on_behind_what_was_purged_and_behind_nothing_else() {
        let link = |sequence, octet| Link { sequence, hash: [octet; 32] };
        let gaps = [Purged { first: 1, last: link(100, 1) }, Purged { first: 201, last: link(300, 3) }];
        assert_eq!(across(&gaps, Link::BEFORE_FIRST, 101), link(100, 1));
        assert_eq!(across(&gaps, link(200, 2), 301), link(300, 3));
        for (last, next) in [(link(100, 1), 101), (link(150, 7), 301), (Link::BEFORE_FIRST, 50), (link(300, 3), 302)] {
            assert_eq!(across(&gaps, last, next), last);
        }
    }

    #[test]
    fn the_last_purge_tells_of_all() {
        let at = TemporalReference::from_unix(1_800_000_000);
        let of = |before: &[Purged], number, first, last| {
            let entry = entry(&seal(number, first, last), before, at);
            assert_eq!(entry.slot, Some(Slot::purge(number)));
            purged(&entry).unwrap()
        };
        let range = |first, last, octet| Purged { first, last: Link { sequence: last, hash: [octet; 32] } };
        let first = of(&[], 1, 1, 100);
        assert_eq!(first, [range(1, 100, 1)]);
        // The second day is held; the third goes.
        let third = of(&first, 3, 201, 300);
        assert_eq!(third, [range(1, 100, 1), range(201, 300, 3)]);
        assert_eq!(of(&third, 2, 101, 200), [range(1, 300, 3)]);
        assert_eq!(purged(&Entry::new(EventKind::Purge, at)), None);
        assert_eq!(purged(&Entry { details: Some("{}".into()), ..Entry::new(EventKind::Purge, at) }), None);
    }
}
