//! Since when a report waits for the arrival of its envelope.
//!
//! Kept in memory alone: after a restart the report waits anew, and so it does after a fault, because the arrival may not
//! have been recorded for the same reason. What waits too long costs a line in `mailq`; what is dropped too early is a
//! notice that nobody gets.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::model::TemporalReference;

/// After this Postfix has given a report up (`bounce_queue_lifetime`), and its line is not needed any more.
const LONGEST_IN_QUEUE: i64 = 26 * 3600;

/// The queue files of reports about envelopes that the log does not know, each with the instant it was first offered.
#[derive(Debug, Default)]
pub struct UnheardOf(Mutex<HashMap<String, TemporalReference>>);

impl UnheardOf {
    /// When this queue file was first asked about: now, if it was not.
    pub(super) fn since(&self, queue_id: &str, now: TemporalReference) -> TemporalReference {
        let mut seen = self.seen();
        seen.retain(|_, first| now.unix() - first.unix() < LONGEST_IN_QUEUE);
        *seen.entry(queue_id.to_owned()).or_insert(now)
    }

    /// All of them wait anew.
    pub(super) fn forget(&self) {
        self.seen().clear();
    }

    fn seen(&self) -> MutexGuard<'_, HashMap<String, TemporalReference>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_known_since_it_was_first_asked_about() {
        let at = TemporalReference::from_unix;
        let unheard_of = UnheardOf::default();
        assert_eq!(unheard_of.since("Q1", at(1_000)), at(1_000));
        assert_eq!(unheard_of.since("Q2", at(2_000)), at(2_000));
        assert_eq!(unheard_of.since("Q1", at(3_000)), at(1_000));
        assert_eq!(unheard_of.since("Q2", at(1_000 + LONGEST_IN_QUEUE)), at(2_000));
        assert_eq!(unheard_of.seen().len(), 1, "what Postfix gave up is not kept");
        unheard_of.forget();
        assert_eq!(unheard_of.since("Q2", at(100_000)), at(100_000));
    }
}
