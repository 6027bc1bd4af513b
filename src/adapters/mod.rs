//! The only rooms that touch network, disk, clock or device. They serve the ports of `operations` and know the rooms
//! and the model; they do not know each other, but for `hop_server`, which puts
//! the hop behind `lmtp`.

pub mod clamd;
pub mod hop_server;
pub mod instruments;
pub mod key_file;
pub mod lmtp;
pub mod milter;
mod path;
pub mod relay;
pub mod socket;
pub mod sqlite;
pub mod virus_storage;
