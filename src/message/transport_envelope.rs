//! The transport envelope (§3.1.5): what replaces a submission in place.
//!
//! The fields it inherits stay where they are, so here is only what is set. The original inside is unmodified but for
//! its Message-ID, which becomes the PEC msgid, while the client's moves to `X-Riferimento-Message-ID` (§2.2.1).

use bytes::Bytes;

use crate::message::Pieces;
use crate::message::body::{ReadableText, Unsigned};
use crate::message::certification_data::{CertificationData, TransactionFacts};
use crate::message::encode::{quoted_string, unstructured};
use crate::message::header::Header;
use crate::message::notification::when;
use crate::message::wire::{self, Kind};
use crate::model::{Msgid, PecMsgid, Provider};

/// The fields whose values an envelope takes over unmodified; `Reply-To` where there is one.
pub const INHERITED: [&str; 5] = ["Received", "To", "Cc", "Return-Path", "Reply-To"];

/// Wraps a submission; `data` says all that is certified of it.
pub fn compose(provider: &Provider, data: &CertificationData, submission: &Bytes) -> Unsigned {
    let facts = &data.facts;
    let id = facts.id.bracketed();
    let submitted = Header::read(submission);
    let mut header = vec![
        (wire::X_TRASPORTO, Kind::TransportEnvelope.token().to_owned()),
        ("Date", data.at.date_field()),
        ("Subject", unstructured("Subject", Kind::TransportEnvelope.subject_prefix(data.error), facts.subject_text())),
        ("From", on_behalf_of(facts.sender.as_str(), provider)),
        ("Message-ID", id.to_string()),
    ];
    if submitted.first("Reply-To").is_none() {
        header.push(("Reply-To", facts.sender.to_string()));
    }
    if let Some(msgid) = &facts.msgid {
        header.push((wire::X_RIFERIMENTO, msgid.to_string()));
    }
    header.push((wire::X_TIPO_RICEVUTA, wire::receipt_token(data.requested.unwrap_or_default()).to_owned()));
    let original = with_pec_msgid(submission, &facts.id, facts.msgid.as_ref());
    Unsigned::compose(header, &id, &text(data), Some(data.to_xml()), Some(original))
}

/// The author field of an envelope (§3.1.5, §3.2.2).
pub fn on_behalf_of(sender: &str, provider: &Provider) -> String {
    let name = quoted_string(&format!("{}{sender}", wire::ON_BEHALF_OF));
    format!("{name}\r\n <{}>", provider.sending_address)
}

fn text(data: &CertificationData) -> ReadableText {
    let TransactionFacts { sender, recipients, id, .. } = &data.facts;
    let mut lines = vec![
        format!("{} il messaggio", when(data.at)),
        format!("\"{}\" è stato inviato da \"{sender}\"", data.facts.subject_text()),
        "indirizzato a:".to_owned(),
    ];
    lines.extend(recipients.iter().map(|recipient| recipient.address.to_string()));
    lines.push("Il messaggio originale è incluso in allegato.".to_owned());
    lines.push(format!("Identificativo messaggio: {id}"));
    ReadableText { title: "Messaggio di posta certificata", lines }
}

/// The original with the PEC msgid in place of the client's (§2.2.1); the body is shared, not copied.
fn with_pec_msgid(submission: &Bytes, id: &PecMsgid, client: Option<&Msgid>) -> Pieces {
    let header = Header::read(submission);
    let mut own = format!("Message-ID: {}\r\n", id.bracketed());
    if let Some(client) = client {
        own.push_str(&format!("{}: {client}\r\n", wire::X_RIFERIMENTO));
    }
    let mut fields = Vec::with_capacity(header.body_start + own.len());
    let mut replaced = false;
    for field in header.fields() {
        let name = field.name();
        if name.eq_ignore_ascii_case(b"Message-ID") {
            if !replaced {
                fields.extend_from_slice(own.as_bytes());
                replaced = true;
            }
        } else if !name.eq_ignore_ascii_case(wire::X_RIFERIMENTO.as_bytes()) {
            fields.extend_from_slice(field.line());
        }
    }
    // A message may be cut off inside its header, without the line end of its last field.
    if !fields.is_empty() && !fields.ends_with(b"\n") {
        fields.extend_from_slice(b"\r\n");
    }
    if !replaced {
        fields.extend_from_slice(own.as_bytes());
    }
    fields.extend_from_slice(b"\r\n");
    let mut original = Pieces::from(fields);
    original.push(submission.slice(header.body_start.min(submission.len())..));
    original
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(original: &'static str, client: Option<&str>) -> String {
        let id = "pec.1@alfa.example".parse().unwrap();
        let client = client.map(|text| text.parse().unwrap());
        let pieces = with_pec_msgid(&Bytes::from_static(original.as_bytes()), &id, client.as_ref());
        String::from_utf8(pieces.to_vec()).unwrap()
    }

    #[test]
    fn only_the_identifier_of_the_original_changes() {
        assert_eq!(
            rewritten("From: a\r\nMessage-Id:\r\n <c@x>\r\nTo: b\r\n c\r\n\r\nbody\r\n.\r\n", Some("<c@x>")),
            "From: a\r\nMessage-ID: <pec.1@alfa.example>\r\nX-Riferimento-Message-ID: <c@x>\r\nTo: b\r\n c\r\n\r\nbody\r\n.\r\n"
        );
        assert_eq!(
            rewritten("From: a\r\nX-Riferimento-Message-ID: <forged@x>\r\n\r\n", None),
            "From: a\r\nMessage-ID: <pec.1@alfa.example>\r\n\r\n"
        );
        assert_eq!(rewritten("From: a", None), "From: a\r\nMessage-ID: <pec.1@alfa.example>\r\n\r\n");
        assert_eq!(rewritten("", None), "Message-ID: <pec.1@alfa.example>\r\n\r\n");
    }
}
