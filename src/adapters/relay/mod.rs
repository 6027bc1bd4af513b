//! The client side: messages handed to the mailbox server by LMTP and back into Postfix by SMTP.
//!
//! `dialogue` speaks to one connection, `pool` keeps connections open, `envelope` writes the commands of a transaction
//! and `dots` the framing of its message; [`DovecotLmtp`] and [`PostfixInjection`] are the ports' two servers. Both
//! servers belong to the provider and stand on the same host or network: there is no TLS and no login. A fault becomes
//! a 4xx reply that says what happened, and a line in the technical log.

mod dialogue;
mod dots;
mod envelope;
mod injection;
mod mailboxes;
mod pool;
#[cfg(test)]
mod scripted;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

pub use injection::PostfixInjection;
pub use mailboxes::DovecotLmtp;

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    Unix(PathBuf),
    Tcp(SocketAddr),
}

/// As Postfix writes it.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Unix(path) => write!(f, "unix:{}", path.display()),
            Endpoint::Tcp(address) => write!(f, "inet:{address}"),
        }
    }
}
