//! The watch as tables beside the events (§3.1.6): followed in the commit of each event, asked for what is due.
//!
//! What an entry tells and what a progress means is decided in `transaction`; here it is kept under its keys, so that
//! neither following nor asking looks at more rows than it needs. All of it but the list of notices to send can be made
//! anew from the events.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

use crate::adapters::sqlite::append;
use crate::adapters::sqlite::error::{Named, StoreError};
use crate::adapters::sqlite::row::{self, StoredRow};
use crate::legal_log::{Entry, EventKind, Recorded, watched_since};
use crate::model::{Address, PecMsgid, TemporalReference};
use crate::operations::ports::Watched;
use crate::transaction::{Progress, certified_recipients, known, told};

/// Counted up when the rows of the same events would be others: every start with a new form makes them anew.
const FORM: i64 = 2;

/// Rows per answer; whoever wants more asks for those that come after.
const PAGE: i64 = 200;

const OPEN: &str = "SELECT pec_msgid, recipient, accepted FROM watch
    WHERE progress = ?1 AND accepted <= ?2 AND (accepted, pec_msgid, recipient) > (?3, ?4, ?5)
    ORDER BY accepted, pec_msgid, recipient LIMIT ?6";
const EARLIEST: &str = "SELECT min(accepted) FROM watch WHERE progress = ?1";
const UNSENT: &str =
    "WHERE sequence IN (SELECT sequence FROM notice_to_send WHERE sequence > ?1 ORDER BY sequence LIMIT ?2)
     ORDER BY sequence";

/// Keeps the watch in step with an entry that was just added.
pub(super) fn follow(connection: &Connection, path: &Path, sequence: i64, entry: &Entry) -> Result<(), StoreError> {
    let Some(id) = &entry.pec_msgid else { return Ok(()) };
    if entry.kind == EventKind::Acceptance {
        return open(connection, path, id, entry);
    }
    if is_notice(entry) {
        execute(connection, path, "INSERT INTO notice_to_send (sequence) VALUES (?1)", params![sequence])?;
    }
    for (recipient, news) in told(entry) {
        let Some(before) = progress(connection, path, id, &recipient)? else { continue };
        let (id, recipient, now) = (id.as_str(), recipient.key(), before.max(news));
        if !now.is_open() {
            let delete = "DELETE FROM watch WHERE pec_msgid = ?1 AND recipient = ?2";
            execute(connection, path, delete, params![id, recipient])?;
        } else if now != before {
            let update = "UPDATE watch SET progress = ?3 WHERE pec_msgid = ?1 AND recipient = ?2";
            execute(connection, path, update, params![id, recipient, name(now)])?;
        }
    }
    Ok(())
}

/// Whether a notice may be recorded: nothing that came meanwhile makes it needless, and it is not recorded yet.
pub(super) fn still_owes(connection: &Connection, path: &Path, notice: &Entry) -> Result<bool, StoreError> {
    let (Some(id), Some(recipient)) = (&notice.pec_msgid, notice.recipient.as_ref().and_then(|text| text.parse().ok()))
    else {
        return Ok(false);
    };
    Ok(match progress(connection, path, id, &recipient)? {
        None => false,
        Some(Progress::Sent) => true,
        Some(_) => notice.kind == EventKind::FinalTimeout,
    })
}

pub(super) fn mark_sent(connection: &Connection, path: &Path, sequence: i64) -> Result<(), StoreError> {
    execute(connection, path, "DELETE FROM notice_to_send WHERE sequence = ?1", params![sequence])
}

/// Makes the rows anew if they are of another form than this program's; whether they were.
pub(super) fn renew(connection: &mut Connection, path: &Path) -> Result<bool, StoreError> {
    let form: Option<i64> = connection
        .query_row("SELECT form FROM projection WHERE name = 'watch'", [], |row| row.get(0))
        .optional()
        .named(path, "read the form of the watch in")?;
    if form == Some(FORM) { Ok(false) } else { rebuild(connection, path).map(|_| true) }
}

/// Makes the rows anew from the events, in one transaction; returns how many there are. Notices to send stay as they are.
///
/// Rows that are gone may have told the end of whatever was accepted before them, and are older than any notice that is
/// owed: nothing before the last of them is watched.
pub(super) fn rebuild(connection: &mut Connection, path: &Path) -> Result<i64, StoreError> {
    const CALL: &str = "rebuild the watch in";
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).named(path, CALL)?;
    execute(&transaction, path, "DELETE FROM watch", [])?;
    let last_gap = append::purged(&transaction, path)?.last().map_or(0, |gap| gap.first);
    let mut after = last_gap;
    loop {
        let clauses = "WHERE sequence > ?1 AND kind = ?2 ORDER BY sequence LIMIT ?3";
        let acceptances = row::select(&transaction, path, clauses, params![after, EventKind::Acceptance.name(), PAGE])?;
        let Some(last) = acceptances.last() else { break };
        after = last.link.sequence;
        for StoredRow { entry, .. } in &acceptances {
            if let Some(id) = &entry.pec_msgid {
                open(&transaction, path, id, entry)?;
            }
        }
    }
    execute(&transaction, path, "INSERT OR REPLACE INTO projection (name, form) VALUES ('watch', ?1)", params![FORM])?;
    let rows = transaction.query_row("SELECT count(*) FROM watch", [], |row| row.get(0)).named(path, CALL)?;
    transaction.commit().named(path, CALL)?;
    Ok(rows)
}

/// A page of the open watches of one progress that were accepted at or before an instant, in order of acceptance.
pub(super) fn watched(
    connection: &Connection,
    path: &Path,
    progress: Progress,
    until: TemporalReference,
    after: Option<&Watched>,
) -> Result<Vec<Watched>, StoreError> {
    const CALL: &str = "read the watch in";
    let (accepted, id, recipient) = match after {
        Some(last) => (last.accepted.unix(), last.id.as_str().to_owned(), last.recipient.key()),
        None => (i64::MIN, String::new(), String::new()),
    };
    let mut statement = connection.prepare_cached(OPEN).named(path, CALL)?;
    let mut rows =
        statement.query(params![name(progress), until.unix(), accepted, id, recipient, PAGE]).named(path, CALL)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next().named(path, CALL)? {
        let text = |column| row.get::<_, String>(column).named(path, CALL);
        let unreadable = |column| StoreError::Watch { path: path.to_owned(), column };
        found.push(Watched {
            id: text("pec_msgid")?.parse().map_err(|_| unreadable("pec_msgid"))?,
            recipient: text("recipient")?.parse().map_err(|_| unreadable("recipient"))?,
            accepted: TemporalReference::from_unix(row.get("accepted").named(path, CALL)?),
            progress,
        });
    }
    Ok(found)
}

/// The earliest acceptance among the open watches of one progress.
pub(super) fn earliest(
    connection: &Connection,
    path: &Path,
    progress: Progress,
) -> Result<Option<TemporalReference>, StoreError> {
    let found: Option<i64> = connection
        .prepare_cached(EARLIEST)
        .and_then(|mut statement| statement.query_row([name(progress)], |row| row.get(0)))
        .named(path, "read the watch in")?;
    Ok(found.map(TemporalReference::from_unix))
}

/// A page of the notices that were recorded and perhaps not sent, from a row of the log on.
pub(super) fn unsent(connection: &Connection, path: &Path, after: i64) -> Result<Vec<Recorded>, StoreError> {
    let rows = row::select(connection, path, UNSENT, params![after, PAGE])?;
    Ok(rows
        .into_iter()
        .map(|StoredRow { link, entry }| Recorded { sequence: link.sequence, entry, is_new: false })
        .collect())
}

/// Opens the watches of an accepted transaction, with all that was heard before its acceptance.
fn open(connection: &Connection, path: &Path, id: &PecMsgid, acceptance: &Entry) -> Result<(), StoreError> {
    let rows = row::select(connection, path, "WHERE pec_msgid = ?1 ORDER BY sequence", [id.as_str()])?;
    let entries = || rows.iter().map(|row| &row.entry);
    let arrival = entries().find(|one| one.kind == EventKind::Arrival && one.queue_id == acceptance.queue_id);
    let Some(arrival) = arrival else { return Ok(()) };
    let since = watched_since(acceptance.at, arrival.at);
    for recipient in certified_recipients(arrival).unwrap_or_default() {
        let progress = known(entries(), &recipient);
        if progress.is_open() {
            let insert =
                "INSERT OR IGNORE INTO watch (pec_msgid, recipient, accepted, progress) VALUES (?1, ?2, ?3, ?4)";
            let row = params![id.as_str(), recipient.key(), since.unix(), name(progress)];
            execute(connection, path, insert, row)?;
        }
    }
    Ok(())
}

fn progress(
    connection: &Connection,
    path: &Path,
    id: &PecMsgid,
    recipient: &Address,
) -> Result<Option<Progress>, StoreError> {
    let found: Option<String> = connection
        .prepare_cached("SELECT progress FROM watch WHERE pec_msgid = ?1 AND recipient = ?2")
        .and_then(|mut statement| {
            statement.query_row(params![id.as_str(), recipient.key()], |row| row.get(0)).optional()
        })
        .named(path, "read the watch in")?;
    let Some(text) = found else { return Ok(None) };
    let progress = Progress::OPEN.into_iter().find(|progress| name(*progress) == text);
    progress.map(Some).ok_or(StoreError::Watch { path: path.to_owned(), column: "progress" })
}

/// The word that stands in the table.
fn name(progress: Progress) -> &'static str {
    match progress {
        Progress::Sent => "sent",
        Progress::TakenInCharge => "taken-in-charge",
        Progress::Warned => "warned",
        Progress::GivenUp => "given-up",
        Progress::Delivered => "delivered",
    }
}

fn is_notice(entry: &Entry) -> bool {
    matches!(entry.kind, EventKind::FirstTimeout | EventKind::FinalTimeout)
}

fn execute(
    connection: &Connection,
    path: &Path,
    statement: &str,
    parameters: impl rusqlite::Params,
) -> Result<(), StoreError> {
    connection
        .prepare_cached(statement)
        .and_then(|mut statement| statement.execute(parameters))
        .named(path, "change the watch in")?;
    Ok(())
}

#[cfg(test)]
mod tests;
