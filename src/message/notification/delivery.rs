//! The delivery receipt (§3.3.2): the mailbox of one recipient holds the message.

use super::{Notification, identifier, subject_and_sender, when};
use crate::message::Pieces;
use crate::message::body::ReadableText;
use crate::message::certification_data::{CertificationData, TransactionFacts};
use crate::message::wire::Kind;
use crate::model::{Address, Msgid, ReceiptType, TemporalReference};

/// The delivery receipt for one recipient.
///
/// `requested` is what the sender asked for, `issued` what this recipient gets (§3.3.2); `original` is the message as
/// the issued type carries it: nothing in a concise receipt, nor in one that is made again after the original is gone.
#[expect(clippy::too_many_arguments, reason = "each is one fact of the receipt")]
pub fn delivery(
    facts: TransactionFacts,
    requested: ReceiptType,
    recipient: Address,
    issuer: &str,
    at: TemporalReference,
    id: Msgid,
    issued: ReceiptType,
    original: Option<Pieces>,
) -> Notification {
    let lines_recipient = format!("ed indirizzato a \"{recipient}\"");
    let data = CertificationData {
        requested: Some(requested),
        recipient: Some(recipient),
        ..CertificationData::new(Kind::Delivery, facts, issuer, at)
    };
    let title = match issued {
        ReceiptType::Complete => "Ricevuta di avvenuta consegna",
        ReceiptType::Brief => "Ricevuta breve di avvenuta consegna",
        ReceiptType::Concise => "Ricevuta sintetica di avvenuta consegna",
    };
    let lines = vec![
        format!("{} il messaggio", when(data.at)),
        subject_and_sender(&data),
        lines_recipient,
        "è stato consegnato nella casella di destinazione.".to_owned(),
        identifier(&data),
    ];
    Notification { to: data.facts.sender.clone(), data, id, text: ReadableText { title, lines }, original }
}
