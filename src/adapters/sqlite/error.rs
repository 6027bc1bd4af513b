//! Why the store did not do its work; every variant names the file, and the remedy where there is one.

use std::io;
use std::path::{Path, PathBuf};

use crate::legal_log::ChainBreak;

/// A fault of the event log's store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("could not {call} {}", .path.display())]
    File { path: PathBuf, call: &'static str, source: io::Error },
    #[error("{0} can be read or written by group or others (mode {mode:04o}); run `chmod 600 {0}`", .path.display())]
    Permissions { path: PathBuf, mode: u32 },
    #[error("{} is not an event log of pec-milter; configure another file, or move this one away", .path.display())]
    Foreign { path: PathBuf },
    #[error(
        "{} has schema version {found}, this program knows versions up to {known}; install the newer pec-milter that wrote it",
        .path.display()
    )]
    Newer { path: PathBuf, found: i64, known: i64 },
    #[error(
        "{} has schema version {found}, this program reads version {known}; start the daemon once, it upgrades the file",
        .path.display()
    )]
    Older { path: PathBuf, found: i64, known: i64 },
    #[error("{} lies on a file system without shared memory (journal mode {mode}); put it on a local disk", .path.display())]
    NoWriteAheadLog { path: PathBuf, mode: String },
    #[error("SQLite could not {call} {}", .path.display())]
    Sqlite { path: PathBuf, call: &'static str, source: rusqlite::Error },
    #[error("{} is not as it was written", .path.display())]
    Chain { path: PathBuf, source: ChainBreak },
    #[error("the watch in {} holds a {column} that was never written there; run `pec-milter log rebuild`", .path.display())]
    Watch { path: PathBuf, column: &'static str },
    #[error("could not start a thread to write {}", .path.display())]
    NoThread { path: PathBuf, source: io::Error },
    #[error("the thread that writes {} has ended", .path.display())]
    WriterEnded { path: PathBuf },
    #[error("a thread that reads {} has ended", .path.display())]
    ReaderEnded { path: PathBuf },
}

/// Names the file and the call that a library's error belongs to.
pub(super) trait Named<T> {
    fn named(self, path: &Path, call: &'static str) -> Result<T, StoreError>;
}

impl<T> Named<T> for rusqlite::Result<T> {
    fn named(self, path: &Path, call: &'static str) -> Result<T, StoreError> {
        self.map_err(|source| StoreError::Sqlite { path: path.to_owned(), call, source })
    }
}

impl<T> Named<T> for io::Result<T> {
    fn named(self, path: &Path, call: &'static str) -> Result<T, StoreError> {
        self.map_err(|source| StoreError::File { path: path.to_owned(), call, source })
    }
}
