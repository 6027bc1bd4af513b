//! What is remembered of Postfix's reports that wait in its queue.
//!
//! Kept in memory alone: after a restart a report waits anew, and so it does after a fault, because the arrival may not
//! have been recorded for the same reason. What waits too long costs a line in `mailq`; what is dropped too early is a
//! notice that nobody gets.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::model::TemporalReference;

/// After this Postfix has given a report up (`bounce_queue_lifetime`), and its line is not needed any more.
const LONGEST_IN_QUEUE: i64 = 26 * 3600;

/// The queue files of reports that wait.
#[derive(Debug, Default)]
pub struct WaitingReports(Mutex<HashMap<String, Waiting>>);

#[derive(Debug)]
struct Waiting {
    /// When it was first offered.
    came: TemporalReference,
    /// When it was first asked about since the last fault.
    since: Option<TemporalReference>,
    /// What is done of it: its notifications are not sent with each attempt.
    done: HashSet<String>,
}

impl WaitingReports {
    /// When this queue file was first asked about: now, if it was not.
    pub(super) fn since(&self, queue_id: &str, now: TemporalReference) -> TemporalReference {
        self.with(queue_id, now, |waiting| *waiting.since.get_or_insert(now))
    }

    /// Whether a part of this queue file's work is done.
    pub(super) fn is_done(&self, queue_id: &str, part: &str) -> bool {
        self.held().get(queue_id).is_some_and(|waiting| waiting.done.contains(part))
    }

    /// Remembers that a part of this queue file's work is done.
    pub(super) fn set_done(&self, queue_id: &str, part: &str, now: TemporalReference) {
        self.with(queue_id, now, |waiting| waiting.done.insert(part.to_owned()));
    }

    /// It waits no longer.
    pub(super) fn end(&self, queue_id: &str) {
        self.held().remove(queue_id);
    }

    /// All of them wait anew.
    pub(super) fn forget(&self) {
        self.held().values_mut().for_each(|waiting| waiting.since = None);
    }

    fn with<T>(&self, queue_id: &str, now: TemporalReference, use_it: impl FnOnce(&mut Waiting) -> T) -> T {
        let mut held = self.held();
        held.retain(|_, waiting| now.unix() - waiting.came.unix() < LONGEST_IN_QUEUE);
        let new = || Waiting { came: now, since: None, done: HashSet::new() };
        use_it(held.entry(queue_id.to_owned()).or_insert_with(new))
    }

    fn held(&self) -> MutexGuard<'_, HashMap<String, Waiting>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_known_since_it_was_first_asked_about() {
        let at = TemporalReference::from_unix;
        let reports = WaitingReports::default();
        assert_eq!(reports.since("Q1", at(1_000)), at(1_000));
        assert_eq!(reports.since("Q2", at(2_000)), at(2_000));
        assert_eq!(reports.since("Q1", at(3_000)), at(1_000));
        assert_eq!(reports.since("Q2", at(1_000 + LONGEST_IN_QUEUE)), at(2_000));
        assert_eq!(reports.held().len(), 1, "what Postfix gave up is not kept");
        reports.forget();
        assert_eq!(reports.since("Q2", at(100_000)), at(100_000));
    }

    #[test]
    fn what_is_done_is_known_of_its_report_alone_until_that_ends() {
        let at = TemporalReference::from_unix(1_000);
        let reports = WaitingReports::default();
        reports.set_done("Q1", "a@x.example", at);
        assert!(reports.is_done("Q1", "a@x.example"));
        assert!(!reports.is_done("Q1", "b@x.example") && !reports.is_done("Q2", "a@x.example"));
        reports.forget();
        assert!(reports.is_done("Q1", "a@x.example"), "a fault somewhere undoes nothing");
        reports.end("Q1");
        assert!(reports.held().is_empty());
    }
}
