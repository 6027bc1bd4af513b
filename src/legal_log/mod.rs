//! What the event log holds (§2.3): one entry per certified or refused fact, never changed afterwards.
//!
//! The store behind it is `adapters/sqlite`; this room says what an entry is, when two entries are the same fact, and
//! how rows are chained so that a later change shows.

pub mod audit;
mod chain;
pub mod details;
mod entry;

pub use chain::{ChainBreak, Link};
pub use entry::{Entry, EventKind, Recorded, Slot};
