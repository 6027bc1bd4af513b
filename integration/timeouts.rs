//! Silence (§3.1.6): which notices a sender gets when a recipient's provider says too little, and what ends the watch.
//!
//! The periods of the rules are shortened to seconds, so the referee's word on 12 and 22 hours is set aside; everything
//! else it says counts. That a notice does not come is shown by a letter of later, about which it has come.

#[path = "support/anna.rs"]
mod anna;

use std::collections::HashSet;
use std::fs;

use anna::{ANNA, anna_sends};
use anyhow::{Context, Result, ensure};
use pec_testbed::foreign::{Facts, ForeignProvider, Kind};
use pec_testbed::referee::Referee;
use pec_testbed::{Host, PATIENCE, Plan, Received, Testbed, wait_until};

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
fn outcome_a_mailbox_of_our_own_that_is_out_of_order_gives_the_final_notice_only() {
    providers(4, 9).test(|testbed| {
        let alfa = testbed.host("alfa")?;
        // Dovecot finds a file where the mailbox should be, and puts the message off.
        let mailbox = alfa.site.folder.join("mail/carla");
        fs::write(&mailbox, "")?;
        let last = "preavviso-errore-consegna carla@alfa.example 24";
        anna_sends(testbed, "guasto", &["carla@alfa.example"])?;
        anna_is_told(testbed, "guasto", &["accettazione", last])?;
        assert_eq!(count(alfa, "guasto", "timeout-first")?, 0);
        fs::remove_file(&mailbox)?;
        alfa.flush_queue()?;
        anna_is_told(testbed, "guasto", &["accettazione", last, "avvenuta-consegna carla@alfa.example"])?;
        judge(testbed, "guasto")
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
fn outcome_a_failure_that_our_own_postfix_reports_ends_the_watch() {
    let delta =
        "smtpd_reject_unlisted_recipient = yes\nvirtual_mailbox_maps = inline:{ { dario@delta.example = x } }\n";
    let plan = providers(5, 10).plain("delta", &["dario"]).with_postfix(delta);
    plan.test(|testbed| {
        let (alfa, host) = (testbed.host("alfa")?, testbed.host("delta")?);
        testbed.list_in_directory(&[ForeignProvider::new(testbed, host)?.record(&[])])?;
        // Refused by a host that speaks for certified mailboxes; dario's provider takes the message and says nothing.
        let nobody = "nessuno@delta.example";
        anna_sends(testbed, "rifiutato", &[nobody, DARIO])?;
        let told = ["accettazione", "errore-consegna nessuno@delta.example"];
        let dario = ["12", "24"].map(|which| format!("preavviso-errore-consegna {DARIO} {which}"));
        anna_is_told(testbed, "rifiutato", &[&told[..], &[&dario[0], &dario[1]]].concat())?;
        assert_eq!((count(alfa, "rifiutato", "timeout-first")?, count(alfa, "rifiutato", "non-delivery")?), (1, 1));
        judge(testbed, "rifiutato")
    });
}

#[test]
fn outcome_a_host_that_is_silent_for_the_whole_queue_lifetime_gives_both_notices_and_then_the_failure() {
    let plan = Plan::new(env!("CARGO_BIN_EXE_pec-milter"))
        .provider("alfa", &["anna"])
        .with_pec_milter("[timeouts]\nfirst_seconds = 3\nfinal_seconds = 6\n")
        .with_postfix("maximal_queue_lifetime = 15s\n")
        .provider("beta", &["bruno"]);
    plan.test(|testbed| {
        let alfa = testbed.host("alfa")?;
        testbed.host("beta")?.stop_postfix()?;
        anna_sends(testbed, "muto", &[BRUNO])?;
        let notices = ["12", "24"].map(|which| format!("preavviso-errore-consegna {BRUNO} {which}"));
        let failure = format!("errore-consegna {BRUNO}");
        wait_until("Postfix to give the message up", PATIENCE, || {
            // Postfix puts a message off for long that it finds still being delivered.
            alfa.flush_queue()?;
            let found = told(testbed, "muto")?;
            ensure!(found.contains(&failure), "{found:?}");
            Ok(())
        })?;
        anna_is_told(testbed, "muto", &["accettazione", &notices[0], &notices[1], &failure])?;
        let order: Vec<String> =
            alfa.daemon()?.timeline("muto@client.alfa.example")?.into_iter().map(|one| one.kind).collect();
        assert_eq!(order, ["arrival", "acceptance", "timeout-first", "timeout-final", "non-delivery"]);
        alfa.wait_for_empty_queue()?;
        judge(testbed, "muto")
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

        let process = alfa.daemon()?.process_id()?;

        // The delivery first, and again, then twice what it makes needless.
        anna_sends(testbed, "consegnato", &[DARIO])?;
        let known = facts(testbed, "consegnato")?;
        says(Kind::Delivery("DARIO@Delta.example"), &known)?;
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
        let delivered = "avvenuta-consegna DARIO@Delta.example";
        anna_is_told(testbed, "consegnato", &["accettazione", delivered, delivered])?;
        assert_eq!(count(alfa, "consegnato", "received presa-in-carico")?, 2);
        assert_eq!(count(alfa, "consegnato", "received avvenuta-consegna")?, 2);
        assert_eq!(count(alfa, "preso", "received avvenuta-consegna")?, 1);
        assert_eq!(count(alfa, "ignoto", "received errore-consegna")?, 1);
        assert_eq!(count(alfa, "ignoto", "received presa-in-carico")?, 1);
        judge(testbed, "preso")?;
        // Every take-charge is delivered, whatever it is about, and nothing of it made the daemon fall.
        let mut about = Vec::new();
        for bytes in alfa.fetch_when("ricevute", 4)? {
            let take_charge = Received { mailbox: "ricevute@alfa.example".to_owned(), bytes };
            assert!(take_charge.is("presa-in-carico"), "{}", take_charge.kind());
            about.push(take_charge.certified("oggetto")?.concat());
        }
        about.sort();
        assert_eq!(about, ["consegnato", "consegnato", "preso", "preso"], "the last one with an id that nobody knows");
        assert_eq!(alfa.daemon()?.process_id()?, process);

        let (is_sound, said) = alfa.daemon()?.command(&["log", "audit"])?;
        let remark = "altri@delta.example is no recipient of this transaction (said by DELTA Posta S.r.l.)";
        assert!(is_sound && said.contains(remark), "{said}");
        Ok(())
    });
}

#[test]
fn outcome_what_comes_between_the_two_notices_counts_for_the_second() {
    providers(3, 15).plain("delta", &["dario"]).test(|testbed| {
        let (alfa, host) = (testbed.host("alfa")?, testbed.host("delta")?);
        let delta = ForeignProvider::new(testbed, host)?;
        testbed.list_in_directory(&[delta.record(&[])])?;
        let says = |kind: Kind, name: &str| delta.send(alfa, &delta.draft(kind, &facts(testbed, name)?)?).map(drop);
        let notices = ["12", "24"].map(|which| format!("{NOTICE} {DARIO} {which}"));
        let [first, last] = [&*notices[0], &*notices[1]];
        let failed = format!("errore-consegna {DARIO}");

        anna_sends(testbed, "fallito", &[DARIO])?;
        anna_sends(testbed, "preso", &[DARIO])?;
        anna_is_told(testbed, "fallito", &["accettazione", first])?;
        anna_is_told(testbed, "preso", &["accettazione", first])?;
        says(Kind::NonDelivery(DARIO), "fallito")?;
        says(Kind::TakeCharge { taken: &[DARIO], to: "ricevute@alfa.example" }, "preso")?;
        anna_is_told(testbed, "fallito", &["accettazione", first, &failed])?;
        alfa.fetch_when("ricevute", 1)?;
        assert_eq!(count(alfa, "preso", "received presa-in-carico")?, 1);
        assert_eq!(count(alfa, "preso", "timeout-final")?, 0, "the take-charge came in between");

        // The later of the two: what were owed about the other would have come by then.
        anna_is_told(testbed, "preso", &["accettazione", first, last])?;
        anna_is_told(testbed, "fallito", &["accettazione", first, &failed])?;
        for (name, finals) in [("fallito", 0), ("preso", 1)] {
            let counted = (count(alfa, name, "timeout-first")?, count(alfa, name, "timeout-final")?);
            assert_eq!(counted, (1, finals), "{name}");
            judge(testbed, name)?;
        }
        Ok(())
    });
}

#[test]
fn outcome_notifications_that_come_before_our_own_acceptance_count_as_after_it() {
    providers(20, 30).plain("delta", &["dario"]).test(|testbed| {
        let (alfa, host) = (testbed.host("alfa")?, testbed.host("delta")?);
        let delta = ForeignProvider::new(testbed, host)?;
        testbed.list_in_directory(&[delta.record(&[])])?;

        // Delta gets the envelopes while alfa's own queue is behind.
        let names = ["consegnato", "fallito", "preso"];
        alfa.with_hop_away(|| {
            names.iter().try_for_each(|name| anna_sends(testbed, name, &[DARIO]))?;
            host.fetch_when("dario", names.len())?;
            wait_until("all three to wait for the hop alone", PATIENCE, || {
                let queue = alfa.queue()?;
                let is_waiting = queue.matches("accettazione@pec-milter.invalid").count() == names.len();
                ensure!(is_waiting && !queue.contains('*') && !queue.contains(DARIO), "{queue}");
                Ok(())
            })?;
            alfa.hold_queue()
        })?;
        let envelopes: Vec<Received> =
            host.fetch("dario")?.into_iter().map(|bytes| Received { mailbox: DARIO.to_owned(), bytes }).collect();
        let facts = |name: &str| -> Result<Facts> {
            let envelope = envelopes.iter().find(|one| is_of(one, name)).context("no envelope")?;
            Ok(Facts {
                sender: ANNA.to_owned(),
                recipients: vec![(DARIO.to_owned(), true)],
                subject: name.to_owned(),
                id: envelope.transaction().context("no id")?,
                msgid: envelope.field("X-Riferimento-Message-ID"),
                accepted: jiff::Timestamp::now(),
            })
        };
        let says = |kind: Kind, name: &str| delta.send(alfa, &delta.draft(kind, &facts(name)?)?).map(drop);
        let take_charge = Kind::TakeCharge { taken: &[DARIO], to: "ricevute@alfa.example" };
        says(Kind::Delivery(DARIO), "consegnato")?;
        says(take_charge, "consegnato")?;
        says(Kind::NonDelivery(DARIO), "fallito")?;
        says(take_charge, "preso")?;

        let (delivered, failed) = ("avvenuta-consegna dario@delta.example", "errore-consegna dario@delta.example");
        anna_is_told(testbed, "consegnato", &[delivered])?;
        anna_is_told(testbed, "fallito", &[failed])?;
        alfa.fetch_when("ricevute", 2)?;
        for (name, heard) in [
            ("consegnato", &["received avvenuta-consegna", "received presa-in-carico"][..]),
            ("fallito", &["received errore-consegna"]),
            ("preso", &["received presa-in-carico"]),
        ] {
            let events = alfa.daemon()?.timeline(&format!("{name}@client.alfa.example"))?;
            let mut kinds: Vec<&str> = events.iter().map(|event| event.kind.as_str()).collect();
            kinds.sort();
            assert_eq!(kinds, heard, "{name} before the acceptance");
        }

        alfa.release_queue()?;
        anna_is_told(testbed, "preso", &["accettazione"])?;
        // The last of the three: what is owed about the others would have come by then.
        anna_is_told(testbed, "preso", &["accettazione", "preavviso-errore-consegna dario@delta.example 24"])?;
        anna_is_told(testbed, "consegnato", &["accettazione", delivered])?;
        anna_is_told(testbed, "fallito", &["accettazione", failed])?;
        for name in names {
            assert_eq!(count(alfa, name, "acceptance")?, 1, "{name}");
            judge(testbed, name)?;
        }
        Ok(())
    });
}

#[test]
#[should_panic(expected = "nothing was heard of dario@delta.example, and nobody was told in time")]
fn outcome_a_test_that_leaves_one_open_without_saying_so_fails() {
    let plan = Plan::new(env!("CARGO_BIN_EXE_pec-milter")).provider("alfa", &["anna"]).plain("delta", &["dario"]);
    plan.test(|testbed| {
        let host = testbed.host("delta")?;
        testbed.list_in_directory(&[ForeignProvider::new(testbed, host)?.record(&[])])?;
        anna_sends(testbed, "muto", &[DARIO])?;
        testbed.received_when(&[(ANNA, 1), (DARIO, 1)]).map(drop)
    });
}
