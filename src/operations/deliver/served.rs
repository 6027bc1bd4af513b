//! What earlier attempts, and earlier copies of the same envelope, left in the log. Pure.

use super::attempt::{Addressed, Local};
use super::entries::{ArrivalDetails, OutcomeDetails, details};
use crate::incoming_point::CertifiedMessage;
use crate::legal_log::{Entry, EventKind, Recorded};
use crate::model::Address;

/// The transaction's earlier entries, seen from one queue file.
pub struct Served<'a> {
    pub queue_id: &'a str,
    pub earlier: &'a [Recorded],
}

/// What is left to do for the mailboxes of an envelope.
#[derive(Debug)]
pub struct Due {
    /// Mailboxes of certified recipients that must not be offered it again.
    pub done: Vec<Local>,
    /// Those that are offered it now.
    pub open: Vec<Local>,
    /// Mailboxes of ordinary recipients that are offered it now.
    pub ordinary: Vec<Local>,
    /// Mailboxes that the envelope does not name and that are offered a copy now.
    pub copies: Vec<Local>,
}

impl Due {
    pub fn is_empty(&self) -> bool {
        self.open.is_empty() && self.ordinary.is_empty() && self.copies.is_empty()
    }

    /// Everybody whom it is offered to now: the certified recipients, the ordinary ones, the copies.
    pub fn all(&self) -> Vec<Local> {
        self.open.iter().chain(&self.ordinary).chain(&self.copies).cloned().collect()
    }
}

impl<'a> Served<'a> {
    pub fn due(&self, addressed: &Addressed) -> Due {
        let (done, open) = addressed.listed.iter().cloned().partition(|local| self.is_done(local));
        let is_virus = |one: &Recorded| one.entry.kind == EventKind::VirusDetection;
        if self.earlier.iter().any(is_virus) {
            return Due { done, open, ordinary: Vec::new(), copies: Vec::new() };
        }
        let is_open = |local: &&Local| !self.holds(local, local.address().as_ref());
        let ordinary = addressed.ordinary.iter().filter(is_open).cloned().collect();
        let copies = addressed.copies.iter().filter(|local| !self.holds(local, None)).cloned().collect();
        Due { done, open, ordinary, copies }
    }

    pub fn outcome_of(&self, recipient: &Address) -> Option<&'a Recorded> {
        let is_outcome = |entry: &Entry| {
            matches!(entry.kind, EventKind::Delivery | EventKind::NonDelivery | EventKind::VirusDetection)
        };
        self.earlier.iter().find(|one| is_outcome(&one.entry) && names(&one.entry, recipient))
    }

    pub fn outcome_for(&self, local: &Local) -> Option<&'a Recorded> {
        local.address().and_then(|recipient| self.outcome_of(&recipient))
    }

    /// Whether the mailbox of a certified recipient must not be offered the message again.
    fn is_done(&self, local: &Local) -> bool {
        self.is_repetition(local) || self.is_stopped(local) || self.holds(local, local.address().as_ref())
    }

    /// Whether the recipient has its outcome from another copy of the envelope.
    pub fn is_repetition(&self, local: &Local) -> bool {
        self.outcome_for(local).is_some_and(|one| !self.is_own(&one.entry))
    }

    /// Whether an entry came of this queue file.
    fn is_own(&self, entry: &Entry) -> bool {
        entry.queue_id.as_deref() == Some(self.queue_id)
    }

    /// Whether a virus kept the message from all mailboxes of the recipient.
    fn is_stopped(&self, local: &Local) -> bool {
        self.outcome_for(local).is_some_and(|one| one.entry.kind == EventKind::VirusDetection)
    }

    /// Whether the mailbox gave its answer for this queue file, as that of the recipient or, without one, for its copy.
    /// What it answered for somebody else whose mailbox it is, too, says nothing.
    fn holds(&self, local: &Local, recipient: Option<&Address>) -> bool {
        let is_about = |entry: &Entry| match recipient {
            Some(recipient) => names(entry, recipient),
            None => entry.recipient.is_none(),
        };
        self.earlier.iter().filter(|one| self.is_own(&one.entry) && is_about(&one.entry)).any(|one| {
            let mailbox = details::<OutcomeDetails>(&one.entry).map(|known| known.mailbox);
            mailbox.is_some_and(|mailbox| mailbox.eq_ignore_ascii_case(&local.recipient.address))
        })
    }
}

/// Whether an earlier arrival of the same PEC msgid was of another message (§2.2.1 wants it unique for ever): then neither
/// its outcomes nor its receipts are this one's. The provider's name may be another since; whose the sender is was checked
/// when the message was found correct.
pub fn contradicts(entry: &Entry, message: &CertifiedMessage) -> bool {
    if entry.kind != EventKind::Arrival {
        return false;
    }
    let known: Option<ArrivalDetails> = details(entry);
    let is_same = ArrivalDetails::facts(entry).as_ref() == Some(&message.data.facts)
        && known.is_some_and(|known| known.accepted == message.data.at.unix());
    !is_same
}

/// Whether an entry is about a recipient.
pub fn names(entry: &Entry, recipient: &Address) -> bool {
    entry.recipient.as_ref().and_then(|text| text.parse::<Address>().ok()).as_ref() == Some(recipient)
}
