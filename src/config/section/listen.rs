//! `[listen]`: the sockets on which Postfix finds this daemon.

use std::fmt;

use super::{Found, Section};
use crate::config::Problem;
use crate::config::effective::Printer;
use crate::config::format::Document;
use crate::config::params::UnixSocket;

/// Below Postfix's queue directory, where a chrooted smtpd finds them.
const ACCESS_SOCKET: &str = "/var/spool/postfix/pec-milter/access";
const INCOMING_SOCKET: &str = "/var/spool/postfix/pec-milter/incoming";
const BOUNCES_SOCKET: &str = "/var/spool/postfix/pec-milter/bounces";
const LMTP_SOCKET: &str = "/var/spool/postfix/pec-milter/lmtp";
const TLS_POLICY_SOCKET: &str = "/var/spool/postfix/pec-milter/tls-policy";
const SOCKET_GROUP: &str = "postfix";

/// The sockets on which Postfix finds this daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    pub access: UnixSocket,
    pub incoming: UnixSocket,
    pub bounces: UnixSocket,
    pub lmtp: UnixSocket,
    /// A socketmap(5) of how the directory's domains are reached.
    pub tls_policy: UnixSocket,
    /// The group that may connect.
    pub socket_group: String,
}

impl Section for Listen {
    fn read(document: &mut Document) -> Option<Self> {
        let listen = Listen {
            access: document.or("listen.access", UnixSocket(ACCESS_SOCKET.into())),
            incoming: document.or("listen.incoming", UnixSocket(INCOMING_SOCKET.into())),
            bounces: document.or("listen.bounces", UnixSocket(BOUNCES_SOCKET.into())),
            lmtp: document.or("listen.lmtp", UnixSocket(LMTP_SOCKET.into())),
            tls_policy: document.or("listen.tls_policy", UnixSocket(TLS_POLICY_SOCKET.into())),
            socket_group: document.or("listen.socket_group", SOCKET_GROUP.to_owned()),
        };
        document.note(rules(&listen));
        Some(listen)
    }

    fn print(&self, print: &mut Printer) -> fmt::Result {
        print.value("listen.access", &self.access)?;
        print.value("listen.incoming", &self.incoming)?;
        print.value("listen.bounces", &self.bounces)?;
        print.value("listen.lmtp", &self.lmtp)?;
        print.value("listen.tls_policy", &self.tls_policy)?;
        print.value("listen.socket_group", &self.socket_group)
    }
}

fn rules(listen: &Listen) -> Vec<Found> {
    let sockets = [
        ("listen.access", &listen.access),
        ("listen.incoming", &listen.incoming),
        ("listen.bounces", &listen.bounces),
        ("listen.lmtp", &listen.lmtp),
        ("listen.tls_policy", &listen.tls_policy),
    ];
    let mut found = Vec::new();
    for (place, (key, socket)) in sockets.iter().enumerate() {
        let earlier = sockets.iter().take(place).filter(|(_, other)| other == socket);
        found.extend(earlier.map(|(other, _)| (*key, Problem::SameSocket(other))));
    }
    found
}
