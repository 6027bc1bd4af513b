//! The providers directory as it lies on this machine, what it says of this provider (§4.5), and the way to a newer one.

use std::path::Path;

use super::{read, told};
use crate::adapters::directory_source::{Bind, Server, TlsFiles};
use crate::adapters::directory_store::CopiesOnDisk;
use crate::adapters::key_file;
use crate::config::{Config, DirectorySource, Remote, SignerPin};
use crate::directory::{Directory, Edition, Pin, PinError};
use crate::model::TemporalReference;
use crate::operations::ports::Copies;
use crate::operations::refresh_directory;
use crate::smime::Keyring;

const HOUR: i64 = 3600;

/// Everything that a fetch needs.
pub struct Refresher {
    pub server: Server,
    pub pin: Option<Pin>,
    pub store: CopiesOnDisk,
}

/// The directory in force without this provider's own record; an error where there should be one and is none.
pub fn directory(config: &Config) -> Result<Directory, String> {
    match &config.directory.source {
        None => Ok(Directory::empty()),
        Some(DirectorySource::Ldif(file)) => {
            let place = config.location("directory.ldif");
            let text = read(file, &place)?;
            Directory::from_ldif(&text).map_err(|error| told(&format!("{place}: {}", file.display()), &error))
        }
        Some(DirectorySource::Remote(remote)) => stored(config, remote).map(|(edition, _)| edition.directory),
    }
}

/// The fetched copy in force, verified again.
pub fn stored(config: &Config, remote: &Remote) -> Result<(Edition, Copies), String> {
    let place = config.location("directory.store");
    let loaded = refresh_directory::load(&CopiesOnDisk::at(&config.directory.store), pin(config, remote)?.as_ref());
    let folder = config.directory.store.display();
    match loaded {
        Ok(Some(loaded)) => Ok(loaded),
        Ok(None) => Err(format!(
            "{place}: no providers directory was fetched yet into {folder}; run `pec-milter directory refresh`"
        )),
        Err(error) => Err(told(&format!("{place}: the copy in {folder} is not used"), &error)),
    }
}

/// The way to a newer directory; every file it needs is read.
pub fn refresher(config: &Config, remote: &Remote) -> Result<Refresher, String> {
    let (ca_place, url_place) = (config.location("directory.ca_file"), config.location("directory.url"));
    let client = remote.client.as_ref().map(|client| {
        let certificate = read(&client.certificate, &config.location("directory.client_certificate"))?;
        let key = key_file::read_secret(&client.key)
            .map_err(|error| told(&config.location("directory.client_key"), &error))?;
        Ok::<_, String>((certificate, key))
    });
    let tls = TlsFiles { authorities: read(&remote.ca_file, &ca_place)?, client: client.transpose()? };
    let bind = remote.bind.as_ref().map(|bind| {
        let password = key_file::read_passphrase(&bind.password_file);
        let password = password.map_err(|error| told(&config.location("directory.password_file"), &error))?;
        Ok::<_, String>(Bind { dn: bind.dn.clone(), password })
    });
    let server = if remote.url.is_ldap() {
        let (server, base) = (remote.url.ldap_server(), remote.url.ldap_base());
        Server::Ldap { server, base, bind: bind.transpose()?, tls }
    } else {
        Server::Https { url: remote.url.as_str().to_owned(), tls }
    };
    server.check().map_err(|error| told(&url_place, &error))?;
    Ok(Refresher { server, pin: pin(config, remote)?, store: CopiesOnDisk::at(&config.directory.store) })
}

/// Who must have signed what comes.
pub fn pin(config: &Config, remote: &Remote) -> Result<Option<Pin>, String> {
    let load = |key, file: &Path, of: fn(&[u8]) -> Result<Pin, PinError>| {
        let place = config.location(key);
        of(&read(file, &place)?).map_err(|error| told(&format!("{place}: {}", file.display()), &error))
    };
    match &remote.signer {
        None => Ok(None),
        Some(SignerPin::Certificate(file)) => load("directory.signer_certificate", file, Pin::certificate).map(Some),
        Some(SignerPin::CaFile(file)) => load("directory.signer_ca_file", file, Pin::authority).map(Some),
    }
}

/// The directory of a daemon that starts. One that was to be fetched may not be there, or be no good any more: then the
/// daemon starts without and puts all mail off until it has one, since what it would tell of certified domains is false.
pub(super) fn at_start(
    config: &Config,
    at: TemporalReference,
    warnings: &mut Vec<String>,
) -> Result<Directory, String> {
    let Some(remote) = config.directory.remote() else { return directory(config) };
    refresher(config, remote)?;
    match stored(config, remote) {
        Ok((edition, copies)) => {
            warnings.extend(staleness(config, &copies, at));
            Ok(edition.directory)
        }
        Err(reason) => {
            warnings.push(format!("NO PROVIDERS DIRECTORY, ALL MAIL IS PUT OFF (4xx) until one is fetched: {reason}"));
            Ok(Directory::unknown())
        }
    }
}

/// Says so when the directory was not found to be current for too long.
pub fn staleness(config: &Config, copies: &Copies, at: TemporalReference) -> Option<String> {
    let confirmed = copies.confirmed?;
    let hours = (at.unix() - confirmed.unix()) / HOUR;
    let is_stale = u64::try_from(hours).is_ok_and(|hours| hours >= config.directory.stale_hours);
    let cause = copies.failure.as_ref().map_or(String::new(), |(_, cause)| format!("; the last attempt: {cause}"));
    is_stale.then(|| {
        let (place, day, time) = (config.location("directory.stale_hours"), confirmed.day(), confirmed.time());
        format!(
            "{place}: the providers directory is STALE, it was last current on {day} {time}, {hours} hours ago{cause}"
        )
    })
}

pub(super) fn warnings(config: &Config, directory: &Directory, keyring: &Keyring) -> Vec<String> {
    let place = match config.directory.remote() {
        Some(_) => config.location("directory.url"),
        None => config.location("directory.ldif"),
    };
    let mut warnings: Vec<String> = directory.remarks().iter().map(|remark| format!("{place}: {remark}")).collect();
    if config.directory.source.is_none() {
        warnings.push(format!("{place}: there is no providers directory, only this provider's domains are certified"));
    }
    if config.directory.source.is_none() || !directory.is_known() {
        return warnings;
    }
    for certificate in keyring.certificates() {
        let Some(record) = directory.provider_of_certificate(certificate.der()) else {
            let serial = certificate.serial();
            warnings.push(format!(
                "{place}: other providers will not trust what this one signs with the certificate {serial}: it is not listed"
            ));
            continue;
        };
        for domain in config.provider.mail_domains.iter().filter(|domain| !record.manages(domain)) {
            let warning = format!("{place}: this provider's record does not list its domain {domain}");
            if !warnings.contains(&warning) {
                warnings.push(warning);
            }
        }
    }
    warnings
}
