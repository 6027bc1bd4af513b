//! What the chain alone tells of a row that does not fit.
//!
//! Each row keeps its own hash, so the rows behind the fault are witnesses: the next row still fits the hash of a row whose
//! content was changed; a row that was moved fits where it was taken from; rows that were given other numbers still fit
//! one another. Whoever changes a row and makes all hashes after it anew leaves no such witness; only a seal tells then.

use super::{FoundRow, Row, Unreadable, Wrong};
use crate::legal_log::Link;

/// How many rows may have been removed before the rest were given other numbers, for it to be seen as that.
const MOST_RENUMBERED: i64 = 10_000;

/// What is wrong behind `last`, the last row that fits; `rows` are those that come after it, in order, the first of them
/// not fitting. None where there are none.
pub fn diagnose<E>(last: Link, rows: impl IntoIterator<Item = Result<FoundRow, E>>) -> Result<Option<Wrong>, E> {
    let mut rows = rows.into_iter();
    let Some(first) = rows.next().transpose()? else { return Ok(None) };
    let place = last.sequence.saturating_add(1);
    let mut witnesses = Witnesses { last, place, first, second: None, moved: None, after_moved: None };
    for found in rows {
        witnesses.hear(found?);
        if witnesses.after_moved.is_some() {
            break;
        }
    }
    Ok(Some(witnesses.verdict()))
}

struct Witnesses {
    last: Link,
    /// Where the fault is.
    place: i64,
    /// What lies there.
    first: FoundRow,
    second: Option<FoundRow>,
    /// A later row that belongs here.
    moved: Option<Row>,
    /// What comes after that.
    after_moved: Option<FoundRow>,
}

impl Witnesses {
    fn hear(&mut self, found: FoundRow) {
        if self.moved.is_some() {
            self.after_moved = Some(found);
            return;
        }
        if let Ok(row) = &found {
            let here = row.hash_after(&self.last);
            // With its own hash, or its content alone, so that the hash of this place stayed.
            let is_content_alone = self.first.as_ref().is_ok_and(|first| first.link.hash == here);
            if here == row.link.hash || is_content_alone {
                self.moved = Some(row.clone());
            }
        }
        self.second.get_or_insert(found);
    }

    fn verdict(self) -> Wrong {
        let (place, before) = (self.place, self.place.saturating_sub(1));
        let moved_to = |stands_at| Wrong::Moved { sequence: place, stands_at };
        match &self.first {
            Err(Unreadable { sequence, .. }) if *sequence > place => {
                Wrong::Removed { first: place, last: sequence - 1 }
            }
            Err(Unreadable { sequence, part }) => {
                Wrong::Changed { sequence: *sequence, members: vec![(*part).to_owned()] }
            }
            Ok(first) if first.link.sequence < place => {
                Wrong::Inserted { first: first.link.sequence, last: first.link.sequence }
            }
            Ok(first) => match &self.moved {
                Some(moved) if self.is_insertion(first, moved) => {
                    Wrong::Inserted { first: place, last: moved.link.sequence.saturating_sub(1) }
                }
                Some(moved) => moved_to(moved.link.sequence),
                None if first.link.sequence > place => Wrong::Removed { first: place, last: first.link.sequence - 1 },
                None => self.of_content(first, Link { sequence: before, ..self.last }),
            },
        }
    }

    /// Whether the rows before `moved` were put in, and it and those behind it only got other numbers.
    fn is_insertion(&self, first: &Row, moved: &Row) -> bool {
        if moved.hash_after(&self.last) != moved.link.hash || first.link.sequence != self.place {
            return false;
        }
        let behind = |row: &Row| row.hash_at(&moved.link.hash, self.place.saturating_add(1)) == row.link.hash;
        // Two rows that changed their places: the one between, or the one that stands here, still fits behind.
        if behind(first) || self.second.as_ref().is_some_and(|row| row.as_ref().is_ok_and(behind)) {
            return false;
        }
        self.after_moved.as_ref().is_none_or(|row| row.as_ref().is_ok_and(behind))
    }

    /// The row has its number and not its hash.
    fn of_content(&self, first: &Row, before: Link) -> Wrong {
        let sequence = self.place;
        let changed = Wrong::Changed { sequence, members: Vec::new() };
        let Some(Ok(second)) = &self.second else { return changed };
        if second.fits(&first.link) {
            return changed;
        }
        let expected = Link { sequence, hash: first.hash_after(&before) };
        if second.fits(&expected) {
            return Wrong::HashChanged { sequence };
        }
        let next = sequence.saturating_add(1);
        let renumbered = (1..=MOST_RENUMBERED)
            .find(|count| second.hash_at(&first.link.hash, next.saturating_add(*count)) == second.link.hash);
        match renumbered {
            Some(count) => Wrong::RemovedAndRenumbered { first: sequence, count },
            None => changed,
        }
    }
}
