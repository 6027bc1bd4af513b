//! What one edition of the directory changes against another, and whether it may take its place (§4.5, §7).
//!
//! The directory decides who is certified, so an edition that is older than the one in force, or that has lost a good
//! part of its providers or domains, is not believed although it is signed: what happened is more likely a fault of the
//! publisher, or somebody who plays back an old file. Time is an argument.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::index::Directory;
use super::record::{ProviderRecord, sha1_of};
use crate::model::{Domain, TemporalReference};

/// How far the publisher's clock may run ahead of ours.
const CLOCK_TOLERANCE: i64 = 86_400;

/// A directory, and when its publisher signed it, where that is known.
#[derive(Debug, Clone)]
pub struct Edition {
    pub directory: Directory,
    pub signed_at: Option<TemporalReference>,
}

/// Under which terms an edition may take the place of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// How much of its providers, or of its domains, it may have lost.
    pub most_lost_percent: u64,
    /// Whether the administrator has said that it may have lost more.
    pub accept_shrunken: bool,
    pub now: TemporalReference,
}

/// Why an edition may not take the place of the one in force.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error(
        "it was signed on {}, and the one in force on {}: the server gives out an old file; tell the publisher",
        instant(*.signed), instant(*.in_force)
    )]
    Older { signed: TemporalReference, in_force: TemporalReference },
    #[error(
        "its signature does not say when it was made, and that of the one in force does: it could be an old file; \
         tell the publisher"
    )]
    Undated,
    #[error("it claims to be signed on {}, which is still to come: check this machine's clock", instant(*.0))]
    FromTheFuture(TemporalReference),
    #[error(
        "{lost} of {before} {what} are gone, more than {most_percent} % (directory.most_lost_percent): look at \
         `pec-milter directory diff`, and if that is right run `pec-milter directory refresh --accept-shrunken`"
    )]
    Shrunken { what: &'static str, lost: usize, before: usize, most_percent: u64 },
}

/// Something that differs between two editions.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    ProviderLost(String),
    ProviderGained(String),
    DomainLost { domain: Domain, provider: String },
    DomainGained { domain: Domain, provider: String },
    DomainMoved { domain: Domain, from: String, to: String },
    CertificateLost { hash: String, provider: String },
    CertificateGained { hash: String, provider: String },
    MailReceipt { provider: String, from: String, to: String },
}

/// All that differs, and how large the older edition is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Comparison {
    pub changes: Vec<Change>,
    providers_before: usize,
    domains_before: usize,
}

/// Whether a candidate may take the place of the edition in force, and what that changes.
pub fn judge(in_force: Option<&Edition>, candidate: &Edition, terms: Terms) -> Result<Comparison, Refusal> {
    if let Some(signed) = candidate.signed_at
        && signed.unix() > terms.now.unix().saturating_add(CLOCK_TOLERANCE)
    {
        return Err(Refusal::FromTheFuture(signed));
    }
    let Some(in_force) = in_force else {
        return Ok(Comparison::between(&Directory::empty(), &candidate.directory));
    };
    match (candidate.signed_at, in_force.signed_at) {
        (Some(signed), Some(in_force)) if signed < in_force => return Err(Refusal::Older { signed, in_force }),
        (None, Some(_)) => return Err(Refusal::Undated),
        _ => {}
    }
    let comparison = Comparison::between(&in_force.directory, &candidate.directory);
    match comparison.shrunken(terms.most_lost_percent) {
        Some(refusal) if !terms.accept_shrunken => Err(refusal),
        _ => Ok(comparison),
    }
}

impl Comparison {
    /// What `new` has that `old` had not, and the other way round.
    pub fn between(old: &Directory, new: &Directory) -> Self {
        let (before, after) = (Contents::of(old), Contents::of(new));
        let mut changes = Vec::new();
        for name in before.providers.difference(&after.providers) {
            changes.push(Change::ProviderLost((*name).to_owned()));
        }
        for name in after.providers.difference(&before.providers) {
            changes.push(Change::ProviderGained((*name).to_owned()));
        }
        for (domain, provider) in &before.domains {
            let (domain, from) = ((*domain).clone(), (*provider).to_owned());
            match after.domains.get(&domain) {
                None => changes.push(Change::DomainLost { domain, provider: from }),
                Some(to) if *to != from => changes.push(Change::DomainMoved { domain, from, to: (*to).to_owned() }),
                Some(_) => {}
            }
        }
        for (domain, provider) in after.domains.iter().filter(|(domain, _)| !before.domains.contains_key(**domain)) {
            changes.push(Change::DomainGained { domain: (*domain).clone(), provider: (*provider).to_owned() });
        }
        for (provider, certificate) in before.certificates.difference(&after.certificates) {
            changes.push(Change::CertificateLost { hash: sha1_of(certificate), provider: provider.clone() });
        }
        for (provider, certificate) in after.certificates.difference(&before.certificates) {
            changes.push(Change::CertificateGained { hash: sha1_of(certificate), provider: provider.clone() });
        }
        for (provider, from) in &before.receipts {
            if let Some(to) = after.receipts.get(provider).filter(|to| *to != from) {
                let (from, to) = (from.clone(), to.clone());
                changes.push(Change::MailReceipt { provider: provider.clone(), from, to });
            }
        }
        Comparison { changes, providers_before: before.providers.len(), domains_before: before.domains.len() }
    }

    /// In one line: what counts is how much comes and goes.
    pub fn summary(&self) -> String {
        let count = |of: fn(&Change) -> bool| self.changes.iter().filter(|change| of(change)).count();
        if self.changes.is_empty() {
            return "the same providers, domains and certificates".to_owned();
        }
        format!(
            "providers +{} -{}, domains +{} -{}, {} moved, certificates +{} -{}",
            count(|change| matches!(change, Change::ProviderGained(_))),
            count(|change| matches!(change, Change::ProviderLost(_))),
            count(|change| matches!(change, Change::DomainGained { .. })),
            count(|change| matches!(change, Change::DomainLost { .. })),
            count(|change| matches!(change, Change::DomainMoved { .. })),
            count(|change| matches!(change, Change::CertificateGained { .. })),
            count(|change| matches!(change, Change::CertificateLost { .. })),
        )
    }

    fn shrunken(&self, most_percent: u64) -> Option<Refusal> {
        let lost = |of: fn(&Change) -> bool| self.changes.iter().filter(|change| of(change)).count();
        let providers = lost(|change| matches!(change, Change::ProviderLost(_)));
        let domains = lost(|change| matches!(change, Change::DomainLost { .. }));
        let kinds = [("providers", providers, self.providers_before), ("domains", domains, self.domains_before)];
        kinds.into_iter().find_map(|(what, lost, before)| {
            let too_many = (lost as u128) * 100 > u128::from(most_percent) * (before as u128);
            too_many.then_some(Refusal::Shrunken { what, lost, before, most_percent })
        })
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::ProviderLost(name) => write!(f, "- provider {name}"),
            Change::ProviderGained(name) => write!(f, "+ provider {name}"),
            Change::DomainLost { domain, provider } => write!(f, "- domain {domain} of {provider}"),
            Change::DomainGained { domain, provider } => write!(f, "+ domain {domain} of {provider}"),
            Change::DomainMoved { domain, from, to } => write!(f, "~ domain {domain} from {from} to {to}"),
            Change::CertificateLost { hash, provider } => write!(f, "- certificate {hash} of {provider}"),
            Change::CertificateGained { hash, provider } => write!(f, "+ certificate {hash} of {provider}"),
            Change::MailReceipt { provider, from, to } => write!(f, "~ mailReceipt of {provider} from {from} to {to}"),
        }
    }
}

/// What is compared.
struct Contents<'d> {
    providers: BTreeSet<&'d str>,
    domains: BTreeMap<&'d Domain, &'d str>,
    certificates: BTreeSet<(String, &'d [u8])>,
    receipts: BTreeMap<String, String>,
}

impl<'d> Contents<'d> {
    fn of(directory: &'d Directory) -> Self {
        let records = directory.records();
        let mut domains = BTreeMap::new();
        for record in records {
            for domain in &record.domains {
                // The first record in the file is the one that counts, as in every lookup.
                domains.entry(domain).or_insert(record.name.as_str());
            }
        }
        let certificates = |record: &'d ProviderRecord| {
            record.certificates.iter().map(|certificate| (record.full_name(), certificate.as_slice()))
        };
        Contents {
            providers: records.iter().map(|record| record.name.as_str()).collect(),
            domains,
            certificates: records.iter().flat_map(certificates).collect(),
            receipts: records.iter().map(|record| (record.full_name(), record.mail_receipt.to_string())).collect(),
        }
    }
}

fn instant(at: TemporalReference) -> String {
    format!("{} {}", at.day(), at.time())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::own_record;

    fn now() -> TemporalReference {
        TemporalReference::from_unix(1_721_032_245)
    }

    fn record(name: &str, certificate: &str, domains: &[String]) -> String {
        let record = ProviderRecord {
            name: name.into(),
            unit: None,
            mail_receipt: "ricevute@beta.example".parse().unwrap(),
            domains: domains.iter().map(|domain| domain.parse().unwrap()).collect(),
            certificates: vec![certificate.as_bytes().to_vec()],
        };
        own_record(&record, None)
    }

    fn numbered(providers: usize, domains: usize) -> Directory {
        let of = |provider| (0..domains).map(|domain| format!("d{domain}.p{provider}.example")).collect::<Vec<_>>();
        let text: String = (0..providers).map(|i| record(&format!("P{i}"), &format!("c{i}"), &of(i))).collect();
        Directory::from_ldif(text.as_bytes()).unwrap()
    }

    fn edition(directory: Directory, signed_at: Option<i64>) -> Edition {
        Edition { directory, signed_at: signed_at.map(|at| TemporalReference::from_unix(now().unix() + at)) }
    }

    fn terms(most_lost_percent: u64) -> Terms {
        Terms { most_lost_percent, accept_shrunken: false, now: now() }
    }

    #[test]
    fn everything_that_differs_is_told() {
        let domains = |names: &[&str]| names.iter().map(|name| format!("{name}.example")).collect::<Vec<_>>();
        let old = record("Beta", "b1", &domains(&["beta", "moves", "goes"])) + &record("Delta", "d", &domains(&["d"]));
        let new = record("Beta", "b2", &domains(&["beta"])) + &record("Echo", "e", &domains(&["moves", "new"]));
        let new = new.replace("mailReceipt: ricevute@beta", "mailReceipt: altre@beta");
        let [old, new] = [old, new].map(|text| Directory::from_ldif(text.as_bytes()).unwrap());
        let told: Vec<String> = Comparison::between(&old, &new).changes.iter().map(Change::to_string).collect();
        let hash = |text: &str| sha1_of(text.as_bytes());
        assert_eq!(
            told,
            [
                "- provider Delta".to_owned(),
                "+ provider Echo".into(),
                "- domain d.example of Delta".into(),
                "- domain goes.example of Beta".into(),
                "~ domain moves.example from Beta to Echo".into(),
                "+ domain new.example of Echo".into(),
                format!("- certificate {} of Beta", hash("b1")),
                format!("- certificate {} of Delta", hash("d")),
                format!("+ certificate {} of Beta", hash("b2")),
                format!("+ certificate {} of Echo", hash("e")),
                "~ mailReceipt of Beta from ricevute@beta.example to altre@beta.example".into(),
            ]
        );
        assert_eq!(Comparison::between(&old, &old).changes, []);
    }

    #[test]
    fn as_much_as_the_limit_may_be_lost_and_not_more() {
        let full = edition(numbered(20, 5), None);
        let judged = |providers, domains, percent| {
            judge(Some(&full), &edition(numbered(providers, domains), None), terms(percent)).map(|_| ())
        };
        assert_eq!(judged(19, 5, 5), Ok(()));
        let lost = |what, lost, before| Refusal::Shrunken { what, lost, before, most_percent: 5 };
        assert_eq!(judged(18, 5, 5), Err(lost("providers", 2, 20)));
        assert_eq!(judged(20, 4, 5), Err(lost("domains", 20, 100)));
        assert!(judged(20, 5, 0).is_ok() && judged(19, 5, 0).is_err());
        assert!(judged(1, 1, 100).is_ok());
        let accepting = Terms { accept_shrunken: true, ..terms(0) };
        assert!(judge(Some(&full), &edition(numbered(1, 1), None), accepting).is_ok());
    }

    #[test]
    fn an_older_edition_is_refused_however_it_is_asked_for() {
        let at = |signed_at| edition(numbered(2, 2), signed_at);
        let accepting = Terms { accept_shrunken: true, ..terms(100) };
        let judged = |in_force: Option<i64>, candidate| judge(Some(&at(in_force)), &at(candidate), accepting);
        assert!(matches!(judged(Some(-10), Some(-11)), Err(Refusal::Older { .. })));
        assert!(judged(Some(-10), Some(-10)).is_ok() && judged(Some(-10), Some(-9)).is_ok());
        assert_eq!(judged(Some(-10), None), Err(Refusal::Undated));
        assert!(judged(None, None).is_ok() && judged(None, Some(-9)).is_ok());
        assert!(judged(None, Some(CLOCK_TOLERANCE)).is_ok());
        assert!(matches!(judged(None, Some(CLOCK_TOLERANCE + 1)), Err(Refusal::FromTheFuture(_))));
        assert!(matches!(judge(None, &at(Some(CLOCK_TOLERANCE + 1)), accepting), Err(Refusal::FromTheFuture(_))));
    }
}
