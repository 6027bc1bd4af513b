//! What is past its retention goes (§2.2.4, §2.3): whole sealed ranges of the log, then what was kept beside it.
//!
//! A range goes when its newest row is past its retention, when no hold concerns any of its rows, and when it is sealed:
//! signed, stamped where there is an authority, known to the log under the same digest, and unaltered since. So nothing
//! leaves the log of which no evidence stays. A clock that stands far ahead of the log removes nothing, nor does a log that is
//! not the one of the seals.
//!
//! The purge is an entry of the log, committed together with the removal. Then the exported rows go, and with the log's
//! last row of a day what was kept of that day. Killed in between, the next pass ends the work. What is kept by a fault is
//! told and stays: too long, never too short.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::civil::Date;
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tokio::task::{JoinError, spawn_blocking};
use tracing::{error, info};

use super::causes;
use super::ports::{DayStore, Instruments, LogError, OutsideFault, Purging, SealJudge, SealStore};
use crate::crash;
use crate::legal_log::hold::{Hold, ended_by};
use crate::legal_log::purge::Purged;
use crate::legal_log::seal::{Part, Seal};
use crate::legal_log::{ChainBreak, Recorded};
use crate::model::{Retention, TemporalReference};

/// A pass finds little to do, and is cheap then.
const BETWEEN_PASSES: Duration = Duration::from_secs(3600);

/// A clock that stands years ahead would remove everything. It is believed for so long after the last time stamp, for an
/// authority's clock agreed with it then; without one, where the log has no longer pause than this: it is in use every day, and
/// a few rows of a wrong clock do not close the gap.
const LONGEST_SILENCE: i64 = 62 * 86_400;

/// For how long the log must have been in use: somewhat less than the shortest retention, of which nothing is gone.
const IN_USE: i64 = 900 * 86_400;

/// The work with everything it talks to.
pub struct LogPurge<L, D, T> {
    pub log: Arc<L>,
    pub seals: D,
    pub stores: Vec<Arc<dyn DayStore>>,
    pub instruments: T,
    pub retention: Retention,
    /// Whether a seal must be stamped before its rows may go.
    pub needs_stamp: bool,
    /// Who says whether signature and stamp hold: they are all that stays.
    pub judge: Arc<dyn SealJudge>,
    /// Whether somebody vouches for the clock, however long the log was silent.
    pub is_clock_right: bool,
}

/// A seal on disk.
struct SealedDay {
    seal: Seal,
    signature: Option<Vec<u8>>,
    stamp: Option<Vec<u8>>,
    has_rows: bool,
}

/// What a pass did.
#[derive(Debug, Default)]
pub struct Pass {
    /// The seals whose rows went.
    pub purged: Vec<Seal>,
    /// Those whose rows are past their retention and stay, and why.
    pub kept: Vec<(Seal, Kept)>,
    /// The days of which something went that was kept beside the log.
    pub days: Vec<(&'static str, Date)>,
}

/// Why rows stay that are past their retention.
#[derive(Debug, thiserror::Error)]
pub enum Kept {
    #[error("held by {}", numbers(.0))]
    Held(Vec<i64>),
    /// Without the release the hold would stand again.
    #[error("it has the release of {}, whose own row is still there", numbers(.0))]
    Release(Vec<i64>),
    #[error("its seal is not signed; bring its .p7s back from a backup")]
    NotSigned,
    #[error("its seal is not stamped; run `pec-milter log seal`, or, where it was, bring its .tsr back from a backup")]
    NotStamped,
    #[error("the log does not know its seal under this digest; run `pec-milter log verify`")]
    Unknown,
    #[error("its time stamp is not the one that the log knows; bring the .tsr back from a backup")]
    OtherStamp,
    #[error(
        "its seal does not hold: {0}; if a certificate, CA or authority of former times made it, name that in \
         key.previous_certificates, trust.ca_file or log.tsa_ca_file; else bring its files back from a backup"
    )]
    Refuted(String),
    #[error("{0}; run `pec-milter log verify`")]
    Altered(ChainBreak),
}

impl Kept {
    /// Whether somebody wants it so; else something is to be mended.
    pub fn is_by_hold(&self) -> bool {
        matches!(self, Kept::Held(_) | Kept::Release(_))
    }
}

/// Why a pass ended before its end.
#[derive(Debug, thiserror::Error)]
pub enum PurgeFault {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("the sealed days could not be read or changed")]
    Seals(#[source] OutsideFault),
    #[error("what is kept beside the log ({0}) could not be read or changed")]
    Store(&'static str, #[source] OutsideFault),
    #[error("a worker thread ended before its work was done")]
    Worker(#[from] JoinError),
    #[error(
        "the log has no row of the {} days after {}, no time stamp of the last ones, and the clock says {}: nothing is \
         removed; set the clock, or, if it is right, run `pec-milter log purge --clock-is-right`",
        LONGEST_SILENCE / 86_400, .silent.rfc3339(), .now.rfc3339()
    )]
    Clock { now: TemporalReference, silent: TemporalReference },
    #[error(
        "the log does not know the seal {0}, so it is not the log of log.seals, or not all of it: nothing is removed; run \
         `pec-milter log verify`"
    )]
    OtherLog(String),
}

impl<L: Purging, D: SealStore, T: Instruments> LogPurge<L, D, T> {
    /// A pass now, and then again and again, until it is told to stop.
    pub async fn run(&self, mut stopping: watch::Receiver<bool>) {
        while !*stopping.borrow() {
            match self.pass().await {
                Ok(pass) => self.tell(&pass),
                Err(fault) => {
                    error!(cause = %causes(&fault), "what is past its retention could not be removed, it will be tried again");
                }
            }
            tokio::select! {
                _ = stopping.wait_for(|stop| *stop) => return,
                () = tokio::time::sleep(BETWEEN_PASSES) => {}
            }
        }
    }

    fn tell(&self, pass: &Pass) {
        let months = self.retention.number();
        for seal in &pass.purged {
            info!(
                seal = seal.name(),
                first = seal.first(),
                last = seal.last.sequence,
                "rows of the log removed after {months} months"
            );
        }
        for (seal, kept) in &pass.kept {
            if kept.is_by_hold() {
                info!(seal = seal.name(), "rows of the log stay beyond their retention: {kept}");
            } else {
                error!(seal = seal.name(), "rows of the log stay beyond their retention: {kept}");
            }
        }
        for (what, day) in &pass.days {
            info!(%day, "{what} removed after {months} months");
        }
    }

    /// Removes what may go now.
    pub async fn pass(&self) -> Result<Pass, PurgeFault> {
        let now = self.instruments.now();
        let mut pass = Pass::default();
        let folder = self.seals.clone();
        let lock = spawn_blocking(move || folder.lock()).await?.map_err(PurgeFault::Seals)?;
        let purged = self.log.purged().await?;
        let days = self.sealed_days().await?;
        self.refuse_other_log(&days).await?;
        let silent = self.silence(now).await?;
        for (place, day) in days.iter().enumerate() {
            if is_gone(&day.seal, &purged) {
                // The last pass was killed before it came to this.
                if day.has_rows {
                    self.remove_rows(&day.seal).await?;
                }
            } else if self.retention.is_over(day.seal.newest.date(), now.date()) {
                refuse_silence(silent, now)?;
                let (last_hold, holds) = (self.log.last_hold().await?, self.log.holds().await?);
                match self.why_kept(day, days.get(place..).unwrap_or_default(), &holds).await? {
                    Some(kept) => pass.kept.push((day.seal.clone(), kept)),
                    None => {
                        self.log.purge(day.seal.clone(), now, last_hold).await?;
                        crash::point("rows-purged");
                        self.remove_rows(&day.seal).await?;
                        pass.purged.push(day.seal.clone());
                    }
                }
            }
        }
        for store in &self.stores {
            self.remove_days(store, now, silent, &mut pass.days).await?;
        }
        drop(lock);
        Ok(pass)
    }

    /// A log that was begun anew, or put back, knows nothing of what was held: what it lacks cannot keep anything. A seal
    /// that was never signed may be one that is being made.
    async fn refuse_other_log(&self, days: &[SealedDay]) -> Result<(), PurgeFault> {
        let Some(last) = days.iter().rfind(|day| day.signature.is_some()) else { return Ok(()) };
        match self.log.sealed_as(last.seal.number).await? == Some(last.seal.digest()) {
            true => Ok(()),
            false => Err(PurgeFault::OtherLog(last.seal.name())),
        }
    }

    /// Since when the log was silent for too long to believe the clock, where nobody vouches for it.
    async fn silence(&self, now: TemporalReference) -> Result<Option<TemporalReference>, LogError> {
        let is_recent = |last: &TemporalReference| now.unix().saturating_sub(last.unix()) <= LONGEST_SILENCE;
        let stamped = if self.needs_stamp { self.log.last_stamp().await? } else { None };
        if self.is_clock_right || stamped.as_ref().is_some_and(is_recent) {
            return Ok(None);
        }
        // Where the clock is right, the log was in use as long as things are kept.
        let mut last = TemporalReference::from_unix(now.unix().saturating_sub(IN_USE));
        while !is_recent(&last) {
            let until = TemporalReference::from_unix(last.unix().saturating_add(LONGEST_SILENCE));
            match self.log.newest_until(until).await? {
                Some(next) if next > last => last = next,
                _ => return Ok(Some(last)),
            }
        }
        Ok(None)
    }

    /// `from` are this day and all after it.
    async fn why_kept(&self, day: &SealedDay, from: &[SealedDay], holds: &[Hold]) -> Result<Option<Kept>, PurgeFault> {
        if day.signature.is_none() {
            return Ok(Some(Kept::NotSigned));
        }
        if day.stamp.is_none() && self.needs_stamp {
            return Ok(Some(Kept::NotStamped));
        }
        if let (Some(stamp), Some(known)) = (&day.stamp, self.log.stamped_as(day.seal.number).await?)
            && Sha256::digest(stamp)[..] != known
        {
            return Ok(Some(Kept::OtherStamp));
        }
        if !self.is_known(from).await? {
            return Ok(Some(Kept::Unknown));
        }
        // One walk for all holds, and one without any: what was altered is evidence, and stays.
        let (found, asked, first) = (Arc::new(Mutex::new(Keeping::default())), holds.to_vec(), day.seal.first());
        let keeping = found.clone();
        let walk = self.log.any_sealed(day.seal.clone(), move |one| {
            keeping.lock().unwrap_or_else(PoisonError::into_inner).look(one, &asked, first);
            false
        });
        if let Err(altered) = walk.await? {
            return Ok(Some(Kept::Altered(altered)));
        }
        let Keeping { holds, mut released } =
            std::mem::take(&mut *found.lock().unwrap_or_else(PoisonError::into_inner));
        if !holds.is_empty() {
            return Ok(Some(Kept::Held(holds.into_iter().collect())));
        }
        let purged = self.log.purged().await?;
        released.retain(|number| !purged.iter().any(|range| (range.first..=range.last.sequence).contains(number)));
        if !released.is_empty() {
            return Ok(Some(Kept::Release(released.into_iter().collect())));
        }
        let (judge, name) = (self.judge.clone(), day.seal.name());
        let violations = spawn_blocking(move || judge.violations(&name)).await?.map_err(PurgeFault::Seals)?;
        Ok(violations.into_iter().next().map(Kept::Refuted))
    }

    /// Whether the log knows the first of these seals. Its entry may be gone with a later range, while a hold kept its own:
    /// then the next seal knows it, and the log that one.
    async fn is_known(&self, from: &[SealedDay]) -> Result<bool, LogError> {
        for (place, day) in from.iter().enumerate() {
            let digest = day.seal.digest();
            if let Some(known) = self.log.sealed_as(day.seal.number).await? {
                return Ok(known == digest);
            }
            let next = from.get(place.saturating_add(1)).map(|next| &next.seal);
            if next.is_none_or(|next| next.previous != digest) {
                return Ok(false);
            }
        }
        Ok(false)
    }

    /// What was kept of a day goes when its retention is over and the log has no row of that day any more.
    async fn remove_days(
        &self,
        store: &Arc<dyn DayStore>,
        now: TemporalReference,
        silent: Option<TemporalReference>,
        removed: &mut Vec<(&'static str, Date)>,
    ) -> Result<(), PurgeFault> {
        let what = store.holds_what();
        let listing = store.clone();
        let days = spawn_blocking(move || listing.days()).await?.map_err(|source| PurgeFault::Store(what, source))?;
        for day in days.into_iter().filter(|day| self.retention.is_over(*day, now.date())) {
            let end = day.tomorrow().unwrap_or(Date::MAX);
            let period = TemporalReference::beginning(day)..TemporalReference::beginning(end);
            if self.log.has_any(period).await? {
                continue;
            }
            refuse_silence(silent, now)?;
            let removing = store.clone();
            let done = spawn_blocking(move || removing.remove(day)).await?;
            done.map_err(|source| PurgeFault::Store(what, source))?;
            removed.push((what, day));
        }
        Ok(())
    }

    async fn sealed_days(&self) -> Result<Vec<SealedDay>, PurgeFault> {
        let seals = self.seals.clone();
        spawn_blocking(move || sealed_days(&seals)).await?.map_err(PurgeFault::Seals)
    }

    async fn remove_rows(&self, seal: &Seal) -> Result<(), PurgeFault> {
        let (seals, name) = (self.seals.clone(), seal.name());
        spawn_blocking(move || seals.remove(&name, Part::Rows)).await?.map_err(PurgeFault::Seals)
    }
}

/// What a wrong clock takes for old is not.
fn refuse_silence(silent: Option<TemporalReference>, now: TemporalReference) -> Result<(), PurgeFault> {
    silent.map_or(Ok(()), |silent| Err(PurgeFault::Clock { now, silent }))
}

/// All seals on disk, in order. A file that is none keeps everything.
fn sealed_days(seals: &impl SealStore) -> Result<Vec<SealedDay>, OutsideFault> {
    let mut days = Vec::new();
    for found in seals.list()? {
        let Some(text) = seals.read(&found.name, Part::Seal)? else { continue };
        let seal =
            Seal::from_text(&String::from_utf8_lossy(&text)).map_err(|error| format!("{}: {error}", found.name))?;
        let (signature, stamp) = (seals.read(&found.name, Part::Signature)?, seals.read(&found.name, Part::Stamp)?);
        days.push(SealedDay { seal, signature, stamp, has_rows: found.has(Part::Rows) });
    }
    Ok(days)
}

fn is_gone(seal: &Seal, purged: &[Purged]) -> bool {
    purged.iter().any(|range| range.first <= seal.first() && seal.last.sequence <= range.last.sequence)
}

/// What was found in a range that may keep it.
#[derive(Default)]
struct Keeping {
    /// A hold keeps what it concerns, and itself.
    holds: BTreeSet<i64>,
    /// Holds of earlier ranges that end here: such a release stays as long as its hold's row does.
    released: BTreeSet<i64>,
}

impl Keeping {
    fn look(&mut self, one: &Recorded, holds: &[Hold], first: i64) {
        let is_held = |hold: &&Hold| hold.number == one.sequence || hold.held.concerns(&one.entry);
        self.holds.extend(holds.iter().filter(is_held).map(|hold| hold.number));
        self.released.extend(ended_by(&one.entry).filter(|number| *number < first));
    }
}

fn numbers(holds: &[i64]) -> String {
    let holds: Vec<String> = holds.iter().map(|number| format!("hold {number}")).collect();
    holds.join(", ")
}

#[cfg(test)]
mod tests;
