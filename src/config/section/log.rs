//! `[log]`: the event log, its seals, what is kept beside it and for how long (§2.2.4, §2.3).

use std::fmt;
use std::path::PathBuf;

use super::{Found, Section, pair};
use crate::config::Problem;
use crate::config::effective::Printer;
use crate::config::format::Document;
use crate::config::params::TsaUrl;
use crate::model::Retention;

const DATABASE: &str = "/var/lib/pec-milter/log.sqlite";
const SEALS: &str = "/var/lib/pec-milter/seals";
/// §2.3
const LEAST_MONTHS: u64 = 30;
const ORIGINALS: &str = "/var/lib/pec-milter/originals";

/// The event log (§2.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    pub database: PathBuf,
    /// Where the sealed days lie.
    pub seals: PathBuf,
    /// How long events, infected messages and originals are kept.
    pub retention: Retention,
    /// Without it the seals are signed and not stamped.
    pub tsa: Option<Tsa>,
    pub originals: Originals,
}

/// The time stamping authority (RFC 3161).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tsa {
    pub url: TsaUrl,
    /// The CAs of the authority's certificate, PEM.
    pub ca_file: PathBuf,
    /// A name and the file with its password, for authorities that ask for one.
    pub user: Option<(String, PathBuf)>,
}

/// The originals of certified messages, kept to make complete and brief receipts again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Originals {
    /// Where not, those of an earlier time are read and purged still.
    pub are_kept: bool,
    pub store: PathBuf,
    /// 32 octets, mode 0600; it is there where originals are kept. Without it none can be read.
    pub key_file: Option<PathBuf>,
}

impl Section for Log {
    fn read(document: &mut Document) -> Option<Self> {
        let database = document.or("log.database", PathBuf::from(DATABASE));
        let seals = document.or("log.seals", PathBuf::from(SEALS));
        let found = document.or("log.retention_months", LEAST_MONTHS);
        let retention = Retention::months(found);
        if retention.is_none() {
            let outside = Problem::Outside { found, least: LEAST_MONTHS, most: Retention::MOST_MONTHS };
            document.note([("log.retention_months", outside)]);
        }
        let tsa = tsa(document);
        let originals = originals(document);
        Some(Log { database, seals, retention: retention?, tsa, originals: originals? })
    }

    fn print(&self, print: &mut Printer) -> fmt::Result {
        print.value("log.database", &self.database)?;
        print.value("log.seals", &self.seals)?;
        print.value("log.retention_months", &u64::try_from(self.retention.number()).unwrap_or(LEAST_MONTHS))?;
        print.optional("log.tsa_url", self.tsa.as_ref().map(|tsa| &tsa.url))?;
        if let Some(Tsa { ca_file, user, .. }) = &self.tsa {
            print.value("log.tsa_ca_file", ca_file)?;
            print.optional("log.tsa_user", user.as_ref().map(|user| &user.0))?;
            print.optional("log.tsa_password_file", user.as_ref().map(|user| &user.1))?;
        }
        let Originals { are_kept, store, key_file } = &self.originals;
        print.value("log.keep_originals", are_kept)?;
        print.value("log.originals", store)?;
        print.optional("log.originals_key_file", key_file.as_ref())
    }
}

fn tsa(document: &mut Document) -> Option<Tsa> {
    let url: Option<TsaUrl> = document.optional("log.tsa_url");
    let ca_file: Option<PathBuf> = document.optional("log.tsa_ca_file");
    let user: Option<String> = document.optional("log.tsa_user");
    let password_file: Option<PathBuf> = document.optional("log.tsa_password_file");
    let user = pair(("log.tsa_user", user), ("log.tsa_password_file", password_file));
    let mut found: Vec<Found> = Vec::new();
    let user = user.map_err(|error| found.push(error)).ok().flatten();
    match (&url, &ca_file) {
        (Some(_), None) => {
            found.push(("log.tsa_ca_file", Problem::Missing("the CAs of the authority of tsa_url, PEM")))
        }
        (None, Some(_)) => found.push(("log.tsa_ca_file", Problem::OnlyBeside("log.tsa_url"))),
        _ => {}
    }
    if url.is_none() && user.is_some() {
        found.push(("log.tsa_user", Problem::OnlyBeside("log.tsa_url")));
    }
    document.note(found);
    Some(Tsa { url: url?, ca_file: ca_file?, user })
}

fn originals(document: &mut Document) -> Option<Originals> {
    let are_kept = document.or("log.keep_originals", false);
    let store = document.or("log.originals", PathBuf::from(ORIGINALS));
    let key_file: Option<PathBuf> = document.optional("log.originals_key_file");
    if are_kept && key_file.is_none() {
        let missing = Problem::Missing("a file of 32 octets with mode 0600, as `openssl rand -out FILE 32` makes it");
        document.note([("log.originals_key_file", missing)]);
        return None;
    }
    Some(Originals { are_kept, store, key_file })
}
