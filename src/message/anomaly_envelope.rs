//! The anomaly envelope (§3.2.2): what replaces, in place, an incoming message that is not certified.
//!
//! It wraps the received message octet for octet, keeps its Message-ID, and has no certification data.

use bytes::Bytes;

use crate::message::Pieces;
use crate::message::body::{ReadableText, Unsigned};
use crate::message::encode::unstructured;
use crate::message::header::Header;
use crate::message::notification::when;
use crate::message::transport_envelope::on_behalf_of;
use crate::message::wire;
use crate::model::{Address, Msgid, Provider, TemporalReference};

/// The fields whose values it takes over unmodified; `Reply-To` where there is one.
pub const INHERITED: [&str; 6] = ["Received", "To", "Cc", "Return-Path", "Message-ID", "Reply-To"];

/// What an anomaly envelope says.
#[derive(Debug)]
pub struct Anomaly<'a> {
    /// The reverse path, or the author where that is empty; neither of a message without both.
    pub sender: Option<&'a Address>,
    pub recipients: &'a [String],
    pub at: TemporalReference,
    /// Why it is not certified: a short Italian phrase.
    pub reason: &'a str,
}

/// Wraps a received message. `chance` is any new identifier, for the boundaries.
pub fn compose(provider: &Provider, anomaly: &Anomaly, received: &Bytes, chance: &Msgid) -> Unsigned {
    let incoming = Header::read(received);
    let subject = incoming.first("Subject").map(|field| field.decoded()).unwrap_or_default();
    let sender = anomaly.sender.map_or("mittente sconosciuto", Address::as_str);
    let mut header = vec![
        (wire::X_TRASPORTO, wire::ANOMALY.to_owned()),
        ("Date", anomaly.at.date_field()),
        ("Subject", unstructured("Subject", wire::ANOMALY_SUBJECT, &subject)),
        ("From", on_behalf_of(sender, provider)),
    ];
    if let (None, Some(sender)) = (incoming.first("Reply-To"), anomaly.sender) {
        header.push(("Reply-To", sender.to_string()));
    }
    let mut lines = vec![
        format!("{} è stato ricevuto", when(anomaly.at)),
        format!("il messaggio \"{subject}\" proveniente da \"{sender}\""),
        "ed indirizzato a:".to_owned(),
    ];
    lines.extend(anomaly.recipients.iter().cloned());
    lines.push("Tali dati non sono stati certificati per il seguente errore:".to_owned());
    lines.push(anomaly.reason.to_owned());
    lines.push("Il messaggio originale è incluso in allegato.".to_owned());
    let text = ReadableText { title: "Anomalia nel messaggio", lines };
    Unsigned::compose(header, chance, &text, None, Some(Pieces::from(received.clone())))
}
