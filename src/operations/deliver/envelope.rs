//! A correct transport envelope in the hop: the three steps that certify.
//!
//! What the answers of the mailbox server come to is decided in `answers`, what earlier attempts left in `served`; here is
//! the order of the effects.

use std::collections::HashSet;

use tracing::{error, info, warn};

use super::answers::{Answered, Decider, told_again};
use super::attempt::{Addressed, Attempt, Local, Triggers, distinct, places};
use super::entries::{ArrivalDetails, Author, details};
use super::plan::Plan;
use super::receipts::{self, Original, Telling, Transaction};
use super::served::{Due, Served, contradicts, names};
use super::viruses::Inspection;
use super::{Fault, Hop, is_own};
use crate::crash;
use crate::delivery_point::outcome;
use crate::incoming_point::CertifiedMessage;
use crate::legal_log::{Entry, EventKind, Recorded};
use crate::model::{Address, Msgid};
use crate::operations::current::Current;
use crate::operations::ports::{EventLog, Injection, Instruments, Mailboxes, Reply};
use crate::operations::telling;
use crate::operations::triggers::Trigger;

/// What the first step committed, and what the log held before.
struct Arrived {
    acceptance: Option<Recorded>,
    /// The entries of the take-charges to be told.
    take_charges: Vec<Recorded>,
    /// The transaction's earlier entries, empty for a message seen for the first time.
    earlier: Vec<Recorded>,
    /// Its first arrival.
    entry: Entry,
    /// What that tells of the transaction.
    transaction: Transaction,
}

/// What the second step came to.
struct Outcomes {
    /// Answers that are final already.
    replies: Vec<(usize, Reply)>,
    /// What is to be told, each with the places it answers.
    told: Vec<(Recorded, Vec<usize>)>,
}

impl<L: EventLog, M: Mailboxes, I: Injection, T: Instruments> Hop<L, M, I, T> {
    pub(super) async fn deliver_envelope(
        &self,
        attempt: &Attempt<'_>,
        message: &CertifiedMessage,
    ) -> Result<Vec<Reply>, Fault> {
        let (current, triggers, facts) = (&attempt.current, &attempt.triggers, &message.data.facts);
        if triggers.has(Trigger::Acceptance) && !(is_own(current, message) && current.manages(&facts.sender)) {
            return Err(Fault::ForeignAcceptance);
        }
        let addressed = attempt.addressed(facts);
        let was_sent_on =
            addressed.are_all_beside() && triggers.is_empty() && self.arrival_of(attempt).await?.is_none();
        if was_sent_on {
            // By somebody here, to whom he likes: it certifies nothing any more.
            return Ok(attempt.in_order(&self.pass(attempt).await));
        }
        let arrived = self.arrive(attempt, message, &addressed.listed).await?;
        crash::point("arrival-recorded");
        let Outcomes { mut replies, told } = self.to_mailboxes(attempt, message, &addressed, &arrived).await?;
        crash::point("outcomes-recorded");
        let original = original_for(message, &told).await?;
        let tellings = tellings(&attempt.triggers, &original, &addressed.listed, &arrived, told);
        replies.extend(self.tell(attempt, tellings).await?);
        replies.extend(until_named(attempt.queue_id(), &addressed.unnamed));
        crash::point("before-answer");
        Ok(attempt.in_order(&replies))
    }

    /// Step 1: one commit for the queue file, the acceptance and the recipients taken in charge.
    async fn arrive(
        &self,
        attempt: &Attempt<'_>,
        message: &CertifiedMessage,
        locals: &[Local],
    ) -> Result<Arrived, Fault> {
        let (current, triggers, queue_id) = (&attempt.current, &attempt.triggers, attempt.queue_id());
        let id = &message.data.facts.id;
        let author = Author { queue_id, message, at: self.instruments.now(), issuer: &current.provider.name };
        let here = distinct(locals);
        let batch = facts_of_arrival(&author, triggers, &here, || self.new_id(current));
        let mut recorded = self.log.record(batch).await?.into_iter();
        let arrival = recorded.next().ok_or(Fault::UnreadableArrival)?;
        let acceptance = if triggers.has(Trigger::Acceptance) { recorded.next() } else { None };
        let new_take_charges: Vec<Recorded> = recorded.collect();
        if arrival.entry.pec_msgid.as_ref() != Some(id) {
            return Err(Fault::ReusedQueueId);
        }
        let is_first_sight = arrival.is_new && new_take_charges.iter().all(|one| one.is_new);
        let earlier = if is_first_sight { Vec::new() } else { self.log.of_transaction(id).await? };
        if earlier.iter().any(|one| contradicts(&one.entry, message)) {
            return Err(Fault::ReusedMsgid(id.clone()));
        }
        let known: ArrivalDetails = details(&arrival.entry).ok_or(Fault::UnreadableArrival)?;
        // Whom Postfix did not name before: it was told to, meanwhile.
        let late = known.lacks(&here);
        if !late.is_empty() {
            let kinds: Vec<Trigger> = triggers.kinds().collect();
            self.log.record(late.iter().map(|recipient| author.late_arrival(recipient, &kinds)).collect()).await?;
        }
        let take_charges = match known.had(Trigger::TakeCharge) && !triggers.has(Trigger::TakeCharge) {
            // Those of the others were told before the trigger was answered.
            true => take_charges_again(None, &earlier, &about(&new_take_charges, &late)),
            false if is_first_sight => new_take_charges,
            false => take_charges_again(Some(queue_id), &earlier, &new_take_charges),
        };
        if arrival.is_new {
            let provider = &message.provider;
            info!(queue_id, %id, %provider, recipients = here.len(), sha1 = message.is_sha1, "arrived");
        }
        let transaction = Transaction::of(&arrival.entry).ok_or(Fault::UnreadableArrival)?;
        Ok(Arrived { acceptance, take_charges, earlier, entry: arrival.entry, transaction })
    }

    /// Step 2: the scanner's verdict, the original kept, then the mailbox server's answers, committed.
    async fn to_mailboxes(
        &self,
        attempt: &Attempt<'_>,
        message: &CertifiedMessage,
        addressed: &Addressed,
        arrived: &Arrived,
    ) -> Result<Outcomes, Fault> {
        let served = Served { queue_id: attempt.queue_id(), earlier: &arrived.earlier };
        let due = served.due(addressed);
        log_beside(message, &served, &due);
        let told_again = told_again(&served, &due.done);

        let inspection = match due.is_empty() || is_own(&attempt.current, message) {
            true => Inspection::Clean,
            false => self.inspect(attempt, message, &due.all(), arrived.entry.at).await,
        };
        let inspection = match inspection {
            Inspection::Clean => self.keep_original(attempt, message, &due.open, arrived.entry.at).await,
            other => other,
        };
        let offered = if matches!(inspection, Inspection::Clean) { due.all() } else { Vec::new() };
        let replies = self.offer(attempt, message, &offered).await;
        let answered = answered(&offered, &replies);

        let (queue_id, issuer) = (attempt.queue_id(), attempt.current.provider.name.as_str());
        let author = Author { queue_id, message, at: self.instruments.now(), issuer };
        let new_id = || self.new_id(&attempt.current);
        let plan = Decider { author, served, new_id: &new_id }.plan(&due, &inspection, &answered);
        let recorded = self.commit(&plan).await?;
        let mut told = plan.told(recorded);
        told.extend(told_again);
        Ok(Outcomes { replies: plan.replies, told })
    }

    /// The mailbox server's answers, in order.
    async fn offer(&self, attempt: &Attempt<'_>, message: &CertifiedMessage, offered: &[Local]) -> Vec<Reply> {
        let replies = match offered.is_empty() {
            true => Vec::new(),
            false => self.mailboxes.deliver(&attempt.mail(offered)).await,
        };
        crash::point("mailbox-stored");
        for (local, reply) in offered.iter().zip(&replies) {
            let (queue_id, id, mailbox) = (attempt.queue_id(), &message.data.facts.id, &local.recipient.address);
            info!(queue_id, %id, recipient = %local.named, %mailbox, %reply, "mailbox answered");
        }
        replies
    }

    /// Step 3: signs and sends; returns a 4xx for every place whose notification could not be sent.
    pub(super) async fn tell(
        &self,
        attempt: &Attempt<'_>,
        tellings: Vec<Telling>,
    ) -> Result<Vec<(usize, Reply)>, Fault> {
        let queue_id = attempt.queue_id();
        let mut failed = Vec::new();
        for Telling { notification, answers } in tellings {
            let (own_id, to) = (notification.id.clone(), notification.to.clone());
            let (kind, id) = (notification.data.kind.token(), notification.data.facts.id.clone());
            let reply =
                telling::tell(&attempt.current, &self.mailboxes, &self.injection, notification, self.instruments.now())
                    .await?;
            if reply.is_positive() {
                crash::point("notification-sent");
                info!(queue_id, %id, kind, notification = %own_id, %to, "notification sent");
            } else {
                error!(queue_id, %id, kind, notification = %own_id, %to, %reply, "notification not sent, it will be tried again");
                let text = format!("4.3.0 the notification {kind} could not be sent: {}", reply.text);
                failed.extend(answers.into_iter().map(|index| (index, Reply::new(451, text.clone()))));
            }
        }
        Ok(failed)
    }

    /// Makes the entries of a plan durable; returns what stands in the log for each.
    pub(super) async fn commit(&self, plan: &Plan) -> Result<Vec<Recorded>, Fault> {
        let batch: Vec<Entry> = plan.entries().cloned().collect();
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let recorded = self.log.record(batch).await?;
        let overtaken = plan.overtaken(&recorded);
        if !overtaken.is_empty() {
            self.log.record(overtaken).await?;
        }
        Ok(recorded)
    }

    /// A Message-ID that no message had.
    pub(super) fn new_id(&self, current: &Current) -> Msgid {
        telling::new_id(current, self.instruments.chance(), self.instruments.now())
    }
}

/// What the first step commits: the arrival, the acceptance where it is asked for, then the take-charges.
fn facts_of_arrival(author: &Author, triggers: &Triggers, here: &[Address], new_id: impl Fn() -> Msgid) -> Vec<Entry> {
    let kinds: Vec<Trigger> = triggers.kinds().collect();
    let mut batch = vec![author.arrival(here, &kinds)];
    if triggers.has(Trigger::Acceptance) {
        batch.push(author.acceptance(new_id()));
    }
    let take_charge_id = new_id();
    batch.extend(here.iter().map(|recipient| author.take_charge(recipient, take_charge_id.clone())));
    batch
}

/// The take-charges that were found, and all of this queue file where it is given. All recipients of a take-charge stand
/// in it again, also those that need no further work.
fn take_charges_again(queue_id: Option<&str>, earlier: &[Recorded], found: &[Recorded]) -> Vec<Recorded> {
    let ids: HashSet<Option<&Msgid>> = found.iter().map(|one| one.entry.notification.as_ref()).collect();
    let of_kind = earlier.iter().filter(|one| one.entry.kind == EventKind::TakeCharge);
    let is_own = |entry: &Entry| queue_id.is_some() && entry.queue_id.as_deref() == queue_id;
    let is_told = |entry: &Entry| is_own(entry) || ids.contains(&entry.notification.as_ref());
    of_kind.filter(|one| is_told(&one.entry)).cloned().collect()
}

/// The entries about some recipients.
fn about(recorded: &[Recorded], recipients: &[Address]) -> Vec<Recorded> {
    let is_about = |entry: &Entry| recipients.iter().any(|recipient| names(entry, recipient));
    recorded.iter().filter(|one| is_about(&one.entry)).cloned().collect()
}

/// Mailboxes that may be a recipient's wait until Postfix tells whose they are, and nobody else waits for them.
fn until_named(queue_id: &str, unnamed: &[Local]) -> Vec<(usize, Reply)> {
    let wait = |local: &Local| {
        error!(queue_id, mailbox = %local.recipient.address, "the envelope does not name this mailbox, and Postfix does not tell whom its sender named (ORCPT), so it waits in the queue: take dsn out of lmtp_discard_lhlo_keywords, and leave enable_original_recipient = yes, in main.cf");
        (local.index, Reply::new(451, "4.3.5 the original recipient is not known, see the log of pec-milter"))
    };
    unnamed.iter().map(wait).collect()
}

/// What is out of the ordinary about the mailboxes of an envelope.
fn log_beside(message: &CertifiedMessage, served: &Served, due: &Due) {
    let (queue_id, id) = (served.queue_id, &message.data.facts.id);
    for local in due.done.iter().filter(|local| served.is_repetition(local)) {
        warn!(queue_id, %id, recipient = %local.named, "came before, not stored again");
    }
    for local in &due.copies {
        warn!(queue_id, %id, mailbox = %local.recipient.address, "the envelope does not name this mailbox: it gets a copy, and nothing is certified about it; look for always_bcc, sender_bcc_maps and recipient_bcc_maps in main.cf");
    }
}

fn answered<'a>(offered: &'a [Local], replies: &'a [Reply]) -> Vec<Answered<'a>> {
    let pairs = offered.iter().zip(replies);
    pairs.map(|(local, reply)| Answered { local, outcome: outcome(reply.code, &reply.text), reply }).collect()
}

/// The original as the receipts of these outcomes carry it, hashed once for all recipients, off the async threads.
async fn original_for(message: &CertifiedMessage, outcomes: &[(Recorded, Vec<usize>)]) -> Result<Original, Fault> {
    let original = message.original.clone();
    let told: Vec<Entry> = outcomes.iter().map(|(recorded, _)| recorded.entry.clone()).collect();
    if !told.iter().any(receipts::is_brief) {
        return Ok(Original::for_entries(original, told.iter()));
    }
    Ok(tokio::task::spawn_blocking(move || Original::for_entries(original, told.iter())).await?)
}

/// What is to be told now, and whose answers wait for it: acceptance, take-charges, outcomes.
fn tellings(
    triggers: &Triggers,
    original: &Original,
    locals: &[Local],
    arrived: &Arrived,
    outcomes: Vec<(Recorded, Vec<usize>)>,
) -> Vec<Telling> {
    let transaction = &arrived.transaction;
    let acceptance = arrived.acceptance.iter().map(|one| (&one.entry, triggers.places(Trigger::Acceptance)));
    let mut tellings = receipts::tellings(transaction, original, acceptance);

    let waiting = match triggers.places(Trigger::TakeCharge) {
        none if none.is_empty() => places(locals),
        some => some,
    };
    let take_charges = receipts::take_charges(transaction, &arrived.take_charges);
    tellings.extend(take_charges.into_iter().map(|notification| Telling { notification, answers: waiting.clone() }));
    let outcomes = outcomes.iter().map(|(one, answers)| (&one.entry, answers.clone()));
    tellings.extend(receipts::tellings(transaction, original, outcomes));
    tellings
}
