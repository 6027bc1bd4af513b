//! The one thread that writes: it commits together what all callers asked for while the last commit went to disk.
//!
//! Nobody is answered before the COMMIT of his rows returned. A caller that goes away changes nothing: its rows are
//! written, and found by their slots when it comes again. After a failed commit the writer goes on with the next.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use rusqlite::Connection;
use tokio::sync::{Notify, mpsc, oneshot};

use crate::adapters::sqlite::append::{self, Change, Outcome};
use crate::adapters::sqlite::error::{Named, StoreError};
use crate::legal_log::{EventKind, Recorded};

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
    accepted: Arc<Notify>,
}

#[derive(Debug)]
struct Batch {
    change: Change,
    answer: oneshot::Sender<Outcome>,
}

impl Writer {
    pub fn start(connection: Connection, path: &Path) -> Result<Writer, StoreError> {
        let (queue, batches) = mpsc::channel(WAITING_BATCHES);
        let path = path.to_owned();
        let accepted = Arc::new(Notify::new());
        let thread = thread::Builder::new().name("event-log".to_owned()).spawn({
            let (path, accepted) = (path.clone(), accepted.clone());
            move || run(connection, &path, batches, &accepted)
        });
        match thread {
            Ok(thread) => Ok(Writer { path, queue: Some(queue), thread: Some(thread), accepted }),
            Err(source) => Err(StoreError::NoThread { path, source }),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Waits until the change is durable.
    pub async fn write(&self, change: Change) -> Outcome {
        let ended = || Arc::new(StoreError::WriterEnded { path: self.path.clone() });
        let (answer, outcome) = oneshot::channel();
        let queue = self.queue.as_ref().ok_or_else(ended)?;
        queue.send(Batch { change, answer }).await.map_err(|_| ended())?;
        outcome.await.map_err(|_| ended())?
    }

    /// Returns when a new acceptance was written since the last call returned.
    pub async fn accepted(&self) {
        self.accepted.notified().await;
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

fn run(
    mut connection: Connection,
    path: &Path,
    mut queue: mpsc::Receiver<Batch>,
    accepted: &Notify,
) -> Result<(), StoreError> {
    while let Some(first) = queue.blocking_recv() {
        let (changes, callers): (Vec<_>, Vec<_>) =
            group(first, &mut queue).into_iter().map(|batch| (batch.change, batch.answer)).unzip();
        let outcomes = append::commit(&mut connection, path, changes);
        if outcomes.iter().any(holds_acceptance) {
            accepted.notify_one();
        }
        for (caller, outcome) in callers.into_iter().zip(outcomes) {
            // Gives the outcome back when the caller is gone; nobody else needs it.
            drop(caller.send(outcome));
        }
    }
    connection.close().map_err(|(_, error)| error).named(path, "close")
}

fn holds_acceptance(outcome: &Outcome) -> bool {
    let is_acceptance = |one: &Recorded| one.is_new && one.entry.kind == EventKind::Acceptance;
    outcome.as_ref().is_ok_and(|recorded| recorded.iter().any(is_acceptance))
}

/// The first batch and what waits behind it, up to the limit of rows.
fn group(first: Batch, queue: &mut mpsc::Receiver<Batch>) -> Vec<Batch> {
    let mut rows = first.change.rows();
    let mut group = vec![first];
    while rows < ROWS_PER_COMMIT {
        let Ok(next) = queue.try_recv() else { break };
        rows += next.change.rows();
        group.push(next);
    }
    group
}
