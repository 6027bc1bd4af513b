//! What became of rows that are not as they were written (§2.3): which is the first, and whether it was changed, removed, put
//! in, moved, or is where the end was cut off.
//!
//! [`follow`] goes along the chain; where it breaks, [`diagnose`] says what the chain alone tells, and [`compare`] what it
//! is beside rows that are known to be the true ones: those of a seal that holds, or those that the database still has. All
//! of them take rows one by one and keep none, whatever their number.

mod comparison;
mod diagnosis;
#[cfg(test)]
mod tests;
mod told;

use std::fmt;

use sha2::{Digest, Sha256};

use crate::legal_log::purge::{Purged, across};
use crate::legal_log::seal::octets;
use crate::legal_log::{Entry, Link, hexadecimal, line};
use crate::model::TemporalReference;

pub use comparison::compare;
pub use diagnosis::diagnose;
pub use told::{Told, ToldSeal};

/// Before the number of a row in its line.
const SEQUENCE: &str = "{\"sequence\":";

/// Right behind the number.
const AT: &str = ",\"at\":\"";

/// A row with its place in the chain, as text: so that it can be held against other places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub link: Link,
    /// Its line after the number.
    body: String,
}

/// A row that cannot be read as one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// Its place.
    pub sequence: i64,
    /// The column or part that holds what was never written there.
    pub part: &'static str,
}

/// What lies at the place of a row.
pub type FoundRow = Result<Row, Unreadable>;

impl Row {
    pub fn new(link: Link, entry: &Entry) -> Self {
        let line = line::write(link.sequence, entry);
        let number = format!("{SEQUENCE}{}", link.sequence);
        Row { link, body: line.strip_prefix(&number).unwrap_or(&line).to_owned() }
    }

    /// From a line of an export, without its line feed.
    pub fn from_export(line: &str) -> Result<Self, &'static str> {
        let (hash, row) = line.split_once(' ').ok_or("hash")?;
        let hash = octets(hash).ok_or("hash")?;
        let rest = row.strip_prefix(SEQUENCE).ok_or("sequence")?;
        let (number, _) = rest.split_once(',').ok_or("sequence")?;
        let sequence: i64 = number.parse().map_err(|_| "sequence")?;
        if sequence.to_string() != number {
            return Err("sequence");
        }
        let body = rest.strip_prefix(number).unwrap_or_default().to_owned();
        Ok(Row { link: Link { sequence, hash }, body })
    }

    /// The entry; none where the text is no line of the log.
    pub fn entry(&self) -> Option<Entry> {
        line::read(&self.line_at(self.link.sequence)).ok().map(|(_, entry)| entry)
    }

    /// The hash it would have right after this link.
    fn hash_after(&self, before: &Link) -> [u8; 32] {
        self.hash_at(&before.hash, before.sequence.saturating_add(1))
    }

    /// The hash it would have under this number, after a row of this hash.
    fn hash_at(&self, before: &[u8; 32], sequence: i64) -> [u8; 32] {
        let digest = Sha256::new().chain_update(hexadecimal(before)).chain_update(" ").chain_update(SEQUENCE);
        digest.chain_update(sequence.to_string()).chain_update(&self.body).chain_update("\n").finalize().into()
    }

    /// The instant that it bears; none where the text is no line of the log.
    pub fn at(&self) -> Option<TemporalReference> {
        TemporalReference::from_rfc3339(self.body.strip_prefix(AT)?.split('"').next()?)
    }

    /// The word for what happened, which stands right behind the instant.
    fn kind(&self) -> Option<&str> {
        self.body.split_once("\",\"kind\":\"")?.1.split('"').next()
    }

    fn line_at(&self, sequence: i64) -> String {
        format!("{SEQUENCE}{sequence}{}", self.body)
    }

    /// Whether it is what comes right after this link.
    fn fits(&self, before: &Link) -> bool {
        self.link.sequence == before.sequence.saturating_add(1) && self.link.hash == self.hash_after(before)
    }

    /// The members whose values differ from another row's, the number aside.
    fn differences(&self, other: &Row) -> Vec<String> {
        let members = |row: &Row| -> serde_json::Map<String, serde_json::Value> {
            serde_json::from_str(&row.line_at(0)).unwrap_or_default()
        };
        let (ours, theirs) = (members(self), members(other));
        let mut names: Vec<String> = Vec::new();
        for (name, value) in &ours {
            if theirs.get(name) != Some(value) {
                names.push(name.clone());
            }
        }
        names.extend(theirs.keys().filter(|name| !ours.contains_key(*name)).cloned());
        if names.is_empty() && self.body != other.body {
            names.push("form".to_owned());
        }
        names
    }
}

/// What became of the rows, named at the first that it concerns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wrong {
    /// The row is there, and says something else: these members of it, where they are known.
    Changed { sequence: i64, members: Vec<String> },
    /// The row says what it said, and its hash is another.
    HashChanged { sequence: i64 },
    /// Rows are gone.
    Removed { first: i64, last: i64 },
    /// Rows are gone, and all that came after them have their numbers.
    RemovedAndRenumbered { first: i64, count: i64 },
    /// Rows that the program did not write.
    Inserted { first: i64, last: i64 },
    /// What belongs here stands elsewhere, perhaps under its own number.
    Moved { sequence: i64, stands_at: i64 },
    /// The chain goes on to another end than the one that is known.
    Replaced { first: i64, last: i64 },
    /// The rows after this one are gone, up to the last there was.
    Cut { after: i64, last: i64 },
}

impl Wrong {
    /// The first row it is about.
    pub fn sequence(&self) -> i64 {
        match self {
            Self::Changed { sequence, .. } | Self::HashChanged { sequence } | Self::Moved { sequence, .. } => *sequence,
            Self::Removed { first, .. }
            | Self::RemovedAndRenumbered { first, .. }
            | Self::Inserted { first, .. }
            | Self::Replaced { first, .. } => *first,
            Self::Cut { after, .. } => after.saturating_add(1),
        }
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = |first: &i64, last: &i64| match first == last {
            true => format!("row {first}"),
            false => format!("rows {first} to {last}"),
        };
        match self {
            Self::Changed { sequence, members } if members.is_empty() => write!(
                f,
                "row {sequence} was changed: it does not have the hash of its content after the rows before it"
            ),
            Self::Changed { sequence, members } => write!(f, "row {sequence} was changed: its {}", members.join(", ")),
            Self::HashChanged { sequence } => write!(f, "row {sequence} was changed: its hash"),
            Self::Removed { first, last } if first == last => write!(f, "row {first} was removed"),
            Self::Removed { first, last } => write!(f, "{} were removed", rows(first, last)),
            Self::RemovedAndRenumbered { first, count } => write!(
                f,
                "{} removed, and the rows after were given other numbers",
                match count {
                    1 => format!("row {first} was"),
                    _ => format!("{} were", rows(first, &first.saturating_add(count - 1))),
                }
            ),
            Self::Inserted { first, last } if first == last => write!(f, "row {first} was put in"),
            Self::Inserted { first, last } => write!(f, "{} were put in", rows(first, last)),
            Self::Moved { sequence, stands_at } if sequence == stands_at => {
                write!(f, "rows were re-ordered: row {sequence} is not in its place")
            }
            Self::Moved { sequence, stands_at } => {
                write!(f, "rows were re-ordered: what belongs at row {sequence} stands at row {stands_at}")
            }
            Self::Replaced { first, last } => {
                write!(f, "{} are not those that were written: their chain ends with another hash", rows(first, last))
            }
            Self::Cut { after, last } => {
                write!(f, "the end was cut off after row {after}: there were rows up to {last}")
            }
        }
    }
}

/// Where a walk along the chain stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Walked {
    /// All rows fit; the last of them.
    Whole(Link),
    /// The last row that fits, or the end of a gap: what comes after it does not.
    Broken(Link),
}

/// The number that a row has, or where it lies.
fn sequence(found: &FoundRow) -> i64 {
    found.as_ref().map_or_else(|unreadable| unreadable.sequence, |row| row.link.sequence)
}

/// Follows the chain from `start` through rows in their order, across `gaps`, and shows each row that fits.
pub fn follow<E>(
    start: Link,
    gaps: &[Purged],
    rows: impl IntoIterator<Item = Result<FoundRow, E>>,
    mut show: impl FnMut(&Row),
) -> Result<Walked, E> {
    let mut last = start;
    for found in rows {
        let found = found?;
        let before = across(gaps, last, sequence(&found));
        let Some(row) = found.ok().filter(|row| row.fits(&before)) else { return Ok(Walked::Broken(before)) };
        last = row.link;
        show(&row);
    }
    Ok(Walked::Whole(last))
}
