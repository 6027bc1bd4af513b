//! `[postfix]` and `[dovecot]`: the servers of this machine that get messages from here.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::Section;
use crate::config::effective::Printer;
use crate::config::format::Document;
use crate::config::params::{Endpoint, LoopbackAddress, UnixSocket};

const INJECTION: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 10025);
const DOVECOT_SOCKET: &str = "/run/dovecot/lmtp";

/// The way back into Postfix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Postfix {
    /// An smtpd without milters: whoever reaches it can send what is never certified, so loopback only.
    pub inject: LoopbackAddress,
}

/// The mailbox server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dovecot {
    pub lmtp: Endpoint,
}

impl Section for Postfix {
    fn read(document: &mut Document) -> Option<Self> {
        Some(Postfix { inject: document.or("postfix.inject", LoopbackAddress(INJECTION)) })
    }

    fn print(&self, print: &mut Printer) -> fmt::Result {
        print.value("postfix.inject", &self.inject)
    }
}

impl Section for Dovecot {
    fn read(document: &mut Document) -> Option<Self> {
        Some(Dovecot { lmtp: document.or("dovecot.lmtp", Endpoint::Unix(UnixSocket(DOVECOT_SOCKET.into()))) })
    }

    fn print(&self, print: &mut Printer) -> fmt::Result {
        print.value("dovecot.lmtp", &self.lmtp)
    }
}
