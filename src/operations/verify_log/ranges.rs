//! The rows of a sealed range, in the database and in its export, and the rows behind the last seal.

use std::cell::Cell;

use super::lines::Lines;
use super::{Sealed, Verification};
use crate::legal_log::Link;
use crate::legal_log::seal::Seal;
use crate::legal_log::verification::{FoundRow, Row, Walked, Wrong, compare, diagnose, follow};
use crate::model::TemporalReference;
use crate::operations::ports::{EvidenceError, LogEvidence, SealEvidence};

/// The rows of a range in one of their two places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// They lead from the hash before the range to its last; the newest instant that one of them bears.
    Whole(Option<TemporalReference>),
    /// They are not there.
    Absent,
    /// They do not.
    Altered(Fitting),
}

/// The last row that fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fitting {
    /// What comes after it does not.
    Breaks(Link),
    /// It is the last one, and not that of the seal.
    Ends(Link),
}

impl State {
    fn is_whole(self) -> bool {
        matches!(self, State::Whole(_))
    }
}

/// Where a walk through the database stopped, and the newest instant that it came by.
type Followed = (Walked, Option<TemporalReference>);

impl<L: LogEvidence, S: SealEvidence> Verification<'_, L, S> {
    pub(super) fn check_rows(&mut self, sealed: &Sealed, seal: &Seal, holds: bool) -> Result<(), EvidenceError> {
        let is_purged = self.is_purged(seal);
        let start = self.position;
        let database = match self.log {
            Some(_) if self.is_cut || !holds => None,
            Some(_) if is_purged => {
                self.check_purged(sealed, seal)?;
                self.position = seal.last;
                None
            }
            Some(log) => self.walk_database(log, sealed, seal)?,
            None => None,
        };
        let export = self.walk_export(sealed, seal)?;
        if is_purged {
            self.summary.purged += 1;
        }
        let rows_place = format!("{}.rows", sealed.name);
        let truth_in_export = holds && export.is_whole() && start == seal.before;
        if let (Some(State::Altered(found)), Some(log)) = (database, self.log) {
            let wrong = if truth_in_export { self.beside_export(log, sealed, seal)? } else { None };
            let wrong = match wrong {
                Some(wrong) => wrong,
                None => self.alone(found, seal, |after| log.rows(after, i64::MAX))?,
            };
            self.tell_database(log, sealed, seal, wrong)?;
        }
        if let Some(newest) = whole_newest(export).or(database.and_then(whole_newest)) {
            self.check_newest(sealed, seal, newest);
        }
        match export {
            State::Whole(_) => {}
            State::Absent if is_purged => {}
            State::Absent => match self.log {
                Some(log) => {
                    // They go after the purge is recorded, which may have been meanwhile.
                    self.renews_gaps(log)?;
                    match self.is_purged(seal) {
                        true => self.summary.purged += 1,
                        false => self.violation(&rows_place, "the exported rows are missing".to_owned()),
                    }
                }
                None => {
                    let what = "the rows are not here (purged, or left out): the seal alone is verified".to_owned();
                    self.finding(false, &rows_place, what);
                }
            },
            State::Altered(found) => {
                let truth = self.log.filter(|_| database.is_some_and(State::is_whole) || (!holds && !self.is_cut));
                let beside = match truth {
                    Some(log) => self.beside_database(log, sealed, seal)?,
                    None => None,
                };
                let wrong = match beside {
                    Some(wrong) => Some(wrong),
                    None => self.export_alone(found, sealed, seal)?,
                };
                let what = wrong.map_or("it is not the file that was sealed".to_owned(), |wrong| wrong.to_string());
                self.violation(&rows_place, what);
            }
        }
        Ok(())
    }

    /// The rows behind the last seal: the chain, and the tail that the database keeps beside it.
    pub(super) fn tail(&mut self) -> Result<(), EvidenceError> {
        const PLACE: &str = "database, rows without a seal";
        let Some(log) = self.log.filter(|_| !self.is_cut) else { return Ok(()) };
        loop {
            let walked = self.follow_database(log, i64::MAX, PLACE)?;
            let last = match walked {
                None => return Ok(()),
                Some((Walked::Whole(last), _)) => last,
                Some((Walked::Broken(before), _)) => {
                    if self.renews_gaps(log)? {
                        continue;
                    }
                    let wrong = diagnose(before, log.rows(after(before), i64::MAX));
                    let Some(wrong) = self.readable(PLACE, wrong)? else { return Ok(()) };
                    let wrong = wrong.unwrap_or(Wrong::Cut { after: before.sequence, last: before.sequence + 1 });
                    self.violation(PLACE, wrong.to_string());
                    return Ok(());
                }
            };
            self.position = last;
            let Some((end, tail)) = self.readable(PLACE, log.last_and_tail())? else { return Ok(()) };
            // The daemon may have gone on meanwhile.
            if end.sequence > last.sequence {
                continue;
            }
            let (found, known) = (end.sequence, tail.sequence);
            if found < known {
                self.violation(PLACE, Wrong::Cut { after: found, last: known }.to_string());
            } else if found > known {
                self.violation(PLACE, Wrong::Inserted { first: known + 1, last: found }.to_string());
            } else if end != tail || end != last {
                let what =
                    format!("the tail beside the rows has another hash for row {found}: one of the two was changed");
                self.violation(PLACE, what);
            }
            return Ok(());
        }
    }

    /// Whether the purge that is believed covers the whole range.
    fn is_purged(&self, seal: &Seal) -> bool {
        let covers = |first: i64, last: Link| {
            let same = last.sequence != seal.last.sequence || last.hash == seal.last.hash;
            first <= seal.first() && last.sequence >= seal.last.sequence && same
        };
        self.gaps.iter().any(|gap| covers(gap.first, gap.last))
    }

    /// The end of the retention hangs on what the seal says.
    fn check_newest(&mut self, sealed: &Sealed, seal: &Seal, newest: TemporalReference) {
        if newest != seal.newest {
            let (told, found) = (seal.newest.rfc3339(), newest.rfc3339());
            let what = format!("its newest row is of {found}, and not of {told} as it says");
            self.violation(&format!("{}.seal", sealed.name), what);
        }
    }

    /// Where rows were purged there are none.
    fn check_purged(&mut self, sealed: &Sealed, seal: &Seal) -> Result<(), EvidenceError> {
        let Some(log) = self.log else { return Ok(()) };
        let place = database(sealed);
        let first = log.rows(after(seal.before), seal.last.sequence).next().transpose();
        if let Some(found) = self.readable(&place, first)?.flatten() {
            let sequence = found.map_or_else(|unreadable| unreadable.sequence, |row| row.link.sequence);
            let wrong = Wrong::Inserted { first: sequence, last: sequence };
            self.violation(&place, format!("{wrong}, where the rows were purged"));
        }
        Ok(())
    }

    /// None where nothing is known of the rows.
    fn walk_database(&mut self, log: &L, sealed: &Sealed, seal: &Seal) -> Result<Option<State>, EvidenceError> {
        let place = database(sealed);
        loop {
            let start = self.position;
            let state = match self.follow_database(log, seal.last.sequence, &place)? {
                None => return Ok(None),
                Some((Walked::Whole(last), newest)) if last == seal.last => {
                    // Rows of others before it are none of its own.
                    State::Whole(newest.filter(|_| start == seal.before))
                }
                Some((Walked::Whole(last), _)) => State::Altered(Fitting::Ends(last)),
                Some((Walked::Broken(before), _)) => State::Altered(Fitting::Breaks(before)),
            };
            if !state.is_whole() && self.renews_gaps(log)? {
                self.position = start;
                if self.is_purged(seal) {
                    self.position = seal.last;
                    return Ok(None);
                }
                continue;
            }
            // The next range is judged for itself.
            self.position = seal.last;
            return Ok(Some(state));
        }
    }

    /// From the position on; none where the database cannot be read.
    fn follow_database(&mut self, log: &L, until: i64, place: &str) -> Result<Option<Followed>, EvidenceError> {
        let start = self.position;
        let last = Cell::new(start.sequence);
        let mut newest = None;
        let (told, rows) = (&mut self.told, &mut self.summary.rows);
        let walked = follow(start, &self.gaps, log.rows(after(start), until), |row| {
            last.set(row.link.sequence);
            *rows += 1;
            newest = newest.max(row.at());
            told.hear(row);
        });
        match walked {
            Ok(walked) => Ok(Some((walked, newest))),
            Err(error) if error.is_damage => {
                self.is_cut = true;
                let what = format!("it cannot be read after row {}: {}", last.get(), crate::operations::causes(&error));
                self.violation(place, what);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Whether a purge went on meanwhile.
    fn renews_gaps(&mut self, log: &L) -> Result<bool, EvidenceError> {
        let gaps = self.readable("database", log.gaps())?.unwrap_or_default();
        let is_new = gaps != self.gaps;
        self.gaps = gaps;
        Ok(is_new)
    }

    fn walk_export(&mut self, sealed: &Sealed, seal: &Seal) -> Result<State, EvidenceError> {
        let Some(reader) = self.seals.rows(&sealed.name)? else { return Ok(State::Absent) };
        let mut lines = Lines::new(reader, seal.first());
        let (told, exported, is_alone) = (&mut self.told, &mut self.summary.exported, self.log.is_none());
        let mut newest = None;
        let walked = follow(seal.before, &[], &mut lines, |row| {
            *exported += 1;
            newest = newest.max(row.at());
            if is_alone {
                told.hear(row);
            }
        })?;
        Ok(match walked {
            Walked::Whole(last) if last == seal.last && lines.digest() == seal.rows => State::Whole(newest),
            Walked::Whole(last) => State::Altered(Fitting::Ends(last)),
            Walked::Broken(before) => State::Altered(Fitting::Breaks(before)),
        })
    }

    /// The database beside an export that is whole.
    fn beside_export(&mut self, log: &L, sealed: &Sealed, seal: &Seal) -> Result<Option<Wrong>, EvidenceError> {
        let Some(reader) = self.seals.rows(&sealed.name)? else { return Ok(None) };
        let truth = Lines::new(reader, seal.first()).map(known);
        let wrong = compare(truth, log.rows(after(seal.before), seal.last.sequence));
        Ok(self.readable(&database(sealed), wrong)?.flatten())
    }

    /// An export beside a database that is whole.
    fn beside_database(&mut self, log: &L, sealed: &Sealed, seal: &Seal) -> Result<Option<Wrong>, EvidenceError> {
        let Some(reader) = self.seals.rows(&sealed.name)? else { return Ok(None) };
        let truth = log.rows(after(seal.before), seal.last.sequence).map(known);
        match compare(truth, Lines::new(reader, seal.first())) {
            // A database that cannot be read is told where it is looked at itself.
            Err(error) if error.is_damage => Ok(None),
            wrong => wrong,
        }
    }

    fn export_alone(&self, found: Fitting, sealed: &Sealed, seal: &Seal) -> Result<Option<Wrong>, EvidenceError> {
        let Fitting::Breaks(before) = found else { return Ok(ends(found, seal)) };
        let Some(reader) = self.seals.rows(&sealed.name)? else { return Ok(None) };
        let fitting = usize::try_from(before.sequence.saturating_sub(seal.before.sequence)).unwrap_or(usize::MAX);
        diagnose(before, Lines::new(reader, seal.first()).skip(fitting))
    }

    fn alone<I: Iterator<Item = Result<FoundRow, EvidenceError>>>(
        &mut self,
        found: Fitting,
        seal: &Seal,
        rows: impl Fn(i64) -> I,
    ) -> Result<Wrong, EvidenceError> {
        let last = seal.last.sequence;
        let wrong = match found {
            Fitting::Breaks(before) => self.readable("database", diagnose(before, rows(after(before))))?.flatten(),
            ended => ends(ended, seal),
        };
        Ok(wrong.unwrap_or(Wrong::Replaced { first: seal.first(), last }))
    }

    /// Rows that are missing at the end of all are cut off, and nothing behind them can be looked at.
    fn tell_database(&mut self, log: &L, sealed: &Sealed, seal: &Seal, wrong: Wrong) -> Result<(), EvidenceError> {
        let place = database(sealed);
        let end = seal.last.sequence;
        let wrong = match wrong {
            Wrong::Removed { first, last } | Wrong::Cut { after: first, last } if last == end => {
                let first = if matches!(wrong, Wrong::Cut { .. }) { first + 1 } else { first };
                let behind = self.readable(&place, log.rows(end, i64::MAX).next().transpose())?.flatten();
                match behind {
                    Some(_) => Wrong::Removed { first, last },
                    None => {
                        self.is_cut = true;
                        Wrong::Cut { after: first - 1, last }
                    }
                }
            }
            other => other,
        };
        self.violation(&place, wrong.to_string());
        Ok(())
    }
}

fn whole_newest(state: State) -> Option<TemporalReference> {
    match state {
        State::Whole(newest) => newest,
        State::Absent | State::Altered(_) => None,
    }
}

/// A walk that came to another end.
fn ends(found: Fitting, seal: &Seal) -> Option<Wrong> {
    let Fitting::Ends(last) = found else { return None };
    let end = seal.last.sequence;
    Some(match last.sequence {
        found if found < end => Wrong::Cut { after: found, last: end },
        found if found > end => Wrong::Inserted { first: end + 1, last: found },
        _ if last.hash != seal.last.hash => Wrong::Replaced { first: seal.first(), last: end },
        _ => return None,
    })
}

/// From where rows are read: a row below the first number must come to light, too.
fn after(link: Link) -> i64 {
    if link == Link::BEFORE_FIRST { i64::MIN } else { link.sequence }
}

fn database(sealed: &Sealed) -> String {
    format!("database, rows of {}", sealed.name)
}

/// The rows of the side that is whole.
fn known(found: Result<FoundRow, EvidenceError>) -> Result<Row, EvidenceError> {
    found?.map_err(|unreadable| EvidenceError {
        is_damage: true,
        source: format!("row {} cannot be read: its {}", unreadable.sequence, unreadable.part).into(),
    })
}
