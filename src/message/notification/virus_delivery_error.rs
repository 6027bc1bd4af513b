//! The virus-induced non-delivery notice (§3.2.4): the recipient's provider stopped the message.

use super::{Notification, identifier, security_problem, stopped_by_virus, when};
use crate::message::body::ReadableText;
use crate::message::certification_data::{CertificationData, TransactionFacts};
use crate::message::wire::Kind;
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
    let stopped = stopped_by_virus(Kind::NonDelivery, facts, name, issuer, at);
    let data = CertificationData { recipient: Some(recipient), ..stopped };
    let lines = vec![
        format!("{} nel messaggio", when(data.at)),
        lines_subject,
        lines_recipient,
        security_problem(name),
        "Il messaggio non è stato consegnato.".to_owned(),
        identifier(&data),
    ];
    let text = ReadableText { title: "Avviso di mancata consegna per virus", lines };
    Notification { to: data.facts.sender.clone(), data, id, text, original: None }
}
