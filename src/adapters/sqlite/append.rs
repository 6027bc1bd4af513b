//! One transaction for the batches of many callers, and who is told what.
//!
//! The watch and the search tables follow every entry in the same commit (`watch`, `search`). Each change lies in its own
//! savepoint: one that fails takes nothing of the others with it. An error that concerns the whole transaction (locked, disk full, a COMMIT that fails) is
//! every caller's error, and nothing of it stands.

use std::path::Path;
use std::sync::Arc;

use rusqlite::{Connection, TransactionBehavior};

use crate::adapters::sqlite::error::{Named, StoreError};
use crate::adapters::sqlite::row::{self, StoredRow};
use crate::adapters::sqlite::{search, watch};
use crate::legal_log::purge::{self, Purged};
use crate::legal_log::seal::Seal;
use crate::legal_log::{ChainBreak, Entry, EventKind, Link, Recorded};
use crate::model::TemporalReference;
use crate::transaction::forestalls;

/// What a caller wants written, all of it or nothing.
#[derive(Debug)]
pub(super) enum Change {
    /// Entries of the log.
    Entries(Vec<Entry>),
    /// Those of these timeout notices that are still owed.
    Notices(Vec<Entry>),
    /// That the notice in this row of the log was sent.
    Sent(i64),
    /// That the rows of a sealed range go, in this instant, unless there is a hold after the last that was considered.
    Purge { seal: Box<Seal>, at: TemporalReference, last_hold: Option<i64> },
}

impl Change {
    /// How much it adds to a commit.
    pub fn rows(&self) -> usize {
        match self {
            Change::Entries(entries) | Change::Notices(entries) => entries.len(),
            Change::Sent(_) | Change::Purge { .. } => 1,
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
        Change::Purge { seal, at, last_hold } => {
            refuse_new_hold(connection, path, last_hold)?;
            purge(connection, path, last, &seal, at)
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
        if let Some(StoredRow { link, entry }) = in_its_place(connection, path, &entry)? {
            recorded.push(Recorded { sequence: link.sequence, entry, is_new: false });
            continue;
        }
        last = last.next(&entry);
        insert(connection, path, &last, &entry)?;
        recorded.push(Recorded { sequence: last.sequence, entry, is_new: true });
    }
    Ok((recorded, last))
}

/// Adds rows under the links that they had when they were first recorded.
pub(super) fn restore(connection: &Connection, path: &Path, rows: &[(Link, Entry)]) -> Result<(), StoreError> {
    let mut last = row::last_link(connection, path)?;
    for (link, entry) in rows {
        last.check_next(link, entry).map_err(|source| StoreError::Fork { path: path.to_owned(), source })?;
        insert(connection, path, link, entry)?;
        if let Some(range) = purge::removed(entry) {
            remove(connection, path, range)?;
        }
        last = *link;
    }
    Ok(())
}

fn insert(connection: &Connection, path: &Path, link: &Link, entry: &Entry) -> Result<(), StoreError> {
    row::insert(connection, path, link, entry)?;
    watch::follow(connection, path, link.sequence, entry)?;
    search::follow(connection, path, link.sequence, entry)
}

/// Records that the rows of a range go, and removes them: both or neither.
fn purge(
    connection: &Connection,
    path: &Path,
    last: Link,
    seal: &Seal,
    at: TemporalReference,
) -> Result<(Vec<Recorded>, Link), StoreError> {
    let before = purged(connection, path)?;
    let (recorded, last) = append(connection, path, last, vec![purge::entry(seal, &before, at)])?;
    if recorded.iter().all(|one| one.is_new) {
        remove(connection, path, (seal.first(), seal.last.sequence))?;
    }
    Ok((recorded, last))
}

/// Removes rows that the last purge names; the database refuses any other.
fn remove(connection: &Connection, path: &Path, range: (i64, i64)) -> Result<(), StoreError> {
    const CALL: &str = "remove rows of";
    // A notice that never could be sent will not be sent after its row is gone.
    connection.execute("DELETE FROM notice_to_send WHERE sequence BETWEEN ?1 AND ?2", range).named(path, CALL)?;
    connection.execute("DELETE FROM event WHERE sequence BETWEEN ?1 AND ?2", range).named(path, CALL)?;
    Ok(())
}

/// A hold that was recorded while the rows were gone through was promised to keep them.
fn refuse_new_hold(connection: &Connection, path: &Path, considered: Option<i64>) -> Result<(), StoreError> {
    match last_hold(connection, path)? > considered {
        true => Err(StoreError::NewHold { path: path.to_owned() }),
        false => Ok(()),
    }
}

/// The row of the last hold or release that was ever recorded.
pub(super) fn last_hold(connection: &Connection, path: &Path) -> Result<Option<i64>, StoreError> {
    connection
        .prepare_cached(LAST_HOLD)
        .and_then(|mut statement| statement.query_row([], |row| row.get(0)))
        .named(path, "read the holds of")
}

const LAST_HOLD: &str = "SELECT max(sequence) FROM event WHERE kind IN ('hold', 'release')";

/// All ranges of rows that are gone.
pub(super) fn purged(connection: &Connection, path: &Path) -> Result<Vec<Purged>, StoreError> {
    let last = row::select(connection, path, LAST_PURGE, [])?.pop();
    let Some(StoredRow { link, entry }) = last else { return Ok(Vec::new()) };
    let unreadable = ChainBreak::Unreadable { sequence: link.sequence, column: "details" };
    purge::purged(&entry).ok_or(StoreError::Chain { path: path.to_owned(), source: unreadable })
}

pub(super) const LAST_PURGE: &str = "WHERE kind = 'purge' ORDER BY sequence DESC LIMIT 1";

/// What stands in the log where this entry would: the one that has its slot, or, of a failure of our own making, what another
/// provider told of the recipient meanwhile.
fn in_its_place(connection: &Connection, path: &Path, entry: &Entry) -> Result<Option<StoredRow>, StoreError> {
    let Some(slot) = &entry.slot else { return Ok(None) };
    if let Some(holder) = row::select(connection, path, "WHERE slot = ?1", [slot.as_str()])?.pop() {
        return Ok(Some(holder));
    }
    let (EventKind::NonDelivery | EventKind::VirusNonDelivery, Some(id), Some(recipient)) =
        (entry.kind, &entry.pec_msgid, &entry.recipient)
    else {
        return Ok(None);
    };
    const HEARD: &str = "WHERE pec_msgid = ?1 AND kind = ?2 AND recipient = ?3 COLLATE NOCASE ORDER BY sequence";
    let heard = [id.as_str(), EventKind::NotificationReceived.name(), recipient];
    let rows = row::select(connection, path, HEARD, heard)?;
    Ok(rows.into_iter().find(|row| forestalls(&row.entry, entry)))
}
