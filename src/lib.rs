//! pec-milter: the map. (Filled in below as rooms are built.)
#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

pub mod adapters;
pub mod config;
pub mod directory;
pub mod identity;
pub mod legal_log;
pub mod message;
pub mod model;
pub mod operations;
pub mod smime;
