//! Virus detections of a provider that is not pec-milter (§3.2.3, §3.2.4): when one becomes the notice to our user, and when
//! it tells him nothing.
//!
//! The foreign provider is delta.example, an ordinary mail host with a certificate; what it says of a message the test says.

#[path = "support/anna.rs"]
mod anna;

use anna::{ANNA, anna_sends};
use anyhow::{Context, Result, ensure};
use pec_testbed::foreign::{Facts, ForeignProvider, Kind, VIRUS};
use pec_testbed::{Host, PATIENCE, Plan, Received, Testbed, wait_until};

const CARLA: &str = "carla@alfa.example";
const RICEVUTE: &str = "ricevute@alfa.example";
const DARIO: &str = "dario@delta.example";

fn plan() -> Plan {
    Plan::new(env!("CARGO_BIN_EXE_pec-milter")).provider("alfa", &["anna", "carla"]).plain("delta", &["dario", "elena"])
}

/// Makes delta a provider.
fn delta(testbed: &Testbed) -> Result<ForeignProvider> {
    let delta = ForeignProvider::new(testbed, testbed.host("delta")?)?;
    testbed.list_in_directory(&[delta.record(&[])])?;
    Ok(delta)
}

/// What dario's provider knows of a letter, by its envelope.
fn facts(testbed: &Testbed, name: &str, recipients: &[(&str, bool)]) -> Result<Facts> {
    let envelope = wait_until(&format!("the envelope of {name}"), PATIENCE, || {
        let messages = testbed.host("delta")?.fetch("dario")?.into_iter();
        let mut messages = messages.map(|bytes| Received { mailbox: DARIO.to_owned(), bytes });
        let reference = format!("<{name}@client.alfa.example>");
        messages.find(|one| one.field("X-Riferimento-Message-ID").as_deref() == Some(&reference)).context("none yet")
    })?;
    Ok(Facts {
        sender: ANNA.to_owned(),
        recipients: recipients.iter().map(|&(address, is_certified)| (address.to_owned(), is_certified)).collect(),
        subject: name.to_owned(),
        id: envelope.transaction().context("no id")?,
        msgid: envelope.field("X-Riferimento-Message-ID"),
        accepted: jiff::Timestamp::now(),
    })
}

fn says(delta: &ForeignProvider, host: &Host, kind: Kind, facts: &Facts) -> Result<()> {
    delta.send(host, &delta.draft(kind, facts)?).map(drop)
}

fn detection(about: &str) -> Kind<'_> {
    Kind::VirusDetection { about, to: RICEVUTE }
}

/// The kinds of what lies in a mailbox, sorted.
fn kinds(all: &[Received], mailbox: &str) -> Vec<String> {
    let mut kinds: Vec<String> = all.iter().filter(|one| one.mailbox == mailbox).map(Received::kind).collect();
    kinds.sort();
    kinds
}

/// How many events of a kind a letter has.
fn events(host: &Host, name: &str, kind: &str) -> Result<usize> {
    let events = host.daemon()?.timeline(&format!("{name}@client.alfa.example"))?;
    Ok(events.iter().filter(|event| event.kind == kind).count())
}

/// A warning in the log must have these words and be about a recipient.
fn is_warned(host: &Host, words: &str, about: &str) -> Result<()> {
    let log = host.daemon()?.log();
    let is_told = |line: &str| line.contains("WARN") && line.contains(words) && line.contains(about);
    ensure!(log.lines().any(is_told), "no line has {words:?} about {about}:\n{log}");
    Ok(())
}

#[test]
fn outcome_virus_detection_that_overtakes_our_acceptance_waits_for_it_and_becomes_the_notice() {
    plan().test(|testbed| {
        let alfa = testbed.host("alfa")?;
        let delta = delta(testbed)?;
        // Delta gets the envelope while alfa's own queue is behind.
        alfa.with_hop_away(|| {
            anna_sends(testbed, "presto", &[DARIO])?;
            facts(testbed, "presto", &[])?;
            wait_until("the acceptance to wait for the hop alone", PATIENCE, || {
                let queue = alfa.queue()?;
                let is_waiting = queue.contains("accettazione@pec-milter.invalid");
                ensure!(is_waiting && !queue.contains('*') && !queue.contains(DARIO), "{queue}");
                Ok(())
            })?;
            alfa.hold_queue()
        })?;
        let known = facts(testbed, "presto", &[(DARIO, true)])?;
        says(&delta, alfa, detection(DARIO), &known)?;
        let waiting = "a virus detection about a message that was not accepted here";
        wait_until("the detection to wait", PATIENCE, || is_warned(alfa, waiting, DARIO))?;
        alfa.fetch_when("ricevute", 1)?;
        assert!(alfa.queue()?.contains("rilevazione-virus@pec-milter.invalid"), "it waits for the acceptance");
        assert_eq!(alfa.fetch("anna")?.len(), 0);
        assert_eq!(events(alfa, "presto", "virus-non-delivery")?, 0);

        alfa.release_queue()?;
        wait_until("acceptance and notice", PATIENCE, || {
            alfa.flush_queue()?;
            let count = alfa.fetch("anna")?.len();
            ensure!(count >= 2, "{count} messages for anna");
            Ok(())
        })?;
        let all = testbed.received_when(&[(ANNA, 2), (RICEVUTE, 1), (DARIO, 1)])?;
        assert_eq!(kinds(&all, ANNA), ["accettazione", "errore-consegna"]);
        let notice = all.iter().find(|one| one.is("errore-consegna")).context("no notice")?;
        assert_eq!(notice.certified_attributes("postacert", "errore")?, ["virus"]);
        assert_eq!(notice.certified("consegna")?, [DARIO]);
        assert_eq!(notice.certified("errore-esteso")?, [VIRUS]);
        assert_eq!(events(alfa, "presto", "acceptance")?, 1);
        assert_eq!(events(alfa, "presto", "virus-non-delivery")?, 1);
        testbed.judge(&all)
    });
}

#[test]
fn outcome_virus_detection_about_another_providers_recipient_is_an_anomaly() {
    // Delta says nothing of dario.
    plan().with_open_watches().test(|testbed| {
        let alfa = testbed.host("alfa")?;
        let delta = delta(testbed)?;
        anna_sends(testbed, "altrui", &[DARIO, CARLA])?;
        let known = facts(testbed, "altrui", &[(DARIO, true), (CARLA, true)])?;
        testbed.received_when(&[(ANNA, 2), (DARIO, 1), (CARLA, 1), (RICEVUTE, 1)])?;
        says(&delta, alfa, detection(CARLA), &known)?;
        let all = testbed.received_when(&[(ANNA, 2), (DARIO, 1), (CARLA, 1), (RICEVUTE, 2)])?;
        assert_eq!(kinds(&all, RICEVUTE), ["errore", "presa-in-carico"]);
        for kind in ["virus-non-delivery", "received rilevazione-virus"] {
            assert_eq!(events(alfa, "altrui", kind)?, 0, "{kind}");
        }
        testbed.judge(&all)
    });
}

#[test]
fn outcome_virus_detection_about_nobody_of_the_transaction_or_an_ordinary_recipient_tells_nothing() {
    // Delta says nothing else.
    plan().with_open_watches().test(|testbed| {
        let alfa = testbed.host("alfa")?;
        // Dario is an ordinary recipient at first: the directory names delta only afterwards.
        anna_sends(testbed, "ordinario", &[DARIO])?;
        let ordinary = facts(testbed, "ordinario", &[(DARIO, false)])?;
        let delta = delta(testbed)?;
        anna_sends(testbed, "estraneo", &[DARIO])?;
        let certified = facts(testbed, "estraneo", &[(DARIO, true)])?;
        let elena = "elena@delta.example";
        says(&delta, alfa, detection(DARIO), &ordinary)?;
        says(&delta, alfa, detection(elena), &certified)?;

        let all = testbed.received_when(&[(ANNA, 2), (DARIO, 2), (RICEVUTE, 2)])?;
        assert_eq!(kinds(&all, ANNA), ["accettazione", "accettazione"]);
        assert_eq!(kinds(&all, RICEVUTE), ["rilevazione-virus", "rilevazione-virus"]);
        for (name, about) in [("ordinario", DARIO), ("estraneo", elena)] {
            is_warned(alfa, "a virus detection about somebody who is no certified recipient of the message", about)?;
            assert_eq!(events(alfa, name, "received rilevazione-virus")?, 1, "{name}");
            assert_eq!(events(alfa, name, "virus-non-delivery")?, 0, "{name}");
        }
        Ok(())
    });
}

#[test]
fn outcome_virus_detection_after_a_delivery_tells_nothing() {
    plan().test(|testbed| {
        let alfa = testbed.host("alfa")?;
        let delta = delta(testbed)?;
        anna_sends(testbed, "tardi", &[DARIO])?;
        let known = facts(testbed, "tardi", &[(DARIO, true)])?;
        says(&delta, alfa, Kind::Delivery(DARIO), &known)?;
        testbed.received_when(&[(ANNA, 2), (DARIO, 1)])?;
        says(&delta, alfa, detection(DARIO), &known)?;
        let all = testbed.received_when(&[(ANNA, 2), (DARIO, 1), (RICEVUTE, 1)])?;
        assert_eq!(kinds(&all, ANNA), ["accettazione", "avvenuta-consegna"]);
        is_warned(alfa, "a virus detection after the recipient's outcome, nothing is told", DARIO)?;
        assert_eq!(events(alfa, "tardi", "received rilevazione-virus")?, 1);
        assert_eq!(events(alfa, "tardi", "virus-non-delivery")?, 0);
        Ok(())
    });
}
