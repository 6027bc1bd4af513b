//! What is searched is what is there: every combination against a plain look at all entries, page by page.

use std::path::PathBuf;

use tempfile::TempDir;

use super::*;
use crate::adapters::sqlite::{LogWalk, SqliteLog, file};
use crate::legal_log::{Place, Recorded};
use crate::model::TemporalReference;
use crate::operations::ports::{EventLog, LogEvidence};

const START: i64 = 1_700_000_000;
const ANNA: &str = "Anna@alfa.example";
const CARLA: &str = "carla@alfa.example";
const BRUNO: &str = "bruno@beta.example";
const DARIO: &str = "dario@beta.example";

fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.db");
    (folder, path)
}

fn instant(seconds: i64) -> TemporalReference {
    TemporalReference::from_unix(START + seconds)
}

/// A transaction as both ends of it are recorded, its first instant, and what becomes of bruno; carla is not heard of.
fn transaction(n: i64, sender: &str, outcome: EventKind) -> Vec<Entry> {
    let id: PecMsgid = format!("pec.{n}@alfa.example").parse().unwrap();
    let of = |kind, seconds| Entry {
        queue_id: Some(format!("Q{n}")),
        pec_msgid: Some(id.clone()),
        client_msgid: format!("<c.{n}@client.example>").parse().ok(),
        sender: Some(sender.into()),
        provider: Some("Alfa".into()),
        ..Entry::new(kind, instant(n * 10 + seconds))
    };
    let details = format!(
        r#"{{"here":["{CARLA}"],"recipients":[["{BRUNO}","certificato"],["{CARLA}","certificato"],["m@x.example","esterno"]]}}"#
    );
    let arrival =
        Entry { details: Some(details), slot: Some(Slot::arrival(&format!("Q{n}"))), ..of(EventKind::Arrival, 1) };
    // Recorded after the arrival, with the earlier instant of the envelope.
    let acceptance = Entry {
        notification: format!("<n.{n}@alfa.example>").parse().ok(),
        slot: Some(Slot::acceptance(&id)),
        ..of(EventKind::Acceptance, 0)
    };
    let end = match outcome {
        EventKind::NotificationReceived => Entry {
            provider: Some("Beta PEC".into()),
            details: Some(
                r#"{"kind":"avvenuta-consegna","error":"nessuno","at":1,"reason":null,"mailboxes":[]}"#.into(),
            ),
            ..of(outcome, 5)
        },
        _ => of(outcome, 5),
    };
    vec![arrival, acceptance, Entry { recipient: Some(BRUNO.into()), queue_id: None, ..end }]
}

fn sample() -> Vec<Entry> {
    let mut entries = Vec::new();
    for n in 0..40 {
        let sender = if n % 3 == 0 { CARLA } else { ANNA };
        let outcomes = [EventKind::NotificationReceived, EventKind::NonDelivery, EventKind::FinalTimeout];
        entries.extend(transaction(n, sender, outcomes[n as usize % 3]));
        entries.push(Entry {
            sender: Some(BRUNO.into()),
            details: Some(format!(r#"{{"recipients":["{DARIO}","{CARLA}"]}}"#)),
            ..Entry::new(EventKind::Refusal, instant(n * 10))
        });
    }
    entries.push(Entry::new(EventKind::Seal, instant(7)));
    entries
}

async fn log_of(path: &Path, entries: Vec<Entry>) -> (SqliteLog, Vec<Recorded>) {
    let log = SqliteLog::open(path).unwrap();
    let recorded = log.record(entries).await.unwrap();
    (log, recorded)
}

/// All pages of a question, one after the other.
async fn found(log: &SqliteLog, query: &Query, limit: usize) -> Vec<i64> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let page = log.reader().search(query.clone(), after, limit).await.unwrap();
        assert!(page.found.len() <= limit && (page.next.is_none() || page.found.len() == limit));
        all.extend(page.found.iter().map(|found| found.link.sequence));
        match page.next {
            Some(next) => after = Some(next),
            None => return all,
        }
    }
}

/// What a look at every entry finds.
fn expected(all: &[Recorded], query: &Query) -> Vec<i64> {
    let arrival = |of: &Entry| {
        all.iter().map(|one| &one.entry).find(|one| one.kind == EventKind::Arrival && one.queue_id == of.queue_id)
    };
    let mut fitting: Vec<&Recorded> = all.iter().filter(|one| query.fits(&one.entry, arrival(&one.entry))).collect();
    fitting.sort_by_key(|one| Place { at: one.entry.at, sequence: one.sequence });
    fitting.into_iter().map(|one| one.sequence).collect()
}

/// What `log verify` says of the file beside its rows.
fn defects(path: &Path) -> Vec<String> {
    LogWalk::open(path).unwrap().defects().unwrap()
}

#[tokio::test]
async fn whatever_is_not_as_the_rows_tell_is_a_defect_until_it_is_made_anew() {
    let (_folder, path) = folder();
    let (log, _) = log_of(&path, sample()).await;
    log.close().await.unwrap();
    assert_eq!(defects(&path), [] as [&str; 0]);
    let by = |number: &str| format!("(SELECT {number} FROM search_by_pair ORDER BY sequence LIMIT 1)");
    for (sql, tables) in [
        ("DELETE FROM search_by_pair WHERE sequence = 5".into(), &["search_by_pair"][..]),
        ("DELETE FROM search_by_sender WHERE sequence = 5".into(), &["search_by_sender"]),
        ("DELETE FROM search_by_msgid WHERE sequence = 5".into(), &["search_by_msgid"]),
        ("UPDATE search_by_msgid SET sequence = 7 WHERE sequence = 5".into(), &["search_by_msgid"]),
        ("UPDATE search_by_msgid SET hash = hash + 1 WHERE sequence = 5".into(), &["search_by_msgid"]),
        ("INSERT INTO search_by_msgid VALUES (1, 2, 3)".into(), &["search_by_msgid"]),
        ("UPDATE search_by_sender SET at = at + 1 WHERE sequence = 5".into(), &["search_by_sender"]),
        (format!("UPDATE search_by_pair SET sender = {} WHERE sequence = 9", by("recipient")), &["search_by_pair"]),
        (
            "UPDATE search_class SET outcome = 'x' WHERE outcome = 'open'".into(),
            &["search_by_sender", "search_by_pair"],
        ),
        ("UPDATE search_address SET address = 'x' WHERE id = 1".into(), &["search_by_sender", "search_by_pair"]),
        ("DELETE FROM search_provider WHERE id = 1".into(), &["search_by_sender", "search_by_pair"]),
    ] {
        Connection::open(&path).unwrap().execute_batch(&sql).unwrap();
        let told = tables
            .iter()
            .map(|table| format!("{table} is made from the rows and not as they tell; run `pec-milter log rebuild`"));
        assert_eq!(defects(&path), told.collect::<Vec<_>>(), "{sql}");
        SqliteLog::rebuild(&path).unwrap();
        assert_eq!(defects(&path), [] as [&str; 0], "{sql}");
    }
}

#[tokio::test]
async fn every_combination_finds_what_a_look_at_every_entry_finds() {
    let (_folder, path) = folder();
    let (log, all) = log_of(&path, sample()).await;
    let none = || vec![None];
    let texts = |texts: &[&str]| [none(), texts.iter().map(|text| Some(text.to_string())).collect()].concat();
    let kinds = [EventKind::Acceptance, EventKind::FinalTimeout, EventKind::Refusal, EventKind::Purge].map(Some);
    let outcomes = [Outcome::Delivered, Outcome::Timeout, Outcome::Refused].map(Some);
    let mut hits = 0;
    for sender in texts(&["ANNA@alfa.example", BRUNO, "nobody@x.example"]) {
        for recipient in texts(&["Bruno@beta.example", CARLA, "m@x.example"]) {
            for provider in texts(&["beta pec", "Gamma"]) {
                for kind in [vec![None], kinds.to_vec()].concat() {
                    for outcome in [vec![None], outcomes.to_vec()].concat() {
                        for period in [instant(-9)..instant(999), instant(100)..instant(205)] {
                            let (sender, recipient, provider) = (sender.clone(), recipient.clone(), provider.clone());
                            let query =
                                Query { sender, recipient, provider, kind, outcome, ..Query::of(period.clone()) };
                            let wanted = expected(&all, &query);
                            assert_eq!(found(&log, &query, 7).await, wanted, "{query:?}");
                            hits += wanted.len();
                        }
                    }
                }
            }
        }
    }
    assert!(hits > 1000, "{hits}");
}

#[tokio::test]
async fn a_message_id_of_any_kind_leads_to_its_transaction() {
    let (_folder, path) = folder();
    let (log, all) = log_of(&path, sample()).await;
    let of_seven: Vec<i64> =
        all.iter().filter(|one| one.entry.queue_id.as_deref() == Some("Q7")).map(|one| one.sequence).collect();
    let everything = || Query::of(instant(-9)..instant(999));
    for msgid in ["pec.7@alfa.example", "<pec.7@alfa.example>", "c.7@client.example", "<n.7@alfa.example>"] {
        let query = Query { msgid: Some(msgid.into()), ..everything() };
        let mut rows = found(&log, &query, 2).await;
        rows.sort();
        assert_eq!(rows, [of_seven[0], of_seven[1], of_seven[1] + 1], "{msgid}");
        let about_carla = Query { recipient: Some(CARLA.into()), ..query.clone() };
        assert_eq!(found(&log, &about_carla, 9).await.len(), 2, "arrival and acceptance");
        let of_another = Query { sender: Some(BRUNO.into()), ..query };
        assert!(found(&log, &of_another, 9).await.is_empty());
    }
    let unknown = Query { msgid: Some("c.7@client.exampl".into()), ..everything() };
    assert!(found(&log, &unknown, 9).await.is_empty());
}

fn open_of(recipient: Option<&str>, sender: Option<&str>) -> Query {
    let owned = |text: Option<&str>| text.map(str::to_owned);
    let (recipient, sender) = (owned(recipient), owned(sender));
    Query { recipient, sender, outcome: Some(Outcome::Open), ..Query::of(instant(-9)..instant(999)) }
}

#[tokio::test]
async fn what_is_open_is_found_until_it_ends() {
    let (_folder, path) = folder();
    let accepted = transaction(1, ANNA, EventKind::FirstTimeout);
    let id = accepted[0].pec_msgid.clone();
    let (log, _) = log_of(&path, accepted).await;
    for query in [open_of(None, None), open_of(Some(BRUNO), None), open_of(Some(CARLA), Some(ANNA))] {
        assert_eq!(found(&log, &query, 9).await, [2], "{query:?}");
        let by_msgid = Query { msgid: id.as_ref().map(|id| id.to_string()), ..query };
        assert_eq!(found(&log, &by_msgid, 9).await, [2]);
    }
    assert!(found(&log, &open_of(Some("m@x.example"), None), 9).await.is_empty(), "nothing is awaited of him");
    let all = Query::of(instant(-9)..instant(999));
    assert_eq!(found(&log, &all, 9).await, [2, 1, 3], "each row once");
    let anna = Query { sender: Some(ANNA.into()), ..all };
    assert_eq!(found(&log, &anna, 9).await, [2, 1, 3], "each row once");

    let end = |recipient: &str| Entry {
        pec_msgid: id.clone(),
        recipient: Some(recipient.into()),
        ..Entry::new(EventKind::Delivery, instant(99))
    };
    log.record(vec![end("BRUNO@beta.example")]).await.unwrap();
    assert!(found(&log, &open_of(Some(BRUNO), None), 9).await.is_empty());
    assert_eq!(found(&log, &open_of(None, Some(ANNA)), 9).await, [2]);
    log.record(vec![end(CARLA)]).await.unwrap();
    assert!(found(&log, &open_of(None, Some(ANNA)), 9).await.is_empty());
    assert!(found(&log, &open_of(Some(CARLA), None), 9).await.is_empty());
}

/// Every row of the tables, with names in place of numbers.
fn tables(path: &Path) -> Vec<String> {
    let connection = Connection::open(path).unwrap();
    let mut rows = Vec::new();
    for question in [
        "SELECT format('%s %s %s/%s %d %d', address, name, kind, outcome, at, sequence) FROM search_by_sender
         JOIN search_class c ON c.id = class LEFT JOIN search_address a ON a.id = sender
         LEFT JOIN search_provider p ON p.id = provider",
        "SELECT format('to %s from %s %s/%s %d %d', a.address, s.address, kind, outcome, at, sequence)
         FROM search_by_pair JOIN search_class c ON c.id = class JOIN search_address a ON a.id = recipient
         LEFT JOIN search_address s ON s.id = sender",
        "SELECT format('address %s', address) FROM search_address",
        "SELECT format('%d %d %d', hash, transaction_hash, sequence) FROM search_by_msgid",
    ] {
        let mut statement = connection.prepare(question).unwrap();
        let found = statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap);
        rows.extend(found.collect::<Vec<String>>());
    }
    rows.sort();
    rows
}

#[tokio::test]
async fn what_is_rebuilt_is_what_was_followed() {
    let (_folder, path) = folder();
    let (log, all) = log_of(&path, sample()).await;
    log.close().await.unwrap();
    let followed = tables(&path);
    assert!(followed.len() > 300 && followed.iter().any(|row| row.contains("/open")), "{followed:#?}");
    assert_eq!(SqliteLog::rebuild(&path).unwrap().1, all.len() as i64);
    assert_eq!(tables(&path), followed);
    let spoil = "DELETE FROM search_by_pair; UPDATE search_by_sender SET at = 1; UPDATE projection SET form = 0";
    Connection::open(&path).unwrap().execute_batch(spoil).unwrap();
    SqliteLog::open(&path).unwrap().close().await.unwrap();
    assert_eq!(tables(&path), followed, "another form is made anew at the start");
}

#[tokio::test]
async fn what_a_purge_removes_is_found_no_longer() {
    let (_folder, path) = folder();
    let (log, all) = log_of(&path, sample()).await;
    log.record(vec![purge(1, all.len() as i64)]).await.unwrap();
    let left = tables(&path);
    let is_right = |row: &String| row.contains("purge/") || row.contains("address ");
    assert!(left.iter().all(is_right), "{left:#?}");
    assert!(left.iter().any(|row| row.contains("purge/")));
    let known = |address: &str| -> bool {
        let connection = Connection::open(&path).unwrap();
        let question = "SELECT EXISTS (SELECT 1 FROM search_address WHERE address = ?1)";
        connection.query_row(question, [address], |row| row.get(0)).unwrap()
    };
    assert_eq!(
        (known(CARLA), known(BRUNO), known(DARIO)),
        (false, false, false),
        "the names go with the last row of theirs"
    );
}

#[test]
fn following_an_event_needs_no_scan() {
    let connection = Connection::open_in_memory().unwrap();
    file::MIGRATIONS.iter().for_each(|migration| connection.execute_batch(migration).unwrap());
    for (question, parameters, index) in [
        (format!("SELECT * FROM event {OF_SLOT}"), 1, "event_by_slot"),
        (WATCHED.to_owned(), 1, "PRIMARY KEY (pec_msgid=?"),
        (FORGET_ADDRESS.to_owned(), 1, "search_by_recipient (recipient=?"),
        (KNOWN.to_owned(), 3, "search_by_msgid USING PRIMARY KEY (hash=? AND transaction_hash=?)"),
    ] {
        let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {question}")).unwrap();
        let plan: Vec<String> = statement
            .query_map(rusqlite::params_from_iter(vec!["1"; parameters]), |row| row.get("detail"))
            .unwrap()
            .map(Result::unwrap)
            .collect();
        let plan = plan.join("\n");
        assert!(!plan.contains("SCAN e") && !plan.contains("SCAN s") && plan.contains(index), "{question}: {plan}");
    }
}

/// Counted are the instructions of SQLite's machine: they are the same on every machine, and more where more is looked at.
#[tokio::test]
async fn a_message_id_that_everybody_repeats_makes_no_event_dearer() {
    let (_folder, path) = folder();
    let repeated = "<1@client.example>";
    let of = |n: i64| Entry {
        pec_msgid: format!("pec.{n}@alfa.example").parse().ok(),
        client_msgid: repeated.parse().ok(),
        ..Entry::new(EventKind::Arrival, instant(n))
    };
    let (log, _) = log_of(&path, (0..2).map(of).collect()).await;
    let steps = |n: i64| -> i32 {
        let connection = Connection::open(&path).unwrap();
        let mut statement = connection.prepare(KNOWN).unwrap();
        let id = format!("pec.{n}@alfa.example");
        let is_known: bool = statement.query_row(params![hash(repeated), hash(&id), id], |row| row.get(0)).unwrap();
        assert_eq!(is_known, n < 3000, "{n}");
        statement.get_status(rusqlite::StatementStatus::VmStep)
    };
    let (last, none) = (steps(1), steps(9999));
    log.record((2..3000).map(of).collect()).await.unwrap();
    assert_eq!((steps(2999), steps(9999)), (last, none));

    let shown = log.reader().of_msgid(repeated).await.unwrap();
    assert_eq!((shown.entries.len(), shown.is_more), (crate::adapters::sqlite::NAMESAKES, true));
    assert!(shown.entries.iter().map(|one| one.sequence).eq(1..=100), "the first ones");
    assert!(!log.reader().of_msgid("pec.7@alfa.example").await.unwrap().is_more);
    let all = Query { msgid: Some("1@client.example".into()), ..Query::of(instant(0)..instant(9999)) };
    assert!(found(&log, &all, 999).await.into_iter().eq(1..=3000), "page by page all of them");
    assert!(found(&log, &all, 7).await.into_iter().eq(1..=3000), "page by page all of them");
    let late = Query { period: instant(2950)..instant(9999), ..all.clone() };
    assert!(found(&log, &late, 7).await.into_iter().eq(2951..=3000), "page by page all of them");

    // Nothing is read that does not stand in the page, or in the hundred that it is taken from.
    log.close().await.unwrap();
    let connection = Connection::open(&path).unwrap();
    connection
        .execute_batch("DROP TRIGGER event_refuses_update; UPDATE event SET kind = 'x' WHERE sequence > 300")
        .unwrap();
    let reader = SqliteLog::open_read_only(&path).unwrap();
    let page = reader.search(all.clone(), None, 150).await.unwrap();
    assert_eq!((page.found.len(), page.next.map(|next| next.sequence)), (150, Some(150)));
    let page = reader.search(all.clone(), page.next, 100).await.unwrap();
    assert_eq!((page.found.len(), page.next.map(|next| next.sequence)), (100, Some(250)));
    assert!(reader.search(all, page.next, 100).await.is_err(), "row 301 cannot be read");
}

/// Hundreds whose instants are the later, the earlier they were recorded.
#[tokio::test]
async fn a_repeated_message_id_is_found_hundred_by_hundred_in_order_of_recording() {
    let (_folder, path) = folder();
    let of = |n: i64, kind| Entry {
        pec_msgid: format!("pec.{n}@alfa.example").parse().ok(),
        client_msgid: "<1@client.example>".parse().ok(),
        ..Entry::new(kind, instant(1000 - n))
    };
    let ends = (0..250).map(|n| of(n, EventKind::NonDelivery));
    let entries: Vec<Entry> = (0..250).map(|n| of(n, EventKind::Arrival)).chain(ends).collect();
    let (log, _) = log_of(&path, entries).await;
    let query = Query { msgid: Some("1@client.example".into()), ..Query::of(instant(0)..instant(9999)) };
    let both = |n: i64| [n, n + 250];
    let expected: Vec<i64> =
        [1..=100, 101..=200, 201..=250].into_iter().flat_map(|all| all.rev().flat_map(both)).collect();
    for limit in [7, 100, 200, 999] {
        assert_eq!(found(&log, &query, limit).await, expected, "{limit}");
    }
}

fn purge(first: i64, last: i64) -> Entry {
    Entry {
        details: Some(format!(r#"{{"number":1,"first":{first},"last":{last},"purged":[]}}"#)),
        ..Entry::new(EventKind::Purge, instant(998))
    }
}

/// What a purge does to the events, behind its entry.
fn remove_events(path: &Path, first: i64, last: i64) {
    let connection = Connection::open(path).unwrap();
    // Notices that nobody sent here.
    connection.execute_batch("PRAGMA foreign_keys = OFF").unwrap();
    connection.execute("DELETE FROM event WHERE sequence BETWEEN ?1 AND ?2", [first, last]).unwrap();
}

#[tokio::test]
async fn what_a_purge_leaves_of_a_transaction_is_found_as_if_made_anew() {
    let client = |msgid: &str| Query { msgid: Some(msgid.into()), ..Query::of(instant(-9)..instant(997)) };
    // Of the transaction in rows 5 to 7, the arrival alone goes, then also the acceptance, then all; each alone, or after
    // the others.
    for ends in [vec![5], vec![6], vec![7], vec![5, 6, 7], vec![1, 5, 161]] {
        let (_folder, path) = folder();
        let (log, all) = log_of(&path, sample()).await;
        // Nobody is watched after thirty months.
        let end =
            |n: i64| Entry { recipient: Some(CARLA.into()), ..transaction(n, ANNA, EventKind::Delivery).remove(2) };
        log.record((0..40).map(end).collect()).await.unwrap();
        assert_eq!((all[4].entry.kind, all[5].entry.kind), (EventKind::Arrival, EventKind::Acceptance));
        let mut first = 1;
        for last in ends.clone() {
            log.record(vec![purge(first, last)]).await.unwrap();
            remove_events(&path, first, last);
            first = last + 1;
            assert_eq!(defects(&path), [] as [&str; 0], "{ends:?}: {last}");
            let followed = tables(&path);
            rebuild(&mut Connection::open(&path).unwrap(), &path).unwrap();
            let anew = tables(&path);
            let either = |one: &[String], other: &[String]| -> Vec<String> {
                one.iter().filter(|row| !other.contains(row)).cloned().collect()
            };
            assert_eq!(either(&followed, &anew), either(&anew, &followed), "{ends:?}: {last}");
            let mut of_transaction = found(&log, &client("c.1@client.example"), 9).await;
            of_transaction.sort_unstable();
            assert!(of_transaction.into_iter().eq((5..=7).chain([163]).filter(|row| *row > last)), "{ends:?}: {last}");
        }
    }
}

#[tokio::test]
async fn a_page_beside_a_purge_loses_nothing_of_what_is_left() {
    let everything = Query::of(instant(-9)..instant(999));
    let of_anna = Query { sender: Some(ANNA.into()), ..everything.clone() };
    for query in [of_anna, Query { recipient: Some(CARLA.into()), ..everything }] {
        let (_folder, path) = folder();
        let (log, _) = log_of(&path, sample()).await;
        let before = found(&log, &query, 7).await;
        // Their places lie in the tables still, as for a reader that found them just before.
        let gone = &before[3..6];
        let connection = Connection::open(&path).unwrap();
        connection.execute_batch("DROP TRIGGER event_refuses_delete; PRAGMA foreign_keys = OFF").unwrap();
        for sequence in gone {
            connection.execute("DELETE FROM event WHERE sequence = ?1", [sequence]).unwrap();
        }
        let (mut left, mut after) = (Vec::new(), None);
        loop {
            let page = log.reader().search(query.clone(), after, 4).await.unwrap();
            left.extend(page.found.iter().map(|found| found.link.sequence));
            let Some(next) = page.next else { break };
            after = Some(next);
        }
        let expected: Vec<i64> = before.iter().filter(|sequence| !gone.contains(sequence)).copied().collect();
        assert_eq!(left, expected, "{query:?}");
    }
}
