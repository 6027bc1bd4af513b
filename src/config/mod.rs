//! The configuration: one TOML file, read into types, or refused with everything that is wrong with it.
//!
//! `format` takes the file apart and gathers what is wrong, `params` says which texts are which values, `check` holds the
//! rules across keys, `effective` prints a configuration as a file again. The sections, keys and defaults are here. The
//! files that the configuration names are left to the code that loads them, which says where with [`Config::location`].

mod check;
mod effective;
mod format;
mod params;

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

pub use check::KeySource;
pub use format::{ConfigError, ConfigErrors, Problem};
pub use params::{Endpoint, Engine, LoopbackAddress, UnixSocket};

use crate::model::Provider;
use crate::transaction::{FINAL, FIRST, Timeouts};
use format::{Document, Origin};

/// What providers offer today: 100 MB; the decree asks for 30 (DM 2-11-2005 art. 12).
const MESSAGE_BYTES: u64 = 100 << 20;
/// What providers offer today; the decree asks for 50 (DM 2-11-2005 art. 12).
const RECIPIENTS: u64 = 500;
/// Below Postfix's queue directory, where a chrooted smtpd finds them.
const ACCESS_SOCKET: &str = "/var/spool/postfix/pec-milter/access";
const INCOMING_SOCKET: &str = "/var/spool/postfix/pec-milter/incoming";
const BOUNCES_SOCKET: &str = "/var/spool/postfix/pec-milter/bounces";
const LMTP_SOCKET: &str = "/var/spool/postfix/pec-milter/lmtp";
const SOCKET_GROUP: &str = "postfix";
const INJECTION: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 10025);
const DOVECOT_SOCKET: &str = "/run/dovecot/lmtp";
const DATABASE: &str = "/var/lib/pec-milter/log.sqlite";

/// The whole configuration, defaults filled in. Its `Display` is a file that reads as the same configuration.
#[derive(Debug, Clone)]
pub struct Config {
    pub provider: Provider,
    pub key: Key,
    pub trust: Trust,
    pub directory: Directory,
    pub senders: Senders,
    pub limits: Limits,
    /// When a silent transaction is told to its sender (§3.1.6).
    pub timeouts: Timeouts,
    pub listen: Listen,
    pub postfix: Postfix,
    pub dovecot: Dovecot,
    pub log: Log,
    origin: Origin,
}

/// The provider's signing key and certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    pub source: KeySource,
    /// The file whose first line opens the key.
    pub passphrase_file: Option<PathBuf>,
    pub engine: Engine,
}

/// Whose certificates are believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trust {
    /// The certification authorities, PEM.
    pub ca_file: PathBuf,
    /// Whether signatures with SHA-1 of other providers are accepted: large ones still send them.
    pub accept_sha1: bool,
}

/// The providers directory (§4.5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory {
    /// Without it only this provider's own domains are certified.
    pub ldif: Option<PathBuf>,
}

/// Who may send as whom (§5.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Senders {
    /// Without it each login sends as itself only.
    pub map: Option<PathBuf>,
}

/// How much a submission may be (§3.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// More is refused in the SMTP dialogue.
    pub message_bytes: u64,
    /// Size times recipients; more gives a non-acceptance notification.
    pub product_bytes: u64,
    /// More is refused in the SMTP dialogue.
    pub recipients: u64,
}

/// The sockets on which Postfix finds this daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    pub access: UnixSocket,
    pub incoming: UnixSocket,
    pub bounces: UnixSocket,
    pub lmtp: UnixSocket,
    /// The group that may connect.
    pub socket_group: String,
}

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

/// The event log (§2.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    pub database: PathBuf,
}

impl Config {
    /// Reads and checks a file.
    pub fn read(path: &Path) -> Result<Self, ConfigErrors> {
        let text =
            fs::read_to_string(path).map_err(|source| ConfigErrors::Unreadable { file: path.to_owned(), source })?;
        Self::parse(path, &text)
    }

    /// Whether a running daemon that started with `other` cannot take all of this over.
    pub fn needs_restart_after(&self, other: &Config) -> bool {
        let lasting = |config: &Config| {
            let Config { listen, postfix, dovecot, log, limits, .. } = config;
            (listen.clone(), postfix.inject, dovecot.lmtp.clone(), log.database.clone(), limits.message_bytes)
        };
        lasting(self) != lasting(other)
    }

    /// Where a key such as `key.private_key` was set, for messages about the file it names: `FILE:LINE: KEY`.
    pub fn location(&self, key: &str) -> String {
        self.origin.location(key)
    }

    fn parse(file: &Path, text: &str) -> Result<Self, ConfigErrors> {
        let mut document = Document::parse(file, text)?;
        let config = Self::of(&mut document);
        document.finish(config)
    }

    /// None only where the document noted why.
    fn of(document: &mut Document) -> Option<Self> {
        // All sections are read before any is found wanting, so that one run tells everything.
        let provider = provider(document);
        let key = key(document);
        let ca_file = document.required("trust.ca_file");
        let accept_sha1 = document.or("trust.accept_sha1", true);
        let directory = Directory { ldif: document.optional("directory.ldif") };
        let senders = Senders { map: document.optional("senders.map") };
        let limits = limits(document);
        let timeouts = timeouts(document);
        let listen = listen(document);
        let inject = document.or("postfix.inject", LoopbackAddress(INJECTION));
        let lmtp = document.or("dovecot.lmtp", Endpoint::Unix(UnixSocket(DOVECOT_SOCKET.into())));
        let database = document.or("log.database", PathBuf::from(DATABASE));
        Some(Config {
            provider: provider?,
            key: key?,
            trust: Trust { ca_file: ca_file?, accept_sha1 },
            directory,
            senders,
            limits,
            timeouts,
            listen,
            postfix: Postfix { inject },
            dovecot: Dovecot { lmtp },
            log: Log { database },
            origin: document.origin(),
        })
    }
}

fn provider(document: &mut Document) -> Option<Provider> {
    let name = document.required("provider.name");
    let sending_address = document.required("provider.sending_address");
    let service_mailbox = document.required("provider.service_mailbox");
    let mail_domains = document.required("provider.mail_domains");
    let provider = Provider {
        name: name?,
        sending_address: sending_address?,
        service_mailbox: service_mailbox?,
        mail_domains: mail_domains?,
    };
    document.note(check::provider(&provider));
    Some(provider)
}

fn key(document: &mut Document) -> Option<Key> {
    let private_key = document.optional("key.private_key");
    let certificate = document.optional("key.certificate");
    let pkcs12 = document.optional("key.pkcs12");
    let passphrase_file = document.optional("key.passphrase_file");
    let engine = document.or("key.engine", Engine::AwsLcRs);
    match check::key_source(private_key, certificate, pkcs12) {
        Ok(source) => Some(Key { source, passphrase_file, engine }),
        Err(error) => {
            document.note([error]);
            None
        }
    }
}

fn limits(document: &mut Document) -> Limits {
    let message_bytes = document.or("limits.message_bytes", MESSAGE_BYTES);
    let recipients = document.or("limits.recipients", RECIPIENTS);
    // By default the other two limits decide. Saturating: nothing is above the largest number.
    let product_bytes = document.or("limits.product_bytes", message_bytes.saturating_mul(recipients));
    let limits = Limits { message_bytes, product_bytes, recipients };
    document.note(check::limits(&limits));
    limits
}

fn timeouts(document: &mut Document) -> Timeouts {
    let timeouts = Timeouts {
        first_seconds: document.or("timeouts.first_seconds", FIRST),
        final_seconds: document.or("timeouts.final_seconds", FINAL),
    };
    document.note(check::timeouts(&timeouts));
    timeouts
}

fn listen(document: &mut Document) -> Listen {
    let listen = Listen {
        access: document.or("listen.access", UnixSocket(ACCESS_SOCKET.into())),
        incoming: document.or("listen.incoming", UnixSocket(INCOMING_SOCKET.into())),
        bounces: document.or("listen.bounces", UnixSocket(BOUNCES_SOCKET.into())),
        lmtp: document.or("listen.lmtp", UnixSocket(LMTP_SOCKET.into())),
        socket_group: document.or("listen.socket_group", SOCKET_GROUP.to_owned()),
    };
    document.note(check::listen(&listen));
    listen
}

#[cfg(test)]
mod tests;
