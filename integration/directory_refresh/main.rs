//! The providers directory comes from a real nginx and a real slapd, is believed only when it may be, and reaches the
//! running daemon by itself.

mod change;
mod credibility;
mod daemon;
mod ldap;
mod own_record;

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use pec_testbed::ldif::{self, Record};
use pec_testbed::publisher::Publisher;
use pec_testbed::{Dialogue, Host, PATIENCE, Plan, Port, Received, Testbed, wait_until};

const PROGRAM: &str = env!("CARGO_BIN_EXE_pec-milter");
const ANNA: &str = "anna@alfa.example";

/// The provider alfa, whose directory has these keys, and an ordinary host.
fn alfa_with(directory: &str) -> Plan {
    Plan::new(PROGRAM).provider("alfa", &["anna"]).with_directory(directory).plain("gamma", &["mario"])
}

fn submit(testbed: &Testbed, to: &str) -> Result<Dialogue> {
    let message = format!("From: {ANNA}\r\nTo: {to}\r\nSubject: prova\r\n\r\nCiao\r\n");
    testbed.host("alfa")?.submit("anna", Port::Submissions, ANNA, &[to], message.as_bytes())
}

/// Submits a message, and how its acceptance marks the recipient.
fn marking(testbed: &Testbed, to: &str) -> Result<String> {
    let alfa = testbed.host("alfa")?;
    let before = alfa.fetch("anna")?.len();
    let dialogue = submit(testbed, to)?;
    ensure!(dialogue.accepted(), "{dialogue}");
    let messages = alfa.fetch_when("anna", before + 1)?;
    let mut acceptances = messages.into_iter().skip(before);
    let bytes = acceptances.next().context("no acceptance")?;
    let acceptance = Received { mailbox: alfa.mailbox("anna"), bytes };
    ensure!(acceptance.is("accettazione"), "{}", acceptance.header());
    Ok(acceptance.certified_attributes("destinatari", "tipo")?.concat())
}

/// Runs a command of the daemon's; whether it said yes, and what it said.
fn directory(host: &Host, arguments: &[&str]) -> Result<(bool, String)> {
    host.daemon()?.command(&[&["directory"], arguments].concat())
}

fn succeeds(host: &Host, arguments: &[&str]) -> Result<String> {
    host.command(&[&["directory"], arguments].concat())
}

/// A command that must say no, with these words.
fn refuses(host: &Host, arguments: &[&str], words: &str) -> Result<()> {
    let (is_yes, said) = directory(host, arguments)?;
    ensure!(!is_yes && said.contains(words), "directory {arguments:?} should say no and {words:?}, but says:\n{said}");
    Ok(())
}

fn wait_for_log(host: &Host, before: usize, words: &str) -> Result<()> {
    wait_until(&format!("{words:?} in the log"), PATIENCE, || {
        let log = host.daemon()?.log();
        if log.get(before..).unwrap_or_default().contains(words) { Ok(()) } else { bail!("it is not there") }
    })
}

/// Puts a new directory in force: signed, fetched by hand, taken over by the running daemon.
fn refresh(publisher: &Publisher, host: &Host, ldif: &str, arguments: &[&str]) -> Result<()> {
    publisher.publish(ldif)?;
    let before = host.daemon()?.log().len();
    succeeds(host, &[&["refresh"], arguments].concat())?;
    wait_for_log(host, before, "providers directory in force")
}

/// A record of a provider with a certificate that is some provider's of the testbed.
fn record(testbed: &Testbed, number: usize, domains: &[String]) -> Result<Record> {
    let provider = testbed.host("alfa")?.provider.as_ref().context("alfa is a provider")?;
    Ok(Record {
        provider_name: format!("Gestore {number}, società"),
        certificates: vec![provider.identity.certificate.clone()],
        mail_receipt: "ricevute@gestore.example".into(),
        managed_domains: domains.to_vec(),
    })
}

/// The testbed's directory with that many more providers, of two domains each.
fn grown(testbed: &Testbed, providers: usize) -> Result<String> {
    let more: Result<Vec<_>> = (0..providers)
        .map(|number| record(testbed, number, &[format!("uno.p{number}.example"), format!("due.p{number}.example")]))
        .collect();
    let more = ldif::write(&more?)?;
    let records = more.split_once("\n\n").map_or("", |(_, records)| records);
    Ok(format!("{}\n{records}", fs::read_to_string(&testbed.ldif)?))
}

fn unix_now() -> Result<i64> {
    Ok(i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())?)
}

/// A signing time has whole seconds: what is signed after this is newer.
fn wait_for_next_second() -> Result<()> {
    let now = unix_now()?;
    wait_until("the next second", PATIENCE, || if unix_now()? > now { Ok(()) } else { bail!("it is the same") })
}

/// Moves the last success of a stopped daemon back by so many seconds.
fn make_older(host: &Host, seconds: i64) -> Result<()> {
    let register = host.daemon()?.state_folder().join("directory/state.json");
    let text = fs::read_to_string(&register)?;
    let line = text.lines().find(|line| line.contains("\"confirmed\"")).context("no instant in the register")?;
    let instant = confirmed(host)?;
    fs::write(&register, text.replace(line, &format!("  \"confirmed\": {},", instant - seconds))).map_err(Into::into)
}

/// When the directory in force was last found to be the server's.
fn confirmed(host: &Host) -> Result<i64> {
    let text = fs::read_to_string(host.daemon()?.state_folder().join("directory/state.json"))?;
    let line = text.lines().find(|line| line.contains("\"confirmed\"")).context("no instant in the register")?;
    line.chars().filter(char::is_ascii_digit).collect::<String>().parse().map_err(Into::into)
}
