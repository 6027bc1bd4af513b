//! Certificates (§2.2.2): no envelope with a forged or revoked signer yields a receipt, a revocation takes effect without a
//! restart, and where nobody can say whether a signer was revoked, mail waits and is not lost.
//!
//! gamma.example is the provider that the test plays. The lists of the CAs lie in files, or on a web server that the
//! certificates name.

mod forged;
mod lists;
mod waiting;

use anyhow::{Context, Result, bail, ensure};
use jiff::{SignedDuration, Timestamp};
use pec_testbed::foreign::{Draft, ForeignProvider, Kind};
use pec_testbed::pki::Identity;
use pec_testbed::{Host, PATIENCE, Plan, Received, Testbed, wait_until};

const BRUNO: &str = "bruno@alfa.example";
const MARIO: &str = "mario@gamma.example";
/// Where gamma gets take-charges.
const SERVICE: &str = "ricevute@gamma.example";
const LONG: u32 = 86_400;
/// What a message is whose signature does not show that it comes from a provider.
const ORDINARY: &str = "ordinary mail";
/// What it is where only its form is wrong.
const NOT_CORRECT: &str = "from DELTA Posta S.r.l. but not correct";

fn plan(trust: &str) -> Plan {
    Plan::new(env!("CARGO_BIN_EXE_pec-milter"))
        .provider("alfa", &["anna", "bruno"])
        .with_trust(trust)
        .plain("gamma", &["mario", "ricevute"])
}

/// An envelope of gamma's that is as it should be.
fn envelope(gamma: &ForeignProvider, id: &str) -> Result<Draft> {
    gamma.draft(Kind::Envelope, &gamma.facts("mario", &[BRUNO], id, id))
}

fn signed_by(gamma: &ForeignProvider, id: &str, signer: &Identity) -> Result<Draft> {
    let mut draft = envelope(gamma, id)?;
    draft.signature.signer = signer.clone();
    Ok(draft)
}

/// The answer of port 25 to a message.
fn offer(host: &Host, draft: &Draft) -> Result<pec_testbed::Dialogue> {
    let recipients: Vec<&str> = draft.forward_paths.iter().map(String::as_str).collect();
    host.inject_as_peer(&draft.reverse_path, &recipients, &draft.build()?)
}

/// The peer is asked to try again.
fn is_put_off(host: &Host, draft: &Draft) -> Result<()> {
    let dialogue = offer(host, draft)?;
    let code = dialogue.refusal().map(|answer| answer.code);
    ensure!(code == Some(451), "expected 451, found\n{dialogue}");
    Ok(())
}

/// It is taken at the port and becomes an anomaly for this reason, as mail that is not of the PEC system.
fn is_an_anomaly(host: &Host, gamma: &ForeignProvider, draft: &Draft, reason: &str) -> Result<()> {
    is_classed(host, gamma, draft, ORDINARY, reason)
}

/// It is taken at the port, found to be this (§2.2.2), and becomes an anomaly for this reason.
fn is_classed(host: &Host, gamma: &ForeignProvider, draft: &Draft, class: &str, reason: &str) -> Result<()> {
    let (_, queue_id) = gamma.send_traced(host, draft)?;
    let log = host.daemon()?.log();
    let line = log.lines().find(|line| line.contains(&queue_id) && line.contains("anomaly envelope"));
    let line = line.with_context(|| format!("{queue_id} is no anomaly:\n{log}"))?;
    let class = format!("{class}, put in an anomaly envelope");
    ensure!(line.contains(&class) && line.contains(reason), "expected {class:?} and {reason:?} in {line}");
    Ok(())
}

/// Waits for a line of the daemon's log with all these words beyond those that were there.
fn logged(host: &Host, after: usize, words: &[&str]) -> Result<()> {
    wait_until(&format!("{words:?} in the log of pec-milter"), PATIENCE, || {
        let log = host.daemon()?.log();
        let new = log.get(after..).unwrap_or_default();
        let is_there = new.lines().any(|line| words.iter().all(|word| line.contains(word)));
        if is_there { Ok(()) } else { bail!("{new}") }
    })
}

fn log_length(host: &Host) -> Result<usize> {
    Ok(host.daemon()?.log().len())
}

/// Waits until the daemon has fetched the lists of both CAs.
fn lists_are_fetched(host: &Host) -> Result<()> {
    ["provider-ca", "root"].iter().try_for_each(|ca| logged(host, 0, &["a new revocation list is in force", ca]))
}

/// Each of these envelopes was taken in charge and delivered, with its receipts, and none else; beside them in the mailbox
/// are so many anomaly envelopes.
fn are_certified(testbed: &Testbed, ids: &[&str], anomalies: usize) -> Result<()> {
    let expected = [(SERVICE, ids.len()), (MARIO, ids.len()), (BRUNO, ids.len() + anomalies)];
    let all = testbed.received_when(&expected)?;
    let wrapped = all.iter().filter(|one| one.mailbox == BRUNO && one.is("errore")).count();
    ensure!(wrapped == anomalies, "{wrapped} anomaly envelopes, not {anomalies}");
    testbed.wait_for_empty_queues()?;
    let of = |mailbox: &str| -> Vec<String> {
        let mut found: Vec<_> =
            all.iter().filter(|one| one.mailbox == mailbox).filter_map(Received::transaction).collect();
        found.sort();
        found
    };
    let mut expected: Vec<String> = ids.iter().map(|id| format!("{id}@gamma.example")).collect();
    expected.sort();
    for mailbox in [SERVICE, MARIO] {
        ensure!(of(mailbox) == expected, "{mailbox} should have receipts of {expected:?}, has {:?}", of(mailbox));
    }
    // The referee forbids SHA-1 also where the other provider's envelope is let in with it.
    let is_old = |one: &Received| one.field("Content-Type").is_some_and(|field| field.contains("sha1"));
    testbed.judge(all.iter().filter(|one| !is_old(one)))
}

/// A day ago, as `openssl ca` writes instants.
fn yesterday() -> String {
    (Timestamp::now() - SignedDuration::from_hours(24)).strftime("%Y%m%d%H%M%SZ").to_string()
}
