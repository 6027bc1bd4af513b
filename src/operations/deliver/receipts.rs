//! From entries of the log to the notifications that tell them: nothing is told that is not recorded, and what is told
//! again is told in the same octets.

use super::entries::{OutcomeDetails, VirusDetails, details};
use crate::incoming_point::CertifiedMessage;
use crate::legal_log::{Entry, EventKind, Recorded};
use crate::message::Pieces;
use crate::message::certification_data::TransactionFacts;
use crate::message::notification::{
    Failure, Notification, delivery, non_delivery, server_server_acceptance, server_user_acceptance,
    virus_delivery_error, virus_detection,
};
use crate::message::wire;
use crate::model::{Address, ReceiptType};
use crate::operations::current::Current;

/// Whether an entry is told by a brief receipt.
pub fn is_brief(entry: &Entry) -> bool {
    entry.kind == EventKind::Delivery && issued(entry) == Some(ReceiptType::Brief)
}

/// The notification that tells a recorded acceptance, delivery or non-delivery; none for entries that tell nothing.
/// `brief` is the original as brief receipts carry it, where there are any.
pub fn of_entry(
    current: &Current,
    message: &CertifiedMessage,
    brief: Option<&Pieces>,
    entry: &Entry,
) -> Option<Notification> {
    let (facts, issuer) = (&message.data.facts, current.provider.name.as_str());
    let id = entry.notification.clone()?;
    let recipient = entry.recipient.as_ref().and_then(|text| text.parse::<Address>().ok());
    match entry.kind {
        EventKind::Acceptance => Some(server_user_acceptance(&message.data, id)),
        EventKind::Delivery => {
            let requested = message.data.requested.unwrap_or_default();
            let issued = issued(entry)?;
            let original = match issued {
                ReceiptType::Brief => brief?.clone(),
                ReceiptType::Complete | ReceiptType::Concise => Pieces::from(message.original.clone()),
            };
            Some(delivery(facts.clone(), requested, recipient?, issuer, entry.at, id, issued, original))
        }
        EventKind::NonDelivery => non_delivery_notice(current, facts, entry),
        EventKind::VirusDetection => {
            let known: VirusDetails = details(entry)?;
            let (facts, to) = (facts.clone(), message.mail_receipt.clone());
            Some(virus_detection(facts, recipient?, &known.virus, issuer, entry.at, id, to))
        }
        _ => None,
    }
}

/// The notice that tells our user what another provider detected.
pub fn virus_non_delivery_notice(current: &Current, facts: &TransactionFacts, entry: &Entry) -> Option<Notification> {
    let known: VirusDetails = details(entry)?;
    let (recipient, id) = (entry.recipient.as_ref()?.parse().ok()?, entry.notification.clone()?);
    Some(virus_delivery_error(facts.clone(), recipient, &known.virus, &current.provider.name, entry.at, id))
}

/// The notice that tells a recorded non-delivery.
pub fn non_delivery_notice(current: &Current, facts: &TransactionFacts, entry: &Entry) -> Option<Notification> {
    let known: OutcomeDetails = details(entry)?;
    let failure = Failure { status: known.status?, description: known.description? };
    let (recipient, id) = (entry.recipient.as_ref()?.parse().ok()?, entry.notification.clone()?);
    Some(non_delivery(facts.clone(), recipient, &failure, &current.provider.name, entry.at, id))
}

fn issued(entry: &Entry) -> Option<ReceiptType> {
    wire::receipt_from_token(&details::<OutcomeDetails>(entry)?.issued?)
}

/// The take-charges that tell some recorded entries: one for each Message-ID they were given.
pub fn take_charges(
    current: &Current,
    facts: &TransactionFacts,
    mail_receipt: &Address,
    recorded: &[Recorded],
) -> Vec<Notification> {
    let mut notifications: Vec<Notification> = Vec::new();
    let taken = recorded.iter().map(|one| &one.entry).filter(|entry| entry.kind == EventKind::TakeCharge);
    for entry in taken.clone() {
        let Some(id) = entry.notification.clone() else { continue };
        if notifications.iter().any(|notification| notification.id == id) {
            continue;
        }
        let together = taken.clone().filter(|other| other.notification.as_ref() == Some(&id));
        let recipients = together.filter_map(|other| other.recipient.as_ref()?.parse().ok()).collect();
        notifications.push(server_server_acceptance(
            facts.clone(),
            recipients,
            &current.provider.name,
            entry.at,
            id,
            mail_receipt.clone(),
        ));
    }
    notifications
}
