//! `log`: the event log read, searched, counted, given out, sealed, verified and restored; one file per command.

pub mod audit;
pub mod backup;
pub mod extract;
pub mod hold;
pub mod period;
pub mod purge;
pub mod rebuild;
pub mod restore;
pub mod seal;
pub mod search;
pub mod show;
pub mod stats;
pub mod verify;
