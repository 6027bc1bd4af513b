//! A real database, copied after some of its rows, and a real folder of the seals over all but the last ones.

use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::*;
use crate::adapters::seal_store::{Part, SealFolder};
use crate::adapters::sqlite::{Restoration, SqliteLog};
use crate::legal_log::seal::exported;
use crate::legal_log::{EventKind, Slot, purge};
use crate::model::TemporalReference;
use crate::operations::causes;
use crate::operations::ports::EventLog;

struct Place {
    folder: TempDir,
    seals: Vec<Seal>,
    rows: Vec<(Link, Entry)>,
}

fn entry(number: i64) -> Entry {
    Entry {
        subject: Some(format!("Prova {number}\u{a0}\"è\"")),
        slot: Some(Slot::arrival(&format!("4Q{number}"))),
        ..Entry::new(EventKind::Arrival, TemporalReference::from_unix(1_721_037_600 + number))
    }
}

impl Place {
    /// Five rows, three of which the copy has, and the purge of the first two; seals of two rows each.
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut place = Place { folder, seals: Vec::new(), rows: Vec::new() };
        for number in 1..=3 {
            place.record(&place.log(), entry(number)).await;
        }
        fs::copy(place.log(), place.copy()).unwrap();
        place.record(&place.log(), entry(4)).await;
        place.seal(0..2);
        let purge = purge::entry(&place.seals[0], &[], TemporalReference::from_unix(1_800_000_000));
        place.record(&place.log(), purge).await;
        for number in 6..=7 {
            place.record(&place.log(), entry(number)).await;
        }
        place.seal(2..4);
        place.seal(4..6);
        place
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log.db")
    }

    fn copy(&self) -> PathBuf {
        self.folder.path().join("copy.db")
    }

    fn folder(&self) -> SealFolder {
        SealFolder::open(&self.folder.path().join("seals")).unwrap()
    }

    async fn record(&mut self, path: &Path, entry: Entry) {
        let log = SqliteLog::open(path).unwrap();
        log.record(vec![entry.clone()]).await.unwrap();
        log.close().await.unwrap();
        let last = self.rows.last().map_or(Link::BEFORE_FIRST, |(link, _)| *link);
        self.rows.push((last.next(&entry), entry));
    }

    fn seal(&mut self, places: std::ops::Range<usize>) {
        let text: String = self.rows[places.clone()].iter().map(|(link, entry)| exported(link, entry)).collect();
        let before = self.seals.last();
        let seal = Seal {
            number: self.seals.len() as u64 + 1,
            provider: "Alfa".into(),
            sealed: TemporalReference::from_unix(1_800_000_000),
            before: before.map_or(Link::BEFORE_FIRST, |seal| seal.last),
            last: self.rows[places.end - 1].0,
            newest: TemporalReference::from_unix(1_721_037_600),
            previous: before.map_or([0; 32], Seal::digest),
            rows: Sha256::digest(&text).into(),
        };
        let write = |part, octets: &[u8]| self.folder().write(&seal.name(), part, octets).unwrap();
        write(Part::Rows, text.as_bytes());
        write(Part::Seal, seal.to_text().as_bytes());
        write(Part::Signature, b"signature");
        self.seals.push(seal);
    }

    /// The last row before and after.
    fn restore(&self) -> Result<(Link, Link), NotRestored> {
        let (mut log, folder) = (Restoration::open(&self.copy()).unwrap(), self.folder());
        let beyond = beyond(&log, &folder)?;
        Ok((beyond.last, restore(&mut log, &beyond)?))
    }

    /// The numbers of the rows in the copy, whose chain holds.
    async fn numbers(&self) -> Vec<i64> {
        let reader = SqliteLog::open_read_only(&self.copy()).unwrap();
        reader.verify_chain().await.unwrap();
        reader.rows_after(0).await.unwrap().iter().map(|(link, _)| link.sequence).collect()
    }

    /// The restoration fails so, and the copy has what came back before.
    async fn fails(&self, words: &str, numbers: &[i64]) {
        let error = causes(&self.restore().unwrap_err());
        assert!(error.contains(words), "{words}: {error}");
        assert_eq!(self.numbers().await, numbers);
    }
}

#[tokio::test]
async fn sealed_rows_come_back_with_their_links_and_what_they_purged_goes_again() {
    let place = Place::new().await;
    let restored = place.restore().unwrap();
    assert_eq!(restored, (place.rows[2].0, place.rows[5].0));
    assert_eq!(place.numbers().await, [3, 4, 5, 6]);
    // Once more: there is nothing left to do.
    assert_eq!(place.restore().unwrap(), (restored.1, restored.1));
    // The log goes on.
    let log = SqliteLog::open(&place.copy()).unwrap();
    let recorded = log.record(vec![entry(4), entry(8)]).await.unwrap();
    assert_eq!(recorded.iter().map(|one| (one.sequence, one.is_new)).collect::<Vec<_>>(), [(4, false), (7, true)]);
}

#[tokio::test]
async fn a_log_that_went_on_after_the_copy_takes_nothing() {
    let mut place = Place::new().await;
    let copy = place.copy();
    place.record(&copy, entry(9)).await;
    place.fails("row 4 of the log is not the one that 000002-2024-07-15 sealed", &[1, 2, 3, 4]).await;
    place.fails("put the copy back again", &[1, 2, 3, 4]).await;
    // Also where it went on beyond the seals.
    for number in 10..=13 {
        place.record(&copy, entry(number)).await;
    }
    place.fails("row 4 of the log is not the one", &[1, 2, 3, 4, 5, 6, 7, 8]).await;
}

#[tokio::test]
async fn a_log_that_went_on_inside_a_range_takes_nothing_of_it() {
    let mut place = Place::new().await;
    let (copy, name) = (place.copy(), place.seals[2].name());
    place.folder().remove(&name, Part::Signature).unwrap();
    place.restore().unwrap();
    place.record(&copy, entry(30)).await;
    place.folder().write(&name, Part::Signature, b"signature").unwrap();
    place.fails("the rows of 000003-2024-07-15 did not come back", &[1, 2, 3, 4, 5]).await;
}

#[tokio::test]
async fn seals_that_are_missing_in_between_are_no_fork() {
    let place = Place::new().await;
    for part in [Part::Rows, Part::Seal, Part::Signature] {
        place.folder().remove(&place.seals[1].name(), part).unwrap();
    }
    place.fails("rows 4 to 4 are in no seal of the folder", &[1, 2, 3]).await;
}

#[tokio::test]
async fn a_sealing_that_was_never_finished_is_told_and_left() {
    let place = Place::new().await;
    place.folder().remove(&place.seals[2].name(), Part::Signature).unwrap();
    let (log, folder) = (Restoration::open(&place.copy()).unwrap(), place.folder());
    assert_eq!(beyond(&log, &folder).unwrap().unfinished, Some(place.seals[2].name()));
    assert_eq!(place.restore().unwrap().1, place.rows[3].0);
}

#[tokio::test]
async fn what_is_not_whole_stops_the_restoration_where_it_is() {
    // The purge is row 5, so the first two are still there.
    let first = &[1, 2, 3, 4][..];
    for (part, replacement, words, numbers) in [
        (Part::Rows, None, "bring the file from a backup", first),
        (Part::Seal, Some("x"), "cannot be read as a seal", &[1, 2, 3]),
        (Part::Rows, Some("x\n"), "row 5 in 000003-2024-07-15.rows cannot be read", first),
        (Part::Rows, Some(""), "000003-2024-07-15.rows is not the file that was sealed", first),
    ] {
        let place = Place::new().await;
        let name = place.seals[2].name();
        match replacement {
            None => place.folder().remove(&name, part).unwrap(),
            Some(text) => place.folder().write(&name, part, text.as_bytes()).unwrap(),
        }
        place.fails(words, numbers).await;
    }
}
