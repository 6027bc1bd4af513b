//! pec-milter: the map. (Filled in below as rooms are built.)
#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

pub mod access_point;
pub mod adapters;
pub mod cli;
pub mod config;
pub mod crash;
pub mod delivery_point;
pub mod directory;
pub mod identity;
pub mod incoming_point;
pub mod legal_log;
pub mod message;
pub mod model;
pub mod operations;
pub mod smime;
