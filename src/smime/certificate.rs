//! A signer's certificate: its exact octets, and what the rules ask about it (§2.2.2, §5.5).
//!
//! The exact octets matter, because the providers directory knows certificates by their hash (§4.5). Reading is lenient
//! where a stranger's certificate may be odd (an extension that cannot be read is treated as the one that forbids);
//! whether the certificate is any good is decided in `path.rs`, for our own in `profile.rs`. Fails when the octets are
//! not an X.509 certificate, or when its key is not RSA.

use std::cmp::Ordering;
use std::error::Error;

use const_oid::ObjectIdentifier;
use const_oid::db::rfc4519::{COMMON_NAME, ORGANIZATION_NAME};
use const_oid::db::rfc5280::{
    ID_CE_BASIC_CONSTRAINTS, ID_CE_EXT_KEY_USAGE, ID_CE_KEY_USAGE, ID_CE_SUBJECT_ALT_NAME,
    ID_CE_SUBJECT_KEY_IDENTIFIER, ID_KP_EMAIL_PROTECTION,
};
use const_oid::db::rfc5912::RSA_ENCRYPTION;
use der::{Any, Decode, Encode, Tag, Tagged};
use openssl::x509::X509Name;
use rsa::{BigUint, RsaPublicKey};
use sha2::{Digest, Sha256};
use x509_cert::Certificate;
use x509_cert::ext::Extension;
use x509_cert::name::Name;
use x509_cert::time::Time;

use super::ber::{BOOLEAN, BerError, Element};
use super::cms::{Oid, SignerIdentifier};

/// The longest key that is worked with: what a longer one costs per signature would be a way to keep us busy.
const LARGEST_KEY_BITS: usize = 8192;

/// The alternative of GeneralName that is a mail address.
const RFC822_NAME: u8 = 0x81;

/// Why octets are not a certificate that can verify signatures.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    #[error("this is not an X.509 certificate in DER")]
    Malformed(#[source] der::Error),
    #[error("the key of {subject} is not RSA but {algorithm}")]
    NotRsa { subject: String, algorithm: ObjectIdentifier },
    #[error("the RSA key of {subject} cannot be used")]
    Key {
        subject: String,
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
}

/// A certificate that signs messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignerCertificate {
    der: Vec<u8>,
    parsed: Certificate,
    subject: String,
    provider_names: Vec<String>,
    mail_addresses: Vec<String>,
}

impl SignerCertificate {
    pub fn from_der(der: &[u8]) -> Result<Self, CertificateError> {
        let parsed = Certificate::from_der(der).map_err(CertificateError::Malformed)?;
        let subject = &parsed.tbs_certificate.subject;
        Ok(SignerCertificate {
            der: der.to_vec(),
            subject: subject.to_string(),
            provider_names: subject_values(subject, &[ORGANIZATION_NAME, COMMON_NAME]),
            mail_addresses: mail_addresses(&parsed),
            parsed,
        })
    }

    /// The octets as they came.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// SHA-256 of its octets.
    pub fn sha256(&self) -> [u8; 32] {
        Sha256::digest(&self.der).into()
    }

    /// The serial number as OpenSSL writes it: hexadecimal, upper case.
    pub fn serial(&self) -> String {
        without_leading_zeros(self.parsed.tbs_certificate.serial_number.as_bytes())
            .iter()
            .map(|octet| format!("{octet:02X}"))
            .collect()
    }

    /// The subject's name for people, in the form of RFC 4514.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// What may be the provider's name: each O and CN of the subject (§5.5).
    pub fn provider_names(&self) -> &[String] {
        &self.provider_names
    }

    /// The mail addresses of subjectAltName (§5.5).
    pub fn mail_addresses(&self) -> &[String] {
        &self.mail_addresses
    }

    /// The first second of its validity, as Unix time.
    pub fn not_before(&self) -> i64 {
        unix(self.parsed.tbs_certificate.validity.not_before)
    }

    /// The last second of its validity, as Unix time.
    pub fn not_after(&self) -> i64 {
        unix(self.parsed.tbs_certificate.validity.not_after)
    }

    /// Whether issuer and subject are the same, as in a root.
    pub fn is_self_issued(&self) -> bool {
        self.parsed.tbs_certificate.issuer == self.parsed.tbs_certificate.subject
    }

    /// Whether the keyUsage allows digital signatures; none if there is no keyUsage.
    pub fn allows_digital_signature(&self) -> Option<bool> {
        let usage = self.extension_value(ID_CE_KEY_USAGE)?;
        // The first octet of a BIT STRING counts unused bits; digitalSignature is the first bit of the second.
        Some(usage.is_ok_and(|bits| bits.content().get(1).is_some_and(|octet| octet & 0x80 != 0)))
    }

    /// Whether extendedKeyUsage lists emailProtection; none if there is no extendedKeyUsage.
    pub fn allows_email_protection(&self) -> Option<bool> {
        let purposes = self.extension_value(ID_CE_EXT_KEY_USAGE)?;
        let is_email = |purpose: Result<Element<'_>, BerError>| {
            purpose.and_then(Oid::of).is_ok_and(|oid| oid.is(ID_KP_EMAIL_PROTECTION))
        };
        Some(purposes.is_ok_and(|purposes| purposes.children().any(is_email)))
    }

    /// Whether basicConstraints makes it a CA; none if there is no basicConstraints.
    pub fn is_ca(&self) -> Option<bool> {
        let constraints = self.extension_value(ID_CE_BASIC_CONSTRAINTS)?;
        let flag = constraints.and_then(|constraints| constraints.children().optional(BOOLEAN));
        // cA is FALSE by default, and is not written then.
        Some(flag.map_or(true, |flag| flag.is_some_and(|flag| flag.content() != [0])))
    }

    /// Everything inside, for rules about other fields.
    pub(super) fn parsed(&self) -> &Certificate {
        &self.parsed
    }

    pub(super) fn extension(&self, oid: ObjectIdentifier) -> Option<&Extension> {
        extension(&self.parsed, oid)
    }

    /// Whether a SignerInfo means this certificate.
    pub(super) fn is_named_by(&self, identifier: &SignerIdentifier<'_>) -> bool {
        match identifier {
            SignerIdentifier::IssuerAndSerial { issuer, serial } => {
                let own = self.parsed.tbs_certificate.serial_number.as_bytes();
                without_leading_zeros(own) == without_leading_zeros(serial) && self.is_issued_by(issuer)
            }
            SignerIdentifier::KeyIdentifier(identifier) => {
                let own = self.extension_value(ID_CE_SUBJECT_KEY_IDENTIFIER).and_then(Result::ok);
                own.is_some_and(|own| own.octets().is_ok_and(|own| own == *identifier))
            }
        }
    }

    /// Names are compared as RFC 5280 §7.1 wants it: signers copy the name, but not always its string types.
    fn is_issued_by(&self, issuer: &[u8]) -> bool {
        let Ok(own) = self.parsed.tbs_certificate.issuer.to_der() else {
            return false;
        };
        let names = X509Name::from_der(&own).and_then(|own| Ok((own, X509Name::from_der(issuer)?)));
        names.is_ok_and(|(own, issuer)| own.try_cmp(&issuer).is_ok_and(Ordering::is_eq))
    }

    pub(super) fn rsa_key(&self) -> Result<RsaPublicKey, CertificateError> {
        let info = &self.parsed.tbs_certificate.subject_public_key_info;
        if info.algorithm.oid != RSA_ENCRYPTION {
            return Err(CertificateError::NotRsa { subject: self.subject.clone(), algorithm: info.algorithm.oid });
        }
        let unusable =
            |source: Box<dyn Error + Send + Sync>| CertificateError::Key { subject: self.subject.clone(), source };
        let octets = info.subject_public_key.raw_bytes();
        let key = rsa::pkcs1::RsaPublicKey::from_der(octets).map_err(|source| unusable(source.into()))?;
        let (modulus, exponent) = (key.modulus.as_bytes(), key.public_exponent.as_bytes());
        RsaPublicKey::new_with_max_size(
            BigUint::from_bytes_be(modulus),
            BigUint::from_bytes_be(exponent),
            LARGEST_KEY_BITS,
        )
        .map_err(|source| unusable(source.into()))
    }

    fn extension_value(&self, oid: ObjectIdentifier) -> Option<Result<Element<'_>, BerError>> {
        self.extension(oid).map(|extension| Element::first(extension.extn_value.as_bytes()))
    }
}

pub(super) fn extension(certificate: &Certificate, oid: ObjectIdentifier) -> Option<&Extension> {
    certificate.tbs_certificate.extensions.iter().flatten().find(|extension| extension.extn_id == oid)
}

/// The values of some attributes of a name, in their order.
pub(super) fn subject_values(name: &Name, types: &[ObjectIdentifier]) -> Vec<String> {
    let pairs = name.0.iter().flat_map(|rdn| rdn.0.iter());
    pairs.filter(|pair| types.contains(&pair.oid)).filter_map(|pair| text(&pair.value)).collect()
}

/// The text of one of the string types of DirectoryString (RFC 5280 §4.1.2.4).
fn text(value: &Any) -> Option<String> {
    let octets = value.value();
    match value.tag() {
        // Teletex is a character set of its own; all that was ever written into certificates with it is ISO 8859-1.
        Tag::TeletexString => Some(octets.iter().copied().map(char::from).collect()),
        Tag::BmpString => {
            let units = octets.chunks_exact(2).filter_map(|pair| pair.try_into().ok().map(u16::from_be_bytes));
            String::from_utf16(&units.collect::<Vec<_>>()).ok()
        }
        _ => String::from_utf8(octets.to_vec()).ok(),
    }
}

fn mail_addresses(certificate: &Certificate) -> Vec<String> {
    let names = extension(certificate, ID_CE_SUBJECT_ALT_NAME);
    let names = names.and_then(|names| Element::first(names.extn_value.as_bytes()).ok());
    let addresses = names.into_iter().flat_map(|names| names.children()).filter_map(Result::ok);
    addresses
        .filter(|name| name.has_tag(RFC822_NAME))
        .filter_map(|name| String::from_utf8(name.content().to_vec()).ok())
        .collect()
}

fn unix(time: Time) -> i64 {
    i64::try_from(time.to_unix_duration().as_secs()).unwrap_or(i64::MAX)
}

fn without_leading_zeros(octets: &[u8]) -> &[u8] {
    let zeros = octets.iter().take_while(|octet| **octet == 0).count();
    octets.get(zeros..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smime::testing::certificate;

    #[test]
    fn a_provider_certificate_tells_what_the_rules_ask() {
        let provider = certificate("provider");
        assert_eq!(provider.subject(), "CN=Posta Certificata Alfa,O=Alfa PEC S.p.A.");
        assert_eq!(provider.provider_names(), ["Alfa PEC S.p.A.", "Posta Certificata Alfa"]);
        assert_eq!(provider.mail_addresses(), ["posta-certificata@alfa.example"]);
        assert_eq!((provider.not_before(), provider.not_after()), (1_577_836_800, 3_786_912_000));
        assert_eq!(provider.serial().len() % 2, 0);
        assert_eq!(provider.allows_digital_signature(), Some(true));
        assert_eq!(provider.allows_email_protection(), Some(true));
        assert_eq!(provider.is_ca(), None);
        assert!(!provider.is_self_issued());
    }

    #[test]
    fn the_hash_is_over_the_exact_octets() {
        let provider = certificate("provider");
        let expected = openssl::hash::hash(openssl::hash::MessageDigest::sha256(), provider.der()).unwrap();
        assert_eq!(provider.sha256()[..], expected[..]);
    }

    #[test]
    fn restrictions_are_seen() {
        assert_eq!(certificate("encipherment").allows_digital_signature(), Some(false));
        assert_eq!(certificate("server-eku").allows_email_protection(), Some(false));
        assert_eq!(certificate("no-eku").allows_email_protection(), None);
        assert_eq!(certificate("ca-signer").is_ca(), Some(true));
        assert_eq!(certificate("careless").is_ca(), Some(false));
        assert!(certificate("root").is_self_issued());
    }

    #[test]
    fn names_are_read_in_every_string_type() {
        let name = |tag, octets: &[u8]| text(&Any::new(tag, octets).unwrap());
        assert_eq!(name(Tag::Utf8String, "Però".as_bytes()).unwrap(), "Però");
        assert_eq!(name(Tag::PrintableString, b"Alfa").unwrap(), "Alfa");
        assert_eq!(name(Tag::TeletexString, b"Per\xf2").unwrap(), "Però");
        assert_eq!(name(Tag::BmpString, &[0, b'P', 0, 0xf2]).unwrap(), "Pò");
        assert_eq!(name(Tag::Utf8String, &[0xff]), None);
    }

    #[test]
    fn a_name_matches_whatever_its_string_types() {
        let issuer = |organization| {
            let mut name = X509Name::builder().unwrap();
            name.append_entry_by_text("O", organization).unwrap();
            name.append_entry_by_text("CN", "Test Issuing CA").unwrap();
            name.build().to_der().unwrap()
        };
        assert!(certificate("provider").is_issued_by(&issuer("TEST  agency")));
        assert!(!certificate("provider").is_issued_by(&issuer("Another Agency")));
        assert!(!certificate("provider").is_issued_by(b"no name"));
    }

    #[test]
    fn what_is_no_certificate_is_refused() {
        assert!(matches!(SignerCertificate::from_der(b"no"), Err(CertificateError::Malformed(_))));
    }
}
