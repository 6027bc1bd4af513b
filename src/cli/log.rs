//! `log show`: the timeline of one transaction, for people; `log rebuild`: what is derived from the log, made anew.

use std::io::{Write, stdout};
use std::path::Path;

use super::Failure;
use crate::adapters::sqlite::SqliteLog;
use crate::config::Config;
use crate::legal_log::{Entry, Recorded};
use crate::operations::deliver::entries::{self, OutcomeDetails};

/// Prints every entry of the transaction; no if the log knows none.
pub fn show(config: &Path, msgid: &str) -> Result<bool, Failure> {
    let config = Config::read(config)?;
    let log = SqliteLog::open_read_only(&config.log.database)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let entries = runtime.block_on(log.of_msgid(msgid))?;
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
    Ok(true)
}

/// Makes the watch anew from the events.
pub fn rebuild(config: &Path) -> Result<bool, Failure> {
    let config = Config::read(config)?;
    let watched = SqliteLog::rebuild_watch(&config.log.database)?;
    writeln!(stdout(), "{watched} recipients are watched")?;
    Ok(true)
}

/// One entry on one line: instant in legal Italian time, kind, recipient, what tells it, where it lies.
fn line(sequence: i64, entry: &Entry) -> String {
    let mut line = format!("{} {} {}  {:<22}", entry.at.day(), entry.at.time(), entry.at.zone(), described(entry));
    if let Some(recipient) = &entry.recipient {
        line.push_str(&format!(" {recipient}"));
    }
    if let Some(notification) = &entry.notification {
        line.push_str(&format!(" told by {notification}"));
    }
    if let Some(provider) = &entry.provider {
        line.push_str(&format!(" [{provider}]"));
    }
    if let Some(queue_id) = &entry.queue_id {
        line.push_str(&format!(" queue {queue_id}"));
    }
    if let Some(reason) = reason(entry) {
        line.push_str(&format!(" because {reason}"));
    }
    line.push_str(&format!(" #{sequence}"));
    line
}

/// Why a recipient does not get the message: the code and what another server said.
fn reason(entry: &Entry) -> Option<String> {
    let OutcomeDetails { status, reported, .. } = entries::details(entry)?;
    let said = reported.map(|reported| {
        let said = reported.diagnostic.unwrap_or(reported.status);
        reported.remote.map_or(said.clone(), |remote| format!("{remote} said {said}"))
    });
    match (status, said) {
        (Some(status), Some(said)) => Some(format!("{status} ({said})")),
        (status, said) => status.or(said),
    }
}

/// The kind; of another provider's notification also which one.
fn described(entry: &Entry) -> String {
    let details = entry.details.as_deref().and_then(|text| serde_json::from_str::<serde_json::Value>(text).ok());
    let inner = details.as_ref().and_then(|details| details.get("kind")).and_then(|kind| kind.as_str());
    match inner {
        Some(inner) => format!("received {inner}"),
        None => entry.kind.name().to_owned(),
    }
}
