//! A row of the log as one line of text: what the chain binds, what is exported, and what an auditor reads (§2.3).
//!
//! A line is one JSON object without blanks, its members in this order, those without a value left out: `sequence`, `at`
//! (UTC, as `2026-07-15T08:30:45Z`), `kind`, `queue_id`, `pec_msgid`, `client_msgid`, `sender`, `recipient`, `subject`,
//! `notification`, `provider`, `issuer`, `details`, `slot`. `details` is the object that the entry holds, as it is, or a
//! text where it holds none. So every row has exactly one line, and every line gives the row back. This form never
//! changes once released.

use std::borrow::Cow;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::legal_log::{Entry, EventKind, Slot};
use crate::model::TemporalReference;

/// Why a line is none that the log wrote.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    #[error("it is not a row of the log in JSON")]
    Json(#[from] serde_json::Error),
    #[error("its {0} holds no value that was ever written there")]
    Value(&'static str),
    #[error("it is not written as the log writes it")]
    Form,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    sequence: i64,
    #[serde(borrow)]
    at: Cow<'a, str>,
    #[serde(borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    queue_id: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pec_msgid: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    client_msgid: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    sender: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    recipient: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    subject: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    notification: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    provider: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    issuer: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    details: Option<Cow<'a, RawValue>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    slot: Option<Cow<'a, str>>,
}

/// The line of a row, without a line end.
pub fn write(sequence: i64, entry: &Entry) -> String {
    let line = Line {
        sequence,
        at: entry.at.utc().into(),
        kind: entry.kind.name().into(),
        queue_id: text(&entry.queue_id),
        pec_msgid: entry.pec_msgid.as_ref().map(|id| id.as_str().into()),
        client_msgid: entry.client_msgid.as_ref().map(|id| id.as_str().into()),
        sender: text(&entry.sender),
        recipient: text(&entry.recipient),
        subject: text(&entry.subject),
        notification: entry.notification.as_ref().map(|id| id.as_str().into()),
        provider: text(&entry.provider),
        issuer: text(&entry.issuer),
        details: entry.details.as_deref().and_then(details),
        slot: entry.slot.as_ref().map(|slot| slot.as_str().into()),
    };
    // Texts, numbers and JSON always are JSON.
    serde_json::to_string(&line).unwrap_or_default()
}

/// The row that a line gives back: its place in the log, and its entry.
pub fn read(line: &str) -> Result<(i64, Entry), LineError> {
    let known: Line = serde_json::from_str(line)?;
    let owned = |text: Option<Cow<str>>| text.map(Cow::into_owned);
    let unreadable = |member| move || LineError::Value(member);
    let details = match known.details {
        None => None,
        Some(object) if object.get().starts_with('{') => Some(object.get().to_owned()),
        Some(text) => Some(serde_json::from_str(text.get())?),
    };
    let entry = Entry {
        kind: EventKind::from_name(&known.kind).ok_or_else(unreadable("kind"))?,
        at: TemporalReference::from_rfc3339(&known.at).ok_or_else(unreadable("at"))?,
        queue_id: owned(known.queue_id),
        pec_msgid: parsed("pec_msgid", known.pec_msgid)?,
        client_msgid: parsed("client_msgid", known.client_msgid)?,
        sender: owned(known.sender),
        recipient: owned(known.recipient),
        subject: owned(known.subject),
        notification: parsed("notification", known.notification)?,
        provider: owned(known.provider),
        issuer: owned(known.issuer),
        details,
        slot: owned(known.slot).map(Slot::from_stored),
    };
    match write(known.sequence, &entry) == line {
        true => Ok((known.sequence, entry)),
        false => Err(LineError::Form),
    }
}

/// An object on one line as it is, anything else as a text: so the one is never taken for the other.
fn details(text: &str) -> Option<Cow<'_, RawValue>> {
    let object: Option<&RawValue> = match text.starts_with('{') && !text.contains(['\n', '\r']) {
        true => serde_json::from_str(text).ok(),
        false => None,
    };
    match object.filter(|object| object.get() == text) {
        Some(object) => Some(Cow::Borrowed(object)),
        None => RawValue::from_string(serde_json::to_string(text).ok()?).ok().map(Cow::Owned),
    }
}

fn text(text: &Option<String>) -> Option<Cow<'_, str>> {
    text.as_deref().map(Cow::Borrowed)
}

fn parsed<T: FromStr>(member: &'static str, text: Option<Cow<str>>) -> Result<Option<T>, LineError> {
    text.map(|text| text.parse().map_err(|_| LineError::Value(member))).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry {
        Entry {
            queue_id: Some("4Sxyz1".into()),
            pec_msgid: "pec.1@alfa.example".parse().ok(),
            client_msgid: "<c.1@client.example>".parse().ok(),
            sender: Some("anna@alfa.example".into()),
            recipient: Some("bruno@beta.example".into()),
            subject: Some("perché \"no\"\0\n".into()),
            notification: "<n.1@alfa.example>".parse().ok(),
            provider: Some("Alfa S.p.A.".into()),
            issuer: Some("Alfa S.p.A.".into()),
            details: Some(r#"{"mailbox":"bruno@beta.example"}"#.into()),
            slot: Some(Slot::arrival("4Sxyz1")),
            ..Entry::new(EventKind::Delivery, TemporalReference::from_unix(1_721_032_245))
        }
    }

    #[test]
    fn a_row_is_one_line_of_json() {
        let line = concat!(
            r#"{"sequence":7,"at":"2024-07-15T08:30:45Z","kind":"delivery","queue_id":"4Sxyz1","#,
            r#""pec_msgid":"pec.1@alfa.example","client_msgid":"<c.1@client.example>","sender":"anna@alfa.example","#,
            r#""recipient":"bruno@beta.example","subject":"perché \"no\"\u0000\n","#,
            r#""notification":"<n.1@alfa.example>","provider":"Alfa S.p.A.","issuer":"Alfa S.p.A.","#,
            r#""details":{"mailbox":"bruno@beta.example"},"slot":"arrival 4Sxyz1"}"#
        );
        assert_eq!(write(7, &entry()), line);
        let bare = Entry::new(EventKind::Seal, TemporalReference::from_unix(0));
        assert_eq!(write(1, &bare), r#"{"sequence":1,"at":"1970-01-01T00:00:00Z","kind":"seal"}"#);
    }

    #[test]
    fn a_line_gives_its_row_back_exactly() {
        for details in
            [None, Some(""), Some("{}"), Some(r#"{"a": "{"}"#), Some("{\n}"), Some("{"), Some("\"x\""), Some("7")]
        {
            let entry = Entry { details: details.map(str::to_owned), ..entry() };
            assert_eq!(read(&write(7, &entry)).unwrap(), (7, entry), "{details:?}");
        }
        for unix in [i64::MIN, -1, 0, i64::MAX] {
            let entry = Entry::new(EventKind::Seal, TemporalReference::from_unix(unix));
            assert_eq!(read(&write(7, &entry)).unwrap(), (7, entry), "{unix}");
        }
    }

    #[test]
    fn what_the_log_would_write_otherwise_is_no_line_of_it() {
        let line = write(7, &entry());
        for (altered, wanted) in [
            (line.replace("\"sequence\"", " \"sequence\""), "not written as"),
            (line.replace("45Z", "45+00:00"), "not written as"),
            (line.replace("é", "\\u00e9"), "not written as"),
            (line.replace("delivery", "joke"), "its kind"),
            (line.replace("2024-07", "2024-13"), "its at"),
            (line.replace("pec.1@alfa.example", ""), "its pec_msgid"),
            (line.replace("\"slot\"", "\"place\""), "in JSON"),
            (line.replace('}', ""), "in JSON"),
            (String::new(), "in JSON"),
        ] {
            let error = read(&altered).unwrap_err().to_string();
            assert!(error.contains(wanted), "{altered}: {error}");
        }
    }
}
