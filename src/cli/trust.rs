//! `trust show`: the CAs, their revocation lists, and the lists that certificates need and that are not held (§2.2.2).

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Write, stdout};
use std::path::Path;

use openssl::asn1::Asn1Time;
use openssl::x509::X509;

use super::Failure;
use super::load::load;
use crate::adapters::instruments::SystemInstruments;
use crate::adapters::revocation::{ListStore, StoredList};
use crate::config::Config;
use crate::model::TemporalReference;
use crate::operations::current::Current;
use crate::operations::ports::Instruments;
use crate::operations::update_lists::known_certificates;
use crate::smime::{Condition, SignerCertificate, WithoutList, distribution_points, readable};

/// Prints them; no where a list is missing or out of date.
pub fn show(path: &Path) -> Result<bool, Failure> {
    let (config, at) = (Config::read(path)?, SystemInstruments.now());
    let loaded = load(&config, at)?;
    let trust = &loaded.current.trust;
    let stored = ListStore::at(&config.trust.crl_store).load(trust, at)?;
    let mut out = stdout().lock();
    for authority in trust.authorities() {
        let authority = SignerCertificate::from_der(&authority.to_der()?)?;
        let kind = if authority.is_self_issued() { "root" } else { "intermediate" };
        writeln!(out, "CA      {} ({kind}, valid until {})", authority.subject(), shown(authority.not_after()))?;
    }
    let mut all_in_date = true;
    for list in trust.lists().iter() {
        let condition = list.condition(at, config.trust.crl_update_seconds);
        let state = match condition {
            Condition::InDate => "in date",
            Condition::Ending => "in date, BUT A NEWER ONE IS DUE",
            Condition::OutOfDate => "OUT OF DATE",
        };
        all_in_date &= condition != Condition::OutOfDate;
        writeln!(out, "\nlist    of {}: {state}", list.issuer_name())?;
        writeln!(out, "        revokes {}", list.revoked())?;
        writeln!(out, "        issued {}, next due {}", shown(list.this_update()), shown(list.next_update()))?;
        let same = |one: &&StoredList| one.list.scope() == list.scope() && one.list.this_update() == list.this_update();
        match stored.lists.iter().find(same) {
            Some(StoredList { source, fetched, .. }) => writeln!(out, "        from {source}, {}", shown(*fetched))?,
            None => writeln!(out, "        from a file of trust.crl_files, which the daemon has not read yet")?,
        }
    }
    for line in &stored.unusable {
        writeln!(out, "\nUNUSABLE {line}")?;
    }
    for (issuer, lack) in lacking(&loaded.current, at) {
        all_in_date = false;
        writeln!(out, "\nMISSING list of {issuer}")?;
        for subject in &lack.subjects {
            writeln!(out, "        needed for {subject}")?;
        }
        match lack.addresses.len() {
            0 => writeln!(out, "        no certificate says where it is published: name a file in trust.crl_files")?,
            _ => writeln!(out, "        published at {}", Vec::from_iter(lack.addresses).join(", "))?,
        }
    }
    if !all_in_date || trust.lists().iter().next().is_none() {
        all_in_date = false;
        let consequence = match config.trust.crl_missing {
            WithoutList::Refuse => "messages whose signers need it are answered 451 and wait with their senders",
            WithoutList::Accept => "signers that need it pass as not revoked",
        };
        writeln!(out, "\nWithout a list in date {consequence} (trust.crl_missing).")?;
    }
    Ok(all_in_date)
}

/// What is not known without a list.
#[derive(Default)]
struct Lack {
    subjects: BTreeSet<String>,
    addresses: BTreeSet<String>,
}

/// The CAs of which a list is needed and none is held; a list from whatever place will do.
fn lacking(current: &Current, at: TemporalReference) -> BTreeMap<String, Lack> {
    let mut lacks: BTreeMap<String, Lack> = BTreeMap::new();
    let is_covered = |certificate: &X509| current.trust.lists().iter().any(|list| list.covers(certificate));
    for certificate in known_certificates(current).iter().filter(|one| !has_expired(one, at) && !is_covered(one)) {
        let lack = lacks.entry(readable(certificate.issuer_name())).or_default();
        lack.subjects.insert(readable(certificate.subject_name()));
        lack.addresses.extend(distribution_points(certificate).into_iter().flat_map(|point| point.0));
    }
    // A CA may have issued nothing that is known here: its signers come with messages.
    for authority in current.trust.authorities().filter(|one| !has_expired(one, at)) {
        let name = readable(authority.subject_name());
        if !current.trust.lists().iter().any(|list| list.issuer_name() == name) {
            lacks.entry(name).or_default();
        }
    }
    lacks
}

fn has_expired(certificate: &X509, at: TemporalReference) -> bool {
    Asn1Time::from_unix(at.unix()).is_ok_and(|now| certificate.not_after() < now)
}

fn shown(unix: i64) -> String {
    let at = TemporalReference::from_unix(unix);
    format!("{} {} {}", at.day(), at.time(), at.zone())
}
