//! The acceptance (§3.1.4): the provider has the message and forwards it.

use super::{Notification, identifier, subject_and_sender, when};
use crate::message::body::ReadableText;
use crate::message::certification_data::{CertificationData, TransactionFacts};
use crate::message::wire::{self, Kind};
use crate::model::{Msgid, TemporalReference};

/// The acceptance of a transport envelope, of which it has facts, issuer and instant (§4.1).
pub fn server_user_acceptance(facts: TransactionFacts, issuer: &str, at: TemporalReference, id: Msgid) -> Notification {
    let data = CertificationData::new(Kind::ServerUserAcceptance, facts, issuer, at);
    let mut lines =
        vec![format!("{} il messaggio", when(data.at)), subject_and_sender(&data), "ed indirizzato a:".to_owned()];
    lines.extend(data.facts.recipients.iter().map(|recipient| {
        let label = wire::recipient_label(recipient.kind);
        format!("{} (\"{label}\")", recipient.address)
    }));
    lines.push("è stato accettato dal sistema ed inoltrato.".to_owned());
    lines.push(identifier(&data));
    let text = ReadableText { title: "Ricevuta di accettazione", lines };
    Notification { to: data.facts.sender.clone(), data, id, text, original: None }
}
