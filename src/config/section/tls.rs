//! `[tls]`: with which providers TLS is more than encryption (§5.3).

use std::fmt;

use super::{Found, Section};
use crate::config::Problem;
use crate::config::effective::Printer;
use crate::config::format::Document;
use crate::directory::VerifiedDomain;

/// With which providers TLS is more than encryption.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// The domains whose servers must show a certificate for their name.
    pub verify: Vec<VerifiedDomain>,
}

impl Section for Tls {
    fn read(document: &mut Document) -> Option<Self> {
        let tls = Tls { verify: document.or("tls.verify", Vec::new()) };
        document.note(rules(&tls));
        Some(tls)
    }

    fn print(&self, print: &mut Printer) -> fmt::Result {
        print.value("tls.verify", &self.verify)
    }
}

fn rules(tls: &Tls) -> Vec<Found> {
    let repeated =
        tls.verify.iter().enumerate().filter(|(place, verified)| {
            tls.verify.iter().take(*place).any(|earlier| earlier.domain == verified.domain)
        });
    repeated.map(|(_, verified)| ("tls.verify", Problem::RepeatedDomain(verified.domain.to_string()))).collect()
}
