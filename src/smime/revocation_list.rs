//! One revocation list of a CA (RFC 5280 §5): what it says of itself, and whether it may take another's place (§2.2.2).
//!
//! A list counts only with the certificate of the CA that signed it. Lists of the same CA and scope follow each other by
//! number and instant; an older one never replaces a newer one, however validly it is signed. Whether the CA is trusted
//! and what a list means for a message is decided in `path.rs`. Fails with the [`RevocationListError`] that names the CA.

use std::cmp::Ordering;

use const_oid::ObjectIdentifier;
use const_oid::db::rfc5280::{ID_CE_CRL_NUMBER, ID_CE_DELTA_CRL_INDICATOR, ID_CE_ISSUING_DISTRIBUTION_POINT};
use der::Decode;
use memchr::memmem;
use openssl::asn1::{Asn1Time, Asn1TimeRef};
use openssl::error::ErrorStack;
use openssl::x509::{CrlStatus, X509, X509Crl, X509NameRef, X509Ref};
use sha2::{Digest, Sha256};
use x509_cert::name::Name;

use super::ber::{BOOLEAN, BerError, Element, INTEGER, OBJECT_IDENTIFIER, SEQUENCE};
use super::cms::Oid;
use crate::model::TemporalReference;

/// A CA with a million revoked certificates has a list of some 40 MB; what is larger is no list.
pub const LARGEST_LIST: usize = 64 * 1024 * 1024;

const PEM: &[u8] = b"-----BEGIN X509 CRL-----";
/// The explicit tag of crlExtensions.
const EXTENSIONS: u8 = 0xa0;
/// The explicit tag of distributionPoint in issuingDistributionPoint.
const DISTRIBUTION_POINT: u8 = 0xa0;
const DAY: i64 = 86_400;

/// A list that a known CA signed.
pub struct RevocationList {
    list: X509Crl,
    issuer: X509,
    issuer_name: String,
    scope: [u8; 32],
    /// The value of issuingDistributionPoint; empty where it has none.
    distribution_point: Vec<u8>,
    /// Big-endian, without leading zeros.
    number: Option<Vec<u8>>,
    this_update: i64,
    next_update: i64,
}

/// Why octets are not a list that may be used.
#[derive(Debug, thiserror::Error)]
pub enum RevocationListError {
    #[error("it has {0} octets, more than {LARGEST_LIST}")]
    TooLarge(usize),
    #[error("it is not a revocation list in PEM or DER")]
    NotReadable(#[source] ErrorStack),
    #[error("its extensions cannot be read")]
    Extensions(#[from] BerError),
    #[error("the list of {issuer} does not say when the next one is due")]
    NoNextUpdate { issuer: String },
    #[error("the list of {issuer} tells only changes to another list")]
    Delta { issuer: String },
    #[error("no trusted CA is called {issuer}; add its certificate to trust.ca_file")]
    UnknownIssuer { issuer: String },
    #[error("it is FORGED: {issuer} did not sign it")]
    Forged { issuer: String },
    #[error("the list of {issuer} is not valid before {}", shown(*this_update))]
    NotYetValid { issuer: String, this_update: i64 },
    #[error("it is OLDER than the list of {issuer} that is held: issued {}, held {}", shown(*found), shown(*held))]
    Older { issuer: String, found: i64, held: i64 },
}

impl RevocationList {
    /// Reads a list in PEM or DER; `issuers` are the trusted CAs, of which one must have signed it.
    pub fn read(octets: &[u8], issuers: impl IntoIterator<Item = X509>) -> Result<Self, RevocationListError> {
        if octets.len() > LARGEST_LIST {
            return Err(RevocationListError::TooLarge(octets.len()));
        }
        let is_pem = memmem::find(octets, PEM).is_some();
        let list = if is_pem { X509Crl::from_pem(octets) } else { X509Crl::from_der(octets) };
        let list = list.map_err(RevocationListError::NotReadable)?;
        let issuer_name = readable(list.issuer_name());
        let (mut is_known, mut signer) = (false, None);
        for issuer in issuers.into_iter().filter(|issuer| has_name(issuer, list.issuer_name())) {
            is_known = true;
            if issuer.public_key().and_then(|key| list.verify(&key)).unwrap_or(false) {
                signer = Some(issuer);
                break;
            }
        }
        // What a failed check leaves in this thread's queue would show up as the cause of some later error.
        drop(ErrorStack::get());
        let issuer = match signer {
            Some(issuer) => issuer,
            None if is_known => return Err(RevocationListError::Forged { issuer: issuer_name }),
            None => return Err(RevocationListError::UnknownIssuer { issuer: issuer_name }),
        };
        let der = list.to_der().map_err(RevocationListError::NotReadable)?;
        let extensions = Extensions::read(&der)?;
        if extensions.is_delta {
            return Err(RevocationListError::Delta { issuer: issuer_name });
        }
        let this_update = unix(list.last_update()).map_err(RevocationListError::NotReadable)?;
        let next_update = match list.next_update() {
            Some(next) => unix(next).map_err(RevocationListError::NotReadable)?,
            None => return Err(RevocationListError::NoNextUpdate { issuer: issuer_name }),
        };
        let key = issuer.public_key().and_then(|key| key.public_key_to_der());
        let key = key.map_err(RevocationListError::NotReadable)?;
        let scope = Sha256::new().chain_update(Sha256::digest(key)).chain_update(&extensions.distribution_point);
        let (scope, number) = (scope.finalize().into(), extensions.number);
        let distribution_point = extensions.distribution_point;
        Ok(RevocationList { list, issuer, issuer_name, scope, distribution_point, number, this_update, next_update })
    }

    /// This list, if it may take the place of one that is held; `None` where it is the same again.
    pub fn succeeding(self, held: Option<&Self>, at: TemporalReference) -> Result<Option<Self>, RevocationListError> {
        let issuer = self.issuer_name.clone();
        if self.this_update > at.unix() {
            return Err(RevocationListError::NotYetValid { issuer, this_update: self.this_update });
        }
        let Some(held) = held else { return Ok(Some(self)) };
        match self.order(held) {
            Ordering::Greater => Ok(Some(self)),
            Ordering::Equal => Ok(None),
            Ordering::Less => {
                Err(RevocationListError::Older { issuer, found: self.this_update, held: held.this_update })
            }
        }
    }

    /// Which of two lists of one scope was issued later. Both orders must agree: a higher number that was issued earlier
    /// is none that a CA makes.
    fn order(&self, other: &Self) -> Ordering {
        let numbers = match (&self.number, &other.number) {
            (Some(own), Some(other)) => own.len().cmp(&other.len()).then_with(|| own.cmp(other)),
            _ => Ordering::Equal,
        };
        let instants = self.this_update.cmp(&other.this_update);
        if numbers == Ordering::Less || instants == Ordering::Less { Ordering::Less } else { numbers.max(instants) }
    }

    /// The CA's name for people.
    pub fn issuer_name(&self) -> &str {
        &self.issuer_name
    }

    /// The CA that signed it.
    pub fn issuer(&self) -> &X509 {
        &self.issuer
    }

    /// The same for all lists that replace each other: CA key and distribution point.
    pub fn scope(&self) -> [u8; 32] {
        self.scope
    }

    /// When it was issued, as Unix time.
    pub fn this_update(&self) -> i64 {
        self.this_update
    }

    /// When it is out of date, as Unix time.
    pub fn next_update(&self) -> i64 {
        self.next_update
    }

    /// How many certificates it revokes.
    pub fn revoked(&self) -> usize {
        self.list.get_revoked().map_or(0, |revoked| revoked.len())
    }

    pub fn to_pem(&self) -> Result<Vec<u8>, ErrorStack> {
        self.list.to_pem()
    }

    /// Whether a certificate's revocation would stand on this list: it is its CA's, and of the certificate's distribution
    /// point where the CA has several (RFC 5280 §5.2.5).
    pub fn covers(&self, certificate: &X509Ref) -> bool {
        let points = distribution_points(certificate);
        let mut addresses = points.iter().flat_map(|point| &point.0);
        has_name(&self.issuer, certificate.issuer_name())
            && (!self.has_own_point()
                || addresses.any(|address| memmem::find(&self.distribution_point, address.as_bytes()).is_some()))
    }

    /// Whether it is only for the certificates that name the same distribution point.
    fn has_own_point(&self) -> bool {
        let fields = Element::first(&self.distribution_point).ok().and_then(|value| value.children().next());
        matches!(fields, Some(Ok(field)) if field.has_tag(DISTRIBUTION_POINT))
    }

    /// Since when this list revokes a certificate of its CA.
    pub(super) fn revoked_since(&self, certificate: &X509) -> Option<String> {
        if !has_name(&self.issuer, certificate.issuer_name()) {
            return None;
        }
        match self.list.get_by_cert(certificate) {
            CrlStatus::Revoked(entry) => Some(entry.revocation_date().to_string()),
            CrlStatus::NotRevoked | CrlStatus::RemoveFromCrl(_) => None,
        }
    }
}

/// How far a list is from its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Condition {
    InDate,
    /// It will soon be out of date, and the next one should have come.
    Ending,
    OutOfDate,
}

impl RevocationList {
    /// `interval` is how often, in seconds, a new one is looked for: two tries before the end, or an eighth of its life.
    pub fn condition(&self, at: TemporalReference, interval: u64) -> Condition {
        let life = self.next_update.saturating_sub(self.this_update);
        let tries = i64::try_from(interval).unwrap_or(i64::MAX).saturating_mul(2);
        let soon = tries.max(life / 8).min(life / 2);
        match self.next_update.saturating_sub(at.unix()) {
            left if left <= 0 => Condition::OutOfDate,
            left if left < soon => Condition::Ending,
            _ => Condition::InDate,
        }
    }
}

/// Of lists of the same scope the newest, in no particular order.
pub fn newest(lists: impl IntoIterator<Item = RevocationList>) -> Vec<RevocationList> {
    let mut newest: Vec<RevocationList> = Vec::new();
    for list in lists {
        match newest.iter_mut().find(|held| held.scope == list.scope) {
            Some(held) if list.order(held) == Ordering::Greater => *held = list,
            Some(_) => {}
            None => newest.push(list),
        }
    }
    newest
}

/// Where a CA publishes a list: addresses of one and the same, the first one that answers is enough (RFC 5280 §4.2.1.13).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DistributionPoint(pub Vec<String>);

/// The distribution points of a certificate with those of their addresses that are http.
pub fn distribution_points(certificate: &X509Ref) -> Vec<DistributionPoint> {
    let points = certificate.crl_distribution_points();
    let names = points.iter().flatten().filter_map(|point| point.distpoint()?.fullname());
    let addresses = names.map(|names| names.iter().filter_map(|name| name.uri()).filter(|uri| is_http(uri)));
    let points = addresses.map(|addresses| DistributionPoint(addresses.map(str::to_owned).collect()));
    points.filter(|point| !point.0.is_empty()).collect()
}

fn is_http(address: &str) -> bool {
    address.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("http://"))
}

/// A name for people, in the form of RFC 4514.
pub fn readable(name: &X509NameRef) -> String {
    let name = name.to_der().ok().and_then(|der| Name::from_der(&der).ok());
    name.map_or_else(|| "an unreadable name".to_owned(), |name| name.to_string())
}

/// What the extensions say of a list.
#[derive(Default)]
struct Extensions {
    number: Option<Vec<u8>>,
    is_delta: bool,
    distribution_point: Vec<u8>,
}

impl Extensions {
    fn read(der: &[u8]) -> Result<Self, BerError> {
        let mut found = Extensions::default();
        let to_be_signed = Element::first(der)?.children().required(SEQUENCE)?;
        for part in to_be_signed.children() {
            let part = part?;
            if !part.has_tag(EXTENSIONS) {
                continue;
            }
            for extension in part.children().required(SEQUENCE)?.children() {
                let mut fields = extension?.children();
                let oid = Oid::of(fields.required(OBJECT_IDENTIFIER)?)?;
                fields.optional(BOOLEAN)?;
                let value = fields.next().ok_or(BerError::Truncated)??.octet_string()?;
                let is = |known: ObjectIdentifier| oid.is(known);
                if is(ID_CE_CRL_NUMBER) {
                    let digits = Element::first(&value)?.expect(INTEGER)?.content();
                    found.number = Some(digits.iter().copied().skip_while(|digit| *digit == 0).collect());
                } else if is(ID_CE_ISSUING_DISTRIBUTION_POINT) {
                    found.distribution_point = value.to_vec();
                } else if is(ID_CE_DELTA_CRL_INDICATOR) {
                    found.is_delta = true;
                }
            }
        }
        Ok(found)
    }
}

fn has_name(certificate: &X509, name: &X509NameRef) -> bool {
    certificate.subject_name().try_cmp(name).is_ok_and(Ordering::is_eq)
}

fn unix(time: &Asn1TimeRef) -> Result<i64, ErrorStack> {
    let since = Asn1Time::from_unix(0)?.diff(time)?;
    Ok(i64::from(since.days) * DAY + i64::from(since.secs))
}

fn shown(unix: i64) -> String {
    let at = TemporalReference::from_unix(unix);
    format!("{} {} {}", at.day(), at.time(), at.zone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smime::testing::{NOW, read, root_list, x509};

    fn list(number: u32, this_update: i64) -> RevocationList {
        read_list(&root_list(number, this_update, this_update + 100, &["issuing"], "unrelated-key")).unwrap()
    }

    fn read_list(octets: &[u8]) -> Result<RevocationList, RevocationListError> {
        RevocationList::read(octets, [x509("other-root"), x509("root")])
    }

    fn at(unix: i64) -> TemporalReference {
        TemporalReference::from_unix(unix)
    }

    #[test]
    fn a_list_tells_what_it_is_in_pem_as_in_der() {
        let der = list(7, NOW);
        let pem = read_list(&[b"Source: x\n", &der.to_pem().unwrap()[..]].concat()).unwrap();
        for list in [der, pem] {
            assert_eq!((list.this_update(), list.next_update(), list.revoked()), (NOW, NOW + 100, 1));
            assert_eq!((list.issuer_name(), list.number.as_deref()), ("CN=Test Root,O=Test Agency", Some(&[7][..])));
            assert!(list.revoked_since(&x509("issuing")).is_some());
            assert!(list.revoked_since(&x509("root")).is_none());
            assert!(list.covers(&x509("issuing")) && list.covers(&x509("root")));
            assert!(!list.covers(&x509("provider")) && !list.covers(&x509("other-root")));
        }
    }

    #[test]
    fn a_list_of_one_distribution_point_covers_no_certificate_that_does_not_name_it() {
        let uri = |address: &str| tagged(0x86, address.as_bytes());
        let of = |address: &str| tagged(0x30, &tagged(0xa0, &tagged(0xa0, &uri(address))));
        let with = |distribution_point| RevocationList { distribution_point, ..list(1, NOW) };
        let flags_alone = tagged(0x30, &[0x81, 1, 0xff]);
        assert!(!with(of("http://crl.example/2.crl")).covers(&x509("issuing")));
        assert!(with(flags_alone).covers(&x509("issuing")));
    }

    fn tagged(tag: u8, content: &[u8]) -> Vec<u8> {
        [&[tag, u8::try_from(content.len()).unwrap()], content].concat()
    }

    #[test]
    fn only_the_ca_itself_makes_its_list() {
        let forged = root_list(1, NOW, NOW + 100, &[], "provider-key");
        assert!(matches!(read_list(&forged), Err(RevocationListError::Forged { .. })));
        let unknown = read_list(&read("certificates/issuing.crl"));
        assert!(
            matches!(unknown, Err(RevocationListError::UnknownIssuer { issuer }) if issuer.contains("Test Issuing CA"))
        );
        assert!(matches!(read_list(b"<html>"), Err(RevocationListError::NotReadable(_))));
        assert!(matches!(read_list(&vec![0; LARGEST_LIST + 1]), Err(RevocationListError::TooLarge(_))));
    }

    #[test]
    fn an_older_list_never_takes_the_place_of_a_newer_one() {
        let held = list(300, NOW);
        let is_taken = |fresh: RevocationList| fresh.succeeding(Some(&held), at(NOW + 50)).map(|list| list.is_some());
        assert!(is_taken(list(301, NOW + 1)).unwrap());
        assert!(is_taken(list(301, NOW)).unwrap());
        assert!(!is_taken(list(300, NOW)).unwrap());
        for (number, this_update) in [(299, NOW + 1), (301, NOW - 1), (299, NOW), (300, NOW - 1), (44, NOW)] {
            let refused = is_taken(list(number, this_update));
            assert!(matches!(refused, Err(RevocationListError::Older { .. })), "{number}, {this_update}");
        }
        assert!(matches!(list(1, NOW).succeeding(None, at(NOW - 1)), Err(RevocationListError::NotYetValid { .. })));
        assert_eq!(newest([list(300, NOW), list(301, NOW), list(299, NOW)])[0].number.as_deref(), Some(&[1, 45][..]));
    }

    #[test]
    fn a_list_is_told_of_before_it_ends() {
        let list = list(1, NOW);
        let condition = |after: i64, interval| list.condition(at(NOW + after), interval);
        assert_eq!(condition(50, 3600), Condition::InDate);
        assert_eq!(condition(51, 3600), Condition::Ending);
        assert_eq!(condition(88, 1), Condition::InDate);
        assert_eq!(condition(89, 1), Condition::Ending);
        assert_eq!(condition(99, 1), Condition::Ending);
        assert_eq!(condition(100, 1), Condition::OutOfDate);
    }
}
