//! Words shared by all rooms; a value that exists is valid.
//!
//! Nothing here reads a clock, a socket or a file.

pub(crate) mod address;
mod mailbox_table;
mod msgid;
mod ordinary_policy;
mod provider;
mod receipt_type;
mod recipient;
mod retention;
mod temporal_reference;
mod user;

pub use address::{Address, Domain, InvalidAddress};
pub use mailbox_table::{MailboxTable, MailboxTableError};
pub use msgid::{InvalidMsgid, Msgid, PecMsgid};
pub use ordinary_policy::OrdinaryPolicy;
pub use provider::Provider;
pub use receipt_type::ReceiptType;
pub use recipient::{Recipient, RecipientType};
pub use retention::Retention;
pub use temporal_reference::TemporalReference;
pub use user::User;
