//! The one thread that writes: it commits together what all callers asked for while the last commit went to disk.
//!
//! Nobody is answered before the COMMIT of his rows returned. A caller that goes away changes nothing: its rows are
//! written, and found by their slots when it comes again. After a failed commit the writer goes on with the next.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use crate::adapters::sqlite::append::{self, Outcome};
use crate::adapters::sqlite::error::{Named, StoreError};
use crate::legal_log::Entry;

/// The rows after which no further batch joins a commit: bounds how long the first caller waits for the others, and how
/// much one failing commit takes back. From about a hundred on, the disk's sync no longer counts.
const ROWS_PER_COMMIT: usize = 1000;

/// The batches that may wait for the writer; further callers wait before they are queued, so memory is bounded.
const WAITING_BATCHES: usize = 1024;

/// A handle to the writer thread. Dropping it writes what is queued and waits for the thread.
#[derive(Debug)]
pub(super) struct Writer {
    path: PathBuf,
    queue: Option<mpsc::Sender<Batch>>,
    thread: Option<JoinHandle<Result<(), StoreError>>>,
}

#[derive(Debug)]
struct Batch {
    entries: Vec<Entry>,
    answer: oneshot::Sender<Outcome>,
}

impl Writer {
    pub fn start(connection: Connection, path: &Path) -> Result<Writer, StoreError> {
        let (queue, batches) = mpsc::channel(WAITING_BATCHES);
        let path = path.to_owned();
        let thread = thread::Builder::new().name("event-log".to_owned()).spawn({
            let path = path.clone();
            move || run(connection, &path, batches)
        });
        match thread {
            Ok(thread) => Ok(Writer { path, queue: Some(queue), thread: Some(thread) }),
            Err(source) => Err(StoreError::NoThread { path, source }),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Waits until the batch is durable.
    pub async fn record(&self, entries: Vec<Entry>) -> Outcome {
        let ended = || Arc::new(StoreError::WriterEnded { path: self.path.clone() });
        let (answer, outcome) = oneshot::channel();
        let queue = self.queue.as_ref().ok_or_else(ended)?;
        queue.send(Batch { entries, answer }).await.map_err(|_| ended())?;
        outcome.await.map_err(|_| ended())?
    }

    /// Writes what is queued, ends the thread and closes the file. Blocks.
    pub fn stop(&mut self) -> Result<(), StoreError> {
        self.queue = None;
        let Some(thread) = self.thread.take() else { return Ok(()) };
        thread.join().unwrap_or_else(|_| Err(StoreError::WriterEnded { path: self.path.clone() }))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            tracing::error!(error = &error as &dyn std::error::Error, "event log not closed cleanly");
        }
    }
}

fn run(mut connection: Connection, path: &Path, mut queue: mpsc::Receiver<Batch>) -> Result<(), StoreError> {
    while let Some(first) = queue.blocking_recv() {
        let (batches, callers): (Vec<_>, Vec<_>) =
            group(first, &mut queue).into_iter().map(|batch| (batch.entries, batch.answer)).unzip();
        for (caller, outcome) in callers.into_iter().zip(append::commit(&mut connection, path, batches)) {
            // Gives the outcome back when the caller is gone; nobody else needs it.
            drop(caller.send(outcome));
        }
    }
    connection.close().map_err(|(_, error)| error).named(path, "close")
}

/// The first batch and what waits behind it, up to the limit of rows.
fn group(first: Batch, queue: &mut mpsc::Receiver<Batch>) -> Vec<Batch> {
    let mut rows = first.entries.len();
    let mut group = vec![first];
    while rows < ROWS_PER_COMMIT {
        let Ok(next) = queue.try_recv() else { break };
        rows += next.entries.len();
        group.push(next);
    }
    group
}
