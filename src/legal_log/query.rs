//! What an operator asks the log for: any of these together, and where a page begins.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use crate::legal_log::details::concerned;
use crate::legal_log::{Entry, EventKind, Outcome};
use crate::model::TemporalReference;

/// Entries that have all of this.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// The reverse path, in any case.
    pub sender: Option<String>,
    /// A recipient, in any case, be he named in the row or in its details.
    pub recipient: Option<String>,
    /// The message's PEC msgid, its client's, or a notification's: all entries of the transactions that bear it.
    pub msgid: Option<String>,
    /// From the first instant on, and before the last.
    pub period: Range<TemporalReference>,
    pub kind: Option<EventKind>,
    pub outcome: Option<Outcome>,
    /// The provider the message came from, in any case.
    pub provider: Option<String>,
}

impl Query {
    /// All entries of a period.
    pub fn of(period: Range<TemporalReference>) -> Self {
        Query { sender: None, recipient: None, msgid: None, period, kind: None, outcome: None, provider: None }
    }

    /// A Message-ID as it is compared: what stands between its angle brackets.
    pub fn bare(msgid: &str) -> &str {
        let bare = msgid.trim();
        bare.strip_prefix('<').and_then(|bare| bare.strip_suffix('>')).unwrap_or(bare)
    }

    /// Whether an entry has everything but the Message-ID. `arrival` is that of its transaction. What is open the entry
    /// alone cannot tell.
    pub fn fits(&self, entry: &Entry, arrival: Option<&Entry>) -> bool {
        let same = |wanted: &Option<String>, found: &Option<String>| {
            wanted.as_ref().is_none_or(|wanted| found.as_ref().is_some_and(|found| found.eq_ignore_ascii_case(wanted)))
        };
        let is_about = |wanted: &String| concerned(entry, arrival).iter().any(|one| one.eq_ignore_ascii_case(wanted));
        self.period.contains(&entry.at)
            && self.kind.is_none_or(|kind| kind == entry.kind)
            && self.outcome.is_none_or(|outcome| outcome == Outcome::Open || Outcome::told_by(entry) == Some(outcome))
            && same(&self.sender, &entry.sender)
            && same(&self.provider, &entry.provider)
            && self.recipient.as_ref().is_none_or(is_about)
    }
}

/// The place of an entry in what is found: by instant, then by its number. Written `SEQUENCE/INSTANT`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub at: TemporalReference,
    pub sequence: i64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.sequence, self.at.utc())
    }
}

/// Why a text is no place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not of the form 1234/2026-07-15T08:30:45Z, as the end of a page prints it")]
pub struct InvalidPlace(String);

impl FromStr for Place {
    type Err = InvalidPlace;

    fn from_str(text: &str) -> Result<Self, InvalidPlace> {
        let place = text.split_once('/').and_then(|(sequence, at)| {
            Some(Place { at: TemporalReference::from_rfc3339(at)?, sequence: sequence.parse().ok()? })
        });
        place.ok_or_else(|| InvalidPlace(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_text_and_back() {
        let place = Place { at: TemporalReference::from_unix(1_721_032_245), sequence: 7 };
        assert_eq!(place.to_string(), "7/2024-07-15T08:30:45Z");
        assert_eq!(place.to_string().parse(), Ok(place));
        for text in ["", "7", "7/", "x/2024-07-15T08:30:45Z", "7/2024-07-15"] {
            assert!(text.parse::<Place>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_message_id_is_compared_without_its_angle_brackets() {
        for text in ["a@b", "<a@b>", " <a@b> "] {
            assert_eq!(Query::bare(text), "a@b");
        }
        assert_eq!(Query::bare("<a@b"), "<a@b");
    }
}
