//! What is refused in the SMTP dialogue stands in the event log before it is told, and so does what else the milters decide
//! that no later event tells (RFC 6109 §2.3); while the log takes nothing, nobody is refused but everybody put off.

#[path = "support/infected.rs"]
mod infected;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use pec_milter::adapters::sqlite::SqliteLog;
use pec_milter::legal_log::{Entry, EventKind};
use pec_milter::model::TemporalReference;
use pec_testbed::disk::SmallDisk;
use pec_testbed::smtp::send;
use pec_testbed::{Dialogue, Host, Plan, Port, Testbed};
use serde_json::Value;
use tempfile::TempDir;

const ANNA: &str = "anna@alfa.example";
const CARLA: &str = "carla@alfa.example";
const DARIO: &str = "dario@alfa.example";
const MARIO: &str = "mario@gamma.example";
const INTERNAL: &str = "accettazione@pec-milter.invalid";

/// Alfa, to which a test may add before the others come.
fn alfa(toml: &str) -> Plan {
    Plan::new(env!("CARGO_BIN_EXE_pec-milter"))
        .provider("alfa", &["anna", "carla", "dario"])
        .with_pec_milter(toml)
        // Postfix would refuse it before the milter sees it.
        .with_postfix("pec_refuse_internal_recipient =\n")
}

fn plan(toml: &str) -> Plan {
    alfa(toml).plain("gamma", &["mario", "lucia"])
}

/// A file of the administrator's, which the daemon reads under its own account.
fn table(text: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    let file = folder.path().join("table");
    fs::write(&file, text).unwrap();
    (folder, file)
}

fn message(name: &str) -> Vec<u8> {
    format!("From: {ANNA}\r\nTo: {CARLA}\r\nSubject: {name}\r\nMessage-ID: <{name}@client.example>\r\n\r\nCiao\r\n")
        .into_bytes()
}

/// The rows of these kinds, in order of recording.
fn rows(host: &Host, kinds: &[EventKind]) -> Result<Vec<Entry>> {
    let log = SqliteLog::open_read_only(&host.daemon()?.event_log())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let all = TemporalReference::from_unix(0)..TemporalReference::from_unix(i64::MAX);
    let rows = runtime.block_on(log.of_period(all, 10_000))?;
    Ok(rows.into_iter().map(|one| one.entry).filter(|entry| kinds.contains(&entry.kind)).collect())
}

fn refusals(host: &Host) -> Result<Vec<Entry>> {
    rows(host, &[EventKind::Refusal])
}

fn details(entry: &Entry) -> Result<Value> {
    Ok(serde_json::from_str(entry.details.as_deref().context("no details")?)?)
}

/// The one row that a dialogue added, which holds its refusal word for word.
fn recorded(host: &Host, before: usize, dialogue: &Dialogue) -> Result<Entry> {
    let refusal = dialogue.refusal().with_context(|| format!("not refused:\n{dialogue}"))?;
    let all = refusals(host)?;
    let [entry] = all.get(before..).unwrap_or_default() else {
        anyhow::bail!("one row more than {before}, not {all:#?}");
    };
    // Each line of a reply has the status code.
    let status = refusal.text.split(' ').next().unwrap_or_default();
    let lines: Vec<&str> = refusal.text.lines().map(|line| line.trim_start_matches(status).trim()).collect();
    let said = format!("{} {status} {}", refusal.code, lines.join("\n"));
    let details = details(entry)?;
    ensure!(details["reply"] == said.as_str(), "the client was told {said:?}, recorded is {details}");
    ensure!((500..600).contains(&refusal.code), "{dialogue}");
    let client = details["client"].as_str().unwrap_or_default();
    ensure!(client.starts_with("127."), "the client's address is {client:?}");
    Ok(entry.clone())
}

fn submit(testbed: &Testbed, from: &str, to: &[&str], message: &[u8]) -> Result<Dialogue> {
    testbed.host("alfa")?.submit("anna", Port::Submissions, from, to, message)
}

fn from_mario(testbed: &Testbed, to: &[&str], message: &[u8]) -> Result<Dialogue> {
    testbed.host("alfa")?.inject_as_peer(MARIO, to, message)
}

#[test]
fn trace_refusal_of_a_submission_stands_in_the_log_as_it_was_told() {
    let (_folder, map) = table("anna@alfa.example anna@alfa.example paola@altrove.example\n");
    let toml = format!("[senders]\nmap = {map:?}\n[limits]\nmessage_bytes = 30000000\n");
    plan(&toml).test(|testbed| {
        let alfa = testbed.host("alfa")?;
        let by_anna = |entry: &Entry| -> Result<()> {
            let details = details(entry)?;
            ensure!(details["by"] == "access" && details["login"] == ANNA, "{details}");
            Ok(())
        };

        // At MAIL: no login, not hers, not of this provider, the empty one.
        let unknown = send(alfa.smtp(Port::Submission)?, None, ANNA, &[CARLA], &message("nessuno"))?;
        let row = recorded(alfa, 0, &unknown)?;
        assert_eq!((row.sender.as_deref(), &row.recipient), (Some(ANNA), &None));
        let known = details(&row)?;
        assert_eq!(
            (&known["by"], known.get("login"), &known["recipients"]),
            (&"access".into(), None, &Value::Array(vec![]))
        );
        for (before, sender) in [(1, CARLA), (2, "paola@altrove.example"), (3, "")] {
            let row = recorded(alfa, before, &submit(testbed, sender, &[CARLA], &message("altri"))?)?;
            assert_eq!((row.sender.as_deref(), &row.queue_id, &row.pec_msgid), (Some(sender), &None, &None));
            by_anna(&row)?;
        }

        // At RCPT: a trigger, behind a recipient that is taken.
        let internal = submit(testbed, ANNA, &[CARLA, INTERNAL], &message("interno"))?;
        let row = recorded(alfa, 4, &internal)?;
        by_anna(&row)?;
        assert_eq!((row.sender.as_deref(), row.recipient.as_deref()), (Some(ANNA), Some(INTERNAL)));
        assert_eq!(details(&row)?["recipients"], serde_json::json!([CARLA]));

        // At the end: over the hard limit, and which message it was.
        let large = [message("grande"), [&[b'x'; 98][..], b"\r\n"].concat().repeat(301_000)].concat();
        let row = recorded(alfa, 5, &submit(testbed, ANNA, &[CARLA, DARIO], &large)?)?;
        by_anna(&row)?;
        assert_eq!((row.subject.as_deref(), &row.recipient), (Some("grande"), &None));
        assert_eq!(row.client_msgid.as_ref().map(|id| id.as_str()), Some("<grande@client.example>"));
        assert!(row.queue_id.is_some());
        assert_eq!(details(&row)?["recipients"], serde_json::json!([CARLA, DARIO]));

        // `log show` finds it by what the client called it.
        let (found, shown) = alfa.daemon()?.command(&["log", "show", "<grande@client.example>"])?;
        assert!(found && shown.contains("refusal") && shown.contains("552 5.3.4"), "{shown}");
        assert_eq!(testbed.received_when(&[(ANNA, 2), (CARLA, 1), ("ricevute@alfa.example", 1)])?.len(), 4);
        Ok(())
    });
}

#[test]
fn trace_refusal_on_port_25_stands_in_the_log_as_it_was_told() {
    let (_folder, map) = table("carla@alfa.example refuse\ndario@alfa.example forward lucia@gamma.example\n");
    // A mailbox is full when it holds one message.
    let quota = "mail_plugins = $mail_plugins quota\nplugin {\n  quota = count:User quota\n  quota_vsizes = yes\n  \
        quota_rule = *:messages=1\n}\n";
    let alfa = alfa(&format!("[ordinary]\nmap = {map:?}\n"));
    let lucia = "lucia@gamma.example";
    alfa.with_dovecot(quota).with_clamd("").plain("gamma", &["mario", "lucia"]).test(|testbed| {
        let alfa = testbed.host("alfa")?;
        assert!(from_mario(testbed, &[ANNA], &message("primo"))?.accepted());
        testbed.received_when(&[(ANNA, 1)])?;

        let refused: [(&[&str], Vec<u8>, &str); 5] = [
            (&[CARLA], message("rifiutata"), "5.7.1"),
            (&["nessuno@alfa.example"], message("sconosciuta"), "5.1.1"),
            (&[ANNA], message("piena"), "5.2.2"),
            (&[CARLA, ANNA], message("nessuna"), "5.7.1"),
            (&["postmaster@alfa.example", DARIO], infected::infected("virus", &[DARIO]), "5.7.1"),
        ];
        let mut count = 0;
        for (to, message, status) in &refused {
            let row = recorded(alfa, count, &from_mario(testbed, to, message)?)?;
            count += 1;
            let known = details(&row)?;
            assert!(known["reply"].as_str().unwrap_or_default().contains(status), "{known}");
            assert_eq!((&known["by"], known.get("login")), (&"incoming".into(), None));
            assert_eq!(known["recipients"], serde_json::json!(to));
            assert_eq!((row.sender.as_deref(), row.queue_id.is_some()), (Some(MARIO), true));
            assert!(row.subject.is_some() && row.client_msgid.is_some());
        }
        // An internal recipient that Postfix lets pass.
        alfa.set_postfix("mydestination = pec-milter.invalid\n")?;
        let row = recorded(alfa, count, &from_mario(testbed, &[INTERNAL], &message("interno"))?)?;
        assert_eq!((row.recipient.as_deref(), &row.queue_id), (Some(INTERNAL), &None));

        // Accepted for others: whom the mailbox refuses, and where a copy goes on to.
        let before = refusals(alfa)?.len();
        let mixed = from_mario(testbed, &["nessuno@alfa.example", "ricevute@alfa.example", DARIO], &message("misto"))?;
        assert!(mixed.accepted(), "{mixed}");
        let rows = rows(alfa, &[EventKind::Refusal, EventKind::Forward])?;
        let [taken_out, forward] = &rows[before..] else { panic!("{rows:#?}") };
        assert_eq!(
            (taken_out.kind, taken_out.recipient.as_deref()),
            (EventKind::Refusal, Some("nessuno@alfa.example"))
        );
        assert_eq!(details(taken_out)?["taken_out"], true);
        assert_eq!((forward.kind, forward.recipient.as_deref()), (EventKind::Forward, Some(DARIO)));
        assert_eq!(details(forward)?["forwarded"], lucia);
        assert_eq!(forward.queue_id.as_deref(), mixed.queue_id());
        assert_eq!(details(forward)?["in_envelope"], true);
        testbed.received_when(&[(ANNA, 1), ("ricevute@alfa.example", 1), (lucia, 1)])?;
        Ok(())
    });
}

#[test]
fn trace_refusal_that_the_log_cannot_take_is_put_off() {
    plan("[ordinary]\npolicy = \"refuse\"\n").test(|testbed| {
        let alfa = testbed.host("alfa")?;
        let daemon = alfa.daemon()?;
        daemon.stop()?;
        let disk = SmallDisk::under(daemon.state_folder(), "2m")?;
        daemon.start()?;
        let ballast = disk.fill()?;

        let at_mail = submit(testbed, CARLA, &[CARLA], &message("non-suo"))?;
        assert_eq!(at_mail.code("MAIL"), Some(451), "{at_mail}");
        let at_rcpt = submit(testbed, ANNA, &[INTERNAL], &message("interno"))?;
        assert_eq!(at_rcpt.code("RCPT"), Some(451), "{at_rcpt}");
        let at_end = from_mario(testbed, &[ANNA], &message("ordinaria"))?;
        assert_eq!(at_end.code("message"), Some(451), "{at_end}");
        assert!(daemon.log().contains("a refusal is not recorded and not given"), "{}", daemon.log());

        fs::remove_file(&ballast)?;
        assert_eq!(refusals(alfa)?.len(), 0, "what was put off is no refusal");
        let dialogues = [
            submit(testbed, CARLA, &[CARLA], &message("non-suo"))?,
            submit(testbed, ANNA, &[INTERNAL], &message("interno"))?,
            from_mario(testbed, &[ANNA], &message("ordinaria"))?,
        ];
        for (place, dialogue) in dialogues.iter().enumerate() {
            let refusal = dialogue.refusal().with_context(|| dialogue.to_string())?;
            let said = details(&refusals(alfa)?[place])?;
            assert!(said["reply"].as_str().unwrap_or_default().starts_with(&refusal.code.to_string()), "{said}");
        }
        assert_eq!(refusals(alfa)?.len(), 3);
        drop(disk);
        Ok(())
    });
}

#[test]
fn trace_refusal_a_session_that_ends_early_is_none() {
    plan("").test(|testbed| {
        let alfa = testbed.host("alfa")?;
        // RSET, the end of the session, and a connection that is cut, each within a message.
        let begin = || -> Result<_> {
            let mut session = alfa.smtp(Port::Submissions)?;
            assert!(session.login(ANNA, "anna-password")?.is_positive());
            assert!(session.command(&format!("MAIL FROM:<{ANNA}>"))?.is_positive());
            assert!(session.command(&format!("RCPT TO:<{CARLA}>"))?.is_positive());
            Ok(session)
        };
        let mut session = begin()?;
        assert!(session.command("RSET")?.is_positive());
        // What was said before is gone: the next sender is judged anew, and his refusal names no recipient of before.
        let refused = session.command(&format!("MAIL FROM:<{CARLA}>"))?;
        assert_eq!(refused.code, 553);
        assert!(session.command(&format!("MAIL FROM:<{ANNA}>"))?.is_positive());
        session.quit()?;
        drop(begin()?);
        begin()?.quit()?;

        let rows = refusals(alfa)?;
        let [row] = rows.as_slice() else { panic!("{rows:#?}") };
        assert_eq!((row.sender.as_deref(), &details(row)?["recipients"]), (Some(CARLA), &Value::Array(vec![])));
        Ok(())
    });
}
