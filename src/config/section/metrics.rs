//! `[metrics]`: where a monitoring system finds the figures of this daemon.

use std::fmt;
use std::net::SocketAddr;

use super::Section;
use crate::config::effective::Printer;
use crate::config::format::Document;

/// Where the figures are told, if anywhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metrics {
    pub listen: Option<SocketAddr>,
}

impl Section for Metrics {
    fn read(document: &mut Document) -> Option<Self> {
        Some(Metrics { listen: document.optional("metrics.listen") })
    }

    fn print(&self, print: &mut Printer) -> fmt::Result {
        print.optional("metrics.listen", self.listen.as_ref())
    }
}
