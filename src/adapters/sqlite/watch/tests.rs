//! The watch as a port, followed through every order of events, and its speed with very many rows.

use std::path::PathBuf;

use rusqlite::params_from_iter;
use tempfile::TempDir;

use super::*;
use crate::adapters::sqlite::{SqliteLog, file};
use crate::legal_log::Slot;
use crate::legal_log::details::ReceivedNotification;
use crate::legal_log::seal::Seal;
use crate::message::wire::Kind;
use crate::operations::ports::{EventLog, Purging, Watch};

const ACCEPTED: i64 = 1_700_000_000;
const BRUNO: &str = "Bruno@beta.example";
const CARLA: &str = "carla@alfa.example";

fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.db");
    (folder, path)
}

fn entry(kind: EventKind, id: &str, recipient: Option<&str>) -> Entry {
    Entry {
        queue_id: Some(format!("Q{id}")),
        pec_msgid: Some(format!("{id}@alfa.example").parse().unwrap()),
        sender: Some("anna@alfa.example".into()),
        recipient: recipient.map(str::to_owned),
        ..Entry::new(kind, TemporalReference::from_unix(ACCEPTED))
    }
}

/// An arrival for bruno, carla and an ordinary address, and its acceptance.
fn accepted(id: &str) -> Vec<Entry> {
    let details = format!(
        r#"{{"here":[],"recipients":[["{BRUNO}","certificato"],["{CARLA}","certificato"],["mario@x.example","esterno"]]}}"#
    );
    let arrival = Entry { details: Some(details), ..entry(EventKind::Arrival, id, None) };
    let slot = Some(Slot::acceptance(arrival.pec_msgid.as_ref().unwrap()));
    vec![arrival, Entry { slot, ..entry(EventKind::Acceptance, id, None) }]
}

fn notice(kind: EventKind, id: &str, recipient: &str) -> Entry {
    let bare = entry(kind, id, Some(recipient));
    let slot = Some(Slot::timeout(bare.pec_msgid.as_ref().unwrap(), &recipient.parse().unwrap(), kind));
    Entry { slot, ..bare }
}

fn received(kind: Kind, id: &str, recipient: Option<&str>, taken: &[&str]) -> Entry {
    let taken = taken.iter().map(|text| text.to_string()).collect();
    let details = ReceivedNotification { kind: kind.token().into(), taken, ..ReceivedNotification::default() };
    let details = serde_json::to_string(&details).unwrap();
    Entry { details: Some(details), ..entry(EventKind::NotificationReceived, id, recipient) }
}

/// Every open watch as `id recipient progress`.
async fn watches(log: &SqliteLog) -> Vec<String> {
    let mut all = Vec::new();
    for progress in Progress::OPEN {
        for one in log.open(progress, TemporalReference::from_unix(ACCEPTED), None).await.unwrap() {
            all.push(format!(
                "{} {} {}",
                one.id.as_str().split('@').next().unwrap(),
                one.recipient,
                name(one.progress)
            ));
        }
    }
    all.sort();
    all
}

#[tokio::test]
async fn an_acceptance_opens_a_watch_for_each_certified_recipient_and_news_change_or_end_it() {
    let (_folder, path) = folder();
    let log = SqliteLog::open(&path).unwrap();
    log.record(accepted("a")).await.unwrap();
    assert_eq!(watches(&log).await, ["a bruno@beta.example sent", "a carla@alfa.example sent"]);
    log.record(vec![received(Kind::ServerServerAcceptance, "a", None, &[BRUNO])]).await.unwrap();
    log.record(vec![entry(EventKind::TakeCharge, "a", Some(CARLA))]).await.unwrap();
    assert_eq!(watches(&log).await, ["a bruno@beta.example taken-in-charge", "a carla@alfa.example taken-in-charge"]);
    log.record(vec![entry(EventKind::Delivery, "a", Some("CARLA@alfa.example"))]).await.unwrap();
    log.record(vec![received(Kind::NonDelivery, "a", Some("bruno@BETA.example"), &[])]).await.unwrap();
    assert_eq!(watches(&log).await, [] as [&str; 0]);
}

#[tokio::test]
async fn an_acceptance_that_is_recorded_a_day_late_owes_nothing_for_two_hours() {
    let (_folder, path) = folder();
    let log = SqliteLog::open(&path).unwrap();
    let mut late = accepted("a");
    late[0].at = TemporalReference::from_unix(ACCEPTED + 24 * 3600);
    log.record(late).await.unwrap();
    let since = log.earliest(Progress::Sent).await.unwrap().unwrap().unix();
    assert_eq!(since + 12 * 3600, ACCEPTED + 26 * 3600);
}

#[tokio::test]
async fn news_may_come_before_the_acceptance_again_after_the_end_and_about_anything() {
    let (_folder, path) = folder();
    let log = SqliteLog::open(&path).unwrap();
    let taken = received(Kind::ServerServerAcceptance, "a", None, &[BRUNO]);
    let delivered = received(Kind::Delivery, "a", Some(CARLA), &[]);
    log.record(vec![taken.clone(), delivered.clone()]).await.unwrap();
    assert_eq!(watches(&log).await, [] as [&str; 0], "nothing was accepted yet");
    log.record(accepted("a")).await.unwrap();
    assert_eq!(watches(&log).await, ["a bruno@beta.example taken-in-charge"]);
    let about_nobody = received(Kind::Delivery, "a", Some("nobody@beta.example"), &[]);
    let about_nothing = received(Kind::Delivery, "unknown", Some(BRUNO), &[]);
    log.record(vec![taken, delivered, about_nobody, about_nothing]).await.unwrap();
    // A queue file that is offered again records its arrival and acceptance again.
    log.record(vec![accepted("a").remove(1)]).await.unwrap();
    assert_eq!(watches(&log).await, ["a bruno@beta.example taken-in-charge"]);
}

#[tokio::test]
async fn a_notice_is_recorded_once_and_only_while_it_is_owed() {
    let (_folder, path) = folder();
    let log = SqliteLog::open(&path).unwrap();
    log.record(accepted("a")).await.unwrap();
    let first = |recipient| notice(EventKind::FirstTimeout, "a", recipient);
    let last = |recipient| notice(EventKind::FinalTimeout, "a", recipient);
    // Carla's delivery comes between the decision and the commit.
    log.record(vec![entry(EventKind::Delivery, "a", Some(CARLA))]).await.unwrap();
    let recorded = log.record_owed(vec![first(BRUNO), first(CARLA)]).await.unwrap();
    assert_eq!(recorded.iter().map(|one| one.entry.recipient.as_deref()).collect::<Vec<_>>(), [Some(BRUNO)]);
    assert!(log.record_owed(vec![first(BRUNO)]).await.unwrap().is_empty());
    assert_eq!(watches(&log).await, ["a bruno@beta.example warned"]);
    assert_eq!(log.record_owed(vec![last(BRUNO), last(CARLA)]).await.unwrap().len(), 1);
    assert!(log.record_owed(vec![first(BRUNO), last(BRUNO)]).await.unwrap().is_empty());
    assert_eq!(watches(&log).await, [] as [&str; 0]);
}

#[tokio::test]
async fn a_notice_taken_in_charge_meanwhile_is_the_final_one_only() {
    let (_folder, path) = folder();
    let log = SqliteLog::open(&path).unwrap();
    log.record(accepted("a")).await.unwrap();
    log.record(vec![received(Kind::ServerServerAcceptance, "a", None, &[BRUNO])]).await.unwrap();
    assert!(log.record_owed(vec![notice(EventKind::FirstTimeout, "a", BRUNO)]).await.unwrap().is_empty());
    assert_eq!(log.record_owed(vec![notice(EventKind::FinalTimeout, "a", BRUNO)]).await.unwrap().len(), 1);
}

#[tokio::test]
async fn what_is_recorded_and_not_sent_is_known_after_a_restart() {
    let (_folder, path) = folder();
    let log = SqliteLog::open(&path).unwrap();
    log.record(accepted("a")).await.unwrap();
    let notices = vec![notice(EventKind::FirstTimeout, "a", BRUNO), notice(EventKind::FirstTimeout, "a", CARLA)];
    let recorded = log.record_owed(notices).await.unwrap();
    log.mark_sent(recorded[0].sequence).await.unwrap();
    log.close().await.unwrap();
    SqliteLog::rebuild(&path).unwrap();

    let log = SqliteLog::open(&path).unwrap();
    let unsent = log.unsent(0).await.unwrap();
    assert_eq!(unsent.iter().map(|one| &one.entry).collect::<Vec<_>>(), [&recorded[1].entry]);
    assert!(log.unsent(recorded[1].sequence).await.unwrap().is_empty());
    assert_eq!(watches(&log).await, ["a bruno@beta.example warned", "a carla@alfa.example warned"]);
    log.mark_sent(recorded[1].sequence).await.unwrap();
    assert!(log.unsent(0).await.unwrap().is_empty());
}

#[tokio::test]
async fn what_is_rebuilt_is_what_was_followed() {
    let (_folder, path) = folder();
    let log = SqliteLog::open(&path).unwrap();
    for id in ["a", "b", "c"] {
        log.record(accepted(id)).await.unwrap();
    }
    log.record(vec![received(Kind::ServerServerAcceptance, "a", None, &[BRUNO, CARLA])]).await.unwrap();
    log.record(vec![entry(EventKind::NonDelivery, "b", Some(BRUNO))]).await.unwrap();
    log.record_owed(vec![notice(EventKind::FirstTimeout, "c", BRUNO)]).await.unwrap();
    let followed = watches(&log).await;
    assert_eq!(followed.len(), 5);
    log.close().await.unwrap();
    // Another form is made anew at the start, and so is what somebody spoilt.
    let spoil = |sql: &str| rusqlite::Connection::open(&path).unwrap().execute_batch(sql).unwrap();
    spoil("DELETE FROM watch; UPDATE projection SET form = 0");
    let log = SqliteLog::open(&path).unwrap();
    assert_eq!(watches(&log).await, followed);
    log.close().await.unwrap();
    spoil("UPDATE watch SET progress = 'odd'");
    let log = SqliteLog::open(&path).unwrap();
    let error = log.record(vec![entry(EventKind::Delivery, "a", Some(BRUNO))]).await.unwrap_err();
    assert!(error.source.to_string().ends_with("run `pec-milter log rebuild`"), "{}", error.source);
    log.close().await.unwrap();
    assert_eq!(SqliteLog::rebuild(&path).unwrap().0, 5);
    assert_eq!(watches(&SqliteLog::open(&path).unwrap()).await, followed);
}

/// The first day is held, and the second, which tells how its messages ended, is purged.
#[tokio::test]
async fn what_was_accepted_before_rows_that_are_gone_is_not_watched_again() {
    let (_folder, path) = folder();
    let log = SqliteLog::open(&path).unwrap();
    log.record(accepted("a")).await.unwrap();
    let ends = [BRUNO, CARLA].map(|recipient| entry(EventKind::Delivery, "a", Some(recipient)));
    log.record(ends.to_vec()).await.unwrap();
    log.record(accepted("b")).await.unwrap();
    let at = TemporalReference::from_unix(ACCEPTED);
    let link = async |sequence| log.reader().link(sequence).await.unwrap().unwrap();
    let seal = Seal {
        number: 2,
        provider: "Alfa".into(),
        sealed: at,
        before: link(2).await,
        last: link(4).await,
        newest: at,
        previous: [0; 32],
        rows: [0; 32],
    };
    log.purge(seal, at, None).await.unwrap();
    let followed = watches(&log).await;
    assert_eq!(followed, ["b bruno@beta.example sent", "b carla@alfa.example sent"]);
    log.close().await.unwrap();
    assert_eq!(SqliteLog::rebuild(&path).unwrap().0, 2);
    assert_eq!(watches(&SqliteLog::open(&path).unwrap()).await, followed);
}

#[tokio::test]
async fn an_older_log_is_watched_from_its_first_acceptance_on() {
    let (_folder, path) = folder();
    let connection = file::open_to_write(&path, &file::MIGRATIONS[..1]).unwrap();
    let mut last = crate::legal_log::Link::BEFORE_FIRST;
    for entry in accepted("a") {
        last = last.next(&entry);
        row::insert(&connection, &path, &last, &entry).unwrap();
    }
    drop(connection);
    assert_eq!(watches(&SqliteLog::open(&path).unwrap()).await.len(), 2);
}

#[tokio::test]
async fn a_new_acceptance_is_told() {
    let (_folder, path) = folder();
    let log = SqliteLog::open(&path).unwrap();
    log.record(accepted("a")).await.unwrap();
    log.accepted().await;
    log.record(accepted("a").split_off(1)).await.unwrap();
    let nothing = tokio::time::timeout(std::time::Duration::ZERO, log.accepted()).await;
    assert!(nothing.is_err(), "the same acceptance again is no news");
}

/// 50 000 open watches in pages, each row once, and every question of the task answered by an index.
#[tokio::test]
async fn many_open_watches_need_no_scan() {
    const ROWS: usize = 50_000;
    let (_folder, path) = folder();
    let log = SqliteLog::open(&path).unwrap();
    let mut connection = file::open_to_write(&path, file::MIGRATIONS).unwrap();
    let transaction = connection.transaction().unwrap();
    for n in 0..ROWS {
        let (id, accepted) = (format!("{n}@alfa.example"), ACCEPTED + (n as i64) / 3);
        let insert = "INSERT INTO watch VALUES (?1, 'bruno@beta.example', ?2, ?3)";
        transaction.execute(insert, params![id, accepted, if n % 10 == 0 { "warned" } else { "sent" }]).unwrap();
    }
    transaction.commit().unwrap();

    for (question, parameters, index) in [
        (OPEN.to_owned(), 6, "watch_by_age (progress=? AND (accepted,pec_msgid,recipient)>(?,?,?) AND accepted<?)"),
        (EARLIEST.to_owned(), 1, "watch_by_age (progress=?"),
        (format!("SELECT * FROM event {UNSENT}"), 2, "event USING INTEGER PRIMARY KEY"),
        ("SELECT progress FROM watch WHERE pec_msgid = ?1 AND recipient = ?2".into(), 2, "PRIMARY KEY (pec_msgid=?"),
    ] {
        let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {question}")).unwrap();
        let plan: Vec<String> = statement
            .query_map(params_from_iter(vec!["1"; parameters]), |row| row.get("detail"))
            .unwrap()
            .map(Result::unwrap)
            .collect();
        let plan = plan.join("\n");
        assert!(!plan.contains("SCAN") && !plan.contains("TEMP B-TREE") && plan.contains(index), "{question}: {plan}");
    }

    let earliest = log.earliest(Progress::Sent).await.unwrap();
    assert_eq!(earliest, Some(TemporalReference::from_unix(ACCEPTED)));
    assert_eq!(log.earliest(Progress::TakenInCharge).await.unwrap(), None);
    let until = TemporalReference::from_unix(ACCEPTED + ROWS as i64);
    let (mut seen, mut after) = (std::collections::HashSet::new(), None);
    loop {
        let page = log.open(Progress::Sent, until, after.clone()).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.clone());
        for one in page {
            assert!(seen.insert(one.id));
        }
    }
    assert_eq!(seen.len(), ROWS - ROWS / 10);
    let none = log.open(Progress::Sent, TemporalReference::from_unix(ACCEPTED - 1), None).await.unwrap();
    assert!(none.is_empty(), "only what is old enough");
}
