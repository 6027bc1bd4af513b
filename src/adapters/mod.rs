//! adapters

pub mod key_file;
