//! `directory show`: how current the directory is, or what it says of somebody.

use std::io::{Write, stdout};
use std::path::Path;

use super::unusable;
use crate::adapters::directory_store::CopiesOnDisk;
use crate::adapters::instruments::SystemInstruments;
use crate::cli::Failure;
use crate::cli::load;
use crate::config::{Config, DirectorySource};
use crate::directory::{Directory, ProviderRecord, sha1_of};
use crate::model::{Domain, TemporalReference};
use crate::operations::ports::{DirectoryStore, Instruments};
use crate::smime::SignerCertificate;

/// Prints how current the directory is; yes if there is one and it is not stale.
pub fn status(config: &Path) -> Result<bool, Failure> {
    let config = Config::read(config)?;
    let mut out = stdout().lock();
    match &config.directory.source {
        None => writeln!(out, "source       none: only this provider's domains are certified")?,
        Some(DirectorySource::Ldif(file)) => {
            writeln!(out, "source       {}, read at start and on SIGHUP", file.display())?
        }
        Some(DirectorySource::Remote(remote)) => writeln!(out, "source       {}", remote.url.as_str())?,
    }
    let mut is_good = true;
    match load::directory(&config) {
        Ok(directory) => {
            writeln!(out, "in force     {} providers with {} domains", directory.providers(), directory.domains())?;
            for remark in directory.remarks() {
                writeln!(out, "remark       {remark}")?;
            }
        }
        Err(reason) => {
            is_good = false;
            writeln!(out, "in force     NONE: {reason}")?;
        }
    }
    let Some(remote) = config.directory.remote() else { return Ok(is_good) };
    let copies = CopiesOnDisk::at(&config.directory.store).copies()?;
    if let Ok((edition, _)) = load::stored(&config, remote)
        && let Some(signed) = edition.signed_at
    {
        writeln!(out, "signed       {}", shown(signed))?;
    }
    for (word, copy) in [("current", &copies.current), ("previous", &copies.previous)] {
        if let Some(copy) = copy {
            writeln!(out, "{word:<12} SHA-256 {}, fetched {}", copy.sha256, shown(copy.fetched))?;
        }
    }
    if let Some(confirmed) = copies.confirmed {
        writeln!(out, "confirmed    {}", shown(confirmed))?;
    }
    if let Some((at, cause)) = &copies.failure {
        writeln!(out, "last attempt FAILED {}: {cause}", shown(*at))?;
    }
    if let Some(stale) = load::staleness(&config, &copies, SystemInstruments.now()) {
        is_good = false;
        writeln!(out, "STALE        {stale}")?;
    }
    Ok(is_good)
}

/// Prints every record that a domain, a provider's name or a certificate's hash leads to; yes if there is one.
pub fn records(config: &Path, what: &str) -> Result<bool, Failure> {
    let config = Config::read(config)?;
    let directory = load::directory(&config).map_err(unusable)?;
    let found = found(&directory, what);
    let mut out = stdout().lock();
    if found.is_empty() {
        writeln!(out, "{what} is no domain, provider or certificate of the directory")?;
        return Ok(false);
    }
    for record in found {
        print(&mut out, record)?;
    }
    Ok(true)
}

fn found<'d>(directory: &'d Directory, what: &str) -> Vec<&'d ProviderRecord> {
    let domain: Option<Domain> = what.parse().ok();
    let hash: String =
        what.chars().filter(|c| *c != ':' && !c.is_whitespace()).collect::<String>().to_ascii_lowercase();
    let is_meant = |record: &&ProviderRecord| {
        record.name.to_lowercase() == what.to_lowercase()
            || domain.as_ref().is_some_and(|domain| record.manages(domain))
            || record.certificates.iter().any(|certificate| sha1_of(certificate) == hash)
    };
    directory.records().iter().filter(is_meant).collect()
}

fn print(out: &mut impl Write, record: &ProviderRecord) -> Result<(), Failure> {
    writeln!(out, "provider     {}", record.full_name())?;
    writeln!(out, "mailReceipt  {}", record.mail_receipt)?;
    for der in &record.certificates {
        match SignerCertificate::from_der(der) {
            Ok(certificate) => {
                let [from, to] = [certificate.not_before(), certificate.not_after()].map(TemporalReference::from_unix);
                let subject = certificate.subject();
                writeln!(out, "certificate  {} {subject}, {} to {}", sha1_of(der), shown(from), shown(to))?;
            }
            Err(error) => writeln!(out, "certificate  {} UNUSABLE: {error}", sha1_of(der))?,
        }
    }
    let mut domains: Vec<&str> = record.domains.iter().map(Domain::as_str).collect();
    domains.sort_unstable();
    for domain in domains {
        writeln!(out, "domain       {domain}")?;
    }
    Ok(writeln!(out)?)
}

fn shown(at: TemporalReference) -> String {
    format!("{} {} ({})", at.day(), at.time(), at.zone())
}
