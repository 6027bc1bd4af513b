//! One entry of the event log (§2.3).

use std::fmt;

use crate::model::{Address, Msgid, PecMsgid, TemporalReference};

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// A queue file reached the hop: its recipients, its triggers, the certified facts of its envelope.
    Arrival,
    /// The acceptance of a submission, with the receipt that tells it (§3.1.4).
    Acceptance,
    /// A submission that was not accepted, with the notice that tells it (§3.1.2, §3.1.3).
    NonAcceptance,
    /// One recipient taken in charge, with the receipt that tells it (§3.2.1).
    TakeCharge,
    /// One recipient's mailbox holds the envelope, with the receipt that tells it (§3.3.2).
    Delivery,
    /// One recipient will not get the envelope, with the notice that tells it: its mailbox refused it, or another server
    /// did (§3.3.3).
    NonDelivery,
    /// One recipient's envelope was stopped because of a virus, with the notice to the sender's provider (§3.2.3); without
    /// a recipient, a mailbox's about which nothing is certified and nothing told.
    VirusDetection,
    /// Another provider stopped a message of ours because of a virus, with the notice to our user (§3.2.4).
    VirusNonDelivery,
    /// Nothing was heard of one recipient for 12 hours, with the notice that tells it (§3.1.6).
    FirstTimeout,
    /// No delivery to one recipient was heard of for 24 hours, with the notice that tells it (§3.1.6).
    FinalTimeout,
    /// A further mailbox holds the envelope: an alias leads to several, another copy of the envelope decided the outcome
    /// at the same time, an ordinary recipient has his mailbox here, or, without a recipient, Postfix was told to send a
    /// copy to somebody it does not name.
    Copy,
    /// The same envelope came again for a recipient that has its outcome.
    Duplicate,
    /// Postfix reported a failure for a recipient that has its outcome: nothing is told.
    LateFailure,
    /// Another provider's notification about a message was put in a mailbox.
    NotificationReceived,
    /// A message that is not certified was put in a mailbox inside an anomaly envelope (§3.2.2).
    Anomaly,
    /// A message, or a whole session's attempt at one, that was refused in the SMTP dialogue, nothing of which is here; or
    /// one recipient who gets nothing of a message that others get.
    Refusal,
    /// Ordinary mail that goes on to where its mailbox's owner wants it (§3.2.2 leaves that to the provider).
    Forward,
    /// The rows since the last seal were exported, signed, and bound to the seals before.
    Seal,
    /// A time stamping authority stamped a seal.
    Stamp,
    /// The rows of a sealed range, past their retention, were removed.
    Purge,
    /// Nothing of a transaction or a mailbox may be removed, whatever its age, until its release.
    Hold,
    /// A hold ended.
    Release,
    /// A notification was made again from the log.
    Reproduction,
}

impl EventKind {
    /// The word that stands in the database and in `log show`; it never changes once released.
    pub fn name(self) -> &'static str {
        match self {
            Self::Arrival => "arrival",
            Self::Acceptance => "acceptance",
            Self::NonAcceptance => "non-acceptance",
            Self::TakeCharge => "take-charge",
            Self::Delivery => "delivery",
            Self::NonDelivery => "non-delivery",
            Self::VirusDetection => "virus-detection",
            Self::VirusNonDelivery => "virus-non-delivery",
            Self::FirstTimeout => "timeout-first",
            Self::FinalTimeout => "timeout-final",
            Self::Copy => "copy",
            Self::Duplicate => "duplicate",
            Self::LateFailure => "late-failure",
            Self::NotificationReceived => "notification-received",
            Self::Anomaly => "anomaly",
            Self::Refusal => "refusal",
            Self::Forward => "forward",
            Self::Seal => "seal",
            Self::Stamp => "stamp",
            Self::Purge => "purge",
            Self::Hold => "hold",
            Self::Release => "release",
            Self::Reproduction => "reproduction",
        }
    }

    /// The kind a stored word means.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    pub const ALL: [Self; 23] = [
        Self::Arrival,
        Self::Acceptance,
        Self::NonAcceptance,
        Self::TakeCharge,
        Self::Delivery,
        Self::NonDelivery,
        Self::VirusDetection,
        Self::VirusNonDelivery,
        Self::FirstTimeout,
        Self::FinalTimeout,
        Self::Copy,
        Self::Duplicate,
        Self::LateFailure,
        Self::NotificationReceived,
        Self::Anomaly,
        Self::Refusal,
        Self::Forward,
        Self::Seal,
        Self::Stamp,
        Self::Purge,
        Self::Hold,
        Self::Release,
        Self::Reproduction,
    ];
}

/// The fact of which there can be only one: recording a second entry for the same slot gives back the first.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Slot(String);

impl Slot {
    /// One arrival per queue file.
    pub fn arrival(queue_id: &str) -> Self {
        Slot(format!("arrival {queue_id}"))
    }

    /// One arrival per recipient of a queue file whom Postfix did not name at first.
    pub fn late_arrival(queue_id: &str, recipient: &Address) -> Self {
        Slot(format!("arrival {queue_id} {}", recipient.key()))
    }

    /// One acceptance or non-acceptance per transaction, never both.
    pub fn acceptance(id: &PecMsgid) -> Self {
        Slot(format!("acceptance {id}"))
    }

    /// One take-charge per recipient (§3.2.1: named in `ricezione` exactly once).
    pub fn take_charge(id: &PecMsgid, recipient: &Address) -> Self {
        Slot(format!("take-charge {id} {}", recipient.key()))
    }

    /// Delivery, non-delivery and virus share it: a recipient has one outcome.
    pub fn outcome(id: &PecMsgid, recipient: &Address) -> Self {
        Slot(format!("outcome {id} {}", recipient.key()))
    }

    /// One notice of each kind per recipient (§3.1.6).
    pub fn timeout(id: &PecMsgid, recipient: &Address, kind: EventKind) -> Self {
        Slot(format!("{} {id} {}", kind.name(), recipient.key()))
    }

    /// One late failure per report of Postfix and recipient.
    pub fn late_failure(queue_id: &str, recipient: &Address) -> Self {
        Slot(format!("late-failure {queue_id} {}", recipient.key()))
    }

    /// One entry per queue file, recipient and mailbox: two recipients may have the same mailbox, and one who is not named
    /// may have it, too.
    pub fn mailbox(queue_id: &str, recipient: Option<&Address>, mailbox: &str) -> Self {
        // No address is a hyphen.
        let recipient = recipient.map_or("-".to_owned(), Address::key);
        Slot(format!("mailbox {queue_id} {recipient} {}", mailbox.to_ascii_lowercase()))
    }

    /// One entry per queue file and forward path that gets nothing of it.
    pub fn taken_out(queue_id: &str, recipient: &str) -> Self {
        Slot(format!("taken-out {queue_id} {}", recipient.to_ascii_lowercase()))
    }

    /// One entry per queue file and forward path whose copy goes on elsewhere.
    pub fn forward(queue_id: &str, mailbox: &str) -> Self {
        Slot(format!("forward {queue_id} {}", mailbox.to_ascii_lowercase()))
    }

    /// One seal of each number.
    pub fn seal(number: u64) -> Self {
        Slot(format!("seal {number}"))
    }

    /// One time stamp for each seal.
    pub fn stamp(number: u64) -> Self {
        Slot(format!("stamp {number}"))
    }

    /// A sealed range is removed once.
    pub fn purge(number: u64) -> Self {
        Slot(format!("purge {number}"))
    }

    /// A hold ends once.
    pub fn release(hold: i64) -> Self {
        Slot(format!("release {hold}"))
    }

    /// The slot a stored text means.
    pub fn from_stored(text: String) -> Self {
        Slot(text)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An entry to be recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub kind: EventKind,
    pub at: TemporalReference,
    /// Postfix's name of the queue file.
    pub queue_id: Option<String>,
    pub pec_msgid: Option<PecMsgid>,
    /// The Message-ID the user's client gave.
    pub client_msgid: Option<Msgid>,
    /// The reverse path; an empty text is the empty reverse path.
    pub sender: Option<String>,
    /// The one recipient this entry is about, where it is about one.
    pub recipient: Option<String>,
    pub subject: Option<String>,
    /// The Message-ID of the notification that tells this fact.
    pub notification: Option<Msgid>,
    /// The name of the provider the message came from.
    pub provider: Option<String>,
    /// The name under which this provider certifies the fact (`gestore-emittente`), where a notification tells it.
    pub issuer: Option<String>,
    /// The rest, as JSON: what is needed to write the notification again.
    pub details: Option<String>,
    pub slot: Option<Slot>,
}

impl Entry {
    /// An entry that says no more than what happened, and when.
    pub fn new(kind: EventKind, at: TemporalReference) -> Self {
        Entry {
            kind,
            at,
            queue_id: None,
            pec_msgid: None,
            client_msgid: None,
            sender: None,
            recipient: None,
            subject: None,
            notification: None,
            provider: None,
            issuer: None,
            details: None,
            slot: None,
        }
    }
}

/// An entry that lies in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// Its place in the log, from 1, without gaps.
    pub sequence: i64,
    pub entry: Entry,
    /// Whether the call that returned it wrote it, or found its slot taken.
    pub is_new: bool,
}
