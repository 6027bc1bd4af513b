//! `[trust]`: whose certificates are believed, and what says that one was revoked (§2.2.2).

use std::fmt;
use std::path::PathBuf;

use super::Section;
use crate::config::Problem;
use crate::config::effective::Printer;
use crate::config::format::Document;
use crate::config::params::WithoutListName;
use crate::smime::WithoutList;

const STORE: &str = "/var/lib/pec-milter/crl";
/// An hour: what a CA publishes is known here an hour later at most (§2.2.2 wants the delay small).
const UPDATE_SECONDS: u64 = 3600;
/// A day: a longer one would be no interval that keeps the delay small.
const MOST_UPDATE_SECONDS: u64 = 86_400;

/// Whose certificates are believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trust {
    /// The certification authorities, PEM.
    pub ca_file: PathBuf,
    /// Whether signatures with SHA-1 of other providers are accepted: large ones still send them.
    pub accept_sha1: bool,
    /// Revocation lists that somebody else brings, PEM or DER.
    pub crl_files: Vec<PathBuf>,
    /// Whether lists are fetched from where the certificates say that they are.
    pub crl_fetch: bool,
    /// How often files and servers are asked for new ones.
    pub crl_update_seconds: u64,
    /// What holds while there is no list in date.
    pub crl_missing: WithoutList,
    /// Where lists are kept.
    pub crl_store: PathBuf,
}

impl Section for Trust {
    fn read(document: &mut Document) -> Option<Self> {
        let ca_file = document.required("trust.ca_file");
        let accept_sha1 = document.or("trust.accept_sha1", true);
        let crl_files: Vec<PathBuf> = document.optional("trust.crl_files").unwrap_or_default();
        let crl_fetch = document.or("trust.crl_fetch", true);
        let crl_update_seconds = document.or("trust.crl_update_seconds", UPDATE_SECONDS);
        let WithoutListName(crl_missing) = document.or("trust.crl_missing", WithoutListName(WithoutList::Refuse));
        let crl_store = document.or("trust.crl_store", PathBuf::from(STORE));
        if !(1..=MOST_UPDATE_SECONDS).contains(&crl_update_seconds) {
            let problem = Problem::Outside { found: crl_update_seconds, least: 1, most: MOST_UPDATE_SECONDS };
            document.note([("trust.crl_update_seconds", problem)]);
        }
        if !crl_fetch && crl_files.is_empty() && crl_missing == WithoutList::Refuse {
            document.note([("trust.crl_files", Problem::Missing(NO_LISTS))]);
        }
        Some(Trust { ca_file: ca_file?, accept_sha1, crl_files, crl_fetch, crl_update_seconds, crl_missing, crl_store })
    }

    fn print(&self, print: &mut Printer) -> fmt::Result {
        print.value("trust.ca_file", &self.ca_file)?;
        print.value("trust.accept_sha1", &self.accept_sha1)?;
        let files = (!self.crl_files.is_empty()).then_some(&self.crl_files);
        print.optional("trust.crl_files", files)?;
        print.value("trust.crl_fetch", &self.crl_fetch)?;
        print.value("trust.crl_update_seconds", &self.crl_update_seconds)?;
        print.value("trust.crl_missing", &WithoutListName(self.crl_missing))?;
        print.value("trust.crl_store", &self.crl_store)
    }
}

const NO_LISTS: &str = "the files of the revocation lists: with crl_fetch = false and crl_missing = \"refuse\" no certified \
    message would ever be accepted";
