//! `[receipts]`: which receipts users ask for whose messages ask for none (§3.3.2).

use std::fmt;
use std::path::PathBuf;

use super::Section;
use crate::config::effective::Printer;
use crate::config::format::Document;

/// Which receipts users ask for whose messages ask for none (§3.3.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipts {
    /// Without it all ask for complete ones.
    pub map: Option<PathBuf>,
}

impl Section for Receipts {
    fn read(document: &mut Document) -> Option<Self> {
        Some(Receipts { map: document.optional("receipts.map") })
    }

    fn print(&self, print: &mut Printer) -> fmt::Result {
        print.optional("receipts.map", self.map.as_ref())
    }
}
