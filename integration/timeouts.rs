//! Silence (§3.1.6): which notices a sender gets when a recipient's provider says too little, and what ends the watch.
//!
//! The periods of the rules are shortened to seconds, so the referee's word on 12 and 22 hours is set aside; everything
//! else it says counts. That a notice does not come is shown by a letter of later, about which it has come.

use std::collections::HashSet;
use std::fs;

use anyhow::{Context, Result, ensure};
use pec_milter::adapters::key_file::{self, KeySource};
use pec_milter::message::Pieces;
use pec_milter::message::certification_data::CertificationData;
use pec_milter::message::notification::{Notification, delivery, server_server_acceptance};
use pec_milter::model::{Address, Provider, ReceiptType, TemporalReference};
use pec_milter::smime::Engine;
use pec_testbed::referee::Referee;
use pec_testbed::{Host, PATIENCE, Plan, Port, Received, Testbed, wait_until};

const ANNA: &str = "anna@alfa.example";
const BRUNO: &str = "bruno@beta.example";
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

/// The events about a letter in a provider's log, each as `log show` tells it after the instant.
fn events(host: &Host, name: &str) -> Result<Vec<String>> {
    let (_, timeline) = host.daemon()?.command(&["log", "show", &format!("{name}@client.alfa.example")])?;
    let events = timeline.split_once("\n\n").map(|(_, events)| events).unwrap_or_default();
    Ok(events.lines().filter_map(|line| Some(line.splitn(4, ' ').nth(3)?.trim().to_owned())).collect())
}

/// The Message-IDs with which events of a kind were told.
fn told_by(host: &Host, name: &str, kind: &str) -> Result<Vec<String>> {
    let of_kind = events(host, name)?.into_iter().filter(|event| event.starts_with(kind));
    Ok(of_kind.filter_map(|event| Some(event.split_once(" told by ")?.1.split(' ').next()?.to_owned())).collect())
}

fn count(host: &Host, name: &str, kind: &str) -> Result<usize> {
    Ok(events(host, name)?.iter().filter(|event| event.starts_with(kind)).count())
}

/// Every message of a letter is right alone, and all agree, the shortened periods aside.
fn judge(testbed: &Testbed, name: &str) -> Result<()> {
    let Some(referee) = Referee::find() else { return Ok(()) };
    let folder = testbed.folder().join(format!("judged-{name}"));
    fs::create_dir_all(&folder)?;
    let mut seen = HashSet::new();
    let messages = testbed.received()?;
    for (number, message) in messages.iter().filter(|message| is_of(message, name)).enumerate() {
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
        let of_letter = events(alfa, "silenzio")?;
        assert_eq!(
            (count(alfa, "silenzio", "timeout-first")?, count(alfa, "silenzio", "timeout-final")?),
            (1, 1),
            "{of_letter:#?}"
        );

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

/// The test in the place of beta: signed notifications about anna's letters, handed to alfa as another server does.
struct Beta<'a> {
    testbed: &'a Testbed,
    provider: Provider,
    signer: pec_milter::smime::Signer,
}

impl<'a> Beta<'a> {
    fn new(testbed: &'a Testbed) -> Result<Self> {
        let known = testbed.host("beta")?.provider.as_ref().context("beta is a provider")?;
        let provider = Provider {
            name: known.name.clone(),
            sending_address: known.sending_address.parse()?,
            service_mailbox: known.service_mailbox.parse()?,
            mail_domains: vec!["beta.example".parse()?],
        };
        let source = KeySource::Pem {
            private_key: known.identity.key.clone(),
            certificate: known.identity.chain.clone(),
            passphrase_file: None,
        };
        Ok(Beta { testbed, provider, signer: key_file::load(&source, Engine::AwsLc)? })
    }

    /// What is certified of a letter, by anna's acceptance.
    fn facts(&self, name: &str) -> Result<CertificationData> {
        let acceptance = wait_until(&format!("the acceptance of {name}"), PATIENCE, || {
            let messages = anna_has(self.testbed, name)?;
            messages.into_iter().find(|message| message.is("accettazione")).context("none yet")
        })?;
        Ok(CertificationData::from_xml(acceptance.certification_data()?.as_bytes())?)
    }

    fn takes_charge(&self, data: &CertificationData, recipients: &[&str]) -> Result<()> {
        let taken = recipients.iter().map(|text| Ok(text.parse()?)).collect::<Result<Vec<Address>>>()?;
        let to: Address = "ricevute@alfa.example".parse()?;
        let id = "<preso.1@beta.example>".parse()?;
        self.tells(server_server_acceptance(data.facts.clone(), taken, &self.provider.name, data.at, id, to))
    }

    fn delivers(&self, data: &CertificationData, recipient: &str) -> Result<()> {
        let (facts, issuer, id) = (data.facts.clone(), &self.provider.name, "<consegnato.1@beta.example>".parse()?);
        let kind = ReceiptType::Concise;
        self.tells(delivery(facts, kind, recipient.parse()?, issuer, data.at, id, kind, Pieces::default()))
    }

    fn tells(&self, notification: Notification) -> Result<()> {
        let (to, at) = (notification.to.to_string(), TemporalReference::from_unix(notification.data.at.unix()));
        let unsigned = notification.compose(&self.provider);
        let signature = self.signer.detached(unsigned.digest(), at)?;
        let octets = unsigned.seal(&signature).into_pieces().to_vec();
        let alfa = self.testbed.host("alfa")?;
        let dialogue = alfa.inject_as_peer(self.provider.sending_address.as_str(), &[&to], &octets)?;
        ensure!(dialogue.accepted(), "alfa should take beta's notification:\n{dialogue}");
        Ok(())
    }
}

#[test]
fn outcome_notifications_of_other_providers_count_in_any_order_and_number() {
    providers(10, 18).test(|testbed| {
        let alfa = testbed.host("alfa")?;
        testbed.host("beta")?.stop_postfix()?;
        let beta = Beta::new(testbed)?;
        // The delivery first, then twice what it makes needless.
        anna_sends(testbed, "consegnato", &[BRUNO])?;
        let data = beta.facts("consegnato")?;
        beta.delivers(&data, "BRUNO@Beta.example")?;
        beta.takes_charge(&data, &[BRUNO])?;
        beta.takes_charge(&data, &[BRUNO])?;

        anna_sends(testbed, "preso", &[BRUNO])?;
        let mut data = beta.facts("preso")?;
        beta.takes_charge(&data, &[BRUNO])?;
        // About a recipient that anna did not write to, and about a message that nobody knows.
        beta.delivers(&data, "altri@beta.example")?;
        data.facts.id = "mai.visto@beta.example".parse()?;
        data.facts.msgid = Some("<ignoto@client.alfa.example>".parse()?);
        beta.delivers(&data, BRUNO)?;
        beta.takes_charge(&data, &[BRUNO])?;

        let delivered = |recipient: &str| format!("avvenuta-consegna {recipient}");
        anna_is_told(testbed, "ignoto", &[&delivered(BRUNO)])?;
        let last = "preavviso-errore-consegna bruno@beta.example 24";
        anna_is_told(testbed, "preso", &["accettazione", &delivered("altri@beta.example"), last])?;
        anna_is_told(testbed, "consegnato", &["accettazione", &delivered("BRUNO@Beta.example")])?;
        assert_eq!(count(alfa, "consegnato", "received presa-in-carico")?, 2);
        assert_eq!(count(alfa, "consegnato", "received avvenuta-consegna")?, 1);
        assert_eq!(count(alfa, "preso", "received avvenuta-consegna altri@beta.example")?, 1);
        assert_eq!(count(alfa, "ignoto", "received")?, 2);

        let (is_sound, said) = alfa.daemon()?.command(&["log", "audit"])?;
        assert!(
            is_sound && said.contains("altri@beta.example is no recipient of this transaction (said by Beta"),
            "{said}"
        );
        Ok(())
    });
}

#[test]
fn outcome_an_audit_of_the_log_names_what_does_not_agree() {
    providers(3, 6).test(|testbed| {
        let alfa = testbed.host("alfa")?.daemon()?;
        anna_sends(testbed, "prova", &[BRUNO, "carla@alfa.example"])?;
        anna_is_told(
            testbed,
            "prova",
            &["accettazione", "avvenuta-consegna bruno@beta.example", "avvenuta-consegna carla@alfa.example"],
        )?;
        let (is_sound, said) = alfa.command(&["log", "audit"])?;
        assert!(is_sound && said.contains("1 transactions: 0 violations, 0 remarks"), "{said}");
        let (is_sound, said) = alfa.command(&["log", "audit", "--to", "2020-01-01"])?;
        assert!(is_sound && said.contains("0 transactions"), "{said}");
        let (is_good, said) = alfa.command(&["log", "rebuild"])?;
        assert!(is_good && said.contains("0 recipients are watched"), "{said}");
        let (is_good, said) = alfa.command(&["log", "audit", "--from", "yesterday"])?;
        assert!(!is_good && said.contains("--from"), "{said}");
        Ok(())
    });
}
