//! What a step is to commit, answer and tell, decided before any of it is done. Pure.
//!
//! Two queue files about one transaction may be worked on at once, and the first commit of an outcome wins. So an entry
//! may bring with it what is recorded where another queue file's entry holds its slot. That is a commit of its own. Killed
//! between the two, the next attempt finds the other's outcome and records `duplicate` where `copy` was meant: the trace
//! says less of a mailbox, and nothing that is certified changes.

use super::attempt::Local;
use crate::legal_log::{Entry, Recorded};
use crate::operations::ports::Reply;

#[derive(Debug, Default)]
pub struct Plan {
    entries: Vec<Planned>,
    /// Answers that are final, whatever is told, each with its place.
    pub replies: Vec<(usize, Reply)>,
}

#[derive(Debug)]
struct Planned {
    entry: Entry,
    /// The places that are answered once it is told; none for an entry that tells nothing.
    answers: Option<Vec<usize>>,
    /// What is recorded where it was overtaken.
    otherwise: Option<Entry>,
}

impl Plan {
    /// Nothing is known of the message: everybody waits.
    pub fn wait(locals: &[Local], reply: &Reply) -> Self {
        let replies = locals.iter().map(|local| (local.index, reply.clone())).collect();
        Plan { replies, ..Plan::default() }
    }

    pub fn and(mut self, other: Plan) -> Self {
        self.entries.extend(other.entries);
        self.replies.extend(other.replies);
        self
    }

    /// An entry that tells nothing.
    pub fn record(&mut self, entry: Entry) {
        self.entries.push(Planned { entry, answers: None, otherwise: None });
    }

    /// An entry in whose place `otherwise` is recorded where it is overtaken.
    pub fn record_or(&mut self, entry: Entry, otherwise: Entry) {
        self.entries.push(Planned { entry, answers: None, otherwise: Some(otherwise) });
    }

    /// An entry that is told, for these places; `otherwise` as above.
    pub fn tell(&mut self, entry: Entry, answers: Vec<usize>, otherwise: Option<Entry>) {
        self.entries.push(Planned { entry, answers: Some(answers), otherwise });
    }

    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().map(|planned| &planned.entry)
    }

    /// What else is to be recorded, once the log gave `recorded` for the entries.
    pub fn overtaken(&self, recorded: &[Recorded]) -> Vec<Entry> {
        let is_overtaken = |(planned, one): &(&Planned, &Recorded)| planned.entry.queue_id != one.entry.queue_id;
        let overtaken = self.entries.iter().zip(recorded).filter(is_overtaken);
        overtaken.filter_map(|(planned, _)| planned.otherwise.clone()).collect()
    }

    /// What is to be told, each with the places it answers.
    pub fn told(&self, recorded: Vec<Recorded>) -> Vec<(Recorded, Vec<usize>)> {
        let answers = self.entries.iter().map(|planned| planned.answers.clone());
        recorded.into_iter().zip(answers).filter_map(|(one, answers)| Some((one, answers?))).collect()
    }
}
