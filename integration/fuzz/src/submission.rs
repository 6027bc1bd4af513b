//! What a user submits, as the access point and the brief receipt read it: header, MIME entities, addresses.

use bytes::Bytes;
use pec_milter::access_point::{Submission, accept};
use pec_milter::delivery_point::brief;
use pec_milter::incoming_point::{Arrival, Classification, classify};
use pec_milter::message::address_list::{addresses, mailboxes};
use pec_milter::message::header::Header;
use pec_milter::message::mime::Entity;
use pec_milter::model::Address;
use sha1::{Digest, Sha1};

use super::material::{self, RECIPIENTS, SENDER};

/// RFC 5322 §2.1.1.
const LONGEST_LINE: usize = 998;
const LONGEST_NAME: usize = 10_000;

/// The octets as a message, and as the value of an address field.
pub fn submission(octets: &[u8]) {
    let message = Bytes::copy_from_slice(octets);
    header_is_as_it_lies(&message);
    parts_are_as_they_lie(&Entity::read(message.clone()));
    brief_receipt_replaces_attachments_alone(&message);
    addresses_read_back(octets);
    what_is_accepted_is_certified(&message);
}

fn header_is_as_it_lies(octets: &[u8]) {
    let header = Header::read(octets);
    let mut after = 0;
    for field in header.fields() {
        let line = field.line();
        let at = offset(octets, line);
        assert!(
            at >= after && line.starts_with(field.name()) && line.ends_with(b"\n") | (at + line.len() == octets.len())
        );
        after = at + line.len();
        assert!(!field.text().contains(['\r', '\n']));
        assert!(!field.decoded().chars().any(char::is_control));
    }
    assert!(after <= header.body_start && header.body_start <= octets.len());
}

fn offset(whole: &[u8], slice: &[u8]) -> usize {
    slice.as_ptr() as usize - whole.as_ptr() as usize
}

fn parts_are_as_they_lie(entity: &Entity) {
    let whole = entity.whole();
    assert!(whole.ends_with(&entity.body()));
    let Ok(ranges) = entity.part_ranges() else { return };
    let delimiter = format!("--{}", entity.content_type.parameter("boundary").unwrap_or_default());
    let mut after = whole.len() - entity.body().len();
    for (place, range) in ranges.into_iter().enumerate() {
        assert!(after <= range.start && range.start <= range.end && range.end <= whole.len());
        let between = whole.slice(after..range.start);
        if place > 0 {
            assert_eq!(between.trim_ascii(), delimiter.as_bytes().trim_ascii());
        }
        after = range.end;
        let part = entity.part(range.clone());
        assert_eq!(part.whole(), whole.slice(range));
        parts_are_as_they_lie(&part);
    }
}

fn brief_receipt_replaces_attachments_alone(message: &Bytes) {
    let original = Entity::read(message.clone());
    let brief = Entity::read(brief(message).to_vec().into());
    let kind = original.content_type.kind.as_str();
    if matches!(kind, "application/pkcs7-mime" | "application/x-pkcs7-mime") {
        assert_eq!(brief.whole(), original.whole());
    } else if is_attachment(&original) {
        is_hash_of(&original, &brief);
    } else {
        is_brief_of(&original, &brief, kind == "multipart/signed");
    }
}

fn is_attachment(entity: &Entity) -> bool {
    !entity.names().is_empty() || entity.content_type.kind == "message/rfc822"
}

fn is_brief_of(original: &Entity, brief: &Entity, is_signed: bool) {
    let parts = if original.content_type.is_multipart() { original.parts().unwrap_or_default() } else { Vec::new() };
    if parts.is_empty() {
        return assert_eq!(brief.whole(), original.whole());
    }
    let brief_parts = brief.parts().expect("a brief receipt can be taken apart where its original can");
    assert_eq!(brief_parts.len(), parts.len());
    for (place, (part, brief)) in parts.iter().zip(&brief_parts).enumerate() {
        if is_signed && place == 1 {
            assert_eq!(brief.whole(), part.whole());
        } else if is_attachment(part) {
            is_hash_of(part, brief);
        } else {
            is_brief_of(part, brief, false);
        }
    }
}

fn is_hash_of(attachment: &Entity, brief: &Entity) {
    let digits: String = Sha1::digest(attachment.body()).iter().map(|octet| format!("{octet:02x}")).collect();
    assert_eq!(brief.body(), digits, "{:?}", brief.whole());
    assert_eq!(brief.content_type.kind, "text/plain");
    let given = attachment.names();
    let under = |name: Option<&String>| format!("{}.hash", name.map_or("messaggio.eml", String::as_str));
    // Longer ones need more pieces (RFC 2231 §3) than the reader takes.
    if given.iter().all(|name| name.len() <= LONGEST_NAME) {
        assert_eq!(brief.names(), [under(given.first()), under(given.last())]);
    }
}

fn addresses_read_back(value: &[u8]) {
    let Ok(found) = addresses(value) else {
        assert!(mailboxes(value).is_err(), "an author where there is no address");
        return;
    };
    if let Ok(authors) = mailboxes(value) {
        assert_eq!(authors, found);
    }
    for address in &found {
        assert!(address.as_str().bytes().all(|octet| (b' '..=b'~').contains(&octet)));
        assert_eq!(address.as_str().parse().as_ref(), Ok(address));
    }
    let written: Vec<&str> = found.iter().map(Address::as_str).collect();
    if !written.is_empty() {
        assert_eq!(mailboxes(written.join(", ").as_bytes()).as_ref(), Ok(&found));
    }
}

/// What the access point accepts has the form it asks for, and other providers take its envelope for a correct one that
/// holds this original.
fn what_is_accepted_is_certified(message: &Bytes) {
    let submission = Submission { sender: &SENDER, recipients: &RECIPIENTS, message };
    let id = "pec.1@alfa.example".parse().unwrap();
    let accepted = match accept(&submission, material::rules(), |_| true, id, material::now()) {
        Ok(accepted) => accepted,
        Err(not_accepted) => return assert!(!not_accepted.defects.is_empty()),
    };
    for line in message.split_inclusive(|octet| *octet == b'\n') {
        let text = line.strip_suffix(b"\r\n").unwrap_or(line);
        assert!(text.len() <= LONGEST_LINE && !text.iter().any(|octet| b"\r\n\0".contains(octet)));
    }
    let envelope = material::signed(accepted.envelope);
    let recipients: Vec<String> = RECIPIENTS.iter().map(|address| address.to_string()).collect();
    let arrival = Arrival { sender: SENDER.as_str(), recipients: &recipients, message: &envelope };
    let found = match classify(&arrival, &material::standards()) {
        Ok(Classification::Envelope(found)) => found,
        other => panic!("accepted, but {other:?}:\n{}", envelope.escape_ascii()),
    };
    assert_eq!(found.data, accepted.data);
    let (sent, carried) = (Entity::read(message.clone()), Entity::read(found.original));
    assert_eq!(carried.body(), sent.body());
    assert_eq!(carried.header().text("Message-ID").as_deref(), Some("<pec.1@alfa.example>"));
    for name in ["From", "To", "Cc", "Subject", "Content-Type"] {
        assert_eq!(carried.header().text(name), sent.header().text(name), "{name}");
    }
}
