//! What the event log holds (§2.3): one entry per certified or refused fact, never changed afterwards.
//!
//! An entry (`entry`, `details`) is written as one line of text (`line`), which the chain binds to all before it (`chain`).
//! Every day the new rows are bound by a seal (`seal`), against which anybody can hold them later (`verification`). Nothing
//! is removed before its retention or while it is held (`hold`), and then with a word in the log itself (`purge`). What is
//! asked of the log is in `query` and `outcome`, `extract` and `stats`; what must always hold, in `audit`, and since
//! when a message is watched, in `watched`. The store behind it is `adapters/sqlite`.

pub mod audit;
mod chain;
pub mod details;
mod entry;
pub mod extract;
pub mod hold;
pub mod line;
mod outcome;
pub mod purge;
mod query;
pub mod seal;
pub mod stats;
pub mod verification;
mod watched;

pub use chain::{ChainBreak, Link, hexadecimal};
pub use entry::{Entry, EventKind, Recorded, Slot};
pub use outcome::Outcome;
pub use query::{InvalidPlace, Place, Query};
pub use watched::watched_since;
