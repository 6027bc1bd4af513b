//! Making receipts again from the log (§2.3): what their holder lost, with the same certification data, texts, Message-ID
//! and instant, signed anew and marked as reproduced.
//!
//! Nothing but the log, and the store of originals where there is one, is asked. Who gets to see evidence is evidence
//! itself: each reproduction is recorded before it is signed.

use std::sync::Arc;

use serde_json::json;

use super::current::Current;
use super::deliver::receipts::{self, Original, Transaction};
use super::ports::{EventLog, Injection, Instruments, LogError, Mailboxes, OriginalFault, OriginalStore, Reply};
use super::signed_seals::SignedSeals;
use super::telling;
use crate::legal_log::{Entry, EventKind, Recorded};
use crate::message::body::Signed;
use crate::message::notification::Notification;
use crate::model::{Address, Msgid, PecMsgid, TemporalReference};
use crate::smime::SigningError;

/// The kinds of entry that a receipt or notice of this provider tells.
pub const TOLD: [EventKind; 9] = [
    EventKind::Acceptance,
    EventKind::NonAcceptance,
    EventKind::TakeCharge,
    EventKind::Delivery,
    EventKind::NonDelivery,
    EventKind::VirusDetection,
    EventKind::VirusNonDelivery,
    EventKind::FirstTimeout,
    EventKind::FinalTimeout,
];

/// Which receipts of a transaction are wanted.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    pub kind: Option<EventKind>,
    /// The recipient that a receipt is about; those about none are not.
    pub recipient: Option<Address>,
}

/// A receipt that this provider issued, still without an original.
#[derive(Debug, Clone)]
pub struct Issued {
    /// The row of the log that it tells; of a take-charge, the first.
    pub sequence: i64,
    pub kind: EventKind,
    /// The recipients that it is about.
    pub about: Vec<String>,
    pub notification: Notification,
    entry: Entry,
    transaction: Transaction,
    /// When the envelope arrived here, if an original may have been kept.
    arrived: Option<TemporalReference>,
}

/// A receipt made again.
#[derive(Debug)]
pub struct Reproduced {
    pub signed: Signed,
    /// It carried the original once, which was not kept.
    pub lacks_original: bool,
}

/// What is done with a reproduction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Purpose {
    /// It goes to whom the receipt went.
    pub is_sent: bool,
    /// It is written into a file.
    pub is_written: bool,
}

/// Why a receipt is not made again.
#[derive(Debug, thiserror::Error)]
pub enum NotReproduced {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("row {0} of the log does not hold what its receipt needs")]
    Unreadable(i64),
    #[error("{} in row {row}: its arrival is past its retention and was removed", .kind.name())]
    ArrivalGone { row: i64, kind: EventKind },
    #[error(transparent)]
    Original(#[from] OriginalFault),
    #[error("the receipt could not be signed")]
    Signing(#[from] SigningError),
    #[error("a worker thread ended before its work was done")]
    Worker(#[from] tokio::task::JoinError),
}

/// Whoever makes receipts again, with everything that takes.
pub struct Reproducer<L, M, I, T> {
    pub current: Arc<Current>,
    pub log: L,
    /// What its rows are held against.
    pub seals: Arc<SignedSeals>,
    pub originals: Option<Arc<dyn OriginalStore>>,
    pub mailboxes: M,
    pub injection: I,
    pub instruments: T,
    /// Who asked for it, for the record.
    pub by: String,
}

impl<L: EventLog, M: Mailboxes, I: Injection, T: Instruments> Reproducer<L, M, I, T> {
    /// The receipts of a transaction that this provider issued, in order of recording, each or why it cannot be made again;
    /// none where an entry of it is not as it was written and sealed, for a signature makes it true.
    pub async fn find(
        &self,
        id: &PecMsgid,
        wanted: &Wanted,
    ) -> Result<Vec<Result<Issued, NotReproduced>>, NotReproduced> {
        Ok(issued(&self.log.written(id, self.seals.clone()).await?, wanted))
    }

    /// Records that a receipt is made again, makes it with its original, if that was kept, and signs it.
    pub async fn make(&self, issued: Issued, purpose: Purpose) -> Result<Reproduced, NotReproduced> {
        let original = match (&self.originals, issued.arrived) {
            (Some(store), Some(arrived)) => store.original(&issued.transaction.facts.id, arrived).await?,
            _ => None,
        };
        let lacks_original = issued.arrived.is_some() && original.is_none();
        let now = self.instruments.now();
        self.log.record(vec![self.entry(&issued, purpose, lacks_original, now)]).await?;
        let current = self.current.clone();
        let signing = tokio::task::spawn_blocking(move || {
            let Issued { transaction, entry, sequence, notification, .. } = issued;
            let notification = match original {
                None => notification,
                Some(original) => {
                    let original = Original::for_entries(original, std::iter::once(&entry));
                    receipts::notification(&transaction, &original, &entry)
                        .ok_or(NotReproduced::Unreadable(sequence))?
                }
            };
            let unsigned = notification.compose_again(&current.provider, now, lacks_original);
            // With the key of today, whatever signed it the first time.
            Ok::<_, NotReproduced>(current.sign(unsigned, now, now)?)
        });
        Ok(Reproduced { signed: signing.await??, lacks_original })
    }

    /// Sends a reproduction to whom the receipt went, the way it went.
    pub async fn send(&self, to: &Address, reproduced: Reproduced) -> Reply {
        telling::send(&self.current, &self.mailboxes, &self.injection, to, reproduced.signed).await
    }

    fn entry(&self, issued: &Issued, purpose: Purpose, lacks_original: bool, now: TemporalReference) -> Entry {
        let Issued { kind, about, notification, transaction, sequence, .. } = issued;
        let facts = &transaction.facts;
        let details = json!({
            "kind": kind.name(),
            "recipients": about,
            "notification": notification.id.as_str(),
            "row": sequence,
            "sent_to": purpose.is_sent.then(|| notification.to.as_str()),
            "written": purpose.is_written,
            "lacks_original": lacks_original,
            "by": self.by,
        });
        Entry {
            pec_msgid: Some(facts.id.clone()),
            client_msgid: facts.msgid.clone(),
            sender: Some(facts.sender.to_string()),
            recipient: (about.len() == 1).then(|| about.concat()),
            subject: facts.subject.clone(),
            notification: Some(notification.id.clone()),
            details: Some(details.to_string()),
            ..Entry::new(EventKind::Reproduction, now)
        }
    }
}

/// The receipts that tell these entries of one transaction, as far as they are wanted.
fn issued(entries: &[Recorded], wanted: &Wanted) -> Vec<Result<Issued, NotReproduced>> {
    let mut seen: Vec<&Msgid> = Vec::new();
    let mut found = Vec::new();
    let told = |entry: &Entry| TOLD.contains(&entry.kind) && wanted.kind.is_none_or(|kind| kind == entry.kind);
    for one in entries.iter().filter(|one| told(&one.entry)) {
        let Some(own_id) = &one.entry.notification else { continue };
        if seen.contains(&own_id) {
            continue;
        }
        seen.push(own_id);
        // One take-charge may tell several.
        let together: Vec<Recorded> = match one.entry.kind {
            EventKind::TakeCharge => {
                let same = |other: &&Recorded| {
                    other.entry.kind == EventKind::TakeCharge && other.entry.notification.as_ref() == Some(own_id)
                };
                entries.iter().filter(same).cloned().collect()
            }
            _ => vec![one.clone()],
        };
        let about: Vec<String> = together.iter().filter_map(|one| one.entry.recipient.clone()).collect();
        if wanted.recipient.as_ref().is_none_or(|wanted| names(&about, wanted)) {
            found.push(compose(entries, one, &together, about));
        }
    }
    found
}

fn compose(
    entries: &[Recorded],
    one: &Recorded,
    together: &[Recorded],
    about: Vec<String>,
) -> Result<Issued, NotReproduced> {
    let Recorded { sequence, entry, .. } = one;
    let (sequence, kind, entry) = (*sequence, entry.kind, entry.clone());
    let unreadable = || NotReproduced::Unreadable(sequence);
    let source = source(entries, &entry).ok_or(NotReproduced::ArrivalGone { row: sequence, kind })?;
    let transaction = Transaction::of(source).ok_or_else(unreadable)?;
    let notification = match kind {
        EventKind::TakeCharge => receipts::take_charges(&transaction, together).pop(),
        _ => receipts::notification(&transaction, &Original::default(), &entry),
    };
    let notification = notification.ok_or_else(unreadable)?;
    let arrived = receipts::carries_original(&entry).then_some(source.at);
    Ok(Issued { sequence, kind, about, notification, entry, transaction, arrived })
}

/// The entry that tells the transaction of a receipt: the arrival of its own queue file, or else the first one; a message
/// that was not accepted never arrived.
fn source<'a>(entries: &'a [Recorded], told: &'a Entry) -> Option<&'a Entry> {
    if told.kind == EventKind::NonAcceptance {
        return Some(told);
    }
    let arrivals = || entries.iter().map(|one| &one.entry).filter(|entry| entry.kind == EventKind::Arrival);
    let own = arrivals().find(|arrival| told.queue_id.is_some() && arrival.queue_id == told.queue_id);
    own.or_else(|| arrivals().next())
}

fn names(about: &[String], recipient: &Address) -> bool {
    about.iter().any(|text| text.parse::<Address>().as_ref() == Ok(recipient))
}

#[cfg(test)]
mod tests;
