//! `[directory]`: the providers directory, from a local file, over HTTPS or over LDAP (§4.5, §5.6).

use std::fmt;
use std::path::PathBuf;

use super::{Found, Section, pair};
use crate::config::Problem;
use crate::config::effective::Printer;
use crate::config::format::Document;
use crate::config::params::DirectoryUrl;

const STORE: &str = "/var/lib/pec-milter/directory";
/// Providers come and go a few a year; a twentieth of them at once is somebody's mistake.
const MOST_LOST_PERCENT: u64 = 5;
/// It is fetched every day; two days without success mean that somebody should look.
const STALE_HOURS: u64 = 48;
/// What nobody has looked after for a year is not current.
const MOST_STALE_HOURS: u64 = 366 * 24;

/// The keys that mean something beside `url` only.
const OF_URL: [&str; 10] = [
    "directory.ca_file",
    "directory.client_certificate",
    "directory.client_key",
    "directory.bind_dn",
    "directory.password_file",
    "directory.signer_certificate",
    "directory.signer_ca_file",
    "directory.store",
    "directory.most_lost_percent",
    "directory.stale_hours",
];

/// The providers directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory {
    /// Without any only this provider's own domains are certified.
    pub source: Option<DirectorySource>,
    /// Where fetched copies lie.
    pub store: PathBuf,
    /// A directory that has lost more of its providers or domains is refused.
    pub most_lost_percent: u64,
    /// After this without a successful fetch it is told to be stale.
    pub stale_hours: u64,
}

/// Where the directory comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DirectorySource {
    /// A local file that somebody else keeps current.
    Ldif(PathBuf),
    Remote(Box<Remote>),
}

/// A server that gives the directory out, and who it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote {
    pub url: DirectoryUrl,
    /// The CAs that may certify the server, PEM.
    pub ca_file: PathBuf,
    pub client: Option<ClientIdentity>,
    pub bind: Option<Bind>,
    /// Over HTTPS always; over LDAP nothing is signed.
    pub signer: Option<SignerPin>,
}

/// The certificate that this provider shows the server (§5.6), both PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientIdentity {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// A name and password for LDAP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind {
    pub dn: String,
    pub password_file: PathBuf,
}

/// Who must have signed the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SignerPin {
    Certificate(PathBuf),
    CaFile(PathBuf),
}

impl Directory {
    pub fn remote(&self) -> Option<&Remote> {
        match &self.source {
            Some(DirectorySource::Remote(remote)) => Some(remote),
            _ => None,
        }
    }
}

impl Section for Directory {
    fn read(document: &mut Document) -> Option<Self> {
        let ldif: Option<PathBuf> = document.optional("directory.ldif");
        let url: Option<DirectoryUrl> = document.optional("directory.url");
        let ca_file: Option<PathBuf> = document.optional("directory.ca_file");
        let client_certificate = document.optional("directory.client_certificate");
        let client_key = document.optional("directory.client_key");
        let bind_dn = document.optional("directory.bind_dn");
        let password_file = document.optional("directory.password_file");
        let signer_certificate = document.optional("directory.signer_certificate");
        let signer_ca_file = document.optional("directory.signer_ca_file");
        let store = document.or("directory.store", PathBuf::from(STORE));
        let most_lost_percent = document.or("directory.most_lost_percent", MOST_LOST_PERCENT);
        let stale_hours = document.or("directory.stale_hours", STALE_HOURS);
        let mut found = ranges(most_lost_percent, stale_hours);
        let Some(url) = url else {
            let origin = document.origin();
            let alone = OF_URL.into_iter().filter(|key| origin.is_set(key));
            found.extend(alone.map(|key| (key, Problem::OnlyBeside("directory.url"))));
            document.note(found);
            return Some(Directory { source: ldif.map(DirectorySource::Ldif), store, most_lost_percent, stale_hours });
        };
        if ldif.is_some() {
            found.push(("directory.ldif", Problem::NotBeside("directory.url")));
        }
        let is_ldap = url.is_ldap();
        let client = pair(("directory.client_certificate", client_certificate), ("directory.client_key", client_key));
        let bind = pair(("directory.bind_dn", bind_dn), ("directory.password_file", password_file));
        let signer = signer(signer_certificate, signer_ca_file, is_ldap);
        let client = client.map_err(|error| found.push(error)).ok().flatten();
        let bind: Option<(String, PathBuf)> = bind.map_err(|error| found.push(error)).ok().flatten();
        let signer = signer.map_err(|error| found.push(error)).ok().flatten();
        if bind.is_some() && !is_ldap {
            found.push(("directory.bind_dn", Problem::OnlyBeside("an ldaps: or ldap: URL in directory.url")));
        }
        if ca_file.is_none() {
            found.push(("directory.ca_file", Problem::Missing("the CAs that may certify the server of url, PEM")));
        }
        document.note(found);
        let remote = Remote {
            url,
            ca_file: ca_file?,
            client: client.map(|(certificate, key)| ClientIdentity { certificate, key }),
            bind: bind.map(|(dn, password_file)| Bind { dn, password_file }),
            signer,
        };
        let source = Some(DirectorySource::Remote(Box::new(remote)));
        Some(Directory { source, store, most_lost_percent, stale_hours })
    }

    fn print(&self, print: &mut Printer) -> fmt::Result {
        let ldif = match &self.source {
            Some(DirectorySource::Ldif(ldif)) => Some(ldif),
            _ => None,
        };
        print.optional("directory.ldif", ldif)?;
        let remote = self.remote();
        print.optional("directory.url", remote.map(|remote| &remote.url))?;
        if let Some(remote) = remote {
            let (client, bind) = (remote.client.as_ref(), remote.bind.as_ref());
            print.value("directory.ca_file", &remote.ca_file)?;
            print.optional("directory.client_certificate", client.map(|client| &client.certificate))?;
            print.optional("directory.client_key", client.map(|client| &client.key))?;
            print.optional("directory.bind_dn", bind.map(|bind| &bind.dn))?;
            print.optional("directory.password_file", bind.map(|bind| &bind.password_file))?;
            match &remote.signer {
                Some(SignerPin::Certificate(file)) => print.value("directory.signer_certificate", file)?,
                Some(SignerPin::CaFile(file)) => print.value("directory.signer_ca_file", file)?,
                None => {}
            }
            print.value("directory.store", &self.store)?;
            print.value("directory.most_lost_percent", &self.most_lost_percent)?;
            print.value("directory.stale_hours", &self.stale_hours)?;
        }
        Ok(())
    }
}

fn ranges(most_lost_percent: u64, stale_hours: u64) -> Vec<Found> {
    [
        ("directory.most_lost_percent", most_lost_percent, 0, 100),
        ("directory.stale_hours", stale_hours, 1, MOST_STALE_HOURS),
    ]
    .into_iter()
    .filter(|(_, found, least, most)| !(least..=most).contains(&found))
    .map(|(key, found, least, most)| (key, Problem::Outside { found, least, most }))
    .collect()
}

/// A file that comes over HTTPS is as good as its signature; LDAP has none.
fn signer(certificate: Option<PathBuf>, ca_file: Option<PathBuf>, is_ldap: bool) -> Result<Option<SignerPin>, Found> {
    const HTTPS: Problem = Problem::OnlyBeside("an https: URL in directory.url");
    match (certificate, ca_file) {
        (Some(_), _) if is_ldap => Err(("directory.signer_certificate", HTTPS)),
        (_, Some(_)) if is_ldap => Err(("directory.signer_ca_file", HTTPS)),
        (Some(_), Some(_)) => Err(("directory.signer_ca_file", Problem::NotBeside("directory.signer_certificate"))),
        (Some(file), None) => Ok(Some(SignerPin::Certificate(file))),
        (None, Some(file)) => Ok(Some(SignerPin::CaFile(file))),
        (None, None) if is_ldap => Ok(None),
        (None, None) => {
            Err(("directory.signer_certificate", Problem::Missing("the certificate that signs the directory, PEM")))
        }
    }
}
