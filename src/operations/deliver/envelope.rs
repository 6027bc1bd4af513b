//! A correct transport envelope in the hop: the three steps that certify.

use std::collections::HashSet;
use std::sync::Arc;

use tracing::{error, info, warn};

use super::entries::{ArrivalDetails, Author, OutcomeDetails, combined, details};
use super::viruses::Inspection;
use super::{Fault, Hop, Local, is_own, mail, receipts};
use crate::crash;
use crate::delivery_point::{Outcome, brief, issued_receipt, outcome};
use crate::incoming_point::CertifiedMessage;
use crate::legal_log::{Entry, EventKind, Recorded};
use crate::message::Pieces;
use crate::message::notification::Notification;
use crate::model::{Address, Msgid, TemporalReference};
use crate::operations::current::Current;
use crate::operations::ports::{EventLog, Injection, Instruments, Mailboxes, QueueFile, Reply};
use crate::operations::telling;
use crate::operations::triggers::Trigger;

/// What the first step committed, and what the log held before.
struct Arrived {
    acceptance: Option<Recorded>,
    /// The entries of the take-charges to be told.
    take_charges: Vec<Recorded>,
    /// The transaction's earlier entries, empty for a message seen for the first time.
    earlier: Vec<Recorded>,
    /// The instant of its first arrival.
    at: TemporalReference,
}

/// A notification with the recipients of the transaction that may be answered once it is sent.
pub(super) struct Telling {
    pub notification: Notification,
    pub answers: Vec<usize>,
}

impl<L: EventLog, M: Mailboxes, I: Injection, T: Instruments> Hop<L, M, I, T> {
    pub(super) async fn deliver_envelope(
        &self,
        current: &Arc<Current>,
        file: &QueueFile,
        message: &CertifiedMessage,
        locals: Vec<Local>,
        triggers: &[(usize, Trigger)],
    ) -> Result<Vec<Reply>, Fault> {
        let asked = |trigger| triggers.iter().any(|(_, one)| *one == trigger);
        if asked(Trigger::Acceptance) && !(is_own(current, message) && current.manages(&message.data.facts.sender)) {
            return Err(Fault::ForeignAcceptance);
        }
        let arrived = self.arrive(current, file, message, &locals, triggers).await?;
        crash::point("arrival-recorded");
        let (mut replies, outcomes) = self.to_mailboxes(current, file, message, &locals, &arrived).await?;
        crash::point("outcomes-recorded");

        let brief = brief_original(message, &outcomes).await?;
        let tellings = tellings(current, message, brief.as_ref(), &locals, triggers, &arrived, &outcomes);
        for (index, reply) in self.tell(current, file, tellings).await? {
            replies.push((index, reply));
        }
        crash::point("before-answer");
        Ok(in_order(file, replies))
    }

    /// Step 1: one commit for the queue file, the acceptance and the recipients taken in charge.
    async fn arrive(
        &self,
        current: &Current,
        file: &QueueFile,
        message: &CertifiedMessage,
        locals: &[Local],
        triggers: &[(usize, Trigger)],
    ) -> Result<Arrived, Fault> {
        let author = Author { queue_id: &file.queue_id, message, at: self.instruments.now() };
        let here = distinct(locals);
        let kinds: Vec<Trigger> = triggers.iter().map(|(_, trigger)| *trigger).collect();
        let mut batch = vec![author.arrival(&here, &kinds)];
        let wants_acceptance = kinds.contains(&Trigger::Acceptance);
        if wants_acceptance {
            batch.push(author.acceptance(self.new_id(current)));
        }
        let take_charge_id = self.new_id(current);
        batch.extend(here.iter().map(|recipient| author.take_charge(recipient, take_charge_id.clone())));

        let mut recorded = self.log.record(batch).await?.into_iter();
        let arrival = recorded.next().ok_or(Fault::UnreadableArrival)?;
        let acceptance = if wants_acceptance { recorded.next() } else { None };
        let mut take_charges: Vec<Recorded> = recorded.collect();
        if arrival.entry.pec_msgid.as_ref() != Some(&message.data.facts.id) {
            return Err(Fault::ReusedQueueId);
        }
        let is_first_sight = arrival.is_new && take_charges.iter().all(|one| one.is_new);
        let earlier = match is_first_sight {
            true => Vec::new(),
            false => self.log.of_transaction(&message.data.facts.id).await?,
        };
        if earlier.iter().any(|one| contradicts(&one.entry, message)) {
            return Err(Fault::ReusedMsgid(message.data.facts.id.clone()));
        }
        if !is_first_sight {
            // All recipients of a take-charge stand in it again, also those that need no further work.
            let ids: HashSet<Option<Msgid>> = take_charges.iter().map(|one| one.entry.notification.clone()).collect();
            take_charges = earlier
                .iter()
                .filter(|one| one.entry.kind == EventKind::TakeCharge)
                .filter(|one| {
                    one.entry.queue_id.as_deref() == Some(&file.queue_id) || ids.contains(&one.entry.notification)
                })
                .cloned()
                .collect();
        }
        let known: ArrivalDetails = details(&arrival.entry).ok_or(Fault::UnreadableArrival)?;
        let is_told_by_trigger = known.had(Trigger::TakeCharge) && !kinds.contains(&Trigger::TakeCharge);
        if is_told_by_trigger {
            take_charges.clear();
        }
        if arrival.is_new {
            let (id, provider) = (&message.data.facts.id, &message.provider);
            info!(queue_id = %file.queue_id, %id, %provider, recipients = here.len(), sha1 = message.is_sha1, "arrived");
        }
        Ok(Arrived { acceptance, take_charges, earlier, at: arrival.entry.at })
    }

    /// Step 2: the scanner's verdict, then the mailbox server's answers, committed. Returns answers that are final already,
    /// and the outcomes that are to be told, each with the places it answers.
    async fn to_mailboxes(
        &self,
        current: &Current,
        file: &QueueFile,
        message: &CertifiedMessage,
        locals: &[Local],
        arrived: &Arrived,
    ) -> Result<(Vec<(usize, Reply)>, Vec<(Recorded, Vec<usize>)>), Fault> {
        let served = Served { queue_id: &file.queue_id, earlier: &arrived.earlier };
        let (done, to_offer): (Vec<&Local>, Vec<&Local>) = locals.iter().partition(|local| served.is_done(local));
        let to_offer: Vec<Local> = to_offer.into_iter().cloned().collect();
        let inspection = match to_offer.is_empty() || is_own(current, message) {
            true => Inspection::Clean,
            false => self.inspect(file, message, &to_offer, arrived.at).await,
        };
        let replies = match inspection {
            Inspection::Clean if !to_offer.is_empty() => self.mailboxes.deliver(&mail(file, &to_offer)).await,
            _ => Vec::new(),
        };
        crash::point("mailbox-stored");
        let author = Author { queue_id: &file.queue_id, message, at: self.instruments.now() };
        let answered: Vec<(&Local, Outcome, &Reply)> = to_offer
            .iter()
            .zip(&replies)
            .map(|(local, reply)| (local, outcome(reply.code, &reply.text), reply))
            .collect();

        let (mut final_replies, mut batch, mut places) = (Vec::new(), Vec::new(), Vec::new());
        match &inspection {
            Inspection::Clean => {}
            Inspection::Unknown(reply) => final_replies.extend(to_offer.iter().map(|one| (one.index, reply.clone()))),
            Inspection::Infected(found) => {
                for recipient in distinct(&to_offer) {
                    let of_recipient = to_offer.iter().filter(|local| local.is(&recipient));
                    batch.push(author.virus_detection(&recipient, found, self.new_id(current)));
                    places.push((batch.len() - 1, of_recipient.map(|local| local.index).collect::<Vec<_>>()));
                }
            }
        }
        for local in &done {
            if served.is_repetition(local) {
                warn!(queue_id = %file.queue_id, id = %message.data.facts.id, recipient = %local.named, "came before, not stored again");
                batch.extend(
                    local
                        .address()
                        .map(|recipient| author.further(EventKind::Duplicate, &recipient, &local.recipient.address)),
                );
            }
        }
        for recipient in distinct(&to_offer) {
            let of_recipient: Vec<_> = answered.iter().filter(|(local, ..)| local.is(&recipient)).collect();
            let outcomes: Vec<Outcome> = of_recipient.iter().map(|(_, outcome, _)| outcome.clone()).collect();
            let before = served.outcome_of(&recipient);
            for (local, outcome, reply) in &of_recipient {
                info!(queue_id = %file.queue_id, id = %message.data.facts.id, recipient = %recipient, mailbox = %local.recipient.address, %reply, "mailbox answered");
                if *outcome == Outcome::Open {
                    final_replies.push((local.index, (*reply).clone()));
                }
            }
            let decided = of_recipient.iter().filter(|(_, outcome, _)| *outcome != Outcome::Open);
            let indexes: Vec<usize> = decided.map(|(local, ..)| local.index).collect();
            let first = of_recipient.iter().find(|(_, one, _)| *one == combined(&outcomes));
            let Some((first, combined, reply)) = first else { continue };
            let stored = of_recipient.iter().filter(|(_, outcome, _)| *outcome == Outcome::Stored);
            let further = |local: &Local| author.further(EventKind::Copy, &recipient, &local.recipient.address);
            match (before, combined) {
                // An alias led to several mailboxes, one of which decided the outcome in an earlier attempt.
                (Some(_), _) => batch.extend(stored.map(|(local, ..)| further(local))),
                (None, Outcome::Stored) => {
                    let issued =
                        issued_receipt(message.data.requested.unwrap_or_default(), &recipient, &message.original);
                    batch.push(author.delivery(&recipient, &first.recipient.address, issued, self.new_id(current)));
                    places.push((batch.len() - 1, indexes));
                    batch.extend(
                        stored.filter(|(local, ..)| local.index != first.index).map(|(local, ..)| further(local)),
                    );
                }
                (None, Outcome::Refused(failure)) => {
                    batch.push(author.non_delivery(
                        &recipient,
                        &first.recipient.address,
                        failure,
                        self.new_id(current),
                    ));
                    places.push((batch.len() - 1, indexes));
                }
                // One mailbox refused, another is still open: the outcome waits, and so does the answer.
                (None, Outcome::Open) => {
                    final_replies.extend(indexes.into_iter().map(|index| (index, (*reply).clone())))
                }
            }
        }
        let recorded = if batch.is_empty() { Vec::new() } else { self.log.record(batch).await? };
        let mut outcomes: Vec<(Recorded, Vec<usize>)> =
            places.into_iter().filter_map(|(place, indexes)| Some((recorded.get(place)?.clone(), indexes))).collect();
        for local in done {
            let recorded = local.address().and_then(|recipient| served.outcome_of(&recipient));
            outcomes.extend(recorded.map(|one| (one.clone(), vec![local.index])));
        }
        Ok((final_replies, outcomes))
    }

    /// Step 3: signs and sends; returns a 4xx for every place whose notification could not be sent.
    pub(super) async fn tell(
        &self,
        current: &Arc<Current>,
        file: &QueueFile,
        tellings: Vec<Telling>,
    ) -> Result<Vec<(usize, Reply)>, Fault> {
        let mut failed = Vec::new();
        for Telling { notification, answers } in tellings {
            let (id, to) = (notification.id.clone(), notification.to.clone());
            let (kind, about) = (notification.data.kind.token(), notification.data.facts.id.clone());
            let reply = telling::tell(current, &self.mailboxes, &self.injection, notification).await?;
            if reply.is_positive() {
                crash::point("notification-sent");
                info!(queue_id = %file.queue_id, id = %about, kind, notification = %id, %to, "notification sent");
            } else {
                error!(queue_id = %file.queue_id, id = %about, kind, notification = %id, %to, %reply, "notification not sent, it will be tried again");
                let text = format!("4.3.0 the notification {kind} could not be sent: {}", reply.text);
                failed.extend(answers.into_iter().map(|index| (index, Reply::new(451, text.clone()))));
            }
        }
        Ok(failed)
    }

    /// A Message-ID that no message had.
    pub(super) fn new_id(&self, current: &Current) -> Msgid {
        telling::new_id(current, self.instruments.chance(), self.instruments.now())
    }
}

/// What earlier attempts and earlier copies of the same envelope left in the log.
struct Served<'a> {
    queue_id: &'a str,
    earlier: &'a [Recorded],
}

impl<'a> Served<'a> {
    fn outcome_of(&self, recipient: &Address) -> Option<&'a Recorded> {
        let is_outcome = |entry: &Entry| {
            matches!(entry.kind, EventKind::Delivery | EventKind::NonDelivery | EventKind::VirusDetection)
        };
        self.earlier.iter().find(|one| is_outcome(&one.entry) && names(&one.entry, recipient))
    }

    /// Whether the mailbox must not be offered the message again.
    fn is_done(&self, local: &Local) -> bool {
        self.is_repetition(local)
            || self.is_stopped(local)
            || self.earlier.iter().any(|one| {
                let mailbox = details::<OutcomeDetails>(&one.entry).map(|known| known.mailbox);
                one.entry.queue_id.as_deref() == Some(self.queue_id)
                    && mailbox.is_some_and(|mailbox| mailbox.eq_ignore_ascii_case(&local.recipient.address))
            })
    }

    /// Whether a virus kept the message from all mailboxes of the recipient.
    fn is_stopped(&self, local: &Local) -> bool {
        let outcome = local.address().and_then(|recipient| self.outcome_of(&recipient));
        outcome.is_some_and(|one| one.entry.kind == EventKind::VirusDetection)
    }

    /// Whether the recipient has its outcome from another copy of the envelope.
    fn is_repetition(&self, local: &Local) -> bool {
        let outcome = local.address().and_then(|recipient| self.outcome_of(&recipient));
        outcome.is_some_and(|one| one.entry.queue_id.as_deref() != Some(self.queue_id))
    }
}

impl Local {
    fn address(&self) -> Option<Address> {
        self.named.parse().ok()
    }

    fn is(&self, recipient: &Address) -> bool {
        self.address().as_ref() == Some(recipient)
    }
}

fn names(entry: &Entry, recipient: &Address) -> bool {
    entry.recipient.as_ref().and_then(|text| text.parse::<Address>().ok()).as_ref() == Some(recipient)
}

/// Whether an earlier arrival of the same PEC msgid was of another message (§2.2.1 wants it unique for ever): then neither
/// its outcomes nor its receipts are this one's.
fn contradicts(entry: &Entry, message: &CertifiedMessage) -> bool {
    if entry.kind != EventKind::Arrival {
        return false;
    }
    let known: Option<ArrivalDetails> = details(entry);
    let is_same = ArrivalDetails::facts(entry).as_ref() == Some(&message.data.facts)
        && known.is_some_and(|known| known.accepted == message.data.at.unix())
        && entry.provider.as_deref() == Some(&message.provider);
    !is_same
}

/// The recipients as their sender named them, each once.
pub(super) fn distinct(locals: &[Local]) -> Vec<Address> {
    let mut seen = HashSet::new();
    locals.iter().filter_map(Local::address).filter(|address| seen.insert(address.clone())).collect()
}

/// The original as brief receipts carry it, hashed once for all recipients, off the async threads.
async fn brief_original(
    message: &CertifiedMessage,
    outcomes: &[(Recorded, Vec<usize>)],
) -> Result<Option<Pieces>, Fault> {
    if !outcomes.iter().any(|(recorded, _)| receipts::is_brief(&recorded.entry)) {
        return Ok(None);
    }
    let original = message.original.clone();
    Ok(Some(tokio::task::spawn_blocking(move || brief(&original)).await?))
}

/// What is to be told now, and whose answers wait for it.
fn tellings(
    current: &Current,
    message: &CertifiedMessage,
    brief: Option<&Pieces>,
    locals: &[Local],
    triggers: &[(usize, Trigger)],
    arrived: &Arrived,
    outcomes: &[(Recorded, Vec<usize>)],
) -> Vec<Telling> {
    let places = |wanted| triggers.iter().filter(move |(_, one)| *one == wanted).map(|(index, _)| *index).collect();
    let mut tellings = Vec::new();
    if let Some(acceptance) = &arrived.acceptance {
        let notification = receipts::of_entry(current, message, None, &acceptance.entry);
        let answers: Vec<usize> = places(Trigger::Acceptance);
        tellings.extend(notification.map(|notification| Telling { notification, answers }));
    }
    let waiting: Vec<usize> = match places(Trigger::TakeCharge) {
        none if none.is_empty() => locals.iter().map(|local| local.index).collect(),
        some => some,
    };
    for notification in
        receipts::take_charges(current, &message.data.facts, &message.mail_receipt, &arrived.take_charges)
    {
        tellings.push(Telling { notification, answers: waiting.clone() });
    }
    for (recorded, answers) in outcomes {
        let notification = receipts::of_entry(current, message, brief, &recorded.entry);
        tellings.extend(notification.map(|notification| Telling { notification, answers: answers.clone() }));
    }
    tellings
}

/// One reply per recipient: what was decided for it, a 4xx before anything else, 250 where nothing stands against it.
pub(super) fn in_order(file: &QueueFile, replies: Vec<(usize, Reply)>) -> Vec<Reply> {
    (0..file.recipients.len())
        .map(|index| {
            let of_index = replies.iter().filter(|(place, _)| *place == index).map(|(_, reply)| reply);
            let worst = of_index.min_by_key(|reply| if (400..500).contains(&reply.code) { 0 } else { 1 });
            worst.cloned().unwrap_or_else(|| Reply::new(250, "2.0.0 done"))
        })
        .collect()
}
