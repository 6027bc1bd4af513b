//! The seal of a range of rows (§2.3): what is signed and time-stamped, so that nobody can change the rows behind it.
//!
//! The rows since the last seal are exported as text: one line a row, its hash, a blank, and the row as `line` writes it.
//! The seal itself is a short text that binds that file by its SHA-256, the chain at both ends of the range, and the seal
//! before it; it holds nothing of anybody, so that it stays when the rows are removed after their retention. All lines end
//! with a line feed:
//!
//! ```text
//! pec-milter seal 1
//! number 12
//! provider Alfa S.p.A.
//! sealed 2026-07-16T00:00:03+02:00
//! rows 101 240
//! newest 2026-07-15T23:59:58+02:00
//! before HASH-OF-ROW-100
//! last HASH-OF-ROW-240
//! previous SHA-256-OF-THE-SEAL-BEFORE
//! SHA-256-OF-THE-ROWS  000012-2026-07-15.rows
//! ```
//!
//! For the first seal `before` and `previous` are zeros. The last line is of the form that `sha256sum --check` reads. This
//! form never changes once released.

use sha2::{Digest, Sha256};

use crate::legal_log::{Entry, EventKind, Link, Slot, hexadecimal, line};
use crate::model::TemporalReference;

/// The first line of every seal.
const FORM: &str = "pec-milter seal 1";

/// A sealed range of rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seal {
    /// From 1, without gaps.
    pub number: u64,
    /// The provider whose log it is.
    pub provider: String,
    /// When it was made.
    pub sealed: TemporalReference,
    /// The row before the first one, whose hash the range goes on from.
    pub before: Link,
    /// The last row.
    pub last: Link,
    /// The newest instant that a row of the range bears: its retention ends last.
    pub newest: TemporalReference,
    /// The SHA-256 of the seal before, as it lies on disk; zeros for the first.
    pub previous: [u8; 32],
    /// The SHA-256 of the exported rows.
    pub rows: [u8; 32],
}

/// Why a text is no seal.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    #[error("it is not the text of a seal: line {0} is not what stands there in one")]
    Line(usize),
    #[error("it is not written as seals are")]
    Form,
}

impl Seal {
    /// What its files are called, without ending: the number, and the day of its newest row, legal Italian time.
    pub fn name(&self) -> String {
        format!("{:06}-{}", self.number, self.newest.date())
    }

    /// The first row.
    pub fn first(&self) -> i64 {
        self.before.sequence.saturating_add(1)
    }

    pub fn holds(&self, sequence: i64) -> bool {
        (self.first()..=self.last.sequence).contains(&sequence)
    }

    pub fn to_text(&self) -> String {
        let Seal { number, provider, sealed, before, last, newest, previous, rows } = self;
        let provider = in_one_line(provider);
        [
            FORM.to_owned(),
            format!("number {number}"),
            format!("provider {provider}"),
            format!("sealed {}", sealed.rfc3339()),
            format!("rows {} {}", self.first(), last.sequence),
            format!("newest {}", newest.rfc3339()),
            format!("before {}", hexadecimal(&before.hash)),
            format!("last {}", hexadecimal(&last.hash)),
            format!("previous {}", hexadecimal(previous)),
            format!("{}  {}.rows\n", hexadecimal(rows), self.name()),
        ]
        .join("\n")
    }

    pub fn from_text(text: &str) -> Result<Self, SealError> {
        let lines: Vec<&str> = text.lines().collect();
        let wrong = |index: usize| move || SealError::Line(index + 1);
        let value = |index: usize, key: &str| {
            let line = lines.get(index).and_then(|line| line.strip_prefix(key));
            line.and_then(|rest| rest.strip_prefix(' ')).ok_or_else(wrong(index))
        };
        let hash = |index: usize, key: &str| value(index, key).and_then(|text| octets(text).ok_or_else(wrong(index)));
        let instant = |index: usize, key: &str| {
            value(index, key).and_then(|text| TemporalReference::from_rfc3339(text).ok_or_else(wrong(index)))
        };
        if lines.first() != Some(&FORM) {
            return Err(SealError::Line(1));
        }
        let range = value(4, "rows")?.split_once(' ').ok_or_else(wrong(4))?;
        let (first, last): (i64, i64) =
            range.0.parse().and_then(|first| Ok((first, range.1.parse()?))).map_err(|_| SealError::Line(5))?;
        let rows = lines.get(9).and_then(|line| line.split_once("  ")).ok_or_else(wrong(9))?.0;
        let seal = Seal {
            number: value(1, "number")?.parse().map_err(|_| SealError::Line(2))?,
            provider: value(2, "provider")?.to_owned(),
            sealed: instant(3, "sealed")?,
            newest: instant(5, "newest")?,
            before: Link { sequence: first.saturating_sub(1), hash: hash(6, "before")? },
            last: Link { sequence: last, hash: hash(7, "last")? },
            previous: hash(8, "previous")?,
            rows: octets(rows).ok_or_else(wrong(9))?,
        };
        match seal.to_text() == text && first >= 1 && last >= first {
            true => Ok(seal),
            false => Err(SealError::Form),
        }
    }

    /// The SHA-256 of its text: what the next seal, and the log, know it by.
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(self.to_text()).into()
    }

    /// The entry by which it enters the chain itself.
    pub fn entry(&self) -> Entry {
        let details = serde_json::json!({
            "number": self.number,
            "first": self.first(),
            "last": self.last.sequence,
            "newest": self.newest.unix(),
            "name": self.name(),
            "sha256": hexadecimal(&self.digest()),
            "rows_sha256": hexadecimal(&self.rows),
        });
        Entry {
            details: Some(details.to_string()),
            slot: Some(Slot::seal(self.number)),
            ..Entry::new(EventKind::Seal, self.sealed)
        }
    }
}

/// A provider's name as a seal tells it: with a line break it would make two lines of one.
pub fn in_one_line(name: &str) -> String {
    name.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// What the log says of a seal that entered it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    pub number: u64,
    /// When it was made.
    pub at: TemporalReference,
    /// The first and the last row of its range.
    pub first: i64,
    pub last: i64,
    pub name: String,
    /// The SHA-256 of its text.
    pub sha256: [u8; 32],
}

impl Sealed {
    /// None for an entry of another kind, or one that this program did not write.
    pub fn of(entry: &Entry) -> Option<Self> {
        if entry.kind != EventKind::Seal {
            return None;
        }
        let details: serde_json::Value = serde_json::from_str(entry.details.as_deref()?).ok()?;
        Some(Sealed {
            number: details.get("number")?.as_u64()?,
            at: entry.at,
            first: details.get("first")?.as_i64()?,
            last: details.get("last")?.as_i64()?,
            name: details.get("name")?.as_str()?.to_owned(),
            sha256: octets(details.get("sha256")?.as_str()?)?,
        })
    }
}

/// The time stamp of a seal, as the log knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamped {
    /// Of the seal.
    pub number: u64,
    /// The SHA-256 of the authority's answer.
    pub sha256: [u8; 32],
    /// The instant that the authority certifies.
    pub at: TemporalReference,
    /// The number that it gave the stamp.
    pub serial: String,
    /// The subject of its certificate.
    pub authority: String,
}

impl Stamped {
    /// None for an entry of another kind, or one that this program did not write.
    pub fn of(entry: &Entry) -> Option<Self> {
        if entry.kind != EventKind::Stamp {
            return None;
        }
        let details: serde_json::Value = serde_json::from_str(entry.details.as_deref()?).ok()?;
        Some(Stamped {
            number: details.get("number")?.as_u64()?,
            sha256: octets(details.get("sha256")?.as_str()?)?,
            at: TemporalReference::from_unix(details.get("at")?.as_i64()?),
            serial: details.get("serial")?.as_str()?.to_owned(),
            authority: details.get("authority")?.as_str()?.to_owned(),
        })
    }

    /// The entry by which it enters the chain.
    pub fn entry(&self, recorded: TemporalReference) -> Entry {
        let details = serde_json::json!({
            "number": self.number,
            "sha256": hexadecimal(&self.sha256),
            "at": self.at.unix(),
            "serial": self.serial,
            "authority": self.authority,
        });
        Entry {
            details: Some(details.to_string()),
            slot: Some(Slot::stamp(self.number)),
            ..Entry::new(EventKind::Stamp, recorded)
        }
    }
}

/// One of the files of a seal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The exported rows; they go when the rows are purged.
    Rows,
    /// The text of the seal.
    Seal,
    /// The detached signature over that text (CMS, DER).
    Signature,
    /// The time stamp over the signature (RFC 3161 TimeStampResp, DER).
    Stamp,
}

impl Part {
    pub const ALL: [Self; 4] = [Self::Rows, Self::Seal, Self::Signature, Self::Stamp];

    /// The ending of the file's name.
    pub fn ending(self) -> &'static str {
        match self {
            Self::Rows => "rows",
            Self::Seal => "seal",
            Self::Signature => "p7s",
            Self::Stamp => "tsr",
        }
    }
}

/// What lies in the folder of the seals under one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub number: u64,
    pub name: String,
    /// Which of its files are there.
    pub parts: Vec<Part>,
}

impl Found {
    pub fn has(&self, part: Part) -> bool {
        self.parts.contains(&part)
    }
}

/// One row as it stands in the export, with its line feed.
pub fn exported(link: &Link, entry: &Entry) -> String {
    format!("{} {}\n", hexadecimal(&link.hash), line::write(link.sequence, entry))
}

/// The 32 octets that 64 lower-case hexadecimal digits mean.
pub fn octets(text: &str) -> Option<[u8; 32]> {
    let mut octets = [0; 32];
    if text.len() != 64 || text.bytes().any(|octet| octet.is_ascii_uppercase()) {
        return None;
    }
    for (octet, place) in octets.iter_mut().zip((0..64).step_by(2)) {
        *octet = text.get(place..place + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok())?;
    }
    Some(octets)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seal() -> Seal {
        Seal {
            number: 12,
            provider: "Alfa S.p.A.".into(),
            sealed: TemporalReference::from_rfc3339("2026-07-16T00:00:03+02:00").unwrap(),
            before: Link { sequence: 100, hash: [1; 32] },
            last: Link { sequence: 240, hash: [2; 32] },
            newest: TemporalReference::from_rfc3339("2026-07-15T23:59:58+02:00").unwrap(),
            previous: [3; 32],
            rows: [4; 32],
        }
    }

    #[test]
    fn a_seal_is_text_and_back() {
        let text = seal().to_text();
        assert_eq!(text.lines().count(), 10);
        assert!(text.ends_with(&format!("{}  000012-2026-07-15.rows\n", "04".repeat(32))), "{text}");
        assert_eq!(Seal::from_text(&text).unwrap(), seal());
        assert!(seal().holds(101) && seal().holds(240) && !seal().holds(100) && !seal().holds(241));
    }

    #[test]
    fn an_altered_seal_is_none_or_another() {
        let text = seal().to_text();
        for place in 0..text.len() {
            let mut octets = text.clone().into_bytes();
            octets[place] ^= 1;
            let altered = String::from_utf8(octets).unwrap();
            assert_ne!(Seal::from_text(&altered).ok(), Some(seal()), "{altered}");
        }
        for (altered, wanted) in [
            (text.replace("seal 1\n", "seal 2\n"), "line 1"),
            (text.replace("number 12", "number -1"), "line 2"),
            (text.replace("rows 101 240", "rows 101"), "line 5"),
            (text.replace("rows 101 240", "rows 241 240"), "not written"),
            (text.replace("last 02", "last 0G"), "line 8"),
            (format!("{text}more\n"), "not written"),
            (text.trim_end().to_owned(), "not written"),
            (String::new(), "line 1"),
        ] {
            let error = Seal::from_text(&altered).unwrap_err().to_string();
            assert!(error.contains(wanted), "{altered}: {error}");
        }
    }

    #[test]
    fn what_the_log_says_of_seal_and_stamp_is_read_again() {
        let sealed = Sealed::of(&seal().entry()).unwrap();
        assert_eq!((sealed.number, sealed.last, sealed.name.as_str()), (12, 240, "000012-2026-07-15"));
        assert_eq!((sealed.sha256, sealed.at), (seal().digest(), seal().sealed));
        let stamped = Stamped {
            number: 12,
            sha256: [5; 32],
            at: seal().newest,
            serial: "0A".into(),
            authority: "CN=\"Clock\"".into(),
        };
        let entry = stamped.entry(seal().sealed);
        assert_eq!((entry.slot.clone(), entry.at), (Some(Slot::stamp(12)), seal().sealed));
        assert_eq!(Stamped::of(&entry), Some(stamped));
        assert_eq!((Sealed::of(&entry), Stamped::of(&seal().entry())), (None, None));
        assert_eq!(Sealed::of(&Entry { details: Some("{}".into()), ..seal().entry() }), None);
    }

    #[test]
    fn the_log_knows_a_seal_by_the_digest_of_its_text() {
        let entry = seal().entry();
        assert_eq!(entry.slot, Some(Slot::seal(12)));
        assert!(entry.details.unwrap().contains(&hexadecimal(&Sha256::digest(seal().to_text()).into())));
    }
}
