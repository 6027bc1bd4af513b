//! Why the store did not do its work; every variant names the file, and the remedy where there is one.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;
use rusqlite::ffi::SQLITE_ERROR;

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
        "there is no event log {}: is log.database right? The daemon makes it at its first start; put a backup back of one \
         that is lost", .path.display()
    )]
    Missing { path: PathBuf },
    #[error("{} is empty, which no log is that was ever used: put a backup back", .path.display())]
    Empty { path: PathBuf },
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
    #[error(
        "the exported rows do not follow the last row of {}: something was recorded after the copy was put back; \
         put the copy back again and restore before anything else is done with it", .path.display()
    )]
    Fork { path: PathBuf, source: ChainBreak },
    #[error("a row was not added to {}, though SQLite names no error: something in the file keeps it out; run `pec-milter log verify`", .path.display())]
    KeptOut { path: PathBuf },
    #[error("a hold was recorded in {} while rows were about to be removed: they stay until the next attempt", .path.display())]
    NewHold { path: PathBuf },
    #[error("{} is there already; choose a new name", .path.display())]
    Exists { path: PathBuf },
    #[error("the name {} is not UTF-8; choose another", .path.display())]
    NotText { path: PathBuf },
    #[error("{} is damaged: {verdict}", .path.display())]
    Damaged { path: PathBuf, verdict: String },
    #[error("SQLite could not {call} {}", .path.display())]
    Sqlite { path: PathBuf, call: &'static str, source: rusqlite::Error },
    #[error("{} is not as it was written", .path.display())]
    Chain { path: PathBuf, source: ChainBreak },
    #[error("{} is not as it was written, so nothing of this is given out; run `pec-milter log verify`", .path.display())]
    Altered { path: PathBuf, source: ChainBreak },
    #[error("rows of {} cannot be held against their seal {name}, so nothing of this is given out", .path.display())]
    Seal { path: PathBuf, name: String, source: Box<dyn Error + Send + Sync> },
    #[error("the watch in {} holds a {column} that was never written there; run `pec-milter log rebuild`", .path.display())]
    Watch { path: PathBuf, column: &'static str },
    #[error("could not start a thread to write {}", .path.display())]
    NoThread { path: PathBuf, source: io::Error },
    #[error("the thread that writes {} has ended", .path.display())]
    WriterEnded { path: PathBuf },
    #[error("a thread that reads {} has ended", .path.display())]
    ReaderEnded { path: PathBuf },
}

impl StoreError {
    /// Whether the file itself is not as SQLite writes it.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Chain { .. } | Self::Altered { .. } | Self::Foreign { .. } | Self::Empty { .. } => true,
            // A value of a form that was never written there.
            Self::Sqlite {
                source:
                    rusqlite::Error::FromSqlConversionFailure(..)
                    | rusqlite::Error::IntegralValueOutOfRange(..)
                    | rusqlite::Error::InvalidColumnType(..),
                ..
            } => true,
            Self::Sqlite { source, .. } => {
                // The questions are sound, so that SQLite cannot understand one means that a table of them is not there.
                let has_no_table = source.sqlite_error().is_some_and(|error| error.extended_code == SQLITE_ERROR);
                has_no_table
                    || matches!(source.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
            }
            _ => false,
        }
    }
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
