//! The take-charge (§3.2.1): the receiving provider answers for its recipients from now on.

use super::{Notification, identifier, subject_and_sender, when};
use crate::message::body::ReadableText;
use crate::message::certification_data::{CertificationData, TransactionFacts};
use crate::message::wire::Kind;
use crate::model::{Address, Msgid, TemporalReference};

/// The take-charge of those recipients of one SMTP transaction that are ours, to the sender provider's service mailbox.
pub fn server_server_acceptance(
    facts: TransactionFacts,
    taken: Vec<Address>,
    issuer: &str,
    at: TemporalReference,
    id: Msgid,
    to: Address,
) -> Notification {
    let data = CertificationData { taken, ..CertificationData::new(Kind::ServerServerAcceptance, facts, issuer, at) };
    let mut lines =
        vec![format!("{} il messaggio", when(data.at)), subject_and_sender(&data), "ed indirizzato a:".to_owned()];
    lines.extend(data.taken.iter().map(Address::to_string));
    lines.push("è stato accettato dal sistema.".to_owned());
    lines.push(identifier(&data));
    let text = ReadableText { title: "Ricevuta di presa in carico", lines };
    Notification { data, id, to, text, original: None }
}
