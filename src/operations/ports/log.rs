//! The event log with its seals, and what is kept beside it (§2.3).

use std::error::Error;
use std::future::Future;
use std::io::BufRead;
use std::ops::Range;
use std::sync::Arc;

use jiff::civil::Date;

use super::OutsideFault;
use crate::legal_log::hold::Hold;
use crate::legal_log::purge::Purged;
use crate::legal_log::seal::{Found, Part, Seal};
use crate::legal_log::verification::FoundRow;
use crate::legal_log::{ChainBreak, Entry, Link, Recorded, Slot};
use crate::model::{Address, PecMsgid, TemporalReference};
use crate::operations::signed_seals::SignedSeals;
use crate::transaction::Progress;

/// The event log (§2.3). A fact is told to anybody only after `record` returned it.
pub trait EventLog: Send + Sync + 'static {
    /// Makes entries durable, all or none, and returns what stands in the log for each: the entry itself, or, where its
    /// slot was already taken (also by an earlier entry of the same batch), the entry that took it. In place of a failure
    /// of our own making stands what another provider told of the recipient before (`transaction::forestalls`).
    fn record(&self, batch: Vec<Entry>) -> impl Future<Output = Result<Vec<Recorded>, LogError>> + Send;

    /// All entries of one queue file, in order of recording.
    fn of_queue_file(&self, queue_id: &str) -> impl Future<Output = Result<Vec<Recorded>, LogError>> + Send;

    /// All entries of one certified transaction, in order of recording.
    fn of_transaction(&self, id: &PecMsgid) -> impl Future<Output = Result<Vec<Recorded>, LogError>> + Send;

    /// The same, to be certified anew: an error where one of them is not as it was written, or not as it was sealed.
    fn written(
        &self,
        id: &PecMsgid,
        seals: Arc<SignedSeals>,
    ) -> impl Future<Output = Result<Vec<Recorded>, LogError>> + Send;
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
    /// Since when it is watched: the acceptance, unless that was recorded long after its instant (`legal_log::watched_since`).
    pub accepted: TemporalReference,
    pub progress: Progress,
}

/// The event log as it is sealed.
pub trait SealedLog: EventLog {
    /// Some of the rows after a place, in order of recording; none where there are no more. No snapshot is held between
    /// two calls.
    fn rows_after(&self, sequence: i64) -> impl Future<Output = Result<Vec<(Link, Entry)>, LogError>> + Send;

    /// The place of a row in the chain, as it is stored; none where the row is not there.
    fn link(&self, sequence: i64) -> impl Future<Output = Result<Option<Link>, LogError>> + Send;

    /// The place of the last row.
    fn last(&self) -> impl Future<Output = Result<Link, LogError>> + Send;

    /// All seals and stamps, in order of recording.
    fn seals(&self) -> impl Future<Output = Result<Vec<Recorded>, LogError>> + Send;
}

/// The folder of the seals. Every call blocks its thread.
pub trait SealStore: Clone + Send + Sync + 'static {
    /// Exported rows that have no name yet; dropped without one they are gone.
    type Rows: Send + 'static;
    /// While it is held nobody else changes the folder.
    type Lock: Send + 'static;

    fn lock(&self) -> Result<Self::Lock, OutsideFault>;

    /// Everything of the form of a seal's file, by number.
    fn list(&self) -> Result<Vec<Found>, OutsideFault>;

    /// The octets of a file other than the rows.
    fn read(&self, name: &str, part: Part) -> Result<Option<Vec<u8>>, OutsideFault>;

    fn rows(&self, name: &str) -> Result<Option<Box<dyn BufRead>>, OutsideFault>;

    fn new_rows(&self) -> Result<Self::Rows, OutsideFault>;

    fn append(&self, rows: &mut Self::Rows, octets: &[u8]) -> Result<(), OutsideFault>;

    /// Makes the rows durable under a name.
    fn finish(&self, rows: Self::Rows, name: &str) -> Result<(), OutsideFault>;

    /// Makes a file other than the rows durable, in place of the one before.
    fn write(&self, name: &str, part: Part, octets: &[u8]) -> Result<(), OutsideFault>;

    fn remove(&self, name: &str, part: Part) -> Result<(), OutsideFault>;
}

/// A time stamping authority (RFC 3161). It blocks: never called on an async thread.
pub trait StampServer: Send + Sync + 'static {
    /// What it answers to a request; nobody has looked at it yet.
    fn ask(&self, request: &[u8]) -> Result<Vec<u8>, OutsideFault>;
}

/// What of the event log is gone or may go (§2.3).
pub trait Purging: Send + Sync + 'static {
    /// The ranges of rows that are gone.
    fn purged(&self) -> impl Future<Output = Result<Vec<Purged>, LogError>> + Send;

    /// The last hold that was ever recorded, whether it stands or not.
    fn last_hold(&self) -> impl Future<Output = Result<Option<i64>, LogError>> + Send;

    /// The holds that stand.
    fn holds(&self) -> impl Future<Output = Result<Vec<Hold>, LogError>> + Send;

    /// The digest under which the log knows the seal of this number; none where it knows none.
    fn sealed_as(&self, number: u64) -> impl Future<Output = Result<Option<[u8; 32]>, LogError>> + Send;

    /// Walks through the rows of a seal; whether one of them is of interest, or how they are not those that were sealed.
    fn any_sealed(
        &self,
        seal: Seal,
        is_of_interest: impl Fn(&Recorded) -> bool + Send + 'static,
    ) -> impl Future<Output = Result<Result<bool, ChainBreak>, LogError>> + Send;

    /// Whether there is any row of a period.
    fn has_any(&self, period: Range<TemporalReference>) -> impl Future<Output = Result<bool, LogError>> + Send;

    /// The SHA-256 under which the log knows the stamp of this seal; none where it knows none.
    fn stamped_as(&self, number: u64) -> impl Future<Output = Result<Option<[u8; 32]>, LogError>> + Send;

    /// When an authority last stamped a seal, by its own clock.
    fn last_stamp(&self) -> impl Future<Output = Result<Option<TemporalReference>, LogError>> + Send;

    /// The newest instant of any row that is not after this one.
    fn newest_until(
        &self,
        until: TemporalReference,
    ) -> impl Future<Output = Result<Option<TemporalReference>, LogError>> + Send;

    /// Records that the rows of a seal go, and removes them: both or neither. Neither where a hold was recorded after the
    /// last one that was considered.
    fn purge(
        &self,
        seal: Seal,
        at: TemporalReference,
        last_hold: Option<i64>,
    ) -> impl Future<Output = Result<(), LogError>> + Send;
}

/// Whether the signature and the stamp of a seal are what they must be. It blocks: never called on an async thread.
pub trait SealJudge: Send + Sync + 'static {
    /// What is wrong with them.
    fn violations(&self, name: &str) -> Result<Vec<String>, OutsideFault>;
}

/// What is kept beside the log, a folder for each day: infected messages (§2.2.4), originals. It blocks: never called on an
/// async thread.
pub trait DayStore: Send + Sync + 'static {
    /// What lies in it, for whoever reads the log.
    fn holds_what(&self) -> &'static str;

    fn days(&self) -> Result<Vec<Date>, OutsideFault>;

    /// Removes a day with all that was kept of it.
    fn remove(&self, day: Date) -> Result<(), OutsideFault>;
}

/// The log as evidence: row by row, whatever became of it (§2.3). Every call blocks its thread.
pub trait LogEvidence {
    /// What lies at the numbers after one up to another, in their order; the rows before a fault come first.
    fn rows(&self, after: i64, until: i64) -> impl Iterator<Item = Result<FoundRow, EvidenceError>>;

    /// The last row, and the last there was as the tail beside the rows keeps it, of one moment.
    fn last_and_tail(&self) -> Result<(Link, Link), EvidenceError>;

    /// What the last purge says is gone.
    fn gaps(&self) -> Result<Vec<Purged>, EvidenceError>;

    /// The row of a fact of which there can be only one.
    fn of_slot(&self, slot: &Slot) -> Result<Option<Recorded>, EvidenceError>;

    /// What is wrong with the file besides its rows: pages, indexes, tables and triggers.
    fn defects(&self) -> Result<Vec<String>, EvidenceError>;
}

/// A copy of the log that was put back, to which come back rows that were sealed later. Every call blocks its thread.
pub trait RestoredLog {
    /// The place of the last row.
    fn last(&self) -> Result<Link, OutsideFault>;

    /// The place of a row in the chain; none where the row is not there.
    fn link(&self, sequence: i64) -> Result<Option<Link>, OutsideFault>;

    /// Begins a transaction, which nobody else's rows come between. What is not committed when this is dropped is undone.
    fn begin(&mut self) -> Result<(), OutsideFault>;

    /// Adds rows under the links that they had. Fails where they do not follow the last row.
    fn append(&mut self, rows: &[(Link, Entry)]) -> Result<(), OutsideFault>;

    /// Makes durable what was added since the beginning.
    fn commit(&mut self) -> Result<(), OutsideFault>;
}

/// The files of the seals, as they lie in their folder. Every call blocks its thread.
pub trait SealEvidence {
    /// The number and name of every seal of which there is a file, in their order.
    fn names(&self) -> Result<Vec<(u64, String)>, EvidenceError>;

    /// The octets of the files beside the rows; none for one that is not there.
    fn files(&self, name: &str) -> Result<SealFiles, EvidenceError>;

    /// The exported rows; none where they are not there.
    fn rows(&self, name: &str) -> Result<Option<impl BufRead + '_>, EvidenceError>;
}

/// What lies beside the rows of one seal.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SealFiles {
    pub seal: Option<Vec<u8>>,
    pub signature: Option<Vec<u8>>,
    pub stamp: Option<Vec<u8>>,
}

/// Why evidence could not be read.
#[derive(Debug, thiserror::Error)]
#[error("{source}")]
pub struct EvidenceError {
    /// Whether the evidence itself is damaged, rather than out of reach.
    pub is_damage: bool,
    #[source]
    pub source: Box<dyn Error + Send + Sync>,
}
