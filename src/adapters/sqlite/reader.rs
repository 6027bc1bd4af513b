//! The questions that the daemon and an operator ask of the log; none of them can write.
//!
//! Each is served by an index (tested), on a blocking thread, over a few connections of its own: readers never wait for
//! the writer, nor it for them. A row that cannot have been written by the daemon is an error, not an answer.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;
use tokio::sync::Semaphore;

use crate::adapters::sqlite::append;
use crate::adapters::sqlite::error::{Named, StoreError};
use crate::adapters::sqlite::file;
use crate::adapters::sqlite::row::{self, StoredRow};
use crate::adapters::sqlite::{walk, watch};
use crate::legal_log::hold::{Hold, standing};
use crate::legal_log::purge::{Purged, across};
use crate::legal_log::seal::{Seal, Sealed, Stamped};
use crate::legal_log::verification::{self, Walked};
use crate::legal_log::{ChainBreak, Entry, Link, Recorded, Slot};
use crate::model::{PecMsgid, TemporalReference};
use crate::operations::ports::Watched;
use crate::transaction::Progress;

/// Reads at a time: enough that a long one does not hold up the others, few enough to leave the disk to the writer.
const CONNECTIONS: usize = 4;

/// Rows per step of a walk through the whole log. Between steps no snapshot is held, so the write-ahead log can shrink.
const ROWS_PER_STEP: i64 = 1000;

const OF_QUEUE_FILE: &str = "WHERE queue_id = ?1 ORDER BY sequence";
const OF_TRANSACTION: &str = "WHERE pec_msgid = ?1 ORDER BY sequence";
const STEP_OF_PERIOD: &str = "SELECT at, sequence, pec_msgid FROM event WHERE (at, sequence) > (?1, ?2) AND at < ?3 ORDER BY at, sequence LIMIT ?4";
const EARLIER_IN_PERIOD: &str = "SELECT EXISTS (SELECT 1 FROM event
    WHERE pec_msgid = ?1 AND at >= ?2 AND (at, sequence) < (?3, ?4))";
/// Both kinds in words, as in the index.
const OF_HOLDS: &str = "WHERE kind IN ('hold', 'release') ORDER BY sequence";
const OF_SLOT: &str = "WHERE slot = ?1";
const OF_RANGE: &str = "WHERE sequence > ?1 AND sequence <= ?2 ORDER BY sequence LIMIT ?3";
const NEWEST: &str = "SELECT max(at) FROM event WHERE at <= ?1";
const HAS_PERIOD: &str = "SELECT EXISTS (SELECT 1 FROM event WHERE at >= ?1 AND at < ?2)";
/// The texts of `Slot::seal` and `Slot::stamp`.
const SEALS: &str =
    "WHERE (slot > 'seal ' AND slot < 'seal!') OR (slot > 'stamp ' AND slot < 'stamp!') ORDER BY sequence";
const OF_PERIOD: &str = "WHERE at >= ?1 AND at < ?2 ORDER BY at, sequence LIMIT ?3";

/// The log, to be read. Clones share their connections.
#[derive(Debug, Clone)]
pub struct LogReader {
    pool: Arc<Pool>,
    permits: Arc<Semaphore>,
}

#[derive(Debug)]
struct Pool {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
}

impl LogReader {
    /// Fails at once if the file is missing, is not an event log, or is of another schema version.
    pub(super) fn open(path: &Path) -> Result<LogReader, StoreError> {
        let first = file::open_to_read(path)?;
        let pool = Pool { path: path.to_owned(), idle: Mutex::new(vec![first]) };
        Ok(LogReader { pool: Arc::new(pool), permits: Arc::new(Semaphore::new(CONNECTIONS)) })
    }

    /// All entries of one queue file, in order of recording.
    pub async fn of_queue_file(&self, queue_id: &str) -> Result<Vec<Recorded>, StoreError> {
        let queue_id = queue_id.to_owned();
        self.read(move |connection, path| select(connection, path, OF_QUEUE_FILE, [queue_id])).await
    }

    /// All entries of one certified transaction, in order of recording.
    pub async fn of_transaction(&self, pec_msgid: &str) -> Result<Vec<Recorded>, StoreError> {
        let pec_msgid = pec_msgid.to_owned();
        self.read(move |connection, path| select(connection, path, OF_TRANSACTION, [pec_msgid])).await
    }

    /// The first `limit` entries from an instant on, and before another.
    pub async fn of_period(&self, period: Range<TemporalReference>, limit: u32) -> Result<Vec<Recorded>, StoreError> {
        let key = (period.start.unix(), period.end.unix(), limit);
        self.read(move |connection, path| select(connection, path, OF_PERIOD, key)).await
    }

    /// Shows each transaction that has an entry in a period, once and with all its entries, and returns what came of it.
    /// Never more than one transaction is held at a time.
    pub async fn fold_transactions<T: Send + 'static>(
        &self,
        period: Range<TemporalReference>,
        mut known: T,
        mut show: impl FnMut(&mut T, &PecMsgid, &[Recorded]) + Send + 'static,
    ) -> Result<T, StoreError> {
        self.read(move |connection, path| {
            let (start, end) = (period.start.unix(), period.end.unix());
            let mut after = (start, i64::MIN);
            loop {
                let step = step_of_period(connection, after, end).named(path, "read rows of")?;
                let Some(last) = step.last() else { return Ok(known) };
                let next = (last.0, last.1);
                for (at, sequence, id) in step {
                    let Some(id) = id else { continue };
                    // Shown at its first entry of the period already.
                    if appeared_before(connection, &id, start, (at, sequence)).named(path, "read rows of")? {
                        continue;
                    }
                    let entries = select(connection, path, OF_TRANSACTION, [&id])?;
                    if let Some(id) = entries.first().and_then(|one| one.entry.pec_msgid.clone()) {
                        show(&mut known, &id, &entries);
                    }
                }
                after = next;
            }
        })
        .await
    }

    /// Some rows after a place in the log, in order; none where there are no more.
    pub async fn rows_after(&self, sequence: i64) -> Result<Vec<(Link, Entry)>, StoreError> {
        let rows = self.read(move |connection, path| {
            let clauses = "WHERE sequence > ?1 ORDER BY sequence LIMIT ?2";
            row::select(connection, path, clauses, [sequence, ROWS_PER_STEP])
        });
        Ok(rows.await?.into_iter().map(|StoredRow { link, entry }| (link, entry)).collect())
    }

    /// The place in the chain of the row with this number, as it is stored.
    pub async fn link(&self, sequence: i64) -> Result<Option<Link>, StoreError> {
        self.read(move |connection, path| row::link(connection, path, sequence)).await
    }

    /// The place in the chain of the last row.
    pub async fn last_link(&self) -> Result<Link, StoreError> {
        self.read(row::last_link).await
    }

    /// All seals and stamps, in order of recording.
    pub async fn seals(&self) -> Result<Vec<Recorded>, StoreError> {
        self.read(|connection, path| select(connection, path, SEALS, [])).await
    }

    /// Walks through all rows, across those that were purged; returns the link of the last one, or `StoreError::Chain` with
    /// the first that does not fit. `operations::verify_log` says more of it.
    pub async fn verify_chain(&self) -> Result<Link, StoreError> {
        self.read(|connection, path| {
            let mut last = Link::BEFORE_FIRST;
            // Also a row put in below the first number must come to light.
            let mut after = i64::MIN;
            loop {
                let gaps = walk::gaps(connection, path)?;
                match verification::follow(last, &gaps, walk::Rows::new(connection, path, after, i64::MAX), |_| {})? {
                    Walked::Whole(link) => last = link,
                    // A purge meanwhile explains it.
                    Walked::Broken(_) if walk::gaps(connection, path)? != gaps => {}
                    Walked::Broken(before) => return Err(break_behind(connection, path, before)),
                }
                after = last.sequence.max(after);
                // The writer may have gone on meanwhile: then there are further rows to look at.
                let is_last = is_last(connection, path, last);
                if row::last_link(connection, path)? == last {
                    return is_last.map(|()| last);
                }
            }
        })
        .await
    }

    /// The holds that stand.
    pub async fn holds(&self) -> Result<Vec<Hold>, StoreError> {
        self.read(|connection, path| Ok(standing(&select(connection, path, OF_HOLDS, [])?))).await
    }

    pub(super) async fn last_hold(&self) -> Result<Option<i64>, StoreError> {
        self.read(append::last_hold).await
    }

    /// The ranges of rows that are gone after their retention.
    pub async fn purged(&self) -> Result<Vec<Purged>, StoreError> {
        self.read(append::purged).await
    }

    /// The digest under which the log knows the seal of this number.
    pub async fn sealed_as(&self, number: u64) -> Result<Option<[u8; 32]>, StoreError> {
        let slot = Slot::seal(number);
        self.read(move |connection, path| {
            let entry = select(connection, path, OF_SLOT, [slot.as_str()])?.pop();
            Ok(entry.and_then(|one| Sealed::of(&one.entry)).map(|sealed| sealed.sha256))
        })
        .await
    }

    /// The SHA-256 under which the log knows the stamp of this seal.
    pub async fn stamped_as(&self, number: u64) -> Result<Option<[u8; 32]>, StoreError> {
        let slot = Slot::stamp(number);
        self.read(move |connection, path| {
            let entry = select(connection, path, OF_SLOT, [slot.as_str()])?.pop();
            Ok(entry.and_then(|one| Stamped::of(&one.entry)).map(|stamped| stamped.sha256))
        })
        .await
    }

    /// The newest instant of any row that is not after this one.
    pub async fn newest_until(&self, until: TemporalReference) -> Result<Option<TemporalReference>, StoreError> {
        let newest = move |connection: &Connection, path: &Path| {
            let mut statement = connection.prepare_cached(NEWEST).named(path, "read rows of")?;
            let unix: Option<i64> =
                statement.query_row([until.unix()], |row| row.get(0)).named(path, "read rows of")?;
            Ok(unix.map(TemporalReference::from_unix))
        };
        self.read(newest).await
    }

    /// Whether any entry is of a period.
    pub async fn has_any(&self, period: Range<TemporalReference>) -> Result<bool, StoreError> {
        let key = (period.start.unix(), period.end.unix());
        let exists = move |connection: &Connection, path: &Path| {
            let mut statement = connection.prepare_cached(HAS_PERIOD).named(path, "read rows of")?;
            statement.query_row(key, |row| row.get(0)).named(path, "read rows of")
        };
        self.read(exists).await
    }

    /// Walks through the rows of a seal, which must be those that were sealed; whether one of them is of interest.
    pub async fn any_sealed(
        &self,
        seal: Seal,
        is_of_interest: impl Fn(&Recorded) -> bool + Send + 'static,
    ) -> Result<bool, StoreError> {
        self.read(move |connection, path| {
            let (mut last, mut newest, mut found) = (seal.before, None, false);
            loop {
                let rows = row::select(connection, path, OF_RANGE, (last.sequence, seal.last.sequence, ROWS_PER_STEP))?;
                if rows.is_empty() {
                    break;
                }
                last = follow(path, last, &rows)?;
                newest = newest.max(rows.iter().map(|row| row.entry.at).max());
                found |= rows.into_iter().map(recorded).any(|one| is_of_interest(&one));
            }
            // Its newest instant says when the retention is over.
            match last == seal.last && newest == Some(seal.newest) {
                true => Ok(found),
                false => {
                    let source = ChainBreak::Sealed { number: seal.number, found: last.sequence };
                    Err(StoreError::Chain { path: path.to_owned(), source })
                }
            }
        })
        .await
    }

    pub(super) async fn watched(
        &self,
        progress: Progress,
        until: TemporalReference,
        after: Option<Watched>,
    ) -> Result<Vec<Watched>, StoreError> {
        self.read(move |connection, path| watch::watched(connection, path, progress, until, after.as_ref())).await
    }

    pub(super) async fn earliest_watch(&self, progress: Progress) -> Result<Option<TemporalReference>, StoreError> {
        self.read(move |connection, path| watch::earliest(connection, path, progress)).await
    }

    pub(super) async fn unsent(&self, after: i64) -> Result<Vec<Recorded>, StoreError> {
        self.read(move |connection, path| watch::unsent(connection, path, after)).await
    }

    pub(super) async fn read<T, F>(&self, question: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection, &Path) -> Result<T, StoreError> + Send + 'static,
    {
        let ended = || StoreError::ReaderEnded { path: self.pool.path.clone() };
        let permit = self.permits.clone().acquire_owned().await.map_err(|_| ended())?;
        let pool = self.pool.clone();
        let answer = tokio::task::spawn_blocking(move || {
            // Held here and not by the caller, who may go away while the thread still reads.
            let _permit = permit;
            pool.with_connection(question)
        });
        answer.await.map_err(|_| ended())?
    }
}

type Appearance = (i64, i64, Option<String>);

fn step_of_period(connection: &Connection, after: (i64, i64), end: i64) -> rusqlite::Result<Vec<Appearance>> {
    let mut statement = connection.prepare_cached(STEP_OF_PERIOD)?;
    let rows = statement.query_map((after.0, after.1, end, ROWS_PER_STEP), |row| {
        Ok((row.get("at")?, row.get("sequence")?, row.get("pec_msgid")?))
    })?;
    rows.collect()
}

fn appeared_before(
    connection: &Connection,
    id: &str,
    start: i64,
    (at, sequence): (i64, i64),
) -> rusqlite::Result<bool> {
    connection.prepare_cached(EARLIER_IN_PERIOD)?.query_row((id, start, at, sequence), |row| row.get(0))
}

/// What does not fit behind a row.
fn break_behind(connection: &Connection, path: &Path, before: Link) -> StoreError {
    let after = if before == Link::BEFORE_FIRST { i64::MIN } else { before.sequence };
    let clauses = "WHERE sequence > ?1 ORDER BY sequence LIMIT 1";
    let found = row::select(connection, path, clauses, [after]).and_then(|rows| follow(path, before, &rows));
    let gone = ChainBreak::Tail { found: before.sequence, last: before.sequence.saturating_add(1) };
    found.err().unwrap_or(StoreError::Chain { path: path.to_owned(), source: gone })
}

/// Whether the last row is the last there was, and fits the one before it: what can be asked at every start.
pub(super) fn check_tail(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let mut tail = row::select(connection, path, "ORDER BY sequence DESC LIMIT 2", [])?;
    tail.reverse();
    let gaps = walk::gaps(connection, path)?;
    match tail.as_slice() {
        [before, last] => follow(path, across(&gaps, before.link, last.link.sequence), std::slice::from_ref(last)),
        [only] => follow(path, across(&gaps, Link::BEFORE_FIRST, only.link.sequence), std::slice::from_ref(only)),
        _ => Ok(Link::BEFORE_FIRST),
    }
    .and_then(|found| is_last(connection, path, found))
}

/// Whether the log ends where the tail beside it says.
fn is_last(connection: &Connection, path: &Path, found: Link) -> Result<(), StoreError> {
    let tail = row::tail(connection, path)?;
    match tail == found {
        true => Ok(()),
        false => {
            let source = ChainBreak::Tail { found: found.sequence, last: tail.sequence };
            Err(StoreError::Chain { path: path.to_owned(), source })
        }
    }
}

fn follow(path: &Path, mut last: Link, rows: &[StoredRow]) -> Result<Link, StoreError> {
    for StoredRow { link, entry } in rows {
        last.check_next(link, entry).map_err(|source| StoreError::Chain { path: path.to_owned(), source })?;
        last = *link;
    }
    Ok(last)
}

fn select(
    connection: &Connection,
    path: &Path,
    clauses: &str,
    parameters: impl rusqlite::Params,
) -> Result<Vec<Recorded>, StoreError> {
    let rows = row::select(connection, path, clauses, parameters)?;
    Ok(rows.into_iter().map(recorded).collect())
}

fn recorded(StoredRow { link, entry }: StoredRow) -> Recorded {
    Recorded { sequence: link.sequence, entry, is_new: false }
}

impl Pool {
    fn with_connection<T>(
        &self,
        question: impl FnOnce(&Connection, &Path) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let idle = self.idle().pop();
        let connection = match idle {
            Some(connection) => connection,
            None => file::open_to_read(&self.path)?,
        };
        let answer = question(&connection, &self.path);
        self.idle().push(connection);
        answer
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        // A list of connections is whole also after a panic elsewhere.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::sqlite::append::LAST_PURGE;

    #[test]
    fn every_question_is_served_by_an_index() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(file::MIGRATIONS[0]).unwrap();
        let of_event = |clauses: &str| format!("SELECT * FROM event {clauses}");
        for (question, parameters, indexes) in [
            (of_event(OF_QUEUE_FILE), 1, vec!["event_by_queue_id"]),
            (of_event(OF_TRANSACTION), 1, vec!["event_by_pec_msgid"]),
            (of_event(OF_PERIOD), 3, vec!["event_by_time"]),
            (of_event(OF_HOLDS), 0, vec!["event_by_hold"]),
            (of_event(LAST_PURGE), 0, vec!["event_by_purge"]),
            (HAS_PERIOD.to_owned(), 2, vec!["event_by_time"]),
            (NEWEST.to_owned(), 1, vec!["event_by_time"]),
            (of_event(OF_SLOT), 1, vec!["event_by_slot"]),
            (of_event(SEALS), 0, vec!["event_by_slot"]),
            (STEP_OF_PERIOD.to_owned(), 4, vec!["event_by_time"]),
            (EARLIER_IN_PERIOD.to_owned(), 4, vec!["event_by_pec_msgid"]),
        ] {
            let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {question}")).unwrap();
            let plan: Vec<String> = statement
                .query_map(rusqlite::params_from_iter(vec!["1"; parameters]), |row| row.get("detail"))
                .unwrap()
                .map(Result::unwrap)
                .collect();
            let plan = plan.join("\n");
            // The whole of an index over a few rows is no scan of the log.
            let few = ["INDEX event_by_hold", "INDEX event_by_purge"];
            let is_scan = |line: &str| line.contains("SCAN event") && !few.iter().any(|index| line.contains(index));
            assert!(!plan.lines().any(is_scan), "{question}: {plan}");
            for index in indexes {
                assert!(plan.contains(index), "{question}: {plan}");
            }
        }
    }
}
