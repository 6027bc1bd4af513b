//! The MIME form of everything we emit (§4.3): `multipart/signed` around `multipart/mixed` of the readable text, the
//! certification data and, where the kind has one, the original.
//!
//! A message is composed first, then its digest is signed elsewhere, then it is sealed with the signature. The original
//! is never copied: it stays a shared piece. Boundaries come from a token that nobody could know when the original was
//! written, so that no original can contain them.

use sha2::{Digest, Sha256};

use crate::message::Pieces;
use crate::message::encode::{base64_lines, escape_markup, quoted_printable_latin1};
use crate::message::wire;
use crate::model::Msgid;

/// The readable text of a message: the same facts in text/plain and text/html.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadableText {
    /// The first line.
    pub title: &'static str,
    pub lines: Vec<String>,
}

/// A message that lacks its signature.
#[derive(Debug, Clone)]
pub struct Unsigned {
    header: Vec<(&'static str, String)>,
    entity: Pieces,
    boundary: String,
    eight_bit: bool,
}

/// A signed message, ready to travel.
#[derive(Debug, Clone)]
pub struct Signed {
    /// Names and values, without the blank behind the colon; folds are CRLF.
    pub header: Vec<(&'static str, String)>,
    pub body: Pieces,
    pub eight_bit: bool,
}

impl Unsigned {
    /// Puts a message together.
    ///
    /// `id` is the Message-ID it will have, or any other text that is new: the boundaries are made from it.
    pub fn compose(
        header: Vec<(&'static str, String)>,
        id: &Msgid,
        text: &ReadableText,
        certification_data: Option<String>,
        original: Option<Pieces>,
    ) -> Self {
        Self::compose_marked(header, &[], id, text, certification_data, original)
    }

    /// The same with further fields at the head of what the signature covers.
    pub fn compose_marked(
        header: Vec<(&'static str, String)>,
        marks: &[(&'static str, String)],
        id: &Msgid,
        text: &ReadableText,
        certification_data: Option<String>,
        original: Option<Pieces>,
    ) -> Self {
        let token = token(id);
        let eight_bit = original.as_ref().is_some_and(Pieces::is_eight_bit);
        let mixed = format!("pec-m-{token}");
        let marks: String = marks.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let mut own = format!(
            "Content-Type: multipart/mixed; boundary=\"{mixed}\"\r\nContent-Transfer-Encoding: {}\r\n{marks}\r\n--{mixed}\r\n",
            transfer_encoding(eight_bit)
        );
        own.push_str(&alternative(text, &token));
        if let Some(xml) = certification_data {
            own.push_str(&attachment_head(&mixed, "application/xml", wire::DATICERT, "base64"));
            own.push_str(&base64_lines(xml.as_bytes()));
        }
        let mut entity = Pieces::default();
        if let Some(original) = original {
            let encoding = transfer_encoding(eight_bit);
            own.push_str(&attachment_head(&mixed, "message/rfc822", wire::POSTACERT, encoding));
            entity.push(own);
            entity.extend(&original);
            own = String::new();
        }
        own.push_str(&format!("\r\n--{mixed}--\r\n"));
        entity.push(own);
        Unsigned { header, entity, boundary: format!("pec-s-{token}"), eight_bit }
    }

    /// The SHA-256 of what the signature covers.
    pub fn digest(&self) -> [u8; 32] {
        self.entity.sha256()
    }

    /// Adds the detached signature, a DER SignedData with SHA-256.
    pub fn seal(self, signature: &[u8]) -> Signed {
        let boundary = &self.boundary;
        let mut header = self.header;
        header.push(("MIME-Version", "1.0".into()));
        header.push((
            "Content-Type",
            format!(
                "multipart/signed; protocol=\"application/pkcs7-signature\";\r\n micalg=\"sha-256\"; boundary=\"{boundary}\""
            ),
        ));
        header.push(("Content-Transfer-Encoding", transfer_encoding(self.eight_bit).into()));
        let mut body = Pieces::default();
        body.push(format!("This is an S/MIME signed message.\r\n\r\n--{boundary}\r\n"));
        body.extend(&self.entity);
        let mut tail = attachment_head(boundary, "application/pkcs7-signature", "smime.p7s", "base64");
        tail.push_str(&base64_lines(signature));
        tail.push_str(&format!("\r\n--{boundary}--\r\n"));
        body.push(tail);
        Signed { header, body, eight_bit: self.eight_bit }
    }
}

impl Signed {
    /// Header and body in one, for a message that replaces none.
    pub fn into_pieces(self) -> Pieces {
        let mut head = String::with_capacity(1024);
        for (name, value) in &self.header {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        let mut whole = Pieces::from(head);
        whole.extend(&self.body);
        whole
    }
}

fn token(id: &Msgid) -> String {
    let digest = Sha256::digest(id.as_str());
    digest.iter().take(12).map(|byte| format!("{byte:02x}")).collect()
}

fn transfer_encoding(eight_bit: bool) -> &'static str {
    if eight_bit { "8bit" } else { "7bit" }
}

fn attachment_head(boundary: &str, kind: &str, name: &str, encoding: &str) -> String {
    format!(
        "\r\n--{boundary}\r\nContent-Type: {kind}; name=\"{name}\"\r\nContent-Transfer-Encoding: {encoding}\r\n\
         Content-Disposition: attachment; filename=\"{name}\"\r\n\r\n"
    )
}

fn alternative(text: &ReadableText, token: &str) -> String {
    let boundary = format!("pec-a-{token}");
    let plain = quoted_printable_latin1(&plain(text));
    let html = quoted_printable_latin1(&html(text));
    format!(
        "Content-Type: multipart/alternative; boundary=\"{boundary}\"\r\n\r\n\
         --{boundary}\r\nContent-Type: text/plain; charset=\"iso-8859-1\"\r\n\
         Content-Transfer-Encoding: quoted-printable\r\n\r\n{plain}\r\n\
         --{boundary}\r\nContent-Type: text/html; charset=\"iso-8859-1\"\r\n\
         Content-Transfer-Encoding: quoted-printable\r\n\r\n{html}\r\n\
         --{boundary}--\r\n"
    )
}

fn plain(text: &ReadableText) -> String {
    let mut plain = format!("{}\r\n", text.title);
    for line in &text.lines {
        plain.push_str(line.trim_end());
        plain.push_str("\r\n");
    }
    plain
}

fn html(text: &ReadableText) -> String {
    let lines: Vec<String> = text.lines.iter().map(|line| escape_markup(line)).collect();
    format!(
        "<!DOCTYPE html>\r\n<html lang=\"it\"><head><title>{title}</title></head>\r\n<body>\r\n<h3>{title}</h3>\r\n\
         <p>{}</p>\r\n</body></html>\r\n",
        lines.join("<br>\r\n"),
        title = escape_markup(text.title),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::mime::Entity;
    use bytes::Bytes;

    fn signed(original: &'static [u8]) -> Signed {
        let text = ReadableText { title: "Ricevuta", lines: vec!["è <b> \"x\"".into()] };
        let original = Pieces::from(Bytes::from_static(original));
        let header = vec![("Subject", "s".to_owned())];
        let id = "<1@alfa.example>".parse().unwrap();
        let unsigned = Unsigned::compose(header, &id, &text, Some("<x/>".into()), Some(original));
        let entity = unsigned.entity.to_vec();
        let sealed = unsigned.seal(b"signature");
        let whole = Entity::read(sealed.clone().into_pieces().to_vec().into());
        assert_eq!(whole.parts().unwrap()[0].whole(), entity);
        sealed
    }

    #[test]
    fn the_parts_are_found_again_as_they_were() {
        let whole = Entity::read(signed(b"A: 1\r\n\r\nbody").into_pieces().to_vec().into());
        let outer = whole.parts().unwrap();
        assert_eq!(outer[1].decoded_body().unwrap(), b"signature");
        let inner = outer[0].parts().unwrap();
        assert_eq!(inner[0].content_type.kind, "multipart/alternative");
        assert_eq!(
            inner[0].parts().unwrap()[0].decoded_body().unwrap(),
            "Ricevuta\r\n\u{e8} <b> \"x\"\r\n".chars().map(|c| c as u8).collect::<Vec<_>>()
        );
        assert_eq!(inner[1].decoded_body().unwrap(), b"<x/>");
        assert!(inner[1].is_named("daticert.xml"));
        assert_eq!(&inner[2].body()[..], b"A: 1\r\n\r\nbody");
    }

    #[test]
    fn an_eight_bit_original_is_declared_on_every_enclosing_part() {
        let whole = Entity::read(signed(b"A: 1\r\n\r\n\xe8").into_pieces().to_vec().into());
        let mixed = whole.parts().unwrap().remove(0);
        let original = mixed.parts().unwrap().remove(2);
        for entity in [whole, mixed, original] {
            assert_eq!(entity.header().transfer_encoding(), "8bit");
        }
        assert!(!signed(b"A: 1\r\n\r\n").eight_bit);
    }

    #[test]
    fn everything_but_the_original_is_seven_bit_with_short_lines() {
        let octets = signed(b"A: 1\r\n\r\nbody").into_pieces().to_vec();
        assert!(octets.is_ascii());
        assert!(octets.split(|byte| *byte == b'\n').all(|line| line.len() <= 100));
    }
}
