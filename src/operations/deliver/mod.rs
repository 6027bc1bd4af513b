//! The hop (§2.2.3, §3.2.1, §3.3): a message that lies in Postfix's queue goes to its mailboxes, and what happened to it
//! is recorded and told.
//!
//! One queue file is worked on in three steps, each of which can run again after a crash at any instant:
//!
//! 1. arrival: one commit records the queue file, the acceptance and the recipients taken in charge;
//! 2. mailboxes: the mailbox server is offered the message, its answers are committed as outcomes;
//! 3. receipts: made from committed entries only, with their Message-ID and instant, and sent; then Postfix is answered.
//!
//! Whatever is not answered 2xx Postfix offers again. A committed step is not repeated, its receipt is sent again
//! unchanged. A fault is a 4xx for every recipient whose work is not finished; nothing is ever accepted on a fault.
//! Messages that are not correct envelopes pass to the mailbox server, whose answers pass back; only a correct envelope
//! gives receipts (§3.3.1). What Postfix itself reports about an envelope goes its own way (`report`), and so do viruses
//! (`viruses`).

pub mod entries;

mod answers;
mod attempt;
mod envelope;
mod given_up;
mod originals;
mod plan;
pub mod receipts;
mod report;
mod served;
mod viruses;
mod waiting_reports;

pub use waiting_reports::WaitingReports;

use std::sync::Arc;

use tracing::{debug, error, info, warn};

use self::attempt::Attempt;
use self::entries::ArrivalDetails;
use super::causes;
use super::current::{Current, Handle, NoDirectory};
use super::ports::{EventLog, Injection, Instruments, LogError, Mailboxes, OriginalStore, QueueFile, Reply};
use super::telling::TellingError;
use super::triggers::{Trigger, is_internal};
use super::virus_guard::VirusGuard;
use crate::crash;
use crate::incoming_point::{
    Arrival, CertifiedMessage, Classification, FoundBefore, Standards, Unjudged, apparent_sender, classify, data_told,
    provider_within,
};
use crate::legal_log::{Entry, EventKind, Slot};
use crate::message::anomaly_reason::AnomalyReason;
use crate::message::header::Header;
use crate::message::wire::Kind;
use crate::model::{PecMsgid, TemporalReference};
use crate::smime::Sha1Policy;

/// The hop with everything it talks to.
pub struct Hop<L, M, I, T> {
    pub current: Handle,
    pub log: Arc<L>,
    pub mailboxes: M,
    pub injection: I,
    pub instruments: T,
    pub viruses: VirusGuard,
    /// Where the originals of delivery receipts are kept, if they are.
    pub originals: Option<Arc<dyn OriginalStore>>,
    pub waiting_reports: WaitingReports,
}

/// A report, or another provider's detection, may overtake our own acceptance, which Postfix offers at least every 67 minutes
/// (`maximal_backoff_time`). One about a message that the log does not know after this time is about none of ours.
const LONGEST_OVERTAKING: i64 = 2 * 3600;

/// Why a queue file cannot be worked on now: Postfix offers it again.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error(transparent)]
    NoDirectory(#[from] NoDirectory),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Telling(#[from] TellingError),
    #[error("a worker thread ended before its work was done")]
    Worker(#[from] tokio::task::JoinError),
    #[error(transparent)]
    Unjudged(#[from] Unjudged),
    #[error("a trigger came with a message that is no correct envelope: {0}")]
    TriggerWithoutEnvelope(String),
    #[error("an envelope that was found correct when it arrived is not any more, so its recipients wait: {0}")]
    NoLongerCorrect(String),
    #[error("an acceptance is asked for an envelope that this provider did not sign")]
    ForeignAcceptance,
    #[error("the queue id belongs to an earlier message: set enable_long_queue_ids = yes in main.cf")]
    ReusedQueueId,
    #[error("the PEC msgid {0} came before with another message: its provider must be told")]
    ReusedMsgid(PecMsgid),
    #[error("a non-delivery is asked for by a message that is no report of Postfix about an envelope")]
    NoReport,
    #[error("the details of the arrival in the log are not readable")]
    UnreadableArrival,
}

/// By what a message is judged.
#[derive(Debug, PartialEq, Eq)]
enum Judge {
    /// By directory, CAs, their revocation lists, and instant.
    Strict,
    /// The same without the lists, which were asked when it arrived.
    Again,
    /// By what its first attempt here recorded.
    AsFound(FoundBefore),
    /// By the certificates that this provider has or had.
    AsOwn,
}

impl<L: EventLog, M: Mailboxes, I: Injection, T: Instruments> Hop<L, M, I, T> {
    /// Works on one queue file; returns Postfix's answers, one per recipient.
    pub async fn deliver(&self, file: QueueFile) -> Vec<Reply> {
        debug!(queue_id = %file.queue_id, recipients = file.recipients.len(), octets = file.message.len(), "offered");
        crash::point("hop-begin");
        match self.try_deliver(&file).await {
            Ok(replies) => replies,
            Err(fault) => {
                // What a report waits for may be the envelope that failed here.
                self.waiting_reports.forget();
                let cause = causes(&fault);
                error!(queue_id = %file.queue_id, %cause, "not delivered for now, Postfix will offer it again");
                let reply = Reply::new(451, "4.3.0 internal fault, see the log of pec-milter");
                vec![reply; file.recipients.len()]
            }
        }
    }

    async fn try_deliver(&self, file: &QueueFile) -> Result<Vec<Reply>, Fault> {
        let current = self.current.now();
        current.needs_directory()?;
        let attempt = Attempt::at(file, current);
        for local in attempt.locals.iter().filter(|local| is_internal(&local.recipient.address)) {
            warn!(queue_id = %file.queue_id, recipient = %local.recipient.address, "an unknown address of the internal domain");
        }
        if attempt.triggers.has(Trigger::NonDelivery) {
            return self.deliver_report(&attempt).await;
        }
        match self.classify(&attempt).await? {
            Classification::Envelope(message) => self.deliver_envelope(&attempt, &message).await,
            Classification::Notification(message)
                if message.data.kind == Kind::VirusDetection && attempt.triggers.are_only(Trigger::VirusDetection) =>
            {
                self.deliver_detection(&attempt, &message).await
            }
            other if !attempt.triggers.is_empty() => Err(Fault::TriggerWithoutEnvelope(described(&other))),
            other => {
                self.record_passing(&attempt, &other).await?;
                crash::point("passing-recorded");
                Ok(attempt.in_order(&self.pass(&attempt).await))
            }
        }
    }

    /// Classifies at this instant. What fails now may have been found correct before: a message of our own when it was made,
    /// another's when it arrived. It is not lost because a certificate ran out or was revoked while it was queued here.
    async fn classify(&self, attempt: &Attempt<'_>) -> Result<Classification, Fault> {
        let at = self.instruments.now();
        let now = self.classify_by(attempt, at, Judge::Strict).await?;
        if matches!(now, Ok(Classification::Envelope(_) | Classification::Ordinary(AnomalyReason::NotSigned))) {
            return Ok(now?);
        }
        let arrival = self.arrival_of(attempt).await?;
        use AnomalyReason::{InvalidCertificate, UnknownSigner};
        if matches!(now, Err(_) | Ok(Classification::Ordinary(UnknownSigner(_) | InvalidCertificate { .. })))
            && let Some(own) = self.classify_as_own(attempt, at, arrival.is_some()).await?
        {
            let queue_id = attempt.queue_id();
            info!(queue_id, "one of our own messages, made before key, directory or certificate changed");
            return Ok(own);
        }
        match arrival {
            Some(arrival) => self.classify_as_found(attempt, &arrival).await,
            None if attempt.triggers.has(Trigger::TakeCharge) || attempt.triggers.has(Trigger::VirusDetection) => {
                self.classify_after_milter(attempt, at).await
            }
            None => Ok(now.inspect_err(|unjudged| self.current.ask_for_lists(unjudged.wanted()))?),
        }
    }

    /// By what an earlier attempt found, whatever directory and CAs say since. An envelope that was taken in charge never
    /// passes as anything else: it would reach the mailbox unscanned, and nobody would be told.
    async fn classify_as_found(&self, attempt: &Attempt<'_>, arrival: &Entry) -> Result<Classification, Fault> {
        let judge = ArrivalDetails::found_before(arrival).map_or(Judge::Again, Judge::AsFound);
        match self.classify_by(attempt, arrival.at, judge).await?? {
            envelope @ Classification::Envelope(_) => Ok(envelope),
            other if arrival.kind == EventKind::Arrival => Err(Fault::NoLongerCorrect(described(&other))),
            other => Ok(other),
        }
    }

    /// Only our milter adds the triggers of other providers' messages, to what it found correct. A certificate that has run
    /// out since held at the instant that the message itself tells.
    async fn classify_after_milter(
        &self,
        attempt: &Attempt<'_>,
        at: TemporalReference,
    ) -> Result<Classification, Fault> {
        let now = self.classify_by(attempt, at, Judge::Again).await??;
        match (&now, data_told(&attempt.file.message)) {
            (Classification::Ordinary(AnomalyReason::InvalidCertificate { .. }), Some(data)) => {
                Ok(self.classify_by(attempt, data.at, Judge::Again).await??)
            }
            _ => Ok(now),
        }
    }

    /// By the certificates that this provider has or had, whatever directory and CAs say of them now; none if it is not of
    /// its own.
    ///
    /// An envelope must have come from our access milter, which adds the trigger, or have arrived here before: whoever
    /// stole a former key can sign one, and ordinary mail may be forwarded to a mailbox here as it is.
    async fn classify_as_own(
        &self,
        attempt: &Attempt<'_>,
        at: TemporalReference,
        has_arrived: bool,
    ) -> Result<Option<Classification>, Fault> {
        Ok(match self.classify_by(attempt, at, Judge::AsOwn).await? {
            Ok(Classification::Envelope(_)) if !has_arrived && !attempt.triggers.has(Trigger::Acceptance) => None,
            Ok(Classification::Ordinary(_)) | Err(_) => None,
            Ok(own) => Some(own),
        })
    }

    /// The message is judged by itself: the incoming milter judged the forward paths too, and what Postfix makes of them
    /// later takes nothing from what is certified.
    async fn classify_by(
        &self,
        attempt: &Attempt<'_>,
        at: TemporalReference,
        judge: Judge,
    ) -> Result<Result<Classification, Unjudged>, Fault> {
        let (current, sender) = (attempt.current.clone(), attempt.file.sender.clone());
        let message = attempt.file.message.clone();
        let classification = tokio::task::spawn_blocking(move || {
            let arrival = Arrival { sender: &sender, recipients: &[], message: &message };
            let own = (judge == Judge::AsOwn).then(|| current.own_record_with_former());
            let strict = Standards { own: own.as_ref(), ..current.standards(at) };
            let standards = match &judge {
                Judge::Strict | Judge::AsOwn => strict,
                Judge::Again => current.standards_again(at),
                Judge::AsFound(found) => {
                    Standards { found_before: Some(found), sha1: Sha1Policy::Accept, ..current.standards_again(at) }
                }
            };
            classify(&arrival, &standards)
        });
        Ok(classification.await?)
    }

    /// What an earlier attempt recorded first of this queue file.
    async fn arrival_of(&self, attempt: &Attempt<'_>) -> Result<Option<Entry>, Fault> {
        let earlier = self.log.of_queue_file(attempt.queue_id()).await?;
        let is_arrival = |entry: &Entry| matches!(entry.kind, EventKind::Arrival | EventKind::NotificationReceived);
        Ok(earlier.into_iter().map(|one| one.entry).find(is_arrival))
    }

    /// Records what passes and is worth remembering, before it is in any mailbox.
    async fn record_passing(&self, attempt: &Attempt<'_>, what: &Classification) -> Result<(), Fault> {
        let (current, queue_id, mailboxes) = (&attempt.current, attempt.queue_id(), attempt.named());
        let issuer = current.provider.name.as_str();
        let at = self.instruments.now();
        let entry = match what {
            Classification::Notification(message) if !is_own(current, message) => {
                entries::Author { queue_id, message, at, issuer }.notification_received(&mailboxes)
            }
            Classification::Notification(message) if message.data.kind == Kind::NonAcceptance => {
                entries::Author { queue_id, message, at, issuer }.non_acceptance()
            }
            Classification::NotCorrect { provider, reason: AnomalyReason::AnomalyEnvelope(_) }
                if *provider == current.provider.name =>
            {
                let (judging, file) = (current.clone(), attempt.file.clone());
                let provider = tokio::task::spawn_blocking(move || {
                    provider_within(&file.message, &file.sender, &judging.standards_again(at))
                });
                anomaly(attempt.file, &mailboxes, provider.await?, at)
            }
            _ => return Ok(()),
        };
        self.log.record(vec![entry]).await?;
        Ok(())
    }

    /// Offers the message to the mailbox server as it is; its answers are Postfix's, each with its place.
    async fn pass(&self, attempt: &Attempt<'_>) -> Vec<(usize, Reply)> {
        if attempt.locals.is_empty() {
            return Vec::new();
        }
        let replies = self.mailboxes.deliver(&attempt.mail(&attempt.locals)).await;
        crash::point("passed");
        for (local, reply) in attempt.locals.iter().zip(&replies) {
            info!(queue_id = attempt.queue_id(), recipient = %local.recipient.address, %reply, "passed to the mailbox");
        }
        attempt.locals.iter().map(|local| local.index).zip(replies).collect()
    }
}

/// Whether this provider signed a message, with a key of today or of before, or with another that the directory lists as
/// its own.
fn is_own(current: &Current, message: &CertifiedMessage) -> bool {
    current.is_own(&message.signer) || message.provider == current.provider.name
}

fn anomaly(file: &QueueFile, mailboxes: &[String], provider: Option<String>, at: TemporalReference) -> Entry {
    let header = Header::read(&file.message);
    let sender = apparent_sender(&file.sender, &file.message);
    Entry {
        kind: EventKind::Anomaly,
        at,
        queue_id: Some(file.queue_id.clone()),
        pec_msgid: None,
        client_msgid: header.text("Message-ID").and_then(|text| text.parse().ok()),
        sender: Some(sender.map_or_else(|| file.sender.clone(), |address| address.to_string())),
        recipient: (mailboxes.len() == 1).then(|| mailboxes.concat()),
        subject: header.first("Subject").map(|field| field.decoded()),
        notification: None,
        provider,
        issuer: None,
        details: Some(serde_json::json!({ "mailboxes": mailboxes }).to_string()),
        slot: Some(Slot::arrival(&file.queue_id)),
    }
}

fn described(classification: &Classification) -> String {
    match classification {
        Classification::Envelope(_) => "a correct envelope".into(),
        Classification::Notification(message) => format!("a {}", message.data.kind.token()),
        Classification::NotCorrect { provider, reason } => format!("from {provider} but not correct: {reason}"),
        Classification::Ordinary(reason) => reason.to_string(),
    }
}

#[cfg(test)]
mod tests;
