//! Mail addresses and domains, and how they compare.
//!
//! An address is what the SMTP dialogue carries between angle brackets: a dot-string or quoted local part and an
//! ASCII domain name (RFC 5321 §4.1.2). Address literals and non-ASCII addresses do not exist in certified mail.
//! The spelling is kept, because it travels; comparison ignores case in both halves (§3.1.1), as every provider does.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

/// The octets RFC 5321 §4.5.3.1 allows in a local part and in a path, plus room for existing longer ones.
const LONGEST_LOCAL_PART: usize = 128;
const LONGEST_DOMAIN: usize = 253;

/// A mail address; equal to another that differs in case only.
#[derive(Clone)]
pub struct Address {
    text: Box<str>,
    at: usize,
}

/// Why a text is not an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAddress {
    #[error("{0:?} has no local part and domain separated by @")]
    NoAt(String),
    #[error("{0:?} has a local part that RFC 5321 does not allow")]
    LocalPart(String),
    #[error("{0:?} is not a domain name")]
    Domain(String),
}

impl Address {
    /// The local part as it travels: unquoted where quotes are not needed.
    pub fn local_part(&self) -> &str {
        self.text.get(..self.at).unwrap_or_default()
    }

    /// The domain, ready to be looked up.
    pub fn domain(&self) -> Domain {
        Domain(self.domain_text().to_ascii_lowercase().into())
    }

    /// The whole address, spelt as it came.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The form under which an address is a key: lower case.
    pub fn key(&self) -> String {
        self.text.to_ascii_lowercase()
    }

    fn domain_text(&self) -> &str {
        self.text.get(self.at + 1..).unwrap_or_default()
    }
}

impl FromStr for Address {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        let (local, domain) = text.rsplit_once('@').ok_or_else(|| InvalidAddress::NoAt(text.to_owned()))?;
        if !is_domain(domain) {
            return Err(InvalidAddress::Domain(domain.to_owned()));
        }
        let local = canonical_local_part(local).ok_or_else(|| InvalidAddress::LocalPart(local.to_owned()))?;
        Ok(Address { at: local.len(), text: format!("{local}@{domain}").into() })
    }
}

/// `"anna"@x` and `anna@x` name the same mailbox: quotes stay only where they are needed.
fn canonical_local_part(local: &str) -> Option<String> {
    if local.is_empty() || local.len() > LONGEST_LOCAL_PART {
        return None;
    }
    let Some(quoted) = local.strip_prefix('"') else {
        return is_dot_string(local).then(|| local.to_owned());
    };
    let mut content = String::with_capacity(quoted.len());
    let mut rest = quoted.strip_suffix('"')?.chars();
    while let Some(c) = rest.next() {
        match c {
            '\\' => content.push(rest.next().filter(|c| (' '..='~').contains(c))?),
            ' ' | '!' | '#'..='[' | ']'..='~' => content.push(c),
            _ => return None,
        }
    }
    if is_dot_string(&content) {
        return Some(content);
    }
    let escaped = content.replace('\\', "\\\\").replace('"', "\\\"");
    Some(format!("\"{escaped}\""))
}

fn is_dot_string(text: &str) -> bool {
    text.split('.').all(|atom| !atom.is_empty() && atom.bytes().all(is_atext))
}

/// `atext` of RFC 5322 §3.2.3.
pub(crate) fn is_atext(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&byte)
}

fn is_domain(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= LONGEST_DOMAIN
        && text.split('.').all(|label| {
            !label.is_empty()
                && label.len() <= 63
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        })
}

impl PartialEq for Address {
    fn eq(&self, other: &Self) -> bool {
        self.text.eq_ignore_ascii_case(&other.text)
    }
}

impl Eq for Address {}

impl Hash for Address {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for byte in self.text.bytes() {
            state.write_u8(byte.to_ascii_lowercase());
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{}>", self.text)
    }
}

/// A domain name in lower case.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Domain(Box<str>);

impl Domain {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Domain {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        let text = text.strip_suffix('.').unwrap_or(text);
        if !is_domain(text) {
            return Err(InvalidAddress::Domain(text.to_owned()));
        }
        Ok(Domain(text.to_ascii_lowercase().into()))
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        text.parse().unwrap()
    }

    #[test]
    fn case_does_not_matter_in_either_half() {
        assert_eq!(address("Anna.Rossi@ALFA.example"), address("anna.rossi@alfa.example"));
        assert_eq!(address("Anna@ALFA.example").domain(), "alfa.example".parse().unwrap());
        assert_ne!(address("anna@alfa.example"), address("anna@beta.example"));
    }

    #[test]
    fn needless_quotes_are_dropped_and_needed_ones_kept() {
        assert_eq!(address("\"anna\"@alfa.example").as_str(), "anna@alfa.example");
        assert_eq!(address("\"an\\na\"@alfa.example").as_str(), "anna@alfa.example");
        assert_eq!(address("\"anna bianchi\"@alfa.example").as_str(), "\"anna bianchi\"@alfa.example");
        assert_eq!(address("\"a@b\"@alfa.example").domain().as_str(), "alfa.example");
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            "anna",
            "@alfa.example",
            "anna@",
            "a b@alfa.example",
            "a..b@alfa.example",
            ".a@alfa.example",
            "anna@[127.0.0.1]",
            "anna@alfa..example",
            "anna@-alfa.example",
            "ànna@alfa.example",
            "anna@alfa.example.",
            "\"anna@alfa.example",
            "a\"b@alfa.example",
            "anna@alfa.exam ple",
            "<anna@alfa.example>",
            "a\r\nb@alfa.example",
        ] {
            assert!(text.parse::<Address>().is_err(), "{text:?}");
        }
    }
}
