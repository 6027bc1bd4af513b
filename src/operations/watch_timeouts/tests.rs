//! Passes of the watch over a real log, with a clock and servers of the test's own.

use tempfile::TempDir;

use super::*;
use crate::adapters::sqlite::SqliteLog;
use crate::operations::testing::{Clock, Servers, alfa};
use crate::smime::testing;
use crate::transaction::{FINAL, FIRST};

const ACCEPTED: i64 = testing::NOW;
const ID: &str = "pec.1@alfa.example";
const ANNA: &str = "anna@alfa.example";
const BRUNO: &str = "Bruno@beta.example";

struct Bench {
    watch: TimeoutWatch<SqliteLog, Servers, Servers, Clock>,
    servers: Servers,
    clock: Clock,
    _folder: TempDir,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let log = Arc::new(SqliteLog::open(&folder.path().join("log.db")).unwrap());
        let (servers, clock) = (Servers::default(), Clock::default());
        // So that it is told through Postfix.
        servers.mailbox(ANNA, 451, "4.2.0 later");
        let watch = TimeoutWatch {
            current: Handle::new(alfa()),
            log,
            mailboxes: servers.clone(),
            injection: servers.clone(),
            instruments: clock.clone(),
        };
        Bench { watch, servers, clock, _folder: folder }
    }

    /// Records an arrival with these recipients and its acceptance.
    async fn accept(&self, recipients: &[&str]) {
        let recipients: Vec<_> = recipients.iter().map(|text| (text.to_string(), "certificato".to_owned())).collect();
        let details = serde_json::json!({ "here": [], "triggers": [], "mail_receipt": "ricevute@alfa.example",
            "accepted": ACCEPTED, "recipients": recipients, "replies": "anna@alfa.example", "requested": "completa" });
        let arrival = Entry { details: Some(details.to_string()), ..entry(EventKind::Arrival) };
        self.watch.log.record(vec![arrival, entry(EventKind::Acceptance)]).await.unwrap();
    }

    /// One pass so long after the acceptance; returns how much of it failed.
    async fn pass_after(&self, seconds: u64) -> usize {
        self.clock.set(i64::try_from(seconds).unwrap());
        self.watch.pass(&watch::channel(false).1).await
    }

    /// What Postfix was offered.
    fn offered(&self) -> Vec<String> {
        // The mailbox server was asked before, each time.
        let offered = self.servers.offered().into_iter().skip(1).step_by(2);
        offered.map(|(_, octets)| String::from_utf8(octets).unwrap()).collect()
    }

    async fn recorded(&self, kind: EventKind) -> Vec<Entry> {
        let entries = self.watch.log.of_transaction(&ID.parse().unwrap()).await.unwrap();
        entries.into_iter().map(|one| one.entry).filter(|entry| entry.kind == kind).collect()
    }
}

fn entry(kind: EventKind) -> Entry {
    Entry {
        queue_id: Some("Q1".into()),
        pec_msgid: Some(ID.parse().unwrap()),
        client_msgid: Some("<client.1@alfa.example>".parse().unwrap()),
        sender: Some("anna@alfa.example".into()),
        subject: Some("Contratto".into()),
        provider: Some("Alfa PEC".into()),
        ..Entry::new(kind, TemporalReference::from_unix(ACCEPTED))
    }
}

#[tokio::test]
async fn silence_is_told_at_12_and_at_24_hours_and_then_never_again() {
    let bench = Bench::new();
    bench.accept(&[BRUNO]).await;
    assert_eq!((bench.pass_after(FIRST - 1).await, bench.offered().len()), (0, 0));
    assert_eq!(bench.pass_after(FIRST).await, 0);
    let [first] = &bench.offered()[..] else { panic!("one notice") };
    assert!(first.contains("prime dodici ore") && first.contains("To: anna@alfa.example\r\n"), "{first}");
    assert_eq!((bench.pass_after(FINAL - 1).await, bench.offered().len()), (0, 0));
    assert_eq!(bench.pass_after(FINAL).await, 0);
    let [last] = &bench.offered()[..] else { panic!("one notice") };
    assert!(last.contains("ventiquattro ore"), "{last}");
    assert_eq!((bench.pass_after(10 * FINAL).await, bench.offered().len()), (0, 0));
    let recorded = bench.recorded(EventKind::FinalTimeout).await;
    assert_eq!(recorded[0].recipient.as_deref(), Some(BRUNO), "as its sender spelt it");
}

#[tokio::test]
async fn a_notice_that_cannot_be_sent_is_sent_later_in_the_same_octets() {
    let bench = Bench::new();
    bench.accept(&[BRUNO]).await;
    for refusal in [451, 550] {
        bench.servers.injection(ANNA, refusal);
        assert_eq!(bench.pass_after(FIRST + u64::from(refusal)).await, 1);
    }
    bench.servers.injection(ANNA, 250);
    assert_eq!(bench.pass_after(FIRST + 1000).await, 0);
    let offered = bench.offered();
    assert!(offered.len() == 3 && offered.iter().all(|one| *one == offered[0]), "{offered:#?}");
    assert_eq!(bench.recorded(EventKind::FirstTimeout).await.len(), 1);
    assert_eq!((bench.pass_after(FIRST + 1001).await, bench.offered().len()), (0, 0));
}

#[tokio::test]
async fn after_a_standstill_the_final_notice_alone_is_told() {
    let bench = Bench::new();
    bench.accept(&[BRUNO, "dario@beta.example"]).await;
    assert_eq!(bench.pass_after(3 * FINAL).await, 0);
    assert_eq!(bench.offered().len(), 2);
    assert_eq!(bench.recorded(EventKind::FirstTimeout).await.len(), 0);
    assert_eq!(bench.recorded(EventKind::FinalTimeout).await.len(), 2);
}

#[tokio::test]
async fn one_transaction_that_cannot_be_read_does_not_hold_up_the_others() {
    let bench = Bench::new();
    bench.accept(&[BRUNO]).await;
    // Watched, but without the sender to tell.
    let other = |kind| Entry {
        pec_msgid: Some("pec.0@alfa.example".parse().unwrap()),
        sender: None,
        queue_id: Some("Q0".into()),
        ..entry(kind)
    };
    let arrival = bench.recorded(EventKind::Arrival).await.remove(0);
    let arrival = Entry { details: arrival.details, ..other(EventKind::Arrival) };
    bench.watch.log.record(vec![arrival, other(EventKind::Acceptance)]).await.unwrap();
    assert_eq!(bench.pass_after(FIRST).await, 1);
    assert_eq!(bench.offered().len(), 1);
}

#[tokio::test]
async fn the_task_sleeps_until_the_next_notice_is_due() {
    let bench = Bench::new();
    assert_eq!(bench.watch.until_next().await, Ok(LONGEST_PAUSE));
    bench.accept(&[BRUNO]).await;
    bench.clock.set(i64::try_from(FIRST).unwrap() - 5);
    assert_eq!(bench.watch.until_next().await, Ok(Duration::from_secs(5)));
    bench.pass_after(FIRST).await;
    assert_eq!(bench.watch.until_next().await, Ok(LONGEST_PAUSE));
    bench.clock.set(i64::try_from(FINAL).unwrap() + 5);
    assert_eq!(bench.watch.until_next().await, Ok(Duration::ZERO));
}
