//! An entry as a row of the table `event`, there and back.
//!
//! Reading is exact: a value that would be written differently is no value the daemon wrote, and is reported as such,
//! because the chain's hash is computed from the entry that was read.

use std::path::Path;

use rusqlite::types::FromSql;
use rusqlite::{Connection, OptionalExtension, Params, Row, named_params};

use crate::adapters::sqlite::error::{Named, StoreError};
use crate::legal_log::{ChainBreak, Entry, EventKind, Link, Slot};
use crate::model::{Msgid, PecMsgid, TemporalReference};

/// A row: the entry and its place in the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StoredRow {
    pub link: Link,
    pub entry: Entry,
}

/// The link that the next row follows.
pub(super) fn last_link(connection: &Connection, path: &Path) -> Result<Link, StoreError> {
    connection
        .prepare_cached("SELECT sequence, hash FROM event ORDER BY sequence DESC LIMIT 1")
        .and_then(|mut statement| {
            statement
                .query_row([], |row| Ok(Link { sequence: row.get("sequence")?, hash: row.get("hash")? }))
                .optional()
        })
        .named(path, "read the last row of")
        .map(|last| last.unwrap_or(Link::BEFORE_FIRST))
}

/// The place of a row in the chain; none where the row is not there.
pub(super) fn link(connection: &Connection, path: &Path, sequence: i64) -> Result<Option<Link>, StoreError> {
    Ok(select(connection, path, "WHERE sequence = ?1", [sequence])?.pop().map(|row| row.link))
}

/// The last link there was, as the database keeps it beside the rows.
pub(super) fn tail(connection: &Connection, path: &Path) -> Result<Link, StoreError> {
    connection
        .prepare_cached("SELECT sequence, hash FROM tail")
        .and_then(|mut statement| {
            statement
                .query_row([], |row| Ok(Link { sequence: row.get("sequence")?, hash: row.get("hash")? }))
                .optional()
        })
        .named(path, "read the tail of")
        .map(|tail| tail.unwrap_or(Link::BEFORE_FIRST))
}

pub(super) fn insert(connection: &Connection, path: &Path, link: &Link, entry: &Entry) -> Result<(), StoreError> {
    let inserted = connection
        .prepare_cached(
            "INSERT INTO event (sequence, at, kind, queue_id, pec_msgid, client_msgid, sender, recipient, subject,
                                notification, provider, issuer, details, slot, hash)
             VALUES (:sequence, :at, :kind, :queue_id, :pec_msgid, :client_msgid, :sender, :recipient, :subject,
                     :notification, :provider, :issuer, :details, :slot, :hash)",
        )
        .and_then(|mut statement| {
            statement.execute(named_params! {
                ":sequence": link.sequence,
                ":at": entry.at.unix(),
                ":kind": entry.kind.name(),
                ":queue_id": entry.queue_id,
                ":pec_msgid": entry.pec_msgid.as_ref().map(|id| id.as_str()),
                ":client_msgid": entry.client_msgid.as_ref().map(|id| id.as_str()),
                ":sender": entry.sender,
                ":recipient": entry.recipient,
                ":subject": entry.subject,
                ":notification": entry.notification.as_ref().map(|id| id.as_str()),
                ":provider": entry.provider,
                ":issuer": entry.issuer,
                ":details": entry.details,
                ":slot": entry.slot.as_ref().map(|slot| slot.as_str()),
                ":hash": link.hash,
            })
        })
        .named(path, "add a row to")?;
    // A trigger that somebody put into the file can leave a row out without an error.
    if inserted == 1 { Ok(()) } else { Err(StoreError::KeptOut { path: path.to_owned() }) }
}

/// The rows that `SELECT * FROM event` with these `clauses` gives.
pub(super) fn select(
    connection: &Connection,
    path: &Path,
    clauses: &str,
    parameters: impl Params,
) -> Result<Vec<StoredRow>, StoreError> {
    const CALL: &str = "read rows of";
    let mut statement = connection.prepare_cached(&format!("SELECT * FROM event {clauses}")).named(path, CALL)?;
    let mut rows = statement.query(parameters).named(path, CALL)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next().named(path, CALL)? {
        found.push(decode(row).map_err(|source| StoreError::Chain { path: path.to_owned(), source })?);
    }
    Ok(found)
}

/// The row in these columns.
pub(super) fn decode(row: &Row<'_>) -> Result<StoredRow, ChainBreak> {
    // Only a table that is not ours has no sequence; 0 is never written.
    let sequence = row.get("sequence").unwrap_or_default();
    let row = Columns { row, sequence };
    let entry = Entry {
        kind: row.parsed("kind", EventKind::from_name, |kind| kind.name())?.ok_or(row.unreadable("kind"))?,
        at: row.instant("at")?,
        queue_id: row.value("queue_id")?,
        pec_msgid: row.parsed("pec_msgid", |text| text.parse().ok(), PecMsgid::as_str)?,
        client_msgid: row.parsed("client_msgid", |text| text.parse().ok(), Msgid::as_str)?,
        sender: row.value("sender")?,
        recipient: row.value("recipient")?,
        subject: row.value("subject")?,
        notification: row.parsed("notification", |text| text.parse().ok(), Msgid::as_str)?,
        provider: row.value("provider")?,
        issuer: row.value("issuer")?,
        details: row.value("details")?,
        slot: row.value::<Option<String>>("slot")?.map(Slot::from_stored),
    };
    Ok(StoredRow { link: Link { sequence, hash: row.value("hash")? }, entry })
}

struct Columns<'row> {
    row: &'row Row<'row>,
    sequence: i64,
}

impl Columns<'_> {
    fn value<T: FromSql>(&self, column: &'static str) -> Result<T, ChainBreak> {
        self.row.get(column).map_err(|_| self.unreadable(column))
    }

    fn instant(&self, column: &'static str) -> Result<TemporalReference, ChainBreak> {
        let seconds = self.value(column)?;
        Some(TemporalReference::from_unix(seconds))
            .filter(|instant| instant.unix() == seconds)
            .ok_or(self.unreadable(column))
    }

    fn parsed<T>(
        &self,
        column: &'static str,
        parse: impl Fn(&str) -> Option<T>,
        spell: impl Fn(&T) -> &str,
    ) -> Result<Option<T>, ChainBreak> {
        let Some(text) = self.value::<Option<String>>(column)? else { return Ok(None) };
        parse(&text).filter(|value| spell(value) == text).map(Some).ok_or(self.unreadable(column))
    }

    fn unreadable(&self, column: &'static str) -> ChainBreak {
        ChainBreak::Unreadable { sequence: self.sequence, column }
    }
}
