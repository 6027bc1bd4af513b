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
    /// One recipient's envelope was stopped because of a virus, with the notice to the sender's provider (§3.2.3).
    VirusDetection,
    /// Another provider stopped a message of ours because of a virus, with the notice to our user (§3.2.4).
    VirusNonDelivery,
    /// Nothing was heard of one recipient for 12 hours, with the notice that tells it (§3.1.6).
    FirstTimeout,
    /// No delivery to one recipient was heard of for 24 hours, with the notice that tells it (§3.1.6).
    FinalTimeout,
    /// A further mailbox holds the envelope, because an alias leads to several.
    Copy,
    /// The same envelope came again for a recipient that has its outcome.
    Duplicate,
    /// Postfix reported a failure for a recipient that has its outcome: nothing is told.
    LateFailure,
    /// Another provider's notification about a message was put in a mailbox.
    NotificationReceived,
    /// A message that is not certified was put in a mailbox inside an anomaly envelope (§3.2.2).
    Anomaly,
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
        }
    }

    /// The kind a stored word means.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    const ALL: [Self; 15] = [
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

    /// One mailbox copy, of any message, per queue file and final recipient.
    pub fn mailbox(queue_id: &str, mailbox: &str) -> Self {
        Slot(format!("mailbox {queue_id} {}", mailbox.to_ascii_lowercase()))
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
    /// The rest, as JSON: what is needed to write the notification again.
    pub details: Option<String>,
    pub slot: Option<Slot>,
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
