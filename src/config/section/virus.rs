//! `[virus]`: the scanner and the store of infected messages (§2.2.4).

use std::fmt;
use std::path::PathBuf;

use super::Section;
use crate::config::Problem;
use crate::config::effective::Printer;
use crate::config::format::Document;
use crate::config::params::LocalEndpoint;

const STORE: &str = "/var/lib/pec-milter/virus";
/// Far longer than ClamAV takes for 100 MB, and within the time Postfix waits for a milter (`milter_content_timeout`).
const SCAN_SECONDS: u64 = 120;
/// Postfix waits five minutes for a milter, and ten for the hop, which has to deliver besides.
const MOST_SCAN_SECONDS: u64 = 240;

/// The virus scanner and the store of infected messages (§2.2.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Virus {
    /// Without it nothing is scanned, which §3.1.3 does not allow a provider.
    pub clamd: Option<LocalEndpoint>,
    /// How long clamd may take for one message.
    pub timeout_seconds: u64,
    pub store: PathBuf,
}

impl Section for Virus {
    fn read(document: &mut Document) -> Option<Self> {
        let clamd = document.optional("virus.clamd");
        let timeout_seconds = document.or("virus.timeout_seconds", SCAN_SECONDS);
        let store = document.or("virus.store", PathBuf::from(STORE));
        if !(1..=MOST_SCAN_SECONDS).contains(&timeout_seconds) {
            let problem = Problem::Outside { found: timeout_seconds, least: 1, most: MOST_SCAN_SECONDS };
            document.note([("virus.timeout_seconds", problem)]);
        }
        Some(Virus { clamd, timeout_seconds, store })
    }

    fn print(&self, print: &mut Printer) -> fmt::Result {
        print.optional("virus.clamd", self.clamd.as_ref())?;
        print.value("virus.timeout_seconds", &self.timeout_seconds)?;
        print.value("virus.store", &self.store)
    }
}
