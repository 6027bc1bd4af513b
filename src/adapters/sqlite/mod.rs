//! The event log in an SQLite file (§2.3): it has the legal value of the receipts, so rows are only ever added.
//!
//! `file` opens the database or refuses it, `writer` commits the batches of all callers together (`append`), `reader`
//! and `find` answer questions, `written` gives out evidence, `walk` and `restoration` are for whoever verifies it or puts a
//! copy back, `watch` and `search` are what is derived from the rows, `row` is the one place that knows the columns. What a
//! row's hash covers is decided in `legal_log`. Every fault reaches the caller as an error before anything is certified: nothing is reported as recorded
//! unless its COMMIT returned.

mod append;
mod backup;
mod error;
mod file;
mod find;
mod reader;
mod restoration;
mod row;
mod search;
#[cfg(test)]
mod tests;
mod walk;
mod watch;
mod writer;
mod written;

use std::error::Error;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use crate::adapters::sqlite::append::Change;
use crate::adapters::sqlite::writer::Writer;
use crate::legal_log::hold::Hold;
use crate::legal_log::purge::Purged;
use crate::legal_log::seal::{Seal, Stamped};
use crate::legal_log::{ChainBreak, Entry, Link, Recorded};
use crate::model::{PecMsgid, TemporalReference};
use crate::operations::ports::{EventLog, LogError, Purging, SealedLog, Watch, Watched};
use crate::operations::signed_seals::SignedSeals;
use crate::transaction::Progress;

pub use error::StoreError;
pub use find::{Found, NAMESAKES, Page, Timeline};
pub use reader::LogReader;
pub use restoration::Restoration;
pub use walk::LogWalk;

/// The event log of this host, open for writing. Dropping it writes what is queued, and blocks until that is done.
#[derive(Debug)]
pub struct SqliteLog {
    // Dropped before the writer, so that the writer closes the last connection and tidies the file up.
    reader: LogReader,
    writer: Writer,
}

impl SqliteLog {
    /// Opens the log, creating or upgrading the file, and starts the writer. Refuses a log whose last row does not
    /// verify.
    pub fn open(path: &Path) -> Result<SqliteLog, StoreError> {
        let mut connection = file::open_to_write(path, file::MIGRATIONS)?;
        reader::check_tail(&connection, path)?;
        let is_renewed = watch::renew(&mut connection, path)?;
        search::renew(&mut connection, path, is_renewed)?;
        Ok(SqliteLog { reader: LogReader::open(path)?, writer: Writer::start(connection, path)? })
    }

    /// Opens the log for questions only, also while the daemon writes it.
    pub fn open_read_only(path: &Path) -> Result<LogReader, StoreError> {
        LogReader::open(path)
    }

    /// Makes the watch and the search tables anew from the events; returns how many recipients are watched, and how many
    /// events there are.
    pub fn rebuild(path: &Path) -> Result<(i64, i64), StoreError> {
        let mut connection = file::open_to_write(path, file::MIGRATIONS)?;
        Ok((watch::rebuild(&mut connection, path)?, search::rebuild(&mut connection, path)?))
    }

    /// Copies the log, as it is in one moment, into a new file for its owner alone, while others write it; returns the last
    /// row of the copy. Blocks.
    pub fn backup(path: &Path, to: &Path) -> Result<Link, StoreError> {
        backup::backup(path, to)
    }

    /// The questions that can be asked of this log.
    pub fn reader(&self) -> &LogReader {
        &self.reader
    }

    /// Writes what is queued and closes the file, without blocking an async thread.
    pub async fn close(self) -> Result<(), StoreError> {
        let SqliteLog { reader, mut writer } = self;
        let path = writer.path().to_owned();
        drop(reader);
        let stopped = tokio::task::spawn_blocking(move || writer.stop()).await;
        stopped.unwrap_or(Err(StoreError::WriterEnded { path }))
    }
}

impl EventLog for SqliteLog {
    async fn record(&self, batch: Vec<Entry>) -> Result<Vec<Recorded>, LogError> {
        self.writer.write(Change::Entries(batch)).await.map_err(|source| failed("record entries", source))
    }

    async fn of_queue_file(&self, queue_id: &str) -> Result<Vec<Recorded>, LogError> {
        self.reader.of_queue_file(queue_id).await.map_err(|source| failed("read the entries of a queue file", source))
    }

    async fn of_transaction(&self, id: &PecMsgid) -> Result<Vec<Recorded>, LogError> {
        self.reader
            .of_transaction(id.as_str())
            .await
            .map_err(|source| failed("read the entries of a transaction", source))
    }

    async fn written(&self, id: &PecMsgid, seals: Arc<SignedSeals>) -> Result<Vec<Recorded>, LogError> {
        let answer = self.reader.written(id.as_str(), seals).await;
        answer.map_err(|source| failed("vouch for the entries of a transaction", source))
    }
}

impl SealedLog for SqliteLog {
    async fn rows_after(&self, sequence: i64) -> Result<Vec<(Link, Entry)>, LogError> {
        self.reader.rows_after(sequence).await.map_err(|source| failed("read rows to seal", source))
    }

    async fn link(&self, sequence: i64) -> Result<Option<Link>, LogError> {
        self.reader.link(sequence).await.map_err(|source| failed("read a row", source))
    }

    async fn last(&self) -> Result<Link, LogError> {
        self.reader.last_link().await.map_err(|source| failed("read the last row", source))
    }

    async fn seals(&self) -> Result<Vec<Recorded>, LogError> {
        self.reader.seals().await.map_err(|source| failed("read the seals", source))
    }
}

impl Watch for SqliteLog {
    async fn open(
        &self,
        progress: Progress,
        until: TemporalReference,
        after: Option<Watched>,
    ) -> Result<Vec<Watched>, LogError> {
        let answer = self.reader.watched(progress, until, after).await;
        answer.map_err(|source| failed("read the open watches", source))
    }

    async fn earliest(&self, progress: Progress) -> Result<Option<TemporalReference>, LogError> {
        self.reader.earliest_watch(progress).await.map_err(|source| failed("read the earliest watch", source))
    }

    async fn record_owed(&self, notices: Vec<Entry>) -> Result<Vec<Recorded>, LogError> {
        let answer = self.writer.write(Change::Notices(notices)).await;
        answer.map_err(|source| failed("record timeout notices", source))
    }

    async fn unsent(&self, after: i64) -> Result<Vec<Recorded>, LogError> {
        self.reader.unsent(after).await.map_err(|source| failed("read the notices to send", source))
    }

    async fn mark_sent(&self, sequence: i64) -> Result<(), LogError> {
        let answer = self.writer.write(Change::Sent(sequence)).await;
        answer.map(drop).map_err(|source| failed("mark a notice as sent", source))
    }

    async fn accepted(&self) {
        self.writer.accepted().await;
    }
}

impl Purging for SqliteLog {
    async fn purged(&self) -> Result<Vec<Purged>, LogError> {
        self.reader.purged().await.map_err(|source| failed("read what is gone", source))
    }

    async fn last_hold(&self) -> Result<Option<i64>, LogError> {
        self.reader.last_hold().await.map_err(|source| failed("read the last hold", source))
    }

    async fn holds(&self) -> Result<Vec<Hold>, LogError> {
        self.reader.holds().await.map_err(|source| failed("read the holds", source))
    }

    async fn sealed_as(&self, number: u64) -> Result<Option<[u8; 32]>, LogError> {
        self.reader.sealed_as(number).await.map_err(|source| failed("read the entry of a seal", source))
    }

    async fn any_sealed(
        &self,
        seal: Seal,
        is_of_interest: impl Fn(&Recorded) -> bool + Send + 'static,
    ) -> Result<Result<bool, ChainBreak>, LogError> {
        match self.reader.any_sealed(seal, is_of_interest).await {
            Ok(found) => Ok(Ok(found)),
            Err(StoreError::Chain { source, .. }) => Ok(Err(source)),
            Err(source) => Err(failed("go through the rows of a seal", source)),
        }
    }

    async fn stamped_as(&self, number: u64) -> Result<Option<[u8; 32]>, LogError> {
        self.reader.stamped_as(number).await.map_err(|source| failed("read the entry of a stamp", source))
    }

    async fn last_stamp(&self) -> Result<Option<TemporalReference>, LogError> {
        let rows = self.reader.seals().await.map_err(|source| failed("read the stamps", source))?;
        Ok(rows.iter().filter_map(|one| Stamped::of(&one.entry)).map(|stamped| stamped.at).max())
    }

    async fn newest_until(&self, until: TemporalReference) -> Result<Option<TemporalReference>, LogError> {
        self.reader.newest_until(until).await.map_err(|source| failed("read the newest row", source))
    }

    async fn has_any(&self, period: Range<TemporalReference>) -> Result<bool, LogError> {
        self.reader.has_any(period).await.map_err(|source| failed("look for rows of a day", source))
    }

    /// Other writers wait for as long as it takes.
    async fn purge(&self, seal: Seal, at: TemporalReference, last_hold: Option<i64>) -> Result<(), LogError> {
        let answer = self.writer.write(Change::Purge { seal: Box::new(seal), at, last_hold }).await;
        answer.map(drop).map_err(|source| failed("remove rows after their retention", source))
    }
}

fn failed(call: &'static str, source: impl Error + Send + Sync + 'static) -> LogError {
    LogError { call, source: Box::new(source) }
}
