//! The questions that the daemon and an operator ask of the log; none of them can write.
//!
//! Each is served by an index (tested), on a blocking thread, over a few connections of its own: readers never wait for
//! the writer, nor it for them. A row that cannot have been written by the daemon is an error, not an answer.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;
use tokio::sync::Semaphore;

use crate::adapters::sqlite::error::{Named, StoreError};
use crate::adapters::sqlite::file;
use crate::adapters::sqlite::row::{self, StoredRow};
use crate::adapters::sqlite::watch;
use crate::legal_log::{Link, Recorded};
use crate::model::{PecMsgid, TemporalReference};
use crate::operations::ports::Watched;
use crate::transaction::Progress;

/// Reads at a time: enough that a long one does not hold up the others, few enough to leave the disk to the writer.
const CONNECTIONS: usize = 4;

/// Rows per step of a walk through the whole log. Between steps no snapshot is held, so the write-ahead log can shrink.
const ROWS_PER_STEP: i64 = 1000;

const OF_QUEUE_FILE: &str = "WHERE queue_id = ?1 ORDER BY sequence";
const OF_TRANSACTION: &str = "WHERE pec_msgid = ?1 ORDER BY sequence";
const OF_MSGID: &str = "WHERE pec_msgid IN (SELECT ?1 UNION SELECT pec_msgid FROM event WHERE client_msgid = ?2)
                        OR client_msgid = ?2 ORDER BY sequence";
const OF_SENDER: &str = "WHERE sender = ?1 COLLATE NOCASE AND at >= ?2 AND at < ?3 ORDER BY at, sequence LIMIT ?4";
const OF_RECIPIENT: &str =
    "WHERE recipient = ?1 COLLATE NOCASE AND at >= ?2 AND at < ?3 ORDER BY at, sequence LIMIT ?4";
const STEP_OF_PERIOD: &str = "SELECT at, sequence, pec_msgid FROM event WHERE (at, sequence) > (?1, ?2) AND at < ?3 ORDER BY at, sequence LIMIT ?4";
const EARLIER_IN_PERIOD: &str = "SELECT EXISTS (SELECT 1 FROM event
    WHERE pec_msgid = ?1 AND at >= ?2 AND (at, sequence) < (?3, ?4))";
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

    /// All entries of the transactions that a message identifier names, be it the provider's or the client's, typed
    /// with or without angle brackets; in order of recording.
    pub async fn of_msgid(&self, msgid: &str) -> Result<Vec<Recorded>, StoreError> {
        let bare = msgid.trim().trim_start_matches('<').trim_end_matches('>').to_owned();
        let bracketed = format!("<{bare}>");
        self.read(move |connection, path| select(connection, path, OF_MSGID, [bare, bracketed])).await
    }

    /// The first `limit` entries with this reverse path (in any case) from an instant on, and before another.
    pub async fn of_sender(
        &self,
        sender: &str,
        period: Range<TemporalReference>,
        limit: u32,
    ) -> Result<Vec<Recorded>, StoreError> {
        let key = (sender.to_owned(), period.start.unix(), period.end.unix(), limit);
        self.read(move |connection, path| select(connection, path, OF_SENDER, key)).await
    }

    /// The first `limit` entries about this recipient (in any case) from an instant on, and before another.
    pub async fn of_recipient(
        &self,
        recipient: &str,
        period: Range<TemporalReference>,
        limit: u32,
    ) -> Result<Vec<Recorded>, StoreError> {
        let key = (recipient.to_owned(), period.start.unix(), period.end.unix(), limit);
        self.read(move |connection, path| select(connection, path, OF_RECIPIENT, key)).await
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

    /// Walks through all rows; returns the link of the last one, or `StoreError::Chain` with the first that does not
    /// fit.
    pub async fn verify_chain(&self) -> Result<Link, StoreError> {
        self.read(|connection, path| {
            let mut last = Link::BEFORE_FIRST;
            // Also a row put in below the first number must come to light.
            let mut after = i64::MIN;
            loop {
                let clauses = "WHERE sequence > ?1 ORDER BY sequence LIMIT ?2";
                let rows = row::select(connection, path, clauses, [after, ROWS_PER_STEP])?;
                if rows.is_empty() {
                    return Ok(last);
                }
                last = follow(path, last, &rows)?;
                after = last.sequence;
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

    async fn read<T, F>(&self, question: F) -> Result<T, StoreError>
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

/// Whether the last row fits the one before it: what can be asked at every start.
pub(super) fn check_tail(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let mut tail = row::select(connection, path, "ORDER BY sequence DESC LIMIT 2", [])?;
    tail.reverse();
    match tail.as_slice() {
        [before, last] => follow(path, before.link, std::slice::from_ref(last)),
        rows => follow(path, Link::BEFORE_FIRST, rows),
    }?;
    Ok(())
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
    Ok(rows
        .into_iter()
        .map(|StoredRow { link, entry }| Recorded { sequence: link.sequence, entry, is_new: false })
        .collect())
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

    #[test]
    fn every_question_is_served_by_an_index() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(file::MIGRATIONS[0]).unwrap();
        let of_event = |clauses: &str| format!("SELECT * FROM event {clauses}");
        for (question, parameters, indexes) in [
            (of_event(OF_QUEUE_FILE), 1, vec!["event_by_queue_id"]),
            (of_event(OF_TRANSACTION), 1, vec!["event_by_pec_msgid"]),
            (of_event(OF_MSGID), 2, vec!["event_by_pec_msgid", "event_by_client_msgid"]),
            (of_event(OF_SENDER), 4, vec!["event_by_sender"]),
            (of_event(OF_RECIPIENT), 4, vec!["event_by_recipient"]),
            (of_event(OF_PERIOD), 3, vec!["event_by_time"]),
            (of_event("WHERE slot = ?1"), 1, vec!["event_by_slot"]),
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
            assert!(!plan.contains("SCAN event"), "{question}: {plan}");
            for index in indexes {
                assert!(plan.contains(index), "{question}: {plan}");
            }
        }
    }
}
