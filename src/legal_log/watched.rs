//! Since when the recipients of an accepted message are watched (§3.1.6): the watch and the auditor go by it.

use crate::model::TemporalReference;

const HOUR: i64 = 3600;

/// A message recorded later than this after its acceptance is watched from so long before it was recorded: the first notice,
/// after 12 hours, is then owed two hours after, when what was heard while nothing could be recorded has been offered again
/// (`maximal_backoff_time`, and the work).
const HEAD_START: i64 = 10 * HOUR;

/// From its acceptance, but where that was recorded only long after, not so early that a notice were owed at once.
pub fn watched_since(accepted: TemporalReference, recorded: TemporalReference) -> TemporalReference {
    TemporalReference::from_unix(accepted.unix().max(recorded.unix().saturating_sub(HEAD_START)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_recorded_late_owes_no_notice_at_once() {
        let at = |hours: i64| TemporalReference::from_unix(hours * HOUR);
        let since = |accepted, recorded| watched_since(at(accepted), at(recorded)).unix() / HOUR;
        assert_eq!((since(100, 100), since(100, 110)), (100, 100));
        assert_eq!(since(100, 124) + 12, 124 + 2);
    }
}
