//! From entries of the log to the notifications that tell them: nothing is told that is not recorded, and what is told
//! again is told in the same octets.
//!
//! The first issue, a retry, and a reproduction after years go the same way. All that a notification says comes from the
//! entry that it tells and from the arrival of the transaction; the original alone, where a receipt carries it, comes
//! from elsewhere.

use bytes::Bytes;

use super::entries::{ArrivalDetails, NonAcceptanceDetails, OutcomeDetails, VirusDetails, details};
use crate::delivery_point::brief;
use crate::legal_log::{Entry, EventKind, Recorded};
use crate::message::Pieces;
use crate::message::certification_data::TransactionFacts;
use crate::message::notification::{
    Failure, Notification, TimeoutNotice, delivery, non_acceptance, non_acceptance_for_virus, non_delivery,
    server_server_acceptance, server_user_acceptance, timeout_delivery_error, virus_delivery_error, virus_detection,
};
use crate::message::wire::{self, ErrorType};
use crate::model::{Address, ReceiptType};

/// What the log knows of a transaction as a whole.
#[derive(Debug, Clone)]
pub struct Transaction {
    pub facts: TransactionFacts,
    /// The receipt type that the sender requested.
    requested: ReceiptType,
    /// Where take-charges and virus detections go; nowhere for a message that was not accepted.
    mail_receipt: Option<Address>,
}

impl Transaction {
    /// By its arrival, or by the entry that says that it was not accepted.
    pub fn of(entry: &Entry) -> Option<Self> {
        match entry.kind {
            EventKind::Arrival => {
                let known: ArrivalDetails = details(entry)?;
                Some(Transaction {
                    facts: ArrivalDetails::facts(entry)?,
                    requested: wire::receipt_from_token(&known.requested).unwrap_or_default(),
                    mail_receipt: Some(known.mail_receipt.parse().ok()?),
                })
            }
            EventKind::NonAcceptance => Some(Transaction {
                facts: NonAcceptanceDetails::facts(entry)?,
                requested: ReceiptType::default(),
                mail_receipt: None,
            }),
            _ => None,
        }
    }
}

/// The original of a transaction as its delivery receipts carry it.
#[derive(Debug, Clone, Default)]
pub struct Original {
    complete: Option<Pieces>,
    brief: Option<Pieces>,
}

impl Original {
    /// As the receipts that tell these entries need it. Hashing is work: not for an async thread.
    pub fn for_entries<'a>(original: Bytes, mut entries: impl Iterator<Item = &'a Entry>) -> Self {
        let brief = entries.any(is_brief).then(|| brief(&original));
        Original { complete: Some(Pieces::from(original)), brief }
    }

    fn of_type(&self, issued: ReceiptType) -> Option<Pieces> {
        match issued {
            ReceiptType::Complete => self.complete.clone(),
            ReceiptType::Brief => self.brief.clone(),
            ReceiptType::Concise => None,
        }
    }
}

/// A notification with the places among the recipients that may be answered once it is sent.
pub struct Telling {
    pub notification: Notification,
    pub answers: Vec<usize>,
}

/// The acceptance, and the outcomes of recipients, with the places that each answers.
pub fn tellings<'a>(
    transaction: &Transaction,
    original: &Original,
    recorded: impl IntoIterator<Item = (&'a Entry, Vec<usize>)>,
) -> Vec<Telling> {
    let telling =
        |(entry, answers)| Some(Telling { notification: notification(transaction, original, entry)?, answers });
    recorded.into_iter().filter_map(telling).collect()
}

/// Whether an entry is told by a brief receipt.
pub fn is_brief(entry: &Entry) -> bool {
    issued(entry) == Some(ReceiptType::Brief)
}

/// Whether an entry is told by a receipt that carries the original, whole or hashed.
pub fn carries_original(entry: &Entry) -> bool {
    matches!(issued(entry), Some(ReceiptType::Complete | ReceiptType::Brief))
}

/// The notification that tells one entry; none for entries that tell nothing, and for take-charges, several of which
/// one notification may tell. A receipt whose original is not there is one without it.
pub fn notification(transaction: &Transaction, original: &Original, entry: &Entry) -> Option<Notification> {
    let Transaction { facts, requested, mail_receipt } = transaction;
    let (facts, id, at) = (facts.clone(), entry.notification.clone()?, entry.at);
    // The name of then, also where it is another now.
    let issuer = entry.issuer.as_deref()?;
    let recipient = || entry.recipient.as_ref()?.parse::<Address>().ok();
    Some(match entry.kind {
        EventKind::Acceptance => server_user_acceptance(facts, issuer, at, id),
        EventKind::NonAcceptance => {
            let known: NonAcceptanceDetails = details(entry)?;
            let reason = known.defects.unwrap_or_default();
            match ErrorType::from_token(&known.error)? {
                ErrorType::Virus => non_acceptance_for_virus(facts, &reason, issuer, at, id),
                _ => non_acceptance(facts, &reason, issuer, at, id),
            }
        }
        EventKind::Delivery => {
            let issued = issued(entry)?;
            delivery(facts, *requested, recipient()?, issuer, at, id, issued, original.of_type(issued))
        }
        EventKind::NonDelivery => {
            let known: OutcomeDetails = details(entry)?;
            let failure = Failure { status: known.status?, description: known.description? };
            non_delivery(facts, recipient()?, &failure, issuer, at, id)
        }
        EventKind::VirusDetection => {
            let known: VirusDetails = details(entry)?;
            virus_detection(facts, recipient()?, &known.virus, issuer, at, id, mail_receipt.clone()?)
        }
        EventKind::VirusNonDelivery => {
            let known: VirusDetails = details(entry)?;
            virus_delivery_error(facts, recipient()?, &known.virus, issuer, at, id)
        }
        EventKind::FirstTimeout => timeout_delivery_error(facts, recipient()?, TimeoutNotice::First, issuer, at, id),
        EventKind::FinalTimeout => timeout_delivery_error(facts, recipient()?, TimeoutNotice::Final, issuer, at, id),
        _ => return None,
    })
}

/// The take-charges that tell some recorded entries: one for each Message-ID they were given.
pub fn take_charges(transaction: &Transaction, recorded: &[Recorded]) -> Vec<Notification> {
    let mut notifications: Vec<Notification> = Vec::new();
    let taken = recorded.iter().map(|one| &one.entry).filter(|entry| entry.kind == EventKind::TakeCharge);
    for entry in taken.clone() {
        let (Some(id), Some(issuer)) = (entry.notification.clone(), entry.issuer.as_deref()) else { continue };
        let Some(to) = transaction.mail_receipt.clone() else { continue };
        if notifications.iter().any(|notification| notification.id == id) {
            continue;
        }
        let together = taken.clone().filter(|other| other.notification.as_ref() == Some(&id));
        let recipients = together.filter_map(|other| other.recipient.as_ref()?.parse().ok()).collect();
        notifications.push(server_server_acceptance(transaction.facts.clone(), recipients, issuer, entry.at, id, to));
    }
    notifications
}

/// Which delivery receipt tells an entry.
fn issued(entry: &Entry) -> Option<ReceiptType> {
    let known: OutcomeDetails = details(entry).filter(|_| entry.kind == EventKind::Delivery)?;
    wire::receipt_from_token(&known.issued?)
}
