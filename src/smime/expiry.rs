//! When the end of a certificate is told: 60, 30 and 7 days before, every day of the last week, and every day after it.
//!
//! What is told is a value: who keeps the last one and compares tells each thing once. Nothing is read or written here.

use std::fmt;

use crate::model::TemporalReference;

const DAY: i64 = 86_400;

/// From this many days before the end on, every day counts.
const LAST_DAYS: i64 = 7;

/// How near the end of a certificate is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiry {
    /// In less than this many days: 60 or 30.
    Within(i64),
    /// In the last week: the days left, the one that has begun included.
    LastWeek(i64),
    /// It has expired: the whole days since.
    Past(i64),
}

impl Expiry {
    /// Whether nothing else may come first.
    pub fn is_urgent(self) -> bool {
        !matches!(self, Self::Within(_))
    }
}

impl fmt::Display for Expiry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Within(days) => write!(f, "expires in less than {days} days"),
            Self::LastWeek(1) => f.write_str("expires within a day"),
            Self::LastWeek(days) => write!(f, "expires within {days} days"),
            Self::Past(_) => f.write_str("has expired and signs nothing"),
        }
    }
}

/// What is to be told of a certificate whose last second is this (Unix time), if anything.
pub fn expiry(not_after: i64, now: TemporalReference) -> Option<Expiry> {
    let left = not_after.saturating_sub(now.unix());
    match left.div_euclid(DAY) {
        _ if left < 0 => Some(Expiry::Past((-left - 1) / DAY)),
        days if days < LAST_DAYS => Some(Expiry::LastWeek(days + 1)),
        days if days < 30 => Some(Expiry::Within(30)),
        days if days < 60 => Some(Expiry::Within(60)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const END: i64 = 1_800_000_000;

    fn left(seconds: i64) -> Option<Expiry> {
        expiry(END, TemporalReference::from_unix(END - seconds))
    }

    #[test]
    fn it_begins_sixty_days_before_and_changes_at_thirty_and_seven() {
        assert_eq!(left(60 * DAY), None);
        assert_eq!(left(60 * DAY - 1), Some(Expiry::Within(60)));
        assert_eq!(left(30 * DAY), Some(Expiry::Within(60)));
        assert_eq!(left(30 * DAY - 1), Some(Expiry::Within(30)));
        assert_eq!(left(7 * DAY), Some(Expiry::Within(30)));
        assert_eq!(left(7 * DAY - 1), Some(Expiry::LastWeek(7)));
    }

    #[test]
    fn every_day_of_the_last_week_and_after_the_end_is_another_thing_to_tell() {
        assert_eq!(left(6 * DAY), Some(Expiry::LastWeek(7)));
        assert_eq!(left(6 * DAY - 1), Some(Expiry::LastWeek(6)));
        assert_eq!(left(0), Some(Expiry::LastWeek(1)));
        assert_eq!(left(-1), Some(Expiry::Past(0)));
        assert_eq!(left(-DAY), Some(Expiry::Past(0)));
        assert_eq!(left(-DAY - 1), Some(Expiry::Past(1)));
        assert!(left(-1).is_some_and(Expiry::is_urgent) && !left(8 * DAY).is_some_and(Expiry::is_urgent));
    }
}
