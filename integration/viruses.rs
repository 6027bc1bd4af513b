//! Viruses on real servers with a real clamd (§2.2.4, §3.1.3, §3.2.3, §3.2.4): nothing infected reaches a mailbox, who
//! must be told is told once, what was found is kept, and a scanner that is away never means "clean".

#[path = "support/in_use.rs"]
mod in_use;
#[path = "support/infected.rs"]
mod infected;
#[path = "support/virus_store.rs"]
mod virus_store;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use in_use::was_in_use;
use infected::{infected, message};
use jiff::ToSpan;
use jiff::civil::Date;
use pec_testbed::clamd::{EICAR_NAME, eicar};
use pec_testbed::{Host, PATIENCE, Plan, Port, Received, Testbed, wait_until};
use virus_store::{exported, stored};

const ANNA: &str = "anna@alfa.example";
const RICEVUTE: &str = "ricevute@alfa.example";
const BRUNO: &str = "bruno@beta.example";
const DARIO: &str = "dario@beta.example";
const MARIO: &str = "mario@gamma.example";

/// clamd may take this long in tests about a slow one. Behind `with_clamd` it stands in the section [virus].
const IMPATIENT: &str = "timeout_seconds = 2\n";

fn plan() -> Plan {
    Plan::new(env!("CARGO_BIN_EXE_pec-milter"))
}

/// Alfa has no scanner, so what its users send is found by beta.
fn only_beta_scans() -> Plan {
    plan().provider("alfa", &["anna"]).provider("beta", &["bruno", "dario"]).with_clamd("").with_pec_milter(IMPATIENT)
}

/// The pattern inside a compressed archive.
fn infected_archive() -> Result<Vec<u8>> {
    let program = "import io, sys, zipfile\narchive = io.BytesIO()\n\
        with zipfile.ZipFile(archive, 'w', zipfile.ZIP_DEFLATED) as file: file.writestr('a.com', sys.argv[1])\n\
        sys.stdout.buffer.write(archive.getvalue())";
    let output = Command::new("python3").args(["-c", program, &eicar()]).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(output.stdout)
}

fn anna_sends(testbed: &Testbed, to: &[&str], message: &[u8]) -> Result<()> {
    let dialogue = testbed.host("alfa")?.submit("anna", Port::Submissions, ANNA, to, message)?;
    ensure!(dialogue.accepted(), "expected anna's message to be accepted:\n{dialogue}");
    Ok(())
}

fn of_kind<'a>(all: &'a [Received], mailbox: &str, kind: &str) -> Vec<&'a Received> {
    all.iter().filter(|message| message.mailbox == mailbox && message.is(kind)).collect()
}

/// Whom the messages of a kind in a mailbox are about, sorted.
fn about(all: &[Received], mailbox: &str, kind: &str) -> Result<Vec<String>> {
    let mut recipients = Vec::new();
    for message in of_kind(all, mailbox, kind) {
        recipients.push(message.certified("consegna")?.join(" "));
    }
    recipients.sort();
    Ok(recipients)
}

fn store_folder(host: &Host) -> PathBuf {
    host.site.folder.join("pec/virus")
}

/// Waits until a host's pec-milter has said this since `from`.
fn said(host: &Host, from: usize, words: &str) -> Result<()> {
    wait_until(&format!("\"{words}\" in the log"), PATIENCE, || {
        let log = host.daemon()?.log();
        let tail = log.get(from..).unwrap_or_default();
        ensure!(tail.contains(words), "{}", tail.lines().last().unwrap_or_default());
        Ok(())
    })
}

fn log_length(host: &Host) -> Result<usize> {
    Ok(host.daemon()?.log().len())
}

#[test]
fn outcome_virus_at_the_access_point_is_not_accepted_and_kept() {
    plan().provider("alfa", &["anna", "carla"]).with_clamd("").plain("gamma", &["mario"]).test(|testbed| {
        let alfa = testbed.host("alfa")?;
        let to = ["carla@alfa.example", MARIO];
        let text = format!(
            "From: {ANNA}\r\nTo: {}\r\nSubject: testo\r\nMessage-ID: <testo@client.example>\r\n\r\n{}\r\n",
            to.join(", "),
            eicar()
        );
        let shapes = [text.into_bytes(), infected("allegato", &to), message("archivio", &to, &infected_archive()?)];
        for shape in &shapes {
            anna_sends(testbed, &to, shape)?;
        }
        let all = testbed.received_when(&[(ANNA, 3)])?;
        testbed.judge(&all)?;
        for notice in of_kind(&all, ANNA, "non-accettazione") {
            assert_eq!(notice.field("X-VerificaSicurezza").as_deref(), Some("errore"));
            assert_eq!(notice.certified_attributes("postacert", "errore")?, ["virus"]);
            assert_eq!(notice.certified("errore-esteso")?, [EICAR_NAME]);
            assert_eq!(notice.certified("destinatari")?, to);
            assert!(notice.attachment("postacert.eml").is_none());
            let id = notice.transaction().context("no id")?;
            let timeline = alfa.command(&["log", "show", &id])?;
            assert!(timeline.contains("non-acceptance") && !timeline.contains("take-charge"), "{timeline}");
            let name = stored(alfa)?.into_iter().find(|name| name.contains(&id)).context("not stored")?;
            let shown = alfa.command(&["virus", "show", &name])?;
            for fact in [ANNA, "carla@alfa.example", MARIO, EICAR_NAME, "access-point", &id] {
                assert!(shown.contains(fact), "{fact}: {shown}");
            }
            assert!(shapes.contains(&exported(alfa, &name)?), "{name} is not what was submitted");
        }
        assert_eq!(stored(alfa)?.len(), 3);

        // A clean message passes, and nothing more is stored.
        anna_sends(testbed, &to, &message("pulito", &to, b"niente"))?;
        testbed.received_when(&[(ANNA, 5), (RICEVUTE, 1), (to[0], 1), (MARIO, 1)])?;
        assert_eq!(stored(alfa)?.len(), 3);

        // What an administrator asks for and is not there, or would be overwritten.
        let daemon = alfa.daemon()?;
        let name = stored(alfa)?.remove(0);
        let day = name.get(..10).context("no day")?;
        let (found, said) = daemon.command(&["virus", "list", "--from", day, "--to", day])?;
        assert!(found && said.contains(&name), "{said}");
        let (found, said) = daemon.command(&["virus", "list", "--to", "2020-01-01"])?;
        assert!(!found && said.contains("no infected message"), "{said}");
        let target = testbed.folder().join("copy");
        let target = target.to_str().context("UTF-8")?;
        for arguments in [&["virus", "show", "ignoto"][..], &["virus", "export", "ignoto", "--to", target]] {
            let (found, said) = daemon.command(arguments)?;
            assert!(!found && said.contains("ignoto"), "{said}");
        }
        fs::write(target, "keep")?;
        let (is_done, said) = daemon.command(&["virus", "export", &name, "--to", target])?;
        assert!(!is_done && said.contains(target), "{said}");
        assert_eq!(fs::read_to_string(target)?, "keep");
        testbed.judge(&testbed.received()?)
    });
}

#[test]
fn outcome_virus_is_kept_for_thirty_months_to_the_day() {
    plan().provider("alfa", &["anna"]).with_clamd("").test(|testbed| {
        let alfa = testbed.host("alfa")?;
        anna_sends(testbed, &[BRUNO], &infected("virus", &[BRUNO]))?;
        testbed.received_when(&[(ANNA, 1)])?;
        let folder = |day: Date| store_folder(alfa).join(day.to_string());
        let days = || -> Result<Vec<String>> {
            let days = fs::read_dir(store_folder(alfa))?.flatten();
            Ok(days.map(|day| day.file_name().to_string_lossy().into_owned()).collect())
        };
        let today: Date = days()?.concat().parse()?;
        let last = today.checked_sub(30.months())?;
        let past = last.checked_sub(1.day())?;

        // The last day counts, for the administrator's command and for the daemon itself.
        fs::rename(folder(today), folder(last))?;
        assert!(!alfa.command(&["log", "purge"])?.contains("removed: "));
        assert_eq!(stored(alfa)?.len(), 1);
        fs::rename(folder(last), folder(past))?;
        // The log is not as old as its store.
        let (is_done, told) = alfa.daemon()?.command(&["log", "purge"])?;
        assert!(!is_done && told.contains("set the clock"), "{told}");
        let told = alfa.command(&["log", "purge", "--clock-is-right"])?;
        assert!(told.contains(&format!("removed: infected messages of {past}")), "{told}");
        assert_eq!(stored(alfa)?.len(), 0);

        anna_sends(testbed, &[BRUNO], &infected("ancora", &[BRUNO]))?;
        testbed.received_when(&[(ANNA, 2)])?;
        fs::rename(store_folder(alfa).join(days()?.concat()), folder(past))?;
        alfa.daemon()?.stop()?;
        was_in_use(alfa, jiff::Timestamp::now())?;
        let from = log_length(alfa)?;
        alfa.daemon()?.start()?;
        said(alfa, from, "infected messages removed after 30 months")?;
        assert_eq!(days()?, Vec::<String>::new());
        Ok(())
    });
}

#[test]
fn outcome_virus_in_ordinary_mail_is_refused_in_the_dialogue() {
    plan().provider("alfa", &["anna"]).with_clamd("").test(|testbed| {
        let alfa = testbed.host("alfa")?;
        let refused = alfa.inject_as_peer(MARIO, &[ANNA], &infected("virus", &[ANNA]))?;
        let answer = refused.refusal().context("accepted")?;
        assert_eq!((answer.command.as_str(), answer.code), ("message", 550), "{refused}");
        assert!(answer.text.starts_with("5.7.1 ") && answer.text.contains(EICAR_NAME), "{refused}");
        assert!(alfa.inject_as_peer(MARIO, &[ANNA], &message("pulito", &[ANNA], b"niente"))?.accepted());
        let all = testbed.received_when(&[(ANNA, 1)])?;
        assert!(all.iter().all(|message| message.is("errore")), "an anomaly envelope");
        testbed.judge(&all)?;
        assert_eq!(stored(alfa)?.len(), 0, "ordinary mail is not kept");
        Ok(())
    });
}

#[test]
fn outcome_virus_in_a_defective_submission_gives_one_notice() {
    plan().provider("alfa", &["anna"]).with_clamd("").test(|testbed| {
        anna_sends(testbed, &[BRUNO, DARIO], &infected("virus", &[BRUNO]))?;
        let all = testbed.received_when(&[(ANNA, 1)])?;
        testbed.judge(&all)?;
        assert_eq!(all[0].certified_attributes("postacert", "errore")?, ["altro"], "the formal checks come first");
        Ok(())
    });
}

#[test]
fn outcome_virus_in_an_envelope_that_is_not_correct_is_refused_in_the_dialogue() {
    only_beta_scans().test(|testbed| {
        let beta = testbed.host("beta")?;
        anna_sends(testbed, &[BRUNO], &infected("virus", &[BRUNO]))?;
        let before = [(ANNA, 2), (RICEVUTE, 2)];
        testbed.received_when(&before)?;
        let envelope = exported(beta, &stored(beta)?.concat())?;
        // Not from its certified sender, and to somebody whom it does not name.
        for (sender, to) in [(MARIO, BRUNO), (ANNA, DARIO)] {
            let refused = beta.inject_as_peer(sender, &[to], &envelope)?;
            let answer = refused.refusal().context("accepted")?;
            assert!(answer.code == 550 && answer.text.contains(EICAR_NAME), "{refused}");
        }
        let all = testbed.received_when(&before)?;
        assert_eq!(stored(beta)?.len(), 1);
        testbed.judge(&all)
    });
}

#[test]
fn outcome_virus_detections_that_come_again_or_concern_others_are_delivered_and_nothing_more() {
    only_beta_scans().provider("delta", &["paola"]).test(|testbed| {
        anna_sends(testbed, &[BRUNO], &infected("virus", &[BRUNO]))?;
        let all = testbed.received_when(&[(ANNA, 2), (RICEVUTE, 2)])?;
        testbed.judge(&all)?;
        let detection = of_kind(&all, RICEVUTE, "rilevazione-virus").first().context("no detection")?.bytes.clone();
        let id = all.iter().find_map(Received::transaction).context("no id")?;

        // The same again, at the provider it is for, and at one that knows nothing of it.
        for (host, mailbox) in [("alfa", RICEVUTE), ("delta", "ricevute@delta.example")] {
            let peer = "posta-certificata@beta.example";
            let dialogue = testbed.host(host)?.inject_as_peer(peer, &[mailbox], &detection)?;
            assert!(dialogue.accepted(), "{dialogue}");
        }
        testbed.received_when(&[(ANNA, 2), (RICEVUTE, 3), ("ricevute@delta.example", 1)])?;
        let timeline = testbed.host("alfa")?.command(&["log", "show", &id])?;
        assert_eq!(timeline.matches("virus-non-delivery").count(), 1, "{timeline}");
        assert_eq!(timeline.matches("received rilevazione-virus").count(), 2, "{timeline}");
        let timeline = testbed.host("delta")?.command(&["log", "show", &id])?;
        assert_eq!(timeline.matches("received rilevazione-virus").count(), 1, "{timeline}");
        let timeline = testbed.host("beta")?.command(&["log", "show", &id])?;
        assert_eq!(timeline.matches("virus-detection").count(), 1, "{timeline}");
        Ok(())
    });
}

/// How a scanner fails, what the administrator reads of it, and what mends it.
struct Failing {
    name: &'static str,
    begin: fn(&Host) -> Result<()>,
    told: &'static str,
    mend: fn(&Host) -> Result<()>,
}

const FAILING: [Failing; 4] = [
    Failing {
        name: "down",
        begin: |host| host.clamd()?.stop(),
        told: "no connection to clamd",
        mend: |host| host.clamd()?.start(),
    },
    Failing {
        name: "slow",
        begin: |host| host.clamd()?.pause(),
        told: "gave no verdict within 2 s",
        mend: |host| host.clamd()?.resume(),
    },
    Failing {
        name: "over its size limit",
        begin: |host| host.clamd()?.restart_with("StreamMaxLength 1K\n"),
        told: "raise StreamMaxLength in clamd.conf",
        mend: |host| host.clamd()?.restart_with(""),
    },
    Failing {
        name: "over a limit inside the message",
        begin: |host| host.clamd()?.restart_with("MaxFileSize 1K\n"),
        told: "did not look at everything",
        mend: |host| host.clamd()?.restart_with(""),
    },
];

#[test]
fn outcome_virus_scanner_that_fails_keeps_envelopes_in_the_queue() {
    only_beta_scans().test(|testbed| {
        let beta = testbed.host("beta")?;
        for (number, Failing { name, begin, told, mend }) in (1..).zip(FAILING) {
            let from = log_length(beta)?;
            begin(beta)?;
            anna_sends(testbed, &[BRUNO], &message(&format!("pulito-{number}"), &[BRUNO], &[b'x'; 3000]))?;
            said(beta, from, told).with_context(|| name)?;
            testbed.host("alfa")?.fetch_when("ricevute", number)?;
            assert_eq!(beta.fetch("bruno")?.len(), number - 1, "{name}: delivered unseen");
            assert!(beta.queue()?.contains(BRUNO), "{name}: it waits in the queue");
            mend(beta)?;
            beta.flush_queue()?;
            let all = testbed.received_when(&[(ANNA, 2 * number), (RICEVUTE, number), (BRUNO, number)])?;
            assert_eq!(about(&all, ANNA, "avvenuta-consegna")?.len(), number, "{name}");
            testbed.judge(&all)?;
        }
        Ok(())
    });
}

#[test]
fn outcome_virus_scanner_killed_in_the_middle_is_asked_again() {
    only_beta_scans().test(|testbed| {
        let beta = testbed.host("beta")?;
        let from = log_length(beta)?;
        beta.clamd()?.pause()?;
        anna_sends(testbed, &[BRUNO, DARIO], &infected("virus", &[BRUNO, DARIO]))?;
        said(beta, from, "arrived")?;
        beta.clamd()?.kill()?;
        said(beta, from, "not scanned for viruses and not delivered for now")?;
        assert_eq!(beta.fetch("bruno")?.len() + beta.fetch("dario")?.len(), 0);
        assert_eq!(stored(beta)?.len(), 0);
        beta.clamd()?.start()?;
        beta.flush_queue()?;
        let all = testbed.received_when(&[(ANNA, 3), (RICEVUTE, 3)])?;
        assert_eq!(about(&all, ANNA, "errore-consegna")?, [BRUNO, DARIO]);
        testbed.judge(&all)
    });
}

#[test]
fn outcome_virus_scanner_that_fails_lets_nothing_in() {
    plan().provider("alfa", &["anna", "carla"]).with_clamd("").with_pec_milter(IMPATIENT).test(|testbed| {
        let alfa = testbed.host("alfa")?;
        for Failing { name, begin, told, mend } in FAILING {
            let from = log_length(alfa)?;
            begin(alfa)?;
            let clean = message("pulito", &[ANNA], &[b'x'; 3000]);
            let submitted = alfa.submit("anna", Port::Submissions, ANNA, &[ANNA], &clean)?;
            assert_eq!(submitted.code("message"), Some(451), "{name}: {submitted}");
            said(alfa, from, told).with_context(|| name)?;
            let from = log_length(alfa)?;
            let relayed = alfa.inject_as_peer(MARIO, &[ANNA], &clean)?;
            assert_eq!(relayed.code("message"), Some(451), "{name}: {relayed}");
            said(alfa, from, told).with_context(|| name)?;
            mend(alfa)?;
        }
        testbed.received_when(&[])?;
        anna_sends(testbed, &["carla@alfa.example"], &message("pulito", &["carla@alfa.example"], b"niente"))?;
        let all = testbed.received_when(&[(ANNA, 2), (RICEVUTE, 1), ("carla@alfa.example", 1)])?;
        testbed.judge(&all)
    });
}

/// As Debian's clamd.conf has it: what exceeds a limit is called clean.
const SAYS_NOTHING: &str = "AlertExceedsMax no\nMaxFileSize 10K\n";

#[test]
fn outcome_virus_scanner_that_would_call_clean_what_it_left_out_is_not_believed() {
    let plan = plan().provider("alfa", &["anna", "carla"]).with_clamd(SAYS_NOTHING).with_pec_milter(IMPATIENT);
    plan.test(|testbed| {
        let alfa = testbed.host("alfa")?;
        let told = "set AlertExceedsMax yes";
        said(alfa, 0, told)?;
        let log = alfa.daemon()?.log();
        let line = log.lines().find(|line| line.contains(told)).context("no line")?;
        assert!(line.contains("ERROR"), "{line}");
        let checked = alfa.command(&["check-config"])?;
        assert!(checked.lines().any(|line| line.starts_with("warning: ") && line.contains(told)), "{checked}");
        let from = log_length(alfa)?;
        alfa.daemon()?.reload_and_wait()?;
        said(alfa, from, told)?;

        let carla = "carla@alfa.example";
        let small = message("pulito", &[carla], b"niente");
        let large = message("coperto", &[carla], &[&[b'x'; 30_000], eicar().as_bytes()].concat());
        for unseen in [&small, &large] {
            let submitted = alfa.submit("anna", Port::Submissions, ANNA, &[carla], unseen)?;
            assert_eq!(submitted.code("message"), Some(451), "{submitted}");
            let relayed = alfa.inject_as_peer(MARIO, &[carla], unseen)?;
            assert_eq!(relayed.code("message"), Some(451), "{relayed}");
        }
        anna_sends(testbed, &[carla], &infected("virus", &[carla]))?;
        testbed.received_when(&[(ANNA, 1)])?;

        alfa.clamd()?.restart_with("MaxFileSize 10K\n")?;
        assert!(!alfa.command(&["check-config"])?.contains(told));
        let submitted = alfa.submit("anna", Port::Submissions, ANNA, &[carla], &large)?;
        assert_eq!(submitted.code("message"), Some(451), "{submitted}");
        anna_sends(testbed, &[carla], &small)?;
        let all = testbed.received_when(&[(ANNA, 3), (RICEVUTE, 1), (carla, 1)])?;
        testbed.judge(&all)
    });
}

#[test]
fn outcome_virus_scanner_that_is_away_at_the_start_may_come_later() {
    plan().provider("alfa", &["anna", "carla"]).with_clamd("").with_pec_milter(IMPATIENT).test(|testbed| {
        let alfa = testbed.host("alfa")?;
        let to = ["carla@alfa.example"];
        alfa.clamd()?.stop()?;
        alfa.daemon()?.stop()?;
        let from = log_length(alfa)?;
        alfa.daemon()?.start()?;
        said(alfa, from, "no connection to clamd")?;
        assert!(alfa.command(&["check-config"])?.contains("no connection to clamd"));
        let clean = message("pulito", &to, b"niente");
        assert_eq!(alfa.submit("anna", Port::Submissions, ANNA, &to, &clean)?.code("message"), Some(451));
        alfa.clamd()?.start()?;
        anna_sends(testbed, &to, &clean)?;
        let all = testbed.received_when(&[(ANNA, 2), (RICEVUTE, 1), (to[0], 1)])?;
        testbed.judge(&all)
    });
}

/// What lies in all mailboxes; a message sent again in the same octets is there once.
fn once(testbed: &Testbed) -> Result<Vec<Received>> {
    let mut messages: BTreeMap<(String, String), Received> = BTreeMap::new();
    for message in testbed.received()? {
        let key = (message.mailbox.clone(), message.field("Message-ID").unwrap_or_default());
        if let Some(other) = messages.get(&key) {
            ensure!(other.signed_part()? == message.signed_part()?, "{key:?} came twice, and not in the same octets");
        }
        messages.insert(key, message);
    }
    Ok(messages.into_values().collect())
}

/// Mailbox, kind and Message-ID of every message, each once.
fn distinct(testbed: &Testbed) -> Result<BTreeSet<(String, String, String)>> {
    let messages = once(testbed)?.into_iter();
    Ok(messages.map(|one| (one.mailbox.clone(), one.kind(), one.field("Message-ID").unwrap_or_default())).collect())
}

#[test]
fn outcome_virus_is_told_once_after_a_crash_at_any_step() {
    for (host, point) in [
        ("beta", "arrival-recorded"),
        ("beta", "infected-stored"),
        ("beta", "outcomes-recorded"),
        ("beta", "before-answer"),
        ("alfa", "virus-non-delivery-recorded"),
    ] {
        only_beta_scans().test(|testbed| {
            let host = testbed.host(host)?;
            host.daemon()?.stop()?;
            host.daemon()?.start_with(&[("PEC_CRASH_AT", point)])?;
            anna_sends(testbed, &[BRUNO, DARIO], &infected("virus", &[BRUNO, DARIO]))?;
            host.daemon()?.wait_for_end().context(point)?;
            host.daemon()?.start()?;
            wait_until("all that is told", PATIENCE, || {
                host.flush_queue()?;
                testbed.wait_for_empty_queues()?;
                let found = distinct(testbed)?;
                let of = |mailbox: &str| found.iter().filter(|(one, ..)| one == mailbox).count();
                if of(ANNA) < 3 || of(RICEVUTE) < 3 {
                    bail!("{found:?}");
                }
                Ok(())
            })?;
            testbed.judge(&once(testbed)?)?;
            let found = distinct(testbed)?;
            let kinds: Vec<(&str, &str)> =
                found.iter().map(|(mailbox, kind, _)| (mailbox.as_str(), kind.as_str())).collect();
            let mut expected = vec![(ANNA, "accettazione"), (ANNA, "errore-consegna"), (ANNA, "errore-consegna")];
            expected.extend([(RICEVUTE, "presa-in-carico"), (RICEVUTE, "rilevazione-virus")]);
            expected.push((RICEVUTE, "rilevazione-virus"));
            let mut sorted = kinds.clone();
            sorted.sort();
            assert_eq!(sorted, expected, "{point}");
            assert_eq!(stored(testbed.host("beta")?)?.len(), 1, "{point}: stored once");
            Ok(())
        });
    }
}

#[test]
fn outcome_virus_at_the_access_point_survives_a_crash_before_its_notice() {
    plan().provider("alfa", &["anna"]).with_clamd("").test(|testbed| {
        let alfa = testbed.host("alfa")?;
        alfa.daemon()?.stop()?;
        alfa.daemon()?.start_with(&[("PEC_CRASH_AT", "infected-stored")])?;
        let submitted = alfa.submit("anna", Port::Submissions, ANNA, &[BRUNO], &infected("virus", &[BRUNO]))?;
        assert_eq!(submitted.code("message"), Some(451), "{submitted}");
        alfa.daemon()?.wait_for_end()?;
        alfa.daemon()?.start()?;
        assert_eq!(stored(alfa)?.len(), 1, "what was found is kept, though nothing was told of it");
        anna_sends(testbed, &[BRUNO], &infected("virus", &[BRUNO]))?;
        let all = testbed.received_when(&[(ANNA, 1)])?;
        assert_eq!(of_kind(&all, ANNA, "non-accettazione").len(), 1);
        testbed.judge(&all)
    });
}

#[test]
fn outcome_virus_scanner_that_is_not_configured_is_told_at_every_start() {
    plan().provider("alfa", &["anna"]).provider("beta", &["bruno"]).with_clamd("").test(|testbed| {
        let warning = "NO VIRUS SCANNER";
        for (host, warned) in [("alfa", true), ("beta", false)] {
            let host = testbed.host(host)?;
            assert_eq!(host.command(&["check-config"])?.contains(warning), warned);
            assert_eq!(host.daemon()?.log().contains(warning), warned);
        }
        Ok(())
    });
}
