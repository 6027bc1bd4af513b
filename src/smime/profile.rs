//! Whether our own certificate has the profile of a provider's certificate (§5.5).
//!
//! Every departure is told, so that an operator mends them in one go. Other providers' certificates are not held against
//! this profile: for them `path.rs` decides; when ours may sign, `keyring.rs`. Nothing fails here; what cannot be read is a
//! departure.

use const_oid::ObjectIdentifier;
use const_oid::db::rfc3280::EMAIL_ADDRESS;
use const_oid::db::rfc5280::{
    ID_CE_AUTHORITY_KEY_IDENTIFIER, ID_CE_BASIC_CONSTRAINTS, ID_CE_KEY_USAGE, ID_CE_SUBJECT_KEY_IDENTIFIER,
};
use const_oid::db::rfc5912::{MD_5_WITH_RSA_ENCRYPTION, SHA_1_WITH_RSA_ENCRYPTION};
use der::Decode;
use rsa::traits::PublicKeyParts;
use x509_cert::certificate::Version;
use x509_cert::ext::pkix::AuthorityKeyIdentifier;

use super::certificate::{SignerCertificate, subject_values};
use crate::model::{Address, Provider};

/// The key lengths that a provider signs with: shorter is no proof, longer is slow and not everywhere understood.
pub const SMALLEST_KEY_BITS: usize = 2048;
pub const LARGEST_KEY_BITS: usize = 4096;

/// One way in which a certificate differs from the profile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Departure {
    #[error("the certificate is X.509 version {0}, not 3")]
    Version(u8),
    #[error("keyUsage is absent or not critical")]
    KeyUsageNotCritical,
    #[error("keyUsage does not allow digitalSignature")]
    NoDigitalSignature,
    #[error("extendedKeyUsage is absent, emailProtection is expected")]
    NoExtendedKeyUsage,
    #[error("extendedKeyUsage does not list emailProtection")]
    NoEmailProtection,
    #[error("authorityKeyIdentifier with a keyIdentifier is absent")]
    NoAuthorityKeyIdentifier,
    #[error("subjectKeyIdentifier is absent")]
    NoSubjectKeyIdentifier,
    #[error("subjectAltName holds {found:?}, not the sending address {expected}")]
    MailAddress { expected: Address, found: Vec<String> },
    #[error("basicConstraints is present")]
    BasicConstraints,
    #[error("the extension {0} is critical")]
    Critical(ObjectIdentifier),
    #[error("neither O nor CN of the subject is the provider name {expected:?}, but {found:?}")]
    ProviderName { expected: String, found: Vec<String> },
    #[error("the subject holds the e-mail address {0}, which belongs into subjectAltName alone")]
    AddressInSubject(String),
    #[error("the key is not RSA")]
    NotRsa,
    #[error("the RSA key has {0} bits, not {SMALLEST_KEY_BITS} to {LARGEST_KEY_BITS}")]
    KeySize(usize),
    #[error("the certificate itself is signed with a digest that is no longer safe")]
    WeaklySigned,
}

impl Departure {
    /// Whether other providers will still take our messages.
    pub fn is_warning(&self) -> bool {
        matches!(self, Self::NoExtendedKeyUsage | Self::AddressInSubject(_) | Self::WeaklySigned)
    }
}

/// Every departure of our certificate from the profile, in the order of §5.5.
pub fn departures(certificate: &SignerCertificate, provider: &Provider) -> Vec<Departure> {
    [
        version(certificate),
        critical_key_usage(certificate),
        digital_signature(certificate),
        extended_key_usage(certificate),
        authority_key_identifier(certificate),
        subject_key_identifier(certificate),
        mail_address(certificate, provider),
        basic_constraints(certificate),
        provider_name(certificate, provider),
        key(certificate),
        issuer_signature(certificate),
    ]
    .into_iter()
    .flatten()
    .chain(needlessly_critical(certificate))
    .chain(addresses_in_subject(certificate))
    .collect()
}

fn version(certificate: &SignerCertificate) -> Option<Departure> {
    match certificate.parsed().tbs_certificate.version {
        Version::V1 => Some(Departure::Version(1)),
        Version::V2 => Some(Departure::Version(2)),
        Version::V3 => None,
    }
}

fn critical_key_usage(certificate: &SignerCertificate) -> Option<Departure> {
    let is_critical = certificate.extension(ID_CE_KEY_USAGE).is_some_and(|usage| usage.critical);
    (!is_critical).then_some(Departure::KeyUsageNotCritical)
}

fn digital_signature(certificate: &SignerCertificate) -> Option<Departure> {
    (certificate.allows_digital_signature() != Some(true)).then_some(Departure::NoDigitalSignature)
}

fn extended_key_usage(certificate: &SignerCertificate) -> Option<Departure> {
    match certificate.allows_email_protection() {
        None => Some(Departure::NoExtendedKeyUsage),
        Some(false) => Some(Departure::NoEmailProtection),
        Some(true) => None,
    }
}

fn authority_key_identifier(certificate: &SignerCertificate) -> Option<Departure> {
    let identifier = certificate
        .extension(ID_CE_AUTHORITY_KEY_IDENTIFIER)
        .and_then(|extension| AuthorityKeyIdentifier::from_der(extension.extn_value.as_bytes()).ok())
        .and_then(|authority| authority.key_identifier);
    identifier.is_none().then_some(Departure::NoAuthorityKeyIdentifier)
}

fn subject_key_identifier(certificate: &SignerCertificate) -> Option<Departure> {
    certificate.extension(ID_CE_SUBJECT_KEY_IDENTIFIER).is_none().then_some(Departure::NoSubjectKeyIdentifier)
}

fn mail_address(certificate: &SignerCertificate, provider: &Provider) -> Option<Departure> {
    let found = certificate.mail_addresses();
    let is_ours = |name: &String| name.parse::<Address>().is_ok_and(|address| address == provider.sending_address);
    (!found.iter().any(is_ours))
        .then(|| Departure::MailAddress { expected: provider.sending_address.clone(), found: found.to_vec() })
}

fn basic_constraints(certificate: &SignerCertificate) -> Option<Departure> {
    certificate.extension(ID_CE_BASIC_CONSTRAINTS).map(|_| Departure::BasicConstraints)
}

fn provider_name(certificate: &SignerCertificate, provider: &Provider) -> Option<Departure> {
    let found = certificate.provider_names();
    (!found.contains(&provider.name))
        .then(|| Departure::ProviderName { expected: provider.name.clone(), found: found.to_vec() })
}

fn key(certificate: &SignerCertificate) -> Option<Departure> {
    match certificate.rsa_key() {
        Err(_) => Some(Departure::NotRsa),
        Ok(key) => {
            let bits = key.n().bits();
            (!(SMALLEST_KEY_BITS..=LARGEST_KEY_BITS).contains(&bits)).then_some(Departure::KeySize(bits))
        }
    }
}

fn issuer_signature(certificate: &SignerCertificate) -> Option<Departure> {
    let algorithm = certificate.parsed().signature_algorithm.oid;
    [MD_5_WITH_RSA_ENCRYPTION, SHA_1_WITH_RSA_ENCRYPTION].contains(&algorithm).then_some(Departure::WeaklySigned)
}

/// Only keyUsage is critical (§5.5): a reader must refuse a critical extension that it does not know.
fn needlessly_critical(certificate: &SignerCertificate) -> impl Iterator<Item = Departure> {
    let extensions = certificate.parsed().tbs_certificate.extensions.iter().flatten();
    extensions
        .filter(|extension| {
            extension.critical && ![ID_CE_KEY_USAGE, ID_CE_BASIC_CONSTRAINTS].contains(&extension.extn_id)
        })
        .map(|extension| Departure::Critical(extension.extn_id))
}

fn addresses_in_subject(certificate: &SignerCertificate) -> impl Iterator<Item = Departure> {
    let addresses = subject_values(&certificate.parsed().tbs_certificate.subject, &[EMAIL_ADDRESS]);
    addresses.into_iter().map(Departure::AddressInSubject)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smime::testing::certificate;
    use const_oid::db::rfc5280::{ID_CE_EXT_KEY_USAGE, ID_CE_SUBJECT_ALT_NAME};

    fn provider(name: &str, address: &str) -> Provider {
        Provider {
            name: name.to_owned(),
            sending_address: address.parse().unwrap(),
            service_mailbox: "ricevute@alfa.example".parse().unwrap(),
            mail_domains: Vec::new(),
        }
    }

    fn departures_of(name: &str) -> Vec<Departure> {
        let alfa = provider("Alfa PEC S.p.A.", "Posta-Certificata@Alfa.example");
        departures(&certificate(name), &alfa)
    }

    #[test]
    fn the_profile_is_met() {
        assert_eq!(departures_of("provider"), []);
    }

    #[test]
    fn an_absent_extended_key_usage_is_a_warning() {
        let found = departures_of("no-eku");
        assert_eq!(found, [Departure::NoExtendedKeyUsage]);
        assert!(found.iter().all(Departure::is_warning));
    }

    #[test]
    fn every_departure_is_told() {
        let expected = Departure::MailAddress {
            expected: "posta-certificata@alfa.example".parse().unwrap(),
            found: vec!["someone@alfa.example".to_owned()],
        };
        let name =
            Departure::ProviderName { expected: "Alfa PEC S.p.A.".to_owned(), found: vec!["Somebody Else".to_owned()] };
        assert_eq!(
            departures_of("careless"),
            [
                Departure::KeyUsageNotCritical,
                Departure::NoDigitalSignature,
                Departure::NoEmailProtection,
                Departure::NoAuthorityKeyIdentifier,
                Departure::NoSubjectKeyIdentifier,
                expected,
                Departure::BasicConstraints,
                name,
                Departure::KeySize(1024),
                Departure::WeaklySigned,
                Departure::Critical(ID_CE_EXT_KEY_USAGE),
                Departure::Critical(ID_CE_SUBJECT_ALT_NAME),
                Departure::AddressInSubject("someone@alfa.example".to_owned()),
            ]
        );
    }

    #[test]
    fn the_provider_name_may_be_the_common_name_but_must_be_exact() {
        let check = |name| departures(&certificate("provider"), &provider(name, "posta-certificata@alfa.example"));
        assert_eq!(check("Posta Certificata Alfa"), []);
        assert!(matches!(check("alfa pec s.p.a.").as_slice(), [Departure::ProviderName { .. }]));
    }
}
