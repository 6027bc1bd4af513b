//! What travels (§2.1, §4): how every message is read and written.
//!
//! Bytes and certification data in, bytes and certification data out; the signature is made and checked in `smime`.

pub mod address_list;
pub mod anomaly_envelope;
pub mod anomaly_reason;
pub mod body;
pub mod certification_data;
pub mod defect;
pub mod delivery_status;
pub mod encode;
pub mod header;
pub mod mime;
pub mod notification;
mod parameters;
mod pieces;
pub mod transport_envelope;
pub mod wire;

pub use pieces::Pieces;
