//! One transaction for the batches of many callers, and who is told what.
//!
//! The watch follows every entry in the same commit (`watch`). Each change lies in its own savepoint: one that fails takes
//! nothing of the others with it. An error that concerns the whole transaction (locked, disk full, a COMMIT that fails) is
//! every caller's error, and nothing of it stands.

use std::path::Path;
use std::sync::Arc;

use rusqlite::{Connection, TransactionBehavior};

use crate::adapters::sqlite::error::{Named, StoreError};
use crate::adapters::sqlite::row::{self, StoredRow};
use crate::adapters::sqlite::watch;
use crate::legal_log::{Entry, Link, Recorded};

/// What a caller wants written, all of it or nothing.
#[derive(Debug)]
pub(super) enum Change {
    /// Entries of the log.
    Entries(Vec<Entry>),
    /// Those of these timeout notices that are still owed.
    Notices(Vec<Entry>),
    /// That the notice in this row of the log was sent.
    Sent(i64),
}

impl Change {
    /// How much it adds to a commit.
    pub fn rows(&self) -> usize {
        match self {
            Change::Entries(entries) | Change::Notices(entries) => entries.len(),
            Change::Sent(_) => 1,
        }
    }
}

/// What stands in the log for each entry of a change; an error may be shared by all changes of a transaction.
pub(super) type Outcome = Result<Vec<Recorded>, Arc<StoreError>>;

/// Commits what it can of `changes`, and returns the outcome of each, in their order.
pub(super) fn commit(connection: &mut Connection, path: &Path, changes: Vec<Change>) -> Vec<Outcome> {
    let count = changes.len();
    try_commit(connection, path, changes).unwrap_or_else(|error| vec![Err(Arc::new(error)); count])
}

fn try_commit(connection: &mut Connection, path: &Path, changes: Vec<Change>) -> Result<Vec<Outcome>, StoreError> {
    if !connection.is_autocommit() {
        // A failing disk can make the roll-back of the last transaction fail too. Until that is done nothing begins.
        connection.execute_batch("ROLLBACK").named(path, "roll back a transaction of")?;
    }
    let mut transaction =
        connection.transaction_with_behavior(TransactionBehavior::Immediate).named(path, "begin a transaction of")?;
    let mut last = row::last_link(&transaction, path)?;
    let mut outcomes = Vec::with_capacity(changes.len());
    for change in changes {
        let savepoint = transaction.savepoint().named(path, "begin a change of")?;
        match apply(&savepoint, path, last, change) {
            Ok((recorded, link)) => {
                savepoint.commit().named(path, "end a change of")?;
                last = link;
                outcomes.push(Ok(recorded));
            }
            // SQLite rolls the whole transaction back by itself where it sees no other way (disk full, I/O error).
            Err(error) if savepoint.is_autocommit() => return Err(error),
            Err(error) => {
                savepoint.finish().named(path, "roll back a change of")?;
                outcomes.push(Err(Arc::new(error)));
            }
        }
    }
    transaction.commit().named(path, "commit to")?;
    Ok(outcomes)
}

fn apply(
    connection: &Connection,
    path: &Path,
    last: Link,
    change: Change,
) -> Result<(Vec<Recorded>, Link), StoreError> {
    match change {
        Change::Entries(entries) => append(connection, path, last, entries),
        Change::Notices(notices) => {
            let mut owed = Vec::with_capacity(notices.len());
            for notice in notices {
                if watch::still_owes(connection, path, &notice)? {
                    owed.push(notice);
                }
            }
            append(connection, path, last, owed)
        }
        Change::Sent(sequence) => watch::mark_sent(connection, path, sequence).map(|()| (Vec::new(), last)),
    }
}

fn append(
    connection: &Connection,
    path: &Path,
    mut last: Link,
    batch: Vec<Entry>,
) -> Result<(Vec<Recorded>, Link), StoreError> {
    let mut recorded = Vec::with_capacity(batch.len());
    for entry in batch {
        if let Some(StoredRow { link, entry }) = holder_of_slot(connection, path, &entry)? {
            recorded.push(Recorded { sequence: link.sequence, entry, is_new: false });
            continue;
        }
        last = last.next(&entry);
        row::insert(connection, path, &last, &entry)?;
        watch::follow(connection, path, last.sequence, &entry)?;
        recorded.push(Recorded { sequence: last.sequence, entry, is_new: true });
    }
    Ok((recorded, last))
}

fn holder_of_slot(connection: &Connection, path: &Path, entry: &Entry) -> Result<Option<StoredRow>, StoreError> {
    let Some(slot) = &entry.slot else { return Ok(None) };
    Ok(row::select(connection, path, "WHERE slot = ?1", [slot.as_str()])?.pop())
}
