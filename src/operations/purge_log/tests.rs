//! Passes over a real database, a real folder of seals and a store of days, on days that the test chooses.

use std::io::BufRead;
use std::path::PathBuf;
use std::sync::Mutex;

use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::*;
use crate::adapters::seal_store::{Part, SealFolder};
use crate::adapters::sqlite::{LogWalk, SqliteLog};
use crate::legal_log::hold::Held;
use crate::legal_log::seal::{Stamped, exported};
use crate::legal_log::{Entry, EventKind, Link, Recorded};
use crate::model::Provider;
use crate::operations::ports::EventLog;
use crate::operations::testing::{alfa, beta};
use crate::operations::verify_log::{Finding, Own, Period, Selected, Standards, verify};
use crate::smime::Trust;
use crate::smime::testing::{NOW, read};

/// 15 July 2024, noon in Rome.
const JULY: i64 = 1_721_037_600;
const DAY: i64 = 86_400;

struct Clock(Mutex<TemporalReference>);

impl Instruments for Arc<Clock> {
    fn now(&self) -> TemporalReference {
        *self.0.lock().unwrap()
    }

    fn chance(&self) -> u128 {
        0
    }
}

struct Days(Mutex<Vec<Date>>);

impl DayStore for Days {
    fn holds_what(&self) -> &'static str {
        "infected messages"
    }

    fn days(&self) -> Result<Vec<Date>, OutsideFault> {
        Ok(self.0.lock().unwrap().clone())
    }

    fn remove(&self, day: Date) -> Result<(), OutsideFault> {
        self.0.lock().unwrap().retain(|one| *one != day);
        Ok(())
    }
}

/// Holds a seal against the CA of the tests, and its signer against the name of whoever it should be.
struct Judge {
    seals: SealFolder,
    provider: Provider,
}

impl SealJudge for Judge {
    fn violations(&self, name: &str) -> Result<Vec<String>, OutsideFault> {
        let trust = Trust::from_pem(&read("certificates/root.pem")).unwrap();
        let own = Own { provider: &self.provider, certificates: &[] };
        let now = || TemporalReference::from_unix(NOW);
        let standards = Standards { trust: &trust, stampers: None, own: Some(own), needs_stamps: false, now: &now };
        let (mut found, only) = (Vec::new(), Selected { seals: &self.seals, names: [name.to_owned()].into() });
        let tell = &mut |finding: &Finding| found.extend(finding.is_violation.then(|| finding.to_string()));
        verify(None::<&LogWalk>, &only, &standards, Period::default(), tell)?;
        Ok(found)
    }
}

struct Place {
    folder: TempDir,
    seals: SealFolder,
    clock: Arc<Clock>,
    days: Arc<Days>,
    last: Mutex<(Link, u64, [u8; 32])>,
    purge: LogPurge<SqliteLog, SealFolder, Arc<Clock>>,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path: PathBuf = folder.path().join("log.db");
        let log = Arc::new(SqliteLog::open(&path).unwrap());
        let seals = SealFolder::open(&folder.path().join("seals")).unwrap();
        let clock = Arc::new(Clock(Mutex::new(TemporalReference::from_unix(JULY))));
        let days = Arc::new(Days(Mutex::default()));
        let purge = LogPurge {
            log,
            seals: seals.clone(),
            stores: vec![days.clone()],
            instruments: clock.clone(),
            retention: Retention::LEAST,
            needs_stamp: true,
            judge: Arc::new(Judge { seals: seals.clone(), provider: (*alfa().provider).clone() }),
            // These logs have rows of few days; but for the test about the clock.
            is_clock_right: true,
        };
        let last = Mutex::new((Link::BEFORE_FIRST, 0, [0; 32]));
        Place { folder, seals, clock, days, last, purge }
    }

    async fn record(&self, entry: Entry) -> Recorded {
        self.purge.log.record(vec![entry]).await.unwrap().remove(0)
    }

    /// Seals what was recorded since the last seal, signature and stamp being somebody else's matter.
    async fn seal(&self, at: i64) -> Seal {
        let (mut link, number, previous) = *self.last.lock().unwrap();
        let before = link;
        let period = TemporalReference::from_unix(0)..TemporalReference::from_unix(i64::MAX);
        let (mut rows, mut newest) = (String::new(), i64::MIN);
        let mut all = self.purge.log.reader().of_period(period, 1000).await.unwrap();
        all.sort_by_key(|one| one.sequence);
        for one in all.iter().filter(|one| one.sequence > before.sequence) {
            link = link.next(&one.entry);
            rows.push_str(&exported(&link, &one.entry));
            newest = newest.max(one.entry.at.unix());
        }
        let seal = Seal {
            number: number + 1,
            provider: "Alfa PEC S.p.A.".into(),
            sealed: TemporalReference::from_unix(at),
            before,
            last: link,
            newest: TemporalReference::from_unix(newest),
            previous,
            rows: Sha256::digest(&rows).into(),
        };
        let name = seal.name();
        let mut file = self.seals.new_rows().unwrap();
        file.append(rows.as_bytes()).unwrap();
        file.finish(&name).unwrap();
        self.seals.write(&name, Part::Seal, seal.to_text().as_bytes()).unwrap();
        let now = TemporalReference::from_unix(NOW);
        let signature = alfa().detached(seal.digest(), now, now).unwrap();
        self.seals.write(&name, Part::Signature, &signature).unwrap();
        self.seals.write(&name, Part::Stamp, b"stamp").unwrap();
        self.record(seal.entry()).await;
        let stamped = Stamped {
            number: seal.number,
            sha256: Sha256::digest(b"stamp").into(),
            at: seal.sealed,
            serial: "1".into(),
            authority: "CN=tsa".into(),
        };
        self.record(stamped.entry(seal.sealed)).await;
        *self.last.lock().unwrap() = (seal.last, seal.number, seal.digest());
        seal
    }

    async fn pass_on(&self, day: &str) -> Pass {
        let now = TemporalReference::beginning(day.parse().unwrap());
        *self.clock.0.lock().unwrap() = now;
        self.purge.pass().await.unwrap()
    }

    /// Which of the first rows there still are.
    async fn sequences(&self, first: i64) -> Vec<i64> {
        let period = TemporalReference::from_unix(0)..TemporalReference::from_unix(i64::MAX);
        let mut all: Vec<i64> =
            self.purge.log.reader().of_period(period, 1000).await.unwrap().iter().map(|one| one.sequence).collect();
        all.retain(|sequence| *sequence <= first);
        all.sort_unstable();
        all
    }
}

fn of(sender: &str, at: i64) -> Entry {
    Entry {
        sender: Some(sender.into()),
        pec_msgid: format!("pec.{at}@alfa.example").parse().ok(),
        ..Entry::new(EventKind::Arrival, TemporalReference::from_unix(at))
    }
}

fn names(pass: &Pass) -> Vec<u64> {
    pass.purged.iter().map(|seal| seal.number).collect()
}

#[tokio::test]
async fn a_sealed_range_goes_the_day_after_its_last_one_and_its_seal_stays() {
    let place = Place::new();
    place.record(of("anna@alfa.example", JULY)).await;
    place.record(of("anna@alfa.example", JULY + DAY)).await;
    let seal = place.seal(JULY + DAY).await;
    place.days.0.lock().unwrap().extend(["2024-07-15".parse::<Date>().unwrap(), "2024-07-16".parse().unwrap()]);
    // The newest row counts: of 16 July.
    let last_day = place.pass_on("2027-01-16").await;
    assert!(last_day.purged.is_empty() && last_day.kept.is_empty() && last_day.days.is_empty(), "{last_day:?}");
    let pass = place.pass_on("2027-01-17").await;
    assert_eq!(names(&pass), [1]);
    // The seal's row of 16 July is no part of the range: what was kept of its day stays with it.
    assert_eq!(pass.days, [("infected messages", "2024-07-15".parse().unwrap())]);
    assert_eq!(place.sequences(4).await, [3, 4]);
    let parts = |part| place.seals.read(&seal.name(), part).unwrap().is_some();
    assert!(place.seals.rows(&seal.name()).unwrap().is_none());
    assert!(parts(Part::Seal) && parts(Part::Signature) && parts(Part::Stamp));
    let again = place.pass_on("2027-01-17").await;
    assert!(again.purged.is_empty() && again.kept.is_empty());
    assert_eq!(place.sequences(4).await, [3, 4]);
}

#[tokio::test]
async fn a_hold_keeps_the_range_it_concerns_and_its_own_until_it_is_released() {
    let place = Place::new();
    place.record(of("anna@alfa.example", JULY)).await;
    place.seal(JULY).await;
    place.record(of("bruno@alfa.example", JULY)).await;
    place.seal(JULY).await;
    let at = TemporalReference::from_unix(JULY);
    let anna = Held::Mailbox("anna@alfa.example".parse().unwrap());
    let hold = place.record(Hold::entry(&anna, "lite", at)).await.sequence;
    place.seal(JULY).await;
    let pass = place.pass_on("2027-02-01").await;
    assert_eq!(names(&pass), [2]);
    let kept: Vec<String> = pass.kept.iter().map(|(seal, why)| format!("{} {why}", seal.number)).collect();
    assert_eq!(kept, [format!("1 held by hold {hold}"), format!("3 held by hold {hold}")]);
    assert_eq!(place.purge.log.purged().await.unwrap().len(), 1);
    let standing = place.purge.log.holds().await.unwrap();
    place.record(standing[0].release("conclusa", at)).await;
    assert_eq!(names(&place.pass_on("2027-02-01").await), [1, 3]);
    // The ranges of the three seals are one gap now.
    let purged = place.purge.log.purged().await.unwrap();
    assert_eq!((purged.len(), purged[0].first), (1, 1));
}

#[tokio::test]
async fn a_release_stays_as_long_as_its_hold_so_that_this_never_comes_back() {
    let place = Place::new();
    let at = TemporalReference::from_unix(JULY);
    let of_anna = Held::Mailbox("anna@alfa.example".parse().unwrap());
    let (kept, ended) = (Hold::entry(&of_anna, "lite", at), Hold::entry(&Held::msgid("x@y.example"), "lite", at));
    let (kept, ended) = (place.record(kept).await.sequence, place.record(ended).await.sequence);
    place.seal(JULY).await;
    let release = place.purge.log.holds().await.unwrap().remove(1).release("conclusa", at);
    place.record(release).await;
    place.seal(JULY).await;
    let pass = place.pass_on("2027-02-01").await;
    let told: Vec<String> = pass.kept.iter().map(|(seal, why)| format!("{} {why}", seal.number)).collect();
    let release = format!("2 it has the release of hold {ended}, whose own row is still there");
    assert_eq!(told, [format!("1 held by hold {kept}"), release]);
    let standing = place.purge.log.holds().await.unwrap();
    assert_eq!(standing.iter().map(|hold| hold.number).collect::<Vec<_>>(), [kept]);
    place.record(standing[0].release("conclusa", at)).await;
    assert_eq!(names(&place.pass_on("2027-02-01").await), [1, 2]);
    assert_eq!(place.purge.log.holds().await.unwrap(), []);
}

/// What became of the files of a seal.
enum Damage {
    None(Part),
    Other(Part),
    OtherSeal,
}

#[tokio::test]
async fn a_clock_that_stands_ahead_of_the_log_removes_nothing() {
    let mut place = Place::new();
    place.purge.is_clock_right = false;
    place.record(of("anna@alfa.example", JULY)).await;
    place.seal(JULY).await;
    place.days.0.lock().unwrap().push("2024-07-14".parse().unwrap());
    let far = TemporalReference::beginning("2040-01-01".parse().unwrap());
    *place.clock.0.lock().unwrap() = far;
    // What is recorded under that clock does not make it right.
    for _ in 0..2 {
        let fault = place.purge.pass().await.unwrap_err().to_string();
        assert!(fault.contains("the clock says 2040-01-01") && fault.contains("62 days after 2037-07-15"), "{fault}");
        assert_eq!(place.sequences(2).await, [1, 2]);
        place.record(Entry::new(EventKind::Anomaly, far)).await;
    }
    // A log that was in use: from there on there is a row every 60 days.
    for days in (60..=920).step_by(60) {
        let at = TemporalReference::from_unix(far.unix() - days * DAY);
        place.record(Entry::new(EventKind::Anomaly, at)).await;
    }
    let pass = place.purge.pass().await.unwrap();
    assert_eq!((names(&pass), pass.days.len()), (vec![1], 1));
}

#[tokio::test]
async fn a_stamp_of_these_days_vouches_for_the_clock() {
    let mut place = Place::new();
    place.purge.is_clock_right = false;
    place.record(of("anna@alfa.example", JULY)).await;
    place.seal(JULY).await;
    // The log was silent for years.
    let day = TemporalReference::beginning("2027-02-01".parse().unwrap()).unix();
    place.record(of("bruno@alfa.example", day)).await;
    place.seal(day).await;
    assert_eq!(names(&place.pass_on("2027-04-01").await), [1]);
    *place.clock.0.lock().unwrap() = TemporalReference::beginning("2027-04-15".parse().unwrap());
    place.days.0.lock().unwrap().push("2024-07-14".parse().unwrap());
    assert!(matches!(place.purge.pass().await, Err(PurgeFault::Clock { .. })));
}

#[tokio::test]
async fn somebody_may_vouch_for_the_clock() {
    let place = Place::new();
    place.record(of("anna@alfa.example", JULY)).await;
    place.seal(JULY).await;
    assert_eq!(names(&place.pass_on("2040-01-01").await), [1]);
}

#[tokio::test]
async fn another_log_than_that_of_the_seals_removes_nothing() {
    let place = Place::new();
    place.record(of("anna@alfa.example", JULY)).await;
    let seal = place.seal(JULY).await;
    place.days.0.lock().unwrap().push("2024-07-15".parse().unwrap());
    *place.clock.0.lock().unwrap() = TemporalReference::beginning("2027-02-01".parse().unwrap());
    let log = Arc::new(SqliteLog::open(&place.folder.path().join("new.db")).unwrap());
    let purge = LogPurge { log, ..place.purge };
    let fault = purge.pass().await.unwrap_err().to_string();
    assert!(fault.contains(&format!("does not know the seal {}", seal.name())), "{fault}");
    assert_eq!(place.days.0.lock().unwrap().len(), 1, "what a hold kept that this log does not know");
}

#[tokio::test]
async fn a_seal_that_is_not_the_providers_keeps_its_rows() {
    let mut place = Place::new();
    place.record(of("anna@alfa.example", JULY)).await;
    place.seal(JULY).await;
    place.purge.judge = Arc::new(Judge { seals: place.seals.clone(), provider: (*beta().provider).clone() });
    let pass = place.pass_on("2027-02-01").await;
    let told = pass.kept[0].1.to_string();
    assert!(told.starts_with("its seal does not hold: VIOLATION 000001-"), "{told}");
    assert!(told.contains("not by this provider") && !pass.kept[0].1.is_by_hold(), "{told}");
    assert_eq!(place.sequences(2).await, [1, 2]);
}

#[tokio::test]
async fn a_hold_that_is_recorded_meanwhile_is_kept_and_so_is_what_was_altered() {
    let place = Place::new();
    place.record(of("anna@alfa.example", JULY)).await;
    let seal = place.seal(JULY).await;
    let at = TemporalReference::from_unix(JULY);
    let before = place.purge.log.last_hold().await.unwrap();
    let anna = Held::Mailbox("anna@alfa.example".parse().unwrap());
    place.record(Hold::entry(&anna, "lite", at)).await;
    let refused = place.purge.log.purge(seal.clone(), at, before).await.unwrap_err();
    assert!(causes(&refused).contains("a hold was recorded"), "{}", causes(&refused));
    assert_eq!(place.sequences(2).await, [1, 2]);
    let hold = place.purge.log.holds().await.unwrap().remove(0);
    place.record(hold.release("conclusa", at)).await;
    let connection = rusqlite::Connection::open(place.folder.path().join("log.db")).unwrap();
    connection
        .execute_batch("DROP TRIGGER event_refuses_update; UPDATE event SET sender = 'x' WHERE sequence = 1")
        .unwrap();
    let pass = place.pass_on("2027-02-01").await;
    assert!(pass.kept[0].1.to_string().contains("row 1 does not have the hash"), "{}", pass.kept[0].1);
    assert_eq!(place.sequences(2).await, [1, 2]);
}

#[tokio::test]
async fn what_is_not_sealed_whole_or_not_as_the_log_knows_it_stays() {
    for (damage, wanted) in [
        (Damage::None(Part::Signature), "not signed"),
        (Damage::None(Part::Stamp), "not stamped"),
        (Damage::Other(Part::Signature), "the seal is not signed by it"),
        (Damage::Other(Part::Stamp), "its time stamp is not the one that the log knows"),
        (Damage::OtherSeal, "does not know the seal"),
    ] {
        let place = Place::new();
        place.record(of("anna@alfa.example", JULY)).await;
        let seal = place.seal(JULY).await;
        match damage {
            Damage::None(part) => place.seals.remove(&seal.name(), part).unwrap(),
            Damage::Other(part) => place.seals.write(&seal.name(), part, b"x").unwrap(),
            Damage::OtherSeal => {
                let other = Seal { provider: "Other".into(), ..seal.clone() };
                let now = TemporalReference::from_unix(NOW);
                let signature = alfa().detached(other.digest(), now, now).unwrap();
                place.seals.write(&seal.name(), Part::Seal, other.to_text().as_bytes()).unwrap();
                place.seals.write(&seal.name(), Part::Signature, &signature).unwrap();
            }
        }
        *place.clock.0.lock().unwrap() = TemporalReference::beginning("2027-02-01".parse().unwrap());
        let told = match place.purge.pass().await {
            Ok(pass) => {
                assert!(pass.purged.is_empty());
                pass.kept[0].1.to_string()
            }
            Err(fault) => fault.to_string(),
        };
        assert!(told.contains(wanted), "{wanted}: {told}");
        assert_eq!(place.sequences(2).await, [1, 2]);
    }
}

#[tokio::test]
async fn exported_rows_that_a_killed_pass_left_are_removed_by_the_next() {
    let place = Place::new();
    place.record(of("anna@alfa.example", JULY)).await;
    let seal = place.seal(JULY).await;
    place.purge.log.purge(seal.clone(), TemporalReference::from_unix(JULY), None).await.unwrap();
    let lines = place.seals.rows(&seal.name()).unwrap().unwrap().lines().count();
    assert_eq!(lines, 1);
    let pass = place.pass_on("2024-07-17").await;
    assert!(pass.purged.is_empty());
    assert!(place.seals.rows(&seal.name()).unwrap().is_none());
}
