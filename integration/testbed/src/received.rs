//! One message of a mailbox, taken apart with code of its own: a test must not read with what it tests.
//!
//! Everything here is exact octets. What is asked for and absent is an error that names the mailbox and shows the header.

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use memchr::memmem;
use roxmltree::Document;

/// A message with the mailbox it was found in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    pub mailbox: String,
    pub bytes: Vec<u8>,
}

impl Received {
    /// The unfolded values of all header fields of a name.
    pub fn fields(&self, name: &str) -> Vec<String> {
        Entity(&self.bytes).fields(name)
    }

    /// The unfolded value of the first header field of a name.
    pub fn field(&self, name: &str) -> Option<String> {
        self.fields(name).into_iter().next()
    }

    /// The header as text, for failures.
    pub fn header(&self) -> String {
        String::from_utf8_lossy(Entity(&self.bytes).header()).into_owned()
    }

    /// `accettazione`, `avvenuta-consegna`, …: what the header says it is; `ordinary` without such a field.
    pub fn kind(&self) -> String {
        self.field("X-Ricevuta").or_else(|| self.field("X-Trasporto")).unwrap_or_else(|| "ordinary".to_owned())
    }

    /// Whether the header says that it is of this kind.
    pub fn is(&self, kind: &str) -> bool {
        self.kind() == kind
    }

    /// The first part of the outer multipart/signed, with its own header.
    pub fn signed_part(&self) -> Result<Vec<u8>> {
        Ok(Entity(&self.bytes).parts().first().with_context(|| self.lacks("a first part"))?.0.to_vec())
    }

    /// The content of the part of this file name, as it travelled: not decoded. Attached messages are not entered.
    pub fn attachment(&self, file_name: &str) -> Option<Vec<u8>> {
        Entity(&self.bytes).named(file_name).map(|part| part.body().to_vec())
    }

    /// postacert.eml.
    pub fn original(&self) -> Result<Vec<u8>> {
        self.attachment("postacert.eml").with_context(|| self.lacks("postacert.eml"))
    }

    /// Fails unless postacert.eml is what was submitted but for its Message-ID, which became the PEC msgid while the
    /// client's moved to X-Riferimento-Message-ID (§2.2.1).
    pub fn carries(&self, submitted: &[u8]) -> Result<()> {
        let id = self.transaction().with_context(|| self.lacks("identificativo"))?;
        let (expected, found) = (with_pec_msgid(submitted, &id), self.original()?);
        if expected != found {
            let same = expected.iter().zip(&found).take_while(|(one, other)| one == other).count();
            let around = |bytes: &[u8]| {
                let from = same.saturating_sub(60);
                String::from_utf8_lossy(&bytes[from..bytes.len().min(same + 60)]).into_owned()
            };
            bail!(
                "the original in {} was altered at octet {same}: expected …{:?}… of {} octets, found …{:?}… of {}",
                self.mailbox,
                around(&expected),
                expected.len(),
                around(&found),
                found.len()
            );
        }
        Ok(())
    }

    /// What a person reads: the text/plain part, decoded from quoted-printable and ISO-8859-1 (§4.3), in lines.
    pub fn text(&self) -> Result<String> {
        let part = Entity(&self.bytes).of_kind("text/plain").with_context(|| self.lacks("text/plain"))?;
        let octets = quoted_printable(part.body()).with_context(|| self.lacks("quoted-printable text"))?;
        Ok(octets.into_iter().map(char::from).collect::<String>().replace("\r\n", "\n"))
    }

    /// daticert.xml.
    pub fn certification_data(&self) -> Result<String> {
        let encoded = self.attachment("daticert.xml").with_context(|| self.lacks("daticert.xml"))?;
        let encoded: Vec<u8> = encoded.into_iter().filter(|byte| !byte.is_ascii_whitespace()).collect();
        Ok(String::from_utf8(STANDARD.decode(encoded)?)?)
    }

    /// The texts of all elements of this name in daticert.xml.
    pub fn certified(&self, element: &str) -> Result<Vec<String>> {
        let xml = self.certification_data()?;
        let document = Document::parse(&xml)?;
        let found = document.descendants().filter(|node| node.has_tag_name(element));
        Ok(found.map(|node| node.text().unwrap_or_default().to_owned()).collect())
    }

    /// One attribute of every element of this name in daticert.xml.
    pub fn certified_attributes(&self, element: &str, attribute: &str) -> Result<Vec<String>> {
        let xml = self.certification_data()?;
        let document = Document::parse(&xml)?;
        let found = document.descendants().filter(|node| node.has_tag_name(element));
        Ok(found.map(|node| node.attribute(attribute).unwrap_or_default().to_owned()).collect())
    }

    /// Which transaction it belongs to; anomaly envelopes and ordinary mail belong to none.
    pub fn transaction(&self) -> Option<String> {
        self.certified("identificativo").ok()?.into_iter().next()
    }

    fn lacks(&self, what: &str) -> String {
        format!("a message in {} has no {what}:\n{}", self.mailbox, self.header())
    }
}

/// What §2.2.1 makes of an original.
fn with_pec_msgid(submitted: &[u8], id: &str) -> Vec<u8> {
    let header_end = match submitted {
        // There may be a body and no header at all.
        [b'\r', b'\n', ..] => 0,
        _ => memmem::find(submitted, b"\r\n\r\n").map_or(submitted.len(), |end| end + 2),
    };
    let (header, body) = submitted.split_at(header_end);
    let fields = String::from_utf8_lossy(header).to_ascii_lowercase();
    let Some(begin) = fields.find("message-id:").filter(|at| *at == 0 || fields[..*at].ends_with("\r\n")) else {
        return [header, format!("Message-ID: <{id}>\r\n").as_bytes(), body].concat();
    };
    let end = memmem::find_iter(&header[begin..], b"\r\n")
        .map(|at| begin + at + 2)
        .find(|at| !matches!(header.get(*at), Some(b' ' | b'\t')))
        .unwrap_or(header.len());
    let client = String::from_utf8_lossy(&header[begin + "message-id:".len()..end]);
    let own = format!("Message-ID: <{id}>\r\nX-Riferimento-Message-ID: {}\r\n", client.trim());
    [&header[..begin], own.as_bytes(), &header[end..], body].concat()
}

/// RFC 2045 §6.7, as strictly as our own texts are written.
fn quoted_printable(encoded: &[u8]) -> Option<Vec<u8>> {
    let text = String::from_utf8(encoded.to_vec()).ok()?.replace("=\r\n", "");
    let mut pieces = text.split('=');
    let mut octets = pieces.next()?.as_bytes().to_vec();
    for piece in pieces {
        octets.push(u8::from_str_radix(piece.get(..2)?, 16).ok()?);
        octets.extend(piece.get(2..)?.bytes());
    }
    Some(octets)
}

#[derive(Debug, Clone, Copy)]
struct Entity<'a>(&'a [u8]);

impl<'a> Entity<'a> {
    /// With the line end of the last field.
    fn header(self) -> &'a [u8] {
        memmem::find(self.0, b"\r\n\r\n").map_or(self.0, |end| &self.0[..end + 2])
    }

    fn body(self) -> &'a [u8] {
        memmem::find(self.0, b"\r\n\r\n").map_or(&[], |end| &self.0[end + 4..])
    }

    fn fields(self, name: &str) -> Vec<String> {
        let header = String::from_utf8_lossy(self.header());
        let unfolded = header.replace("\r\n ", " ").replace("\r\n\t", "\t");
        let fields = unfolded.lines().filter_map(|line| line.split_once(':'));
        fields.filter(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim().to_owned()).collect()
    }

    /// A parameter of a field, the way pec-milter and OpenSSL write them.
    fn parameter(self, field: &str, name: &str) -> Option<String> {
        let value = self.fields(field).into_iter().next()?;
        let (_, rest) = value.split_once(&format!("{name}="))?;
        let text = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split('"').next(),
            None => rest.split([';', ' ']).next(),
        };
        text.map(str::to_owned)
    }

    fn parts(self) -> Vec<Entity<'a>> {
        let Some(boundary) = self.parameter("Content-Type", "boundary") else { return Vec::new() };
        let delimiter = format!("--{boundary}");
        let body = self.body();
        let starts_line = |at: &usize| *at == 0 || body[..*at].ends_with(b"\r\n");
        let marks: Vec<usize> = memmem::find_iter(body, &delimiter).filter(starts_line).collect();
        let part = |pair: &[usize]| {
            let begin = memmem::find(&body[pair[0]..], b"\r\n").map_or(body.len(), |end| pair[0] + end + 2);
            // The line end before a delimiter belongs to the delimiter.
            Entity(&body[begin..(pair[1] - 2).max(begin)])
        };
        marks.windows(2).map(part).collect()
    }

    fn of_kind(self, kind: &str) -> Option<Entity<'a>> {
        let own = self.fields("Content-Type").concat();
        if own.split(';').next().is_some_and(|own| own.trim() == kind) {
            return Some(self);
        }
        self.parts().into_iter().find_map(|part| part.of_kind(kind))
    }

    fn named(self, file_name: &str) -> Option<Entity<'a>> {
        if self.parameter("Content-Type", "name").as_deref() == Some(file_name) {
            return Some(self);
        }
        self.parts().into_iter().find_map(|part| part.named(file_name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_found_with_their_octets() {
        let text = "X-Ricevuta: accettazione\r\nContent-Type: multipart/signed;\r\n boundary=\"s\"\r\n\r\npreamble\r\n--s\r\n\
            Content-Type: multipart/mixed; boundary=m\r\n\r\n--m\r\n\r\ntext\r\n--m\r\n\
            Content-Type: application/xml; name=\"daticert.xml\"\r\n\r\nPGE+PGI+MTwvYj48Yj4yPC9iPjwvYT4=\r\n--m\r\n\
            Content-Type: message/rfc822; name=\"postacert.eml\"\r\n\r\nA: 1\r\n\r\nx\r\n\r\n--m--\r\n\r\n--s\r\n\r\nsig\r\n--s--\r\n";
        let message = Received { mailbox: "anna@alfa.example".to_owned(), bytes: text.as_bytes().to_vec() };
        assert_eq!(message.kind(), "accettazione");
        assert_eq!(message.certified("b").unwrap(), ["1", "2"]);
        assert_eq!(message.original().unwrap(), b"A: 1\r\n\r\nx\r\n");
        assert!(message.signed_part().unwrap().ends_with(b"--m--\r\n"));
        assert_eq!(message.attachment("smime.p7s"), None);
    }

    #[test]
    fn the_text_is_decoded() {
        let text = "Content-Type: multipart/mixed; boundary=m\r\n\r\n--m\r\nContent-Type: text/plain; charset=\"iso-8859-1\"\r\n\
            Content-Transfer-Encoding: quoted-printable\r\n\r\n=E8 =3D stato=\r\n qui\r\n\r\n--m--\r\n";
        let message = Received { mailbox: "anna@alfa.example".to_owned(), bytes: text.as_bytes().to_vec() };
        assert_eq!(message.text().unwrap(), "\u{e8} = stato qui\n");
        assert_eq!(quoted_printable(b"=E"), None);
    }

    #[test]
    fn only_the_identifier_of_an_original_changes() {
        let expected = b"A: 1\r\nMessage-ID: <p>\r\nX-Riferimento-Message-ID: <c>\r\nB: 2\r\n\r\nx";
        assert_eq!(with_pec_msgid(b"A: 1\r\nMessage-Id:\r\n <c>\r\nB: 2\r\n\r\nx", "p"), expected);
        assert_eq!(with_pec_msgid(b"A: 1\r\n\r\nx", "p"), b"A: 1\r\nMessage-ID: <p>\r\n\r\nx");
    }
}
