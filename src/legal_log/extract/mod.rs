//! What a mailbox's holder may ask of the log, and nothing of others (§2.3).
//!
//! What he sent he gets whole: he named its recipients, and each one's outcome was told to him. Of what he received he gets
//! what concerns him: who sent it, when it came, what became of it in his mailbox; other recipients are left out. Rows are
//! not given as they stand, since their details tell of other mailboxes (an alias, a copy, a service mailbox), but with
//! number and hash, by which they are found in the sealed export. Holds, refusals and attempts under his name are not his.

mod text;

use jiff::civil::Date;
use serde::Serialize;
use serde_json::Value;

pub use text::{notes, readable};

use crate::legal_log::details::{Parties, ReceivedNotification, concerned, recipients};
use crate::legal_log::seal::Sealed;
use crate::legal_log::{Entry, EventKind, Link, Outcome, hexadecimal};
use crate::message::wire;
use crate::model::{Address, Recipient, RecipientType, TemporalReference};

/// What is given out.
#[derive(Debug, Serialize)]
pub struct Extract {
    #[serde(rename = "casella")]
    pub mailbox: String,
    #[serde(rename = "gestore")]
    pub provider: String,
    #[serde(rename = "dal")]
    pub from: String,
    #[serde(rename = "al")]
    pub to: String,
    #[serde(rename = "estratto_il")]
    pub made: String,
    #[serde(rename = "inviati")]
    pub sent: Vec<Message>,
    #[serde(rename = "ricevuti")]
    pub received: Vec<Message>,
    /// The seals that hold its rows.
    #[serde(rename = "sigilli")]
    pub seals: Vec<SealOf>,
}

/// A message, sent or received.
#[derive(Debug, Serialize)]
pub struct Message {
    #[serde(rename = "identificativo", skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    #[serde(rename = "msgid", skip_serializing_if = "Option::is_none")]
    pub msgid: Option<String>,
    #[serde(rename = "mittente", skip_serializing_if = "Option::is_none")]
    pub sender: Option<String>,
    #[serde(rename = "oggetto", skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// All of a message that was sent; the holder alone of one that was received.
    #[serde(rename = "destinatari")]
    pub recipients: Vec<RecipientOf>,
    #[serde(rename = "righe")]
    pub rows: Vec<Row>,
}

/// A recipient with what became of the message for him.
#[derive(Debug, Serialize)]
pub struct RecipientOf {
    #[serde(rename = "indirizzo")]
    pub address: String,
    #[serde(rename = "tipo", skip_serializing_if = "Option::is_none")]
    pub kind: Option<&'static str>,
    #[serde(rename = "esito")]
    pub outcome: &'static str,
    #[serde(rename = "istante", skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
}

/// A row of the log, as far as it is the holder's.
#[derive(Debug, Serialize)]
pub struct Row {
    #[serde(rename = "riga")]
    pub sequence: i64,
    pub hash: String,
    #[serde(rename = "istante")]
    pub at: String,
    #[serde(rename = "evento")]
    pub event: String,
    #[serde(rename = "destinatario", skip_serializing_if = "Option::is_none")]
    pub recipient: Option<String>,
    #[serde(rename = "notifica", skip_serializing_if = "Option::is_none")]
    pub notification: Option<String>,
    #[serde(rename = "gestore", skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    #[serde(rename = "motivo", skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(rename = "sigillo", skip_serializing_if = "Option::is_none")]
    pub seal: Option<String>,
}

/// A seal, as the log knows it.
#[derive(Debug, Clone, Serialize)]
pub struct SealOf {
    #[serde(rename = "nome")]
    pub name: String,
    #[serde(rename = "prima_riga")]
    pub first: i64,
    #[serde(rename = "ultima_riga")]
    pub last: i64,
    pub sha256: String,
}

impl SealOf {
    /// What the entry of a seal tells of it.
    pub fn of(entry: &Entry) -> Option<Self> {
        let Sealed { name, first, last, sha256, .. } = Sealed::of(entry)?;
        Some(SealOf { name, first, last, sha256: hexadecimal(&sha256) })
    }
}

impl Extract {
    /// Out of all rows of each transaction that concerns a mailbox, and rows without one; by days of legal Italian time.
    pub fn of(
        mailbox: &Address,
        provider: &str,
        (from, to): (Date, Date),
        made: TemporalReference,
        transactions: &[Vec<(Link, Entry)>],
        seals: &[SealOf],
    ) -> Self {
        let mut extract = Extract {
            mailbox: mailbox.to_string(),
            provider: provider.to_owned(),
            from: from.to_string(),
            to: to.to_string(),
            made: made.rfc3339(),
            sent: Vec::new(),
            received: Vec::new(),
            seals: Vec::new(),
        };
        for rows in transactions {
            if is_senders(mailbox, rows) {
                extract.sent.push(sent(rows));
            } else {
                extract.received.extend(received(mailbox, rows));
            }
        }
        for message in extract.sent.iter_mut().chain(&mut extract.received) {
            for row in &mut message.rows {
                let Some(seal) = seals.iter().find(|seal| (seal.first..=seal.last).contains(&row.sequence)) else {
                    continue;
                };
                row.seal = Some(seal.name.clone());
                if !extract.seals.iter().any(|known| known.name == seal.name) {
                    extract.seals.push(seal.clone());
                }
            }
        }
        extract.seals.sort_by_key(|seal| seal.first);
        extract
    }

    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string_pretty(self)
    }
}

/// Whether this provider took a message from the holder: anybody can write his address into another.
fn is_senders(mailbox: &Address, rows: &[(Link, Entry)]) -> bool {
    rows.iter().any(|(_, entry)| {
        let is_answer = matches!(entry.kind, EventKind::Acceptance | EventKind::NonAcceptance);
        is_answer && is(mailbox, entry.sender.as_ref())
    })
}

fn sent(rows: &[(Link, Entry)]) -> Message {
    let kept: Vec<&(Link, Entry)> = rows.iter().filter(|(_, entry)| is_of_sender(entry)).collect();
    let parties = kept.iter().find_map(|(_, entry)| parties(entry)).unwrap_or_default();
    let is_accepted = kept.iter().any(|(_, entry)| entry.kind == EventKind::Acceptance);
    let recipients = parties.iter().map(|recipient| {
        let (outcome, at) = match is_accepted {
            true => fate(recipient, &kept),
            false => (text::outcome(Outcome::NotAccepted), None),
        };
        RecipientOf {
            address: recipient.address.to_string(),
            kind: Some(wire::recipient_token(recipient.kind)),
            outcome,
            at,
        }
    });
    let recipients = recipients.collect();
    message(&kept, recipients, |entry| entry.recipient.clone())
}

/// Of a message that he did not send, what concerns the holder as a recipient; none where nothing does.
fn received(mailbox: &Address, rows: &[(Link, Entry)]) -> Option<Message> {
    let kept: Vec<&(Link, Entry)> = rows.iter().filter(|(_, entry)| is_of_recipient(mailbox, entry)).collect();
    if kept.is_empty() {
        return None;
    }
    let told = kept.iter().filter_map(|(_, entry)| Some((Outcome::told_by(entry)?, entry.at)));
    let told = told.max_by_key(|(outcome, _)| weight(*outcome));
    let holder = RecipientOf {
        address: mailbox.to_string(),
        kind: None,
        outcome: told.map_or("nessun esito", |(outcome, _)| text::outcome(outcome)),
        at: told.map(|(_, at)| at.rfc3339()),
    };
    Some(message(&kept, vec![holder], |_| Some(mailbox.to_string())))
}

/// What the sender may know: what was told to him, and what was recorded of the recipients whom he named.
fn is_of_sender(entry: &Entry) -> bool {
    match entry.kind {
        EventKind::Arrival
        | EventKind::Acceptance
        | EventKind::NonAcceptance
        | EventKind::NotificationReceived
        | EventKind::TakeCharge
        | EventKind::Delivery
        | EventKind::NonDelivery
        | EventKind::VirusNonDelivery
        | EventKind::FirstTimeout
        | EventKind::FinalTimeout
        | EventKind::LateFailure => true,
        // Without a recipient it was on its way to a mailbox that nobody named.
        EventKind::VirusDetection => entry.recipient.is_some(),
        EventKind::Copy
        | EventKind::Duplicate
        | EventKind::Anomaly
        | EventKind::Forward
        | EventKind::Refusal
        | EventKind::Seal
        | EventKind::Stamp
        | EventKind::Purge
        | EventKind::Hold
        | EventKind::Release
        | EventKind::Reproduction => false,
    }
}

/// What was recorded of the holder, or of his mailbox, as the one that a message was for.
fn is_of_recipient(mailbox: &Address, entry: &Entry) -> bool {
    match entry.kind {
        EventKind::Arrival => Parties::of(entry).is_some_and(|parties| parties.here().contains(mailbox)),
        // Whom a mailbox forwards to is somebody else's affair, and none of the message's other recipients'.
        EventKind::TakeCharge
        | EventKind::Delivery
        | EventKind::NonDelivery
        | EventKind::Duplicate
        | EventKind::Forward => is(mailbox, entry.recipient.as_ref()),
        EventKind::VirusDetection | EventKind::Copy | EventKind::Anomaly => {
            concerned(entry, None).iter().any(|one| is(mailbox, Some(one)))
        }
        EventKind::Acceptance
        | EventKind::NonAcceptance
        | EventKind::NotificationReceived
        | EventKind::VirusNonDelivery
        | EventKind::FirstTimeout
        | EventKind::FinalTimeout
        | EventKind::LateFailure
        | EventKind::Refusal
        | EventKind::Seal
        | EventKind::Stamp
        | EventKind::Purge
        | EventKind::Hold
        | EventKind::Release
        | EventKind::Reproduction => false,
    }
}

fn message(
    rows: &[&(Link, Entry)],
    recipients: Vec<RecipientOf>,
    recipient: impl Fn(&Entry) -> Option<String>,
) -> Message {
    let first = rows.first().map(|(_, entry)| entry);
    let row = |(link, entry): &&(Link, Entry)| Row {
        sequence: link.sequence,
        hash: hexadecimal(&link.hash),
        at: entry.at.rfc3339(),
        event: text::event(entry),
        recipient: recipient(entry),
        notification: entry.notification.as_ref().map(ToString::to_string),
        provider: entry.provider.clone(),
        reason: reason(entry),
        seal: None,
    };
    Message {
        id: first.and_then(|entry| entry.pec_msgid.as_ref()).map(ToString::to_string),
        msgid: first.and_then(|entry| entry.client_msgid.as_ref()).map(ToString::to_string),
        sender: first.and_then(|entry| entry.sender.clone()),
        subject: first.and_then(|entry| entry.subject.clone()),
        recipients,
        rows: rows.iter().map(row).collect(),
    }
}

/// What the notices said: codes and descriptions of the rules, the scanner's word, another provider's words.
fn reason(entry: &Entry) -> Option<String> {
    if let Some(received) = ReceivedNotification::of(entry) {
        return received.reason;
    }
    let details: Value = serde_json::from_str(entry.details.as_deref()?).ok()?;
    let texts = ["status", "description", "virus", "defects"];
    let texts: Vec<&str> = texts.into_iter().filter_map(|member| details.get(member)?.as_str()).collect();
    (!texts.is_empty()).then(|| texts.join(" "))
}

/// What is known at last of a recipient of an accepted message.
fn fate(recipient: &Recipient, rows: &[&(Link, Entry)]) -> (&'static str, Option<String>) {
    let about = rows.iter().map(|(_, entry)| entry).filter(|entry| is(&recipient.address, entry.recipient.as_ref()));
    let told = about.filter_map(|entry| Some((Outcome::told_by(entry)?, entry.at)));
    match told.max_by_key(|(outcome, _)| weight(*outcome)) {
        Some((outcome, at)) => (text::outcome(outcome), Some(at.rfc3339())),
        None if recipient.kind == RecipientType::External => ("posta ordinaria, nessuna ricevuta", None),
        None => (text::outcome(Outcome::Open), None),
    }
}

/// A delivery outweighs what was told before it, and a timeout is the least.
fn weight(outcome: Outcome) -> u8 {
    match outcome {
        Outcome::Delivered => 3,
        Outcome::Virus | Outcome::Failed => 2,
        Outcome::Timeout => 1,
        Outcome::NotAccepted | Outcome::Refused | Outcome::Uncertified | Outcome::Open => 0,
    }
}

fn parties(entry: &Entry) -> Option<Vec<Recipient>> {
    match entry.kind {
        EventKind::Arrival => Parties::of(entry)?.recipients(),
        EventKind::NonAcceptance => {
            let details: Value = serde_json::from_str(entry.details.as_deref()?).ok()?;
            let pairs: Vec<(String, String)> = serde_json::from_value(details.get("recipients")?.clone()).ok()?;
            recipients(&pairs)
        }
        _ => None,
    }
}

fn is(mailbox: &Address, text: Option<&String>) -> bool {
    text.is_some_and(|text| text.eq_ignore_ascii_case(mailbox.as_str()))
}

#[cfg(test)]
mod tests;
