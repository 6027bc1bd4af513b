//! The details of entries, read: what the watch and the auditor ask of them.
//!
//! The hop writes an arrival's details with more than this (`operations/deliver/entries.rs`); those of another provider's
//! notification have their whole form here. Details that are not of the form give nothing, never an error: whoever asks
//! decides what an unreadable entry means.

use serde::{Deserialize, Serialize};

use crate::legal_log::{Entry, EventKind};
use crate::message::wire::{self, Kind};
use crate::model::{Address, Recipient};

/// Whom a transaction is about, as its arrival tells it.
#[derive(Debug, Clone, Deserialize)]
pub struct Parties {
    /// The recipients of the queue file that have their mailbox here.
    here: Vec<String>,
    recipients: Vec<(String, String)>,
}

impl Parties {
    pub fn of(arrival: &Entry) -> Option<Self> {
        read(arrival, EventKind::Arrival)
    }

    pub fn here(&self) -> Vec<Address> {
        addresses(&self.here)
    }

    /// All recipients; none if one of them cannot be read.
    pub fn recipients(&self) -> Option<Vec<Recipient>> {
        recipients(&self.recipients)
    }
}

/// The recipients that pairs of address and `tipo` mean.
pub fn recipients(pairs: &[(String, String)]) -> Option<Vec<Recipient>> {
    let recipient = |(address, kind): &(String, String)| {
        Some(Recipient { address: address.parse().ok()?, kind: wire::recipient_from_token(kind)? })
    };
    pairs.iter().map(recipient).collect()
}

/// What another provider's notification said.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ReceivedNotification {
    /// Its `tipo`.
    pub kind: String,
    /// Its `errore`.
    pub error: String,
    /// Its own instant, seconds since 1970.
    pub at: i64,
    /// All recipients of the transaction.
    #[serde(default)]
    pub recipients: Vec<String>,
    /// Those that it takes in charge.
    #[serde(default)]
    pub taken: Vec<String>,
    /// Its `errore-esteso`.
    pub reason: Option<String>,
    /// The mailboxes here that it went to.
    pub mailboxes: Vec<String>,
}

impl ReceivedNotification {
    pub fn of(entry: &Entry) -> Option<Self> {
        read(entry, EventKind::NotificationReceived)
    }

    pub fn kind(&self) -> Option<Kind> {
        Kind::from_token(&self.kind)
    }

    pub fn taken(&self) -> Vec<Address> {
        addresses(&self.taken)
    }
}

fn read<T: for<'a> Deserialize<'a>>(entry: &Entry, kind: EventKind) -> Option<T> {
    let text = entry.details.as_deref().filter(|_| entry.kind == kind)?;
    serde_json::from_str(text).ok()
}

fn addresses(texts: &[String]) -> Vec<Address> {
    texts.iter().filter_map(|text| text.parse().ok()).collect()
}
