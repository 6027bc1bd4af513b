//! What becomes of mail that is not certified (RFC 6109 §3.2.2): in an anomaly envelope, refused, or forwarded, by provider
//! and by mailbox; and never bounced where the dialogue could refuse it.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use anyhow::{Result, bail, ensure};
use pec_testbed::{Dialogue, PATIENCE, Plan, Port, Received, Testbed, wait_until};
use tempfile::TempDir;

const ANNA: &str = "anna@alfa.example";
const CARLA: &str = "carla@alfa.example";
const DARIO: &str = "dario@alfa.example";
const MARIO: &str = "mario@gamma.example";
const LUCIA: &str = "lucia@gamma.example";

fn plan(daemon: &str) -> Plan {
    plan_with(daemon, "", "")
}

fn plan_with(daemon: &str, postfix: &str, dovecot: &str) -> Plan {
    Plan::new(env!("CARGO_BIN_EXE_pec-milter"))
        .provider("alfa", &["anna", "carla", "dario"])
        .with_pec_milter(daemon)
        .with_postfix(postfix)
        .with_dovecot(dovecot)
        .plain("gamma", &["mario", "lucia"])
}

/// The table of mailboxes, where pec-milter, under an account of its own, can read it.
fn table(text: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    let file = folder.path().join("ordinary");
    fs::write(&file, text).unwrap();
    (folder, file)
}

fn ordinary(subject: &str) -> Vec<u8> {
    format!("From: mario@gamma.example\r\nTo: qualcuno@alfa.example\r\nSubject: {subject}\r\n\r\nperch\u{e9} no\r\n")
        .into_bytes()
}

fn from_mario(testbed: &Testbed, to: &[&str], subject: &str) -> Result<Dialogue> {
    testbed.host("alfa")?.inject_as_peer(MARIO, to, &ordinary(subject))
}

/// The answer to the message: its code and text.
fn refusal(dialogue: &Dialogue) -> (u16, &str) {
    dialogue.refusal().map(|answer| (answer.code, answer.text.as_str())).unwrap_or_default()
}

/// Each message as mailbox, kind and original subject.
fn seen(all: &[Received]) -> Vec<String> {
    let subject = |one: &Received| one.field("Subject").unwrap_or_default().replace("ANOMALIA MESSAGGIO: ", "");
    let mut seen: Vec<_> = all.iter().map(|one| format!("{} {} {}", one.mailbox, one.kind(), subject(one))).collect();
    seen.sort();
    seen
}

#[test]
fn outcome_ordinary_mail_comes_in_an_anomaly_envelope_and_gives_no_receipt() {
    plan("").test(|testbed| {
        let sent = ordinary("di norma");
        let gamma = testbed.host("gamma")?;
        let dialogue = gamma.submit("mario", Port::Submissions, MARIO, &[ANNA, CARLA], &sent)?;
        ensure!(dialogue.accepted(), "{dialogue}");
        let all = testbed.received_when(&[(ANNA, 1), (CARLA, 1)])?;
        testbed.judge(&all)?;
        for one in &all {
            assert_eq!(one.kind(), "errore");
            assert!(one.original()?.ends_with(&sent), "altered: {}", String::from_utf8_lossy(&one.bytes));
        }
        Ok(())
    });
}

#[test]
fn outcome_ordinary_mail_for_no_mailbox_is_refused_in_the_dialogue() {
    // A mailbox is full when it holds one message.
    let quota = "mail_plugins = $mail_plugins quota\nplugin {\n  quota = count:User quota\n  quota_vsizes = yes\n  \
        quota_rule = *:messages=1\n}\n";
    plan_with("", "", quota).test(|testbed| {
        assert!(from_mario(testbed, &[ANNA], "primo")?.accepted());
        testbed.received_when(&[(ANNA, 1)])?;

        let unknown = from_mario(testbed, &["nessuno@alfa.example"], "sconosciuto")?;
        let (code, text) = refusal(&unknown);
        assert!(code == 550 && text.starts_with("5.1.1 ") && text.contains("nessuno@alfa.example"), "{unknown}");
        let full = from_mario(testbed, &[ANNA], "pieno")?;
        let (code, text) = refusal(&full);
        assert!(code == 550 && text.starts_with("5.2.2 "), "{full}");
        let both = from_mario(testbed, &["nessuno@alfa.example", ANNA], "nessuno dei due")?;
        assert!(refusal(&both).1.lines().count() == 2, "{both}");
        let bounce = testbed.host("alfa")?.inject_as_peer("", &["nessuno@alfa.example"], &ordinary("rimbalzo"))?;
        assert_eq!(refusal(&bounce).0, 550, "{bounce}");

        // One answer for all: whom the mailbox server refuses is left out.
        let mixed = from_mario(testbed, &["nessuno@alfa.example", CARLA, ANNA], "misto")?;
        assert!(mixed.accepted(), "{mixed}");
        let all = testbed.received_when(&[(ANNA, 1), (CARLA, 1)])?;
        testbed.judge(&all)?;
        assert_eq!(seen(&all), ["anna@alfa.example errore primo", "carla@alfa.example errore misto"]);
        assert!(testbed.host("alfa")?.daemon()?.log().contains("recipient taken out of a message that others get"));

        // Dovecot down says nothing about its mailboxes.
        let alfa = testbed.host("alfa")?;
        alfa.stop_dovecot()?;
        let down = from_mario(testbed, &[DARIO], "adesso no")?;
        assert_eq!(refusal(&down).0, 451, "{down}");
        alfa.start_dovecot()?;
        wait_until("Dovecot to be asked again", PATIENCE, || {
            match from_mario(testbed, &[DARIO], "adesso si'")?.accepted() {
                true => Ok(()),
                false => bail!("not yet"),
            }
        })?;
        let all = testbed.received_when(&[(ANNA, 1), (CARLA, 1), (DARIO, 1)])?;
        assert_eq!(seen(&all)[2], "dario@alfa.example errore adesso si'");
        Ok(())
    });
}

#[test]
fn outcome_an_alias_takes_ordinary_mail_where_dovecot_is_not_asked() {
    let alias = "virtual_alias_maps = inline:{ { ufficio@alfa.example = carla@alfa.example } }\n";
    plan_with("[ordinary]\nask_mailboxes = false\n", alias, "").test(|testbed| {
        let dialogue = from_mario(testbed, &["ufficio@alfa.example"], "alias")?;
        ensure!(dialogue.accepted(), "{dialogue}");
        let all = testbed.received_when(&[(CARLA, 1)])?;
        testbed.judge(&all)
    });
}

#[test]
fn outcome_each_mailbox_has_ordinary_mail_refused_forwarded_or_enveloped() {
    let (_folder, file) =
        table("anna@alfa.example refuse\ncarla@alfa.example forward lucia@gamma.example\ndario@alfa.example anomaly\n");
    plan(&format!("[ordinary]\npolicy = \"refuse\"\nmap = {file:?}\n")).provider("beta", &["bruno"]).test(|testbed| {
        let refused = from_mario(testbed, &[ANNA], "rifiutato")?;
        let (code, text) = refusal(&refused);
        assert!(code == 550 && text.starts_with("5.7.1 ") && text.contains("solo posta certificata"), "{refused}");
        let by_default = from_mario(testbed, &["ricevute@alfa.example", ANNA], "rifiutato")?;
        assert_eq!(refusal(&by_default).0, 550, "{by_default}");

        // Unmodified but for what every host on the way adds, and from the same sender.
        assert!(from_mario(testbed, &[CARLA], "inoltrato")?.accepted());
        // Only those who refuse are left out; one queue file holds one message, so the forwarded copy is enveloped too.
        assert!(from_mario(testbed, &[ANNA, DARIO], "senza Anna")?.accepted());
        assert!(from_mario(testbed, &[CARLA, DARIO, ANNA], "tutti")?.accepted());
        assert!(from_mario(testbed, &[ANNA, CARLA], "senza Anna, inoltrato")?.accepted());
        let all = testbed.received_when(&[(DARIO, 2), (LUCIA, 3)])?;
        assert_eq!(
            seen(&all),
            [
                "dario@alfa.example errore senza Anna",
                "dario@alfa.example errore tutti",
                "lucia@gamma.example errore tutti",
                "lucia@gamma.example ordinary inoltrato",
                "lucia@gamma.example ordinary senza Anna, inoltrato",
            ]
        );
        testbed.judge(all.iter().filter(|one| one.is("errore")))?;
        let forwarded = all.iter().find(|one| one.field("Subject").as_deref() == Some("inoltrato"));
        let forwarded = forwarded.expect("it was seen");
        assert!(forwarded.bytes.ends_with(&ordinary("inoltrato")), "{}", forwarded.header());
        assert_eq!(forwarded.fields("Return-Path"), ["<mario@gamma.example>"]);

        // Certified mail reaches all of them, and what comes from a provider but is not correct is always enveloped.
        let message = "From: bruno@beta.example\r\nTo: anna@alfa.example\r\nSubject: pec\r\n\r\nBuongiorno\r\n";
        let beta = testbed.host("beta")?;
        let bruno = "bruno@beta.example";
        assert!(beta.submit("bruno", Port::Submissions, bruno, &[ANNA], message.as_bytes())?.accepted());
        let envelope = testbed.host("alfa")?.fetch_when("anna", 1)?.remove(0);
        let not_correct = testbed.host("alfa")?.inject_as_peer(MARIO, &[ANNA], &envelope)?;
        ensure!(not_correct.accepted(), "{not_correct}");
        let all =
            testbed.received_when(&[(ANNA, 2), (DARIO, 2), (LUCIA, 3), (bruno, 2), ("ricevute@beta.example", 1)])?;
        let of_anna: Vec<_> = all.iter().filter(|one| one.mailbox == ANNA).map(Received::kind).collect();
        assert_eq!(of_anna, ["posta-certificata", "errore"]);
        testbed.judge(all.iter().filter(|one| !one.is("ordinary")))
    });
}

#[test]
fn outcome_a_provider_forwards_all_ordinary_mail_and_changes_its_mind_without_a_restart() {
    let (_folder, file) = table("");
    let settings = format!("[ordinary]\npolicy = \"forward\"\nforward_to = \"dario@alfa.example\"\nmap = {file:?}\n");
    plan(&settings).test(|testbed| {
        // Forwarded to a mailbox of its own, once for all who forward there.
        assert!(from_mario(testbed, &[ANNA, CARLA], "a Dario")?.accepted());
        let all = testbed.received_when(&[(DARIO, 1)])?;
        assert!(all[0].bytes.ends_with(&ordinary("a Dario")), "{}", all[0].header());

        let daemon = testbed.host("alfa")?.daemon()?;
        fs::write(&file, "anna@alfa.example bounce\n")?;
        daemon.reload()?;
        says(
            testbed,
            "line 1: found \"bounce\" for anna@alfa.example; expected `address anomaly|refuse|forward ADDRESS`",
        )?;
        assert!(from_mario(testbed, &[ANNA], "ancora a Dario")?.accepted());
        fs::write(&file, "anna@alfa.example refuse\n")?;
        daemon.reload()?;
        says(testbed, " reloaded")?;
        assert_eq!(refusal(&from_mario(testbed, &[ANNA], "rifiutato")?).0, 550);
        testbed.received_when(&[(DARIO, 2)]).map(drop)
    });
}

fn says(testbed: &Testbed, words: &str) -> Result<()> {
    let daemon = testbed.host("alfa")?.daemon()?;
    wait_until(&format!("the log to say {words:?}"), PATIENCE, || match daemon.log().contains(words) {
        true => Ok(()),
        false => bail!("it does not"),
    })
}
