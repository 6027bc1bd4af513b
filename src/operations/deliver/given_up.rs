//! What Postfix gave up of the hop's own work (§3.1.4, §3.2.1, §3.3.2): after the queue lifetime its report names the triggers,
//! too, and recipients whose receipts are committed and could not be sent.
//!
//! The report carries the envelope, so the work is taken up where it was left: what is recorded is told, what is not
//! recorded (the log took nothing all the time) is recorded and delivered first.

use tracing::{error, warn};

use super::attempt::Attempt;
use super::entries::{OutcomeDetails, details};
use super::receipts::Transaction;
use super::report::{arrival, named};
use super::served::names;
use super::{Fault, Hop};
use crate::incoming_point::{Classification, data_told};
use crate::legal_log::{Entry, EventKind, Recorded};
use crate::message::certification_data::TransactionFacts;
use crate::message::delivery_status::{Action, DeliveryStatus, RecipientStatus};
use crate::model::{Address, PecMsgid};
use crate::operations::ports::{EventLog, Injection, Instruments, MailRecipient, Mailboxes, QueueFile, Reply};
use crate::operations::triggers::is_internal;

/// What came of work that Postfix had given up.
#[derive(Debug, PartialEq, Eq)]
pub enum TakenUp {
    /// All of it is done, or there was none.
    Done,
    /// Some of it cannot be done now.
    Waits,
    /// The report does not carry the envelope.
    NoEnvelope,
}

impl<L: EventLog, M: Mailboxes, I: Injection, T: Instruments> Hop<L, M, I, T> {
    /// Does for these recipients of a reported queue file what the hop would do if Postfix offered it once more.
    pub(super) async fn take_up(
        &self,
        attempt: &Attempt<'_>,
        report: &DeliveryStatus,
        id: &PecMsgid,
        left: &[RecipientStatus],
    ) -> Result<TakenUp, Fault> {
        let reported_by = attempt.queue_id();
        let message = report.returned().clone();
        let (Some(queue_id), Some(data)) = (report.queue_id.clone(), data_told(&message)) else {
            return Ok(TakenUp::NoEnvelope);
        };
        let facts = data.facts;
        let offered = left.iter().filter_map(|status| offered(status, &facts));
        let recipients: Vec<MailRecipient> =
            offered.filter(|one| !self.waiting_reports.is_done(reported_by, &one.address)).collect();
        if recipients.is_empty() {
            return Ok(TakenUp::Done);
        }
        let sender = facts.sender.to_string();
        let file = QueueFile { queue_id, sender, recipients, eight_bit: !message.is_ascii(), message };
        let again = Attempt::at(&file, attempt.current.clone());
        let Classification::Envelope(message) = self.classify(&again).await? else { return Ok(TakenUp::NoEnvelope) };
        warn!(queue_id = reported_by, %id, reported = file.queue_id, recipients = file.recipients.len(), "Postfix gave up what was left to do of this envelope, it is taken up from its report");
        let replies = self.deliver_envelope(&again, &message).await?;
        let outcomes = || file.recipients.iter().zip(&replies);
        let waits = |reply: &Reply| (400..500).contains(&reply.code);
        for (recipient, _) in outcomes().filter(|(_, reply)| !waits(reply)) {
            self.waiting_reports.set_done(reported_by, &recipient.address, self.instruments.now());
        }
        if let Some((recipient, reply)) = outcomes().find(|(_, reply)| waits(reply)) {
            error!(queue_id = reported_by, %id, recipient = recipient.address, %reply, "what Postfix gave up of this envelope cannot be done now either, it waits with the report");
            return Ok(TakenUp::Waits);
        }
        Ok(TakenUp::Done)
    }
}

/// A recipient that the hop is offered, as Postfix names it again in its report.
fn offered(status: &RecipientStatus, facts: &TransactionFacts) -> Option<MailRecipient> {
    let address = status.last.as_ref()?.to_string();
    let original = named(&facts.recipients, status).or(status.original.as_ref());
    // What ORCPT cannot hold as it is (RFC 3461 §4).
    let xtext = |text: &str| text.replace('+', "+2B").replace('=', "+3D");
    let orcpt = original.map(|original| format!("rfc822;{}", xtext(original.as_str())));
    Some(MailRecipient { address, orcpt })
}

/// Takes those out of a report for whom the hop itself has something left to do: triggers, recipients who have their outcome
/// from this queue file and wait for its receipt, and, where not even the arrival is recorded, all of our own.
pub fn left_to_do(
    report: &mut DeliveryStatus,
    entries: &[Recorded],
    manages: impl Fn(&Address) -> bool,
) -> Vec<RecipientStatus> {
    let transaction = arrival(report, entries).and_then(Transaction::of);
    if transaction.is_none() && !names_a_trigger(report) {
        return Vec::new();
    }
    let of_file = || entries.iter().map(|one| &one.entry).filter(|entry| entry.queue_id == report.queue_id);
    let is_left = |status: &RecipientStatus| {
        let Some(mailbox) = status.last.as_ref().filter(|_| status.action == Action::Failed) else { return false };
        is_internal(mailbox.as_str())
            || manages(mailbox)
                && transaction.as_ref().is_none_or(|transaction| {
                    let recipient = named(&transaction.facts.recipients, status);
                    let is_about = |entry: &&Entry| recipient.is_some_and(|recipient| names(entry, recipient));
                    of_file().filter(is_about).any(|entry| waits_for(entry, mailbox))
                })
    };
    let (left, rest): (Vec<_>, Vec<_>) = report.recipients.iter().cloned().partition(is_left);
    report.recipients = rest;
    left
}

/// Whether a report is about a queue file that our own milter made or let in: nobody else can add a trigger.
fn names_a_trigger(report: &DeliveryStatus) -> bool {
    let failed = report.recipients.iter().filter(|status| status.action == Action::Failed);
    failed.filter_map(|status| status.last.as_ref()).any(|last| is_internal(last.as_str()))
}

/// Whether the place of this mailbox in the queue waits for the notification that tells an entry.
fn waits_for(entry: &Entry, mailbox: &Address) -> bool {
    let of_mailbox = match entry.kind {
        EventKind::Delivery | EventKind::NonDelivery => {
            details::<OutcomeDetails>(entry).is_some_and(|known| known.mailbox.eq_ignore_ascii_case(mailbox.as_str()))
        }
        // A virus keeps the message from all mailboxes of its recipient.
        EventKind::VirusDetection => true,
        _ => false,
    };
    of_mailbox && entry.notification.is_some()
}
