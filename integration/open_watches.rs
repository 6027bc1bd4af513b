//! Tens of thousands of open watches (§3.1.6), with the periods of the rules: the daemon starts at once, tells what is due on
//! the second, tells what became due while it was away, each once, and rests meanwhile.
//!
//! The watches are those of transactions that the log holds like a real one: the test writes them while the daemon is away.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use pec_milter::adapters::sqlite::SqliteLog;
use pec_milter::legal_log::EventKind::{Acceptance, Arrival, NotificationReceived};
use pec_milter::legal_log::details::ReceivedNotification;
use pec_milter::legal_log::{Entry, Slot};
use pec_milter::model::TemporalReference;
use pec_milter::operations::ports::EventLog;
use pec_testbed::{Daemon, PATIENCE, Plan, Port, Received, Testbed, wait_until};

const ANNA: &str = "anna@alfa.example";
const BRUNO: &str = "bruno@beta.example";

const HOUR: i64 = 3600;

/// Transactions that are waited for, and the certified recipients of each.
const QUIET: usize = 500;
const RECIPIENTS: usize = 100;

/// Transactions whose first notice became due while the daemon was away: more than it asks for at once.
const OVERDUE: usize = 220;

/// How far the last notices are away when the test begins to write.
const AHEAD: i64 = 60;

/// Processor time for the start, the overdue notices and the wait for the last, in a build that is not optimised.
const MOST_WORK: Duration = Duration::from_secs(20);
/// The same while nothing is due.
const MOST_AT_REST: Duration = Duration::from_millis(200);

/// What the log holds of one transaction, like a real one.
struct Model {
    arrival: Entry,
    acceptance: Entry,
}

impl Model {
    /// The entries of a transaction to these recipients, accepted at an instant.
    fn transaction(&self, name: &str, to: &[String], accepted: i64) -> Result<Vec<Entry>> {
        let mut details: serde_json::Value =
            serde_json::from_str(self.arrival.details.as_deref().context("no details")?)?;
        details["accepted"] = accepted.into();
        details["recipients"] = to.iter().map(|address| serde_json::json!([address, "certificato"])).collect();
        let (id, queue_id) = (format!("{name}@alfa.example"), format!("Q{name}"));
        let like = |model: &Entry| -> Result<Entry> {
            let model = model.clone();
            Ok(Entry {
                at: TemporalReference::from_unix(accepted),
                queue_id: Some(queue_id.clone()),
                pec_msgid: Some(id.parse()?),
                client_msgid: Some(format!("<{name}@client.alfa.example>").parse()?),
                subject: Some(name.to_owned()),
                ..model
            })
        };
        let (arrival, acceptance) = (like(&self.arrival)?, like(&self.acceptance)?);
        let slot = Slot::acceptance(&id.parse()?);
        Ok(vec![
            Entry { details: Some(details.to_string()), slot: Some(Slot::arrival(&queue_id)), ..arrival },
            Entry { slot: Some(slot), ..acceptance },
        ])
    }

    /// That bruno's provider took a transaction in charge.
    fn taken(&self, name: &str, at: i64) -> Result<Entry> {
        let one = vec![BRUNO.to_owned()];
        let said = ReceivedNotification {
            kind: "presa-in-carico".into(),
            recipients: one.clone(),
            taken: one,
            ..ReceivedNotification::default()
        };
        let model = self.acceptance.clone();
        Ok(Entry {
            kind: NotificationReceived,
            at: TemporalReference::from_unix(at),
            pec_msgid: Some(format!("{name}@alfa.example").parse()?),
            notification: None,
            provider: Some("Beta PEC S.p.A.".into()),
            details: Some(serde_json::to_string(&said)?),
            slot: None,
            ..model
        })
    }
}

/// What a real transaction of anna's to bruno leaves in the log; bruno's provider cannot be reached.
fn model(testbed: &Testbed) -> Result<Model> {
    let alfa = testbed.host("alfa")?;
    let letter =
        format!("From: {ANNA}\r\nTo: {BRUNO}\r\nSubject: vera\r\nMessage-ID: <vera@client.example>\r\n\r\nx\r\n");
    let dialogue = alfa.submit("anna", Port::Submissions, ANNA, &[BRUNO], letter.as_bytes())?;
    ensure!(dialogue.accepted(), "{dialogue}");
    alfa.fetch_when("anna", 1)?;
    alfa.daemon()?.stop()?;
    on_the_log(alfa.daemon()?, async |log| {
        let entries = log.reader().of_msgid("vera@client.example").await?.entries;
        let of = |kind| entries.iter().find(|one| one.entry.kind == kind).map(|one| one.entry.clone());
        Ok(Model { arrival: of(Arrival).context("no arrival")?, acceptance: of(Acceptance).context("no acceptance")? })
    })
}

/// Does something with the log of a daemon that does not run.
fn on_the_log<T>(daemon: &Daemon, act: impl AsyncFnOnce(&SqliteLog) -> Result<T>) -> Result<T> {
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let log = SqliteLog::open(&daemon.event_log())?;
        let done = act(&log).await?;
        log.close().await?;
        Ok(done)
    })
}

/// The processor time that a daemon took since it started.
fn work(daemon: &Daemon) -> Result<Duration> {
    let text = fs::read_to_string(format!("/proc/{}/stat", daemon.process_id()?))?;
    // Behind the name, which may hold anything: utime and stime are fields 14 and 15, in hundredths (proc(5)).
    let (_, fields) = text.rsplit_once(") ").context("no name")?;
    let fields: Vec<&str> = fields.split(' ').collect();
    let ticks = |field: usize| -> Result<u64> { Ok(fields.get(field - 3).context("too short")?.parse()?) };
    Ok(Duration::from_millis(10 * (ticks(14)? + ticks(15)?)))
}

/// The timeout notices that anna has, by the subject of what they are about.
fn notices(testbed: &Testbed) -> Result<Vec<(String, Received)>> {
    let messages = testbed.host("alfa")?.fetch("anna")?.into_iter();
    let messages = messages.map(|bytes| Received { mailbox: ANNA.to_owned(), bytes });
    let notices = messages.filter(|one| one.is("preavviso-errore-consegna"));
    let mut notices: Vec<_> =
        notices.map(|one| Ok((one.certified("oggetto")?.concat(), one))).collect::<Result<_>>()?;
    notices.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok(notices)
}

#[test]
fn outcome_fifty_thousand_open_watches_cost_nothing_until_something_is_due() {
    let plan = Plan::new(env!("CARGO_BIN_EXE_pec-milter")).provider("alfa", &["anna"]).provider("beta", &["bruno"]);
    plan.with_open_watches().test(|testbed| {
        let (alfa, beta) = (testbed.host("alfa")?, testbed.host("beta")?);
        beta.stop_postfix()?;
        let daemon = alfa.daemon()?;
        let model = model(testbed)?;
        let now = TemporalReference::from_unix(jiff::Timestamp::now().as_second()).unix();
        let (first_due, last_due) = (now + AHEAD, now + AHEAD + 5);

        // In order of their instants, as a log is.
        let bruno = [BRUNO.to_owned()];
        let mut transactions = model.transaction("preso", &bruno, last_due - 24 * HOUR)?;
        transactions.push(model.taken("preso", last_due - 24 * HOUR + 60)?);
        for number in 0..OVERDUE {
            let name = format!("scaduto.{number:03}");
            transactions.extend(model.transaction(&name, &bruno, now - 13 * HOUR + i64::try_from(number)?)?);
        }
        transactions.extend(model.transaction("silenzio", &bruno, first_due - 12 * HOUR)?);
        for number in 0..QUIET {
            let to: Vec<String> = (0..RECIPIENTS).map(|user| format!("u{user}.{number}@beta.example")).collect();
            let accepted = now - 11 * HOUR + i64::try_from(number)?;
            transactions.extend(model.transaction(&format!("in.corso.{number:03}"), &to, accepted)?);
        }
        let begun = Instant::now();
        on_the_log(daemon, async |log| Ok(log.record(transactions).await.map(drop)?))?;
        println!("{} watches written in {:?}", QUIET * RECIPIENTS + OVERDUE + 2, begun.elapsed());
        let (is_done, said) = daemon.command(&["log", "rebuild"])?;
        let watched = QUIET * RECIPIENTS + OVERDUE + 3;
        assert!(is_done && said.contains(&format!("{watched} recipients are watched")), "{said}");

        let begun = Instant::now();
        daemon.start()?;
        println!("started in {:?}", begun.elapsed());
        wait_until("what became due meanwhile", PATIENCE, || {
            let found = notices(testbed)?.len();
            ensure!(found >= OVERDUE, "{found} notices");
            Ok(())
        })?;
        println!("{OVERDUE} overdue notices after {:?}, {:?} of work", begun.elapsed(), work(daemon)?);
        ensure!(jiff::Timestamp::now().as_second() < first_due, "the machine is too slow: AHEAD is over");

        // At rest until the next is due, but for a message now and then.
        let before = work(daemon)?;
        wait_until("the second before the next is due", PATIENCE, || {
            ensure!(jiff::Timestamp::now().as_second() >= first_due - 1, "not yet");
            Ok(())
        })?;
        let at_rest = work(daemon)? - before;
        wait_until("the last two notices", PATIENCE, || {
            let found = notices(testbed)?.len();
            ensure!(found >= OVERDUE + 2, "{found} notices");
            Ok(())
        })?;
        let whole = work(daemon)?;
        println!("{at_rest:?} of work at rest, {whole:?} altogether");
        assert!(at_rest < MOST_AT_REST, "{at_rest:?} of work while nothing is due");
        assert!(whole < MOST_WORK, "{whole:?} of work");

        // Each once, on its second, and of the kind that is owed.
        let found = notices(testbed)?;
        let mut expected: Vec<String> = (0..OVERDUE).map(|number| format!("scaduto.{number:03}")).collect();
        expected.extend(["preso".to_owned(), "silenzio".to_owned()]);
        expected.sort();
        assert_eq!(found.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>(), expected);
        for (name, notice) in &found {
            assert_eq!(notice.certified("consegna")?, [BRUNO], "{name}");
            let is_final = notice.certified("errore-esteso")?.concat().contains("ventiquattro ore");
            assert_eq!(is_final, name == "preso", "{name}");
        }
        for (name, due) in [("silenzio", first_due), ("preso", last_due)] {
            let events = daemon.timeline(&format!("{name}@client.alfa.example"))?;
            let event = events.last().with_context(|| format!("no event of {name}"))?;
            let told = jiff::Timestamp::strptime("%d/%m/%Y %H:%M:%S %z", &event.instant)?.as_second();
            assert!((due..=due + 2).contains(&told), "{name} was due at {due} and is told at {told}: {event:?}");
        }
        // One of the overdue ones is like the others.
        let judged = found.iter().filter(|(name, _)| name == "scaduto.000" || !name.starts_with("scaduto"));
        testbed.judge(judged.map(|(_, notice)| notice))?;

        beta.start_postfix()?;
        alfa.flush_queue()?;
        testbed.wait_for_empty_queues()?;
        assert_eq!(notices(testbed)?.len(), found.len(), "nothing was told twice");
        Ok(())
    });
}
