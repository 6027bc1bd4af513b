//! adapters

pub mod sqlite;
