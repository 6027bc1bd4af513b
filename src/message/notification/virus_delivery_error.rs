//! The virus-induced non-delivery notice (§3.2.4): the recipient's provider stopped the message.

use super::{Notification, identifier, when};
use crate::message::body::ReadableText;
use crate::message::certification_data::{CertificationData, TransactionFacts};
use crate::message::wire::{ErrorType, Kind};
use crate::model::{Address, Msgid, TemporalReference};

/// The notice about one recipient, to the sender; `name` is the virus as the detection named it.
pub fn virus_delivery_error(
    facts: TransactionFacts,
    recipient: Address,
    name: &str,
    issuer: &str,
    at: TemporalReference,
    id: Msgid,
) -> Notification {
    let lines_subject = format!("\"{}\" destinato", facts.subject_text());
    let lines_recipient = format!("all'utente \"{recipient}\"");
    let data = CertificationData {
        error: ErrorType::Virus,
        recipient: Some(recipient),
        error_text: Some(name.to_owned()),
        ..CertificationData::new(Kind::NonDelivery, facts, issuer, at)
    };
    let lines = vec![
        format!("{} nel messaggio", when(data.at)),
        lines_subject,
        lines_recipient,
        format!("è stato rilevato un problema di sicurezza {name}."),
        "Il messaggio non è stato consegnato.".to_owned(),
        identifier(&data),
    ];
    let text = ReadableText { title: "Avviso di mancata consegna per virus", lines };
    Notification { to: data.facts.sender.clone(), data, id, text, original: None }
}
