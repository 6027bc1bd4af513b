//! What the second step commits and answers, decided from the scanner's verdict and the mailbox server's answers. Pure.
//!
//! One recipient has one outcome, however many mailboxes an alias leads to. Who has his outcome already gets no second
//! one; that another copy of the envelope came, or lies in a mailbox, is recorded beside it.

use super::attempt::{Local, distinct};
use super::entries::Author;
use super::plan::Plan;
use super::served::{Due, Served};
use super::viruses::Inspection;
use crate::delivery_point::{Outcome, combined, issued_receipt};
use crate::legal_log::{EventKind, Recorded};
use crate::model::{Address, Msgid};
use crate::operations::ports::Reply;
use crate::operations::virus_guard::Stored;

/// A mailbox that was offered the envelope, with its answer.
#[derive(Debug)]
pub struct Answered<'a> {
    pub local: &'a Local,
    pub outcome: Outcome,
    pub reply: &'a Reply,
}

/// Who decides: with what is known of the message and of earlier attempts, and with new Message-IDs.
pub struct Decider<'a> {
    pub author: Author<'a>,
    pub served: Served<'a>,
    pub new_id: &'a (dyn Fn() -> Msgid + Sync),
}

impl Decider<'_> {
    /// What the second step comes to; `answered` are the answers in the order of [`Due::all`].
    pub fn plan(&self, due: &Due, inspection: &Inspection, answered: &[Answered]) -> Plan {
        let (open, beside) = answered.split_at(due.open.len().min(answered.len()));
        let plan = match inspection {
            Inspection::Clean => self.outcomes(open).and(self.beside(beside)),
            Inspection::Infected(found) => self.infected(&due.open, found).and(self.stopped(due, found)),
            Inspection::Unknown(reply) => Plan::wait(&due.all(), reply),
        };
        plan.and(self.repetitions(&due.done))
    }

    /// An infected envelope reaches no mailbox: one detection per recipient.
    fn infected(&self, locals: &[Local], found: &Stored) -> Plan {
        let mut plan = Plan::default();
        for recipient in distinct(locals) {
            let of_recipient = locals.iter().filter(|local| local.is(&recipient));
            let answers = of_recipient.map(|local| local.index).collect();
            plan.tell(self.author.virus_detection(&recipient, found, (self.new_id)()), answers, None);
        }
        plan
    }

    /// Nor does it reach a mailbox about which nothing is certified: that is recorded for each.
    fn stopped(&self, due: &Due, found: &Stored) -> Plan {
        let mut plan = Plan::default();
        for local in due.ordinary.iter().chain(&due.copies) {
            plan.record(self.author.stopped(&local.recipient.address, found));
        }
        plan
    }

    /// The recipients whose outcome another copy of the envelope decided before.
    fn repetitions(&self, done: &[Local]) -> Plan {
        let mut plan = Plan::default();
        for local in done.iter().filter(|local| self.served.is_repetition(local)) {
            if let Some(recipient) = local.address() {
                plan.record(self.author.further(EventKind::Duplicate, &recipient, &local.recipient.address));
            }
        }
        plan
    }

    /// What the mailboxes of certified recipients answered.
    fn outcomes(&self, answered: &[Answered]) -> Plan {
        let mut plan = Plan::default();
        let mut recipients: Vec<Address> = Vec::new();
        for recipient in answered.iter().filter_map(|one| one.local.address()) {
            if recipients.contains(&recipient) {
                continue;
            }
            let of_recipient: Vec<&Answered> = answered.iter().filter(|one| one.local.is(&recipient)).collect();
            plan = plan.and(self.outcome_of(&recipient, &of_recipient));
            recipients.push(recipient);
        }
        plan
    }

    /// What the mailboxes answered about which nothing is certified: it goes back to Postfix as it is.
    fn beside(&self, answered: &[Answered]) -> Plan {
        let mut plan = Plan::default();
        for Answered { local, outcome, reply } in answered {
            if *outcome == Outcome::Stored {
                let ordinary = local.address().filter(|address| self.author.message.data.facts.names(address));
                plan.record(self.author.copy(ordinary.as_ref(), &local.recipient.address));
            }
            plan.replies.push((local.index, (*reply).clone()));
        }
        plan
    }

    /// The one outcome of a recipient, of all mailboxes behind it that were offered the envelope now.
    fn outcome_of(&self, recipient: &Address, answered: &[&Answered]) -> Plan {
        let mut plan = Plan::default();
        let (open, decided): (Vec<&Answered>, Vec<&Answered>) =
            answered.iter().partition(|one| one.outcome == Outcome::Open);
        plan.replies.extend(open.iter().map(|one| (one.local.index, one.reply.clone())));

        let combined = combined(answered.iter().map(|one| &one.outcome));
        let Some(first) = answered.iter().find(|one| Some(&one.outcome) == combined) else { return plan };
        let mailbox = first.local.recipient.address.as_str();
        let further = |kind, one: &Answered| self.author.further(kind, recipient, &one.local.recipient.address);
        let stored = || decided.iter().filter(|one| one.outcome == Outcome::Stored);
        let answers = decided.iter().map(|one| one.local.index).collect();
        match &first.outcome {
            // An alias led to several mailboxes, one of which decided the outcome in an earlier attempt.
            _ if self.served.outcome_of(recipient).is_some() => {
                stored().for_each(|one| plan.record(further(EventKind::Copy, one)));
            }
            Outcome::Stored => {
                let message = self.author.message;
                let issued = issued_receipt(message.data.requested.unwrap_or_default(), recipient, &message.original);
                let entry = self.author.delivery(recipient, mailbox, issued, (self.new_id)());
                plan.tell(entry, answers, Some(further(EventKind::Copy, first)));
                let others = stored().filter(|one| one.local.index != first.local.index);
                others.for_each(|one| plan.record(further(EventKind::Copy, one)));
            }
            Outcome::Refused(failure) => {
                let entry = self.author.non_delivery(recipient, mailbox, failure, (self.new_id)());
                plan.tell(entry, answers, Some(further(EventKind::Duplicate, first)));
            }
            // One mailbox refused, another is still open: the outcome waits, and so does the answer.
            Outcome::Open => {
                plan.replies.extend(decided.iter().map(|one| (one.local.index, first.reply.clone())));
            }
        }
        plan
    }
}

/// The places of the mailboxes that are done, each with the outcome that is told for it again.
pub fn told_again(served: &Served, done: &[Local]) -> Vec<(Recorded, Vec<usize>)> {
    let outcome = |local: &Local| Some((served.outcome_for(local)?.clone(), vec![local.index]));
    done.iter().filter_map(outcome).collect()
}
