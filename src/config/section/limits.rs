//! `[limits]`: how much a submission may be (§3.1.1).

use std::fmt;

use super::{Found, Section};
use crate::config::Problem;
use crate::config::effective::Printer;
use crate::config::format::Document;

/// What providers offer today: 100 MB; the decree asks for 30 (DM 2-11-2005 art. 12).
const MESSAGE_BYTES: u64 = 100 << 20;
/// What providers offer today; the decree asks for 50 (DM 2-11-2005 art. 12).
const RECIPIENTS: u64 = 500;
/// The decree's megabyte is taken as the smaller one: 30 of them are always accepted (DM 2-11-2005 art. 12).
const LEAST_BYTES: u64 = 30_000_000;
const LEAST_RECIPIENTS: u64 = 50;

/// How much a submission may be (§3.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// More is refused in the SMTP dialogue.
    pub message_bytes: u64,
    /// Size times recipients; more gives a non-acceptance notification.
    pub product_bytes: u64,
    /// More gives a non-acceptance notification.
    pub recipients: u64,
}

impl Section for Limits {
    fn read(document: &mut Document) -> Option<Self> {
        let message_bytes = document.or("limits.message_bytes", MESSAGE_BYTES);
        let recipients = document.or("limits.recipients", RECIPIENTS);
        // By default the other two limits decide. Saturating: nothing is above the largest number.
        let product_bytes = document.or("limits.product_bytes", message_bytes.saturating_mul(recipients));
        let limits = Limits { message_bytes, product_bytes, recipients };
        document.note(rules(&limits));
        Some(limits)
    }

    fn print(&self, print: &mut Printer) -> fmt::Result {
        print.value("limits.message_bytes", &self.message_bytes)?;
        print.value("limits.product_bytes", &self.product_bytes)?;
        print.value("limits.recipients", &self.recipients)
    }
}

fn rules(limits: &Limits) -> Vec<Found> {
    [
        ("limits.message_bytes", limits.message_bytes, LEAST_BYTES),
        ("limits.product_bytes", limits.product_bytes, LEAST_BYTES),
        ("limits.recipients", limits.recipients, LEAST_RECIPIENTS),
    ]
    .into_iter()
    .filter(|(_, found, least)| found < least)
    .map(|(key, found, least)| (key, Problem::BelowDecree { found, least }))
    .collect()
}
