//! Message identifiers: the one the user's client wrote, and the one the provider gives (§2.2.1).

use std::fmt;
use std::str::FromStr;

use crate::model::Domain;

/// The longest identifier that still fits a header line of 998 octets with its field name.
const LONGEST_ID: usize = 900;

/// The Message-ID of a user's client or of a notification, with its angle brackets.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Msgid(Box<str>);

/// The identifier of a certified transaction, without angle brackets: unique for ever (§2.2.1).
///
/// Ours holds letters, digits and dots before the `@`; those of other providers hold what RFC 5322 allows.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PecMsgid(Box<str>);

/// Why a text is not a message identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a message identifier")]
pub struct InvalidMsgid(String);

impl Msgid {
    /// With its angle brackets.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Without its angle brackets.
    pub fn inner(&self) -> &str {
        self.0.trim_start_matches('<').trim_end_matches('>')
    }
}

impl FromStr for Msgid {
    type Err = InvalidMsgid;

    /// Lenient as clients are: anything printable between one pair of angle brackets.
    fn from_str(text: &str) -> Result<Self, InvalidMsgid> {
        let text = text.trim();
        text.strip_prefix('<')
            .and_then(|rest| rest.strip_suffix('>'))
            .filter(|inner| is_identifier(inner))
            .map(|_| Msgid(text.into()))
            .ok_or_else(|| InvalidMsgid(text.to_owned()))
    }
}

impl PecMsgid {
    /// A new identifier from an instant (seconds since 1970) and 128 bits of chance.
    pub fn new(unix_seconds: i64, chance: u128, domain: &Domain) -> Self {
        PecMsgid(format!("pec.{unix_seconds}.{chance:032x}@{domain}").into())
    }

    /// Without angle brackets, as it stands in `identificativo`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// With angle brackets, as it stands in `Message-ID`.
    pub fn bracketed(&self) -> Msgid {
        Msgid(format!("<{}>", self.0).into())
    }
}

impl FromStr for PecMsgid {
    type Err = InvalidMsgid;

    fn from_str(text: &str) -> Result<Self, InvalidMsgid> {
        let has_two_halves = text.split_once('@').is_some_and(|(left, right)| !left.is_empty() && !right.is_empty());
        if !has_two_halves || !is_identifier(text) {
            return Err(InvalidMsgid(text.to_owned()));
        }
        Ok(PecMsgid(text.into()))
    }
}

fn is_identifier(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= LONGEST_ID
        && text.bytes().all(|byte| (b'!'..=b'~').contains(&byte) && byte != b'<' && byte != b'>')
}

impl fmt::Display for Msgid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for PecMsgid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_is_made_of_letters_digits_and_dots() {
        let id = PecMsgid::new(1_700_000_000, 0xabc, &"alfa.example".parse().unwrap());
        let (left, right) = id.as_str().split_once('@').unwrap();
        assert!(left.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'.'));
        assert_eq!(right, "alfa.example");
        assert_eq!(id.as_str().parse::<PecMsgid>().unwrap(), id);
        assert_eq!(id.bracketed().inner(), id.as_str());
    }

    #[test]
    fn identifiers_of_others_hold_what_rfc_5322_allows() {
        assert!("opec292.20240715.ab=c+/x@pec.example".parse::<PecMsgid>().is_ok());
        for text in ["", "a b@c", "<a@b>", "ab", "@b", "a@", "a@b\r\nX: y"] {
            assert!(text.parse::<PecMsgid>().is_err(), "{text:?}");
        }
        assert!("<no-domain>".parse::<Msgid>().is_ok());
        for text in ["", "<>", "a@b", "<a@b", "<a b@c>", "<a@b><c@d>"] {
            assert!(text.parse::<Msgid>().is_err(), "{text:?}");
        }
    }
}
