//! Passes of the watch over a real log, with a clock and servers of the test's own.

use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicU16, Ordering};

use tempfile::TempDir;

use super::*;
use crate::access_point::{Limits, ReceiptDefaults};
use crate::adapters::sqlite::SqliteLog;
use crate::directory::Directory;
use crate::identity::SenderMap;
use crate::incoming_point::OrdinaryMail;
use crate::model::Provider;
use crate::operations::ports::Mail;
use crate::smime::{Engine, Sha1Policy, Trust, testing};
use crate::transaction::{FINAL, FIRST, Timeouts};

const ACCEPTED: i64 = testing::NOW;
const ID: &str = "pec.1@alfa.example";
const BRUNO: &str = "Bruno@beta.example";

/// The mailbox server, which refuses everything, and Postfix, with the answer of the moment and what it was offered.
#[derive(Clone, Default)]
struct Servers {
    reply: Arc<AtomicU16>,
    offered: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Mailboxes for Servers {
    async fn deliver(&self, mail: &Mail) -> Vec<Reply> {
        vec![Reply::new(451, "4.2.0 later"); mail.recipients.len()]
    }

    async fn would_take(&self, mail: &Mail) -> Vec<Reply> {
        self.deliver(mail).await
    }
}

impl Injection for Servers {
    async fn inject(&self, mail: &Mail) -> Reply {
        self.offered.lock().unwrap().push(mail.message.to_vec());
        Reply::new(self.reply.load(Ordering::Relaxed), "2.0.0 so be it")
    }
}

#[derive(Clone, Default)]
struct Clock(Arc<AtomicI64>);

impl Instruments for Clock {
    fn now(&self) -> TemporalReference {
        TemporalReference::from_unix(ACCEPTED + self.0.load(Ordering::Relaxed))
    }

    fn chance(&self) -> u128 {
        7
    }
}

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
        servers.reply.store(250, Ordering::Relaxed);
        let watch = TimeoutWatch {
            current: Handle::new(current()),
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
        self.clock.0.store(i64::try_from(seconds).unwrap(), Ordering::Relaxed);
        self.watch.pass(&watch::channel(false).1).await
    }

    fn offered(&self) -> Vec<String> {
        let mut offered = self.servers.offered.lock().unwrap();
        offered.drain(..).map(|octets| String::from_utf8(octets).unwrap()).collect()
    }

    async fn recorded(&self, kind: EventKind) -> Vec<Entry> {
        let entries = self.watch.log.of_transaction(&ID.parse().unwrap()).await.unwrap();
        entries.into_iter().map(|one| one.entry).filter(|entry| entry.kind == kind).collect()
    }
}

fn current() -> Current {
    Current {
        provider: Provider {
            name: "Alfa PEC".into(),
            sending_address: "posta-certificata@alfa.example".parse().unwrap(),
            service_mailbox: "ricevute@alfa.example".parse().unwrap(),
            mail_domains: vec!["alfa.example".parse().unwrap()],
        },
        signer: testing::signer(Engine::AwsLc),
        trust: Trust::from_pem(&testing::read("certificates/root.pem")).unwrap(),
        sha1: Sha1Policy::Accept,
        directory: Directory::empty(),
        senders: SenderMap::default(),
        limits: Limits { recipients: 50, product: 1 },
        receipts: ReceiptDefaults::default(),
        ordinary: OrdinaryMail::default(),
        timeouts: Timeouts::default(),
    }
}

fn entry(kind: EventKind) -> Entry {
    Entry {
        kind,
        at: TemporalReference::from_unix(ACCEPTED),
        queue_id: Some("Q1".into()),
        pec_msgid: Some(ID.parse().unwrap()),
        client_msgid: Some("<client.1@alfa.example>".parse().unwrap()),
        sender: Some("anna@alfa.example".into()),
        recipient: None,
        subject: Some("Contratto".into()),
        notification: None,
        provider: Some("Alfa PEC".into()),
        details: None,
        slot: None,
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
        bench.servers.reply.store(refusal, Ordering::Relaxed);
        assert_eq!(bench.pass_after(FIRST + u64::from(refusal)).await, 1);
    }
    bench.servers.reply.store(250, Ordering::Relaxed);
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
    bench.clock.0.store(i64::try_from(FIRST).unwrap() - 5, Ordering::Relaxed);
    assert_eq!(bench.watch.until_next().await, Ok(Duration::from_secs(5)));
    bench.pass_after(FIRST).await;
    assert_eq!(bench.watch.until_next().await, Ok(LONGEST_PAUSE));
    bench.clock.0.store(i64::try_from(FINAL).unwrap() + 5, Ordering::Relaxed);
    assert_eq!(bench.watch.until_next().await, Ok(Duration::ZERO));
}
