//! When the sender is told that nothing was heard (§3.1.6).

use super::Progress;
use crate::message::notification::TimeoutNotice;

const HOUR: u64 = 3600;

/// With neither take-charge nor delivery by then, the first notice.
pub const FIRST: u64 = 12 * HOUR;
/// Without delivery by then, the final one.
pub const FINAL: u64 = 24 * HOUR;
/// The final notice never comes before this.
pub const EARLIEST_FINAL: u64 = 22 * HOUR;

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
}
