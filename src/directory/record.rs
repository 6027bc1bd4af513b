//! A provider's record: what its LDIF entry says, checked (§4.5.1 to §4.5.9).
//!
//! Decided here: which entries are providers, and which values are sound. An entry that lacks what the object class
//! demands, or is left with nothing usable of it, is an error: dropping it would turn a provider's certified mail into
//! anomalies without a word, so the caller keeps the older directory instead. A single value that can never match
//! anything (no domain name, a certificate without its hash, a hash without its certificate) is left out with a remark:
//! it takes nothing from anybody, and one slip of one provider must not keep all others from being updated.

use std::collections::HashSet;
use std::fmt::Write;

use sha1::{Digest, Sha1};

use crate::directory::ldif::{Attribute, LdifRecord};
use crate::model::{Address, Domain, InvalidAddress, Provider};

pub(super) const PROVIDER_NAME: &str = "providerName";
pub(super) const PROVIDER_UNIT: &str = "providerUnit";
pub(super) const MAIL_RECEIPT: &str = "mailReceipt";
pub(super) const MANAGED_DOMAINS: &str = "managedDomains";
/// §4.5.2
const PROVIDER_CERTIFICATE: &str = "providerCertificate";
pub(super) const PROVIDER_CERTIFICATE_HASH: &str = "providerCertificateHash";

/// The hexadecimal digits of a SHA-1 value.
const HASH_DIGITS: usize = 40;

/// One environment of a provider: the main one, or a secondary one with a `unit` (§4.5.7).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderRecord {
    pub name: String,
    pub unit: Option<String>,
    /// Where take-charges and virus detections go.
    pub mail_receipt: Address,
    pub domains: HashSet<Domain>,
    /// DER, each with its hash listed beside it.
    pub certificates: Vec<Vec<u8>>,
}

/// A provider's entry that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {dn}: {fault}")]
pub struct RecordError {
    pub line: usize,
    pub dn: String,
    pub fault: RecordFault,
}

/// What is wrong with a provider's entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordFault {
    #[error("no {0}, which every provider's record must have")]
    Missing(&'static str),
    #[error("{0} is there more than once, it must have a single value")]
    Repeated(&'static str),
    #[error("{0} is empty, holds control characters or is not UTF-8")]
    NotText(&'static str),
    #[error("mailReceipt is not an address: {0}")]
    MailReceipt(InvalidAddress),
    #[error("no value of managedDomains is a domain name")]
    NoDomain,
    #[error("no providerCertificate has its SHA-1 hash among the values of providerCertificateHash")]
    NoCertificate,
}

/// Something odd in the directory that takes nothing from anybody; for the administrator to see.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Remark {
    #[error("line {line}: {dn}: {value:?} in managedDomains is not a domain name, it is left out")]
    NotADomain { line: usize, dn: String, value: String },
    #[error("line {line}: {dn}: {value:?} in providerCertificateHash is not a SHA-1 hash, it is left out")]
    NotAHash { line: usize, dn: String, value: String },
    #[error("line {line}: {dn}: the SHA-1 hash {hash} of this certificate is not listed, the certificate is left out")]
    UnlistedCertificate { line: usize, dn: String, hash: String },
    #[error("line {line}: {dn}: no certificate with this SHA-1 hash is in the record, the hash is left out")]
    HashAlone { line: usize, dn: String },
    #[error("{domain} is claimed by {first} and by {second}; notifications to its provider go to the first")]
    ClaimedTwice { domain: Domain, first: String, second: String },
}

impl ProviderRecord {
    /// The record of this provider itself, as its configuration and its certificates (DER) have it.
    pub fn own(provider: &Provider, certificates: Vec<Vec<u8>>) -> Self {
        ProviderRecord {
            name: provider.name.clone(),
            unit: None,
            mail_receipt: provider.service_mailbox.clone(),
            domains: provider.mail_domains.iter().cloned().collect(),
            certificates,
        }
    }

    /// The name of the provider, with its environment where it is not the main one.
    pub fn full_name(&self) -> String {
        match &self.unit {
            Some(unit) => format!("{} ({unit})", self.name),
            None => self.name.clone(),
        }
    }

    /// Whether a domain is among `managedDomains`.
    pub fn manages(&self, domain: &Domain) -> bool {
        self.domains.contains(domain)
    }

    /// Reads an entry; none if it is not a provider's, as the root `o=postacert` is not.
    pub(super) fn read(entry: &LdifRecord, remarks: &mut Vec<Remark>) -> Result<Option<Self>, RecordError> {
        if !is_provider(entry) {
            return Ok(None);
        }
        read(entry, remarks).map(Some).map_err(|fault| RecordError { line: entry.line, dn: entry.dn.clone(), fault })
    }
}

/// By object class; an export without object classes still shows a provider by what only providers have.
fn is_provider(entry: &LdifRecord) -> bool {
    entry.values("objectclass").any(|class| class.value.trim_ascii().eq_ignore_ascii_case(b"provider"))
        || [PROVIDER_NAME, MANAGED_DOMAINS, PROVIDER_CERTIFICATE].iter().any(|name| !all(entry, name).is_empty())
}

fn read(entry: &LdifRecord, remarks: &mut Vec<Remark>) -> Result<ProviderRecord, RecordFault> {
    let name = required(entry, PROVIDER_NAME)?;
    let unit = single(entry, PROVIDER_UNIT)?;
    let mail_receipt = required(entry, MAIL_RECEIPT)?.parse().map_err(RecordFault::MailReceipt)?;
    let domains = domains(entry, remarks)?;
    let certificates = certificates(entry, remarks)?;
    Ok(ProviderRecord { name, unit, mail_receipt, domains, certificates })
}

fn domains(entry: &LdifRecord, remarks: &mut Vec<Remark>) -> Result<HashSet<Domain>, RecordFault> {
    let values = at_least_one(entry, MANAGED_DOMAINS)?;
    let mut domains = HashSet::with_capacity(values.len());
    for attribute in values {
        let value = String::from_utf8_lossy(&attribute.value);
        match value.trim().parse() {
            Ok(domain) => _ = domains.insert(domain),
            Err(_) => remarks.push(Remark::NotADomain {
                line: attribute.line,
                dn: entry.dn.clone(),
                value: value.into_owned(),
            }),
        }
    }
    if domains.is_empty() { Err(RecordFault::NoDomain) } else { Ok(domains) }
}

/// A certificate counts only with its hash: §2.2.2 finds a signer by the hash and then compares the certificates.
fn certificates(entry: &LdifRecord, remarks: &mut Vec<Remark>) -> Result<Vec<Vec<u8>>, RecordFault> {
    let (certificates, hashes) =
        (at_least_one(entry, PROVIDER_CERTIFICATE)?, at_least_one(entry, PROVIDER_CERTIFICATE_HASH)?);
    let mut listed = Vec::new();
    for attribute in hashes {
        match sha1_digits(&attribute.value) {
            Some(hash) => listed.push((attribute.line, hash)),
            None => remarks.push(Remark::NotAHash {
                line: attribute.line,
                dn: entry.dn.clone(),
                value: String::from_utf8_lossy(&attribute.value).into_owned(),
            }),
        }
    }
    let listed_hashes: HashSet<&str> = listed.iter().map(|(_, hash)| hash.as_str()).collect();
    let mut sound = Vec::new();
    let mut found = HashSet::new();
    for attribute in certificates {
        let hash = sha1_of(&attribute.value);
        if listed_hashes.contains(hash.as_str()) {
            sound.push(attribute.value.clone());
            found.insert(hash);
        } else {
            remarks.push(Remark::UnlistedCertificate { line: attribute.line, dn: entry.dn.clone(), hash });
        }
    }
    let alone = listed.iter().filter(|(_, hash)| !found.contains(hash));
    remarks.extend(alone.map(|(line, _)| Remark::HashAlone { line: *line, dn: entry.dn.clone() }));
    if sound.is_empty() { Err(RecordFault::NoCertificate) } else { Ok(sound) }
}

/// The digits of a hash in lower case. Some tools write them in groups, with colons or blanks between.
fn sha1_digits(value: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(value).ok()?;
    let digits: String = text.chars().filter(|c| *c != ':' && !c.is_ascii_whitespace()).collect();
    let is_hash = digits.len() == HASH_DIGITS && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hash.then(|| digits.to_ascii_lowercase())
}

/// The hash under which a certificate is listed (§4.5.1), in lower case.
pub fn sha1_of(certificate: &[u8]) -> String {
    let mut digits = String::with_capacity(HASH_DIGITS);
    for byte in Sha1::digest(certificate) {
        // Writing to a String cannot fail.
        let _ = write!(digits, "{byte:02x}");
    }
    digits
}

fn all<'e>(entry: &'e LdifRecord, name: &'static str) -> Vec<&'e Attribute> {
    entry.values(name).collect()
}

fn at_least_one<'e>(entry: &'e LdifRecord, name: &'static str) -> Result<Vec<&'e Attribute>, RecordFault> {
    let values = all(entry, name);
    if values.is_empty() { Err(RecordFault::Missing(name)) } else { Ok(values) }
}

fn required(entry: &LdifRecord, name: &'static str) -> Result<String, RecordFault> {
    single(entry, name)?.ok_or(RecordFault::Missing(name))
}

/// The value of a single-valued text attribute. It reaches log lines, so control characters have no place in it.
fn single(entry: &LdifRecord, name: &'static str) -> Result<Option<String>, RecordFault> {
    let values = all(entry, name);
    let attribute = match values.as_slice() {
        [] => return Ok(None),
        [attribute] => attribute,
        _ => return Err(RecordFault::Repeated(name)),
    };
    let text = std::str::from_utf8(&attribute.value).map_err(|_| RecordFault::NotText(name))?.trim();
    if text.is_empty() || text.chars().any(char::is_control) {
        return Err(RecordFault::NotText(name));
    }
    Ok(Some(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::ldif;

    /// SHA-1 of "one" and of "two", which stand for certificates: this room only compares them.
    const ONE: &str = "fe05bcdcdc4928012781a5f1a2a77cbb5398e106";
    const TWO: &str = "ad782ecdac770fc6eb9a62e44f90873fb97fb26b";
    const BETA: &str = "dn: providerName=Beta,o=postacert\nobjectclass: top\nobjectclass: provider\nproviderName: Beta S.p.A.\n\
                        mailReceipt: ricevute@beta.example\nmanagedDomains: beta.example\n\
                        providerCertificateHash: fe05bcdcdc4928012781a5f1a2a77cbb5398e106\nproviderCertificate;binary:: b25l\n";

    fn read_text(text: &str) -> (Result<Option<ProviderRecord>, RecordError>, Vec<Remark>) {
        let mut remarks = Vec::new();
        let entries = ldif::parse(text.as_bytes()).unwrap();
        (ProviderRecord::read(&entries[0], &mut remarks), remarks)
    }

    fn sound(text: &str) -> (ProviderRecord, Vec<Remark>) {
        let (record, remarks) = read_text(text);
        (record.unwrap().unwrap(), remarks)
    }

    #[test]
    fn a_record_holds_what_the_entry_says() {
        let (record, remarks) = sound(&format!(
            "{BETA}managedDomains: PEC.Beta.Example\nproviderUnit: Second site\nproviderCertificateHash: {TWO}\n\
             providerCertificate;binary:: dHdv\nLDIFLocationURL: https://beta.example/x.p7m\n"
        ));
        assert_eq!(remarks, []);
        assert_eq!((record.name.as_str(), record.unit.as_deref()), ("Beta S.p.A.", Some("Second site")));
        assert_eq!(record.mail_receipt.as_str(), "ricevute@beta.example");
        assert_eq!(record.certificates, [b"one".to_vec(), b"two".to_vec()]);
        assert!(record.manages(&"pec.beta.example".parse().unwrap()));
        assert!(!record.manages(&"example".parse().unwrap()));
    }

    #[test]
    fn the_root_is_no_provider_and_a_provider_is_known_without_its_object_class() {
        let root =
            "dn: o=postacert\nobjectclass: top\nobjectClass: LDIFLocationURLObject\nLDIFLocationURL: https://x\n";
        assert_eq!(read_text(root), (Ok(None), vec![]));
        sound(&BETA.replace("objectclass: provider\n", ""));
        assert!(read_text("dn: o=x\nobjectClass: PROVIDER\n").0.is_err());
    }

    #[test]
    fn an_entry_without_what_the_class_demands_is_an_error() {
        let cases = [
            ("providerName: Beta S.p.A.\n", "", "no providerName"),
            ("providerName: Beta S.p.A.\n", "providerName: \n", "providerName is empty"),
            ("providerName: Beta S.p.A.\n", "providerName:: QQpC\n", "providerName is empty, holds control"),
            ("providerName: Beta S.p.A.\n", "providerName:: /w==\n", "providerName is empty, holds control"),
            ("providerName: Beta S.p.A.\n", "providerName: A\nproviderName: B\n", "providerName is there more than"),
            ("mailReceipt: ricevute@beta.example\n", "", "no mailReceipt"),
            ("mailReceipt: ricevute@beta.example\n", "mailReceipt: beta\n", "mailReceipt is not an address: \"beta\""),
            ("managedDomains: beta.example\n", "", "no managedDomains"),
            ("managedDomains: beta.example\n", "managedDomains: b_eta\n", "no value of managedDomains"),
            ("providerCertificate;binary:: b25l\n", "", "no providerCertificate,"),
            ("providerCertificateHash: ", "description: ", "no providerCertificateHash"),
            ("b25l", "dHdv", "no providerCertificate has its SHA-1 hash"),
        ];
        for (old, new, expected) in cases {
            let error = read_text(&BETA.replace(old, new)).0.unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("line 1: providerName=Beta,o=postacert: {expected}")),
                "{new:?}: {error}"
            );
        }
    }

    #[test]
    fn hashes_are_read_as_people_write_them() {
        let grouped: String = ONE.to_ascii_uppercase().as_bytes().chunks(2).fold(String::new(), |mut text, pair| {
            text.push_str(std::str::from_utf8(pair).unwrap());
            text + ": "
        });
        assert_eq!(sound(&BETA.replace(ONE, grouped.trim_end_matches(": "))), sound(BETA));
    }

    #[test]
    fn dead_values_are_left_out_with_a_remark() {
        let (record, remarks) = sound(&format!(
            "{BETA}managedDomains: not a domain\nproviderCertificateHash: abc\nproviderCertificateHash: {TWO}\n\
             providerCertificate:: dGhyZWU=\n"
        ));
        assert_eq!((record.domains.len(), record.certificates.len()), (1, 1));
        let texts: Vec<String> = remarks.iter().map(Remark::to_string).collect();
        assert!(texts[0].starts_with("line 9: ") && texts[0].contains("\"not a domain\""), "{texts:?}");
        assert!(texts[1].starts_with("line 10: ") && texts[1].contains("\"abc\" in providerCertificateHash"));
        assert!(texts[2].starts_with("line 12: ") && texts[2].contains("is not listed"));
        assert!(texts[3].starts_with("line 11: ") && texts[3].contains("no certificate with this SHA-1 hash"));
    }
}
