//! The virus detection (§3.2.3): the receiving provider tells the sender's that it let a virus pass.

use super::{Notification, identifier, security_problem, stopped_by_virus, subject_and_sender, when};
use crate::message::body::ReadableText;
use crate::message::certification_data::{CertificationData, TransactionFacts};
use crate::message::wire::Kind;
use crate::model::{Address, Msgid, TemporalReference};

/// The virus detection about one recipient, to the sender provider's service mailbox.
pub fn virus_detection(
    facts: TransactionFacts,
    recipient: Address,
    name: &str,
    issuer: &str,
    at: TemporalReference,
    id: Msgid,
    to: Address,
) -> Notification {
    let recipient_line = format!("e destinato all'utente \"{recipient}\"");
    let stopped = stopped_by_virus(Kind::VirusDetection, facts, name, issuer, at);
    let data = CertificationData { recipient: Some(recipient), ..stopped };
    let lines = vec![
        format!("{} nel messaggio", when(data.at)),
        subject_and_sender(&data),
        recipient_line,
        security_problem(name),
        identifier(&data),
    ];
    let text = ReadableText { title: "Avviso di rilevazione virus", lines };
    Notification { data, id, to, text, original: None }
}
