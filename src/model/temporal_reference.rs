//! The one time of one operation and its format for users (§4.1, §4.2).

use jiff::{Timestamp, Zoned, civil::Date, tz::TimeZone};
use std::sync::LazyLock;

/// Legal Italian time. The zone database is compiled in, so the lookup cannot fail on a machine without one.
static ROME: LazyLock<TimeZone> = LazyLock::new(|| TimeZone::get("Europe/Rome").unwrap_or(TimeZone::UTC));

/// An instant, to the second: the same in the `Date` field, the text, daticert.xml and the log (§4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TemporalReference(i64);

impl TemporalReference {
    /// 1970-01-01 00:00 UTC.
    pub const EPOCH: Self = TemporalReference(0);

    /// From seconds since 1970-01-01 00:00 UTC; instants that no calendar here can show become the nearest that can.
    pub fn from_unix(seconds: i64) -> Self {
        // A day inside jiff's range, so that any zone offset still fits.
        const DAY: i64 = 86_400;
        let (first, last) = (Timestamp::MIN.as_second() + DAY, Timestamp::MAX.as_second() - DAY);
        TemporalReference(seconds.clamp(first, last))
    }

    /// The first instant of a day, legal Italian time; a day that no calendar here can show becomes the nearest that can.
    pub fn beginning(day: Date) -> Self {
        let begins = day.to_zoned(ROME.clone()).map(|begins| begins.timestamp().as_second());
        Self::from_unix(begins.unwrap_or(if day.year() > 0 { i64::MAX } else { i64::MIN }))
    }

    /// From a text such as `2027-01-15T00:00:00+01:00` (RFC 3339); none for another form, or without the offset.
    pub fn from_rfc3339(text: &str) -> Option<Self> {
        text.parse::<Timestamp>().ok().map(|instant| Self::from_unix(instant.as_second()))
    }

    /// As [`Self::from_rfc3339`] reads it, legal Italian time.
    pub fn rfc3339(self) -> String {
        self.zoned().strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
    }

    /// As [`Self::from_rfc3339`] reads it, UTC: `2024-07-15T08:30:45Z`.
    pub fn utc(self) -> String {
        Timestamp::from_second(self.0).unwrap_or(Timestamp::UNIX_EPOCH).to_string()
    }

    /// Seconds since 1970-01-01 00:00 UTC.
    pub fn unix(self) -> i64 {
        self.0
    }

    /// The day, legal Italian time.
    pub fn date(self) -> Date {
        self.zoned().date()
    }

    /// `dd/mm/yyyy`, legal Italian time (§4.2).
    pub fn day(self) -> String {
        self.zoned().strftime("%d/%m/%Y").to_string()
    }

    /// `hh:mm:ss`, legal Italian time (§4.2).
    pub fn time(self) -> String {
        self.zoned().strftime("%H:%M:%S").to_string()
    }

    /// `+hhmm`, the offset of legal Italian time at this instant (§4.2).
    pub fn zone(self) -> String {
        self.zoned().strftime("%z").to_string()
    }

    /// The value of a `Date` field (RFC 5322 §3.3), legal Italian time.
    pub fn date_field(self) -> String {
        self.zoned().strftime("%a, %d %b %Y %H:%M:%S %z").to_string()
    }

    fn zoned(self) -> Zoned {
        Timestamp::from_second(self.0).unwrap_or(Timestamp::UNIX_EPOCH).to_zoned(ROME.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_is_read_with_its_offset_and_written_in_legal_time() {
        let midnight = TemporalReference::from_rfc3339("2027-01-15T00:00:00+01:00").unwrap();
        assert_eq!(midnight.unix(), 1_799_967_600);
        assert_eq!(TemporalReference::from_rfc3339("2027-01-14T23:00:00Z"), Some(midnight));
        assert_eq!(midnight.rfc3339(), "2027-01-15T00:00:00+01:00");
        for unclear in ["2027-01-15T00:00:00", "2027-01-15", "tomorrow", ""] {
            assert_eq!(TemporalReference::from_rfc3339(unclear), None, "{unclear}");
        }
    }

    #[test]
    fn legal_time_follows_summer_time() {
        let summer = TemporalReference::from_unix(1_721_032_245);
        assert_eq!(
            (summer.day(), summer.time(), summer.zone()),
            ("15/07/2024".into(), "10:30:45".into(), "+0200".into())
        );
        assert_eq!(summer.date().to_string(), "2024-07-15");
        assert_eq!(summer.date_field(), "Mon, 15 Jul 2024 10:30:45 +0200");
        let winter = TemporalReference::from_unix(1_705_311_045);
        assert_eq!((winter.time(), winter.zone()), ("10:30:45".into(), "+0100".into()));
    }

    #[test]
    fn a_day_begins_at_midnight_in_rome() {
        let begins = |text: &str| TemporalReference::beginning(text.parse().unwrap());
        assert_eq!(begins("2024-07-15").unix(), 1_720_994_400);
        assert_eq!(begins("2024-01-15").unix(), 1_705_273_200);
        assert_eq!(begins("9999-12-31").unix(), TemporalReference::from_unix(i64::MAX).unix());
        assert_eq!(begins("-009999-01-01").unix(), TemporalReference::from_unix(i64::MIN).unix());
    }

    #[test]
    fn an_instant_out_of_range_is_clamped() {
        assert!(TemporalReference::from_unix(i64::MAX).date_field().contains("9999"));
        assert!(TemporalReference::from_unix(i64::MIN).day().len() >= 10);
    }
}
