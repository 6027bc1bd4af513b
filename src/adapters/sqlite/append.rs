//! One transaction for the batches of many callers, and who is told what.
//!
//! Each batch lies in its own savepoint: one that fails takes nothing of the others with it. An error that concerns the
//! whole transaction (locked, disk full, a COMMIT that fails) is every caller's error, and nothing of it stands.

use std::path::Path;
use std::sync::Arc;

use rusqlite::{Connection, TransactionBehavior};

use crate::adapters::sqlite::error::{Named, StoreError};
use crate::adapters::sqlite::row::{self, StoredRow};
use crate::legal_log::{Entry, Link, Recorded};

/// What stands in the log for each entry of a batch; an error may be shared by all batches of a transaction.
pub(super) type Outcome = Result<Vec<Recorded>, Arc<StoreError>>;

/// Commits what it can of `batches`, and returns the outcome of each, in their order.
pub(super) fn commit(connection: &mut Connection, path: &Path, batches: Vec<Vec<Entry>>) -> Vec<Outcome> {
    let count = batches.len();
    try_commit(connection, path, batches).unwrap_or_else(|error| vec![Err(Arc::new(error)); count])
}

fn try_commit(connection: &mut Connection, path: &Path, batches: Vec<Vec<Entry>>) -> Result<Vec<Outcome>, StoreError> {
    if !connection.is_autocommit() {
        // A failing disk can make the roll-back of the last transaction fail too. Until that is done nothing begins.
        connection.execute_batch("ROLLBACK").named(path, "roll back a transaction of")?;
    }
    let mut transaction =
        connection.transaction_with_behavior(TransactionBehavior::Immediate).named(path, "begin a transaction of")?;
    let mut last = row::last_link(&transaction, path)?;
    let mut outcomes = Vec::with_capacity(batches.len());
    for batch in batches {
        let savepoint = transaction.savepoint().named(path, "begin a batch of")?;
        match append(&savepoint, path, last, batch) {
            Ok((recorded, link)) => {
                savepoint.commit().named(path, "end a batch of")?;
                last = link;
                outcomes.push(Ok(recorded));
            }
            // SQLite rolls the whole transaction back by itself where it sees no other way (disk full, I/O error).
            Err(error) if savepoint.is_autocommit() => return Err(error),
            Err(error) => {
                savepoint.finish().named(path, "roll back a batch of")?;
                outcomes.push(Err(Arc::new(error)));
            }
        }
    }
    transaction.commit().named(path, "commit to")?;
    Ok(outcomes)
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
        recorded.push(Recorded { sequence: last.sequence, entry, is_new: true });
    }
    Ok((recorded, last))
}

fn holder_of_slot(connection: &Connection, path: &Path, entry: &Entry) -> Result<Option<StoredRow>, StoreError> {
    let Some(slot) = &entry.slot else { return Ok(None) };
    Ok(row::select(connection, path, "WHERE slot = ?1", [slot.as_str()])?.pop())
}
