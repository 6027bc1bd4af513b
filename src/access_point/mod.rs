//! The Access Point (§2.2.1, §3.1): who may submit, what is accepted, and the envelope it becomes.
//!
//! Pure: the SMTP dialogue comes in as values, a decision goes out. What is refused in the dialogue never becomes a
//! message; what fails a formal check is answered to its sender; everything else is wrapped.

mod dialogue;
mod formal_checks;
mod receipt_defaults;

use bytes::Bytes;

use crate::message::address_list::addresses;
use crate::message::body::Unsigned;
use crate::message::certification_data::{CertificationData, TransactionFacts};
use crate::message::defect::Defect;
use crate::message::encode::carried_subject;
use crate::message::header::Header;
use crate::message::transport_envelope;
use crate::message::wire::{self, Kind};
use crate::model::{
    Address, Domain, Msgid, PecMsgid, Provider, ReceiptType, Recipient, RecipientType, TemporalReference,
};

pub use dialogue::{DialogueRefusal, Session, check_recipient, check_sender};
pub use formal_checks::{LARGEST_HEADER, LONGEST_HEADER_FIELD, Limits, formal_checks};
pub use receipt_defaults::ReceiptDefaults;

/// A message as a user submits it: the SMTP envelope and the octets.
#[derive(Debug, Clone, Copy)]
pub struct Submission<'a> {
    /// The reverse path, which belongs to the authenticated user.
    pub sender: &'a Address,
    /// The forward paths, each once.
    pub recipients: &'a [Address],
    pub message: &'a Bytes,
}

/// What a provider set for its users' submissions.
#[derive(Debug, Clone, Copy)]
pub struct Rules<'a> {
    pub provider: &'a Provider,
    pub limits: &'a Limits,
    pub receipts: &'a ReceiptDefaults,
}

/// A submission that became an envelope, still to be signed.
#[derive(Debug)]
pub struct Accepted {
    pub data: CertificationData,
    pub envelope: Unsigned,
}

/// A submission that does not become an envelope: what its notice says (§3.1.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotAccepted {
    pub facts: TransactionFacts,
    /// Every check that failed, at least one.
    pub defects: Vec<Defect>,
}

/// Wraps a submission in the envelope that travels, or names every check that failed (§3.1.1, §3.1.5).
///
/// The caller brings the PEC msgid (§2.2.1) and the one temporal reference of this operation (§4.1), so that log,
/// acceptance and envelope agree. `is_certified` asks the providers directory about a domain.
pub fn accept(
    submission: &Submission,
    rules: Rules,
    is_certified: impl Fn(&Domain) -> bool,
    id: PecMsgid,
    at: TemporalReference,
) -> Result<Accepted, Box<NotAccepted>> {
    let Rules { provider, limits, receipts } = rules;
    let header = Header::read(submission.message);
    let defects = formal_checks(submission, &header, limits);
    let facts = facts(submission, &header, is_certified, id);
    if !defects.is_empty() {
        return Err(Box::new(NotAccepted { facts, defects }));
    }
    let data = CertificationData {
        requested: Some(requested_receipt(&header, receipts.of(submission.sender))),
        ..CertificationData::new(Kind::TransportEnvelope, facts, &provider.name, at)
    };
    let envelope = transport_envelope::compose(provider, &data, submission.message);
    Ok(Accepted { data, envelope })
}

/// What is certified of a submission: addresses from the dialogue, the rest from the header.
fn facts(
    submission: &Submission,
    header: &Header,
    is_certified: impl Fn(&Domain) -> bool,
    id: PecMsgid,
) -> TransactionFacts {
    let kind = |address: &Address| match is_certified(&address.domain()) {
        true => RecipientType::Certified,
        false => RecipientType::External,
    };
    let reply_to = header.first("Reply-To").and_then(|field| addresses(field.raw_value()).ok()).unwrap_or_default();
    let replies: Vec<&str> = reply_to.iter().map(Address::as_str).collect();
    TransactionFacts {
        sender: submission.sender.clone(),
        recipients: submission
            .recipients
            .iter()
            .map(|address| Recipient { address: address.clone(), kind: kind(address) })
            .collect(),
        replies: if replies.is_empty() { submission.sender.to_string() } else { replies.join(", ") },
        // A longer one is not accepted; its notice tells as much as its own subject can hold.
        subject: header.first("Subject").map(|field| carried_subject(&field.decoded()).to_owned()),
        id,
        msgid: header.text("Message-ID").and_then(|text| text.parse::<Msgid>().ok()),
    }
}

/// `X-TipoRicevuta`; the mailbox's own type where the message asks nothing, complete where it asks something unknown
/// (§3.1.5).
fn requested_receipt(header: &Header, of_mailbox: ReceiptType) -> ReceiptType {
    match header.text(wire::X_TIPO_RICEVUTA).filter(|token| !token.is_empty()) {
        Some(token) => wire::receipt_from_token(&token).unwrap_or_default(),
        None => of_mailbox,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_asks_before_the_mailbox() {
        let requested = |header: &str| requested_receipt(&Header::read(header.as_bytes()), ReceiptType::Brief);
        assert_eq!(requested("Subject: s\r\n\r\n"), ReceiptType::Brief);
        assert_eq!(requested("X-TipoRicevuta:\r\n\r\n"), ReceiptType::Brief);
        assert_eq!(requested("x-tiporicevuta: SINTETICA\r\n\r\n"), ReceiptType::Concise);
        assert_eq!(requested("X-TipoRicevuta: completa\r\n\r\n"), ReceiptType::Complete);
        assert_eq!(requested("X-TipoRicevuta: altra\r\n\r\n"), ReceiptType::Complete);
    }
}
