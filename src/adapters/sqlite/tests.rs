//! The log as its callers see it, and as somebody who tampers with its file leaves it.

mod retention;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, params};
use tempfile::TempDir;
use tokio::task::JoinSet;

use super::*;
use crate::legal_log::hold::{Held, Hold};
use crate::legal_log::purge::Purged;
use crate::legal_log::{ChainBreak, EventKind, Link, Slot};
use crate::model::TemporalReference;
use crate::operations::ports::LogEvidence;

const NOW: i64 = 1_700_000_000;

struct Disk {
    _folder: TempDir,
    path: PathBuf,
}

impl Disk {
    fn new() -> Disk {
        let folder = tempfile::tempdir().unwrap();
        Disk { path: folder.path().join("log.db"), _folder: folder }
    }

    fn log(&self) -> SqliteLog {
        SqliteLog::open(&self.path).unwrap()
    }

    fn connection(&self) -> Connection {
        file::open_to_write(&self.path, file::MIGRATIONS).unwrap()
    }

    /// A log of `rows` entries, closed.
    async fn with_rows(rows: usize) -> Disk {
        let disk = Disk::new();
        let log = disk.log();
        for n in 1..=rows {
            log.record(vec![entry(&format!("Q{n}"))]).await.unwrap();
        }
        log.close().await.unwrap();
        disk
    }

    /// What somebody does who owns the file and knows SQLite.
    fn tamper(&self, sql: &str) {
        let connection = Connection::open(&self.path).unwrap();
        connection
            .execute_batch(
                "DROP TRIGGER event_refuses_update; DROP TRIGGER event_refuses_delete; DROP TRIGGER event_refuses_replace",
            )
            .unwrap();
        connection.execute_batch(sql).unwrap();
    }

    async fn verify(&self) -> Result<Link, StoreError> {
        SqliteLog::open_read_only(&self.path).unwrap().verify_chain().await
    }
}

fn entry(queue_id: &str) -> Entry {
    Entry {
        kind: EventKind::Arrival,
        at: TemporalReference::from_unix(NOW),
        queue_id: Some(queue_id.into()),
        pec_msgid: Some("pec.1@alfa.example".parse().unwrap()),
        client_msgid: Some("<client.1@alfa.example>".parse().unwrap()),
        sender: Some("Anna@alfa.example".into()),
        recipient: Some("bruno@beta.example".into()),
        subject: Some("perché \"no\"\0\n".into()),
        notification: Some("<n.1@alfa.example>".parse().unwrap()),
        provider: Some("Alfa S.p.A.".into()),
        issuer: None,
        details: Some("{}".into()),
        slot: Some(Slot::arrival(queue_id)),
    }
}

fn bare_entry() -> Entry {
    Entry::new(EventKind::Arrival, TemporalReference::from_unix(NOW))
}

fn rows(path: &Path) -> i64 {
    Connection::open(path).unwrap().query_row("SELECT count(*) FROM event", [], |row| row.get(0)).unwrap()
}

fn commit(connection: &mut Connection, path: &Path, batches: Vec<Vec<Entry>>) -> Vec<append::Outcome> {
    append::commit(connection, path, batches.into_iter().map(Change::Entries).collect())
}

/// The commits in a write-ahead log that was never reset: frames whose header gives the database size after them
/// (SQLite file format, section 4.1).
fn commits(path: &Path) -> usize {
    let log = fs::read(path.with_extension("db-wal")).unwrap();
    let page = u32::from_be_bytes(log[8..12].try_into().unwrap()) as usize;
    log[32..].chunks_exact(24 + page).filter(|frame| frame[4..8] != [0; 4]).count()
}

#[tokio::test]
async fn what_is_recorded_is_read_back_exactly() {
    let disk = Disk::new();
    let log = disk.log();
    let recorded = log.record(vec![entry("Q1"), bare_entry()]).await.unwrap();
    assert_eq!(recorded.iter().map(|row| (row.sequence, row.is_new)).collect::<Vec<_>>(), [(1, true), (2, true)]);
    assert_eq!(log.of_queue_file("Q1").await.unwrap()[0].entry, entry("Q1"));
    let all = log.reader().of_period(TemporalReference::from_unix(NOW)..TemporalReference::from_unix(NOW + 1), 10);
    assert_eq!(all.await.unwrap()[1].entry, bare_entry());
}

#[tokio::test]
async fn a_taken_slot_gives_back_the_entry_that_took_it() {
    let disk = Disk::new();
    let log = disk.log();
    let first = entry("Q1");
    let again = Entry { subject: Some("another".into()), ..entry("Q1") };
    let recorded = log.record(vec![first.clone(), again.clone(), entry("Q2")]).await.unwrap();
    let expected = Recorded { sequence: 1, entry: first, is_new: false };
    assert_eq!(recorded[1], expected);
    assert_eq!((recorded[2].sequence, recorded[2].is_new), (2, true));
    assert_eq!(log.record(vec![again]).await.unwrap(), [expected]);
}

#[tokio::test]
async fn a_failure_of_our_own_is_not_recorded_after_what_another_provider_told_of_the_recipient() {
    let disk = Disk::new();
    let log = disk.log();
    let heard = Entry {
        kind: EventKind::NotificationReceived,
        details: Some(r#"{"kind":"avvenuta-consegna","error":"nessuno","at":0,"reason":null,"mailboxes":[]}"#.into()),
        ..entry("Q2")
    };
    let id = "pec.1@alfa.example".parse().unwrap();
    let failure = |recipient: &str| Entry {
        kind: EventKind::NonDelivery,
        recipient: Some(recipient.into()),
        slot: Some(Slot::outcome(&id, &recipient.parse().unwrap())),
        ..entry("Q3")
    };
    let [bruno, carla] = ["bruno@beta.example", "carla@beta.example"].map(failure);
    let recorded = log.record(vec![heard.clone(), bruno, carla.clone()]).await.unwrap();
    assert_eq!(recorded[1], Recorded { sequence: 1, entry: heard.clone(), is_new: false });
    assert_eq!(recorded[2], Recorded { sequence: 2, entry: carla.clone(), is_new: true });
    // What was committed before it was heard stands.
    let later = Entry { recipient: Some("carla@beta.example".into()), slot: Some(Slot::arrival("Q4")), ..heard };
    let recorded = log.record(vec![later, carla.clone()]).await.unwrap();
    assert_eq!(recorded[1], Recorded { sequence: 2, entry: carla, is_new: false });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_callers_racing_for_one_slot_exactly_one_wins() {
    let disk = Disk::new();
    let log = Arc::new(disk.log());
    let mut callers = JoinSet::new();
    for n in 0..50 {
        let log = log.clone();
        callers.spawn(async move { log.record(vec![entry("Q1"), entry(&format!("own {n}"))]).await.unwrap() });
    }
    let outcomes = callers.join_all().await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome[0].is_new).count(), 1);
    assert!(outcomes.iter().all(|outcome| outcome[0].sequence == 1 && outcome[1].is_new));
    assert_eq!(log.reader().verify_chain().await.unwrap().sequence, 51);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn callers_that_come_during_a_commit_share_the_next_one() {
    let disk = Disk::new();
    let log = Arc::new(disk.log());
    let before = commits(&disk.path);
    let other = Connection::open(&disk.path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut callers = JoinSet::new();
    for n in 0..100 {
        let log = log.clone();
        callers.spawn(async move { log.record(vec![entry(&format!("Q{n}"))]).await.unwrap() });
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    other.execute_batch("ROLLBACK").unwrap();
    callers.join_all().await;
    assert_eq!(rows(&disk.path), 100);
    let commits = commits(&disk.path) - before;
    assert!((1..=10).contains(&commits), "{commits} commits");
}

#[tokio::test]
async fn a_caller_that_goes_away_does_not_stop_the_writer() {
    let disk = Disk::new();
    let log = disk.log();
    for n in 0..20 {
        let impatient = log.record(vec![entry(&format!("gone {n}"))]);
        // Polled once, so that the batch is queued; then dropped.
        tokio::time::timeout(Duration::ZERO, impatient).await.ok();
    }
    let recorded = log.record(vec![entry("Q1")]).await.unwrap();
    assert!(recorded[0].is_new);
    assert_eq!(log.reader().verify_chain().await.unwrap().sequence, recorded[0].sequence);
}

#[tokio::test]
async fn a_reopened_log_goes_on_where_it_ended() {
    let disk = Disk::with_rows(2).await;
    assert!(!disk.path.with_extension("db-wal").exists());
    let log = disk.log();
    assert!(!log.record(vec![entry("Q2")]).await.unwrap()[0].is_new);
    assert_eq!(log.record(vec![entry("Q3")]).await.unwrap()[0].sequence, 3);
    assert_eq!(log.reader().verify_chain().await.unwrap().sequence, 3);
}

#[tokio::test]
async fn an_operator_finds_entries_by_identifier_and_time() {
    let disk = Disk::new();
    let log = disk.log();
    let other = Entry { pec_msgid: Some("pec.2@alfa.example".parse().unwrap()), client_msgid: None, ..entry("Q2") };
    let without_client_msgid = Entry { client_msgid: None, ..entry("Q3") };
    let later = Entry { at: TemporalReference::from_unix(NOW + 60), ..bare_entry() };
    log.record(vec![entry("Q1"), other, without_client_msgid, later]).await.unwrap();
    let sequences = |rows: Vec<Recorded>| rows.into_iter().map(|row| row.sequence).collect::<Vec<_>>();
    let reader = SqliteLog::open_read_only(&disk.path).unwrap();
    for name in ["pec.1@alfa.example", "<pec.1@alfa.example>", "client.1@alfa.example", "<client.1@alfa.example>"] {
        assert_eq!(sequences(reader.of_msgid(name).await.unwrap().entries), [1, 3], "{name}");
    }
    let id = "pec.2@alfa.example".parse().unwrap();
    assert_eq!(sequences(log.of_transaction(&id).await.unwrap()), [2]);
    let all = TemporalReference::from_unix(0)..TemporalReference::from_unix(NOW + 61);
    assert_eq!(sequences(reader.of_period(all, 9).await.unwrap()), [1, 2, 3, 4]);
}

#[tokio::test]
async fn an_auditor_sees_each_transaction_of_a_period_once_and_whole() {
    let disk = Disk::new();
    let log = disk.log();
    let of = |n: i64, at: i64, queue: &str| Entry {
        pec_msgid: Some(format!("pec.{n}@alfa.example").parse().unwrap()),
        at: TemporalReference::from_unix(NOW + at),
        ..entry(queue)
    };
    // More rows than one step; the acceptance is earlier than rows recorded before it.
    let many: Vec<Entry> = (0..1500).map(|n| of(100 + n, 50, &format!("M{n}"))).collect();
    log.record(many).await.unwrap();
    log.record(vec![of(1, 10, "Q1"), of(2, 10, "Q2"), of(1, 5, "Q3"), of(1, 200, "Q4"), bare_entry()]).await.unwrap();
    let seen = |from: i64, to: i64| {
        let period = TemporalReference::from_unix(NOW + from)..TemporalReference::from_unix(NOW + to);
        let reader = log.reader().clone();
        async move {
            let show = |seen: &mut Vec<_>, id: &PecMsgid, rows: &[Recorded]| seen.push((id.to_string(), rows.len()));
            reader.fold_transactions(period, Vec::new(), show).await.unwrap()
        }
    };
    let first = ("pec.1@alfa.example".to_owned(), 3);
    assert_eq!(seen(0, 300).await.len(), 1502);
    assert_eq!(seen(0, 11).await, [first.clone(), ("pec.2@alfa.example".to_owned(), 1)]);
    assert_eq!(seen(200, 201).await, [first]);
    assert_eq!(seen(60, 200).await, []);
}

#[tokio::test]
async fn the_database_itself_refuses_to_change_remove_or_replace_a_row() {
    let disk = Disk::with_rows(2).await;
    let connection = Connection::open(&disk.path).unwrap();
    for (sql, reason) in [
        ("UPDATE event SET subject = 'x' WHERE sequence = 1", "never changed"),
        ("UPDATE OR REPLACE event SET sequence = 2 WHERE sequence = 1", "never changed"),
        ("DELETE FROM event", "never deleted"),
        ("INSERT OR REPLACE INTO event SELECT * FROM event WHERE sequence = 1", "next sequence"),
        (
            "REPLACE INTO event SELECT 3, at, kind, queue_id, pec_msgid, client_msgid, sender, recipient, subject,
            notification, provider, issuer, details, slot, hash FROM event WHERE sequence = 1",
            "free slot",
        ),
        ("INSERT INTO event (sequence, at, kind, hash) VALUES (9, 0, 'arrival', x'00')", "next sequence"),
        ("INSERT INTO event (at, kind, hash) VALUES (0, 'arrival', x'00')", "next sequence"),
    ] {
        let error = connection.execute_batch(sql).unwrap_err().to_string();
        assert!(error.contains("legal evidence") && error.contains(reason), "{sql}: {error}");
    }
    assert_eq!(disk.verify().await.unwrap().sequence, 2);
}

#[tokio::test]
async fn every_kind_of_tampering_is_found_at_its_row() {
    for (sql, expected) in [
        ("UPDATE event SET subject = 'perche' WHERE sequence = 2", ChainBreak::Hash { sequence: 2 }),
        ("UPDATE event SET sender = NULL WHERE sequence = 2", ChainBreak::Hash { sequence: 2 }),
        ("UPDATE event SET at = at + 1 WHERE sequence = 2", ChainBreak::Hash { sequence: 2 }),
        ("UPDATE event SET hash = zeroblob(32) WHERE sequence = 2", ChainBreak::Hash { sequence: 2 }),
        ("UPDATE event SET hash = x'00' WHERE sequence = 2", ChainBreak::Unreadable { sequence: 2, column: "hash" }),
        ("UPDATE event SET kind = 'joke' WHERE sequence = 2", ChainBreak::Unreadable { sequence: 2, column: "kind" }),
        (
            "UPDATE event SET client_msgid = client_msgid || ' ' WHERE sequence = 2",
            ChainBreak::Unreadable { sequence: 2, column: "client_msgid" },
        ),
        (
            "UPDATE event SET sender = CAST(x'ff' AS TEXT) WHERE sequence = 2",
            ChainBreak::Unreadable { sequence: 2, column: "sender" },
        ),
        ("DELETE FROM event WHERE sequence = 1", ChainBreak::Gap { expected: 1, found: 2 }),
        ("DELETE FROM event WHERE sequence = 2", ChainBreak::Gap { expected: 2, found: 3 }),
        (
            "DELETE FROM event WHERE sequence = 2; UPDATE event SET sequence = sequence - 1 WHERE sequence > 2",
            ChainBreak::Hash { sequence: 2 },
        ),
        (
            "INSERT INTO event (sequence, at, kind, hash) VALUES (0, 0, 'arrival', zeroblob(32))",
            ChainBreak::Gap { expected: 1, found: 0 },
        ),
        (
            "INSERT INTO event (sequence, at, kind, hash) VALUES (5, 0, 'arrival', zeroblob(32))",
            ChainBreak::Hash { sequence: 5 },
        ),
    ] {
        let disk = Disk::with_rows(4).await;
        disk.tamper(sql);
        match disk.verify().await {
            Err(StoreError::Chain { source, .. }) => assert_eq!(source, expected, "{sql}"),
            other => panic!("{sql}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_log_whose_end_does_not_verify_is_not_written_to() {
    let disk = Disk::with_rows(3).await;
    disk.tamper("UPDATE event SET subject = 'x' WHERE sequence = 3");
    let error = SqliteLog::open(&disk.path).unwrap_err();
    assert!(matches!(error, StoreError::Chain { source: ChainBreak::Hash { sequence: 3 }, .. }));
    let disk = Disk::with_rows(3).await;
    disk.tamper("DELETE FROM event WHERE sequence < 3");
    let error = SqliteLog::open(&disk.path).unwrap_err();
    assert!(matches!(error, StoreError::Chain { source: ChainBreak::Gap { expected: 1, found: 3 }, .. }));
}

#[test]
fn a_batch_that_fails_takes_nothing_of_the_others_with_it() {
    let disk = Disk::new();
    let mut connection = disk.connection();
    connection
        .execute_batch(
            "CREATE TEMP TRIGGER poison BEFORE INSERT ON event WHEN NEW.queue_id = 'bad'
             BEGIN SELECT RAISE(ABORT, 'poison'); END",
        )
        .unwrap();
    let batches = vec![vec![entry("Q1")], vec![entry("Q2"), entry("bad")], vec![entry("Q3")]];
    let outcomes = commit(&mut connection, &disk.path, batches);
    assert_eq!(outcomes[0].as_ref().unwrap()[0].sequence, 1);
    assert!(matches!(**outcomes[1].as_ref().unwrap_err(), StoreError::Sqlite { call: "add a row to", .. }));
    assert_eq!(outcomes[2].as_ref().unwrap()[0].sequence, 2);
    assert_eq!(rows(&disk.path), 2);
    reader::check_tail(&connection, &disk.path).unwrap();
}

#[test]
fn a_full_disk_fails_the_whole_transaction_and_the_next_one_works_again() {
    let disk = Disk::new();
    let mut connection = disk.connection();
    let pages: i64 = connection.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
    let limit = |connection: &Connection, pages: i64| {
        connection.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(())).unwrap();
    };
    limit(&connection, pages + 2);
    let large = |n: i64| Entry { details: Some("x".repeat(20_000)), ..entry(&format!("Q{n}")) };
    let outcomes = commit(&mut connection, &disk.path, vec![vec![entry("Q0")], vec![large(1)], vec![large(2)]]);
    for outcome in outcomes.iter().skip(1) {
        let StoreError::Sqlite { source, .. } = &**outcome.as_ref().unwrap_err() else { panic!("{outcome:?}") };
        assert_eq!(source.sqlite_error_code(), Some(rusqlite::ErrorCode::DiskFull));
    }
    // Whatever was told is what stands.
    assert_eq!(rows(&disk.path), i64::from(outcomes[0].is_ok()));
    limit(&connection, 1_000_000);
    let outcomes = commit(&mut connection, &disk.path, vec![vec![entry("Q0")], vec![large(1), large(2)]]);
    assert!(outcomes.iter().all(Result::is_ok));
    assert_eq!(rows(&disk.path), 3);
    reader::check_tail(&connection, &disk.path).unwrap();
}

#[test]
fn a_commit_that_fails_leaves_nothing_and_is_told_to_every_caller() {
    let disk = Disk::new();
    let mut connection = disk.connection();
    // A deferred constraint is checked by COMMIT, which then fails and leaves the transaction open.
    connection
        .execute_batch(
            "PRAGMA foreign_keys = ON;
             CREATE TABLE parent (id INTEGER PRIMARY KEY);
             CREATE TABLE child (id INTEGER REFERENCES parent DEFERRABLE INITIALLY DEFERRED);
             CREATE TEMP TRIGGER orphan AFTER INSERT ON event BEGIN INSERT INTO child VALUES (NEW.sequence); END",
        )
        .unwrap();
    let outcomes = commit(&mut connection, &disk.path, vec![vec![entry("Q1")], vec![entry("Q2")]]);
    for outcome in outcomes {
        assert!(matches!(*outcome.unwrap_err(), StoreError::Sqlite { call: "commit to", .. }));
    }
    assert_eq!(rows(&disk.path), 0);
    connection.execute_batch("DROP TRIGGER orphan").unwrap();
    let outcomes = commit(&mut connection, &disk.path, vec![vec![entry("Q1")]]);
    assert_eq!(outcomes[0].as_ref().unwrap()[0].sequence, 1);
}

#[test]
fn a_transaction_that_was_left_open_does_not_block_the_writer() {
    let disk = Disk::new();
    let mut connection = disk.connection();
    connection.execute_batch("BEGIN IMMEDIATE").unwrap();
    connection
        .execute("INSERT INTO event (sequence, at, kind, hash) VALUES (1, 0, 'arrival', ?1)", params![[0_u8; 32]])
        .unwrap();
    let outcomes = commit(&mut connection, &disk.path, vec![vec![entry("Q1")]]);
    assert_eq!(outcomes[0].as_ref().unwrap()[0].sequence, 1);
    assert_eq!(rows(&disk.path), 1);
}

#[tokio::test]
async fn a_locked_database_is_an_error_and_the_writer_recovers() {
    let disk = Disk::new();
    let connection = disk.connection();
    connection.busy_timeout(Duration::from_millis(20)).unwrap();
    let writer = Writer::start(connection, &disk.path).unwrap();
    let other = Connection::open(&disk.path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = writer.write(Change::Entries(vec![entry("Q1")])).await.unwrap_err();
    assert!(matches!(*error, StoreError::Sqlite { call: "begin a transaction of", .. }));
    // Readers are not held up by it.
    assert!(LogReader::open(&disk.path).unwrap().of_queue_file("Q1").await.unwrap().is_empty());
    other.execute_batch("ROLLBACK").unwrap();
    assert!(writer.write(Change::Entries(vec![entry("Q1")])).await.unwrap()[0].is_new);
}

#[tokio::test]
async fn the_error_at_the_port_names_call_file_and_cause() {
    let disk = Disk::with_rows(1).await;
    let log = disk.log();
    disk.tamper("UPDATE event SET kind = 'joke'");
    let error = log.of_queue_file("Q1").await.unwrap_err();
    let chain: Vec<String> = std::iter::successors(Some(&error as &(dyn Error + 'static)), |&error| error.source())
        .map(ToString::to_string)
        .collect();
    assert_eq!(chain[0], "the event log could not read the entries of a queue file");
    assert!(chain[1].contains("log.db is not as it was written"), "{chain:?}");
    assert_eq!(chain[2], "the kind of row 1 holds no value that was ever written there");
}
