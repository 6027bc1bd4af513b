//! When the sender is told that nothing was heard (§3.1.6).

use super::Progress;
use crate::message::notification::TimeoutNotice;
use crate::model::TemporalReference;

const HOUR: u64 = 3600;

/// What was heard while nothing could be recorded is offered again within this time (`maximal_backoff_time`, and the work).
const HEARD_AGAIN_WITHIN: u64 = 2 * HOUR;

/// With neither take-charge nor delivery by then, the first notice.
pub const FIRST: u64 = 12 * HOUR;
/// Without delivery by then, the final one.
pub const FINAL: u64 = 24 * HOUR;
/// The final notice never comes before this.
pub const EARLIEST_FINAL: u64 = 22 * HOUR;

/// From when on the recipients of a message are watched: from its acceptance, but where that was recorded only long after, not
/// so early that a notice were owed before what was heard meanwhile could be recorded, too.
pub fn watched_since(accepted: TemporalReference, recorded: TemporalReference) -> TemporalReference {
    let head_start = i64::try_from(FIRST - HEARD_AGAIN_WITHIN).unwrap_or_default();
    TemporalReference::from_unix(accepted.unix().max(recorded.unix().saturating_sub(head_start)))
}

/// How long after the acceptance each notice is owed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// The first, with neither take-charge nor delivery.
    pub first_seconds: u64,
    /// The final one, without delivery.
    pub final_seconds: u64,
}

impl Default for Timeouts {
    fn default() -> Self {
        Timeouts { first_seconds: FIRST, final_seconds: FINAL }
    }
}

impl Timeouts {
    /// Whether the final notice comes earlier than the rules allow: for tests only.
    pub fn is_for_tests(&self) -> bool {
        self.final_seconds < EARLIEST_FINAL
    }

    /// After how long the next notice is owed, if nothing more is heard.
    pub fn next_after(&self, progress: Progress) -> Option<u64> {
        match progress {
            Progress::Sent => Some(self.first_seconds),
            Progress::TakenInCharge | Progress::Warned => Some(self.final_seconds),
            Progress::GivenUp | Progress::Delivered => None,
        }
    }

    /// Which notice is owed now about one recipient, if any; `elapsed` seconds after the acceptance.
    pub fn owed(&self, progress: Progress, elapsed: u64) -> Option<TimeoutNotice> {
        match progress {
            Progress::Delivered | Progress::GivenUp => None,
            // After a long standstill the first notice would tell less than is known: the final one takes its place.
            _ if elapsed >= self.final_seconds => Some(TimeoutNotice::Final),
            Progress::Sent if elapsed >= self.first_seconds => Some(TimeoutNotice::First),
            Progress::Sent | Progress::TakenInCharge | Progress::Warned => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAWFUL: Timeouts = Timeouts { first_seconds: FIRST, final_seconds: FINAL };

    #[test]
    fn the_three_scenarios_of_the_rules() {
        // The far side takes it in charge and never delivers: the final notice only.
        assert_eq!(LAWFUL.owed(Progress::TakenInCharge, FIRST), None);
        assert_eq!(LAWFUL.owed(Progress::TakenInCharge, FINAL), Some(TimeoutNotice::Final));
        // Silence: both.
        assert_eq!(LAWFUL.owed(Progress::Sent, FIRST - 1), None);
        assert_eq!(LAWFUL.owed(Progress::Sent, FIRST), Some(TimeoutNotice::First));
        assert_eq!(LAWFUL.owed(Progress::Warned, FINAL - 1), None);
        assert_eq!(LAWFUL.owed(Progress::Warned, FINAL), Some(TimeoutNotice::Final));
        // A delivery or failure, early or between the two, ends it.
        for ended in [Progress::Delivered, Progress::GivenUp] {
            assert_eq!(LAWFUL.owed(ended, u64::MAX), None);
            assert_eq!(LAWFUL.next_after(ended), None);
        }
    }

    #[test]
    fn the_final_notice_never_comes_before_22_hours() {
        for progress in Progress::OPEN {
            for elapsed in 0..22 {
                assert_ne!(LAWFUL.owed(progress, elapsed * HOUR), Some(TimeoutNotice::Final), "{progress:?} {elapsed}");
            }
        }
        assert!(!LAWFUL.is_for_tests());
        assert!(!Timeouts { final_seconds: EARLIEST_FINAL, ..LAWFUL }.is_for_tests());
        assert!(Timeouts { final_seconds: EARLIEST_FINAL - 1, ..LAWFUL }.is_for_tests());
    }

    #[test]
    fn after_a_standstill_the_final_notice_takes_the_place_of_the_first() {
        assert_eq!(LAWFUL.owed(Progress::Sent, FINAL), Some(TimeoutNotice::Final));
    }

    #[test]
    fn something_is_owed_as_soon_as_the_next_instant_comes() {
        for progress in Progress::OPEN {
            let next = LAWFUL.next_after(progress).unwrap();
            assert!(LAWFUL.owed(progress, next).is_some() && LAWFUL.owed(progress, next - 1).is_none());
        }
    }

    #[test]
    fn what_is_recorded_late_owes_no_notice_at_once() {
        let since = |accepted: u64, recorded: u64| {
            let at = |hours: u64| TemporalReference::from_unix(i64::try_from(hours * HOUR).unwrap());
            u64::try_from(watched_since(at(accepted), at(recorded)).unix()).unwrap() / HOUR
        };
        assert_eq!((since(100, 100), since(100, 110)), (100, 100));
        // A day in the queue: the first notice is owed two hours after it was recorded.
        assert_eq!(since(100, 124) + 12, 124 + 2);
    }
}
