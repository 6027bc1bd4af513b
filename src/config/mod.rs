//! The configuration: one TOML file, read into types, or refused with everything that is wrong with it.
//!
//! `section` has a file per section: keys, defaults, the rules between them. `format` takes the file apart and gathers
//! what is wrong, `params` says which texts are which values, `effective` prints a configuration as a file again. The
//! files that the configuration names are left to the code that loads them, which says where with [`Config::location`].

mod effective;
mod format;
mod params;
mod section;

use std::fs;
use std::path::Path;

pub use format::{ConfigError, ConfigErrors, Problem};
pub use params::{DirectoryUrl, Endpoint, Engine, LocalEndpoint, LoopbackAddress, TsaUrl, UnixSocket};
pub use section::{
    Directory, DirectorySource, Dovecot, Key, KeyMaterial, KeySource, Limits, Listen, Log, LoginMap, Metrics, NextKey,
    Ordinary, Originals, Postfix, Receipts, Remote, Senders, SignerPin, Tls, TokenKey, Trust, Tsa, Virus,
};

use crate::model::Provider;
use crate::transaction::Timeouts;
use format::{Document, Origin};
use section::Section;

/// The whole configuration, defaults filled in. Its `Display` is a file that reads as the same configuration.
#[derive(Debug, Clone)]
pub struct Config {
    pub provider: Provider,
    pub key: Key,
    /// The key that follows, if one is appointed.
    pub next_key: Option<NextKey>,
    pub trust: Trust,
    pub directory: Directory,
    pub senders: Senders,
    pub tls: Tls,
    pub limits: Limits,
    pub receipts: Receipts,
    pub ordinary: Ordinary,
    /// When a silent transaction is told to its sender (§3.1.6).
    pub timeouts: Timeouts,
    pub listen: Listen,
    pub postfix: Postfix,
    pub dovecot: Dovecot,
    pub log: Log,
    pub virus: Virus,
    pub metrics: Metrics,
    origin: Origin,
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
            let Config { listen, postfix, dovecot, log, limits, virus, metrics, trust, .. } = config;
            let servers = (listen.clone(), postfix.inject, dovecot.lmtp.clone(), metrics.listen);
            let lists = (trust.crl_store.clone(), trust.crl_files.clone(), trust.crl_fetch, trust.crl_update_seconds);
            (servers, log.clone(), limits.message_bytes, virus.clone(), lists)
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
        let provider = Provider::read(document);
        let key = Key::read(document);
        let next_key = Option::<NextKey>::read(document);
        let trust = Trust::read(document);
        let directory = Directory::read(document);
        let senders = Senders::read(document);
        let tls = Tls::read(document);
        let limits = Limits::read(document);
        let receipts = Receipts::read(document);
        let ordinary = Ordinary::read(document);
        let timeouts = Timeouts::read(document);
        let listen = Listen::read(document);
        let postfix = Postfix::read(document);
        let dovecot = Dovecot::read(document);
        let log = Log::read(document);
        let virus = Virus::read(document);
        let metrics = Metrics::read(document);
        Some(Config {
            provider: provider?,
            key: key?,
            next_key: next_key?,
            trust: trust?,
            directory: directory?,
            senders: senders?,
            tls: tls?,
            limits: limits?,
            receipts: receipts?,
            ordinary: ordinary?,
            timeouts: timeouts?,
            listen: listen?,
            postfix: postfix?,
            dovecot: dovecot?,
            log: log?,
            virus: virus?,
            metrics: metrics?,
            origin: document.origin(),
        })
    }
}

#[cfg(test)]
mod tests;
