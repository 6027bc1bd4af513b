//! Brings rows back to a copy of the log that was put back (§2.3): those that were sealed after the copy was taken.
//!
//! An export has each row with the link it had, so the chain goes on as if nothing had been lost. What was recorded after
//! the last seal is in no export. First [`beyond`] finds the seals that the copy does not reach, having held those that it
//! has against it; whoever calls this verifies them; then [`restore`] appends their rows, a range at a time. What it appends
//! is what it read, so each range is held against its seal once more before it stays. Killed in the middle, the next
//! attempt goes on with the next range.

use std::collections::BTreeSet;
use std::io::BufRead;

use crate::crash;
use crate::legal_log::seal::Seal;
use crate::legal_log::{Entry, Link};
use crate::operations::ports::{EvidenceError, OutsideFault, RestoredLog, SealEvidence, SealFiles};
use crate::operations::verify_log::Selected;
use crate::operations::verify_log::lines::Lines;

/// Rows that are added at a time.
const STEP: usize = 1000;

/// What a log does not reach.
#[derive(Debug)]
pub struct Beyond<'a, S> {
    /// The last row of the log.
    pub last: Link,
    pub seals: Selected<'a, S>,
    /// Files of the last sealing, which has no signature: nothing of it comes back.
    pub unfinished: Option<String>,
}

/// Why not all came back that is sealed; what did is whole.
#[derive(Debug, thiserror::Error)]
pub enum NotRestored {
    #[error("the seals could not be read")]
    Seals(#[from] EvidenceError),
    #[error("the log could not be read")]
    Reading(#[source] OutsideFault),
    #[error("the rows of {name} did not come back to the log")]
    Log {
        name: String,
        #[source]
        source: OutsideFault,
    },
    #[error(
        "row {row} of the log is not the one that {name} sealed: something was recorded after the copy was put back; put \
         the copy back again and restore before anything else is done with it"
    )]
    Fork { name: String, row: i64 },
    #[error(
        "rows {first} to {last} are in no seal of the folder, so {name} cannot come back, nor what follows; bring the files of \
         the seals before it from a backup"
    )]
    Gap { name: String, first: i64, last: i64 },
    #[error("{name}.rows is not there, so nothing from row {row} on can come back; bring the file from a backup")]
    NoRows { name: String, row: i64 },
    #[error("row {row} in {name}.rows cannot be read; bring the file from a backup")]
    Unreadable { name: String, row: i64 },
    #[error("{name}.rows is not the file that was sealed; bring it from a backup")]
    NotSealed { name: String },
    #[error("{name}.seal cannot be read as a seal; bring the file from a backup")]
    NoSeal { name: String },
}

/// Finds what can come back to a log. The seals that it reaches must be of its own rows.
pub fn beyond<'a, S: SealEvidence>(log: &impl RestoredLog, seals: &'a S) -> Result<Beyond<'a, S>, NotRestored> {
    let last = log.last().map_err(NotRestored::Reading)?;
    let (mut names, mut unfinished) = (BTreeSet::new(), None);
    let all = seals.names()?;
    let newest = all.last().map(|(number, _)| *number);
    for (number, name) in all {
        let files = seals.files(&name)?;
        if Some(number) == newest && files.signature.is_none() && files.stamp.is_none() {
            // What the log has is sealed by the next attempt.
            let is_beyond = |seal: Seal| seal.last.sequence > last.sequence;
            unfinished = read(&name, &files).map_or(true, is_beyond).then_some(name);
            continue;
        }
        let seal = read(&name, &files)?;
        if seal.last.sequence > last.sequence {
            names.insert(name);
            continue;
        }
        // Without the row it is purged.
        let found = log.link(seal.last.sequence).map_err(NotRestored::Reading)?;
        if found.is_some_and(|found| found != seal.last) {
            return Err(NotRestored::Fork { name, row: seal.last.sequence });
        }
    }
    Ok(Beyond { last, seals: Selected { seals, names }, unfinished })
}

/// Appends all rows of these seals after the last one of the log; returns the last one there is now.
pub fn restore<S: SealEvidence>(log: &mut impl RestoredLog, beyond: &Beyond<'_, S>) -> Result<Link, NotRestored> {
    let (mut last, seals) = (beyond.last, &beyond.seals);
    for (_, name) in seals.names()? {
        let seal = read(&name, &seals.files(&name)?)?;
        let row = last.sequence.saturating_add(1);
        if seal.first() > row {
            return Err(NotRestored::Gap { name, first: row, last: seal.before.sequence });
        }
        let Some(rows) = seals.rows(&name)? else { return Err(NotRestored::NoRows { name, row }) };
        let fault = |source| NotRestored::Log { name: name.clone(), source };
        log.begin().map_err(fault)?;
        let (end, digest) = append(log, last, Lines::new(rows, seal.first()), &name)?;
        if end != seal.last || digest != seal.rows {
            return Err(NotRestored::NotSealed { name });
        }
        log.commit().map_err(fault)?;
        last = end;
        crash::point("range-restored");
    }
    Ok(last)
}

/// Adds the rows of one export that come after a row; returns the last one, and the digest of all.
fn append<R: BufRead>(
    log: &mut impl RestoredLog,
    mut last: Link,
    mut rows: Lines<R>,
    name: &str,
) -> Result<(Link, [u8; 32]), NotRestored> {
    loop {
        let step = next_step(&mut rows, last, name)?;
        let Some((end, _)) = step.last() else { return Ok((last, rows.digest())) };
        log.append(&step).map_err(|source| NotRestored::Log { name: name.to_owned(), source })?;
        last = *end;
    }
}

/// Some of the rows after a row, with their links; none at the end.
fn next_step<R: BufRead>(rows: &mut Lines<R>, after: Link, name: &str) -> Result<Vec<(Link, Entry)>, NotRestored> {
    let unreadable = |row| NotRestored::Unreadable { name: name.to_owned(), row };
    let mut step = Vec::new();
    for row in rows {
        let row = row?.map_err(|error| unreadable(error.sequence))?;
        if row.link.sequence > after.sequence {
            step.push((row.link, row.entry().ok_or_else(|| unreadable(row.link.sequence))?));
        }
        if step.len() == STEP {
            break;
        }
    }
    Ok(step)
}

fn read(name: &str, files: &SealFiles) -> Result<Seal, NotRestored> {
    let text = files.seal.as_deref().map(String::from_utf8_lossy);
    let seal = text.and_then(|text| Seal::from_text(&text).ok());
    seal.ok_or_else(|| NotRestored::NoSeal { name: name.to_owned() })
}

#[cfg(test)]
mod tests;
