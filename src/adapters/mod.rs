//! The only rooms that touch network, disk, clock or device. They serve the ports of `operations` and know the rooms
//! and the model; they do not know each other, but for `hop_server`, which puts the hop behind `lmtp`, `senders`, which
//! reads a `table_file`, and what several keep on disk, which `durable` writes; any may read the clock.

pub mod clamd;
pub mod directory_source;
pub mod directory_store;
pub(crate) mod durable;
pub mod hop_server;
pub mod instruments;
pub mod key_file;
pub mod lmtp;
pub mod milter;
pub mod originals;
mod path;
pub mod pkcs11;
pub mod prometheus;
pub mod relay;
pub mod revocation;
pub mod seal_store;
pub mod senders;
pub mod socket;
pub mod socketmap;
pub mod sqlite;
pub mod table_file;
pub mod tsa;
pub mod virus_storage;
