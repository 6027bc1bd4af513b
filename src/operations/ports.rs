//! Everything the outside supplies to the operations, on one page.

use std::error::Error;
use std::fmt;
use std::future::Future;

use crate::legal_log::{Entry, Recorded};
use bytes::Bytes;

use crate::message::Pieces;
use crate::model::{Address, PecMsgid, TemporalReference};
use crate::transaction::Progress;

/// The event log (§2.3). A fact is told to anybody only after `record` returned it.
pub trait EventLog: Send + Sync + 'static {
    /// Makes entries durable, all or none, and returns what stands in the log for each: the entry itself, or, where its
    /// slot was already taken (also by an earlier entry of the same batch), the entry that took it.
    fn record(&self, batch: Vec<Entry>) -> impl Future<Output = Result<Vec<Recorded>, LogError>> + Send;

    /// All entries of one queue file, in order of recording.
    fn of_queue_file(&self, queue_id: &str) -> impl Future<Output = Result<Vec<Recorded>, LogError>> + Send;

    /// All entries of one certified transaction, in order of recording.
    fn of_transaction(&self, id: &PecMsgid) -> impl Future<Output = Result<Vec<Recorded>, LogError>> + Send;
}

/// The event log did not do its work: answer 4xx, certify nothing.
#[derive(Debug, thiserror::Error)]
#[error("the event log could not {call}")]
pub struct LogError {
    /// What was asked of it.
    pub call: &'static str,
    #[source]
    pub source: Box<dyn Error + Send + Sync>,
}

/// The watch over accepted transactions (§3.1.6), kept in step with the event log in its own commits.
pub trait Watch: Send + Sync + 'static {
    /// Some of the recipients of this progress whose transactions were accepted at or before an instant, in order of
    /// acceptance: the first ones, or those that come after another.
    fn open(
        &self,
        progress: Progress,
        until: TemporalReference,
        after: Option<Watched>,
    ) -> impl Future<Output = Result<Vec<Watched>, LogError>> + Send;

    /// The earliest acceptance among the recipients of this progress.
    fn earliest(&self, progress: Progress) -> impl Future<Output = Result<Option<TemporalReference>, LogError>> + Send;

    /// Makes those notices durable that are still owed in the instant of the commit, and returns them.
    fn record_owed(&self, notices: Vec<Entry>) -> impl Future<Output = Result<Vec<Recorded>, LogError>> + Send;

    /// Some of the notices that are recorded and not marked as sent, in order of recording, after a place in the log.
    fn unsent(&self, after: i64) -> impl Future<Output = Result<Vec<Recorded>, LogError>> + Send;

    /// Remembers that the notice at this place in the log was sent.
    fn mark_sent(&self, sequence: i64) -> impl Future<Output = Result<(), LogError>> + Send;

    /// Returns when a transaction was accepted since the last call returned.
    fn accepted(&self) -> impl Future<Output = ()> + Send;
}

/// A recipient that may be owed a notice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watched {
    pub id: PecMsgid,
    /// In lower case.
    pub recipient: Address,
    pub accepted: TemporalReference,
    pub progress: Progress,
}

/// A message on its way to another server.
#[derive(Debug, Clone)]
pub struct Mail {
    /// The reverse path without angle brackets; empty for the empty one.
    pub sender: String,
    pub recipients: Vec<MailRecipient>,
    /// Whether the message holds octets above 127 (`BODY=8BITMIME`).
    pub eight_bit: bool,
    pub message: Pieces,
}

/// A forward path of a [`Mail`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailRecipient {
    /// Without angle brackets.
    pub address: String,
    /// The `ORCPT` value as it came (RFC 3461 §4.2), xtext undecoded, for example `rfc822;bruno@beta.example`.
    pub orcpt: Option<String>,
}

/// A server's answer about one recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// 200 to 599.
    pub code: u16,
    /// What follows the code; line breaks of a multi-line reply are kept as `\n`.
    pub text: String,
}

impl Reply {
    pub fn new(code: u16, text: impl Into<String>) -> Self {
        Reply { code, text: text.into() }
    }

    pub fn is_positive(&self) -> bool {
        (200..300).contains(&self.code)
    }

    pub fn is_permanent_failure(&self) -> bool {
        (500..600).contains(&self.code)
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.code, self.text)
    }
}

/// The mailbox server (Dovecot's LMTP).
pub trait Mailboxes: Send + Sync + 'static {
    /// Offers one message; returns one reply per recipient, in their order.
    ///
    /// A fault before the server answered for a recipient (no connection, connection lost) is a 4xx reply for it.
    fn deliver(&self, mail: &Mail) -> impl Future<Output = Vec<Reply>> + Send;
}

/// The way back into Postfix, past the milters.
pub trait Injection: Send + Sync + 'static {
    /// Hands one message over; returns Postfix's one answer to the whole message. A fault is a 4xx reply.
    fn inject(&self, mail: &Mail) -> impl Future<Output = Reply> + Send;
}

/// A message that lies in Postfix's queue, as the hop gets it: all its local recipients and triggers at once.
#[derive(Debug, Clone)]
pub struct QueueFile {
    /// Postfix's name for it, never used again (`enable_long_queue_ids`).
    pub queue_id: String,
    /// The reverse path without angle brackets; empty for the empty one.
    pub sender: String,
    pub recipients: Vec<MailRecipient>,
    pub eight_bit: bool,
    pub message: Bytes,
}

/// Time and chance.
pub trait Instruments: Send + Sync + 'static {
    /// The instant of an operation that begins now (§4.1).
    fn now(&self) -> TemporalReference;

    /// 128 bits that nobody can foretell.
    fn chance(&self) -> u128;
}
