//! How long evidence is kept (§2.2.4, §2.3).

use jiff::ToSpan;
use jiff::civil::Date;

/// A number of months, never fewer than the rules ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention(i32);

impl Retention {
    /// What §2.2.4 and §2.3 ask for.
    pub const LEAST: Self = Retention(30);

    /// Longer than any rule, and short enough for every calendar.
    pub const MOST_MONTHS: u64 = 1200;

    /// None for fewer months than the rules ask for, or more than a hundred years.
    pub fn months(months: u64) -> Option<Self> {
        let known = i32::try_from(months).ok().filter(|_| months <= Self::MOST_MONTHS)?;
        (known >= Self::LEAST.0).then_some(Retention(known))
    }

    pub fn number(self) -> i32 {
        self.0
    }

    /// Whether what happened on a day has been kept for the whole time: the last day is part of it, and where the month is
    /// shorter its last day counts.
    pub fn is_over(self, since: Date, today: Date) -> bool {
        // A day that no calendar here can show is not past.
        since.checked_add(self.0.months()).is_ok_and(|last| today > last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thirty_months_are_kept_to_the_day() {
        let day = |text: &str| text.parse::<Date>().unwrap();
        let is_over = |since: &str, today: &str| Retention::LEAST.is_over(day(since), day(today));
        for (stored, last, past) in [
            ("2024-01-15", "2026-07-15", "2026-07-16"),
            ("2024-02-29", "2026-08-29", "2026-08-30"),
            // 31 August and 30 months: the last day of February.
            ("2026-08-31", "2029-02-28", "2029-03-01"),
        ] {
            assert!(!is_over(stored, stored), "{stored}");
            assert!(!is_over(stored, last), "{stored}");
            assert!(is_over(stored, past), "{stored}");
        }
        assert!(!Retention::LEAST.is_over(Date::MAX, Date::MAX));
    }

    #[test]
    fn it_is_configured_upward_only() {
        for (months, known) in [(0, false), (29, false), (30, true), (120, true), (1200, true), (1201, false)] {
            assert_eq!(Retention::months(months).is_some(), known, "{months}");
        }
        assert_eq!(Retention::months(30), Some(Retention::LEAST));
    }
}
