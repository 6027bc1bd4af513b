//! `log show`: the timeline of one transaction, for people.

use std::io::{Write, stdout};
use std::path::Path;

use crate::adapters::sqlite::{NAMESAKES, SqliteLog, Timeline};
use crate::cli::Failure;
use crate::config::Config;
use crate::legal_log::{Entry, EventKind, Recorded};
use crate::operations::deliver::entries::{OutcomeDetails, details};

/// Prints every entry of the transaction; no if the log knows none.
pub fn show(config: &Path, msgid: &str) -> Result<bool, Failure> {
    let config = Config::read(config)?;
    let log = SqliteLog::open_read_only(&config.log.database)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let Timeline { entries, is_more } = runtime.block_on(log.of_msgid(msgid))?;
    let mut out = stdout().lock();
    let Some(first) = entries.first() else {
        writeln!(out, "no entry for {msgid}")?;
        return Ok(false);
    };
    let shown = |value: &Option<String>| value.clone().unwrap_or_default();
    writeln!(out, "transaction  {}", first.entry.pec_msgid.as_ref().map_or("-", |id| id.as_str()))?;
    writeln!(out, "client msgid {}", first.entry.client_msgid.as_ref().map_or("-", |id| id.as_str()))?;
    writeln!(out, "sender       {}", shown(&first.entry.sender))?;
    writeln!(out, "subject      {}\n", shown(&first.entry.subject))?;
    for Recorded { sequence, entry, .. } in &entries {
        writeln!(out, "{}", line(*sequence, entry))?;
    }
    if is_more {
        writeln!(out, "more: the first {NAMESAKES} transactions are shown; `log search --msgid` finds the others")?;
    }
    Ok(true)
}

/// One entry on one line: instant in legal Italian time, kind, recipient, what tells it, where it lies.
fn line(sequence: i64, entry: &Entry) -> String {
    let mut line = format!("{} {} {}  {:<22}", entry.at.day(), entry.at.time(), entry.at.zone(), described(entry));
    // A copy that is nobody's has its mailbox alone, also where a virus kept it from there.
    let is_copy = matches!(entry.kind, EventKind::Copy | EventKind::VirusDetection);
    let copied_to = || is_copy.then(|| details::<OutcomeDetails>(entry)).flatten();
    if let Some(about) = entry.recipient.clone().or_else(|| Some(copied_to()?.mailbox)) {
        line.push_str(&format!(" {about}"));
    }
    if let Some(notification) = &entry.notification {
        let tells = if entry.kind == EventKind::Reproduction { "once more" } else { "told by" };
        line.push_str(&format!(" {tells} {notification}"));
    }
    if let Some(provider) = &entry.provider {
        line.push_str(&format!(" [{provider}]"));
    }
    if let Some(queue_id) = &entry.queue_id {
        line.push_str(&format!(" queue {queue_id}"));
    }
    if let Some(to) = forwarded(entry) {
        line.push_str(&format!(" on to {to}"));
    }
    if let Some(asked) = asked(entry) {
        line.push_str(&asked);
    }
    if let Some(reason) = reason(entry) {
        line.push_str(&format!(" because {reason}"));
    }
    line.push_str(&format!(" #{sequence}"));
    line
}

/// Where a mailbox's copy went.
fn forwarded(entry: &Entry) -> Option<String> {
    let known: serde_json::Value = details(entry).filter(|_| entry.kind == EventKind::Forward)?;
    known.get("forwarded")?.as_str().map(str::to_owned)
}

/// Who had a notification made again, and where it went.
fn asked(entry: &Entry) -> Option<String> {
    let known: serde_json::Value = details(entry).filter(|_| entry.kind == EventKind::Reproduction)?;
    let text = |member: &str| known.get(member).and_then(|value| value.as_str());
    let to = text("sent_to").map(|to| format!(" to {to}")).unwrap_or_default();
    Some(format!("{to} for {}", text("by").unwrap_or("nobody")))
}

/// Why a recipient does not get the message: the code and what another server said; what a client was told, or would have
/// been.
fn reason(entry: &Entry) -> Option<String> {
    if entry.kind == EventKind::Refusal {
        let known: serde_json::Value = details(entry)?;
        return known.get("reply")?.as_str().map(|reply| reply.replace('\n', " / "));
    }
    let OutcomeDetails { status, reported, .. } = details(entry)?;
    let said = reported.map(|reported| {
        let said = reported.diagnostic.unwrap_or(reported.status);
        reported.remote.map_or(said.clone(), |remote| format!("{remote} said {said}"))
    });
    match (status, said) {
        (Some(status), Some(said)) => Some(format!("{status} ({said})")),
        (status, said) => status.or(said),
    }
}

/// The kind; of another provider's notification, and of one made again, also which one.
pub fn described(entry: &Entry) -> String {
    let known = || details::<serde_json::Value>(entry);
    let inner = |known: serde_json::Value| known.get("kind").and_then(|kind| kind.as_str()).map(str::to_owned);
    match (entry.kind, known().and_then(inner)) {
        (EventKind::NotificationReceived, Some(inner)) => format!("received {inner}"),
        (EventKind::Reproduction, Some(inner)) => format!("reproduction of {inner}"),
        _ => entry.kind.name().to_owned(),
    }
}
