//! Viruses (§2.2.4, §3.1.3, §3.2.3, §3.2.4): what a scanner says of a message, and what that forces.
//!
//! Pure: the scanner is asked in `adapters`; to keep its signatures new is the scanner's own matter (§5.4). Only a whole
//! scan that found nothing is [`Verdict::Clean`]; a scanner that is away, slow, or did not look at everything is a fault,
//! and nothing is accepted on a fault.

use std::fmt;

/// Names of scanners are short; what is longer could break a line of a notice.
const LONGEST_NAME: usize = 120;

/// What a whole scan of a message found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Clean,
    Infected(VirusName),
}

/// The scanner's word for what it found, fit to stand in notices and in the log: printable ASCII, not empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VirusName(Box<str>);

impl VirusName {
    /// Other characters become `?`.
    pub fn new(text: &str) -> Self {
        let printable = text.trim().chars().map(|c| if (' '..='~').contains(&c) { c } else { '?' });
        let name: String = printable.take(LONGEST_NAME).collect();
        VirusName(if name.is_empty() { "virus".into() } else { name.into() })
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for VirusName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where an infected certified message was found. Ordinary mail is refused in the dialogue and not kept (§2.2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A user's submission: its sender gets a non-acceptance notice (§3.1.3).
    AccessPoint,
    /// Another provider's envelope: that provider gets one detection per recipient (§3.2.3).
    IncomingPoint,
}

impl Place {
    /// The word that stands in the store; it never changes once released.
    pub fn token(self) -> &'static str {
        match self {
            Self::AccessPoint => "access-point",
            Self::IncomingPoint => "incoming-point",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_fits_a_notice_whatever_the_scanner_says() {
        assert_eq!(VirusName::new("Win.Test.EICAR_HDB-1").as_str(), "Win.Test.EICAR_HDB-1");
        assert_eq!(VirusName::new(" a\r\nX-Evil: b\u{e8}\0").as_str(), "a??X-Evil: b??");
        assert_eq!(VirusName::new("").as_str(), "virus");
        assert_eq!(VirusName::new(&"x".repeat(5000)).as_str().len(), LONGEST_NAME);
    }
}
