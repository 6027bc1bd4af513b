//! What the search needs beside the events: followed in the commit of each event, asked by `find`.
//!
//! Every event lies under its sender, its provider and each recipient that it names, with a number for what it tells.
//! What that is, and whom it names, is decided in `legal_log`. An acceptance lies under `open` as well, as long as the
//! watch waits for news of a recipient. All of it can be made anew from the events and the watch.

mod check;

use std::path::Path;

use rusqlite::{Connection, OptionalExtension, Params, TransactionBehavior, params};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::adapters::sqlite::error::{Named, StoreError};
use crate::adapters::sqlite::row::{self, StoredRow};
use crate::legal_log::details::concerned;
use crate::legal_log::{Entry, EventKind, Outcome, Query, Slot};
use crate::model::PecMsgid;
use crate::transaction::told;

pub(super) use check::differing;

/// Counted up when the rows of the same events would be others: every start with a new form makes them anew.
const FORM: i64 = 1;

/// Events per step of making them anew.
const STEP: i64 = 1000;

const CALL: &str = "change the search tables in";
const CALL_CHECK: &str = "compare the search tables with the rows of";

/// The number of what is not there.
pub(super) const NONE: i64 = 0;

const OF_SLOT: &str = "WHERE slot = ?1";
const LATER_OF_TRANSACTION: &str = "WHERE pec_msgid = ?1 AND sequence > ?2 ORDER BY sequence";
const WATCHED: &str = "SELECT recipient FROM watch WHERE pec_msgid = ?1";

const KNOWN: &str = "SELECT EXISTS (SELECT 1 FROM search_by_msgid CROSS JOIN event USING (sequence)
    WHERE search_by_msgid.hash = ?1 AND transaction_hash = ?2 AND pec_msgid = ?3)";

const FORGET_ADDRESS: &str = "DELETE FROM search_address WHERE id = ?1
    AND NOT EXISTS (SELECT 1 FROM search_by_sender WHERE sender = ?1)
    AND NOT EXISTS (SELECT 1 FROM search_by_pair WHERE recipient = ?1)";

/// Where an event lies: all but the recipient.
#[derive(Debug, Clone, Copy)]
struct Keys {
    sender: i64,
    provider: i64,
    class: i64,
    at: i64,
    sequence: i64,
}

/// Keeps the tables in step with an entry that was just added, and that the watch follows already.
pub(super) fn follow(connection: &Connection, path: &Path, sequence: i64, entry: &Entry) -> Result<(), StoreError> {
    add(connection, path, sequence, entry)?;
    if entry.kind == EventKind::Purge {
        return forget(connection, path, entry);
    }
    let Some(id) = &entry.pec_msgid else { return Ok(()) };
    if entry.kind == EventKind::Acceptance {
        return open(connection, path, id, sequence, entry);
    }
    for (recipient, progress) in told(entry) {
        if !progress.is_open() {
            close(connection, path, id, &recipient.key())?;
        }
    }
    Ok(())
}

/// Makes the rows anew if they are of another form than this program's, or if the watch was made anew.
pub(super) fn renew(connection: &mut Connection, path: &Path, is_watch_new: bool) -> Result<(), StoreError> {
    let form: Option<i64> = connection
        .query_row("SELECT form FROM projection WHERE name = 'search'", [], |row| row.get(0))
        .optional()
        .named(path, "read the form of the search tables in")?;
    if form == Some(FORM) && !is_watch_new { Ok(()) } else { rebuild(connection, path).map(drop) }
}

/// Makes the rows anew from the events and the watch, in one transaction; returns how many events there are.
pub(super) fn rebuild(connection: &mut Connection, path: &Path) -> Result<i64, StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).named(path, CALL)?;
    transaction
        .execute_batch(
            "DELETE FROM search_by_pair; DELETE FROM search_by_sender; DELETE FROM search_by_msgid;
             DELETE FROM search_class; DELETE FROM search_provider; DELETE FROM search_address",
        )
        .named(path, CALL)?;
    let (mut after, mut count) = (0, 0);
    loop {
        let rows = row::select(&transaction, path, "WHERE sequence > ?1 ORDER BY sequence LIMIT ?2", [after, STEP])?;
        let Some(last) = rows.last() else { break };
        after = last.link.sequence;
        for StoredRow { link, entry } in &rows {
            add(&transaction, path, link.sequence, entry)?;
            if let (EventKind::Acceptance, Some(id)) = (entry.kind, &entry.pec_msgid) {
                open(&transaction, path, id, link.sequence, entry)?;
            }
            count += 1;
        }
    }
    execute(&transaction, path, "INSERT OR REPLACE INTO projection (name, form) VALUES ('search', ?1)", [FORM])?;
    transaction.commit().named(path, CALL)?;
    Ok(count)
}

/// Under what a Message-ID lies.
pub(super) fn hash(msgid: &str) -> i64 {
    let digest: [u8; 32] = Sha256::digest(Query::bare(msgid)).into();
    digest.first_chunk().map_or(0, |first| i64::from_be_bytes(*first))
}

fn add(connection: &Connection, path: &Path, sequence: i64, entry: &Entry) -> Result<(), StoreError> {
    let keys = keys(connection, path, sequence, entry, Outcome::told_by(entry))?;
    insert_sender(connection, path, keys)?;
    for recipient in concerned(entry, arrival_of(connection, path, entry)?.as_ref()) {
        insert_pair(connection, path, number_of_address(connection, path, &recipient)?, keys)?;
    }
    for msgid in other_msgids(entry) {
        let hash = hash(msgid);
        if !is_known(connection, path, hash, entry.pec_msgid.as_ref())? {
            insert_msgid(connection, path, [hash, hash_of_transaction(entry), sequence])?;
        }
    }
    Ok(())
}

/// The rows that a purge is about to remove.
#[derive(Deserialize)]
struct Purged {
    first: i64,
    last: i64,
}

/// Takes out what a purge removes: its entry comes first, while the rows are still there.
fn forget(connection: &Connection, path: &Path, purge: &Entry) -> Result<(), StoreError> {
    let purged = purge.details.as_deref().and_then(|details| serde_json::from_str(details).ok());
    let Some(Purged { first, last }) = purged else { return Ok(()) };
    let mut from = first;
    loop {
        let clauses = "WHERE sequence BETWEEN ?1 AND ?2 ORDER BY sequence LIMIT ?3";
        let rows = row::select(connection, path, clauses, [from, last, STEP])?;
        let Some(end) = rows.last() else { return Ok(()) };
        from = end.link.sequence.saturating_add(1);
        for row in &rows {
            remove(connection, path, row, last)?;
        }
    }
}

/// Takes out a row that goes, with others up to `last`.
fn remove(connection: &Connection, path: &Path, row: &StoredRow, last: i64) -> Result<(), StoreError> {
    let StoredRow { link, entry } = row;
    let keys = keys(connection, path, link.sequence, entry, Outcome::told_by(entry))?;
    let mut addresses = vec![keys.sender];
    for recipient in concerned(entry, arrival_of(connection, path, entry)?.as_ref()) {
        let recipient = number_of_address(connection, path, &recipient)?;
        remove_pair(connection, path, recipient, keys)?;
        addresses.push(recipient);
    }
    remove_sender(connection, path, keys)?;
    remove_pairs_of_acceptance(connection, path, entry)?;
    remove_open(connection, path, link.sequence, entry)?;
    for address in addresses {
        // Of whom nothing is left in the log, nothing is left here.
        execute(connection, path, FORGET_ADDRESS, [address])?;
    }
    for msgid in other_msgids(entry) {
        let remove = "DELETE FROM search_by_msgid WHERE hash = ?1 AND transaction_hash = ?2 AND sequence = ?3";
        let keys = [hash(msgid), hash_of_transaction(entry), link.sequence];
        if execute(connection, path, remove, keys)? > 0 {
            insert_heir(connection, path, msgid, entry, last)?;
        }
    }
    Ok(())
}

/// An acceptance lies under the recipients of its arrival: without it nobody could say any more whom, nor take it out.
fn remove_pairs_of_acceptance(connection: &Connection, path: &Path, arrival: &Entry) -> Result<(), StoreError> {
    let (EventKind::Arrival, Some(id), Some(queue_id)) = (arrival.kind, &arrival.pec_msgid, &arrival.queue_id) else {
        return Ok(());
    };
    let slot = Slot::acceptance(id);
    let Some(StoredRow { link, entry }) = row::select(connection, path, OF_SLOT, [slot.as_str()])?.pop() else {
        return Ok(());
    };
    let is_its_own = arrival.slot == Some(Slot::arrival(queue_id)) && entry.queue_id.as_ref() == Some(queue_id);
    if entry.kind != EventKind::Acceptance || !is_its_own {
        return Ok(());
    }
    let keys = keys(connection, path, link.sequence, &entry, Outcome::told_by(&entry))?;
    for recipient in concerned(&entry, Some(arrival)) {
        remove_pair(connection, path, number_of_address(connection, path, &recipient)?, keys)?;
    }
    Ok(())
}

/// An acceptance that goes while somebody is still waited for is not found as open either.
fn remove_open(connection: &Connection, path: &Path, sequence: i64, entry: &Entry) -> Result<(), StoreError> {
    let (EventKind::Acceptance, Some(id)) = (entry.kind, &entry.pec_msgid) else { return Ok(()) };
    let watched = watched(connection, path, id)?;
    if watched.is_empty() {
        return Ok(());
    }
    let keys = keys(connection, path, sequence, entry, Some(Outcome::Open))?;
    for recipient in watched {
        remove_pair(connection, path, number_of_address(connection, path, &recipient)?, keys)?;
    }
    remove_sender(connection, path, keys)
}

/// Where a row goes by which a Message-ID led to its transaction, the next that bears it takes its place.
fn insert_heir(
    connection: &Connection,
    path: &Path,
    msgid: &str,
    removed: &Entry,
    last: i64,
) -> Result<(), StoreError> {
    let Some(id) = &removed.pec_msgid else { return Ok(()) };
    let rows = row::select(connection, path, LATER_OF_TRANSACTION, params![id.as_str(), last])?;
    let bears = |row: &&StoredRow| other_msgids(&row.entry).any(|other| Query::bare(other) == Query::bare(msgid));
    match rows.iter().find(bears) {
        Some(heir) => insert_msgid(connection, path, [hash(msgid), hash_of_transaction(removed), heir.link.sequence]),
        None => Ok(()),
    }
}

/// The identifiers by which an entry may be asked for besides its PEC msgid.
fn other_msgids(entry: &Entry) -> impl Iterator<Item = &str> {
    [&entry.client_msgid, &entry.notification].into_iter().flatten().map(|id| id.as_str())
}

/// Whether a Message-ID leads to a transaction already: all its entries bear the client's.
fn is_known(connection: &Connection, path: &Path, hash: i64, id: Option<&PecMsgid>) -> Result<bool, StoreError> {
    let Some(id) = id else { return Ok(false) };
    let keys = params![hash, self::hash(id.as_str()), id.as_str()];
    value(connection, path, KNOWN, keys).map(|known: Option<bool>| known.unwrap_or_default())
}

fn hash_of_transaction(entry: &Entry) -> i64 {
    entry.pec_msgid.as_ref().map_or(NONE, |id| hash(id.as_str()))
}

fn insert_msgid(connection: &Connection, path: &Path, keys: [i64; 3]) -> Result<(), StoreError> {
    let insert = "INSERT OR IGNORE INTO search_by_msgid (hash, transaction_hash, sequence) VALUES (?1, ?2, ?3)";
    execute(connection, path, insert, keys).map(drop)
}

/// Shows that the watched recipients of an accepted transaction are open.
fn open(
    connection: &Connection,
    path: &Path,
    id: &PecMsgid,
    sequence: i64,
    acceptance: &Entry,
) -> Result<(), StoreError> {
    let watched = watched(connection, path, id)?;
    if watched.is_empty() {
        return Ok(());
    }
    let keys = keys(connection, path, sequence, acceptance, Some(Outcome::Open))?;
    insert_sender(connection, path, keys)?;
    for recipient in watched {
        insert_pair(connection, path, number_of_address(connection, path, &recipient)?, keys)?;
    }
    Ok(())
}

/// Shows that a recipient is open no longer.
fn close(connection: &Connection, path: &Path, id: &PecMsgid, recipient: &str) -> Result<(), StoreError> {
    let slot = Slot::acceptance(id);
    let Some(StoredRow { link, entry }) = row::select(connection, path, OF_SLOT, [slot.as_str()])?.pop() else {
        return Ok(());
    };
    let keys = keys(connection, path, link.sequence, &entry, Some(Outcome::Open))?;
    remove_pair(connection, path, number_of_address(connection, path, recipient)?, keys)?;
    match watched(connection, path, id)?.is_empty() {
        true => remove_sender(connection, path, keys),
        false => Ok(()),
    }
}

fn watched(connection: &Connection, path: &Path, id: &PecMsgid) -> Result<Vec<String>, StoreError> {
    let read = |connection: &Connection| -> rusqlite::Result<Vec<String>> {
        connection.prepare_cached(WATCHED)?.query_map([id.as_str()], |row| row.get(0))?.collect()
    };
    read(connection).named(path, "read the watch in")
}

/// The arrival that tells whom an acceptance is about.
pub(super) fn arrival_of(connection: &Connection, path: &Path, entry: &Entry) -> Result<Option<Entry>, StoreError> {
    let (EventKind::Acceptance, Some(queue_id)) = (entry.kind, &entry.queue_id) else { return Ok(None) };
    let found = row::select(connection, path, OF_SLOT, [Slot::arrival(queue_id).as_str()])?.pop();
    Ok(found.map(|row| row.entry))
}

fn keys(
    connection: &Connection,
    path: &Path,
    sequence: i64,
    entry: &Entry,
    outcome: Option<Outcome>,
) -> Result<Keys, StoreError> {
    let sender = match &entry.sender {
        Some(sender) => number_of_address(connection, path, sender)?,
        None => NONE,
    };
    let provider = match &entry.provider {
        Some(provider) => number(
            connection,
            path,
            "SELECT id FROM search_provider WHERE name = ?1",
            "INSERT INTO search_provider (name) VALUES (?1) RETURNING id",
            [provider],
        )?,
        None => NONE,
    };
    let class = number(
        connection,
        path,
        "SELECT id FROM search_class WHERE kind = ?1 AND outcome = ?2",
        "INSERT INTO search_class (kind, outcome) VALUES (?1, ?2) RETURNING id",
        [entry.kind.name(), outcome.map_or("", Outcome::name)],
    )?;
    Ok(Keys { sender, provider, class, at: entry.at.unix(), sequence })
}

fn number_of_address(connection: &Connection, path: &Path, address: &str) -> Result<i64, StoreError> {
    number(
        connection,
        path,
        "SELECT id FROM search_address WHERE address = ?1",
        "INSERT INTO search_address (address) VALUES (?1) RETURNING id",
        [address.to_ascii_lowercase()],
    )
}

/// The number of what may have none yet.
fn number<P: Params + Clone>(
    connection: &Connection,
    path: &Path,
    select: &str,
    insert: &str,
    key: P,
) -> Result<i64, StoreError> {
    match value(connection, path, select, key.clone())? {
        Some(known) => Ok(known),
        None => value(connection, path, insert, key).map(|new| new.unwrap_or(NONE)),
    }
}

fn insert_sender(connection: &Connection, path: &Path, keys: Keys) -> Result<(), StoreError> {
    let Keys { sender, provider, class, at, sequence } = keys;
    let insert = "INSERT OR IGNORE INTO search_by_sender (sender, provider, class, at, sequence)
                  VALUES (?1, ?2, ?3, ?4, ?5)";
    execute(connection, path, insert, params![sender, provider, class, at, sequence]).map(drop)
}

fn remove_sender(connection: &Connection, path: &Path, keys: Keys) -> Result<(), StoreError> {
    let Keys { sender, provider, class, at, sequence } = keys;
    let remove = "DELETE FROM search_by_sender
                  WHERE sender = ?1 AND provider = ?2 AND class = ?3 AND at = ?4 AND sequence = ?5";
    execute(connection, path, remove, params![sender, provider, class, at, sequence]).map(drop)
}

fn insert_pair(connection: &Connection, path: &Path, recipient: i64, keys: Keys) -> Result<(), StoreError> {
    let Keys { sender, provider, class, at, sequence } = keys;
    let insert = "INSERT OR IGNORE INTO search_by_pair (recipient, sender, provider, class, at, sequence)
                  VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    execute(connection, path, insert, params![recipient, sender, provider, class, at, sequence]).map(drop)
}

fn remove_pair(connection: &Connection, path: &Path, recipient: i64, keys: Keys) -> Result<(), StoreError> {
    let Keys { sender, provider, class, at, sequence } = keys;
    let remove = "DELETE FROM search_by_pair
                  WHERE recipient = ?1 AND sender = ?2 AND provider = ?3 AND class = ?4 AND at = ?5 AND sequence = ?6";
    execute(connection, path, remove, params![recipient, sender, provider, class, at, sequence]).map(drop)
}

fn value<T: rusqlite::types::FromSql>(
    connection: &Connection,
    path: &Path,
    statement: &str,
    parameters: impl Params,
) -> Result<Option<T>, StoreError> {
    connection
        .prepare_cached(statement)
        .and_then(|mut statement| statement.query_row(parameters, |row| row.get(0)).optional())
        .named(path, CALL)
}

fn execute(
    connection: &Connection,
    path: &Path,
    statement: &str,
    parameters: impl Params,
) -> Result<usize, StoreError> {
    connection.prepare_cached(statement).and_then(|mut statement| statement.execute(parameters)).named(path, CALL)
}

#[cfg(test)]
mod tests;
