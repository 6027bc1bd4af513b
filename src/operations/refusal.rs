//! What the milters decide in the SMTP dialogue and no queue file tells afterwards: refusals, recipients that get nothing of
//! a message that others get, and ordinary mail that is sent on (§2.3).
//!
//! Whoever answers records first: an answer that is not recorded is not given, and the client is asked to try again. So
//! a row may stand for an answer that the client did not wait for, and no answer is without its row.

use serde_json::{Map, Value, json};

use super::ports::Reply;
use crate::incoming_point::Forwarded;
use crate::legal_log::{Entry, EventKind, Slot};
use crate::message::header::Header;
use crate::model::{Msgid, TemporalReference};

/// Where a client stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// A user submits.
    Access,
    /// Another host hands over.
    Incoming,
}

impl Point {
    fn token(self) -> &'static str {
        match self {
            Point::Access => "access",
            Point::Incoming => "incoming",
        }
    }
}

/// What is known of a dialogue so far.
#[derive(Debug, Clone)]
pub struct Dialogue {
    pub by: Point,
    /// The instant of the decision.
    pub at: TemporalReference,
    /// Once Postfix has given one.
    pub queue_id: Option<String>,
    /// The reverse path without angle brackets, as it came.
    pub sender: String,
    /// The forward paths that were taken.
    pub recipients: Vec<String>,
    /// The user, where one is identified.
    pub login: Option<String>,
    /// The client's network address.
    pub client: Option<String>,
    /// The provider that signed the message, where that is certain.
    pub provider: Option<String>,
    pub subject: Option<String>,
    pub msgid: Option<Msgid>,
}

impl Dialogue {
    /// With what the header of the message tells, as far as it came.
    pub fn with_header(self, octets: &[u8]) -> Self {
        let header = Header::read(octets);
        let msgid = header.text("Message-ID").and_then(|text| text.parse().ok());
        Dialogue { subject: header.first("Subject").map(|field| field.decoded()), msgid, ..self }
    }

    /// The whole message, or the attempt at one, is refused with this reply.
    pub fn refusal(&self, reply: &str) -> Entry {
        let only = (self.recipients.len() == 1).then(|| self.recipients.concat());
        self.entry(EventKind::Refusal, only, [("reply", json!(reply))])
    }

    /// One recipient is refused with this reply; the dialogue may go on with others.
    pub fn refusal_of(&self, recipient: &str, reply: &str) -> Entry {
        self.entry(EventKind::Refusal, Some(recipient.to_owned()), [("reply", json!(reply))])
    }

    /// One recipient gets nothing of a message that is accepted for others; its mailbox would have given this reply, which
    /// the client is not told.
    pub fn taken_out(&self, recipient: &str, reply: &Reply) -> Entry {
        let further = [("reply", json!(reply.to_string())), ("taken_out", json!(true))];
        let slot = self.queue_id.as_deref().map(|queue_id| Slot::taken_out(queue_id, recipient));
        Entry { slot, ..self.entry(EventKind::Refusal, Some(recipient.to_owned()), further) }
    }

    /// A mailbox's copy of an ordinary message goes on to another address, unmodified or in the anomaly envelope that others
    /// get.
    pub fn forward(&self, forwarded: &Forwarded, in_envelope: bool) -> Entry {
        let Forwarded { mailbox, to } = forwarded;
        let further = [("forwarded", json!(to.as_str())), ("in_envelope", json!(in_envelope))];
        let slot = self.queue_id.as_deref().map(|queue_id| Slot::forward(queue_id, mailbox));
        Entry { slot, ..self.entry(EventKind::Forward, Some(mailbox.clone()), further) }
    }

    fn entry<const N: usize>(
        &self,
        kind: EventKind,
        recipient: Option<String>,
        further: [(&'static str, Value); N],
    ) -> Entry {
        let mut details = Map::new();
        details.insert("recipients".to_owned(), json!(self.recipients));
        details.extend(further.map(|(name, value)| (name.to_owned(), value)));
        details.insert("by".to_owned(), json!(self.by.token()));
        let known = [("login", &self.login), ("client", &self.client)];
        let known = known.into_iter().filter_map(|(name, value)| Some((name.to_owned(), json!(value.as_ref()?))));
        details.extend(known);
        Entry {
            queue_id: self.queue_id.clone(),
            client_msgid: self.msgid.clone(),
            sender: Some(self.sender.clone()),
            recipient,
            subject: self.subject.clone(),
            provider: self.provider.clone(),
            details: Some(Value::Object(details).to_string()),
            ..Entry::new(kind, self.at)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dialogue(recipients: &[&str]) -> Dialogue {
        Dialogue {
            by: Point::Incoming,
            at: TemporalReference::from_unix(1_721_032_245),
            queue_id: Some("4Sxyz1".into()),
            sender: String::new(),
            recipients: recipients.iter().map(|text| text.to_string()).collect(),
            login: None,
            client: Some("192.0.2.7".into()),
            provider: None,
            subject: None,
            msgid: None,
        }
    }

    #[test]
    fn a_refusal_holds_all_that_was_said() {
        let header = b"Subject: =?utf-8?q?perch=C3=A9?=\r\nMessage-ID: <c.1@x.example>\r\n\r\n";
        let entry = dialogue(&["anna@alfa.example"]).with_header(header).refusal("550 5.7.1 no\nnever");
        assert_eq!((entry.sender.as_deref(), entry.recipient.as_deref()), (Some(""), Some("anna@alfa.example")));
        assert_eq!(entry.subject.as_deref(), Some("perché"));
        assert_eq!(entry.client_msgid, "<c.1@x.example>".parse().ok());
        let details: Value = serde_json::from_str(entry.details.as_deref().unwrap()).unwrap();
        let expected = json!({ "recipients": ["anna@alfa.example"], "reply": "550 5.7.1 no\nnever", "by": "incoming",
            "client": "192.0.2.7" });
        assert_eq!(details, expected);
        assert_eq!((entry.slot, entry.pec_msgid, entry.notification), (None, None, None));
    }

    #[test]
    fn an_entry_about_one_recipient_names_that_one() {
        let dialogue = dialogue(&["a@x.example", "b@x.example"]);
        assert_eq!(dialogue.refusal("550 no").recipient, None);
        assert_eq!(dialogue.refusal_of("c@x.example", "550 no").recipient.as_deref(), Some("c@x.example"));
        let out = dialogue.taken_out("b@x.example", &Reply::new(550, "5.1.1 who"));
        assert_eq!(out.recipient.as_deref(), Some("b@x.example"));
        let details: Value = serde_json::from_str(out.details.as_deref().unwrap()).unwrap();
        assert_eq!((&details["reply"], &details["taken_out"]), (&json!("550 5.1.1 who"), &json!(true)));
    }

    #[test]
    fn each_mailbox_that_forwards_has_its_row_and_a_repeated_answer_has_none() {
        let dialogue = dialogue(&["anna@x.example", "Bruno@x.example", "carla@x.example"]);
        let to: crate::model::Address = "d@y.example".parse().unwrap();
        let rows = ["Bruno@x.example", "carla@x.example"]
            .map(|mailbox| dialogue.forward(&Forwarded { mailbox: mailbox.into(), to: to.clone() }, true));
        for (row, (mailbox, slot)) in rows.iter().zip([
            ("Bruno@x.example", "forward 4Sxyz1 bruno@x.example"),
            ("carla@x.example", "forward 4Sxyz1 carla@x.example"),
        ]) {
            assert_eq!((row.kind, row.recipient.as_deref()), (EventKind::Forward, Some(mailbox)));
            let details: Value = serde_json::from_str(row.details.as_deref().unwrap()).unwrap();
            assert_eq!((&details["forwarded"], &details["in_envelope"]), (&json!("d@y.example"), &json!(true)));
            assert_eq!(row.slot.as_ref().map(Slot::as_str), Some(slot));
        }
        let out = dialogue.taken_out("Anna@x.example", &Reply::new(550, "5.1.1 who"));
        assert_eq!(out.slot.as_ref().map(Slot::as_str), Some("taken-out 4Sxyz1 anna@x.example"));
        let without = Dialogue { queue_id: None, ..dialogue };
        assert_eq!(without.taken_out("anna@x.example", &Reply::new(550, "5.1.1 who")).slot, None);
    }
}
