//! What the event log holds (§2.3): one entry per certified or refused fact, never changed afterwards.
//!
//! The store behind it is `adapters/sqlite`; this room says what an entry is and when two entries are the same fact.

mod entry;

pub use entry::{Entry, EventKind, Recorded, Slot};
