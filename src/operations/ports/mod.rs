//! Everything the outside supplies to the operations: here mail on its way with time and chance; the event log and the
//! directory have files of their own.

mod directory;
mod log;

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;

use crate::message::Pieces;
use crate::model::{Address, PecMsgid, TemporalReference, User};
use crate::virus::{Place, Verdict, VirusName};

pub use directory::{Copies, DepotFault, DirectoryCopy, DirectorySource, DirectoryStore, Fetched, ListDepot};
pub use log::{
    DayStore, EventLog, EvidenceError, LogError, LogEvidence, Purging, RestoredLog, SealEvidence, SealFiles, SealJudge,
    SealStore, SealedLog, StampServer, Watch, Watched,
};

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

    /// Asks whether it would take a message now, and hands over nothing; replies as with [`Mailboxes::deliver`].
    fn would_take(&self, mail: &Mail) -> impl Future<Output = Vec<Reply>> + Send;
}

/// The hop and the incoming milter share the connections to one server.
impl<M: Mailboxes> Mailboxes for Arc<M> {
    fn deliver(&self, mail: &Mail) -> impl Future<Output = Vec<Reply>> + Send {
        M::deliver(self, mail)
    }

    fn would_take(&self, mail: &Mail) -> impl Future<Output = Vec<Reply>> + Send {
        M::would_take(self, mail)
    }
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

/// Who may send as whom (§5.2), as it stands in this moment. Files are read: to be asked on a blocking thread.
pub trait Senders: Send + Sync + 'static {
    fn may_send_as(&self, user: &User, address: &Address) -> Result<bool, SendersFault>;
}

/// Nobody knows whether the user may: answer 4xx.
#[derive(Debug, thiserror::Error)]
#[error("it cannot be told who may send as whom; whoever needs the map cannot send until it is mended")]
pub struct SendersFault(#[source] pub Box<dyn Error + Send + Sync>);

impl SendersFault {
    pub fn of(fault: impl Error + Send + Sync + 'static) -> Self {
        SendersFault(Box::new(fault))
    }
}

/// A table that the administrator may change at any moment. Files are read: to be asked on a blocking thread.
pub trait Table<T>: Send + Sync + 'static {
    fn now(&self) -> Arc<T>;
}

/// One that never changes.
impl<T: Send + Sync + 'static> Table<T> for Arc<T> {
    fn now(&self) -> Arc<T> {
        self.clone()
    }
}

/// What a port answers that is held as a `dyn` value.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The virus scanner (clamd).
pub trait Scanner: Send + Sync + 'static {
    /// Looks at a whole message. After an error nothing is known of it.
    fn scan<'a>(&'a self, message: &'a Pieces) -> Pending<'a, Result<Verdict, ScanFault>>;
}

/// There is no verdict: answer 4xx.
#[derive(Debug, thiserror::Error)]
#[error("not scanned for viruses")]
pub struct ScanFault(#[source] pub Box<dyn Error + Send + Sync>);

/// The store of infected messages (§2.2.4).
pub trait VirusStore: Send + Sync + 'static {
    /// Makes a message durable, with what is known of it; kept again it is the same one. Returns its name in the store.
    fn keep<'a>(&'a self, message: &'a Pieces, about: &'a Infected) -> Pending<'a, Result<String, StoreFault>>;
}

/// An infected message was not stored: answer 4xx, tell nobody.
#[derive(Debug, thiserror::Error)]
#[error("the infected message could not be stored")]
pub struct StoreFault(#[source] pub Box<dyn Error + Send + Sync>);

/// What the store keeps beside an infected message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Infected {
    /// The same in every attempt at the same message.
    pub at: TemporalReference,
    pub place: Place,
    pub id: PecMsgid,
    pub queue_id: String,
    pub sender: String,
    pub recipients: Vec<String>,
    pub virus: VirusName,
}

/// The store of originals, out of which complete and brief receipts are made again (§2.3).
pub trait OriginalStore: Send + Sync + 'static {
    /// Makes the original of a transaction durable with those of the day of its arrival; kept again it is the same one.
    fn keep<'a>(
        &'a self,
        original: &'a Bytes,
        id: &'a PecMsgid,
        arrived: TemporalReference,
    ) -> Pending<'a, Result<(), OriginalFault>>;

    /// The original of a transaction that arrived at this instant; none where none was kept.
    fn original<'a>(
        &'a self,
        id: &'a PecMsgid,
        arrived: TemporalReference,
    ) -> Pending<'a, Result<Option<Bytes>, OriginalFault>>;
}

/// The store of originals did not do its work: the hop answers 4xx.
#[derive(Debug, thiserror::Error)]
#[error("the store of originals (log.originals) did not do its work")]
pub struct OriginalFault(#[source] pub Box<dyn Error + Send + Sync>);

impl OriginalFault {
    pub fn of(fault: impl Error + Send + Sync + 'static) -> Self {
        OriginalFault(Box::new(fault))
    }
}

/// Why the outside did not do what was asked of it.
pub type OutsideFault = Box<dyn Error + Send + Sync>;
