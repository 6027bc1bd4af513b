//! `log audit` on the log of a real transaction (§2.3): nothing to say about what happened, and the name and the row of each
//! thing that did not.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use pec_milter::adapters::sqlite::SqliteLog;
use pec_milter::legal_log::EventKind::{
    Acceptance, Arrival, Delivery, FinalTimeout, FirstTimeout, NonAcceptance, NonDelivery, NotificationReceived,
    TakeCharge, VirusNonDelivery,
};
use pec_milter::legal_log::details::ReceivedNotification;
use pec_milter::legal_log::{Entry, EventKind};
use pec_milter::model::TemporalReference;
use pec_milter::operations::ports::EventLog;
use pec_testbed::{Daemon, Plan, Port, Testbed};

const ANNA: &str = "anna@alfa.example";
const CARLA: &str = "carla@alfa.example";
const BRUNO: &str = "bruno@beta.example";
const MARIO: &str = "mario@gamma.example";
const NOBODY: &str = "nessuno@gamma.example";
const CLIENT_MSGID: &str = "prova@client.alfa.example";

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

/// Entries like those of the real transaction, under another PEC msgid.
type Rows = Vec<Entry>;

/// What is done to the rows of a transaction, and what the audit says of it, with the row that shows it.
struct Fault {
    name: &'static str,
    plant: fn(Rows) -> Rows,
    found: &'static [(Place, &'static str)],
}

/// Where a row stands among those of its transaction.
#[derive(Debug, Clone, Copy)]
enum Place {
    /// The arrival.
    First,
    /// The acceptance.
    Second,
    Last,
}

const FAULTS: &[Fault] = &[
    Fault { name: "none", plant: |rows| rows, found: &[] },
    Fault {
        name: "accepted-twice",
        plant: |rows| and(rows, Acceptance, ""),
        found: &[(Place::Last, "a second acceptance")],
    },
    Fault {
        name: "accepted-alone",
        plant: |rows| last(and(rows, Acceptance, ""), |row| row.queue_id = Some("altra".into())),
        found: &[
            (Place::Last, "an acceptance without the arrival of its envelope"),
            (Place::Last, "a second acceptance"),
        ],
    },
    Fault {
        name: "refused",
        plant: |rows| and(rows, NonAcceptance, ""),
        found: &[(Place::Last, "accepted and not accepted")],
    },
    Fault {
        name: "other-sender",
        plant: |rows| last(and(rows, FinalTimeout, BRUNO), |row| row.sender = Some(CARLA.into())),
        found: &[
            (Place::Last, "the sender is carla@alfa.example, before it was anna@alfa.example"),
            (Place::Last, "a timeout notice about bruno@beta.example before its time"),
            (Place::Last, "a timeout notice about bruno@beta.example that was not owed any more"),
        ],
    },
    Fault {
        name: "unreadable",
        plant: |rows| last(and(rows, Arrival, ""), |row| row.details = Some("{}".into())),
        found: &[(Place::Last, "the details cannot be read")],
    },
    Fault {
        name: "taken-twice",
        plant: |rows| and(rows, TakeCharge, CARLA),
        found: &[(Place::Last, "carla@alfa.example is taken in charge a second time")],
    },
    Fault {
        name: "taken-elsewhere",
        plant: |rows| and(rows, TakeCharge, BRUNO),
        found: &[(Place::Last, "bruno@beta.example is taken in charge without having arrived")],
    },
    Fault {
        name: "never-taken",
        plant: |rows| without(rows, TakeCharge),
        found: &[(Place::First, "carla@alfa.example was never taken in charge")],
    },
    Fault {
        name: "never-accepted",
        plant: |rows| without(rows, Acceptance),
        found: &[(Place::First, "our envelope has no acceptance")],
    },
    Fault {
        name: "delivered-elsewhere",
        plant: |rows| and(rows, Delivery, BRUNO),
        found: &[
            (Place::Last, "delivered to bruno@beta.example without having arrived"),
            (Place::Last, "delivered to bruno@beta.example in no mailbox"),
        ],
    },
    Fault {
        name: "delivered-nowhere",
        plant: |rows| and(without(rows, Delivery), Delivery, CARLA),
        found: &[(Place::Last, "delivered to carla@alfa.example in no mailbox")],
    },
    Fault {
        name: "two-outcomes",
        plant: |rows| and(rows, NonDelivery, CARLA),
        found: &[
            (Place::Last, "carla@alfa.example has a second outcome"),
            (Place::Last, "carla@alfa.example is told as delivered and as not delivered"),
        ],
    },
    Fault {
        name: "stranger",
        plant: |rows| and(rows, NonDelivery, NOBODY),
        found: &[(Place::Last, "nessuno@gamma.example is no recipient of this transaction")],
    },
    Fault {
        name: "ordinary",
        plant: |rows| last(and(rows, FirstTimeout, MARIO), |row| later(row, 12 * HOUR)),
        found: &[(Place::Last, "mario@gamma.example is no certified recipient of this transaction")],
    },
    Fault {
        name: "too-early",
        plant: |rows| last(and(silent(rows), FirstTimeout, BRUNO), |row| later(row, 12 * HOUR - 1)),
        found: &[(Place::Last, "a timeout notice about bruno@beta.example before its time")],
    },
    Fault {
        name: "not-owed",
        plant: |rows| last(and(rows, FirstTimeout, BRUNO), |row| later(row, 12 * HOUR)),
        found: &[(Place::Last, "a timeout notice about bruno@beta.example that was not owed any more")],
    },
    Fault {
        name: "notice-of-nothing",
        plant: |rows| and(vec![rows[0].clone()], FirstTimeout, BRUNO).split_off(1),
        found: &[(Place::Last, "a timeout notice about bruno@beta.example without an acceptance")],
    },
    Fault {
        name: "virus-alone",
        plant: |rows| and(silent(rows), VirusNonDelivery, BRUNO),
        found: &[(Place::Last, "the virus non-delivery for bruno@beta.example has no virus detection")],
    },
    Fault {
        name: "virus-twice",
        plant: |rows| and(and(heard_of_a_virus(silent(rows)), VirusNonDelivery, BRUNO), VirusNonDelivery, BRUNO),
        found: &[(Place::Last, "a second virus non-delivery for bruno@beta.example")],
    },
    Fault {
        name: "virus-untold",
        plant: |rows| ago(heard_of_a_virus(silent(rows)), 2 * DAY),
        found: &[(Place::Last, "the virus detection for bruno@beta.example has no virus non-delivery")],
    },
    Fault {
        name: "silence",
        plant: |rows| ago(silent(rows), 2 * DAY),
        found: &[(Place::Second, "nothing was heard of bruno@beta.example, and nobody was told in time")],
    },
    Fault {
        name: "no-outcome",
        plant: |rows| ago(without(rows, Delivery), 2 * DAY),
        found: &[(Place::First, "carla@alfa.example has no outcome, and its time is over")],
    },
    Fault {
        name: "not-from-here",
        plant: |rows| {
            let mut rows = silent(rows);
            for row in &mut rows {
                row.sender = Some("dario@beta.example".into());
                row.provider = Some("Beta PEC S.p.A.".into());
            }
            rows
        },
        found: &[(Place::Second, "an acceptance of a message that was not sent from here")],
    },
];

/// One more row, as the acceptance has it.
fn and(mut rows: Rows, kind: EventKind, recipient: &str) -> Rows {
    let model = rows.iter().find(|row| row.kind == Acceptance).or(rows.first()).expect("a row").clone();
    let recipient = (!recipient.is_empty()).then(|| recipient.to_owned());
    rows.push(Entry { kind, recipient, details: None, notification: None, ..model });
    rows
}

fn last(mut rows: Rows, change: impl FnOnce(&mut Entry)) -> Rows {
    change(rows.last_mut().expect("a row"));
    rows
}

fn without(rows: Rows, kind: EventKind) -> Rows {
    rows.into_iter().filter(|row| row.kind != kind).collect()
}

/// As if nothing had been heard of bruno.
fn silent(rows: Rows) -> Rows {
    without(rows, NotificationReceived)
}

fn heard_of_a_virus(rows: Rows) -> Rows {
    let recipients = [BRUNO, CARLA, MARIO].map(str::to_owned).to_vec();
    let said = ReceivedNotification { kind: "rilevazione-virus".into(), recipients, ..ReceivedNotification::default() };
    let details = serde_json::to_string(&said).expect("plain data");
    last(and(rows, NotificationReceived, BRUNO), |row| row.details = Some(details))
}

fn later(row: &mut Entry, seconds: i64) {
    row.at = TemporalReference::from_unix(row.at.unix() + seconds);
}

fn ago(mut rows: Rows, seconds: i64) -> Rows {
    rows.iter_mut().for_each(|row| later(row, -seconds));
    rows
}

fn two_providers() -> Plan {
    let plan = Plan::new(env!("CARGO_BIN_EXE_pec-milter"));
    plan.provider("alfa", &["anna", "carla"]).provider("beta", &["bruno"]).plain("gamma", &["mario"])
}

/// One transaction of anna's that ends well everywhere.
fn anna_sends(testbed: &Testbed) -> Result<()> {
    let to = [BRUNO, CARLA, MARIO];
    let message = format!(
        "From: {ANNA}\r\nTo: {}\r\nSubject: prova\r\nMessage-ID: <{CLIENT_MSGID}>\r\n\r\nCiao\r\n",
        to.join(", ")
    );
    let dialogue = testbed.host("alfa")?.submit("anna", Port::Submissions, ANNA, &to, message.as_bytes())?;
    ensure!(dialogue.accepted(), "{dialogue}");
    let all = testbed.received_when(&[(ANNA, 3), (BRUNO, 1), (CARLA, 1), (MARIO, 1), ("ricevute@alfa.example", 2)])?;
    testbed.judge(&all)
}

/// A copy of a stopped daemon's log, and a configuration that names it.
fn copied(testbed: &Testbed, daemon: &Daemon) -> Result<(PathBuf, PathBuf)> {
    let (log, configuration) = (testbed.folder().join("copy.sqlite"), testbed.folder().join("copy.toml"));
    fs::copy(daemon.event_log(), &log)?;
    let own = daemon.event_log().display().to_string();
    let text = fs::read_to_string(&daemon.configuration)?;
    ensure!(text.contains(&own), "the configuration should name {own}");
    fs::write(&configuration, text.replace(&own, &log.display().to_string()))?;
    Ok((log, configuration))
}

/// Whether the audit found nothing, and what it said.
fn audit(configuration: &Path) -> Result<(bool, String)> {
    let program = env!("CARGO_BIN_EXE_pec-milter");
    let Output { status, stdout, stderr } =
        Command::new(program).args(["log", "audit", "--config"]).arg(configuration).output()?;
    ensure!(matches!(status.code(), Some(0 | 1)), "{status}: {}", String::from_utf8_lossy(&stderr));
    Ok((status.success(), String::from_utf8(stdout)?))
}

#[test]
fn outcome_an_audit_names_each_thing_that_must_not_be_in_the_log() {
    two_providers().test(|testbed| {
        let alfa = testbed.host("alfa")?.daemon()?;
        anna_sends(testbed)?;
        for arguments in [&["log", "audit"][..], &["log", "audit", "--from", "2020-01-01"]] {
            let (is_sound, said) = alfa.command(arguments)?;
            assert!(is_sound && said.contains("1 transactions: 0 violations, 0 remarks"), "{said}");
        }
        let (is_sound, said) = alfa.command(&["log", "audit", "--to", "2020-01-01"])?;
        assert!(is_sound && said.contains("0 transactions"), "{said}");
        let (is_understood, said) = alfa.command(&["log", "audit", "--from", "yesterday"])?;
        assert!(!is_understood && said.contains("--from"), "{said}");
        let (is_done, said) = alfa.command(&["log", "rebuild"])?;
        assert!(is_done && said.contains("0 recipients are watched"), "{said}");

        // The same transaction again and again, with a fault in each.
        alfa.stop()?;
        let (log, configuration) = copied(testbed, alfa)?;
        let runtime = tokio::runtime::Runtime::new()?;
        let expected = runtime.block_on(async {
            let log = SqliteLog::open(&log)?;
            let real: Rows =
                log.reader().of_msgid(CLIENT_MSGID).await?.entries.into_iter().map(|one| one.entry).collect();
            let kinds: Vec<&str> = real.iter().map(|row| row.kind.name()).collect();
            ensure!(kinds[..2] == ["arrival", "acceptance"], "{kinds:?}");
            let mut expected: BTreeMap<&str, Vec<String>> = BTreeMap::new();
            for fault in FAULTS {
                let id = format!("{}@alfa.example", fault.name);
                let clone = |row: &Entry| -> Result<Entry> {
                    let row = row.clone();
                    Ok(Entry { pec_msgid: Some(id.parse()?), client_msgid: None, slot: None, ..row })
                };
                let rows = (fault.plant)(real.iter().map(clone).collect::<Result<_>>()?);
                let recorded = log.record(rows).await?;
                let wanted = expected.entry(fault.name).or_default();
                for (place, breach) in fault.found {
                    let row = match place {
                        Place::First => recorded.first(),
                        Place::Second => recorded.get(1),
                        Place::Last => recorded.last(),
                    };
                    let row = row.with_context(|| format!("{}: no row {place:?}", fault.name))?.sequence;
                    wanted.push(format!("VIOLATION {id} #{row}: {breach}"));
                }
                wanted.sort();
            }
            log.close().await?;
            anyhow::Ok(expected)
        })?;

        let (is_sound, said) = audit(&configuration)?;
        assert!(!is_sound, "{said}");
        for (name, wanted) in &expected {
            let id = format!(" {name}@alfa.example ");
            let mut found: Vec<&str> = said.lines().filter(|line| line.contains(&id)).collect();
            found.sort_unstable();
            assert_eq!(found, *wanted, "{name}: {said}");
        }
        let violations: usize = expected.values().map(Vec::len).sum();
        let sum = format!("{} transactions: {violations} violations, 0 remarks", FAULTS.len() + 1);
        assert!(said.contains(&sum), "expected {sum:?} in {said}");
        Ok(())
    });
}

#[test]
fn outcome_an_audit_names_the_row_that_somebody_changed() {
    two_providers().test(|testbed| {
        let alfa = testbed.host("alfa")?.daemon()?;
        anna_sends(testbed)?;
        alfa.stop()?;
        let (log, configuration) = copied(testbed, alfa)?;
        assert!(audit(&configuration)?.0);

        let file = rusqlite::Connection::open(&log)?;
        let change = "UPDATE event SET recipient = 'dario@beta.example' WHERE kind = 'delivery'";
        let refused = file.execute_batch(change).unwrap_err().to_string();
        assert!(refused.contains("legal evidence"), "{refused}");
        file.execute_batch("DROP TRIGGER event_refuses_update")?;
        file.execute_batch(change)?;
        let row: i64 = file.query_row("SELECT sequence FROM event WHERE kind = 'delivery'", [], |row| row.get(0))?;
        drop(file);
        let (is_sound, said) = audit(&configuration)?;
        let is_named = said.lines().any(|line| line.starts_with("VIOLATION ") && line.contains(&row.to_string()));
        assert!(!is_sound && is_named, "row {row}: {said}");
        Ok(())
    });
}
