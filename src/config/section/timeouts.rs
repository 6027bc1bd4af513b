//! `[timeouts]`: when a silent transaction is told to its sender (§3.1.6).

use std::fmt;

use super::{Found, Section};
use crate::config::Problem;
use crate::config::effective::Printer;
use crate::config::format::Document;
use crate::transaction::{FINAL, FIRST, Timeouts};

impl Section for Timeouts {
    fn read(document: &mut Document) -> Option<Self> {
        let timeouts = Timeouts {
            first_seconds: document.or("timeouts.first_seconds", FIRST),
            final_seconds: document.or("timeouts.final_seconds", FINAL),
        };
        document.note(rules(&timeouts));
        Some(timeouts)
    }

    fn print(&self, print: &mut Printer) -> fmt::Result {
        print.value("timeouts.first_seconds", &self.first_seconds)?;
        print.value("timeouts.final_seconds", &self.final_seconds)
    }
}

/// The notices that the rules want at 12 and at 24 hours may come earlier, for tests, but never later
/// (§3.1.6).
fn rules(timeouts: &Timeouts) -> Vec<Found> {
    let mut found: Vec<Found> = [
        ("timeouts.first_seconds", timeouts.first_seconds, FIRST),
        ("timeouts.final_seconds", timeouts.final_seconds, FINAL),
    ]
    .into_iter()
    .filter(|(_, found, most)| !(1..=*most).contains(found))
    .map(|(key, found, most)| (key, Problem::OutsideTimeout { found, least: 1, most }))
    .collect();
    if found.is_empty() && timeouts.final_seconds <= timeouts.first_seconds {
        let problem = Problem::FinalBeforeFirst { found: timeouts.final_seconds, first: timeouts.first_seconds };
        found.push(("timeouts.final_seconds", problem));
    }
    found
}
