//! Computes everything anew that the log and its seals claim, offline (§2.3).
//!
//! The seals come first, by number: each is bound to the one before, signed by the provider, stamped. A seal that holds
//! knows the hash of the last row of its range, so the rows of the database and the exported rows are each followed along
//! the chain to that hash; where they do not come to it, the intact side tells which row of the other is the first that is
//! not as it was written (`ranges`). Rows behind the last seal have the chain and the tail alone. What the log says of its
//! seals is held against their files last. Rows are read one by one; only the seals are kept in memory.
//!
//! Without a log the files are verified alone. A violation is told and nothing ends for it; only what cannot be read at all
//! is an error.

pub(in crate::operations) mod lines;
mod ranges;
mod selected;
mod signed;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;

use jiff::civil::Date;
use sha2::{Digest, Sha256};

use crate::legal_log::purge::Purged;
use crate::legal_log::seal::Seal;
use crate::legal_log::verification::{Told, ToldSeal};
use crate::legal_log::{Link, Slot, hexadecimal};
use crate::model::{Provider, Retention, TemporalReference};
use crate::operations::causes;
use crate::operations::ports::{EvidenceError, LogEvidence, SealEvidence};
use crate::smime::{SignerCertificate, Trust};

pub use selected::Selected;

/// What two clocks may differ, in seconds.
const CLOCKS: i64 = 300;

/// What the evidence is held against.
pub struct Standards<'a> {
    /// The CAs of the provider's signatures.
    pub trust: &'a Trust,
    /// The CAs of the time stamps; without them these are not judged.
    pub stampers: Option<&'a Trust>,
    /// Whose log it must be; without it that of whoever signed it.
    pub own: Option<Own<'a>>,
    /// Whether a seal must have its stamp after some days.
    pub needs_stamps: bool,
    /// Asked when it matters: a verification may take hours, and the daemon goes on meanwhile.
    pub now: &'a dyn Fn() -> TemporalReference,
}

/// The provider of this installation.
#[derive(Clone, Copy)]
pub struct Own<'a> {
    pub provider: &'a Provider,
    /// All it has or had, as far as the configuration names them.
    pub certificates: &'a [SignerCertificate],
}

/// The days to verify; without any, everything.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Period {
    pub from: Option<Date>,
    pub to: Option<Date>,
}

/// Something that is not as it should be, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Else it is a warning: nothing is proven to be altered.
    pub is_violation: bool,
    pub place: String,
    pub what: String,
}

/// What was verified.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// Rows of the database.
    pub rows: u64,
    /// Rows of the exports.
    pub exported: u64,
    pub seals: u64,
    pub stamped: u64,
    /// Seals whose rows are purged.
    pub purged: u64,
    /// The name in the last seal.
    pub provider: Option<String>,
    pub violations: u64,
    pub warnings: u64,
}

/// A seal of the folder.
struct Sealed {
    number: u64,
    name: String,
    /// With its digest; none where it cannot be read as the seal of this name.
    seal: Option<(Seal, [u8; 32])>,
}

struct Verification<'a, L, S> {
    log: Option<&'a L>,
    seals: &'a S,
    standards: &'a Standards<'a>,
    tell: &'a mut dyn FnMut(&Finding),
    summary: Summary,
    told: Told,
    gaps: Vec<Purged>,
    /// How far the database was followed.
    position: Link,
    /// The end of the database was reached before the end of the seals, or it cannot be read on.
    is_cut: bool,
    signer: Option<SignerCertificate>,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.is_violation { "VIOLATION" } else { "warning" };
        write!(f, "{word} {}: {}", self.place, self.what)
    }
}

/// Verifies the log, if there is one, and the seals; tells each finding as it comes up.
pub fn verify<L: LogEvidence, S: SealEvidence>(
    log: Option<&L>,
    seals: &S,
    standards: &Standards<'_>,
    period: Period,
    tell: &mut dyn FnMut(&Finding),
) -> Result<Summary, EvidenceError> {
    let mut verification = Verification {
        log,
        seals,
        standards,
        tell,
        summary: Summary::default(),
        told: Told::default(),
        gaps: Vec::new(),
        position: Link::BEFORE_FIRST,
        is_cut: false,
        signer: None,
    };
    verification.all(period)?;
    Ok(verification.summary)
}

impl<L: LogEvidence, S: SealEvidence> Verification<'_, L, S> {
    fn all(&mut self, period: Period) -> Result<(), EvidenceError> {
        let is_everything = period == Period::default();
        let all = self.list()?;
        if let Some(log) = self.log {
            let gaps = self.readable("database", log.gaps())?;
            self.gaps = gaps.unwrap_or_default();
        }
        let chosen = chosen(&all, period);
        if !is_everything {
            // What lies before the period is taken from its first seal.
            let first = chosen.first().copied().or(all.last());
            let from = |sealed: &Sealed| {
                let (seal, _) = sealed.seal.as_ref()?;
                Some(if chosen.is_empty() { seal.last } else { seal.before })
            };
            self.position = first.and_then(from).unwrap_or(Link::BEFORE_FIRST);
        }
        for sealed in &chosen {
            let is_last = all.last().is_some_and(|last| last.name == sealed.name);
            self.one(sealed, is_last)?;
        }
        if self.log.is_some() && reaches_end(&all, period) {
            self.tail()?;
        }
        self.compare_with_log(&chosen, &all, is_everything)?;
        self.check_purges(&all);
        if is_everything {
            if let Some(log) = self.log {
                for defect in self.readable("database", log.defects())?.unwrap_or_default() {
                    self.violation("database", defect);
                }
            }
        }
        Ok(())
    }

    /// The seals of the folder, held against one another.
    fn list(&mut self) -> Result<Vec<Sealed>, EvidenceError> {
        let mut all: Vec<Sealed> = Vec::new();
        for (number, name) in self.seals.names()? {
            let place = format!("{name}.seal");
            let files = self.readable(&place, self.seals.files(&name))?.unwrap_or_default();
            let seal = files.seal.and_then(|octets| self.read_seal(&place, number, &name, &octets));
            let sealed = Sealed { number, name, seal };
            self.check_order(all.last(), &sealed);
            all.push(sealed);
        }
        Ok(all)
    }

    fn read_seal(&mut self, place: &str, number: u64, name: &str, octets: &[u8]) -> Option<(Seal, [u8; 32])> {
        match Seal::from_text(&String::from_utf8_lossy(octets)) {
            Ok(seal) if seal.number == number && seal.name() == name => Some((seal, Sha256::digest(octets).into())),
            Ok(seal) => {
                self.violation(place, format!("its text is that of {}", seal.name()));
                None
            }
            Err(error) => {
                self.violation(place, error.to_string());
                None
            }
        }
    }

    /// Each seal is bound to the one before, and its rows go on where those end.
    fn check_order(&mut self, before: Option<&Sealed>, sealed: &Sealed) {
        let place = format!("{}.seal", sealed.name);
        let expected = before.map_or(1, |before| before.number.saturating_add(1));
        if sealed.number < expected {
            return self.violation(&place, "another seal has its number".to_owned());
        }
        if sealed.number > expected {
            let missing = match sealed.number - expected {
                1 => format!("the seal {expected} before it is missing"),
                _ => format!("the seals {expected} to {} before it are missing", sealed.number - 1),
            };
            // An export may begin anywhere.
            let is_violation = self.log.is_some() || before.is_some();
            return self.finding(is_violation, &place, missing);
        }
        let Some((seal, _)) = &sealed.seal else { return };
        let (last, digest) = match before.map(|before| &before.seal) {
            None => (Link::BEFORE_FIRST, [0; 32]),
            Some(Some((before, digest))) => (before.last, *digest),
            Some(None) => return,
        };
        if seal.previous != digest {
            self.violation(&place, "it is bound to another seal than the one before it here".to_owned());
        } else if seal.before != last {
            self.violation(&place, "its rows do not go on where those of the seal before end".to_owned());
        }
    }

    fn one(&mut self, sealed: &Sealed, is_last: bool) -> Result<(), EvidenceError> {
        let Sealed { name, number, seal } = sealed;
        let place = format!("{name}.seal");
        let files = self.readable(&place, self.seals.files(name))?.unwrap_or_default();
        if is_last && (files.seal.is_none() || files.signature.is_none()) && files.stamp.is_none() {
            if let Some(log) = self.log {
                if self.readable("database", log.of_slot(&Slot::seal(*number)))?.flatten().is_none() {
                    let what = "its sealing was not finished; the next one begins anew".to_owned();
                    self.finding(false, &place, what);
                    return Ok(());
                }
            }
        }
        let (Some((seal, _)), Some(octets)) = (seal, &files.seal) else {
            if files.seal.is_none() {
                self.violation(&place, "the seal is missing".to_owned());
            }
            return Ok(());
        };
        self.summary.seals += 1;
        self.summary.provider = Some(seal.provider.clone());
        let holds = self.check_signature(sealed, seal, octets, files.signature.as_deref())?;
        if let Some(signature) = &files.signature {
            self.check_stamp(sealed, seal, signature, files.stamp.as_deref());
        }
        self.check_rows(sealed, seal, holds)
    }

    /// What the rows about seals say, beside their files.
    fn compare_with_log(
        &mut self,
        chosen: &[&Sealed],
        all: &[Sealed],
        is_everything: bool,
    ) -> Result<(), EvidenceError> {
        for sealed in chosen {
            let Sealed { number, name, seal } = sealed;
            let mut files = self.readable(name, self.seals.files(name))?.unwrap_or_default();
            self.ask_log_for(*number)?;
            let is_told = |told: &BTreeMap<u64, ToldSeal>| told.contains_key(number);
            if (files.seal.is_none() && is_told(&self.told.seals))
                || (files.stamp.is_none() && is_told(&self.told.stamps))
            {
                // The daemon writes a file before it records it, perhaps meanwhile.
                files = self.readable(name, self.seals.files(name))?.unwrap_or_default();
            }
            let digest = |octets: &Option<Vec<u8>>| octets.as_ref().map(|octets| Sha256::digest(octets).into());
            for (told, found, ending, slot) in [
                (self.told.seals.get(number).copied(), digest(&files.seal), "seal", Slot::seal(*number)),
                (self.told.stamps.get(number).copied(), digest(&files.stamp), "tsr", Slot::stamp(*number)),
            ] {
                let place = format!("{name}.{ending}");
                match (told, found) {
                    (Some(told), Some(found)) if told.sha256 != found => self.violation(
                        &place,
                        format!(
                            "row {} of the log knows it with SHA-256 {}, here it is {}",
                            told.sequence,
                            hexadecimal(&told.sha256),
                            hexadecimal(&found)
                        ),
                    ),
                    (Some(told), None) => {
                        self.violation(&place, format!("it is missing; row {} of the log tells of it", told.sequence));
                    }
                    (None, Some(_)) if self.log.is_some() && !self.is_cut => {
                        let is_purged = self.is_purged_after(seal.as_ref().map(|(seal, _)| seal.last.sequence));
                        // Killed between writing a file and recording it; the next sealing makes up for it.
                        let is_last = all.last().is_some_and(|last| last.number == *number);
                        if !is_purged {
                            let is_violation = ending == "seal" && (!is_last || files.stamp.is_some());
                            self.finding(is_violation, &place, format!("the log has no row {:?}", slot.as_str()));
                        }
                    }
                    _ => {}
                }
            }
        }
        if is_everything && self.log.is_some() {
            // The daemon may have sealed meanwhile.
            let names = self.seals.names()?;
            let lost: Vec<(u64, i64)> = (self.told.seals.iter())
                .filter(|(number, _)| !all.iter().any(|sealed| sealed.number == **number))
                .filter(|(number, _)| !names.iter().any(|(listed, _)| listed == *number))
                .map(|(number, told)| (*number, told.sequence))
                .collect();
            for (number, sequence) in lost {
                self.violation("seals", format!("seal {number} is missing; row {sequence} of the log tells of it"));
            }
        }
        Ok(())
    }

    /// The rows about a seal may lie outside the period.
    fn ask_log_for(&mut self, number: u64) -> Result<(), EvidenceError> {
        let Some(log) = self.log else { return Ok(()) };
        for slot in [Slot::seal(number), Slot::stamp(number)] {
            let row = self.readable("database", log.of_slot(&slot))?.flatten();
            row.iter().for_each(|row| self.told.hear_entry(row.sequence, &row.entry));
        }
        Ok(())
    }

    /// Whether the rows behind this one, which would tell of the seal, are purged.
    fn is_purged_after(&self, last: Option<i64>) -> bool {
        last.is_some_and(|last| self.gaps.iter().any(|gap| gap.first <= last + 1 && gap.last.sequence > last))
    }

    /// Only whole sealed ranges go, and none before its time. What a purge says of itself proves nothing: whoever can add a
    /// row can forge one, so each seal whose rows are gone is held against today.
    fn check_purges(&mut self, all: &[Sealed]) {
        let seals = || all.iter().filter_map(|sealed| sealed.seal.as_ref().map(|(seal, _)| seal));
        let now = (self.standards.now)();
        let mut wrong = Vec::new();
        for gap in self.gaps.iter().filter(|_| self.log.is_some()) {
            let begins = seals().any(|seal| seal.first() == gap.first);
            let ends = seals().any(|seal| seal.last == gap.last);
            if !begins || !ends {
                let (first, last) = (gap.first, gap.last.sequence);
                wrong.push(format!("rows {first} to {last} were purged, and are no whole sealed ranges"));
            }
        }
        for seal in seals().filter(|_| self.log.is_some()) {
            let (first, last) = (seal.first(), seal.last.sequence);
            let is_gone = self.gaps.iter().any(|gap| gap.first <= last && first <= gap.last.sequence);
            if is_gone && !Retention::LEAST.is_over(seal.newest.date(), now.date()) {
                wrong.push(format!("rows {first} to {last}, of {}, were purged before their time", seal.name()));
            }
        }
        for (sequence, (number, at)) in &self.told.purges {
            if at.unix().saturating_sub(now.unix()) > CLOCKS {
                wrong.push(format!("row {sequence} is a purge of {}, which is still to come", at.rfc3339()));
            }
            // An export may begin anywhere.
            if self.log.is_some() && !all.iter().any(|sealed| sealed.number == *number) {
                wrong.push(format!("row {sequence} purges the rows of seal {number}, and there is none"));
            }
            let newest = seals().find(|seal| seal.number == *number).map(|seal| seal.newest);
            if newest.is_some_and(|newest| !Retention::LEAST.is_over(newest.date(), at.date())) {
                wrong.push(format!("row {sequence} purges the rows of seal {number} before their time"));
            }
        }
        wrong.into_iter().for_each(|what| self.violation("database", what));
    }

    /// Damage is a finding, and nothing of it is known; all else ends the verification.
    fn readable<T>(&mut self, place: &str, read: Result<T, EvidenceError>) -> Result<Option<T>, EvidenceError> {
        match read {
            Ok(read) => Ok(Some(read)),
            Err(error) if error.is_damage => {
                self.violation(place, causes(&error));
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn violation(&mut self, place: &str, what: String) {
        self.finding(true, place, what);
    }

    fn finding(&mut self, is_violation: bool, place: &str, what: String) {
        *(if is_violation { &mut self.summary.violations } else { &mut self.summary.warnings }) += 1;
        (self.tell)(&Finding { is_violation, place: place.to_owned(), what });
    }
}

/// The seals whose rows may be of the period: each has those that were recorded since the seal before.
fn chosen(all: &[Sealed], period: Period) -> Vec<&Sealed> {
    let mut begins: Option<Date> = None;
    let mut chosen = Vec::new();
    for sealed in all {
        let seal = sealed.seal.as_ref().map(|(seal, _)| seal);
        let is_late = begins.zip(period.to).is_some_and(|(begins, to)| begins > to);
        let is_early = seal.zip(period.from).is_some_and(|(seal, from)| seal.newest.date() < from);
        if !is_late && !is_early {
            chosen.push(sealed);
        }
        begins = seal.map(|seal| seal.sealed.date()).or(begins);
    }
    chosen
}

/// Whether the period goes on behind the last seal.
fn reaches_end(all: &[Sealed], period: Period) -> bool {
    let last = all.iter().rev().find_map(|sealed| sealed.seal.as_ref());
    period.to.zip(last).is_none_or(|(to, (seal, _))| to >= seal.sealed.date())
}
