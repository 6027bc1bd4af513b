//! The details of entries, read: what the watch and the auditor ask of them.
//!
//! The hop writes an arrival's details with more than this (`operations/deliver/entries.rs`); those of another provider's
//! notification have their whole form here. Details that are not of the form give nothing, never an error: whoever asks
//! decides what an unreadable entry means.

use serde::{Deserialize, Serialize};

use serde_json::Value;

use crate::legal_log::{Entry, EventKind};
use crate::message::wire::{self, Kind};
use crate::model::{Address, Recipient};

/// Whom a transaction is about, as its arrival tells it.
#[derive(Debug, Clone, Deserialize)]
pub struct Parties {
    /// The recipients of the queue file that have their mailbox here.
    here: Vec<String>,
    recipients: Vec<(String, String)>,
}

impl Parties {
    pub fn of(arrival: &Entry) -> Option<Self> {
        read(arrival, EventKind::Arrival)
    }

    pub fn here(&self) -> Vec<Address> {
        addresses(&self.here)
    }

    /// All recipients; none if one of them cannot be read.
    pub fn recipients(&self) -> Option<Vec<Recipient>> {
        recipients(&self.recipients)
    }
}

/// The recipients that pairs of address and `tipo` mean.
pub fn recipients(pairs: &[(String, String)]) -> Option<Vec<Recipient>> {
    let recipient = |(address, kind): &(String, String)| {
        Some(Recipient { address: address.parse().ok()?, kind: wire::recipient_from_token(kind)? })
    };
    pairs.iter().map(recipient).collect()
}

/// What another provider's notification said.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ReceivedNotification {
    /// Its `tipo`.
    pub kind: String,
    /// Its `errore`.
    pub error: String,
    /// Its own instant, seconds since 1970.
    pub at: i64,
    /// All recipients of the transaction.
    #[serde(default)]
    pub recipients: Vec<String>,
    /// Those that it takes in charge.
    #[serde(default)]
    pub taken: Vec<String>,
    /// Its `errore-esteso`.
    pub reason: Option<String>,
    /// The mailboxes here that it went to.
    pub mailboxes: Vec<String>,
}

impl ReceivedNotification {
    pub fn of(entry: &Entry) -> Option<Self> {
        read(entry, EventKind::NotificationReceived)
    }

    pub fn kind(&self) -> Option<Kind> {
        Kind::from_token(&self.kind)
    }

    pub fn taken(&self) -> Vec<Address> {
        addresses(&self.taken)
    }
}

/// Every recipient that an entry is about, as it is spelt there: the one in its row, else those in its details. An
/// acceptance is about those of its arrival; a forward about the address that it goes on to, too.
pub fn concerned(entry: &Entry, arrival: Option<&Entry>) -> Vec<String> {
    if let Some(recipient) = &entry.recipient {
        let mut all = vec![recipient.clone()];
        if entry.kind == EventKind::Forward {
            let details = entry.details.as_deref().and_then(|details| serde_json::from_str::<Value>(details).ok());
            all.extend(details.iter().flat_map(|details| listed(details, "forwarded")));
        }
        return all;
    }
    let holder = if entry.kind == EventKind::Acceptance { arrival } else { Some(entry) };
    let details = holder.and_then(|holder| serde_json::from_str::<Value>(holder.details.as_deref()?).ok());
    let Some(details) = details else { return Vec::new() };
    // A take-charge lists all recipients of its message beside those that it takes; it is about these.
    let members = match listed(&details, "taken") {
        none if none.is_empty() => vec!["recipients", "mailboxes", "mailbox"],
        _ => vec!["taken"],
    };
    members.into_iter().map(|member| listed(&details, member)).find(|list| !list.is_empty()).unwrap_or_default()
}

/// The mailboxes that an entry says got the envelope; where it names none, its recipient.
pub fn mailboxes(entry: &Entry) -> Vec<String> {
    let details = entry.details.as_deref().and_then(|details| serde_json::from_str::<Value>(details).ok());
    let named = details.iter().flat_map(|details| [listed(details, "mailboxes"), listed(details, "mailbox")].concat());
    let named: Vec<String> = named.collect();
    if named.is_empty() { entry.recipient.iter().cloned().collect() } else { named }
}

/// The texts of a member: a text, or a list of texts or of pairs whose first is one.
fn listed(details: &Value, member: &str) -> Vec<String> {
    let texts = match details.get(member) {
        Some(Value::Array(list)) => list.iter().map(|one| one.get(0).unwrap_or(one)).collect(),
        Some(text) => vec![text],
        None => Vec::new(),
    };
    texts.into_iter().filter_map(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned).collect()
}

fn read<T: for<'a> Deserialize<'a>>(entry: &Entry, kind: EventKind) -> Option<T> {
    let text = entry.details.as_deref().filter(|_| entry.kind == kind)?;
    serde_json::from_str(text).ok()
}

fn addresses(texts: &[String]) -> Vec<Address> {
    texts.iter().filter_map(|text| text.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::TemporalReference;

    fn entry(kind: EventKind, details: &str) -> Entry {
        Entry { details: Some(details.to_owned()), ..Entry::new(kind, TemporalReference::from_unix(0)) }
    }

    #[test]
    fn an_entry_is_about_the_recipient_in_its_row_else_about_those_in_its_details() {
        let pairs =
            r#"{"here":["b@b.example"],"recipients":[["a@a.example","esterno"],["b@b.example","certificato"]]}"#;
        let arrival = entry(EventKind::Arrival, pairs);
        let both = ["a@a.example", "b@b.example"];
        assert_eq!(concerned(&arrival, None), both);
        let acceptance = Entry::new(EventKind::Acceptance, arrival.at);
        assert_eq!(concerned(&acceptance, Some(&arrival)), both);
        assert!(concerned(&acceptance, None).is_empty());
        for (kind, details, expected) in [
            (EventKind::Refusal, r#"{"recipients":["a@a.example"]}"#, vec!["a@a.example"]),
            (EventKind::Anomaly, r#"{"mailboxes":["a@a.example","b@b.example"]}"#, both.to_vec()),
            (EventKind::Copy, r#"{"mailbox":"a@a.example"}"#, vec!["a@a.example"]),
            (
                EventKind::NotificationReceived,
                r#"{"recipients":["a@a.example","b@b.example"],"taken":["b@b.example"],"mailboxes":["r@c.example"]}"#,
                vec!["b@b.example"],
            ),
            (EventKind::Refusal, "{", vec![]),
            (EventKind::Refusal, r#"{"recipients":[[],7,{"a":1}]}"#, vec![]),
        ] {
            assert_eq!(concerned(&entry(kind, details), None), expected, "{details}");
            let with_own = Entry { recipient: Some("c@c.example".into()), ..entry(kind, details) };
            assert_eq!(concerned(&with_own, None), ["c@c.example"]);
        }
        let details = r#"{"recipients":["a@a.example","b@b.example"],"forwarded":"d@d.example"}"#;
        let forward = Entry { recipient: Some("b@b.example".into()), ..entry(EventKind::Forward, details) };
        assert_eq!(concerned(&forward, None), ["b@b.example", "d@d.example"]);
    }
}
