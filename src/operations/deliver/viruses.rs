//! Viruses in the hop: the second phase of reception (§2.2.2), and what follows when another provider found one (§3.2.4).
//!
//! An envelope of another provider is correct before anybody looks inside: it is taken in charge, then scanned, and an
//! infected one lies in the store before the detection is committed. Our own envelopes are not scanned again: the access
//! point did it before it signed them (§3.1.3), and notifications carry no more than our users sent. Anomaly envelopes
//! were scanned by the incoming milter. Without a verdict no mailbox gets anything; Postfix offers the message again.
//!
//! A detection about a message that our user sent becomes one notice to him, unless his recipient's end was told before.

use tracing::{error, info, warn};

use super::attempt::{Attempt, Local, distinct};
use super::entries::{Author, ReportAuthor};
use super::receipts::{self, Original, Telling, Transaction};
use super::{Fault, Hop, LONGEST_OVERTAKING};
use crate::crash;
use crate::incoming_point::CertifiedMessage;
use crate::legal_log::{EventKind, Recorded};
use crate::message::Pieces;
use crate::model::{Address, TemporalReference};
use crate::operations::causes;
use crate::operations::ports::{EventLog, Infected, Injection, Instruments, Mailboxes, Reply};
use crate::operations::triggers::Trigger;
use crate::operations::virus_guard::Stored;
use crate::virus::{Place, VirusName};

/// What the second phase says of an envelope before a mailbox is offered it.
pub(super) enum Inspection {
    Clean,
    Infected(Stored),
    /// Nothing is known, or the original is not kept: the answer for every mailbox.
    Unknown(Reply),
}

impl<L: EventLog, M: Mailboxes, I: Injection, T: Instruments> Hop<L, M, I, T> {
    /// Scans an envelope of another provider for its mailboxes. `arrived` is the same in every attempt, so that it is stored once.
    pub(super) async fn inspect(
        &self,
        attempt: &Attempt<'_>,
        message: &CertifiedMessage,
        locals: &[Local],
        arrived: TemporalReference,
    ) -> Inspection {
        let (queue_id, id) = (attempt.queue_id(), &message.data.facts.id);
        let about = |virus: VirusName| Infected {
            at: arrived,
            place: Place::IncomingPoint,
            id: id.clone(),
            queue_id: queue_id.to_owned(),
            sender: message.data.facts.sender.to_string(),
            recipients: distinct(locals).iter().map(Address::to_string).collect(),
            virus,
        };
        match self.viruses.inspect(&Pieces::from(attempt.file.message.clone()), about).await {
            Ok(None) => Inspection::Clean,
            Ok(Some(stored)) => {
                let (virus, name) = (&stored.virus, &stored.name);
                warn!(queue_id, %id, provider = %message.provider, %virus, stored = name, "infected, not delivered");
                crash::point("infected-stored");
                Inspection::Infected(stored)
            }
            Err(fault) => {
                let cause = causes(&fault);
                error!(queue_id, %id, %cause, "not scanned for viruses and not delivered for now, Postfix will offer it again");
                Inspection::Unknown(Reply::new(451, "4.7.1 not scanned for viruses, see the log of pec-milter"))
            }
        }
    }

    /// Another provider's virus detection: recorded, told to our user, delivered to the service mailbox.
    pub(super) async fn deliver_detection(
        &self,
        attempt: &Attempt<'_>,
        message: &CertifiedMessage,
    ) -> Result<Vec<Reply>, Fault> {
        let (queue_id, issuer) = (attempt.queue_id(), attempt.current.provider.name.as_str());
        let author = Author { queue_id, message, at: self.instruments.now(), issuer };
        let received = self.log.record(vec![author.notification_received(&attempt.named())]).await?;
        // After an outage of ours its own instant may lie long back, and so may the acceptance that still waits.
        let first_came = received.first().map_or(author.at, |one| one.entry.at);

        let places = attempt.triggers.places(Trigger::VirusDetection);
        let mut replies = match self.non_delivery_of(attempt, message, first_came).await? {
            Consequence::Notice { recorded, transaction } => {
                crash::point("virus-non-delivery-recorded");
                let notification = receipts::notification(&transaction, &Original::default(), &recorded.entry);
                let telling = notification.map(|notification| Telling { notification, answers: places });
                self.tell(attempt, telling.into_iter().collect()).await?
            }
            Consequence::None => Vec::new(),
            Consequence::TooEarly => {
                let wait = Reply::new(451, "4.3.0 the acceptance of the message is not recorded yet");
                places.into_iter().map(|place| (place, wait.clone())).collect()
            }
        };
        replies.extend(self.pass(attempt).await);
        Ok(attempt.in_order(&replies))
    }

    /// Commits what a detection means for our user.
    async fn non_delivery_of(
        &self,
        attempt: &Attempt<'_>,
        message: &CertifiedMessage,
        first_came: TemporalReference,
    ) -> Result<Consequence, Fault> {
        let (queue_id, facts, current) = (attempt.queue_id(), &message.data.facts, &attempt.current);
        let (id, at) = (&facts.id, self.instruments.now());
        let Some(recipient) = &message.data.recipient else { return Ok(Consequence::None) };
        let earlier = self.log.of_transaction(id).await?;
        let of_kind = |kind| earlier.iter().map(|one| &one.entry).find(|entry| entry.kind == kind);
        let (Some(arrival), Some(_)) = (of_kind(EventKind::Arrival), of_kind(EventKind::Acceptance)) else {
            let may_come = current.manages(&facts.sender) && at.unix() - first_came.unix() < LONGEST_OVERTAKING;
            warn!(queue_id, %id, %recipient, provider = %message.provider, may_come, "a virus detection about a message that was not accepted here");
            return Ok(if may_come { Consequence::TooEarly } else { Consequence::None });
        };
        let accepted = Transaction::of(arrival).ok_or(Fault::UnreadableArrival)?;
        if !accepted.facts.certifies(recipient) {
            warn!(queue_id, %id, %recipient, provider = %message.provider, "a virus detection about somebody who is no certified recipient of the message");
            return Ok(Consequence::None);
        }
        let virus = VirusName::new(message.data.error_text.as_deref().unwrap_or_default());
        let author = ReportAuthor { queue_id, arrival, id, at, issuer: &attempt.current.provider.name };
        let entry = author.virus_non_delivery(recipient, &virus, self.new_id(current));
        let recorded = self.log.record(vec![entry]).await?.into_iter().next();
        Ok(match recorded {
            Some(one)
                if one.entry.kind == EventKind::VirusNonDelivery && one.entry.queue_id == Some(queue_id.into()) =>
            {
                info!(queue_id, %id, %recipient, %virus, "another provider found a virus");
                Consequence::Notice { recorded: Box::new(one), transaction: Box::new(accepted) }
            }
            // The same detection under another queue id tells, or told, it.
            Some(one) if one.entry.kind == EventKind::VirusNonDelivery => Consequence::None,
            _ => {
                warn!(queue_id, %id, %recipient, provider = %message.provider, "a virus detection after the recipient's outcome, nothing is told");
                Consequence::None
            }
        })
    }
}

/// What a detection means for our user.
enum Consequence {
    /// The notice is to be told, with the facts that we certified ourselves.
    Notice { recorded: Box<Recorded>, transaction: Box<Transaction> },
    /// It is recorded and delivered, nothing more.
    None,
    /// The message it is about may still be on its way into the log.
    TooEarly,
}
