//! Rows that are given out as evidence, signed anew: only as they were written, each held against the chain (§2.3).
//!
//! A row alone shows that its content was changed; who computed its hash anew as well is told by `log verify`, which
//! follows the whole chain.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension, Params};

use crate::adapters::sqlite::error::{Named, StoreError};
use crate::adapters::sqlite::reader::LogReader;
use crate::adapters::sqlite::row::{self, StoredRow};
use crate::adapters::sqlite::walk;
use crate::legal_log::purge::across;
use crate::legal_log::{Link, Recorded};

const CALL: &str = "read rows of";
const OF_TRANSACTION: &str = "WHERE pec_msgid = ?1 ORDER BY sequence";
const BEFORE: &str = "SELECT sequence, hash FROM event WHERE sequence < ?1 ORDER BY sequence DESC LIMIT 1";

impl LogReader {
    /// All entries of one certified transaction, in order of recording, if every one is as it was written.
    pub async fn written(&self, pec_msgid: &str) -> Result<Vec<Recorded>, StoreError> {
        let pec_msgid = pec_msgid.to_owned();
        let rows = self.read(move |connection, path| written(connection, path, OF_TRANSACTION, [pec_msgid])).await?;
        let recorded = |StoredRow { link, entry }| Recorded { sequence: link.sequence, entry, is_new: false };
        Ok(rows.into_iter().map(recorded).collect())
    }
}

/// The rows that `SELECT * FROM event` with these `clauses` gives, if every one is as it was written.
pub(super) fn written(
    connection: &Connection,
    path: &Path,
    clauses: &str,
    parameters: impl Params,
) -> Result<Vec<StoredRow>, StoreError> {
    let altered = |source| StoreError::Altered { path: path.to_owned(), source };
    // In one snapshot: a purge in between would take away the row before.
    let snapshot = connection.unchecked_transaction().named(path, CALL)?;
    let rows = row::select(&snapshot, path, clauses, parameters).map_err(|error| match error {
        StoreError::Chain { source, .. } => altered(source),
        other => other,
    })?;
    let gaps = walk::gaps(&snapshot, path)?;
    for StoredRow { link, entry } in &rows {
        let before = across(&gaps, before(&snapshot, link.sequence).named(path, CALL)?, link.sequence);
        before.check_next(link, entry).map_err(altered)?;
    }
    Ok(rows)
}

/// The last link there is before a row.
fn before(connection: &Connection, sequence: i64) -> rusqlite::Result<Link> {
    let mut statement = connection.prepare_cached(BEFORE)?;
    let link = |row: &rusqlite::Row<'_>| Ok(Link { sequence: row.get("sequence")?, hash: row.get("hash")? });
    Ok(statement.query_row([sequence], link).optional()?.unwrap_or(Link::BEFORE_FIRST))
}

#[cfg(test)]
mod tests {
    use std::error::Error;
    use std::path::PathBuf;

    use tempfile::TempDir;

    use super::*;
    use crate::adapters::sqlite::SqliteLog;
    use crate::legal_log::seal::Seal;
    use crate::legal_log::{ChainBreak, Entry, EventKind};
    use crate::model::TemporalReference;
    use crate::operations::ports::{EventLog, Purging};

    const NOW: i64 = 1_700_000_000;
    const TOLD: &str = "pec.2@alfa.example";
    const MAILBOX: &str = "bruno@beta.example";

    fn entry(kind: EventKind, id: &str) -> Entry {
        Entry {
            pec_msgid: id.parse().ok(),
            sender: Some("anna@alfa.example".into()),
            recipient: Some(MAILBOX.into()),
            details: Some("{}".into()),
            ..Entry::new(kind, TemporalReference::from_unix(NOW))
        }
    }

    /// Two transactions, row by row in turn.
    async fn log() -> (TempDir, PathBuf, SqliteLog) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.db");
        let log = SqliteLog::open(&path).unwrap();
        let ids = ["pec.1@alfa.example", TOLD];
        let of = |kind| ids.map(|id| entry(kind, id));
        log.record([of(EventKind::Acceptance), of(EventKind::Delivery)].concat()).await.unwrap();
        (folder, path, log)
    }

    fn tamper(path: &Path, sql: &str) {
        let connection = Connection::open(path).unwrap();
        connection.execute_batch("DROP TRIGGER event_refuses_update; DROP TRIGGER event_refuses_delete").unwrap();
        connection.execute_batch(sql).unwrap();
    }

    /// Why nothing is made again or given out.
    async fn refusal(path: &Path) -> Option<ChainBreak> {
        let log = SqliteLog::open_read_only(path).unwrap();
        let whole = TemporalReference::from_unix(0)..TemporalReference::from_unix(i64::MAX);
        let (again, extract) = (log.written(TOLD).await.err(), log.concerning(MAILBOX, whole).await.err());
        let source = |error: StoreError| {
            assert!(error.to_string().ends_with("run `pec-milter log verify`"), "{error}");
            *error.source().and_then(|source| source.downcast_ref::<ChainBreak>()).unwrap()
        };
        let (again, extract) = (again.map(source), extract.map(source));
        assert_eq!(again, extract);
        again
    }

    #[tokio::test]
    async fn a_changed_row_is_neither_made_again_nor_given_out() {
        for (sql, expected) in [
            ("SELECT 1", None),
            (
                "UPDATE event SET recipient = 'carla@beta.example' WHERE sequence = 2",
                Some(ChainBreak::Hash { sequence: 2 }),
            ),
            ("UPDATE event SET details = '[]' WHERE sequence = 4", Some(ChainBreak::Hash { sequence: 4 })),
            (
                "UPDATE event SET kind = 'x' WHERE sequence = 4",
                Some(ChainBreak::Unreadable { sequence: 4, column: "kind" }),
            ),
            ("DELETE FROM event WHERE sequence = 3", Some(ChainBreak::Gap { expected: 3, found: 4 })),
        ] {
            let (_folder, path, log) = log().await;
            log.close().await.unwrap();
            tamper(&path, sql);
            assert_eq!(refusal(&path).await, expected, "{sql}");
        }
    }

    #[tokio::test]
    async fn rows_behind_what_was_purged_are_held_against_what_it_left() {
        let (_folder, path, log) = log().await;
        let last = log.reader().link(3).await.unwrap().unwrap();
        let seal = Seal {
            number: 1,
            provider: "Alfa S.p.A.".into(),
            sealed: TemporalReference::from_unix(NOW),
            before: Link::BEFORE_FIRST,
            last,
            newest: TemporalReference::from_unix(NOW),
            previous: [0; 32],
            rows: [0; 32],
        };
        log.purge(seal, TemporalReference::from_unix(NOW), None).await.unwrap();
        log.close().await.unwrap();
        assert_eq!(refusal(&path).await, None);
        tamper(&path, "UPDATE event SET sender = 'x' WHERE sequence = 4");
        assert_eq!(refusal(&path).await, Some(ChainBreak::Hash { sequence: 4 }));
    }
}
