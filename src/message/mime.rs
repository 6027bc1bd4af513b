//! MIME entities as exact octet ranges (RFC 2046): what a signature covers and what a receipt carries is never
//! re-serialised.
//!
//! Delimiters are whole lines `--boundary`, as RFC 2046 §5.1.1 wants; the line end before a delimiter belongs to it.

use std::ops::Range;

use bytes::Bytes;
use mail_parser::decoders::{base64::base64_decode, quoted_printable::quoted_printable_decode};
use memchr::{memchr, memmem};

use crate::message::header::{ContentType, Header};

/// Deeper nesting does not occur in mail that a person wrote.
const DEEPEST_NESTING: usize = 40;
/// Each part costs memory before anything is known of who sent it; mail that a person wrote has some hundred.
const MOST_PARTS: usize = 10_000;
/// RFC 2046 §5.1.1.
const LONGEST_BOUNDARY: usize = 70;

/// A message or a part of one.
#[derive(Debug, Clone)]
pub struct Entity {
    data: Bytes,
    pub content_type: ContentType,
    body_start: usize,
    depth: usize,
}

/// Why a multipart entity cannot be taken apart.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BrokenMultipart {
    #[error("the multipart entity names no usable boundary")]
    NoBoundary,
    #[error("the boundary {0:?} does not occur")]
    NoDelimiter(String),
    #[error("the closing delimiter of {0:?} is missing")]
    NotClosed(String),
    #[error("the multipart entity has more than {MOST_PARTS} parts")]
    TooManyParts,
    #[error("multipart entities are nested more than {DEEPEST_NESTING} deep")]
    TooDeep,
}

impl Entity {
    /// Reads the entity that `data` is.
    pub fn read(data: Bytes) -> Self {
        Self::at_depth(data, 0)
    }

    fn at_depth(data: Bytes, depth: usize) -> Self {
        let header = Header::read(&data);
        let (content_type, body_start) = (header.content_type(), header.body_start);
        Entity { data, content_type, body_start, depth }
    }

    pub fn header(&self) -> Header<'_> {
        Header::read(self.data.get(..self.body_start).unwrap_or_default())
    }

    /// Header and body, as they lie.
    pub fn whole(&self) -> Bytes {
        self.data.clone()
    }

    /// The body, as it lies.
    pub fn body(&self) -> Bytes {
        self.data.slice(self.body_start.min(self.data.len())..)
    }

    /// The body with its transfer encoding removed; `None` where that is damaged.
    pub fn decoded_body(&self) -> Option<Vec<u8>> {
        let body = self.body();
        match self.header().transfer_encoding().as_str() {
            "base64" => base64_decode(&body),
            "quoted-printable" => quoted_printable_decode(&body),
            _ => Some(body.to_vec()),
        }
    }

    /// The names a receiver may know the part by: `name` and `filename`.
    pub fn names(&self) -> Vec<String> {
        let disposition = self.header().content_disposition();
        let names = [self.content_type.parameter("name"), disposition.parameter("filename")];
        names.into_iter().flatten().filter(|name| !name.is_empty()).map(str::to_owned).collect()
    }

    pub fn is_named(&self, name: &str) -> bool {
        self.names().iter().any(|own| own.eq_ignore_ascii_case(name))
    }

    /// The parts of a multipart entity, in order; preamble and epilogue are passed over.
    pub fn parts(&self) -> Result<Vec<Entity>, BrokenMultipart> {
        let ranges = self.part_ranges()?;
        Ok(ranges.into_iter().map(|range| self.part(range)).collect())
    }

    /// The parts of an entity that is multipart and whole, the entity itself otherwise.
    pub fn parts_or_itself(&self) -> Vec<Entity> {
        if !self.content_type.is_multipart() {
            return vec![self.clone()];
        }
        self.parts().unwrap_or_else(|_| vec![self.clone()])
    }

    /// The part that lies in one of [`Entity::part_ranges`].
    pub fn part(&self, range: Range<usize>) -> Entity {
        Self::at_depth(self.data.slice(range), self.depth + 1)
    }

    /// Where each part lies in [`Entity::whole`].
    pub fn part_ranges(&self) -> Result<Vec<Range<usize>>, BrokenMultipart> {
        if self.depth >= DEEPEST_NESTING {
            return Err(BrokenMultipart::TooDeep);
        }
        let boundary = self.content_type.parameter("boundary").unwrap_or_default();
        if boundary.is_empty() || boundary.len() > LONGEST_BOUNDARY {
            return Err(BrokenMultipart::NoBoundary);
        }
        let delimiters = delimiters(&self.data, self.body_start, boundary);
        if delimiters.len() > MOST_PARTS {
            return Err(BrokenMultipart::TooManyParts);
        }
        let mut parts = Vec::new();
        for pair in delimiters.windows(2) {
            if let [opening, closing] = pair {
                parts.push(opening.after..closing.before.max(opening.after));
            }
        }
        match delimiters.last() {
            None => Err(BrokenMultipart::NoDelimiter(boundary.to_owned())),
            Some(last) if !last.is_closing => Err(BrokenMultipart::NotClosed(boundary.to_owned())),
            Some(_) => Ok(parts),
        }
    }
}

/// A delimiter line.
struct Delimiter {
    /// Where it begins, the preceding line end included.
    before: usize,
    /// Where what follows begins.
    after: usize,
    is_closing: bool,
}

/// The delimiter lines of one boundary, up to the closing one.
fn delimiters(data: &[u8], from: usize, boundary: &str) -> Vec<Delimiter> {
    let needle = format!("--{boundary}");
    let mut found = Vec::new();
    for hit in memmem::find_iter(data.get(from..).unwrap_or_default(), needle.as_bytes()) {
        let Some(delimiter) = delimiter_at(data, from, from + hit, needle.len()) else { continue };
        let is_closing = delimiter.is_closing;
        found.push(delimiter);
        if is_closing || found.len() > MOST_PARTS {
            break;
        }
    }
    found
}

/// The delimiter line at `at`, if the line holds nothing but it.
fn delimiter_at(data: &[u8], from: usize, at: usize, length: usize) -> Option<Delimiter> {
    if at != from && data.get(at.checked_sub(1)?) != Some(&b'\n') {
        return None;
    }
    let rest = data.get(at + length..)?;
    let line_length = memchr(b'\n', rest).map_or(rest.len(), |end| end + 1);
    let tail = rest.get(..line_length)?;
    let (is_closing, padding) = match tail.strip_prefix(b"--") {
        Some(padding) => (true, padding),
        None => (false, tail),
    };
    if !padding.iter().all(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n')) {
        return None;
    }
    let head = data.get(from..at)?;
    let head = head.strip_suffix(b"\n").unwrap_or(head);
    let before = from + head.strip_suffix(b"\r").unwrap_or(head).len();
    Some(Delimiter { before, after: at + length + line_length, is_closing })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entity(text: &str) -> Entity {
        Entity::read(Bytes::from(text.to_owned()))
    }

    fn bodies(text: &str) -> Vec<String> {
        let parts = entity(text).parts().unwrap();
        parts.iter().map(|part| String::from_utf8(part.whole().to_vec()).unwrap()).collect()
    }

    const HEAD: &str = "Content-Type: multipart/mixed; boundary=b\r\n\r\n";

    #[test]
    fn parts_are_exact_ranges_without_the_line_end_of_the_delimiter() {
        assert_eq!(
            bodies(&format!("{HEAD}pre\r\n--b\r\n\r\none\r\n\r\n--b \t\r\nA: 1\r\n\r\n--b--\r\nepi\r\n--b\r\n")),
            ["\r\none\r\n", "A: 1\r\n"]
        );
        assert_eq!(
            bodies(
                &HEAD
                    .replace("\r\n", "\n")
                    .replace("=b", "=\"b\"")
                    .as_str()
                    .to_owned()
                    .chars()
                    .chain("--b\n\none\n--b--".chars())
                    .collect::<String>()
            ),
            ["\none"]
        );
        assert_eq!(bodies(&format!("{HEAD}--b\r\n--b--")), [""]);
    }

    #[test]
    fn a_boundary_that_begins_another_line_is_no_delimiter() {
        assert_eq!(
            bodies(&format!("{HEAD}--b\r\n\r\n--bc\r\nx--b\r\n --b\r\n--b--\r\n")),
            ["\r\n--bc\r\nx--b\r\n --b"]
        );
    }

    #[test]
    fn broken_multiparts_are_told_apart() {
        assert_eq!(entity("Content-Type: multipart/mixed\r\n\r\n").parts().unwrap_err(), BrokenMultipart::NoBoundary);
        assert_eq!(entity(&format!("{HEAD}text")).parts().unwrap_err(), BrokenMultipart::NoDelimiter("b".into()));
        assert_eq!(entity(&format!("{HEAD}--b\r\ntext")).parts().unwrap_err(), BrokenMultipart::NotClosed("b".into()));
    }

    #[test]
    fn parts_have_a_limit() {
        let text = format!("{HEAD}{}--b--\r\n", "--b\r\n".repeat(MOST_PARTS + 1));
        assert_eq!(entity(&text).parts().unwrap_err(), BrokenMultipart::TooManyParts);
        let text = format!("{HEAD}{}--b--\r\n", "--b\r\n\r\n".repeat(MOST_PARTS - 1));
        assert_eq!(entity(&text).parts().unwrap().len(), MOST_PARTS - 1);
    }

    #[test]
    fn nesting_has_a_limit() {
        let mut text = "end".to_owned();
        for _ in 0..100 {
            text = format!("{HEAD}--b\r\n{text}\r\n--b--\r\n");
        }
        let mut inner = entity(&text);
        let mut depth = 0;
        while let Ok(mut parts) = inner.parts() {
            inner = parts.remove(0);
            depth += 1;
        }
        assert!(depth <= DEEPEST_NESTING);
    }

    #[test]
    fn names_and_transfer_encodings_are_read() {
        let part = entity(
            "Content-Type: application/xml; name=\"a.xml\"\r\nContent-Transfer-Encoding: BASE64\r\n\
             Content-Disposition: inline; filename=b.xml\r\n\r\nYWJj\r\n",
        );
        assert_eq!(part.names(), ["a.xml", "b.xml"]);
        assert!(part.is_named("B.XML"));
        assert_eq!(part.decoded_body().unwrap(), b"abc");
        assert_eq!(entity("\r\nplain").decoded_body().unwrap(), b"plain");
    }
}
