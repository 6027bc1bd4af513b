//! Delivery status notifications (RFC 3464): what an MTA reports about a message it could not deliver, or did.
//!
//! Read from outside bytes, so tolerantly: a field of unexpected form is absent, a recipient without its necessary
//! fields is passed over, and a message without the two necessary parts is no report. Whether the report may be believed
//! is the caller's question.

use bytes::Bytes;

use crate::message::header::{Header, printable};
use crate::message::mime::Entity;
use crate::message::wire::{Kind, X_TRASPORTO};
use crate::model::{Address, PecMsgid};

/// As many as Postfix's queue manager holds of one message in memory (`qmgr_message_recipient_limit`); it reports them
/// in one go.
const MOST_RECIPIENTS: usize = 20_000;

/// What another server said is kept for people: more than this nobody reads.
const LONGEST_DIAGNOSTIC: usize = 1_000;

/// A report about one message.
#[derive(Debug, Clone)]
pub struct DeliveryStatus {
    /// `X-Postfix-Queue-ID`: the queue file that the report is about.
    pub queue_id: Option<String>,
    pub recipients: Vec<RecipientStatus>,
    /// The message that the report is about, or its header section alone.
    returned: Bytes,
}

/// What is reported about one recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecipientStatus {
    /// `Original-Recipient`: the address that the sender named, where an alias led elsewhere.
    pub original: Option<Address>,
    /// `Final-Recipient`: the address that failed.
    pub last: Option<Address>,
    pub action: Action,
    /// The enhanced status code (RFC 3463), as it stands there.
    pub status: String,
    /// `Diagnostic-Code` without its type.
    pub diagnostic: Option<String>,
    /// `Remote-MTA` without its type: the server that said so.
    pub remote: Option<String>,
}

/// `Action` (RFC 3464 §2.3.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// It will not be delivered.
    Failed,
    /// It is still being tried.
    Delayed,
    /// `delivered`, `relayed` or `expanded`.
    Succeeded,
}

impl DeliveryStatus {
    /// Reads a `multipart/report` of delivery status; `None` for any other message.
    pub fn read(message: Bytes) -> Option<Self> {
        let report = Entity::read(message);
        let is_delivery_status = |kind: &str| kind.eq_ignore_ascii_case("delivery-status");
        if report.content_type.kind != "multipart/report"
            || !report.content_type.parameter("report-type").is_some_and(is_delivery_status)
        {
            return None;
        }
        let parts = report.parts().ok()?;
        let of_kind = |kinds: &[&str]| parts.iter().find(|part| kinds.contains(&part.content_type.kind.as_str()));
        let fields = of_kind(&["message/delivery-status"])?.decoded_body()?;
        let returned = of_kind(&["message/rfc822", "text/rfc822-headers", "message/rfc822-headers"])?.body();
        let queue_id = Header::read(&fields).text("X-Postfix-Queue-ID");
        Some(DeliveryStatus { queue_id, recipients: recipients(&fields), returned })
    }

    /// The message that the report is about, or its header section alone.
    pub fn returned(&self) -> &Bytes {
        &self.returned
    }

    /// The identifier of the certified message that the report is about; `None` where it is about no transport envelope.
    pub fn envelope(&self) -> Option<PecMsgid> {
        let header = Header::read(&self.returned);
        let announced = header.text(X_TRASPORTO)?;
        let is_envelope = Kind::from_token(&announced) == Some(Kind::TransportEnvelope);
        let id = header.text("Message-ID").filter(|_| is_envelope)?;
        id.strip_prefix('<')?.strip_suffix('>')?.parse().ok()
    }

    /// Whether it tells that somebody will not get the message.
    pub fn tells_a_failure(&self) -> bool {
        self.recipients.iter().any(|recipient| recipient.action == Action::Failed)
    }
}

/// The groups of fields after the first, which is about the message; they are separated by empty lines.
fn recipients(fields: &[u8]) -> Vec<RecipientStatus> {
    let mut found = Vec::new();
    let mut rest = fields;
    while !rest.is_empty() && found.len() < MOST_RECIPIENTS {
        let group = Header::read(rest);
        found.extend(recipient(&group));
        rest = rest.get(group.body_start.max(1)..).unwrap_or_default();
    }
    found
}

/// `None` for a group that is about no recipient or tells nothing.
fn recipient(group: &Header) -> Option<RecipientStatus> {
    let action = action(&group.text("Action")?)?;
    let (original, last) = (address(group, "Original-Recipient"), address(group, "Final-Recipient"));
    if original.is_none() && last.is_none() {
        return None;
    }
    let status = group.text("Status").unwrap_or_default();
    let status = status.split_whitespace().next().unwrap_or_default().to_owned();
    let (diagnostic, remote) = (typed(group, "Diagnostic-Code"), typed(group, "Remote-MTA"));
    Some(RecipientStatus { original, last, action, status, diagnostic, remote })
}

fn action(text: &str) -> Option<Action> {
    match text.split([' ', '\t', '(']).next().unwrap_or_default().to_ascii_lowercase().as_str() {
        "failed" => Some(Action::Failed),
        "delayed" => Some(Action::Delayed),
        "delivered" | "relayed" | "expanded" => Some(Action::Succeeded),
        _ => None,
    }
}

/// The address in `rfc822; ADDRESS`.
fn address(group: &Header, name: &str) -> Option<Address> {
    let text = group.text(name)?;
    let (kind, address) = text.split_once(';')?;
    let address = address.trim();
    let bare = address.strip_prefix('<').and_then(|rest| rest.strip_suffix('>')).unwrap_or(address);
    bare.parse().ok().filter(|_| kind.trim().eq_ignore_ascii_case("rfc822"))
}

/// What follows the type in `TYPE; TEXT`.
fn typed(group: &Header, name: &str) -> Option<String> {
    let value = group.text(name)?;
    let text = value.split_once(';').map_or(value.as_str(), |(_, text)| text);
    let text = printable(text).split_whitespace().collect::<Vec<_>>().join(" ");
    let text: String = text.chars().take(LONGEST_DIAGNOSTIC).collect();
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Postfix 3.7 writes it.
    const BOUNCE: &str = "From: Mail Delivery System <MAILER-DAEMON@mx.alfa.example>\r\n\
        Content-Type: multipart/report; report-type=delivery-status;\r\n\tboundary=\"4jX.1/mx.alfa.example\"\r\n\r\n\
        This is a MIME-encapsulated message.\r\n\r\n\
        --4jX.1/mx.alfa.example\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\nI'm sorry\r\n\r\n\
        --4jX.1/mx.alfa.example\r\nContent-Type: message/delivery-status\r\n\r\n\
        Reporting-MTA: dns; mx.alfa.example\r\nX-Postfix-Queue-ID: 4jX7qQ0LDzz1dmdF\r\n\
        X-Postfix-Sender: rfc822; anna@alfa.example\r\n\r\n\
        Final-Recipient: rfc822; bruno@beta.example\r\nOriginal-Recipient: rfc822;ufficio@alfa.example\r\n\
        Action: failed\r\nStatus: 5.1.1\r\nRemote-MTA: dns; mx.beta.example\r\n\
        Diagnostic-Code: smtp; 550 5.1.1 <bruno@beta.example>:\r\n    User unknown\r\n\r\n\
        Final-Recipient: rfc822; mario@gamma.example\r\nAction: delayed\r\nStatus: 4.4.1\r\n\r\n\
        --4jX.1/mx.alfa.example\r\nContent-Type: message/rfc822\r\n\r\n\
        X-Trasporto: posta-certificata\r\nMessage-ID: <pec.1@alfa.example>\r\n\r\nbody\r\n\r\n\
        --4jX.1/mx.alfa.example--\r\n";

    fn read(text: &str) -> Option<DeliveryStatus> {
        DeliveryStatus::read(Bytes::from(text.to_owned()))
    }

    fn address(text: &str) -> Option<Address> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn what_postfix_reports_is_read() {
        let report = read(BOUNCE).unwrap();
        assert_eq!(report.queue_id.as_deref(), Some("4jX7qQ0LDzz1dmdF"));
        assert_eq!(report.envelope(), Some("pec.1@alfa.example".parse().unwrap()));
        assert!(report.tells_a_failure());
        let expected = [
            RecipientStatus {
                original: address("ufficio@alfa.example"),
                last: address("bruno@beta.example"),
                action: Action::Failed,
                status: "5.1.1".into(),
                diagnostic: Some("550 5.1.1 <bruno@beta.example>: User unknown".into()),
                remote: Some("mx.beta.example".into()),
            },
            RecipientStatus {
                original: None,
                last: address("mario@gamma.example"),
                action: Action::Delayed,
                status: "4.4.1".into(),
                diagnostic: None,
                remote: None,
            },
        ];
        assert_eq!(report.recipients, expected);
    }

    #[test]
    fn the_header_alone_of_a_large_message_is_enough() {
        let text = BOUNCE.replace("message/rfc822", "text/rfc822-headers").replace("\r\n\r\nbody\r\n\r\n", "\r\n\r\n");
        assert_eq!(read(&text).unwrap().envelope(), Some("pec.1@alfa.example".parse().unwrap()));
    }

    #[test]
    fn reports_about_anything_but_an_envelope_are_told_apart() {
        for other in [
            ("X-Trasporto: posta-certificata", "X-Ricevuta: avvenuta-consegna"),
            ("X-Trasporto: posta-certificata", "X-Trasporto: errore"),
            ("X-Trasporto: posta-certificata", "Subject: POSTA CERTIFICATA: x"),
            ("<pec.1@alfa.example>", "<pec.1>"),
            ("<pec.1@alfa.example>", "pec.1@alfa.example"),
        ] {
            assert_eq!(read(&BOUNCE.replace(other.0, other.1)).unwrap().envelope(), None, "{other:?}");
        }
    }

    #[test]
    fn what_is_no_report_is_none() {
        for (old, new) in [
            ("multipart/report", "multipart/mixed"),
            ("report-type=delivery-status", "report-type=disposition-notification"),
            ("message/delivery-status", "message/disposition-notification"),
            ("message/rfc822", "text/plain"),
            ("--4jX.1/mx.alfa.example--", ""),
        ] {
            assert!(read(&BOUNCE.replace(old, new)).is_none(), "{new}");
        }
    }

    #[test]
    fn damaged_groups_are_passed_over() {
        let count = |old: &str, new: &str| read(&BOUNCE.replace(old, new)).unwrap().recipients.len();
        assert_eq!(count("Action: failed", "Action: exploded"), 1);
        assert_eq!(count("rfc822; mario@gamma.example", "rfc822; nobody"), 1);
        assert_eq!(count("rfc822; mario@gamma.example", "x400; mario@gamma.example"), 1);
        assert_eq!(count("Status: 5.1.1", "Status 5.1.1"), 2);
        assert_eq!(
            count("\r\n\r\nFinal-Recipient: rfc822; mario", "\r\n\r\n\r\n\r\nFinal-Recipient: rfc822; mario"),
            2
        );
    }
}
