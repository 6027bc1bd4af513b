//! The log entries of the hop: what each fact is called, keyed by, and what it takes to write its receipt again.

use serde::{Deserialize, Serialize};

use crate::incoming_point::{CertifiedMessage, FoundBefore};
use crate::legal_log::details::{ReceivedNotification, recipients};
use crate::legal_log::hexadecimal;
use crate::legal_log::seal::octets;
use crate::legal_log::{Entry, EventKind, Slot};
use crate::message::certification_data::{CertificationData, TransactionFacts};
use crate::message::delivery_status::RecipientStatus;
use crate::message::notification::Failure;
use crate::message::wire;
use crate::model::{Address, Msgid, PecMsgid, ReceiptType, Recipient, TemporalReference};
use crate::operations::triggers::Trigger;
use crate::operations::virus_guard::Stored;
use crate::virus::VirusName;

/// The certified facts of an envelope, as the arrival's details keep them.
#[derive(Debug, Serialize, Deserialize)]
pub struct ArrivalDetails {
    /// The recipients of this queue file that are ours, as their sender named them.
    pub here: Vec<String>,
    /// The triggers that came with it.
    pub triggers: Vec<String>,
    /// Where the take-charge goes.
    pub mail_receipt: String,
    /// The instant of the envelope, seconds since 1970.
    pub accepted: i64,
    /// All recipients with their `tipo`.
    pub recipients: Vec<(String, String)>,
    pub replies: String,
    /// The receipt type that the sender requested.
    pub requested: String,
    /// SHA-256 of the certificate that signed the envelope, hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub signer: Option<String>,
}

impl ArrivalDetails {
    /// The recipients among these of which it does not know.
    pub fn lacks(&self, here: &[Address]) -> Vec<Address> {
        let known: Vec<Address> = self.here.iter().filter_map(|text| text.parse().ok()).collect();
        here.iter().filter(|address| !known.contains(address)).cloned().collect()
    }

    pub fn had(&self, trigger: Trigger) -> bool {
        self.triggers.iter().any(|address| address == trigger.address())
    }

    /// Who was found to have signed the envelope when it arrived.
    pub fn found_before(arrival: &Entry) -> Option<FoundBefore> {
        let known: Self = details(arrival).filter(|_| arrival.kind == EventKind::Arrival)?;
        Some(FoundBefore {
            provider: arrival.provider.clone()?,
            mail_receipt: known.mail_receipt.parse().ok()?,
            signer: octets(&known.signer?)?,
        })
    }

    /// The facts of the transaction that an arrival tells: what every later notification about it certifies again.
    pub fn facts(arrival: &Entry) -> Option<TransactionFacts> {
        let known: Self = details(arrival).filter(|_| arrival.kind == EventKind::Arrival)?;
        told_facts(arrival, &known.recipients, known.replies)
    }
}

fn told_facts(entry: &Entry, all: &[(String, String)], replies: String) -> Option<TransactionFacts> {
    Some(TransactionFacts {
        sender: entry.sender.as_ref()?.parse().ok()?,
        recipients: recipients(all)?,
        replies,
        subject: entry.subject.clone(),
        id: entry.pec_msgid.clone()?,
        msgid: entry.client_msgid.clone(),
    })
}

/// What the notice of a message that was not accepted certifies, as the entry's details keep it.
#[derive(Debug, Serialize, Deserialize)]
pub struct NonAcceptanceDetails {
    /// `errore-esteso`: every check that failed, or the virus.
    pub defects: Option<String>,
    /// `errore`
    pub error: String,
    /// All recipients with their `tipo`.
    pub recipients: Vec<(String, String)>,
    pub replies: String,
}

impl NonAcceptanceDetails {
    /// The facts of the transaction that never was.
    pub fn facts(entry: &Entry) -> Option<TransactionFacts> {
        let known: Self = details(entry).filter(|_| entry.kind == EventKind::NonAcceptance)?;
        told_facts(entry, &known.recipients, known.replies)
    }
}

/// What a delivery's or non-delivery's details keep.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct OutcomeDetails {
    /// The mailbox that answered, where an alias leads elsewhere than to the recipient.
    pub mailbox: String,
    /// The type of the delivery receipt.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub issued: Option<String>,
    /// The code of the failure.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub status: Option<String>,
    /// Its description.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub description: Option<String>,
    /// What Postfix reported, for the administrator; nothing of it is told.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reported: Option<Reported>,
}

/// A failure as Postfix reported it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Reported {
    /// The status code of the report, which may be a temporary one.
    pub status: String,
    /// The server that refused.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub remote: Option<String>,
    /// Its words.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub diagnostic: Option<String>,
}

/// What the details of a virus keep.
#[derive(Debug, Serialize, Deserialize)]
pub struct VirusDetails {
    /// The scanner's word for it.
    pub virus: String,
    /// The message's name in our virus store, where we found it (§2.2.4).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub stored: Option<String>,
    /// The mailbox, where it is none of a certified recipient's.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub mailbox: Option<String>,
}

/// What all entries of one queue file share.
#[derive(Debug)]
pub struct Author<'a> {
    pub queue_id: &'a str,
    pub message: &'a CertifiedMessage,
    pub at: TemporalReference,
    /// This provider's name.
    pub issuer: &'a str,
}

impl Author<'_> {
    pub fn arrival(&self, here: &[Address], triggers: &[Trigger]) -> Entry {
        let CertificationData { facts, requested, at: accepted, .. } = &self.message.data;
        let details = ArrivalDetails {
            here: here.iter().map(Address::to_string).collect(),
            triggers: triggers.iter().map(|trigger| trigger.address().to_owned()).collect(),
            mail_receipt: self.message.mail_receipt.to_string(),
            accepted: accepted.unix(),
            recipients: tokens(&facts.recipients),
            replies: facts.replies.clone(),
            requested: wire::receipt_token(requested.unwrap_or_default()).to_owned(),
            signer: Some(hexadecimal(&self.message.signer)),
        };
        let slot = Slot::arrival(self.queue_id);
        Entry { details: json(&details), slot: Some(slot), ..self.entry(EventKind::Arrival, self.at) }
    }

    /// The arrival of a recipient of ours whom Postfix did not name in the first attempt.
    pub fn late_arrival(&self, recipient: &Address, triggers: &[Trigger]) -> Entry {
        let slot = Slot::late_arrival(self.queue_id, recipient);
        Entry { slot: Some(slot), ..self.arrival(std::slice::from_ref(recipient), triggers) }
    }

    /// The acceptance carries the instant of the envelope (§4.1).
    pub fn acceptance(&self, notification: Msgid) -> Entry {
        let data = &self.message.data;
        Entry {
            notification: Some(notification),
            issuer: Some(data.issuer.clone()),
            slot: Some(Slot::acceptance(&data.facts.id)),
            ..self.entry(EventKind::Acceptance, data.at)
        }
    }

    pub fn take_charge(&self, recipient: &Address, notification: Msgid) -> Entry {
        Entry {
            recipient: Some(recipient.to_string()),
            notification: Some(notification),
            issuer: Some(self.issuer.to_owned()),
            slot: Some(Slot::take_charge(&self.message.data.facts.id, recipient)),
            ..self.entry(EventKind::TakeCharge, self.at)
        }
    }

    pub fn delivery(&self, recipient: &Address, mailbox: &str, issued: ReceiptType, notification: Msgid) -> Entry {
        let issued = Some(wire::receipt_token(issued).to_owned());
        let details = OutcomeDetails { mailbox: mailbox.to_owned(), issued, ..OutcomeDetails::default() };
        Entry { details: json(&details), ..self.outcome(EventKind::Delivery, recipient, notification) }
    }

    pub fn non_delivery(&self, recipient: &Address, mailbox: &str, failure: &Failure, notification: Msgid) -> Entry {
        let details = OutcomeDetails {
            mailbox: mailbox.to_owned(),
            status: Some(failure.status.clone()),
            description: Some(failure.description.clone()),
            ..OutcomeDetails::default()
        };
        Entry { details: json(&details), ..self.outcome(EventKind::NonDelivery, recipient, notification) }
    }

    /// The outcome of a recipient of ours whose envelope is infected.
    pub fn virus_detection(&self, recipient: &Address, found: &Stored, notification: Msgid) -> Entry {
        let details = VirusDetails { virus: found.virus.to_string(), stored: Some(found.name.clone()), mailbox: None };
        Entry { details: json(&details), ..self.outcome(EventKind::VirusDetection, recipient, notification) }
    }

    /// An infected envelope did not reach a mailbox about which nothing is certified: nobody is told.
    pub fn stopped(&self, mailbox: &str, found: &Stored) -> Entry {
        let (virus, stored) = (found.virus.to_string(), Some(found.name.clone()));
        let details = VirusDetails { virus, stored, mailbox: Some(mailbox.to_owned()) };
        Entry { kind: EventKind::VirusDetection, details: json(&details), ..self.copy(None, mailbox) }
    }

    /// The envelope in a further mailbox of a recipient, or again for him: `kind` tells which.
    pub fn further(&self, kind: EventKind, recipient: &Address, mailbox: &str) -> Entry {
        Entry { kind, ..self.copy(Some(recipient), mailbox) }
    }

    /// A mailbox that holds the envelope, as that of a recipient or of nobody who is named.
    pub fn copy(&self, recipient: Option<&Address>, mailbox: &str) -> Entry {
        let details = OutcomeDetails { mailbox: mailbox.to_owned(), ..OutcomeDetails::default() };
        Entry {
            recipient: recipient.map(Address::to_string),
            details: json(&details),
            slot: Some(Slot::mailbox(self.queue_id, recipient, mailbox)),
            ..self.entry(EventKind::Copy, self.at)
        }
    }

    /// Our own notice that a submission was not accepted, on its way to the sender. The milter made it; from this entry the
    /// same can be made again (§2.3).
    pub fn non_acceptance(&self) -> Entry {
        let data = &self.message.data;
        let details = NonAcceptanceDetails {
            defects: data.error_text.clone(),
            error: data.error.token().to_owned(),
            recipients: tokens(&data.facts.recipients),
            replies: data.facts.replies.clone(),
        };
        Entry {
            notification: self.message.id.clone(),
            issuer: Some(data.issuer.clone()),
            details: json(&details),
            slot: Some(Slot::acceptance(&data.facts.id)),
            ..self.entry(EventKind::NonAcceptance, data.at)
        }
    }

    /// Another provider's notification on its way to a mailbox.
    pub fn notification_received(&self, mailboxes: &[String]) -> Entry {
        let data = &self.message.data;
        let recipient = data.recipient.as_ref().map(Address::to_string);
        let details = ReceivedNotification {
            kind: data.kind.token().to_owned(),
            error: data.error.token().to_owned(),
            at: data.at.unix(),
            recipients: data.facts.recipients.iter().map(|one| one.address.to_string()).collect(),
            taken: data.taken.iter().map(Address::to_string).collect(),
            reason: data.error_text.clone(),
            mailboxes: mailboxes.to_vec(),
        };
        Entry {
            recipient,
            notification: self.message.id.clone(),
            details: json(&details),
            slot: Some(Slot::arrival(self.queue_id)),
            ..self.entry(EventKind::NotificationReceived, self.at)
        }
    }

    fn outcome(&self, kind: EventKind, recipient: &Address, notification: Msgid) -> Entry {
        Entry {
            recipient: Some(recipient.to_string()),
            notification: Some(notification),
            issuer: Some(self.issuer.to_owned()),
            slot: Some(Slot::outcome(&self.message.data.facts.id, recipient)),
            ..self.entry(kind, self.at)
        }
    }

    fn entry(&self, kind: EventKind, at: TemporalReference) -> Entry {
        let facts = &self.message.data.facts;
        Entry {
            queue_id: Some(self.queue_id.to_owned()),
            pec_msgid: Some(facts.id.clone()),
            client_msgid: facts.msgid.clone(),
            sender: Some(facts.sender.to_string()),
            subject: facts.subject.clone(),
            provider: Some(self.message.provider.clone()),
            ..Entry::new(kind, at)
        }
    }
}

/// The recipients with their `tipo`.
fn tokens(recipients: &[Recipient]) -> Vec<(String, String)> {
    recipients.iter().map(|one| (one.address.to_string(), wire::recipient_token(one.kind).to_owned())).collect()
}

/// What all entries share that come of one report about a transaction: Postfix's, or another provider's detection.
#[derive(Debug)]
pub struct ReportAuthor<'a> {
    pub queue_id: &'a str,
    /// The arrival of the envelope that the report is about.
    pub arrival: &'a Entry,
    pub id: &'a PecMsgid,
    pub at: TemporalReference,
    /// This provider's name.
    pub issuer: &'a str,
}

impl ReportAuthor<'_> {
    pub fn take_charge(&self, recipient: &Address, notification: Msgid) -> Entry {
        let slot = Slot::take_charge(self.id, recipient);
        self.told(notification, self.entry(EventKind::TakeCharge, recipient, slot))
    }

    pub fn non_delivery(
        &self,
        recipient: &Address,
        report: &RecipientStatus,
        failure: &Failure,
        notification: Msgid,
    ) -> Entry {
        let details = OutcomeDetails {
            status: Some(failure.status.clone()),
            description: Some(failure.description.clone()),
            ..reported(recipient, report)
        };
        let slot = Slot::outcome(self.id, recipient);
        let entry = self.entry(EventKind::NonDelivery, recipient, slot);
        Entry { details: json(&details), ..self.told(notification, entry) }
    }

    /// The outcome of a recipient whose provider found a virus (§3.2.4).
    pub fn virus_non_delivery(&self, recipient: &Address, virus: &VirusName, notification: Msgid) -> Entry {
        let details = VirusDetails { virus: virus.to_string(), stored: None, mailbox: None };
        let slot = Slot::outcome(self.id, recipient);
        let entry = self.entry(EventKind::VirusNonDelivery, recipient, slot);
        Entry { details: json(&details), ..self.told(notification, entry) }
    }

    pub fn late_failure(&self, recipient: &Address, report: &RecipientStatus) -> Entry {
        let slot = Slot::late_failure(self.queue_id, recipient);
        Entry { details: json(&reported(recipient, report)), ..self.entry(EventKind::LateFailure, recipient, slot) }
    }

    fn told(&self, notification: Msgid, entry: Entry) -> Entry {
        Entry { notification: Some(notification), issuer: Some(self.issuer.to_owned()), ..entry }
    }

    fn entry(&self, kind: EventKind, recipient: &Address, slot: Slot) -> Entry {
        Entry {
            kind,
            at: self.at,
            queue_id: Some(self.queue_id.to_owned()),
            recipient: Some(recipient.to_string()),
            details: None,
            slot: Some(slot),
            ..self.arrival.clone()
        }
    }
}

fn reported(recipient: &Address, report: &RecipientStatus) -> OutcomeDetails {
    OutcomeDetails {
        mailbox: report.last.as_ref().unwrap_or(recipient).to_string(),
        reported: Some(Reported {
            status: report.status.clone(),
            remote: report.remote.clone(),
            diagnostic: report.diagnostic.clone(),
        }),
        ..OutcomeDetails::default()
    }
}

/// The details of an entry; none where they are not of this form.
pub fn details<T: for<'a> Deserialize<'a>>(entry: &Entry) -> Option<T> {
    entry.details.as_deref().and_then(|text| serde_json::from_str(text).ok())
}

fn json(details: &impl Serialize) -> Option<String> {
    serde_json::to_string(details).ok()
}
