//! A copy of the log that was put back, as rows come back to it that were sealed after it was taken (§2.3).
//!
//! They get the links they had, so only a log to which nothing was added meanwhile takes them. What follows the rows follows
//! them here, too; rows that they tell as purged go again.

use std::path::{Path, PathBuf};

use rusqlite::Connection;

use crate::adapters::sqlite::error::{Named, StoreError};
use crate::adapters::sqlite::{append, file, reader, row, search, watch};
use crate::legal_log::{Entry, Link};
use crate::model::TemporalReference;
use crate::operations::ports::{OutsideFault, RestoredLog, Watched};
use crate::transaction::Progress;

/// The one connection that writes; a daemon that runs meanwhile waits for each of its commits.
#[derive(Debug)]
pub struct Restoration {
    connection: Connection,
    path: PathBuf,
}

impl Restoration {
    /// Refuses what [`super::SqliteLog::open`] refuses, and a file that is not there. A copy of an earlier version of this
    /// program gets the schema of this one.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        file::refuse_missing(path)?;
        let mut connection = file::open_to_write(path, file::MIGRATIONS)?;
        reader::check_tail(&connection, path)?;
        let is_renewed = watch::renew(&mut connection, path)?;
        search::renew(&mut connection, path, is_renewed)?;
        Ok(Restoration { connection, path: path.to_owned() })
    }

    /// The recipients that are waited for, in order of their acceptances for each progress. What ended some of them may be
    /// among the rows that are lost.
    pub fn watched(&self) -> Result<Vec<Watched>, StoreError> {
        let (mut all, until) = (Vec::new(), TemporalReference::from_unix(i64::MAX));
        for progress in Progress::OPEN {
            let mut after: Option<Watched> = None;
            loop {
                let page = watch::watched(&self.connection, &self.path, progress, until, after.as_ref())?;
                let Some(last) = page.last() else { break };
                after = Some(last.clone());
                all.extend(page);
            }
        }
        Ok(all)
    }
}

impl RestoredLog for Restoration {
    fn last(&self) -> Result<Link, OutsideFault> {
        Ok(row::last_link(&self.connection, &self.path)?)
    }

    fn link(&self, sequence: i64) -> Result<Option<Link>, OutsideFault> {
        Ok(row::link(&self.connection, &self.path, sequence)?)
    }

    fn begin(&mut self) -> Result<(), OutsideFault> {
        Ok(self.connection.execute_batch("BEGIN IMMEDIATE").named(&self.path, "begin a transaction of")?)
    }

    fn append(&mut self, rows: &[(Link, Entry)]) -> Result<(), OutsideFault> {
        Ok(append::restore(&self.connection, &self.path, rows)?)
    }

    fn commit(&mut self) -> Result<(), OutsideFault> {
        Ok(self.connection.execute_batch("COMMIT").named(&self.path, "commit to")?)
    }
}
