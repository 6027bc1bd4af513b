//! The event log in an SQLite file (§2.3): it has the legal value of the receipts, so rows are only ever added.
//!
//! `file` opens the database or refuses it, `writer` commits the batches of all callers together (`append`), `reader`
//! answers questions, `row` is the one place that knows the columns. What a row's hash covers is decided in
//! `legal_log`. Every fault reaches the caller as an error before anything is certified: nothing is reported as recorded
//! unless its COMMIT returned.

mod append;
mod error;
mod file;
mod reader;
mod row;
#[cfg(test)]
mod tests;
mod watch;
mod writer;

use std::error::Error;
use std::path::Path;

use crate::adapters::sqlite::append::Change;
use crate::adapters::sqlite::writer::Writer;
use crate::legal_log::{Entry, Recorded};
use crate::model::{PecMsgid, TemporalReference};
use crate::operations::ports::{EventLog, LogError, Watch, Watched};
use crate::transaction::Progress;

pub use error::StoreError;
pub use reader::LogReader;

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
        watch::renew(&mut connection, path)?;
        Ok(SqliteLog { reader: LogReader::open(path)?, writer: Writer::start(connection, path)? })
    }

    /// Opens the log for questions only, also while the daemon writes it.
    pub fn open_read_only(path: &Path) -> Result<LogReader, StoreError> {
        LogReader::open(path)
    }

    /// Makes the watch anew from the events; returns how many recipients are watched.
    pub fn rebuild_watch(path: &Path) -> Result<i64, StoreError> {
        watch::rebuild(&mut file::open_to_write(path, file::MIGRATIONS)?, path)
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

fn failed(call: &'static str, source: impl Error + Send + Sync + 'static) -> LogError {
    LogError { call, source: Box::new(source) }
}
