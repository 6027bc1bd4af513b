//! Legal holds (§2.3): what a judge or a dispute needs is kept beyond its retention, until it is released.
//!
//! A hold is an entry of the log, and so is its release; those that stand follow from both. What it names stands in its
//! details alone, so that it is no part of what a holder may ask for. A hold is known by the row it was recorded in, and
//! keeps that row, too.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::legal_log::{Entry, EventKind, Recorded, Slot};
use crate::model::{Address, TemporalReference};

/// What may not be removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Held {
    /// A transaction, by its PEC msgid or by the Message-ID of the user's client; without angle brackets.
    Msgid(String),
    /// Everything that names a mailbox.
    Mailbox(Address),
}

/// A hold that stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// Its row in the log.
    pub number: i64,
    pub since: TemporalReference,
    pub held: Held,
    /// Who asked for it, and why.
    pub reason: String,
}

#[derive(Serialize, Deserialize)]
struct Details {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    msgid: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mailbox: Option<String>,
    /// The row of the hold that ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hold: Option<i64>,
    reason: String,
}

impl Held {
    /// A msgid as somebody types it, with or without angle brackets.
    pub fn msgid(text: &str) -> Self {
        Held::Msgid(text.trim().trim_start_matches('<').trim_end_matches('>').to_owned())
    }

    /// Whether a row is about it; rather one too many than one too few.
    pub fn concerns(&self, entry: &Entry) -> bool {
        match self {
            Held::Msgid(id) => {
                let is_pec = entry.pec_msgid.as_ref().is_some_and(|found| found.as_str() == id);
                is_pec || entry.client_msgid.as_ref().is_some_and(|found| found.inner() == id)
            }
            Held::Mailbox(mailbox) => {
                let is_it = |text: &str| text.parse::<Address>().is_ok_and(|found| found == *mailbox);
                let columns = [&entry.sender, &entry.recipient].into_iter().flatten();
                columns.into_iter().any(|text| is_it(text))
                    || entry.details.as_deref().is_some_and(|details| {
                        serde_json::from_str(details).is_ok_and(|details: Value| names(&details, &is_it))
                    })
            }
        }
    }
}

impl Hold {
    pub fn entry(held: &Held, reason: &str, at: TemporalReference) -> Entry {
        let (msgid, mailbox) = match held {
            Held::Msgid(id) => (Some(id.clone()), None),
            Held::Mailbox(mailbox) => (None, Some(mailbox.to_string())),
        };
        let details = Details { msgid, mailbox, hold: None, reason: reason.to_owned() };
        Entry { details: serde_json::to_string(&details).ok(), ..Entry::new(EventKind::Hold, at) }
    }

    /// Ends it; a hold ends once.
    pub fn release(&self, reason: &str, at: TemporalReference) -> Entry {
        let details = Details { msgid: None, mailbox: None, hold: Some(self.number), reason: reason.to_owned() };
        let slot = Some(Slot::release(self.number));
        Entry { details: serde_json::to_string(&details).ok(), slot, ..Entry::new(EventKind::Release, at) }
    }
}

/// The hold that an entry ends, if it is a release.
pub fn ended_by(entry: &Entry) -> Option<i64> {
    details(entry).filter(|_| entry.kind == EventKind::Release)?.hold
}

/// The holds that stand after all holds and releases, in order of recording.
///
/// An entry that cannot be read ends nothing: what is kept too long can still be removed, the contrary cannot.
pub fn standing(entries: &[Recorded]) -> Vec<Hold> {
    let mut holds: Vec<Hold> = Vec::new();
    for Recorded { sequence, entry, .. } in entries {
        let Some(details) = details(entry) else { continue };
        match (entry.kind, details) {
            (EventKind::Hold, Details { msgid, mailbox, reason, .. }) => {
                let mailbox = mailbox.and_then(|text| text.parse().ok()).map(Held::Mailbox);
                let held = msgid.map(Held::Msgid).or(mailbox);
                holds.extend(held.map(|held| Hold { number: *sequence, since: entry.at, held, reason }));
            }
            (EventKind::Release, Details { hold: Some(number), .. }) => holds.retain(|hold| hold.number != number),
            _ => {}
        }
    }
    holds
}

fn details(entry: &Entry) -> Option<Details> {
    entry.details.as_deref().and_then(|text| serde_json::from_str(text).ok())
}

fn names(details: &Value, is_it: &impl Fn(&str) -> bool) -> bool {
    match details {
        Value::String(text) => is_it(text),
        Value::Array(values) => values.iter().any(|value| names(value, is_it)),
        Value::Object(members) => members.values().any(|value| names(value, is_it)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: TemporalReference = TemporalReference::EPOCH;

    fn entry() -> Entry {
        Entry {
            pec_msgid: "pec.1@alfa.example".parse().ok(),
            client_msgid: "<c.1@client.example>".parse().ok(),
            sender: Some("Anna@alfa.example".into()),
            details: Some(r#"{"recipients":[["bruno@beta.example","certificato"]],"here":[],"n":1}"#.into()),
            ..Entry::new(EventKind::Arrival, NOW)
        }
    }

    fn recorded(sequence: i64, entry: Entry) -> Recorded {
        Recorded { sequence, entry, is_new: true }
    }

    #[test]
    fn a_hold_concerns_a_transaction_by_either_id_or_whoever_is_named() {
        for id in ["pec.1@alfa.example", "<pec.1@alfa.example>", " <c.1@client.example>"] {
            assert!(Held::msgid(id).concerns(&entry()), "{id}");
        }
        assert!(!Held::msgid("pec.2@alfa.example").concerns(&entry()));
        for (mailbox, concerned) in
            [("anna@ALFA.example", true), ("Bruno@beta.example", true), ("carla@beta.example", false)]
        {
            assert_eq!(Held::Mailbox(mailbox.parse().unwrap()).concerns(&entry()), concerned, "{mailbox}");
        }
        let recipient = Entry { recipient: Some("carla@beta.example".into()), details: None, ..entry() };
        assert!(Held::Mailbox("carla@beta.example".parse().unwrap()).concerns(&recipient));
    }

    #[test]
    fn a_hold_stands_until_its_release() {
        let anna = Held::Mailbox("anna@alfa.example".parse().unwrap());
        let first = recorded(7, Hold::entry(&anna, "procura 12/2026", NOW));
        let second = recorded(9, Hold::entry(&Held::msgid("<x@y.example>"), "lite", NOW));
        let holds = standing(&[first.clone(), second.clone()]);
        let expected = Hold { number: 7, since: NOW, held: anna, reason: "procura 12/2026".into() };
        assert_eq!(holds[0], expected);
        assert_eq!((holds[1].number, &holds[1].held), (9, &Held::Msgid("x@y.example".into())));
        let release = recorded(10, holds[0].release("archiviata", NOW));
        assert_eq!(ended_by(&release.entry), Some(7));
        assert_eq!(ended_by(&first.entry), None);
        assert_eq!(standing(&[first, second, release]), holds[1..]);
    }

    #[test]
    fn what_cannot_be_read_ends_no_hold() {
        let first = recorded(7, Hold::entry(&Held::msgid("x@y.example"), "lite", NOW));
        let odd = recorded(8, Entry { details: Some("{".into()), ..Entry::new(EventKind::Release, NOW) });
        assert_eq!(standing(&[first, odd]).len(), 1);
    }
}
