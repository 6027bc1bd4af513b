//! A log of three sealed ranges and some rows behind them, in memory, and what somebody makes of it.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::{BufRead, Cursor};

use super::*;
use crate::legal_log::verification::{FoundRow, Row};
use crate::legal_log::{Entry, EventKind, Recorded, purge, seal};
use crate::operations::ports::SealFiles;
use crate::smime::Engine;
use crate::smime::testing::{NOW, read, signer};

const PROVIDER: &str = "Alfa PEC S.p.A.";

#[derive(Clone)]
struct Log {
    rows: Vec<(Link, Entry)>,
    tail: Link,
}

#[derive(Clone, Default)]
struct Folder(BTreeMap<String, Vec<u8>>);

#[derive(Clone)]
struct Evidence {
    log: Log,
    folder: Folder,
    seals: Vec<Seal>,
    /// When it is verified.
    now: TemporalReference,
}

impl LogEvidence for Log {
    fn rows(&self, after: i64, until: i64) -> impl Iterator<Item = Result<FoundRow, EvidenceError>> {
        let mut rows: Vec<_> =
            self.rows.iter().filter(|(link, _)| (after + 1..=until).contains(&link.sequence)).collect();
        rows.sort_by_key(|(link, _)| link.sequence);
        rows.into_iter().map(|(link, entry)| Ok(Ok(Row::new(*link, entry)))).collect::<Vec<_>>().into_iter()
    }

    fn last_and_tail(&self) -> Result<(Link, Link), EvidenceError> {
        Ok((self.rows.last().map_or(Link::BEFORE_FIRST, |(link, _)| *link), self.tail))
    }

    fn gaps(&self) -> Result<Vec<Purged>, EvidenceError> {
        Ok(self.rows.iter().rev().find_map(|(_, entry)| purge::purged(entry)).unwrap_or_default())
    }

    fn of_slot(&self, slot: &Slot) -> Result<Option<Recorded>, EvidenceError> {
        let found = self.rows.iter().find(|(_, entry)| entry.slot.as_ref() == Some(slot));
        Ok(found.map(|(link, entry)| Recorded { sequence: link.sequence, entry: entry.clone(), is_new: false }))
    }

    fn defects(&self) -> Result<Vec<String>, EvidenceError> {
        Ok(Vec::new())
    }
}

impl SealEvidence for Folder {
    fn names(&self) -> Result<Vec<(u64, String)>, EvidenceError> {
        let mut names: Vec<_> = self.0.keys().filter_map(|file| file.split_once('.')).collect();
        names.dedup_by_key(|(name, _)| *name);
        Ok(names.into_iter().map(|(name, _)| (name[..6].parse().unwrap(), name.to_owned())).collect())
    }

    fn files(&self, name: &str) -> Result<SealFiles, EvidenceError> {
        let file = |ending: &str| self.0.get(&format!("{name}.{ending}")).cloned();
        Ok(SealFiles { seal: file("seal"), signature: file("p7s"), stamp: file("tsr") })
    }

    fn rows(&self, name: &str) -> Result<Option<impl BufRead + '_>, EvidenceError> {
        Ok(self.0.get(&format!("{name}.rows")).map(Cursor::new))
    }
}

/// A log and its folder while the daemon goes on: what is asked first is of the moment before.
struct Meanwhile<'a> {
    before: &'a Evidence,
    after: &'a Evidence,
    is_after: Cell<bool>,
}

impl Meanwhile<'_> {
    fn now(&self) -> &Evidence {
        if self.is_after.replace(true) { self.after } else { self.before }
    }
}

impl LogEvidence for Meanwhile<'_> {
    fn rows(&self, after: i64, until: i64) -> impl Iterator<Item = Result<FoundRow, EvidenceError>> {
        self.after.log.rows(after, until)
    }

    fn last_and_tail(&self) -> Result<(Link, Link), EvidenceError> {
        self.after.log.last_and_tail()
    }

    fn gaps(&self) -> Result<Vec<Purged>, EvidenceError> {
        self.now().log.gaps()
    }

    fn of_slot(&self, slot: &Slot) -> Result<Option<Recorded>, EvidenceError> {
        self.after.log.of_slot(slot)
    }

    fn defects(&self) -> Result<Vec<String>, EvidenceError> {
        self.after.log.defects()
    }
}

impl SealEvidence for Meanwhile<'_> {
    fn names(&self) -> Result<Vec<(u64, String)>, EvidenceError> {
        self.now().folder.names()
    }

    fn files(&self, name: &str) -> Result<SealFiles, EvidenceError> {
        self.after.folder.files(name)
    }

    fn rows(&self, name: &str) -> Result<Option<impl BufRead + '_>, EvidenceError> {
        self.after.folder.rows(name)
    }
}

impl Evidence {
    fn new() -> Self {
        let log = Log { rows: Vec::new(), tail: Link::BEFORE_FIRST };
        let now = TemporalReference::from_unix(NOW + 86_400);
        let mut evidence = Evidence { log, folder: Folder::default(), seals: Vec::new(), now };
        for _ in 0..3 {
            evidence.write(5);
            evidence.seal();
        }
        evidence.write(4);
        evidence
    }

    fn add(&mut self, entry: Entry) {
        let last = self.log.tail.next(&entry);
        self.log.rows.push((last, entry));
        self.log.tail = last;
    }

    fn write(&mut self, count: i64) {
        for _ in 0..count {
            let sequence = self.log.tail.sequence + 1;
            self.add(Entry {
                recipient: Some(format!("bruno{sequence}@beta.example")),
                ..Entry::new(EventKind::Delivery, TemporalReference::from_unix(NOW + sequence * 3600))
            });
        }
    }

    fn seal(&mut self) {
        let before = self.seals.last().map_or(Link::BEFORE_FIRST, |seal| seal.last);
        let rows = self.log.rows.iter().filter(|(link, _)| link.sequence > before.sequence);
        let export: String = rows.clone().map(|(link, entry)| seal::exported(link, entry)).collect();
        let newest = rows.map(|(_, entry)| entry.at).max().unwrap();
        let seal = Seal {
            number: self.seals.len() as u64 + 1,
            provider: PROVIDER.to_owned(),
            sealed: TemporalReference::from_unix(newest.unix() + 60),
            before,
            last: self.log.tail,
            newest,
            previous: self.seals.last().map_or([0; 32], Seal::digest),
            rows: Sha256::digest(&export).into(),
        };
        self.put(&seal, export);
        self.add(seal.entry());
        self.seals.push(seal);
    }

    fn put(&mut self, seal: &Seal, export: String) {
        let signature = signer(Engine::AwsLc).detached(seal.digest(), seal.sealed).unwrap();
        for (ending, octets) in
            [("rows", export.into_bytes()), ("seal", seal.to_text().into_bytes()), ("p7s", signature)]
        {
            self.folder.0.insert(format!("{}.{ending}", seal.name()), octets);
        }
    }

    fn name(&self, number: usize) -> String {
        self.seals[number - 1].name()
    }

    fn file(&mut self, number: usize, ending: &str) -> &mut Vec<u8> {
        let file = format!("{}.{ending}", self.name(number));
        self.folder.0.get_mut(&file).unwrap()
    }

    fn row(&mut self, sequence: i64) -> &mut (Link, Entry) {
        self.log.rows.iter_mut().find(|(link, _)| link.sequence == sequence).unwrap()
    }

    /// Gives all rows from this one on hashes that fit, and the tail.
    fn rechain(&mut self, from: i64) {
        let mut last = Link::BEFORE_FIRST;
        for (link, entry) in &mut self.log.rows {
            if link.sequence >= from {
                *link = last.next(entry);
            }
            last = *link;
        }
        self.log.tail = last;
    }

    fn verify(&self, with_log: bool, period: Period) -> (Summary, Vec<String>) {
        self.verify_in(with_log.then_some(&self.log), &self.folder, period)
    }

    /// What the daemon wrote since `before` came while this was verified.
    fn verify_since(&self, before: &Evidence) -> (Summary, Vec<String>) {
        let meanwhile = || Meanwhile { before, after: self, is_after: Cell::new(false) };
        self.verify_in(Some(&meanwhile()), &meanwhile(), Period::default())
    }

    fn verify_in<L: LogEvidence, S: SealEvidence>(
        &self,
        log: Option<&L>,
        folder: &S,
        period: Period,
    ) -> (Summary, Vec<String>) {
        let trust = Trust::from_pem(&read("certificates/root.pem")).unwrap();
        let now = || self.now;
        let standards = Standards { trust: &trust, stampers: None, own: None, needs_stamps: true, now: &now };
        let mut told = Vec::new();
        let mut tell = |finding: &Finding| {
            if finding.is_violation {
                told.push(format!("{}: {}", finding.place, finding.what));
            }
        };
        let summary = verify(log, folder, &standards, period, &mut tell).unwrap();
        assert_eq!(summary.violations, told.len() as u64);
        (summary, told)
    }

    /// The one thing that is wrong.
    fn only(&self) -> String {
        let (_, told) = self.verify(true, Period::default());
        assert_eq!(told.len(), 1, "{told:#?}");
        told[0].clone()
    }

    fn first(&self) -> String {
        self.verify(true, Period::default()).1.first().cloned().unwrap_or_default()
    }

    fn first_exported(&self) -> String {
        self.verify(false, Period::default()).1.first().cloned().unwrap_or_default()
    }
}

#[test]
fn what_nobody_touched_verifies_from_both_sides() {
    let evidence = Evidence::new();
    let (summary, told) = evidence.verify(true, Period::default());
    assert_eq!(told, [""; 0]);
    assert_eq!((summary.rows, summary.exported, summary.seals), (22, 17, 3));
    let (summary, told) = evidence.verify(false, Period::default());
    assert_eq!(told, [""; 0]);
    assert_eq!((summary.rows, summary.exported, summary.provider.as_deref()), (0, 17, Some(PROVIDER)));
}

#[test]
fn a_row_of_the_database_that_was_changed_is_named_with_its_seal() {
    let mut evidence = Evidence::new();
    evidence.row(8).1.recipient = Some("nobody@beta.example".to_owned());
    let expected = format!("database, rows of {}: row 8 was changed: its recipient", evidence.name(2));
    assert_eq!(evidence.only(), expected);
    // And so when all hashes after it fit again, and the tail.
    evidence.rechain(8);
    assert!(evidence.first().starts_with(&format!("database, rows of {}: row 8 was changed", evidence.name(2))));
    assert_eq!(evidence.first_exported(), "");
}

#[test]
fn removed_inserted_and_re_ordered_rows_are_named() {
    let mut evidence = Evidence::new();
    evidence.log.rows.retain(|(link, _)| ![9, 10].contains(&link.sequence));
    assert!(evidence.only().ends_with("rows 9 to 10 were removed"));

    let mut evidence = Evidence::new();
    let stranger = Entry::new(EventKind::Delivery, TemporalReference::from_unix(NOW));
    evidence.log.rows.insert(8, (Link { sequence: 0, hash: [1; 32] }, stranger));
    evidence.log.rows.iter_mut().zip(1..).for_each(|((link, _), sequence)| link.sequence = sequence);
    assert!(evidence.first().ends_with("row 9 was put in"), "{}", evidence.first());

    let mut evidence = Evidence::new();
    let (one, other) = (evidence.row(2).1.clone(), evidence.row(4).1.clone());
    (evidence.row(2).1, evidence.row(4).1) = (other, one);
    assert!(evidence.only().ends_with("rows were re-ordered: what belongs at row 2 stands at row 4"));

    // Behind the last seal there is the chain alone.
    let mut evidence = Evidence::new();
    evidence.row(20).1.recipient = None;
    let only = evidence.only();
    assert!(only.starts_with("database, rows without a seal: row 20 was changed"), "{only}");
}

#[test]
fn a_cut_end_is_found_by_the_tail_or_by_a_seal() {
    let mut evidence = Evidence::new();
    evidence.log.rows.truncate(20);
    assert!(evidence.only().ends_with("the end was cut off after row 20: there were rows up to 22"));
    // Without the tail nobody sees that rows that no seal holds are gone.
    evidence.log.tail = evidence.log.rows[19].0;
    assert_eq!(evidence.verify(true, Period::default()).1, [""; 0]);

    let mut evidence = Evidence::new();
    evidence.log.rows.truncate(9);
    evidence.log.tail = evidence.log.rows[8].0;
    let expected =
        format!("database, rows of {}: the end was cut off after row 9: there were rows up to", evidence.name(2));
    assert!(evidence.first().starts_with(&expected), "{}", evidence.first());
}

#[test]
fn an_altered_export_is_named_at_its_line() {
    let mut evidence = Evidence::new();
    let place = evidence.file(2, "rows").windows(5).position(|octets| octets == b"bruno").unwrap();
    evidence.file(2, "rows")[place] ^= 1;
    let name = evidence.name(2);
    assert_eq!(evidence.only(), format!("{name}.rows: row 7 was changed: its recipient"));
    assert!(evidence.first_exported().starts_with(&format!("{name}.rows: row 7 was changed")));

    let mut evidence = Evidence::new();
    evidence.file(3, "rows").pop();
    assert_eq!(evidence.only(), format!("{}.rows: row 17 was changed: its line end", evidence.name(3)));
    evidence.file(3, "rows").clear();
    assert!(evidence.first_exported().ends_with("the end was cut off after row 11: there were rows up to 17"));
}

#[test]
fn a_seal_that_is_not_the_providers_word_is_no_witness() {
    // Rows and seal anew, without the key.
    let mut evidence = Evidence::new();
    let forged = evidence.file(2, "rows").clone();
    let forged = String::from_utf8(forged).unwrap().replace("bruno8@", "bruno9@");
    let seal = Seal { rows: Sha256::digest(&forged).into(), ..evidence.seals[1].clone() };
    *evidence.file(2, "rows") = forged.into_bytes();
    *evidence.file(2, "seal") = seal.to_text().into_bytes();
    let (_, told) = evidence.verify(true, Period::default());
    let name = evidence.name(2);
    assert!(
        told.iter().any(|line| line.starts_with(&format!("{name}.p7s: the seal is not signed by it"))),
        "{told:#?}"
    );
    assert!(told.contains(&format!("{name}.rows: row 8 was changed: its recipient")), "{told:#?}");
    assert!(!told.iter().any(|line| line.starts_with("database")), "{told:#?}");
    // With the key it is bound by the seal after it, and known to the log.
    evidence.put(&seal, String::from_utf8(evidence.folder.0[&format!("{name}.rows")].clone()).unwrap());
    let (_, told) = evidence.verify(false, Period::default());
    assert!(told.iter().any(|line| line.contains("bound to another seal")), "{told:#?}");
}

#[test]
fn a_seal_that_makes_its_rows_older_is_told() {
    // Signed with the key, on the day it tells.
    let mut evidence = Evidence::new();
    let (seal, name) = (evidence.seals[2].clone(), evidence.name(3));
    let export = String::from_utf8(evidence.file(3, "rows").clone()).unwrap();
    let older = Seal { newest: TemporalReference::from_unix(seal.newest.unix() - 1), ..seal.clone() };
    assert_eq!(older.name(), name);
    evidence.put(&older, export);
    let expected = format!(
        "{name}.seal: its newest row is of {}, and not of {} as it says",
        seal.newest.rfc3339(),
        older.newest.rfc3339()
    );
    assert_eq!(evidence.verify(false, Period::default()).1, std::slice::from_ref(&expected));
    // By the rows of the database alone, too.
    evidence.folder.0.remove(&format!("{name}.rows"));
    let (_, told) = evidence.verify(true, Period::default());
    assert!(told.contains(&expected), "{told:#?}");
}

#[test]
fn missing_files_are_told() {
    for (ending, expected) in [("seal", "the seal is missing"), ("p7s", "not signed"), ("rows", "rows are missing")] {
        let mut evidence = Evidence::new();
        let name = evidence.name(2);
        evidence.folder.0.remove(&format!("{name}.{ending}"));
        let (_, told) = evidence.verify(true, Period::default());
        assert!(told.iter().any(|line| line.contains(expected)), "{told:#?}");
        assert!(told.iter().all(|line| line.starts_with(&name)), "{told:#?}");
    }
    let mut evidence = Evidence::new();
    let name = evidence.name(2);
    evidence.folder.0.retain(|file, _| !file.starts_with(&name));
    assert!(evidence.first().ends_with("the seal 2 before it is missing"));
    evidence.folder.0.clear();
    assert_eq!(evidence.first(), "seals: seal 1 is missing; row 6 of the log tells of it");
}

#[test]
fn a_sealing_that_was_not_finished_is_a_warning() {
    let mut evidence = Evidence::new();
    let before = evidence.clone();
    evidence.seal();
    evidence.log = before.log.clone();
    assert_eq!(evidence.verify(true, Period::default()).1, [""; 0]);
    let name = evidence.name(4);
    evidence.folder.0.remove(&format!("{name}.p7s"));
    let (summary, told) = evidence.verify(true, Period::default());
    assert_eq!((told.len(), summary.seals), (0, 3));
}

#[test]
fn purged_ranges_verify_by_their_seals_and_no_other_gap_does() {
    let mut evidence = Evidence::new();
    let at = TemporalReference::from_unix(NOW + 3 * 366 * 86_400);
    evidence.now = at;
    let purge = purge::entry(&evidence.seals[0], &[], at);
    evidence.add(purge);
    let range = evidence.seals[0].clone();
    evidence.log.rows.retain(|(link, _)| !range.holds(link.sequence));
    let name = evidence.name(1);
    evidence.folder.0.remove(&format!("{name}.rows"));
    let (summary, told) = evidence.verify(true, Period::default());
    assert_eq!((told.len(), summary.purged, summary.seals), (0, 1, 3), "{told:#?}");
    assert_eq!(evidence.verify(false, Period::default()).0.violations, 0);

    // A row in the gap, and a row more than the purge tells.
    let mut with_row = evidence.clone();
    with_row.log.rows.insert(0, (Link { sequence: 3, hash: [1; 32] }, Entry::new(EventKind::Copy, at)));
    assert!(with_row.only().ends_with("row 3 was put in, where the rows were purged"));
    evidence.log.rows.retain(|(link, _)| link.sequence != 7);
    assert!(evidence.only().ends_with("row 7 was removed"), "{}", evidence.only());

    // Before its time.
    let mut early = Evidence::new();
    let purge = purge::entry(&early.seals[0], &[], early.now);
    early.add(purge);
    early.log.rows.retain(|(link, _)| !range.holds(link.sequence));
    let (_, told) = early.verify(true, Period::default());
    assert_eq!(told.len(), 2, "{told:#?}");
    assert!(told[0].ends_with(&format!("rows 1 to 5, of {name}, were purged before their time")), "{told:#?}");
    assert!(told[1].ends_with("row 23 purges the rows of seal 1 before their time"), "{told:#?}");
}

#[test]
fn a_forged_purge_explains_nothing() {
    let genuine = Evidence::new();
    let (range, name) = (genuine.seals[1].clone(), genuine.name(2));
    let later = TemporalReference::from_unix(NOW + 3 * 366 * 86_400);
    for (number, at, expected) in [
        (999, genuine.now, "row 23 purges the rows of seal 999, and there is none"),
        (2, later, "which is still to come"),
    ] {
        let mut evidence = genuine.clone();
        let purge = purge::entry(&Seal { number, ..range.clone() }, &[], at);
        evidence.add(purge);
        evidence.log.rows.retain(|(link, _)| !range.holds(link.sequence));
        evidence.folder.0.remove(&format!("{name}.rows"));
        let (_, told) = evidence.verify(true, Period::default());
        assert_eq!(told.len(), 2, "{told:#?}");
        assert_eq!(told[0], format!("database: rows 6 to 11, of {name}, were purged before their time"));
        assert!(told[1].ends_with(expected), "{told:#?}");
    }
}

#[test]
fn what_the_daemon_seals_and_purges_meanwhile_is_no_violation() {
    let before = Evidence::new();
    let mut sealed = before.clone();
    sealed.seal();
    let (summary, told) = sealed.verify_since(&before);
    assert_eq!((told.len(), summary.seals, summary.rows), (0, 3, 23), "{told:#?}");

    let mut purged = before.clone();
    purged.now = TemporalReference::from_unix(NOW + 3 * 366 * 86_400);
    let purge = purge::entry(&purged.seals[0], &[], purged.now);
    purged.add(purge);
    let range = purged.seals[0].clone();
    purged.log.rows.retain(|(link, _)| !range.holds(link.sequence));
    purged.folder.0.remove(&format!("{}.rows", range.name()));
    let (summary, told) = purged.verify_since(&before);
    assert_eq!((told.len(), summary.purged, summary.seals), (0, 1, 3), "{told:#?}");
}

#[test]
fn a_period_begins_with_the_hash_of_its_first_seal() {
    let mut evidence = Evidence::new();
    let day = evidence.seals[2].newest.date();
    let period = Period { from: Some(day), to: None };
    let (summary, told) = evidence.verify(true, period);
    assert_eq!((told.len(), summary.seals, summary.rows), (0, 1, 11), "{told:#?}");
    // What lies before is not looked at.
    evidence.row(8).1.recipient = None;
    assert_eq!(evidence.verify(true, period).1, [""; 0]);
    evidence.row(15).1.recipient = None;
    let (_, told) = evidence.verify(true, period);
    assert!(told[0].ends_with("row 15 was changed: its recipient"), "{told:#?}");
    let period = Period { from: None, to: evidence.seals[0].newest.date().yesterday().ok() };
    let (summary, told) = evidence.verify(true, period);
    assert_eq!((told.len(), summary.seals), (0, 1), "{told:#?}");
}
