//! Silence (§3.1.6): which notices a sender gets when a recipient's provider says too little, and what ends the watch.
//!
//! The periods of the rules are shortened to seconds, so the referee's word on 12 and 22 hours is set aside; everything
//! else it says counts. That a notice does not come is shown by a letter of later, about which it has come.

use std::collections::HashSet;
use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use pec_milter::adapters::sqlite::SqliteLog;
use pec_milter::legal_log::{Entry, EventKind};
use pec_milter::operations::ports::EventLog;
use pec_testbed::foreign::{Facts, ForeignProvider, Kind};
use pec_testbed::referee::Referee;
use pec_testbed::{Host, PATIENCE, Plan, Port, Received, Testbed, wait_until};

const ANNA: &str = "anna@alfa.example";
const BRUNO: &str = "bruno@beta.example";
const DARIO: &str = "dario@delta.example";
const NOTICE: &str = "preavviso-errore-consegna";

/// Alfa, whose periods these are, and beta.
fn providers(first: u32, last: u32) -> Plan {
    Plan::new(env!("CARGO_BIN_EXE_pec-milter"))
        .provider("alfa", &["anna", "carla"])
        .with_pec_milter(&format!("[timeouts]\nfirst_seconds = {first}\nfinal_seconds = {last}\n"))
        .provider("beta", &["bruno"])
}

/// Anna sends a letter; the name is its subject and the client's Message-ID.
fn anna_sends(testbed: &Testbed, name: &str, to: &[&str]) -> Result<()> {
    let message = format!(
        "From: {ANNA}\r\nTo: {}\r\nSubject: {name}\r\nMessage-ID: <{name}@client.alfa.example>\r\n\r\nCiao\r\n",
        to.join(", ")
    );
    let dialogue = testbed.host("alfa")?.submit("anna", Port::Submissions, ANNA, to, message.as_bytes())?;
    ensure!(dialogue.accepted(), "expected {name} to be accepted:\n{dialogue}");
    Ok(())
}

/// What anna has of a letter: kind, recipient it is about, and which notice it is.
fn told(testbed: &Testbed, name: &str) -> Result<Vec<String>> {
    let mut told = Vec::new();
    for message in anna_has(testbed, name)? {
        let about = message.certified("consegna")?.concat();
        told.push(format!("{} {about} {}", message.kind(), which(&message)?).trim().to_owned());
    }
    told.sort();
    Ok(told)
}

/// What anna has of a letter. Other hosts may be at rest.
fn anna_has(testbed: &Testbed, name: &str) -> Result<Vec<Received>> {
    let messages = testbed.host("alfa")?.fetch("anna")?.into_iter();
    let messages = messages.map(|bytes| Received { mailbox: ANNA.to_owned(), bytes });
    Ok(messages.filter(|message| is_of(message, name)).collect())
}

fn is_of(message: &Received, name: &str) -> bool {
    message.field("X-Riferimento-Message-ID") == Some(format!("<{name}@client.alfa.example>"))
}

/// `12` or `24` for the notices.
fn which(message: &Received) -> Result<String> {
    if !message.is(NOTICE) {
        return Ok(String::new());
    }
    let reason = message.certified("errore-esteso")?.concat();
    Ok(if reason.contains("prime dodici ore") { "12" } else { "24" }.to_owned())
}

/// Waits until anna was told all of this about a letter; more or other is a failure at once.
fn anna_is_told(testbed: &Testbed, name: &str, expected: &[&str]) -> Result<()> {
    let mut wanted: Vec<String> = expected.iter().map(|text| text.to_string()).collect();
    wanted.sort();
    let found = wait_until(&format!("{wanted:?} about {name}"), PATIENCE, || {
        let found = told(testbed, name)?;
        let is_early = found != wanted && is_part(&found, &wanted);
        ensure!(!is_early, "{found:?}");
        Ok(found)
    })?;
    ensure!(found == wanted, "expected {wanted:?} about {name}, found {found:?}");
    Ok(())
}

/// Whether everything in one sorted list stands in the other, as many times.
fn is_part(part: &[String], whole: &[String]) -> bool {
    let mut rest = whole.iter();
    part.iter().all(|wanted| rest.any(|one| one == wanted))
}

/// The Message-IDs that told the events of a kind about a letter.
fn told_by(host: &Host, name: &str, kind: &str) -> Result<Vec<String>> {
    let events = host.daemon()?.timeline(&format!("{name}@client.alfa.example"))?;
    Ok(events.into_iter().filter(|event| event.kind == kind).map(|event| event.told_by.unwrap_or_default()).collect())
}

fn count(host: &Host, name: &str, kind: &str) -> Result<usize> {
    Ok(told_by(host, name, kind)?.len())
}

/// Every message of a letter that pec-milter made is right alone, and all agree, the shortened periods aside.
fn judge(testbed: &Testbed, name: &str) -> Result<()> {
    let Some(referee) = Referee::find() else { return Ok(()) };
    let folder = testbed.folder().join(format!("judged-{name}"));
    fs::create_dir_all(&folder)?;
    let mut seen = HashSet::new();
    let messages = testbed.received()?;
    let is_ours = |message: &&Received| message.field("From").is_none_or(|from| !from.contains("@delta.example"));
    let of_letter = messages.iter().filter(|message| is_of(message, name)).filter(is_ours);
    for (number, message) in of_letter.enumerate() {
        // What was sent again after a crash is the same message.
        if !seen.insert((message.mailbox.clone(), message.field("Message-ID"))) {
            continue;
        }
        fs::write(folder.join(format!("{number}-{}.eml", message.kind())), &message.bytes)?;
    }
    let findings = referee.check_transaction(&folder, &testbed.pki.root())?;
    let errors: Vec<_> =
        findings.iter().filter(|line| line.contains(" ERROR ") && !line.contains(" tx-timeout:")).collect();
    ensure!(errors.is_empty(), "the referee finds {errors:#?}");
    Ok(())
}

#[test]
fn outcome_silence_gives_both_notices_about_the_silent_certified_recipient_only() {
    providers(3, 9).plain("gamma", &["mario"]).test(|testbed| {
        let alfa = testbed.host("alfa")?;
        testbed.host("beta")?.stop_postfix()?;
        testbed.host("gamma")?.stop_postfix()?;
        // Silent, delivered here, refused here, ordinary and as silent.
        let nobody = "nessuno@alfa.example";
        anna_sends(testbed, "silenzio", &[BRUNO, "carla@alfa.example", nobody, "mario@gamma.example"])?;
        let here = ["accettazione", "avvenuta-consegna carla@alfa.example", "errore-consegna nessuno@alfa.example"];
        let first = "preavviso-errore-consegna bruno@beta.example 12";
        anna_is_told(testbed, "silenzio", &[&here[..], &[first]].concat())?;

        // The watch lives through a restart.
        alfa.daemon()?.kill()?;
        alfa.daemon()?.start()?;
        let last = "preavviso-errore-consegna bruno@beta.example 24";
        anna_is_told(testbed, "silenzio", &[&here[..], &[first, last]].concat())?;
        assert_eq!((count(alfa, "silenzio", "timeout-first")?, count(alfa, "silenzio", "timeout-final")?), (1, 1));

        // A delivery after all that is heard, and changes nothing.
        testbed.host("beta")?.start_postfix()?;
        alfa.flush_queue()?;
        anna_is_told(
            testbed,
            "silenzio",
            &[&here[..], &[first, last, "avvenuta-consegna bruno@beta.example"]].concat(),
        )?;
        judge(testbed, "silenzio")
    });
}

#[test]
fn outcome_taken_in_charge_but_never_delivered_gives_the_final_notice_only() {
    providers(15, 20).test(|testbed| {
        let (alfa, beta) = (testbed.host("alfa")?, testbed.host("beta")?);
        beta.stop_dovecot()?;
        anna_sends(testbed, "preso", &[BRUNO])?;
        anna_is_told(testbed, "preso", &["accettazione", "preavviso-errore-consegna bruno@beta.example 24"])?;
        assert_eq!(count(alfa, "preso", "received presa-in-carico")?, 1);
        assert_eq!(count(alfa, "preso", "timeout-first")?, 0);
        beta.start_dovecot()?;
        beta.flush_queue()?;
        let delivered = "avvenuta-consegna bruno@beta.example";
        anna_is_told(
            testbed,
            "preso",
            &["accettazione", "preavviso-errore-consegna bruno@beta.example 24", delivered],
        )?;
        judge(testbed, "preso")
    });
}

#[test]
fn outcome_a_delivery_or_failure_ends_the_watch_before_and_between_the_notices() {
    providers(8, 25).plain("gamma", &["mario"]).test(|testbed| {
        let (alfa, beta) = (testbed.host("alfa")?, testbed.host("beta")?);
        // Early, and a failure that beta tells.
        let letter = ["bruno@beta.example", "nessuno@beta.example"];
        anna_sends(testbed, "presto", &letter)?;
        let early = ["accettazione", "avvenuta-consegna bruno@beta.example", "errore-consegna nessuno@beta.example"];
        anna_is_told(testbed, "presto", &early)?;

        // Between the two.
        beta.stop_postfix()?;
        anna_sends(testbed, "tardi", &[BRUNO])?;
        let first = "preavviso-errore-consegna bruno@beta.example 12";
        anna_is_told(testbed, "tardi", &["accettazione", first])?;
        beta.start_postfix()?;
        alfa.flush_queue()?;
        let between = ["accettazione", first, "avvenuta-consegna bruno@beta.example"];
        anna_is_told(testbed, "tardi", &between)?;

        // By the time a later letter has its final notice, theirs would have come.
        beta.stop_postfix()?;
        anna_sends(testbed, "dopo", &[BRUNO])?;
        let last = "preavviso-errore-consegna bruno@beta.example 24";
        anna_is_told(testbed, "dopo", &["accettazione", first, last])?;
        anna_is_told(testbed, "presto", &early)?;
        anna_is_told(testbed, "tardi", &between)?;
        judge(testbed, "presto")?;
        judge(testbed, "tardi")
    });
}

#[test]
fn outcome_a_notice_survives_a_crash_between_its_commit_and_its_sending() {
    providers(3, 15).test(|testbed| {
        let (alfa, beta) = (testbed.host("alfa")?, testbed.host("beta")?);
        let daemon = alfa.daemon()?;
        beta.stop_postfix()?;
        daemon.stop()?;
        daemon.start_with(&[("PEC_CRASH_AT", "timeout-recorded")])?;
        anna_sends(testbed, "caduta", &[BRUNO])?;
        daemon.wait_for_end()?;
        let recorded = told_by(alfa, "caduta", "timeout-first")?;
        assert_eq!(recorded.len(), 1);
        assert_eq!(told(testbed, "caduta")?, ["accettazione"]);

        daemon.start_with(&[("PEC_CRASH_AT", "timeout-sent")])?;
        // Sent, and killed before that was remembered.
        daemon.wait_for_end()?;
        daemon.start()?;
        let first = "preavviso-errore-consegna bruno@beta.example 12";
        let last = "preavviso-errore-consegna bruno@beta.example 24";
        anna_is_told(testbed, "caduta", &["accettazione", first, first, last])?;
        assert_eq!(told_by(alfa, "caduta", "timeout-first")?, recorded);
        assert_eq!(count(alfa, "caduta", "timeout-final")?, 1);
        let mut copies = Vec::new();
        for message in anna_has(testbed, "caduta")? {
            if which(&message)? == "12" {
                assert_eq!(message.field("Message-ID").as_deref(), recorded.first().map(String::as_str));
                let body = message.bytes.get(message.header().len()..).context("no body")?;
                copies.push(body.to_vec());
            }
        }
        assert!(copies.len() == 2 && copies[0] == copies[1], "both copies should be the same octets");
        beta.start_postfix()?;
        alfa.flush_queue()?;
        testbed.wait_for_empty_queues()?;
        judge(testbed, "caduta")
    });
}

/// What is certified of a letter to dario, by anna's acceptance.
fn facts(testbed: &Testbed, name: &str) -> Result<Facts> {
    let acceptance = wait_until(&format!("the acceptance of {name}"), PATIENCE, || {
        let messages = anna_has(testbed, name)?;
        messages.into_iter().find(|message| message.is("accettazione")).context("none yet")
    })?;
    Ok(Facts {
        sender: ANNA.to_owned(),
        recipients: vec![(DARIO.to_owned(), true)],
        subject: name.to_owned(),
        id: acceptance.certified("identificativo")?.concat(),
        msgid: acceptance.certified("msgid")?.pop(),
        accepted: jiff::Timestamp::now(),
    })
}

#[test]
fn outcome_notifications_of_other_providers_count_in_any_order_and_number() {
    providers(10, 18).plain("delta", &["dario"]).test(|testbed| {
        // Delta is a provider that takes everything and says what the test has it say.
        let (alfa, host) = (testbed.host("alfa")?, testbed.host("delta")?);
        let delta = ForeignProvider::new(testbed, host)?;
        testbed.list_in_directory(&[delta.record(&[])])?;
        let says = |kind: Kind, facts: &Facts| delta.send(alfa, &delta.draft(kind, facts)?).map(drop);
        let take_charge = Kind::TakeCharge { taken: &[DARIO], to: "ricevute@alfa.example" };

        // The delivery first, then twice what it makes needless.
        anna_sends(testbed, "consegnato", &[DARIO])?;
        let known = facts(testbed, "consegnato")?;
        says(Kind::Delivery("DARIO@Delta.example"), &known)?;
        says(take_charge, &known)?;
        says(take_charge, &known)?;

        anna_sends(testbed, "preso", &[DARIO])?;
        let mut known = facts(testbed, "preso")?;
        says(take_charge, &known)?;
        // About a recipient that anna did not write to, and about a message that nobody knows.
        says(Kind::Delivery("altri@delta.example"), &known)?;
        known.id = "mai.visto@delta.example".to_owned();
        known.msgid = Some("<ignoto@client.alfa.example>".to_owned());
        says(Kind::NonDelivery(DARIO), &known)?;
        says(take_charge, &known)?;

        anna_is_told(testbed, "ignoto", &["errore-consegna dario@delta.example"])?;
        let last = "preavviso-errore-consegna dario@delta.example 24";
        anna_is_told(testbed, "preso", &["accettazione", "avvenuta-consegna altri@delta.example", last])?;
        anna_is_told(testbed, "consegnato", &["accettazione", "avvenuta-consegna DARIO@Delta.example"])?;
        assert_eq!(count(alfa, "consegnato", "received presa-in-carico")?, 2);
        assert_eq!(count(alfa, "consegnato", "received avvenuta-consegna")?, 1);
        assert_eq!(count(alfa, "preso", "received avvenuta-consegna")?, 1);
        assert_eq!(count(alfa, "ignoto", "received errore-consegna")?, 1);
        assert_eq!(count(alfa, "ignoto", "received presa-in-carico")?, 1);
        judge(testbed, "preso")?;

        let (is_sound, said) = alfa.daemon()?.command(&["log", "audit"])?;
        let remark = "altri@delta.example is no recipient of this transaction (said by DELTA Posta S.r.l.)";
        assert!(is_sound && said.contains(remark), "{said}");
        Ok(())
    });
}

#[test]
fn outcome_an_audit_names_what_must_not_be_in_the_log() {
    providers(3, 6).test(|testbed| {
        let alfa = testbed.host("alfa")?.daemon()?;
        anna_sends(testbed, "prova", &[BRUNO, "carla@alfa.example"])?;
        let delivered = ["avvenuta-consegna bruno@beta.example", "avvenuta-consegna carla@alfa.example"];
        anna_is_told(testbed, "prova", &[&["accettazione"], &delivered[..]].concat())?;
        let (is_sound, said) = alfa.command(&["log", "audit"])?;
        assert!(is_sound && said.contains("1 transactions: 0 violations, 0 remarks"), "{said}");
        let (is_sound, said) = alfa.command(&["log", "audit", "--to", "2020-01-01"])?;
        assert!(is_sound && said.contains("0 transactions"), "{said}");
        let (is_understood, said) = alfa.command(&["log", "audit", "--from", "yesterday"])?;
        assert!(!is_understood && said.contains("--from"), "{said}");
        let (is_done, said) = alfa.command(&["log", "rebuild"])?;
        assert!(is_done && said.contains("0 recipients are watched"), "{said}");

        // The same log with a delivery that never was.
        alfa.stop()?;
        let log = testbed.folder().join("forged.sqlite");
        fs::copy(alfa.event_log(), &log)?;
        let runtime = tokio::runtime::Runtime::new()?;
        let row = runtime.block_on(async {
            let log = SqliteLog::open(&log)?;
            let earlier = log.reader().of_msgid("prova@client.alfa.example").await?;
            let acceptance = earlier.into_iter().find(|one| one.entry.kind == EventKind::Acceptance);
            let acceptance = acceptance.context("no acceptance")?.entry;
            let recipient = Some(BRUNO.to_owned());
            let forged = Entry { kind: EventKind::Delivery, recipient, slot: None, ..acceptance };
            let row = log.record(vec![forged]).await?.first().context("no row")?.sequence;
            log.close().await?;
            anyhow::Ok(row)
        })?;
        let configuration = fs::read_to_string(&alfa.configuration)?;
        let own = alfa.event_log().display().to_string();
        ensure!(configuration.contains(&own), "the configuration should name {own}");
        let forged = testbed.folder().join("forged.toml");
        fs::write(&forged, configuration.replace(&own, &log.display().to_string()))?;
        let program = env!("CARGO_BIN_EXE_pec-milter");
        let audit = Command::new(program).args(["log", "audit", "--config"]).arg(forged).output()?;
        let said = String::from_utf8(audit.stdout)?;
        assert_eq!(audit.status.code(), Some(1), "{said}");
        for breach in ["delivered to bruno@beta.example without having arrived", "in no mailbox"] {
            let is_named = |line: &str| line.contains(&format!("#{row}: ")) && line.contains(breach);
            assert!(said.lines().any(is_named), "{breach}: {said}");
        }
        Ok(())
    });
}
