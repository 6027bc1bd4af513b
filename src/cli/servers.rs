//! The servers that notifications go to, as the configuration names them.

use std::time::Duration;

use crate::adapters::clamd::Clamd;
use crate::adapters::relay::{self, DovecotLmtp, PostfixInjection};
use crate::config::{Config, Endpoint, LocalEndpoint};

/// The mailbox server.
pub fn mailboxes(config: &Config) -> DovecotLmtp {
    let endpoint = match &config.dovecot.lmtp {
        Endpoint::Unix(socket) => relay::Endpoint::Unix(socket.path().to_owned()),
        Endpoint::Tcp(address) => relay::Endpoint::Tcp(*address),
    };
    DovecotLmtp::new(endpoint, &hostname(config))
}

/// Postfix's service for what is finished.
pub fn injection(config: &Config) -> PostfixInjection {
    PostfixInjection::new(relay::Endpoint::Tcp(config.postfix.inject.socket_addr()), &hostname(config))
}

/// The virus scanner, if there is one; `patience` is for one message.
pub fn clamd(config: &Config, patience: Duration) -> Option<Clamd> {
    let endpoint = match config.virus.clamd.as_ref()? {
        LocalEndpoint::Unix(socket) => relay::Endpoint::Unix(socket.path().to_owned()),
        LocalEndpoint::Tcp(address) => relay::Endpoint::Tcp(address.socket_addr()),
    };
    Some(Clamd::new(endpoint, patience))
}

/// What this host calls itself there.
pub fn hostname(config: &Config) -> String {
    config.provider.sending_address.domain().to_string()
}
