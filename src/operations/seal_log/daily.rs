//! When it is sealed and stamped: right after midnight of legal time, at start where a day was missed, and again and again
//! after a failure.

use std::time::Duration;

use metrics::{counter, gauge};
use tokio::sync::watch;
use tracing::{error, info, warn};

use super::{Known, Made, NotSealed, SealLog, Stamping};
use crate::model::TemporalReference;
use crate::operations::causes;
use crate::operations::ports::{Instruments, SealStore, SealedLog, StampServer};

/// How often it is looked whether something is to be done: a clock may be set, a machine may have slept, a command may
/// have sealed.
const LOOK_EVERY: u64 = 60;

/// After a failure: this long, then twice as long each time, up to an hour.
const FIRST_RETRY: u64 = 5;
const LONGEST_RETRY: u64 = 3600;

const UNSTAMPED: &str = "pec_milter_log_unstamped_seals";
const AGE: &str = "pec_milter_log_seal_age_seconds";

/// Failures one after the other, and when it is tried again.
#[derive(Debug, Default)]
struct Retry {
    failures: u32,
    not_before: Option<TemporalReference>,
}

impl Retry {
    /// No pause is longer than the longest: one that seems to be was begun by a clock that stood ahead.
    fn is_due(&self, now: TemporalReference) -> bool {
        self.not_before.is_none_or(|then| now >= then || then > later(now, LONGEST_RETRY))
    }

    fn succeeded(&mut self) {
        *self = Retry::default();
    }

    /// Returns how many seconds to wait.
    fn failed(&mut self, now: TemporalReference) -> u64 {
        self.failures = self.failures.saturating_add(1);
        let pause = pause_after(self.failures);
        self.not_before = Some(later(now, pause));
        pause
    }
}

impl<L, F, A, T> SealLog<L, F, A, T>
where
    L: SealedLog,
    F: SealStore,
    A: StampServer,
    T: Instruments,
{
    /// Seals and stamps until told to stop.
    pub async fn run(self, mut stopping: watch::Receiver<bool>) {
        let (mut sealing, mut stamping) = (Retry::default(), Retry::default());
        loop {
            let round = async {
                self.round(&mut sealing, &mut stamping).await;
                let pause = self.pause(&sealing, &stamping);
                tokio::time::sleep(Duration::from_secs(pause)).await;
            };
            // Cut off anywhere it is as after a crash: the next process goes on.
            tokio::select! {
                () = round => {}
                _ = stopping.wait_for(|stop| *stop) => return,
            }
        }
    }

    async fn round(&self, sealing: &mut Retry, stamping: &mut Retry) {
        let now = self.instruments.now();
        if sealing.is_due(now) {
            match self.seal_if_due().await {
                Ok(()) => sealing.succeeded(),
                Err(failure) => {
                    counter!("pec_milter_log_seal_failures_total").increment(1);
                    let seconds = sealing.failed(now);
                    let cause = causes(&failure);
                    error!(
                        cause,
                        seconds, "the log is NOT SEALED; mail goes on, and it is tried again in so many seconds"
                    );
                }
            }
        }
        if let Err(failure) = self.stamp_if_due(now, stamping).await {
            let seconds = stamping.failed(now);
            let cause = causes(&failure);
            error!(cause, seconds, "the seals of the log cannot be looked at; it is tried again in so many seconds");
        }
    }

    /// Seals where a day has ended since the last seal, or where a crash left something.
    pub(super) async fn seal_if_due(&self) -> Result<(), NotSealed> {
        // Asked anew each time: what is sealed past midnight is of the new day.
        while self.is_due(&self.known().await?, self.instruments.now()).await? {
            match self.seal().await? {
                Some(Made { seal, .. }) => {
                    info!(name = seal.name(), first = seal.first(), last = seal.last.sequence, "the log is sealed");
                }
                None => break,
            }
        }
        Ok(())
    }

    async fn is_due(&self, known: &Known, now: TemporalReference) -> Result<bool, NotSealed> {
        if self.has_leftover(known).await? {
            return Ok(true);
        }
        let today = now.date();
        let Some(first) = self.first_to_seal(known.last.as_ref().map_or(0, |last| last.last)).await? else {
            return Ok(false);
        };
        // Without any seal yet the first row begins the first day. A day to come is one of a clock that stood ahead: waiting
        // for it would leave everything unsealed until then.
        Ok(known.last.as_ref().map_or(first.at, |last| last.at).date() != today)
    }

    async fn stamp_if_due(&self, now: TemporalReference, retry: &mut Retry) -> Result<(), NotSealed> {
        let known = self.known().await?;
        let waiting = self.unstamped(&known).await?.len();
        if let Some(last) = &known.last {
            gauge!(AGE).set(now.unix().saturating_sub(last.at.unix()) as f64);
        }
        gauge!(UNSTAMPED).set(waiting as f64);
        if waiting == 0 || self.authority.is_none() || !retry.is_due(now) {
            return Ok(());
        }
        let Stamping { stamped, waiting, failure } = self.stamp().await?;
        gauge!(UNSTAMPED).set(waiting.len() as f64);
        for (name, stamp) in stamped {
            let at = stamp.at.rfc3339();
            info!(name, at, serial = stamp.serial, authority = stamp.authority, "the seal of the log is time-stamped");
        }
        match failure {
            None => retry.succeeded(),
            Some(failure) => {
                counter!("pec_milter_log_stamp_failures_total").increment(1);
                let (seconds, cause) = (retry.failed(now), causes(&failure));
                let name = waiting.first();
                warn!(
                    name,
                    waiting = waiting.len(),
                    cause,
                    seconds,
                    "a seal of the log has NO TIME STAMP; mail goes on, and it is tried again in so many seconds"
                );
            }
        }
        Ok(())
    }

    /// Until there is something to do, or to look for.
    fn pause(&self, sealing: &Retry, stamping: &Retry) -> u64 {
        let now = self.instruments.now();
        let retries = [sealing, stamping].into_iter().filter_map(|retry| retry.not_before);
        let next = retries.chain([next_midnight(now), later(now, LOOK_EVERY)]).min().unwrap_or(now);
        u64::try_from(next.unix().saturating_sub(now.unix())).unwrap_or_default().max(1)
    }
}

/// The first instant of the next day, legal Italian time.
fn next_midnight(now: TemporalReference) -> TemporalReference {
    let next = now.date().tomorrow();
    next.map_or(TemporalReference::from_unix(i64::MAX), TemporalReference::beginning)
}

fn pause_after(failures: u32) -> u64 {
    FIRST_RETRY.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(LONGEST_RETRY)
}

fn later(now: TemporalReference, seconds: u64) -> TemporalReference {
    TemporalReference::from_unix(now.unix().saturating_add_unsigned(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_midnight_is_that_of_legal_time() {
        let next = |text: &str| next_midnight(TemporalReference::from_rfc3339(text).unwrap()).rfc3339();
        assert_eq!(next("2026-07-15T23:59:59+02:00"), "2026-07-16T00:00:00+02:00");
        assert_eq!(next("2026-07-16T00:00:00+02:00"), "2026-07-17T00:00:00+02:00");
        // 22:30 in London is the next day in Rome.
        assert_eq!(next("2026-12-31T23:30:00Z"), "2027-01-02T00:00:00+01:00");
        // The days of the change of summer time have 23 and 25 hours.
        assert_eq!(next("2026-03-29T00:00:00+01:00"), "2026-03-30T00:00:00+02:00");
        assert_eq!(next("2026-10-25T00:00:00+02:00"), "2026-10-26T00:00:00+01:00");
        assert!(next_midnight(TemporalReference::from_unix(i64::MAX)) >= TemporalReference::from_unix(i64::MAX));
    }

    #[test]
    fn failures_are_tried_again_at_growing_intervals() {
        assert_eq!([1, 2, 3, 8, 11, u32::MAX].map(pause_after), [5, 10, 20, 640, 3600, 3600]);
        let now = TemporalReference::from_unix(0);
        let mut retry = Retry::default();
        assert!(retry.is_due(now));
        assert_eq!([retry.failed(now), retry.failed(now)], [5, 10]);
        assert!(!retry.is_due(later(now, 9)) && retry.is_due(later(now, 10)));
        retry.succeeded();
        assert!(retry.is_due(now));
    }

    #[test]
    fn a_pause_that_a_clock_ahead_began_is_not_waited_for() {
        let now = TemporalReference::from_unix(0);
        let mut retry = Retry::default();
        retry.failed(later(now, LONGEST_RETRY - FIRST_RETRY));
        assert!(!retry.is_due(now));
        retry.failed(later(now, 86_400));
        assert!(retry.is_due(now));
    }
}
