//! The original as a brief receipt carries it (§3.3.2.2): each attachment replaced by the hash of its encoded content.
//!
//! What is not replaced stays octet for octet, as shared pieces of the original: nothing is re-serialised and no
//! attachment is copied. An attachment is a part with a `name` or `filename`, whatever its type, and any attached
//! message. In an original that its user signed, the signature part stays; one that is a single CMS object is left whole.
//! So is a multipart entity that cannot be taken apart: a receipt with too much is better than none.

use bytes::Bytes;
use sha1::{Digest, Sha1};

use crate::message::Pieces;
use crate::message::encode::parameter;
use crate::message::mime::Entity;
use crate::message::wire;

const ATTACHED_MESSAGE: &str = "message/rfc822";
const SIGNED: &str = "multipart/signed";
/// The place of the signature in a signed entity (RFC 1847 §2.1).
const SIGNATURE: usize = 1;
/// One CMS object, in which nothing can be told apart.
const ENCLOSED: [&str; 2] = ["application/pkcs7-mime", "application/x-pkcs7-mime"];
/// What says of which type an entity is.
const REPLACED_FIELDS: [&str; 3] = ["Content-Type", "Content-Transfer-Encoding", "Content-Disposition"];

/// The original with hashes in place of its attachments.
pub fn brief(original: &Bytes) -> Pieces {
    let whole = Entity::read(original.clone());
    let kind = whole.content_type.kind.as_str();
    let mut brief = Pieces::default();
    if ENCLOSED.contains(&kind) {
        brief.push(original.clone());
    } else if is_attachment(&whole) {
        brief.push(message_fields(&whole));
        brief.push(hash_part(&whole));
    } else {
        copy(&whole, (kind == SIGNED).then_some(SIGNATURE), &mut brief);
    }
    brief
}

/// Adds an entity that is no attachment itself, with hashes in place of those among its parts; `left` is the place of a
/// part that stays.
fn copy(entity: &Entity, left: Option<usize>, brief: &mut Pieces) {
    let octets = entity.whole();
    let is_multipart = entity.content_type.is_multipart();
    let ranges = if is_multipart { entity.part_ranges().unwrap_or_default() } else { Vec::new() };
    let mut copied = 0;
    for (place, range) in ranges.into_iter().enumerate() {
        brief.push(octets.slice(copied..range.start));
        copied = range.end;
        let part = entity.part(range);
        if left == Some(place) {
            brief.push(part.whole());
        } else if is_attachment(&part) {
            brief.push(hash_part(&part));
        } else {
            copy(&part, None, brief);
        }
    }
    brief.push(octets.slice(copied..));
}

fn is_attachment(entity: &Entity) -> bool {
    !entity.names().is_empty() || entity.content_type.kind == ATTACHED_MESSAGE
}

/// The part that takes the place of an attachment, under its old names.
fn hash_part(attachment: &Entity) -> String {
    let disposition = attachment.header().content_disposition();
    let given = |name: Option<&str>| name.filter(|name| !name.is_empty()).map(str::to_owned);
    let (name, filename) = (given(attachment.content_type.parameter("name")), given(disposition.parameter("filename")));
    let hashed = |first: &Option<String>, second: &Option<String>| {
        let name = first.as_deref().or(second.as_deref()).unwrap_or(wire::UNNAMED_MESSAGE);
        format!("{name}{}", wire::HASH_SUFFIX)
    };
    let digits: String = Sha1::digest(attachment.body()).iter().map(|octet| format!("{octet:02x}")).collect();
    format!(
        "Content-Type: text/plain; charset=us-ascii{}\r\nContent-Transfer-Encoding: 7bit\r\n\
         Content-Disposition: attachment{}\r\n\r\n{digits}",
        parameter("name", &hashed(&name, &filename)),
        parameter("filename", &hashed(&filename, &name)),
    )
}

/// The fields of a message that is an attachment as a whole, but for those that say of what type.
fn message_fields(message: &Entity) -> Vec<u8> {
    let is_of_part = |name: &[u8]| REPLACED_FIELDS.iter().any(|one| name.eq_ignore_ascii_case(one.as_bytes()));
    let header = message.header();
    let kept = header.fields().filter(|field| !is_of_part(field.name()));
    let mut fields: Vec<u8> = kept.flat_map(|field| field.line().to_vec()).collect();
    // An original may be cut off inside its header, without the line end of its last field.
    if !fields.is_empty() && !fields.ends_with(b"\n") {
        fields.extend_from_slice(b"\r\n");
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    fn brief_of(original: &str) -> String {
        String::from_utf8(brief(&Bytes::from(original.to_owned())).to_vec()).unwrap()
    }

    fn hash(octets: &str) -> String {
        Sha1::digest(octets).iter().map(|octet| format!("{octet:02x}")).collect()
    }

    const MIXED: &str = "From: a\r\nContent-Type: multipart/mixed; boundary=m\r\n\r\npreamble\r\n";
    const PDF: &str = "Content-Type: application/pdf; name=\"a.pdf\"\r\nContent-Transfer-Encoding: base64\r\n\r\nYWJj";

    fn hashed(name: &str, octets: &str) -> String {
        format!(
            "Content-Type: text/plain; charset=us-ascii;\r\n name=\"{name}.hash\"\r\n\
             Content-Transfer-Encoding: 7bit\r\n\
             Content-Disposition: attachment;\r\n filename=\"{name}.hash\"\r\n\r\n{}",
            hash(octets)
        )
    }

    #[test]
    fn only_parts_with_a_name_are_replaced() {
        let around = |part: &str| format!("{MIXED}--m\r\n\r\ntext\r\n--m\r\n{part}\r\n--m--\r\nepilogue\r\n");
        assert_eq!(brief_of(&around(PDF)), around(&hashed("a.pdf", "YWJj")));
        let unnamed = PDF.replace("; name=\"a.pdf\"", "");
        assert_eq!(brief_of(&around(&unnamed)), around(&unnamed));
        assert_eq!(brief_of("From: a\r\n\r\nno MIME"), "From: a\r\n\r\nno MIME");
    }

    #[test]
    fn attachments_are_found_at_every_depth_and_attached_messages_are_not_entered() {
        let nested = |pdf: &str, message: &str| {
            format!(
                "{MIXED}--m\r\nContent-Type: multipart/alternative; boundary=\"m 2\"\r\n\r\n--m 2\r\n{pdf}\r\n--m 2--\r\n\
                 --m\r\n{message}\r\n--m--"
            )
        };
        let inner = format!("{}--x\r\n{PDF}\r\n--x--", MIXED.replace("=m", "=x"));
        let original = nested(PDF, &format!("Content-Type: Message/RFC822\r\n\r\n{inner}"));
        assert_eq!(brief_of(&original), nested(&hashed("a.pdf", "YWJj"), &hashed("messaggio.eml", &inner)));
    }

    #[test]
    fn the_users_signature_stays() {
        let signed = |first: &str| {
            format!(
                "Content-Type: multipart/signed; boundary=s\r\n\r\n--s\r\n{first}\r\n--s\r\n\
                 Content-Type: application/pkcs7-signature; name=smime.p7s\r\n\r\nMII=\r\n--s--\r\n"
            )
        };
        assert_eq!(brief_of(&signed(PDF)), signed(&hashed("a.pdf", "YWJj")));
        let enclosed = "Content-Type: application/x-pkcs7-mime; name=smime.p7m\r\n\r\nMII=\r\n";
        assert_eq!(brief_of(enclosed), enclosed);
    }

    #[test]
    fn a_message_that_is_an_attachment_keeps_its_other_fields() {
        let original = format!("From: a\r\nMIME-Version: 1.0\r\n{PDF}");
        assert_eq!(brief_of(&original), format!("From: a\r\nMIME-Version: 1.0\r\n{}", hashed("a.pdf", "YWJj")));
        let header_alone = "Content-Type: application/pdf; name=\"a.pdf\"\r\nFrom: a";
        assert_eq!(brief_of(header_alone), format!("From: a\r\n{}", hashed("a.pdf", "")));
    }

    #[test]
    fn what_cannot_be_taken_apart_stays() {
        let broken = format!("{MIXED}--m\r\n{PDF}\r\n");
        assert_eq!(brief_of(&broken), broken);
    }

    #[test]
    fn names_are_read_in_every_form() {
        for (field, name) in [
            ("Content-Type: x/y; name*=UTF-8''perch%C3%A9.pdf", "perché.pdf"),
            ("Content-Type: x/y; name*0*=iso-8859-1''per; name*1*=ch%E9; name*2=.pdf", "perché.pdf"),
            ("Content-Type: x/y; name=\"=?UTF-8?Q?perch=C3=A9.pdf?=\"", "perché.pdf"),
            (
                "Content-Disposition: attachment;\r\n\tfilename=\"=?UTF-8?B?cGVyY2g=?=\r\n =?UTF-8?B?w6kucGRm?=\"",
                "perché.pdf",
            ),
            ("Content-Type: x/y;\r\n\tNAME=perché.pdf", "perché.pdf"),
            ("Content-Disposition: inline; filename=\"a \\\"b\\\".pdf\"", "a \"b\".pdf"),
        ] {
            let part = Entity::read(Bytes::from(hash_part(&Entity::read(Bytes::from(format!("{field}\r\n\r\nx"))))));
            assert_eq!(part.names(), [format!("{name}.hash"), format!("{name}.hash")], "{field}");
            assert_eq!(part.body(), hash("x"), "{field}");
        }
        let two = "Content-Type: x/y; name=a.pdf\r\nContent-Disposition: attachment; filename=b.pdf\r\n\r\n";
        let part = Entity::read(Bytes::from(hash_part(&Entity::read(Bytes::from(two)))));
        assert_eq!(part.names(), ["a.pdf.hash", "b.pdf.hash"]);
    }

    #[test]
    fn attachments_are_not_copied() {
        let original = Bytes::from(format!("{MIXED}--m\r\n\r\n{}\r\n--m\r\n{PDF}\r\n--m--\r\n", "text ".repeat(1000)));
        let range = original.as_ptr_range();
        let copied: usize =
            brief(&original).iter().filter(|piece| !range.contains(&piece.as_ptr())).map(Bytes::len).sum();
        assert!(copied < 300, "{copied} octets are not the original's");
    }
}
