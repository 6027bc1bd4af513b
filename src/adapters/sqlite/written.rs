//! Rows that are given out as evidence, signed anew: only as they were written and sealed (§2.3).
//!
//! Each row is held against the one before it, which shows that its content was changed. Who computed the hashes anew as
//! well is shown by the seals: the chain is followed from the row to the next hash that a signed seal knows. Behind the last
//! seal there is the chain alone. What is to be complete is looked for among all rows: search tables and indexes can be
//! altered, too.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Range, RangeInclusive};
use std::path::Path;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Params};

use crate::adapters::sqlite::error::{Named, StoreError};
use crate::adapters::sqlite::reader::LogReader;
use crate::adapters::sqlite::row::{self, StoredRow};
use crate::adapters::sqlite::{search, walk};
use crate::legal_log::purge::{Purged, across};
use crate::legal_log::{ChainBreak, Entry, Link, Query, Recorded};
use crate::model::TemporalReference;
use crate::operations::signed_seals::{Border, SignedSeals};

/// Rows per step.
const STEP: i64 = 1000;

const CALL: &str = "read rows of";
const OF_SEQUENCE: &str = "WHERE sequence = ?1";
const OF_TRANSACTION: &str = "WHERE pec_msgid = ?1 ORDER BY sequence";
const BEHIND: &str = "WHERE sequence > ?1 AND sequence <= ?2 ORDER BY sequence LIMIT ?3";
const BEFORE: &str = "SELECT sequence, hash FROM event WHERE sequence < ?1 ORDER BY sequence DESC LIMIT 1";

impl LogReader {
    /// All entries of one certified transaction, in order of recording, if every one is as it was written.
    pub async fn written(&self, pec_msgid: &str, seals: Arc<SignedSeals>) -> Result<Vec<Recorded>, StoreError> {
        let pec_msgid = pec_msgid.to_owned();
        let rows = self.read(move |connection, path| {
            // In one snapshot: a purge in between would take away the row before.
            let snapshot = connection.unchecked_transaction().named(path, CALL)?;
            Evidence::of(&snapshot, path, &seals)?.select(OF_TRANSACTION, [pec_msgid])
        });
        let recorded = |StoredRow { link, entry }| Recorded { sequence: link.sequence, entry, is_new: false };
        Ok(rows.await?.into_iter().map(recorded).collect())
    }

    /// All rows of each transaction that has an entry of a period from or about a mailbox, and the rows about it that
    /// belong to no transaction; in order of their first entries. An error where one of them, or any row of the period, is
    /// not as it was written. Every row of the log is read.
    pub async fn concerning(
        &self,
        mailbox: &str,
        period: Range<TemporalReference>,
        seals: Arc<SignedSeals>,
    ) -> Result<Vec<Vec<(Link, Entry)>>, StoreError> {
        let mailbox = Some(mailbox.to_owned());
        self.read(move |connection, path| {
            let snapshot = connection.unchecked_transaction().named(path, CALL)?;
            let mut evidence = Evidence::of(&snapshot, path, &seals)?;
            let all = Query::of(period.clone());
            let queries = [Query { sender: mailbox.clone(), ..all.clone() }, Query { recipient: mailbox, ..all }];
            let mut places = BTreeSet::new();
            evidence.walk(|StoredRow { link, entry }| {
                if !period.contains(&entry.at) {
                    return Ok(false);
                }
                let arrival = search::arrival_of(&snapshot, path, entry)?;
                if queries.iter().any(|query| query.fits(entry, arrival.as_ref())) {
                    places.insert((entry.at.unix(), link.sequence));
                }
                Ok(true)
            })?;
            let (mut ids, mut found) = (BTreeSet::new(), BTreeMap::new());
            for (at, sequence) in places {
                let Some(row) = evidence.select(OF_SEQUENCE, [sequence])?.pop() else { continue };
                match &row.entry.pec_msgid {
                    None => drop(found.insert((at, sequence), vec![(row.link, row.entry)])),
                    Some(id) if ids.insert(id.to_string()) => {
                        let rows = evidence.select(OF_TRANSACTION, [id.as_str()])?;
                        let rows = rows.into_iter().map(|StoredRow { link, entry }| (link, entry));
                        found.insert((at, sequence), rows.collect());
                    }
                    Some(_) => {}
                }
            }
            Ok(found.into_values().collect())
        })
        .await
    }
}

/// The rows of one moment, and what they are held against.
struct Evidence<'a> {
    connection: &'a Connection,
    path: &'a Path,
    gaps: Vec<Purged>,
    seals: &'a SignedSeals,
    /// Rows from which the chain was followed to a seal.
    proven: Vec<RangeInclusive<i64>>,
}

impl<'a> Evidence<'a> {
    fn of(connection: &'a Connection, path: &'a Path, seals: &'a SignedSeals) -> Result<Self, StoreError> {
        Ok(Evidence { connection, path, gaps: walk::gaps(connection, path)?, seals, proven: Vec::new() })
    }

    /// The rows that `SELECT * FROM event` with these `clauses` gives, if every one is as it was written.
    fn select(&mut self, clauses: &str, parameters: impl Params) -> Result<Vec<StoredRow>, StoreError> {
        let rows = self.read(clauses, parameters)?;
        for StoredRow { link, entry } in &rows {
            let before = before(self.connection, link.sequence).named(self.path, CALL)?;
            across(&self.gaps, before, link.sequence).check_next(link, entry).map_err(|source| self.altered(source))?;
            if !self.proven.iter().any(|rows| rows.contains(&link.sequence)) {
                self.prove(*link)?;
            }
        }
        Ok(rows)
    }

    /// Follows the chain from a row to the next hash that a seal knows.
    fn prove(&mut self, from: Link) -> Result<(), StoreError> {
        let Some(border) = self.seals.border(from.sequence) else { return Ok(()) };
        let mut last = from;
        loop {
            let rows = self.read(BEHIND, [last.sequence, border.link.sequence, STEP])?;
            if rows.is_empty() {
                break;
            }
            for row in &rows {
                last = self.next(last, row)?;
            }
        }
        self.agree(last, border)?;
        self.proven.push(from.sequence..=last.sequence);
        Ok(())
    }

    /// Shows every row. Where it is of interest, the next seal must know the chain up to there.
    fn walk(
        &mut self,
        mut is_of_interest: impl FnMut(&StoredRow) -> Result<bool, StoreError>,
    ) -> Result<(), StoreError> {
        let (mut last, mut first, mut is_open) = (Link::BEFORE_FIRST, 1, false);
        let mut border = self.seals.border(first);
        loop {
            let rows = self.read(BEHIND, [last.sequence, i64::MAX, STEP])?;
            if rows.is_empty() {
                break;
            }
            for row in &rows {
                if across(&self.gaps, last, row.link.sequence) != last {
                    first = row.link.sequence;
                }
                last = self.next(last, row)?;
                is_open |= is_of_interest(row)?;
                while let Some(reached) = border.filter(|border| border.link.sequence <= last.sequence) {
                    if is_open && reached.link.sequence == last.sequence {
                        self.agree(last, reached)?;
                        self.proven.push(first..=last.sequence);
                        is_open = false;
                    }
                    border = self.seals.border(reached.link.sequence.saturating_add(1));
                }
            }
        }
        // What a seal tells of beyond the end was cut off.
        border.map_or(Ok(()), |border| self.agree(last, border))
    }

    fn agree(&self, found: Link, border: Border<'_>) -> Result<(), StoreError> {
        let name = border.seal.name();
        self.seals.vouch(border.seal).map_err(|source| StoreError::Seal {
            path: self.path.to_owned(),
            name,
            source,
        })?;
        match found == border.link {
            true => Ok(()),
            false => Err(self.altered(ChainBreak::Sealed { number: border.seal.number, found: found.sequence })),
        }
    }

    fn next(&self, last: Link, StoredRow { link, entry }: &StoredRow) -> Result<Link, StoreError> {
        let before = across(&self.gaps, last, link.sequence);
        before.check_next(link, entry).map(|()| *link).map_err(|source| self.altered(source))
    }

    fn read(&self, clauses: &str, parameters: impl Params) -> Result<Vec<StoredRow>, StoreError> {
        row::select(self.connection, self.path, clauses, parameters).map_err(|error| match error {
            StoreError::Chain { source, .. } => self.altered(source),
            other => other,
        })
    }

    fn altered(&self, source: ChainBreak) -> StoreError {
        StoreError::Altered { path: self.path.to_owned(), source }
    }
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
    use crate::operations::ports::{EventLog, OutsideFault, Purging, SealJudge};

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

    /// Judges what it was told.
    struct Judge(&'static [&'static str]);

    impl SealJudge for Judge {
        fn violations(&self, _: &str) -> Result<Vec<String>, OutsideFault> {
            Ok(self.0.iter().map(|text| (*text).to_owned()).collect())
        }
    }

    fn seals(seals: &[&Seal]) -> Arc<SignedSeals> {
        Arc::new(SignedSeals::new(seals.iter().map(|seal| (*seal).clone()).collect(), Judge(&[])))
    }

    /// The seal over the rows behind one up to another, as they are.
    async fn seal(log: &LogReader, number: u64, before: i64, last: i64) -> Seal {
        let link = async |row| log.link(row).await.unwrap().unwrap_or(Link::BEFORE_FIRST);
        let at = TemporalReference::from_unix(NOW);
        Seal {
            number,
            provider: "Alfa S.p.A.".into(),
            sealed: at,
            before: link(before).await,
            last: link(last).await,
            newest: at,
            previous: [0; 32],
            rows: [0; 32],
        }
    }

    fn whole() -> Range<TemporalReference> {
        TemporalReference::from_unix(0)..TemporalReference::from_unix(i64::MAX)
    }

    /// Gives all rows hashes that fit.
    fn rechain(path: &Path) {
        let connection = Connection::open(path).unwrap();
        let rows = row::select(&connection, path, "ORDER BY sequence", []).unwrap();
        let mut last = Link::BEFORE_FIRST;
        for StoredRow { link, entry } in rows {
            last = Link { sequence: link.sequence - 1, ..last }.next(&entry);
            let update = "UPDATE event SET hash = ?2 WHERE sequence = ?1";
            connection.execute(update, rusqlite::params![last.sequence, last.hash]).unwrap();
        }
    }

    /// Why nothing is made again or given out.
    async fn refusal(path: &Path, seals: Arc<SignedSeals>) -> Option<ChainBreak> {
        let log = SqliteLog::open_read_only(path).unwrap();
        let again = log.written(TOLD, seals.clone()).await.err();
        let extract = log.concerning(MAILBOX, whole(), seals).await.err();
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
            assert_eq!(refusal(&path, seals(&[])).await, expected, "{sql}");
        }
    }

    #[tokio::test]
    async fn rows_behind_what_was_purged_are_held_against_what_it_left() {
        let (_folder, path, log) = log().await;
        let seal = seal(log.reader(), 1, 0, 3).await;
        log.purge(seal.clone(), TemporalReference::from_unix(NOW), None).await.unwrap();
        log.close().await.unwrap();
        assert_eq!(refusal(&path, seals(&[&seal])).await, None);
        tamper(&path, "UPDATE event SET sender = 'x' WHERE sequence = 4");
        assert_eq!(refusal(&path, seals(&[&seal])).await, Some(ChainBreak::Hash { sequence: 4 }));
    }

    #[tokio::test]
    async fn rows_whose_hashes_were_made_anew_are_not_those_that_were_sealed() {
        let (_folder, path, log) = log().await;
        let (first, second) = (seal(log.reader(), 1, 0, 2).await, seal(log.reader(), 2, 2, 3).await);
        log.close().await.unwrap();
        let both = || seals(&[&first, &second]);
        assert_eq!(refusal(&path, both()).await, None);
        tamper(&path, "UPDATE event SET sender = 'x' WHERE sequence = 2");
        rechain(&path);
        assert_eq!(refusal(&path, seals(&[])).await, None, "the chain alone holds");
        assert_eq!(refusal(&path, both()).await, Some(ChainBreak::Sealed { number: 1, found: 2 }));
        // Where its seal is missing, the next one knows what it goes on from.
        assert_eq!(refusal(&path, seals(&[&second])).await, Some(ChainBreak::Sealed { number: 2, found: 2 }));

        // A seal that is none proves nothing.
        let unsigned = Arc::new(SignedSeals::new(vec![first.clone()], Judge(&["it is not signed"])));
        let log = SqliteLog::open_read_only(&path).unwrap();
        let error = log.written(TOLD, unsigned.clone()).await.unwrap_err();
        let said = "cannot be held against their seal 000001-2023-11-14, so nothing of this is given out";
        assert!(error.to_string().ends_with(said), "{error}");
        assert!(matches!(log.concerning(MAILBOX, whole(), unsigned).await, Err(StoreError::Seal { .. })));
    }

    #[tokio::test]
    async fn what_the_search_lacks_and_what_is_cut_off_is_not_left_out() {
        let (_folder, path, log) = log().await;
        let seal = seal(log.reader(), 1, 0, 4).await;
        log.close().await.unwrap();
        tamper(&path, "DELETE FROM search_by_pair; DELETE FROM search_by_sender; DELETE FROM search_address");
        let log = SqliteLog::open_read_only(&path).unwrap();
        let found = log.concerning(MAILBOX, whole(), seals(&[&seal])).await.unwrap();
        assert_eq!(found.iter().map(Vec::len).collect::<Vec<_>>(), [2, 2]);
        let later = TemporalReference::from_unix(NOW + 1)..TemporalReference::from_unix(i64::MAX);
        assert!(log.concerning(MAILBOX, later, seals(&[&seal])).await.unwrap().is_empty());

        let connection = Connection::open(&path).unwrap();
        connection.execute_batch("DELETE FROM event WHERE sequence > 2").unwrap();
        let error = log.concerning(MAILBOX, whole(), seals(&[&seal])).await.unwrap_err();
        let cut = ChainBreak::Sealed { number: 1, found: 2 };
        assert!(matches!(&error, StoreError::Altered { source, .. } if *source == cut), "{error}");
    }
}
