//! The hop (§2.2.3, §3.2.1, §3.3): a message that lies in Postfix's queue goes to its mailboxes, and what happened to it
//! is recorded and told.
//!
//! One queue file is worked on in three steps, each of which can run again after a crash at any instant:
//!
//! 1. arrival: one commit records the queue file, the acceptance and the recipients taken in charge;
//! 2. mailboxes: the mailbox server is offered the message, its answers are committed as outcomes;
//! 3. receipts: made from committed entries only, with their Message-ID and instant, and sent; then Postfix is answered.
//!
//! Whatever is not answered 2xx Postfix offers again. A committed step is not repeated, its receipt is sent again
//! unchanged. A fault is a 4xx for every recipient whose work is not finished; nothing is ever accepted on a fault.
//! Messages that are not correct envelopes pass to the mailbox server, whose answers pass back; only a correct envelope
//! gives receipts (§3.3.1). What Postfix itself reports about an envelope goes its own way (`report`), and so do viruses
//! (`viruses`).

pub mod entries;
mod envelope;
mod receipts;
mod report;
mod viruses;

use std::sync::Arc;

use tracing::{debug, error, info, warn};

use super::causes;
use super::current::{Current, Handle};
use super::ports::{EventLog, Injection, Instruments, LogError, Mail, MailRecipient, Mailboxes, QueueFile, Reply};
use super::telling::TellingError;
use super::triggers::{Trigger, is_internal};
use super::virus_guard::VirusGuard;
use crate::crash;
use crate::incoming_point::{Arrival, CertifiedMessage, Classification, apparent_sender, classify};
use crate::legal_log::{Entry, EventKind, Slot};
use crate::message::Pieces;
use crate::message::anomaly_reason::AnomalyReason;
use crate::message::header::Header;
use crate::message::wire::Kind;
use crate::model::{Address, PecMsgid, TemporalReference};

/// The hop with everything it talks to.
pub struct Hop<L, M, I, T> {
    pub current: Handle,
    pub log: Arc<L>,
    pub mailboxes: M,
    pub injection: I,
    pub instruments: T,
    pub viruses: VirusGuard,
}

/// Why a queue file cannot be worked on now: Postfix offers it again.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Telling(#[from] TellingError),
    #[error("a worker thread ended before its work was done")]
    Worker(#[from] tokio::task::JoinError),
    #[error("a trigger came with a message that is no correct envelope: {0}")]
    TriggerWithoutEnvelope(String),
    #[error("an acceptance is asked for an envelope that this provider did not sign")]
    ForeignAcceptance,
    #[error("the queue id belongs to an earlier message: set enable_long_queue_ids = yes in main.cf")]
    ReusedQueueId,
    #[error("the PEC msgid {0} came before with another message: its provider must be told")]
    ReusedMsgid(PecMsgid),
    #[error("a non-delivery is asked for by a message that is no report of Postfix about an envelope")]
    NoReport,
    #[error("Postfix reports about {0}, of which the log knows no arrival (yet)")]
    UnknownTransaction(PecMsgid),
    #[error("the details of the arrival in the log are not readable")]
    UnreadableArrival,
}

/// A recipient of the queue file that is a mailbox.
#[derive(Debug, Clone)]
struct Local {
    /// Its place among the recipients of the transaction.
    index: usize,
    recipient: MailRecipient,
    /// As the sender named it, before aliases.
    named: String,
}

impl<L: EventLog, M: Mailboxes, I: Injection, T: Instruments> Hop<L, M, I, T> {
    /// Works on one queue file; returns Postfix's answers, one per recipient.
    pub async fn deliver(&self, file: QueueFile) -> Vec<Reply> {
        debug!(queue_id = %file.queue_id, recipients = file.recipients.len(), octets = file.message.len(), "offered");
        crash::point("hop-begin");
        match self.try_deliver(&file).await {
            Ok(replies) => replies,
            Err(fault) => {
                let cause = causes(&fault);
                error!(queue_id = %file.queue_id, %cause, "not delivered for now, Postfix will offer it again");
                let reply = Reply::new(451, "4.3.0 internal fault, see the log of pec-milter");
                vec![reply; file.recipients.len()]
            }
        }
    }

    async fn try_deliver(&self, file: &QueueFile) -> Result<Vec<Reply>, Fault> {
        let current = self.current.now();
        let (locals, triggers) = sorted(file);
        if triggers.iter().any(|(_, trigger)| *trigger == Trigger::NonDelivery) {
            return self.deliver_report(&current, file, locals, &triggers).await;
        }
        let classification = self.classify(&current, file, &locals).await?;
        match classification {
            Classification::Envelope(message) => {
                self.deliver_envelope(&current, file, &message, locals, &triggers).await
            }
            Classification::Notification(message) if is_asked_about_virus(&message, &triggers) => {
                self.deliver_detection(&current, file, &message, locals, &triggers).await
            }
            other if !triggers.is_empty() => Err(Fault::TriggerWithoutEnvelope(described(&other))),
            other => {
                self.record_passing(&current, file, &locals, &other).await?;
                Ok(self.pass(file, locals).await)
            }
        }
    }

    /// Classifies at this instant; where that fails for a message taken in charge before, at the instant of its arrival:
    /// what was correct then is not lost because a certificate ran out while a mailbox was full.
    async fn classify(
        &self,
        current: &Arc<Current>,
        file: &QueueFile,
        locals: &[Local],
    ) -> Result<Classification, Fault> {
        let now = self.classify_at(current, file, locals, self.instruments.now()).await?;
        if matches!(now, Classification::Envelope(_) | Classification::Ordinary(AnomalyReason::NotSigned)) {
            return Ok(now);
        }
        let earlier = self.log.of_queue_file(&file.queue_id).await?;
        let is_arrival = |entry: &Entry| matches!(entry.kind, EventKind::Arrival | EventKind::NotificationReceived);
        match earlier.iter().find(|one| is_arrival(&one.entry)) {
            Some(arrival) => self.classify_at(current, file, locals, arrival.entry.at).await,
            None => Ok(now),
        }
    }

    async fn classify_at(
        &self,
        current: &Arc<Current>,
        file: &QueueFile,
        locals: &[Local],
        at: TemporalReference,
    ) -> Result<Classification, Fault> {
        let (current, sender, message) = (current.clone(), file.sender.clone(), file.message.clone());
        let recipients: Vec<String> = locals.iter().map(|local| local.named.clone()).collect();
        let classification = tokio::task::spawn_blocking(move || {
            let arrival = Arrival { sender: &sender, recipients: &recipients, message: &message };
            classify(&arrival, &current.standards(at))
        });
        Ok(classification.await?)
    }

    /// Records what passes and is worth remembering, before it is in any mailbox.
    async fn record_passing(
        &self,
        current: &Current,
        file: &QueueFile,
        locals: &[Local],
        what: &Classification,
    ) -> Result<(), Fault> {
        let mailboxes: Vec<String> = locals.iter().map(|local| local.named.clone()).collect();
        let at = self.instruments.now();
        let entry = match what {
            Classification::Notification(message) if !is_own(current, message) => {
                entries::Author { queue_id: &file.queue_id, message, at }.notification_received(&mailboxes)
            }
            Classification::Notification(message) if message.data.kind == Kind::NonAcceptance => {
                entries::Author { queue_id: &file.queue_id, message, at }.non_acceptance()
            }
            Classification::NotCorrect { provider, reason: AnomalyReason::AnomalyEnvelope(_) }
                if *provider == current.provider.name =>
            {
                anomaly(file, &mailboxes, at)
            }
            _ => return Ok(()),
        };
        self.log.record(vec![entry]).await?;
        Ok(())
    }

    /// Offers the message to the mailbox server as it is; its answers are Postfix's.
    async fn pass(&self, file: &QueueFile, locals: Vec<Local>) -> Vec<Reply> {
        let replies = self.mailboxes.deliver(&mail(file, &locals)).await;
        crash::point("passed");
        for (local, reply) in locals.iter().zip(&replies) {
            info!(queue_id = %file.queue_id, recipient = %local.recipient.address, %reply, "passed to the mailbox");
        }
        replies
    }
}

/// Splits the recipients of a transaction into mailboxes and triggers, each with its place.
fn sorted(file: &QueueFile) -> (Vec<Local>, Vec<(usize, Trigger)>) {
    let (mut locals, mut triggers) = (Vec::new(), Vec::new());
    for (index, recipient) in file.recipients.iter().enumerate() {
        match Trigger::from_address(&recipient.address) {
            Some(trigger) => triggers.push((index, trigger)),
            None if is_internal(&recipient.address) => {
                warn!(queue_id = %file.queue_id, recipient = %recipient.address, "an unknown address of the internal domain");
                locals.push(Local { index, named: recipient.address.clone(), recipient: recipient.clone() });
            }
            None => locals.push(Local { index, named: named(recipient), recipient: recipient.clone() }),
        }
    }
    (locals, triggers)
}

/// The address the sender named: `ORCPT`, which Postfix sets where an alias rewrote it (RFC 3461 §4.2).
fn named(recipient: &MailRecipient) -> String {
    let original = recipient.orcpt.as_deref().and_then(|value| {
        let (kind, text) = value.split_once(';')?;
        kind.eq_ignore_ascii_case("rfc822").then(|| xtext(text))?
    });
    original.filter(|text| text.parse::<Address>().is_ok()).unwrap_or_else(|| recipient.address.clone())
}

/// Decodes xtext (RFC 3461 §4); `None` where it is damaged.
fn xtext(text: &str) -> Option<String> {
    let mut decoded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('+') {
        decoded.push_str(before);
        let byte = u8::from_str_radix(after.get(..2)?, 16).ok()?;
        decoded.push(char::from(byte));
        rest = after.get(2..)?;
    }
    decoded.push_str(rest);
    Some(decoded)
}

fn mail(file: &QueueFile, locals: &[Local]) -> Mail {
    Mail {
        sender: file.sender.clone(),
        recipients: locals.iter().map(|local| local.recipient.clone()).collect(),
        eight_bit: file.eight_bit,
        message: Pieces::from(file.message.clone()),
    }
}

/// Whether a virus detection came with its trigger and no other.
fn is_asked_about_virus(message: &CertifiedMessage, triggers: &[(usize, Trigger)]) -> bool {
    let are_all = triggers.iter().all(|(_, trigger)| *trigger == Trigger::VirusDetection);
    message.data.kind == Kind::VirusDetection && !triggers.is_empty() && are_all
}

/// Whether this provider signed a message: with the key of today, or with another that the directory lists as its own,
/// because a key may be renewed while an envelope is queued.
fn is_own(current: &Current, message: &CertifiedMessage) -> bool {
    message.signer == current.signer.certificate().sha1() || message.provider == current.provider.name
}

fn anomaly(file: &QueueFile, mailboxes: &[String], at: TemporalReference) -> Entry {
    let header = Header::read(&file.message);
    let sender = apparent_sender(&file.sender, &file.message);
    Entry {
        kind: EventKind::Anomaly,
        at,
        queue_id: Some(file.queue_id.clone()),
        pec_msgid: None,
        client_msgid: header.text("Message-ID").and_then(|text| text.parse().ok()),
        sender: Some(sender.map_or_else(|| file.sender.clone(), |address| address.to_string())),
        recipient: (mailboxes.len() == 1).then(|| mailboxes.concat()),
        subject: header.first("Subject").map(|field| field.decoded()),
        notification: None,
        provider: None,
        details: Some(serde_json::json!({ "mailboxes": mailboxes }).to_string()),
        slot: Some(Slot::arrival(&file.queue_id)),
    }
}

fn described(classification: &Classification) -> String {
    match classification {
        Classification::Envelope(_) => "a correct envelope".into(),
        Classification::Notification(message) => format!("a {}", message.data.kind.token()),
        Classification::NotCorrect { provider, reason } => format!("from {provider} but not correct: {reason}"),
        Classification::Ordinary(reason) => reason.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipient(address: &str, orcpt: Option<&str>) -> MailRecipient {
        MailRecipient { address: address.into(), orcpt: orcpt.map(str::to_owned) }
    }

    #[test]
    fn the_recipient_that_counts_is_the_one_the_sender_named() {
        assert_eq!(named(&recipient("a@x.example", None)), "a@x.example");
        assert_eq!(named(&recipient("a@x.example", Some("rfc822;ufficio@x.example"))), "ufficio@x.example");
        assert_eq!(named(&recipient("a@x.example", Some("RFC822;u+2Bv@x.example"))), "u+v@x.example");
        for damaged in ["rfc822;", "rfc822;+zz@x.example", "x400;c=it", "rfc822;+2", "nonsense"] {
            assert_eq!(named(&recipient("a@x.example", Some(damaged))), "a@x.example", "{damaged}");
        }
    }
}
