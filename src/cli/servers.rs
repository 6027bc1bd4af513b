//! The servers that notifications go to, as the configuration names them.

use crate::adapters::relay::{self, DovecotLmtp, PostfixInjection};
use crate::config::{Config, Endpoint};

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

/// What this host calls itself there.
pub fn hostname(config: &Config) -> String {
    config.provider.sending_address.domain().to_string()
}
