//! The address fields of RFC 5322 §3.4, read strictly: the only reader that decides who a message says it is from.
//!
//! A lenient reader and a user's mail client may see different authors in a malformed field, which is how senders are
//! forged. So whatever the grammar does not allow is an error here, not a guess. Comments, folding, groups, quoted
//! strings and encoded words are understood; obsolete routes and address literals are not. Octets above 127 may stand in
//! domains alone, where they are an internationalised name that means its A-label (RFC 5890 §2.3.2.1).

use crate::model::{Address, InvalidAddress, address::is_atext};

/// Deeper comments are never written by a person.
const DEEPEST_COMMENT: usize = 16;

/// Why a field is not an address list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressListError {
    #[error("it is empty")]
    Empty,
    #[error("at {at} a {expected} is missing")]
    Missing { expected: &'static str, at: usize },
    #[error("at {at} stands an octet that is not allowed there")]
    Unexpected { at: usize },
    #[error("a comment or quoted string does not end")]
    Unclosed,
    #[error("comments are nested too deeply")]
    TooDeep,
    #[error(transparent)]
    Address(#[from] InvalidAddress),
}

/// The addresses of a field's raw value, those inside groups included (`To`, `Cc`, `Reply-To`, `Bcc`).
pub fn addresses(value: &[u8]) -> Result<Vec<Address>, AddressListError> {
    list(value, true)
}

/// The addresses of a field that allows no group (`From`): a mail client would show the group's name as the author.
pub fn mailboxes(value: &[u8]) -> Result<Vec<Address>, AddressListError> {
    list(value, false)
}

fn list(value: &[u8], groups_allowed: bool) -> Result<Vec<Address>, AddressListError> {
    let mut reader = Reader { value, at: 0 };
    let mut found = Vec::new();
    reader.skip_blanks()?;
    if reader.peek().is_none() {
        return Err(AddressListError::Empty);
    }
    loop {
        reader.address(&mut found, groups_allowed)?;
        match reader.peek() {
            None => return Ok(found),
            Some(b',') => reader.at += 1,
            Some(_) => return Err(reader.unexpected()),
        }
        reader.skip_blanks()?;
    }
}

struct Reader<'a> {
    value: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.value.get(self.at).copied()
    }

    fn unexpected(&self) -> AddressListError {
        AddressListError::Unexpected { at: self.at }
    }

    fn missing(&self, expected: &'static str) -> AddressListError {
        AddressListError::Missing { expected, at: self.at }
    }

    /// A mailbox, or a group where that is allowed.
    fn address(&mut self, found: &mut Vec<Address>, group_allowed: bool) -> Result<(), AddressListError> {
        let words = self.words()?;
        match self.peek() {
            Some(b'@') => {
                let address = self.addr_spec(&words)?;
                found.push(address);
            }
            Some(b'<') => {
                self.at += 1;
                self.skip_blanks()?;
                let words = self.words()?;
                if self.peek() != Some(b'@') {
                    return Err(self.missing("@"));
                }
                let address = self.addr_spec(&words)?;
                if self.peek() != Some(b'>') {
                    return Err(self.missing(">"));
                }
                self.at += 1;
                found.push(address);
            }
            Some(b':') if group_allowed && !words.is_empty() => {
                self.at += 1;
                self.group_members(found)?;
            }
            _ => return Err(self.missing("address")),
        }
        self.skip_blanks()
    }

    fn group_members(&mut self, found: &mut Vec<Address>) -> Result<(), AddressListError> {
        self.skip_blanks()?;
        while self.peek() != Some(b';') {
            self.address(found, false)?;
            if self.peek() == Some(b',') {
                self.at += 1;
                self.skip_blanks()?;
            } else if self.peek() != Some(b';') {
                return Err(self.missing(";"));
            }
        }
        self.at += 1;
        Ok(())
    }

    /// Atoms, dots and quoted strings up to the next special; each with whether a blank came before it.
    fn words(&mut self) -> Result<Vec<(String, bool)>, AddressListError> {
        let mut words = Vec::new();
        let mut blank_before = false;
        loop {
            match self.peek() {
                Some(b'"') => words.push((self.quoted_string()?, blank_before)),
                Some(b'.') => {
                    self.at += 1;
                    words.push((".".into(), blank_before));
                }
                Some(byte) if is_atext(byte) => words.push((self.atom(), blank_before)),
                _ => return Ok(words),
            }
            let before = self.at;
            self.skip_blanks()?;
            blank_before = self.at != before;
        }
    }

    /// `local-part "@" domain`, of which the local part was read as words and the reader stands on the `@`.
    fn addr_spec(&mut self, words: &[(String, bool)]) -> Result<Address, AddressListError> {
        // A blank inside a local part is a display name without angle brackets: `Anna anna@alfa.example`.
        if words.is_empty() || words.iter().skip(1).any(|(_, blank_before)| *blank_before) {
            return Err(self.missing("local part"));
        }
        let local: String = words.iter().map(|(word, _)| word.as_str()).collect();
        self.at += 1;
        self.skip_blanks()?;
        let start = self.at;
        while self.peek().is_some_and(|byte| is_atext(byte) || byte == b'.' || byte > 127) {
            self.at += 1;
        }
        let domain = self.value.get(start..self.at).unwrap_or_default();
        let domain = ascii_domain(domain).ok_or(AddressListError::Unexpected { at: start })?;
        self.skip_blanks()?;
        Ok(format!("{local}@{domain}").parse()?)
    }

    fn atom(&mut self) -> String {
        let start = self.at;
        while self.peek().is_some_and(is_atext) {
            self.at += 1;
        }
        String::from_utf8_lossy(self.value.get(start..self.at).unwrap_or_default()).into_owned()
    }

    /// A quoted string, quotes and escapes kept, folds removed.
    fn quoted_string(&mut self) -> Result<String, AddressListError> {
        let mut text = String::from("\"");
        self.at += 1;
        loop {
            match self.peek().ok_or(AddressListError::Unclosed)? {
                b'"' => {
                    self.at += 1;
                    text.push('"');
                    return Ok(text);
                }
                b'\\' => {
                    self.at += 1;
                    let escaped = self.peek().ok_or(AddressListError::Unclosed)?;
                    if !matches!(escaped, b' '..=b'~' | b'\t') {
                        return Err(self.unexpected());
                    }
                    text.push('\\');
                    text.push(char::from(escaped));
                    self.at += 1;
                }
                byte @ (b' '..=b'~' | b'\t') => {
                    text.push(char::from(byte));
                    self.at += 1;
                }
                b'\r' | b'\n' => self.fold()?,
                _ => return Err(self.unexpected()),
            }
        }
    }

    /// Blanks, folds and comments.
    fn skip_blanks(&mut self) -> Result<(), AddressListError> {
        loop {
            match self.peek() {
                Some(b' ' | b'\t') => self.at += 1,
                Some(b'\r' | b'\n') => self.fold()?,
                Some(b'(') => self.comment()?,
                _ => return Ok(()),
            }
        }
    }

    /// A line end inside a value is legal only before a blank.
    fn fold(&mut self) -> Result<(), AddressListError> {
        let rest = self.value.get(self.at..).unwrap_or_default();
        let skipped =
            rest.strip_prefix(b"\r\n").or_else(|| rest.strip_prefix(b"\n")).ok_or_else(|| self.unexpected())?;
        if !matches!(skipped.first(), Some(b' ' | b'\t')) {
            return Err(self.unexpected());
        }
        self.at += rest.len() - skipped.len();
        Ok(())
    }

    fn comment(&mut self) -> Result<(), AddressListError> {
        let mut depth = 0;
        loop {
            match self.peek().ok_or(AddressListError::Unclosed)? {
                b'(' => depth += 1,
                b')' => depth -= 1,
                b'\\' => self.at += 1,
                b' '..=b'~' | b'\t' => {}
                b'\r' | b'\n' => {
                    self.fold()?;
                    continue;
                }
                _ => return Err(self.unexpected()),
            }
            self.at += 1;
            if depth == 0 {
                return Ok(());
            }
            if depth > DEEPEST_COMMENT {
                return Err(AddressListError::TooDeep);
            }
        }
    }
}

/// A domain as the SMTP dialogue writes it. A spelling that is not the name's own, with characters that are mapped to
/// others, is refused: two readers might see two domains.
fn ascii_domain(domain: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(domain).ok()?;
    if text.is_ascii() {
        return Some(text.to_owned());
    }
    let ascii = idna::domain_to_ascii_strict(text).ok()?;
    let (own_spelling, valid) = idna::domain_to_unicode(&ascii);
    (valid.is_ok() && own_spelling == text.to_lowercase()).then_some(ascii)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &str) -> Result<Vec<String>, AddressListError> {
        addresses(value.as_bytes()).map(|found| found.iter().map(|address| address.as_str().to_owned()).collect())
    }

    #[test]
    fn what_clients_write_is_read() {
        for (value, expected) in [
            ("anna@alfa.example", &["anna@alfa.example"][..]),
            (" Anna Rossi <anna@alfa.example>", &["anna@alfa.example"]),
            ("=?UTF-8?Q?Anna_=C3=A8?= <anna@alfa.example>", &["anna@alfa.example"]),
            (
                "\"Rossi, Anna\" <anna@alfa.example>,\r\n\tbruno@beta.example",
                &["anna@alfa.example", "bruno@beta.example"],
            ),
            ("Anna R. Rossi <anna@alfa.example>", &["anna@alfa.example"]),
            ("<anna@alfa.example> (Anna (A.) \\) Rossi)", &["anna@alfa.example"]),
            ("anna (x) @ (y) alfa.example", &["anna@alfa.example"]),
            (
                "amici: anna@alfa.example, B <bruno@beta.example>;, c@d.example",
                &["anna@alfa.example", "bruno@beta.example", "c@d.example"],
            ),
            ("undisclosed-recipients:;", &[]),
            ("\"anna b\"@alfa.example", &["\"anna b\"@alfa.example"]),
            ("\"anna\"@alfa.example", &["anna@alfa.example"]),
            ("\"bruno@beta.example\" <anna@alfa.example>", &["anna@alfa.example"]),
            ("anna@perch\u{e9}.example", &["anna@xn--perch-fsa.example"]),
            ("Anna <anna@CITT\u{c0}.example>", &["anna@xn--citt-3na.example"]),
            ("anna@xn--perch-fsa.example", &["anna@xn--perch-fsa.example"]),
        ] {
            assert_eq!(
                read(value).as_deref(),
                Ok(&expected.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>()[..]),
                "{value}"
            );
        }
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_an_error() {
        for value in [
            "",
            "  ",
            "(only a comment)",
            "Anna",
            "anna@",
            "@alfa.example",
            "Anna anna@alfa.example",
            "<anna@alfa.example",
            "anna@alfa.example>",
            "<anna@alfa.example> <bruno@beta.example>",
            "anna@alfa.example bruno@beta.example",
            "anna@alfa.example,",
            ",anna@alfa.example",
            "anna@alfa.example; bruno@beta.example",
            "<@route:anna@alfa.example>",
            "anna@[127.0.0.1]",
            "anna@alfa.example\r\nBcc: x@y.example",
            "Ann\u{e0} <anna@alfa.example>",
            "a: b: c@d.example;;",
            "\"anna@alfa.example",
            "anna@alfa.example (open",
            "an na@alfa.example",
            "anna@alfa .example",
            "<>",
            "anna@alfa.example\0",
            "anna@alfa.example <bruno@beta.example>",
            "an\rna@alfa.example",
            "anna@\u{ff41}lfa.example",
            "anna@alfa\u{3002}example",
            "anna@al\u{ad}fa.example",
            "ann\u{e0}@alfa.example",
        ] {
            assert!(read(value).is_err(), "{value:?} gave {:?}", read(value));
        }
        assert_eq!(read(&"(".repeat(1000)), Err(AddressListError::TooDeep));
    }
}
