//! From the configuration to what the operations work with; every file that cannot be used is told with the key that
//! names it, all of them at once. `run` and `check-config` go the same way.

use std::error::Error;
use std::fmt::Display;
use std::fs;
use std::path::Path;

use crate::access_point::{Limits, ReceiptDefaults};
use crate::adapters::key_file;
use crate::config::{self, Config};
use crate::directory::{Directory, ProviderRecord};
use crate::identity::SenderMap;
use crate::incoming_point::OrdinaryMail;
use crate::model::{Address, MailboxTable, MailboxTableError, TemporalReference};
use crate::operations::causes;
use crate::operations::current::Current;
use crate::smime::{Engine, Sha1Policy, Signer, SignerCertificate, Trust, pem, profile};
use crate::transaction::EARLIEST_FINAL;

/// What was loaded, and what an administrator should know of it.
pub struct Loaded {
    pub current: Current,
    pub warnings: Vec<String>,
}

/// Everything that stands in the way of a start, one line each.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct Unusable(pub Vec<String>);

/// Loads key, trust, directory and the tables of senders, receipts and ordinary mail.
pub fn load(config: &Config, at: TemporalReference) -> Result<Loaded, Unusable> {
    let (mut problems, mut warnings) = (Vec::new(), Vec::new());
    let signer = collect(&mut problems, signer(config));
    let trust = collect(&mut problems, trust(config));
    let directory = collect(&mut problems, directory(config));
    let senders = collect(&mut problems, senders(config));
    let receipts = collect(&mut problems, receipts(config));
    let ordinary = collect(&mut problems, ordinary(config));
    if let Some(signer) = &signer {
        check_certificate(config, signer, trust.as_ref(), at, &mut problems, &mut warnings);
    }
    let (Some(signer), Some(trust), Some(directory), Some(senders), Some(receipts), Some(ordinary), true) =
        (signer, trust, directory, senders, receipts, ordinary, problems.is_empty())
    else {
        return Err(Unusable(problems));
    };
    if config.timeouts.is_for_tests() {
        let place = config.location("timeouts.final_seconds");
        warnings.push(format!(
            "{place}: final notices come before {} hours, for tests only (§3.1.6)",
            EARLIEST_FINAL / 3600
        ));
    }
    warnings.extend(directory_warnings(config, &directory, &signer));
    warnings.extend(virus_warning(config));
    let own = ProviderRecord::own(&config.provider, signer.certificate().der().to_vec());
    let current = Current {
        provider: config.provider.clone(),
        signer,
        trust,
        sha1: if config.trust.accept_sha1 { Sha1Policy::Accept } else { Sha1Policy::Refuse },
        directory: directory.with_own(own),
        senders,
        limits: Limits {
            recipients: usize::try_from(config.limits.recipients).unwrap_or(usize::MAX),
            product: config.limits.product_bytes,
        },
        receipts,
        ordinary,
        timeouts: config.timeouts,
    };
    Ok(Loaded { current, warnings })
}

/// The CAs that signers must lead to.
pub fn trust(config: &Config) -> Result<Trust, String> {
    let place = config.location("trust.ca_file");
    let text = read(&config.trust.ca_file, &place)?;
    Trust::from_pem(&text).map_err(|error| told(&place, &error))
}

/// The providers directory of the configuration, without this provider's own record.
pub fn directory(config: &Config) -> Result<Directory, String> {
    let Some(ldif) = &config.directory.ldif else { return Ok(Directory::empty()) };
    let place = config.location("directory.ldif");
    let text = read(ldif, &place)?;
    Directory::from_ldif(&text).map_err(|error| told(&format!("{place}: {}", ldif.display()), &error))
}

/// This provider's certificate, where it can be read without the private key.
pub fn own_certificate(config: &Config) -> Option<SignerCertificate> {
    let config::KeySource::Pem { certificate, .. } = &config.key.source else { return None };
    let certificates = pem::certificates(&fs::read(certificate).ok()?).ok()?;
    SignerCertificate::from_der(&certificates.first()?.to_der().ok()?).ok()
}

fn signer(config: &Config) -> Result<Signer, String> {
    let engine = match config.key.engine {
        config::Engine::AwsLcRs => Engine::AwsLc,
        config::Engine::Rsa => Engine::Rsa,
    };
    let source = match (&config.key.source, &config.key.passphrase_file) {
        (config::KeySource::Pem { private_key, certificate }, passphrase_file) => key_file::KeySource::Pem {
            private_key: private_key.clone(),
            certificate: certificate.clone(),
            passphrase_file: passphrase_file.clone(),
        },
        (config::KeySource::Pkcs12(file), Some(passphrase_file)) => {
            key_file::KeySource::Pkcs12 { file: file.clone(), passphrase_file: passphrase_file.clone() }
        }
        (config::KeySource::Pkcs12(_), None) => {
            return Err(format!("{}: needs key.passphrase_file beside it", config.location("key.pkcs12")));
        }
    };
    key_file::load(&source, engine).map_err(|error| told(&config.location(key_of(config, error.file())), &error))
}

/// The key of the configuration that names a file of the signer.
fn key_of(config: &Config, file: &Path) -> &'static str {
    match &config.key.source {
        _ if config.key.passphrase_file.as_deref() == Some(file) => "key.passphrase_file",
        config::KeySource::Pem { certificate, .. } if certificate == file => "key.certificate",
        config::KeySource::Pem { .. } => "key.private_key",
        config::KeySource::Pkcs12(_) => "key.pkcs12",
    }
}

fn senders(config: &Config) -> Result<SenderMap, String> {
    let Some(map) = &config.senders.map else { return Ok(SenderMap::default()) };
    let place = config.location("senders.map");
    let octets = read(map, &place)?;
    let text = String::from_utf8(octets).map_err(|_| format!("{place}: {} is not UTF-8 text", map.display()))?;
    SenderMap::parse(&text).map_err(|errors| {
        let lines: Vec<String> = errors.iter().map(|error| format!("{place}: {}: {error}", map.display())).collect();
        lines.join("\n")
    })
}

/// The receipts that single mailboxes ask for.
fn receipts(config: &Config) -> Result<ReceiptDefaults, String> {
    let Some(map) = &config.receipts.map else { return Ok(ReceiptDefaults::default()) };
    let table = Table { key: "receipts.map", file: map, config };
    let defaults = ReceiptDefaults::parse(&table.text()?).map_err(|errors| table.told(&errors))?;
    table.check_mailboxes(defaults.mailboxes())?;
    Ok(defaults)
}

/// What becomes of ordinary mail.
fn ordinary(config: &Config) -> Result<OrdinaryMail, String> {
    let config::Ordinary { policy, map, ask_mailboxes } = &config.ordinary;
    let mailboxes = match map {
        None => MailboxTable::default(),
        Some(map) => {
            let table = Table { key: "ordinary.map", file: map, config };
            let mailboxes = OrdinaryMail::parse_mailboxes(&table.text()?).map_err(|errors| table.told(&errors))?;
            table.check_mailboxes(mailboxes.mailboxes())?;
            mailboxes
        }
    };
    Ok(OrdinaryMail { policy: policy.clone(), mailboxes, asks_mailboxes: *ask_mailboxes })
}

/// A file with a line for each mailbox that differs, and the key that names it.
struct Table<'a> {
    key: &'static str,
    file: &'a Path,
    config: &'a Config,
}

impl Table<'_> {
    fn text(&self) -> Result<String, String> {
        let octets = read(self.file, &self.config.location(self.key))?;
        String::from_utf8(octets).map_err(|_| self.line("not UTF-8 text"))
    }

    /// A line for another provider's mailbox would never be looked at.
    fn check_mailboxes<'m>(&self, mailboxes: impl Iterator<Item = &'m Address>) -> Result<(), String> {
        let foreign = mailboxes.filter(|mailbox| !self.config.provider.manages(mailbox));
        let mut lines: Vec<String> =
            foreign.map(|mailbox| self.line(format!("{mailbox} lies in none of provider.mail_domains"))).collect();
        lines.sort();
        if lines.is_empty() { Ok(()) } else { Err(lines.join("\n")) }
    }

    fn told(&self, errors: &[MailboxTableError]) -> String {
        errors.iter().map(|error| self.line(error)).collect::<Vec<_>>().join("\n")
    }

    fn line(&self, problem: impl Display) -> String {
        format!("{}: {}: {problem}", self.config.location(self.key), self.file.display())
    }
}

/// The own certificate against the profile (§5.5), and as other providers will check it.
fn check_certificate(
    config: &Config,
    signer: &Signer,
    trust: Option<&Trust>,
    at: TemporalReference,
    problems: &mut Vec<String>,
    warnings: &mut Vec<String>,
) {
    let place = match &config.key.source {
        config::KeySource::Pem { .. } => config.location("key.certificate"),
        config::KeySource::Pkcs12(_) => config.location("key.pkcs12"),
    };
    let certificate = signer.certificate();
    for departure in profile::departures(certificate, &config.provider, at) {
        let line = format!("{place}: {departure} (§5.5)");
        if departure.is_warning() { warnings.push(line) } else { problems.push(line) }
    }
    if let Some(Err(error)) = trust.map(|trust| trust.check(certificate, signer.chain(), at)) {
        problems.push(format!("{}; add the missing CA to trust.ca_file", told(&place, &error)));
    }
}

fn directory_warnings(config: &Config, directory: &Directory, signer: &Signer) -> Vec<String> {
    let place = config.location("directory.ldif");
    let mut warnings: Vec<String> = directory.remarks().iter().map(|remark| format!("{place}: {remark}")).collect();
    if config.directory.ldif.is_none() {
        warnings.push(format!("{place}: there is no providers directory, only this provider's domains are certified"));
        return warnings;
    }
    let own = directory.provider_of_certificate(signer.certificate().der());
    match own {
        None => {
            warnings.push(format!("{place}: other providers will not trust this one: its certificate is not listed"))
        }
        Some(record) => {
            let missing = config.provider.mail_domains.iter().filter(|domain| !record.manages(domain));
            warnings.extend(
                missing.map(|domain| format!("{place}: this provider's record does not list its domain {domain}")),
            );
        }
    }
    warnings
}

/// Without a scanner the daemon runs, for a trial; a provider may not.
fn virus_warning(config: &Config) -> Option<String> {
    config.virus.clamd.is_none().then(|| {
        let place = config.location("virus.clamd");
        format!(
            "{place}: NO VIRUS SCANNER, messages pass unseen; a provider must scan (§3.1.3): set it to clamd's socket"
        )
    })
}

fn collect<T>(problems: &mut Vec<String>, result: Result<T, String>) -> Option<T> {
    result.map_err(|problem| problems.push(problem)).ok()
}

fn read(path: &Path, place: &str) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("{place}: cannot read {}: {error}", path.display()))
}

/// An error with its causes behind the place it belongs to.
pub fn told(place: &str, error: &dyn Error) -> String {
    format!("{place}: {}", causes(error))
}
