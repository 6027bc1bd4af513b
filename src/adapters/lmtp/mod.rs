//! The hop: the LMTP server (RFC 2033) to which Postfix's lmtp(8) hands every message of the mail domains.
//!
//! `session` is the protocol without a socket, `command` reads one line, `body` takes the message out of its framing,
//! `server` owns sockets, tasks and timeouts. What a transaction means is the [`Handler`]'s business alone.

mod body;
mod command;
mod server;
mod session;

pub use server::{Handler, Settings, serve};
pub use session::{Session, Step, Transaction};
