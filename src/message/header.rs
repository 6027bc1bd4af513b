//! The header section as it lies: exact octets of each field, in order (RFC 5322 §2.2).
//!
//! Nothing is repaired. What a field means is asked of it afterwards: its text, its encoded words, its parameters.
//! Works on CRLF and on LF line ends, since mailboxes on disk have the latter.

use std::ops::Range;

use mail_parser::{HeaderValue, MessageParser};
use memchr::memchr;

use crate::message::parameters::continued;

/// One header field: octet ranges of the message it was read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    name: Range<usize>,
    /// After the colon, folds included, without the last line end.
    value: Range<usize>,
    /// The whole field with its line end.
    pub line: Range<usize>,
}

/// The header section of a message or of a part.
#[derive(Debug, Clone)]
pub struct Header<'a> {
    data: &'a [u8],
    fields: Vec<Field>,
    /// Lines that are neither a field nor its continuation.
    malformed: usize,
    /// Where the body begins.
    pub body_start: usize,
}

impl<'a> Header<'a> {
    /// Reads the header section at the start of `data`.
    pub fn read(data: &'a [u8]) -> Self {
        let mut header = Header { data, fields: Vec::new(), malformed: 0, body_start: data.len() };
        let mut at = 0;
        while let Some(rest) = data.get(at..).filter(|rest| !rest.is_empty()) {
            let end = at + memchr(b'\n', rest).map_or(rest.len(), |line_end| line_end + 1);
            let text_end = end_of_text(data, at, end);
            if text_end == at {
                header.body_start = end;
                break;
            }
            header.take_line(at, text_end, end);
            at = end;
        }
        header
    }

    fn take_line(&mut self, at: usize, text_end: usize, end: usize) {
        let line = self.data.get(at..text_end).unwrap_or_default();
        if line.first().is_some_and(|byte| *byte == b' ' || *byte == b'\t') {
            match self.fields.last_mut() {
                Some(field) if field.line.end == at => {
                    field.value.end = text_end;
                    field.line.end = end;
                }
                _ => self.malformed += 1,
            }
            return;
        }
        let colon = memchr(b':', line).unwrap_or(0);
        // `Name :` is obsolete syntax that still arrives.
        let name_length = line.get(..colon).map_or(0, |name| name.trim_ascii_end().len());
        let is_name = |name: &[u8]| !name.is_empty() && name.iter().all(|byte| (b'!'..=b'~').contains(byte));
        if line.get(..name_length).is_some_and(is_name) {
            self.fields.push(Field { name: at..at + name_length, value: at + colon + 1..text_end, line: at..end });
        } else {
            self.malformed += 1;
        }
    }

    /// How many lines are no field.
    pub fn malformed_lines(&self) -> usize {
        self.malformed
    }

    /// All fields in their order.
    pub fn fields(&self) -> impl Iterator<Item = FieldView<'a>> {
        self.fields.iter().map(|field| FieldView { data: self.data, field: field.clone() })
    }

    /// The fields of one name, in their order.
    pub fn all(&self, name: &str) -> impl Iterator<Item = FieldView<'a>> {
        self.fields().filter(move |field| field.name().eq_ignore_ascii_case(name.as_bytes()))
    }

    /// The first field of a name.
    pub fn first(&self, name: &str) -> Option<FieldView<'a>> {
        self.all(name).next()
    }

    /// The text of the first field of a name.
    pub fn text(&self, name: &str) -> Option<String> {
        self.first(name).map(|field| field.text())
    }

    /// The media type with its parameters; RFC 2045 §5.2's default where there is none.
    pub fn content_type(&self) -> ContentType {
        self.structured("Content-Type")
            .unwrap_or_else(|| ContentType { kind: "text/plain".into(), ..Default::default() })
    }

    /// The disposition with its parameters.
    pub fn content_disposition(&self) -> ContentType {
        self.structured("Content-Disposition").unwrap_or_default()
    }

    /// The lower-case transfer encoding; `7bit` where there is none.
    pub fn transfer_encoding(&self) -> String {
        let value = self.text("Content-Transfer-Encoding").unwrap_or_default();
        let word = value.split(['(', ';']).next().unwrap_or_default().trim().to_ascii_lowercase();
        if word.is_empty() { "7bit".into() } else { word }
    }

    fn structured(&self, name: &str) -> Option<ContentType> {
        let line = self.first(name)?.line().to_vec();
        let parsed = MessageParser::new().with_mime_headers().parse_headers(&line)?;
        let value = parsed.parts.first()?.headers.first()?.value.clone();
        let HeaderValue::ContentType(value) = value else { return None };
        let kind = match value.subtype() {
            Some(subtype) => format!("{}/{}", value.ctype(), subtype),
            None => value.ctype().to_owned(),
        };
        let mut parameters = continued(self.first(name)?.raw_value());
        let others = value.attributes().unwrap_or_default();
        parameters.extend(others.iter().map(|one| (one.name.to_ascii_lowercase(), one.value.to_string())));
        Some(ContentType { kind: kind.to_ascii_lowercase(), parameters })
    }
}

/// One field, to be asked.
#[derive(Debug, Clone)]
pub struct FieldView<'a> {
    data: &'a [u8],
    field: Field,
}

impl<'a> FieldView<'a> {
    pub fn name(&self) -> &'a [u8] {
        self.data.get(self.field.name.clone()).unwrap_or_default()
    }

    /// The value as it lies: leading blank and folds included.
    pub fn raw_value(&self) -> &'a [u8] {
        self.data.get(self.field.value.clone()).unwrap_or_default()
    }

    /// The whole field with its line end.
    pub fn line(&self) -> &'a [u8] {
        self.data.get(self.field.line.clone()).unwrap_or_default()
    }

    /// The value unfolded and trimmed; octets that are not UTF-8 become U+FFFD.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.unfolded()).trim().to_owned()
    }

    /// The value with its encoded words decoded (RFC 2047) and without control characters: fit for texts and XML.
    ///
    /// What cannot be decoded stands there as it was written, so that nothing of a certified subject is lost.
    pub fn decoded(&self) -> String {
        let mut line = b"Subject:".to_vec();
        line.extend_from_slice(self.raw_value());
        line.extend_from_slice(b"\r\n\r\n");
        let text = MessageParser::new()
            .header_text("Subject")
            .parse_headers(&line)
            .and_then(|parsed| parsed.subject().map(str::to_owned))
            .unwrap_or_default();
        if text.contains(char::REPLACEMENT_CHARACTER) { printable(&self.as_written()) } else { printable(&text) }
    }

    /// The octets as characters: UTF-8, or else ISO-8859-1, in which every octet is one.
    fn as_written(&self) -> String {
        String::from_utf8(self.unfolded())
            .unwrap_or_else(|error| error.into_bytes().into_iter().map(char::from).collect())
    }

    fn unfolded(&self) -> Vec<u8> {
        self.raw_value().iter().copied().filter(|byte| !matches!(byte, b'\r' | b'\n')).collect()
    }
}

/// Replaces what neither XML 1.0 nor a one-line text can hold by blanks, and trims.
pub fn printable(text: &str) -> String {
    let clean: String = text
        .chars()
        .map(|c| if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{FFFE}' | '\u{FFFF}') { ' ' } else { c })
        .collect();
    clean.trim().to_owned()
}

/// A media type or disposition in lower case, with its parameters (RFC 2231 forms decoded).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContentType {
    pub kind: String,
    parameters: Vec<(String, String)>,
}

impl ContentType {
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub fn is_multipart(&self) -> bool {
        self.kind.starts_with("multipart/")
    }
}

/// Where the text of the line `at..end` ends: before CRLF or LF.
fn end_of_text(data: &[u8], at: usize, end: usize) -> usize {
    let line = data.get(at..end).unwrap_or_default();
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    at + line.strip_suffix(b"\r").unwrap_or(line).len()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGE: &[u8] =
        b"From: Anna <anna@alfa.example>\r\nSubject: =?UTF-8?Q?Perch=C3=A9?=\r\n =?UTF-8?Q?_no?=\r\n\
        Content-Type: Multipart/Mixed;\r\n\tboundary=\"a b\"; name*=UTF-8''p%C3%A8.pdf\r\nX-Empty:\r\n\r\nbody\r\n";

    #[test]
    fn fields_are_exact_slices() {
        let header = Header::read(MESSAGE);
        assert_eq!(header.fields().count(), 4);
        assert_eq!(&MESSAGE[header.body_start..], b"body\r\n");
        let lines: Vec<u8> = header.fields().flat_map(|field| field.line().to_vec()).collect();
        assert_eq!(lines, &MESSAGE[..header.body_start - 2]);
        assert_eq!(header.first("from").unwrap().raw_value(), b" Anna <anna@alfa.example>");
        assert_eq!(header.text("x-empty").unwrap(), "");
        assert_eq!(header.malformed_lines(), 0);
    }

    #[test]
    fn the_meaning_of_fields_is_decoded() {
        let header = Header::read(MESSAGE);
        assert_eq!(header.first("Subject").unwrap().decoded(), "Perché no");
        let content_type = header.content_type();
        assert_eq!(content_type.kind, "multipart/mixed");
        assert_eq!(content_type.parameter("boundary"), Some("a b"));
        assert_eq!(content_type.parameter("name"), Some("pè.pdf"));
        assert_eq!(header.transfer_encoding(), "7bit");
    }

    #[test]
    fn line_ends_may_be_lf_and_the_body_may_be_missing() {
        let header = Header::read(b"A: 1\nB: 2\n 3\n\nbody");
        assert_eq!((header.fields().count(), header.text("B").unwrap()), (2, "2 3".to_owned()));
        assert_eq!(Header::read(b"A: 1").text("a").unwrap(), "1");
        assert_eq!(Header::read(b"").body_start, 0);
        assert_eq!(Header::read(b"\r\nbody").body_start, 2);
    }

    #[test]
    fn lines_that_are_no_field_are_counted() {
        assert_eq!(
            Header::read(b" lost\r\nno colon here\r\n: empty\r\nb\xe8d: 1\r\nA : 1\r\n\r\n").malformed_lines(),
            4
        );
        assert_eq!(Header::read(b"A : 1\r\n\r\n").text("A").unwrap(), "1");
    }

    #[test]
    fn what_cannot_be_decoded_is_kept_as_it_was_written() {
        let decoded = |line: &[u8]| Header::read(line).first("Subject").unwrap().decoded();
        assert_eq!(decoded(b"Subject: a\r\n =?x-unknown?Q?=FF?=\r\n\r\n"), "a =?x-unknown?Q?=FF?=");
        assert_eq!(decoded(b"Subject: perch\xe9\r\n\r\n"), "perch\u{e9}");
        assert_eq!(decoded("Subject: perch\u{e9}\r\n\r\n".as_bytes()), "perch\u{e9}");
    }

    #[test]
    fn a_decoded_subject_holds_no_control_characters() {
        let header = Header::read(b"Subject: =?utf-8?B?YQ0KQmNjOiBl?=\r\n\r\n");
        assert_eq!(header.first("Subject").unwrap().decoded(), "a  Bcc: e");
    }
}
