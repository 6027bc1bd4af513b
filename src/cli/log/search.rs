//! `log search`: entries of the event log by any of their keys, as a table or as JSON, page by page.

use std::io::{Write, stdout};
use std::path::Path;

use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::show::described;
use crate::adapters::sqlite::{Found, Page, SqliteLog};
use crate::cli::{Failure, SearchArguments};
use crate::config::Config;
use crate::legal_log::{EventKind, Outcome, Query, hexadecimal, line};
use crate::model::TemporalReference;

/// Prints a page of what is found; no if there is nothing.
pub fn search(config: &Path, arguments: SearchArguments) -> Result<bool, Failure> {
    let config = Config::read(config)?;
    let log = SqliteLog::open_read_only(&config.log.database)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let SearchArguments { after, limit, json, .. } = arguments;
    let page = runtime.block_on(log.search(query(arguments), after, usize::try_from(limit)?))?;
    let mut out = stdout().lock();
    match json {
        true => writeln!(out, "{}", in_json(&page)?)?,
        false => write!(out, "{}", table(&page))?,
    }
    Ok(!page.found.is_empty())
}

fn query(arguments: SearchArguments) -> Query {
    let SearchArguments { sender, recipient, msgid, from, to, kind, outcome, provider, .. } = arguments;
    let (first, last) = (TemporalReference::from_unix(i64::MIN), TemporalReference::from_unix(i64::MAX));
    Query {
        sender,
        recipient,
        msgid,
        kind: kind.as_deref().and_then(EventKind::from_name),
        outcome: outcome.as_deref().and_then(Outcome::from_name),
        provider,
        ..Query::of(from.unwrap_or(first)..to.unwrap_or(last))
    }
}

/// For each entry its row as it is sealed, and what a row alone does not say.
fn in_json(page: &Page) -> Result<Value, Failure> {
    let mut entries = Vec::with_capacity(page.found.len());
    for Found { link, entry, recipients, outcome } in &page.found {
        let row: Box<RawValue> = RawValue::from_string(line::write(link.sequence, entry))?;
        entries.push(json!({
            "row": row,
            "hash": hexadecimal(&link.hash),
            "recipients": recipients,
            "outcome": outcome.map(Outcome::name),
        }));
    }
    Ok(json!({ "entries": entries, "next": page.next.map(|next| next.to_string()) }))
}

fn table(page: &Page) -> String {
    let head = ["INSTANT", "KIND", "OUTCOME", "SENDER", "RECIPIENTS", "PEC MSGID", "SUBJECT", "ROW"];
    let lines: Vec<[String; 8]> = page.found.iter().map(cells).collect();
    if lines.is_empty() {
        return "no entry\n".to_owned();
    }
    let lines: Vec<[String; 8]> = [head.map(str::to_owned)].into_iter().chain(lines).collect();
    let widest =
        |column: usize| lines.iter().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..head.len()).map(|column| widest(column).unwrap_or_default()).collect();
    let mut text = String::new();
    for line in &lines {
        let cells: Vec<String> = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    if let Some(next) = page.next {
        text.push_str(&format!("there is more: --after {next}\n"));
    }
    text
}

fn cells(found: &Found) -> [String; 8] {
    let Found { link, entry, recipients, outcome } = found;
    let or_hyphen = |text: Option<&str>| text.filter(|text| !text.is_empty()).unwrap_or("-").to_owned();
    let recipients = match recipients.as_slice() {
        [first, second, third, rest @ ..] if !rest.is_empty() => {
            format!("{first}, {second}, {third} and {} more", rest.len())
        }
        few => few.join(", "),
    };
    // A subject may hold anything; a table has one line for each entry.
    let subject: String =
        entry.subject.iter().flat_map(|subject| subject.chars()).filter(|c| !c.is_control()).collect();
    [
        format!("{} {} {}", entry.at.day(), entry.at.time(), entry.at.zone()),
        described(entry),
        or_hyphen(outcome.map(Outcome::name)),
        or_hyphen(entry.sender.as_deref()),
        or_hyphen(Some(&recipients)),
        or_hyphen(entry.pec_msgid.as_ref().map(|id| id.as_str())),
        or_hyphen(Some(&subject)),
        format!("#{}", link.sequence),
    ]
}
