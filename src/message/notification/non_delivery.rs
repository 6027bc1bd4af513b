//! The non-delivery notice (§3.3.3): the message will not reach one recipient.

use super::{Notification, identifier, subject_and_sender, when};
use crate::message::body::ReadableText;
use crate::message::certification_data::{CertificationData, TransactionFacts};
use crate::message::wire::{ErrorType, Kind};
use crate::model::{Address, Msgid, TemporalReference};

/// Why a message cannot be delivered, with its enhanced status code (RFC 3463).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// `5.1.1`
    pub status: String,
    /// `indirizzo non valido`
    pub description: String,
}

impl Failure {
    /// The failure that a permanent reply means, by its enhanced status code.
    pub fn from_status(status: &str) -> Self {
        let description = match status {
            "5.1.1" => "indirizzo non valido",
            "5.1.2" => "dominio non valido",
            "5.2.1" => "casella inibita alla ricezione",
            "5.2.2" => "casella piena",
            "5.2.3" | "5.3.4" => "messaggio di dimensioni eccessive",
            "5.4.6" => "instradamento circolare",
            "5.4.7" => "tempo massimo superato",
            _ => "messaggio rifiutato dal sistema di destinazione",
        };
        Failure { status: status.to_owned(), description: description.to_owned() }
    }

    /// `errore` of the certification data (§4.4).
    pub fn error_type(&self) -> ErrorType {
        match self.status.as_str() {
            "5.1.1" => ErrorType::NoRecipient,
            "5.1.2" => ErrorType::NoDomain,
            _ => ErrorType::Other,
        }
    }

    /// `CODE - PROVIDER NAME - description`, the text of `errore-esteso`.
    pub fn reason(&self, provider: &str) -> String {
        format!("{} - {provider} - {}", self.status, self.description)
    }
}

/// The non-delivery notice for one recipient.
pub fn non_delivery(
    facts: TransactionFacts,
    recipient: Address,
    failure: &Failure,
    issuer: &str,
    at: TemporalReference,
    id: Msgid,
) -> Notification {
    let reason = failure.reason(issuer);
    let lines_recipient = format!("e destinato all'utente \"{recipient}\"");
    let lines_reason = format!("è stato rilevato un errore {reason}.");
    let data = CertificationData {
        error: failure.error_type(),
        recipient: Some(recipient),
        error_text: Some(reason),
        ..CertificationData::new(Kind::NonDelivery, facts, issuer, at)
    };
    let lines = vec![
        format!("{} nel messaggio", when(data.at)),
        subject_and_sender(&data),
        lines_recipient,
        lines_reason,
        "Il messaggio è stato rifiutato dal sistema.".to_owned(),
        identifier(&data),
    ];
    let text = ReadableText { title: "Avviso di mancata consegna", lines };
    Notification { to: data.facts.sender.clone(), data, id, text, original: None }
}
