//! Rules across the keys of the configuration; each names the key to change.

use std::collections::HashSet;
use std::path::PathBuf;

use crate::config::{Limits, Listen, Problem};
use crate::model::Provider;
use crate::transaction::{FINAL, FIRST, Timeouts};

/// The local part that every provider's own messages come from (§2.2.6, §3.1.4).
const SENDING_LOCAL_PART: &str = "posta-certificata";

/// The decree's megabyte is taken as the smaller one: 30 of them are always accepted (DM 2-11-2005 art. 12).
const LEAST_BYTES: u64 = 30_000_000;
const LEAST_RECIPIENTS: u64 = 50;

/// Which files hold the signing key and its certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// Two PEM files; the certificate's may hold intermediates after it.
    Pem { private_key: PathBuf, certificate: PathBuf },
    /// Both in one PKCS#12 file.
    Pkcs12(PathBuf),
}

type Found = (&'static str, Problem);

pub(super) fn provider(provider: &Provider) -> Vec<Found> {
    let mut found = Vec::new();
    let sending = &provider.sending_address;
    if !sending.local_part().eq_ignore_ascii_case(SENDING_LOCAL_PART) {
        found.push(("provider.sending_address", Problem::SendingLocalPart(sending.clone())));
    }
    for (key, address) in
        [("provider.sending_address", sending), ("provider.service_mailbox", &provider.service_mailbox)]
    {
        if !provider.manages(address) {
            found.push((key, Problem::OutsideMailDomains(address.clone())));
        }
    }
    let mut seen = HashSet::new();
    for domain in provider.mail_domains.iter().filter(|domain| !seen.insert(*domain)) {
        found.push(("provider.mail_domains", Problem::RepeatedDomain(domain.to_string())));
    }
    found
}

pub(super) fn key_source(
    private_key: Option<PathBuf>,
    certificate: Option<PathBuf>,
    pkcs12: Option<PathBuf>,
) -> Result<KeySource, Found> {
    match (private_key, certificate, pkcs12) {
        (Some(private_key), Some(certificate), None) => Ok(KeySource::Pem { private_key, certificate }),
        (None, None, Some(file)) => Ok(KeySource::Pkcs12(file)),
        (_, _, Some(_)) => Err(("key.pkcs12", Problem::TwoKeys)),
        (Some(_), None, None) => Err(("key.certificate", Problem::Missing("the certificate of private_key, PEM"))),
        (None, Some(_), None) => Err(("key.private_key", Problem::Missing("the private key of certificate, PEM"))),
        (None, None, None) => Err(("key", Problem::NoKey)),
    }
}

pub(super) fn limits(limits: &Limits) -> Vec<Found> {
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

/// The notices that the rules want at 12 and at 24 hours may come earlier, for tests, but never later
/// (§3.1.6).
pub(super) fn timeouts(timeouts: &Timeouts) -> Vec<Found> {
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

pub(super) fn listen(listen: &Listen) -> Vec<Found> {
    let sockets = [
        ("listen.access", &listen.access),
        ("listen.incoming", &listen.incoming),
        ("listen.bounces", &listen.bounces),
        ("listen.lmtp", &listen.lmtp),
    ];
    let mut found = Vec::new();
    for (place, (key, socket)) in sockets.iter().enumerate() {
        let earlier = sockets.iter().take(place).filter(|(_, other)| other == socket);
        found.extend(earlier.map(|(other, _)| (*key, Problem::SameSocket(other))));
    }
    found
}
