//! The servers that give the providers directory out (§5.6): a signed file over HTTPS, or entries over LDAP with TLS.
//!
//! Both are asked with the provider's certificate where one is configured, and must themselves be certified by the
//! configured CA, for the name in the URL, at least with TLS 1.2. What comes is bounded in size and time; what it is
//! worth is decided elsewhere. These calls block.

mod https;
mod ldap;
mod tls;

use std::time::Duration;

use url::Url;
use zeroize::Zeroizing;

use crate::operations::ports::{DirectorySource, Fetched, OutsideFault};

pub use tls::{TlsError, TlsFiles};

/// Some thirty times the national directory.
const LARGEST: usize = 64 * 1024 * 1024;
/// For a connection, and for all of it: a server that trickles holds nobody up for long.
const CONNECT: Duration = Duration::from_secs(20);
const ALL: Duration = Duration::from_secs(300);

/// A server with everything needed to ask it.
pub enum Server {
    Https { url: String, tls: TlsFiles },
    Ldap { server: Url, base: String, bind: Option<Bind>, tls: TlsFiles },
}

/// A name and password for LDAP.
pub struct Bind {
    pub dn: String,
    pub password: Zeroizing<String>,
}

impl Server {
    /// Whether CA, certificate and key can be used, without asking the server.
    pub fn check(&self) -> Result<(), TlsError> {
        let (Server::Https { tls, .. } | Server::Ldap { tls, .. }) = self;
        tls.client_config().map(drop)
    }
}

impl DirectorySource for Server {
    fn fetch(&self) -> Result<Fetched, OutsideFault> {
        match self {
            Server::Https { url, tls } => https::fetch(url, tls),
            Server::Ldap { server, base, bind, tls } => ldap::fetch(server, base, bind.as_ref(), tls),
        }
    }
}
