//! The log row by row, as whoever verifies it wants it: with every row that cannot be read, and with what is wrong with the
//! file besides the rows.
//!
//! Rows come in steps, and between steps no snapshot is held, so that the write-ahead log of a running daemon can shrink.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use crate::adapters::sqlite::error::{Named, StoreError};
use crate::adapters::sqlite::row::{self, StoredRow};
use crate::adapters::sqlite::{file, search};
use crate::legal_log::purge::{Purged, purged};
use crate::legal_log::verification::{FoundRow, Row, Unreadable};
use crate::legal_log::{ChainBreak, Link, Recorded, Slot};
use crate::operations::causes;
use crate::operations::ports::{EvidenceError, LogEvidence};

/// Rows per step.
const STEP: i64 = 1000;

/// The defects of the file that are told; one is enough to distrust it.
const MOST_DEFECTS: i64 = 20;

/// The log of one file, for reading.
#[derive(Debug)]
pub struct LogWalk {
    connection: Connection,
    path: PathBuf,
}

impl LogWalk {
    /// Fails if the file is missing, is not an event log, or is of another schema version.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Ok(LogWalk { connection: file::open_to_read(path)?, path: path.to_owned() })
    }
}

impl LogEvidence for LogWalk {
    fn rows(&self, after: i64, until: i64) -> impl Iterator<Item = Result<FoundRow, EvidenceError>> {
        Rows::new(&self.connection, &self.path, after, until).map(|found| found.map_err(EvidenceError::from))
    }

    fn last_and_tail(&self) -> Result<(Link, Link), EvidenceError> {
        let both = "SELECT e.sequence, e.hash, t.sequence, t.hash FROM (SELECT sequence, hash FROM event
            ORDER BY sequence DESC LIMIT 1) e FULL JOIN tail t ON 1";
        let links = (|| -> rusqlite::Result<(Link, Link)> {
            let mut statement = self.connection.prepare_cached(both)?;
            let mut rows = statement.query([])?;
            let Some(row) = rows.next()? else { return Ok((Link::BEFORE_FIRST, Link::BEFORE_FIRST)) };
            let link = |sequence: usize, hash: usize| -> rusqlite::Result<Link> {
                let (sequence, hash) = (row.get::<_, Option<i64>>(sequence)?, row.get::<_, Option<[u8; 32]>>(hash)?);
                Ok(sequence.zip(hash).map_or(Link::BEFORE_FIRST, |(sequence, hash)| Link { sequence, hash }))
            };
            Ok((link(0, 1)?, link(2, 3)?))
        })();
        Ok(links.named(&self.path, "read the end of")?)
    }

    fn gaps(&self) -> Result<Vec<Purged>, EvidenceError> {
        Ok(gaps(&self.connection, &self.path)?)
    }

    fn of_slot(&self, slot: &Slot) -> Result<Option<Recorded>, EvidenceError> {
        let row = row::select(&self.connection, &self.path, "WHERE slot = ?1", [slot.as_str()])?.pop();
        Ok(row.map(|StoredRow { link, entry }| Recorded { sequence: link.sequence, entry, is_new: false }))
    }

    fn defects(&self) -> Result<Vec<String>, EvidenceError> {
        let mut defects = schema_defects(&self.connection).named(&self.path, "read the schema of")?;
        let mut statement = self
            .connection
            .prepare(&format!("PRAGMA integrity_check({MOST_DEFECTS})"))
            .named(&self.path, "check the pages of")?;
        let told = statement.query_map([], |row| row.get::<_, String>(0)).named(&self.path, "check the pages of")?;
        for line in told {
            defects.push(line.named(&self.path, "check the pages of")?);
        }
        defects.retain(|line| line != "ok");
        match search::differing(&self.connection, &self.path) {
            Ok(tables) => defects.extend(tables.into_iter().map(|table| {
                format!("{table} is made from the rows and not as they tell; run `pec-milter log rebuild`")
            })),
            // Of rows that cannot be read the walk through them tells.
            Err(StoreError::Chain { .. }) => {}
            Err(error) if error.is_damage() || !defects.is_empty() => defects.push(causes(&error)),
            Err(error) => return Err(error.into()),
        }
        Ok(defects)
    }
}

impl From<StoreError> for EvidenceError {
    fn from(error: StoreError) -> Self {
        EvidenceError { is_damage: error.is_damage(), source: Box::new(error) }
    }
}

/// What the last purge says is gone; nothing where it cannot be read, so that every gap shows.
pub(super) fn gaps(connection: &Connection, path: &Path) -> Result<Vec<Purged>, StoreError> {
    match row::select(connection, path, "WHERE kind = 'purge' ORDER BY sequence DESC LIMIT 1", []) {
        Ok(rows) => Ok(rows.last().and_then(|row| purged(&row.entry)).unwrap_or_default()),
        Err(StoreError::Chain { .. }) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Tables, indexes and triggers that are not as this program makes them.
fn schema_defects(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let ours = Connection::open_in_memory()?;
    file::MIGRATIONS.iter().try_for_each(|migration| ours.execute_batch(migration))?;
    let (expected, found) = (schema(&ours)?, schema(connection)?);
    let mut defects = Vec::new();
    for ((kind, name), sql) in &expected {
        match found.get(&(kind.clone(), name.clone())) {
            None => defects.push(format!("the {kind} {name} is missing")),
            Some(other) if other != sql => defects.push(format!("the {kind} {name} is not the one of this program")),
            Some(_) => {}
        }
    }
    let further = found.keys().filter(|key| !expected.contains_key(*key));
    defects.extend(further.map(|(kind, name)| format!("the {kind} {name} is none of this program")));
    Ok(defects)
}

type Schema = BTreeMap<(String, String), (String, Option<String>)>;

fn schema(connection: &Connection) -> rusqlite::Result<Schema> {
    // Statistics that an administrator had made change nothing. By their names alone: a trigger may be called anything.
    let all = "SELECT type, name, tbl_name, sql FROM sqlite_schema
               WHERE NOT (type = 'table' AND name IN ('sqlite_stat1', 'sqlite_stat4'))";
    let mut statement = connection.prepare(all)?;
    let rows = statement.query_map([], |row| Ok(((row.get(0)?, row.get(1)?), (row.get(2)?, row.get(3)?))))?;
    rows.collect()
}

/// The rows after one number up to another, in their order.
pub(super) struct Rows<'a> {
    connection: &'a Connection,
    path: &'a Path,
    /// None when all were read.
    after: Option<i64>,
    until: i64,
    step: VecDeque<FoundRow>,
    /// Told after the rows that were read before it.
    fault: Option<StoreError>,
}

impl<'a> Rows<'a> {
    pub fn new(connection: &'a Connection, path: &'a Path, after: i64, until: i64) -> Self {
        Rows { connection, path, after: Some(after), until, step: VecDeque::new(), fault: None }
    }

    fn read(&mut self, after: i64) -> Result<(), StoreError> {
        const CALL: &str = "read rows of";
        let clauses = "SELECT * FROM event WHERE sequence > ?1 AND sequence <= ?2 ORDER BY sequence LIMIT ?3";
        let mut statement = self.connection.prepare_cached(clauses).named(self.path, CALL)?;
        let mut rows = statement.query((after, self.until, STEP)).named(self.path, CALL)?;
        while let Some(row) = rows.next().named(self.path, CALL)? {
            self.step.push_back(match row::decode(row) {
                Ok(StoredRow { link, entry }) => Ok(Row::new(link, &entry)),
                Err(ChainBreak::Unreadable { sequence, column }) => Err(Unreadable { sequence, part: column }),
                Err(_) => Err(Unreadable { sequence: after.saturating_add(1), part: "columns" }),
            });
        }
        Ok(())
    }
}

impl Iterator for Rows<'_> {
    type Item = Result<FoundRow, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.step.is_empty() && self.fault.is_none() {
            let after = self.after.take()?;
            self.fault = self.read(after).err();
            self.after = self.step.back().map(|found| match found {
                Ok(row) => row.link.sequence,
                Err(unreadable) => unreadable.sequence,
            });
        }
        match self.step.pop_front() {
            Some(found) => Some(Ok(found)),
            None => {
                let fault = self.fault.take()?;
                self.after = None;
                Some(Err(fault))
            }
        }
    }
}
