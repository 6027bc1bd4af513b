//! Days and instants as they are typed.

use std::ops::{Range, RangeInclusive};

use jiff::civil::Date;

use crate::model::TemporalReference;

/// The first instant of a day, or an instant itself.
pub fn beginning(text: &str) -> Result<TemporalReference, String> {
    typed(text).map(|typed| match typed {
        Typed::Day(day) => TemporalReference::beginning(day),
        Typed::Instant(instant) => instant,
    })
}

/// The first instant after a day, or after an instant.
pub fn end(text: &str) -> Result<TemporalReference, String> {
    typed(text).map(|typed| match typed {
        Typed::Day(day) => after(day),
        Typed::Instant(instant) => TemporalReference::from_unix(instant.unix().saturating_add(1)),
    })
}

/// All of these days.
pub fn of(days: RangeInclusive<Date>) -> Range<TemporalReference> {
    TemporalReference::beginning(*days.start())..after(*days.end())
}

enum Typed {
    Day(Date),
    Instant(TemporalReference),
}

fn typed(text: &str) -> Result<Typed, String> {
    if let Some(instant) = TemporalReference::from_rfc3339(text) {
        return Ok(Typed::Instant(instant));
    }
    // A date is read from the beginning of a longer text, too.
    let day = text.parse::<Date>().ok().filter(|day| day.to_string() == text);
    day.map(Typed::Day).ok_or_else(|| "write a day as 2026-07-15, an instant as 2026-07-15T08:30:00+02:00".to_owned())
}

/// The first instant after a day; one without a next day is the last there is.
fn after(day: Date) -> TemporalReference {
    day.tomorrow().map_or(TemporalReference::from_unix(i64::MAX), TemporalReference::beginning)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_instants_are_read_and_the_last_one_counts() {
        assert_eq!(beginning("2024-07-15").unwrap().rfc3339(), "2024-07-15T00:00:00+02:00");
        assert_eq!(end("2024-07-15").unwrap().rfc3339(), "2024-07-16T00:00:00+02:00");
        assert_eq!(beginning("2024-07-15T08:30:00Z").unwrap().rfc3339(), "2024-07-15T10:30:00+02:00");
        assert_eq!(end("2024-07-15T10:30:00+02:00").unwrap().rfc3339(), "2024-07-15T10:30:01+02:00");
        for text in ["", "yesterday", "15/07/2024", "2024-07-15T08:30:00", "2024-07-15 08:30"] {
            assert!(beginning(text).is_err() && end(text).is_err(), "{text}");
        }
    }
}
