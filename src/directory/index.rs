//! The directory in force: who manages a domain, and for whom a certificate speaks (§2.2.1, §2.2.2, §7).
//!
//! A certificate speaks for the domains of the records that list it, no more (§7). An environment with a certificate of
//! its own therefore certifies its own domains only, and one that shares the main environment's certificate (§4.5.10
//! prints such a pair) shares its domains: for a certificate in several records the answer is their union, under the
//! name and address of the main environment.
//! A domain may stand in two records, for instance while it moves between providers: it is certified, each of the two
//! may certify for it, and the first record in the file is the one `provider_of_domain` names; a remark tells of it.
//! A file with one unsound record is refused whole, with all such records named: the caller keeps the directory it has.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use crate::directory::ldif::{self, LdifError};
use crate::directory::record::{ProviderRecord, RecordError, Remark};
use crate::model::Domain;

/// How many unsound records an error shows; a file that is something else altogether would show thousands.
const MOST_SHOWN: usize = 20;

/// The providers and their domains; every lookup takes the same time however many there are.
#[derive(Debug, Clone, Default)]
pub struct Directory {
    records: Vec<ProviderRecord>,
    /// Places in `records`.
    by_domain: HashMap<Domain, usize>,
    /// Places in `signers`. The key is the certificate itself: the records saw to it that its hash is listed, so
    /// finding it is both steps of §2.2.2, and two certificates with one SHA-1 hash stay two.
    by_certificate: HashMap<Vec<u8>, usize>,
    signers: Vec<ProviderRecord>,
    remarks: Vec<Remark>,
    is_unknown: bool,
}

/// Why a file is not a providers directory.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DirectoryError {
    #[error(transparent)]
    Ldif(LdifError),
    #[error("{}", list(.0))]
    Records(Vec<RecordError>),
    #[error("the file holds no provider; expected records under o=postacert with objectClass provider")]
    NoProvider,
}

impl Directory {
    /// A directory without any provider: all mail comes from outside, until `with_own` adds this one.
    pub fn empty() -> Self {
        Self::default()
    }

    /// The place of a directory that should be there and is not. Whoever asks it would hear that certified domains are
    /// ordinary, which must not be told to anybody: [`Directory::is_known`] is to be asked first.
    pub fn unknown() -> Self {
        Directory { is_unknown: true, ..Self::default() }
    }

    /// Whether what it says holds; where not, nothing may be decided about a message.
    pub fn is_known(&self) -> bool {
        !self.is_unknown
    }

    /// Reads the whole directory, or refuses it.
    pub fn from_ldif(bytes: &[u8]) -> Result<Self, DirectoryError> {
        let (mut records, mut remarks, mut errors) = (Vec::new(), Vec::new(), Vec::new());
        for entry in ldif::parse(bytes).map_err(DirectoryError::Ldif)? {
            match ProviderRecord::read(&entry, &mut remarks) {
                Ok(record) => records.extend(record),
                Err(error) => errors.push(error),
            }
        }
        if !errors.is_empty() {
            return Err(DirectoryError::Records(errors));
        }
        if records.is_empty() {
            return Err(DirectoryError::NoProvider);
        }
        Ok(Self::of(records, remarks))
    }

    /// Lays this provider's own record over the directory: its domains and certificate are known even before the
    /// published file has them, and `provider_of_domain` names it for them whoever else claims one.
    pub fn with_own(mut self, own: ProviderRecord) -> Self {
        self.remarks.retain(|remark| !matches!(remark, Remark::ClaimedTwice { .. }));
        self.records.insert(0, own);
        Directory { is_unknown: self.is_unknown, ..Self::of(self.records, self.remarks) }
    }

    /// Whether mail to a domain is certified mail (§2.2.1).
    pub fn is_certified(&self, domain: &Domain) -> bool {
        self.by_domain.contains_key(domain)
    }

    /// The provider a signer's certificate (DER) belongs to, with the domains that it speaks for (§2.2.2, §7).
    pub fn provider_of_certificate(&self, der: &[u8]) -> Option<&ProviderRecord> {
        self.signers.get(*self.by_certificate.get(der)?)
    }

    /// All signers' certificates (DER), in no particular order.
    pub fn certificates(&self) -> impl Iterator<Item = &[u8]> {
        self.by_certificate.keys().map(Vec::as_slice)
    }

    /// The provider, or its environment, that manages a domain.
    pub fn provider_of_domain(&self, domain: &Domain) -> Option<&ProviderRecord> {
        self.records.get(*self.by_domain.get(domain)?)
    }

    /// How many providers there are; environments of one name are one provider.
    pub fn providers(&self) -> usize {
        self.records.iter().map(|record| record.name.to_lowercase()).collect::<HashSet<_>>().len()
    }

    /// How many certified domains there are.
    pub fn domains(&self) -> usize {
        self.by_domain.len()
    }

    /// Every record, in the order of the file.
    pub fn records(&self) -> &[ProviderRecord] {
        &self.records
    }

    /// What the administrator should see, though the directory is in force.
    pub fn remarks(&self) -> &[Remark] {
        &self.remarks
    }

    fn of(records: Vec<ProviderRecord>, mut remarks: Vec<Remark>) -> Self {
        let by_domain = index_domains(&records, &mut remarks);
        let (by_certificate, signers) = index_certificates(&records);
        Directory { records, by_domain, by_certificate, signers, remarks, is_unknown: false }
    }
}

fn index_domains(records: &[ProviderRecord], remarks: &mut Vec<Remark>) -> HashMap<Domain, usize> {
    let mut by_domain = HashMap::with_capacity(records.iter().map(|record| record.domains.len()).sum());
    let mut names: Vec<&str> = Vec::with_capacity(records.len());
    let mut claimed_twice = Vec::new();
    for (place, record) in records.iter().enumerate() {
        names.push(&record.name);
        for domain in &record.domains {
            match by_domain.entry(domain.clone()) {
                Entry::Vacant(free) => _ = free.insert(place),
                Entry::Occupied(taken) => claimed_twice.extend(
                    names
                        .get(*taken.get())
                        // Environments of one provider may well share a domain, and its own record is laid over itself.
                        .filter(|first| first.to_lowercase() != record.name.to_lowercase())
                        .map(|first| (domain, *first, record.name.as_str())),
                ),
            }
        }
    }
    claimed_twice.sort();
    remarks.extend(claimed_twice.into_iter().map(|(domain, first, second)| Remark::ClaimedTwice {
        domain: domain.clone(),
        first: first.to_owned(),
        second: second.to_owned(),
    }));
    by_domain
}

fn index_certificates(records: &[ProviderRecord]) -> (HashMap<Vec<u8>, usize>, Vec<ProviderRecord>) {
    let mut listed_in: HashMap<&[u8], Vec<usize>> = HashMap::new();
    for (place, record) in records.iter().enumerate() {
        for certificate in &record.certificates {
            let places = listed_in.entry(certificate).or_default();
            // The same certificate twice in one record is still one listing.
            if places.last() != Some(&place) {
                places.push(place);
            }
        }
    }
    let mut signers = Vec::new();
    let mut signer_of: HashMap<Vec<usize>, usize> = HashMap::new();
    let mut by_certificate = HashMap::with_capacity(listed_in.len());
    for (certificate, places) in listed_in {
        let signer = match signer_of.get(&places) {
            Some(signer) => *signer,
            None => {
                let Some(record) = union(places.iter().filter_map(|place| records.get(*place))) else { continue };
                signers.push(record);
                signer_of.insert(places, signers.len() - 1);
                signers.len() - 1
            }
        };
        by_certificate.insert(certificate.to_vec(), signer);
    }
    (by_certificate, signers)
}

/// One record with the domains of all, named after the first main environment among them.
fn union<'r>(records: impl Iterator<Item = &'r ProviderRecord> + Clone) -> Option<ProviderRecord> {
    let mut whole = records.clone().min_by_key(|record| record.unit.is_some())?.clone();
    for record in records {
        whole.domains.extend(record.domains.iter().cloned());
    }
    Some(whole)
}

fn list(errors: &[RecordError]) -> String {
    let shown: Vec<String> = errors.iter().take(MOST_SHOWN).map(RecordError::to_string).collect();
    let more = errors.len() - shown.len();
    shown.join("\n") + &if more > 0 { format!("\nand {more} more") } else { String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Provider;
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use sha1::{Digest, Sha1};

    /// An entry; `certificates` are texts that stand for DER, this room only compares them.
    fn entry(name: &str, unit: Option<&str>, certificates: &[&str], domains: &[&str]) -> String {
        let unit_line = unit.map(|unit| format!("providerUnit: {unit}\n")).unwrap_or_default();
        let certificates: String = certificates
            .iter()
            .map(|text| {
                let hash: String = Sha1::digest(text).iter().map(|byte| format!("{byte:02X}")).collect();
                format!("providerCertificateHash: {hash}\nproviderCertificate;binary:: {}\n", STANDARD.encode(text))
            })
            .collect();
        let domains: String = domains.iter().map(|domain| format!("managedDomains: {domain}\n")).collect();
        format!(
            "dn: providerName={name},o=postacert\nobjectClass: provider\nproviderName: {name}\n{unit_line}\
             mailReceipt: ricevute@{}.example\n{certificates}{domains}\n",
            unit.unwrap_or(name).to_lowercase()
        )
    }

    fn domain(text: &str) -> Domain {
        text.parse().unwrap()
    }

    fn alfa() -> ProviderRecord {
        let provider = Provider {
            name: "Alfa".into(),
            sending_address: "posta-certificata@alfa.example".parse().unwrap(),
            service_mailbox: "ricevute@alfa.example".parse().unwrap(),
            mail_domains: vec![domain("alfa.example")],
        };
        ProviderRecord::own(&provider, vec![b"own".to_vec()])
    }

    #[test]
    fn domains_and_certificates_lead_to_their_provider() {
        let text = entry("Beta", None, &["old", "new"], &["beta.example", "PEC.beta.example"])
            + &entry("Delta", None, &["delta"], &["delta.example"]);
        let directory = Directory::from_ldif(text.as_bytes()).unwrap();
        assert_eq!((directory.providers(), directory.domains()), (2, 3));
        assert!(directory.is_certified(&domain("pec.beta.example")));
        assert!(!directory.is_certified(&domain("example")));
        for certificate in ["old", "new"] {
            let provider = directory.provider_of_certificate(certificate.as_bytes()).unwrap();
            assert_eq!(provider.name, "Beta");
            assert!(provider.manages(&domain("beta.example")) && !provider.manages(&domain("delta.example")));
        }
        assert_eq!(directory.provider_of_certificate(b"other"), None);
        assert_eq!(directory.provider_of_domain(&domain("delta.example")).unwrap().name, "Delta");
        assert_eq!(directory.remarks(), []);
    }

    #[test]
    fn an_environment_with_its_own_certificate_speaks_for_its_own_domains_only() {
        let text = entry("Beta", None, &["main"], &["beta.example"])
            + &entry("Beta", Some("Site"), &["site"], &["site.example"]);
        let directory = Directory::from_ldif(text.as_bytes()).unwrap();
        assert_eq!(directory.providers(), 1);
        let site = directory.provider_of_certificate(b"site").unwrap();
        assert!(site.manages(&domain("site.example")) && !site.manages(&domain("beta.example")));
        assert!(!directory.provider_of_certificate(b"main").unwrap().manages(&domain("site.example")));
    }

    #[test]
    fn environments_that_share_a_certificate_share_its_domains_and_keep_their_addresses() {
        let text = entry("Beta", Some("Site"), &["shared"], &["site.example"])
            + &entry("Beta", None, &["main", "shared"], &["beta.example"]);
        let directory = Directory::from_ldif(text.as_bytes()).unwrap();
        let shared = directory.provider_of_certificate(b"shared").unwrap();
        assert!(shared.manages(&domain("site.example")) && shared.manages(&domain("beta.example")));
        assert_eq!((shared.unit.as_deref(), shared.mail_receipt.as_str()), (None, "ricevute@beta.example"));
        assert!(!directory.provider_of_certificate(b"main").unwrap().manages(&domain("site.example")));
        let site = directory.provider_of_domain(&domain("site.example")).unwrap();
        assert_eq!(site.mail_receipt.as_str(), "ricevute@site.example");
    }

    #[test]
    fn a_domain_in_two_records_is_certified_by_both_and_belongs_to_the_first() {
        let text = entry("Beta", None, &["b"], &["both.example"])
            + &entry("Delta", None, &["d"], &["both.example", "d.example"]);
        let directory = Directory::from_ldif(text.as_bytes()).unwrap();
        assert_eq!(directory.provider_of_domain(&domain("both.example")).unwrap().name, "Beta");
        for certificate in [b"b", b"d"] {
            assert!(directory.provider_of_certificate(certificate).unwrap().manages(&domain("both.example")));
        }
        assert_eq!(
            directory.remarks(),
            [Remark::ClaimedTwice { domain: domain("both.example"), first: "Beta".into(), second: "Delta".into() }]
        );
    }

    #[test]
    fn the_own_record_lies_over_the_directory() {
        let own = Directory::empty().with_own(alfa());
        assert!(own.is_certified(&domain("alfa.example")));
        assert_eq!((own.providers(), own.domains()), (1, 1));

        let published = entry("Beta", None, &["b"], &["beta.example", "alfa.example"])
            + &entry("ALFA", None, &["own", "previous"], &["alfa.example", "other.example"]);
        let directory = Directory::from_ldif(published.as_bytes()).unwrap();
        assert_eq!(directory.provider_of_domain(&domain("alfa.example")).unwrap().name, "Beta");
        let directory = directory.with_own(alfa());
        assert_eq!(directory.provider_of_domain(&domain("alfa.example")).unwrap().name, "Alfa");
        let signer = directory.provider_of_certificate(b"own").unwrap();
        assert!(signer.manages(&domain("alfa.example")) && signer.manages(&domain("other.example")));
        assert!(directory.provider_of_certificate(b"previous").is_some());
        assert_eq!(directory.providers(), 2);
        // Beta's claim is told once, the own published record is no second claim.
        assert_eq!(directory.remarks().len(), 1);
    }

    #[test]
    fn one_unsound_record_refuses_the_file_and_all_are_named() {
        let text = entry("Beta", None, &["b"], &["beta.example"])
            + &entry("Delta", None, &[], &["delta.example"])
            + &entry("Echo", None, &["e"], &[]);
        let error = Directory::from_ldif(text.as_bytes()).unwrap_err().to_string();
        let lines: Vec<&str> = error.lines().collect();
        assert!(lines[0].starts_with("line 9: providerName=Delta,o=postacert: no providerCertificate"), "{error}");
        assert!(lines[1].starts_with("line 15: providerName=Echo,o=postacert: no managedDomains"), "{error}");
    }

    #[test]
    fn a_file_that_is_no_directory_is_refused() {
        assert_eq!(Directory::from_ldif(b"").unwrap_err(), DirectoryError::NoProvider);
        assert_eq!(Directory::from_ldif(b"dn: o=postacert\no: postacert\n").unwrap_err(), DirectoryError::NoProvider);
        assert!(matches!(Directory::from_ldif(b"<html>").unwrap_err(), DirectoryError::Ldif(_)));
        let many: String = (0..25).map(|n| entry(&format!("P{n}"), None, &[], &["x.example"])).collect();
        let error = Directory::from_ldif(many.as_bytes()).unwrap_err().to_string();
        assert_eq!((error.lines().count(), error.lines().last()), (21, Some("and 5 more")));
    }

    #[test]
    fn fifty_thousand_domains_are_all_found_again() {
        let names: Vec<String> = (0..50_000).map(|n| format!("d{n}.example")).collect();
        let domains: Vec<&str> = names.iter().map(String::as_str).collect();
        let text: String = domains
            .chunks(5_000)
            .enumerate()
            .map(|(n, chunk)| entry(&format!("P{n}"), None, &[&format!("c{n}")], chunk))
            .collect();
        let directory = Directory::from_ldif(text.as_bytes()).unwrap().with_own(alfa());
        assert_eq!((directory.providers(), directory.domains()), (11, 50_001));
        for (n, name) in names.iter().enumerate() {
            let provider = directory.provider_of_domain(&domain(name)).unwrap();
            assert_eq!(provider.name, format!("P{}", n / 5_000));
            let signer = directory.provider_of_certificate(format!("c{}", n / 5_000).as_bytes()).unwrap();
            assert!(signer.manages(&domain(name)));
        }
    }
}
