//! The provider's own keys and certificates, and whether others will accept what they sign (§5.5).
//!
//! A certificate is held against the profile, the CAs and the calendar: the key of today at this instant, the one that
//! follows at its start. One that has expired stops nothing as long as another signs; none left stops everything.

use std::path::{Path, PathBuf};

use super::told;
use crate::adapters::key_file::{self, KeyFileError};
use crate::adapters::pkcs11::{self, TokenError};
use crate::config::{self, Config, KeyMaterial, KeySource};
use crate::model::TemporalReference;
use crate::smime::keyring::Outlook;
use crate::smime::{Engine, Keyring, PathError, Signer, SignerCertificate, SigningError, Trust, profile};

/// What loading a key found wrong.
#[derive(Default)]
pub struct Findings {
    pub problems: Vec<String>,
    pub warnings: Vec<String>,
    /// A token refused the PIN: another try would be one fewer before it locks.
    pub is_pin_refused: bool,
}

/// Every certificate of this provider that can be read without a private key, the former ones too.
pub fn own_certificates(config: &Config) -> Vec<SignerCertificate> {
    let files = certificate_files(config).chain(&config.key.previous_certificates);
    files.filter_map(|file| first_certificate(file).ok()).collect()
}

/// The certificates (DER) beside this provider's own, as far as they can be read without a private key.
pub fn chains(config: &Config) -> Vec<Vec<u8>> {
    let chains = certificate_files(config).filter_map(|file| Some(key_file::certificates(file).ok()?.1));
    chains.flatten().map(|certificate| certificate.der().to_vec()).collect()
}

fn certificate_files(config: &Config) -> impl Iterator<Item = &PathBuf> {
    let materials = std::iter::once(&config.key.material).chain(config.next_key.iter().map(|next| &next.material));
    materials.filter_map(|material| match &material.source {
        KeySource::Pem { certificate, .. } => Some(certificate),
        KeySource::Token(token) => Some(&token.certificate),
        KeySource::Pkcs12(_) => None,
    })
}

/// The certificates that signed before.
pub(super) fn former(config: &Config) -> Result<Vec<SignerCertificate>, String> {
    let files = config.key.previous_certificates.iter();
    files
        .map(|file| first_certificate(file))
        .collect::<Result<_, _>>()
        .map_err(|error| told(&config.location("key.previous_certificates"), &error))
}

/// All keys, each checked; none where one of them cannot be used or nothing would ever be signed.
pub(super) fn keyring(
    config: &Config,
    trust: Option<&Trust>,
    at: TemporalReference,
    findings: &mut Findings,
) -> Option<Keyring> {
    let first = checked(config, &config.key.material, "key", trust, (at, at), findings);
    let next = match &config.next_key {
        None => None,
        Some(next) => {
            let signer = checked(config, &next.material, "next_key", trust, (at, at.max(next.starts)), findings);
            Some((signer?, next.starts))
        }
    };
    let keyring = Keyring::new(first?);
    let keyring = match next {
        None => keyring,
        Some((signer, starts)) => {
            check_start(config, &signer, starts, at, findings);
            keyring.followed_by(signer, starts)
        }
    };
    check_standing(config, &keyring, trust, at, findings);
    let place = config.location("key");
    match keyring.outlook(at) {
        Outlook::Signs => {}
        Outlook::Waits { until } => findings.warnings.push(format!(
            "{place}: NOTHING IS SIGNED until {} at {}: no certificate that is in force is valid now; mail is answered 4xx",
            until.day(),
            until.time()
        )),
        Outlook::Over => {
            let expired = keyring.signer(at, at).err().map(|error| error.to_string()).unwrap_or_default();
            findings.problems.push(format!("{place}: {expired}; get a new certificate, and set it here or in [next_key]"));
        }
    }
    Some(keyring)
}

/// One key with its certificate, which is checked as of the instant from which it is to sign; by the lists of now, for
/// those of then are not there yet.
fn checked(
    config: &Config,
    material: &KeyMaterial,
    section: &str,
    trust: Option<&Trust>,
    (now, signs_from): (TemporalReference, TemporalReference),
    findings: &mut Findings,
) -> Option<Signer> {
    let location = |key: &str| config.location(&format!("{section}.{key}"));
    let signer = match signer(material) {
        Ok(signer) => signer,
        Err(fault) => {
            findings.is_pin_refused |= fault.is_pin_refused();
            findings.problems.push(fault.told(material, location));
            return None;
        }
    };
    let certificate = signer.certificate();
    let place = location(match material.source {
        KeySource::Pem { .. } | KeySource::Token(_) => "certificate",
        KeySource::Pkcs12(_) => "pkcs12",
    });
    for departure in profile::departures(certificate, &config.provider) {
        let line = format!("{place}: {departure} (§5.5)");
        if departure.is_warning() { findings.warnings.push(line) } else { findings.problems.push(line) }
    }
    // Whether it is valid now the keyring judges; here it is whether it is trusted while it is.
    let validity = (certificate.not_before(), certificate.not_after());
    let valid = |at: TemporalReference| TemporalReference::from_unix(at.unix().max(validity.0).min(validity.1));
    let verdict = trust.map(|trust| {
        trust.check_path(certificate, signer.chain(), valid(signs_from))?;
        match trust.check(certificate, signer.chain(), valid(now).min(valid(signs_from))) {
            // A CA that begins before the key does.
            Err(PathError::NotYetValid { .. }) => Ok(()),
            verdict => verdict,
        }
    });
    match verdict {
        None | Some(Ok(())) => {}
        // The daemon fetches lists when it runs, and at its first start there is none.
        Some(Err(PathError::RevocationUnknown(unknown))) => findings.warnings.push(format!("{place}: {unknown}")),
        // The keyring judges whether it is the one that signs; a revoked CA takes both.
        Some(Err(PathError::Revoked { .. }))
            if trust.is_some_and(|trust| trust.revoked_since(certificate).is_some()) => {}
        Some(Err(error)) => {
            findings.problems.push(format!("{}; {}", told(&place, &error), remedy(&error)));
        }
    }
    Some(signer)
}

/// What mends a path of this provider's own.
fn remedy(error: &PathError) -> &'static str {
    match error {
        PathError::NoPath { .. } => {
            "add the missing CA to trust.ca_file, or put the intermediate behind the certificate"
        }
        PathError::NotYetValid { .. } | PathError::Expired { .. } => "ask the CA for its certificate of today",
        PathError::OpenSsl { .. } => "that says nothing about the certificate; try again",
        PathError::NameConstraints { .. } => "ask the CA whether it may certify provider.sending_address",
        _ => "other providers refuse what it signs: ask the CA for another",
    }
}

/// A revoked certificate stops everything while it is the one that signs, and nothing before or after.
fn check_standing(
    config: &Config,
    keyring: &Keyring,
    trust: Option<&Trust>,
    at: TemporalReference,
    findings: &mut Findings,
) {
    for (certificate, section) in keyring.certificates().zip(["key", "next_key"]) {
        let Some(since) = trust.and_then(|trust| trust.revoked_since(certificate)) else { continue };
        let (place, subject) = (config.location(section), certificate.subject());
        if certificate == keyring.in_force(at).certificate() {
            findings.problems.push(format!(
                "{place}: the certificate {subject} was revoked on {since}; other providers refuse what it signs: ask the CA for another"
            ));
        } else {
            let line = format!("{place}: the certificate {subject}, which does not sign now, was revoked on {since}");
            findings.warnings.push(line);
        }
    }
}

/// A start outside the certificate's validity would leave nothing to sign with. One that has passed does not matter any more.
fn check_start(
    config: &Config,
    next: &Signer,
    starts: TemporalReference,
    now: TemporalReference,
    findings: &mut Findings,
) {
    let (begins, ends) = (next.certificate().not_before(), next.certificate().not_after());
    if !(begins..=ends).contains(&starts.max(now).unix()) {
        let [begins, ends] = [begins, ends].map(|unix| TemporalReference::from_unix(unix).rfc3339());
        findings.problems.push(format!(
            "{}: found {}, but the certificate is valid from {begins} to {ends}: choose an instant between",
            config.location("next_key.starts"),
            starts.rfc3339()
        ));
    }
}

/// Why a key cannot be used.
enum Fault {
    Files(KeyFileError),
    Token(TokenError),
    Pairing(SigningError),
    NoPassphrase,
}

impl Fault {
    fn is_pin_refused(&self) -> bool {
        matches!(self, Self::Token(error) if error.is_about_pin())
    }

    /// With the place that it concerns.
    fn told(&self, material: &KeyMaterial, location: impl Fn(&str) -> String) -> String {
        match self {
            Self::Files(error) => told(&location(key_of(material, error.file())), error),
            Self::Token(error) => told(&location(key_of_token(error)), error),
            Self::Pairing(error) => told(&location("certificate"), error),
            Self::NoPassphrase => format!("{}: needs passphrase_file beside it", location("pkcs12")),
        }
    }
}

fn signer(material: &KeyMaterial) -> Result<Signer, Fault> {
    let engine = match material.engine {
        config::Engine::AwsLcRs => Engine::AwsLc,
        config::Engine::Rsa => Engine::Rsa,
    };
    let source = match (&material.source, &material.passphrase_file) {
        (KeySource::Pem { private_key, certificate }, passphrase_file) => key_file::KeySource::Pem {
            private_key: private_key.clone(),
            certificate: certificate.clone(),
            passphrase_file: passphrase_file.clone(),
        },
        (KeySource::Pkcs12(file), Some(passphrase_file)) => {
            key_file::KeySource::Pkcs12 { file: file.clone(), passphrase_file: passphrase_file.clone() }
        }
        (KeySource::Pkcs12(_), None) => return Err(Fault::NoPassphrase),
        (KeySource::Token(token), _) => return in_token(token),
    };
    key_file::load(&source, engine).map_err(Fault::Files)
}

fn in_token(token: &config::TokenKey) -> Result<Signer, Fault> {
    let (own, chain) = key_file::certificates(&token.certificate).map_err(Fault::Files)?;
    let pin = key_file::read_passphrase(&token.pin_file).map_err(Fault::Files)?;
    let place = pkcs11::Place { module: token.module.clone(), token: token.token.clone(), key: token.key.clone() };
    let sessions = usize::try_from(token.sessions).unwrap_or(1);
    let key = pkcs11::TokenKey::open(place, pin, sessions, &own).map_err(Fault::Token)?;
    Signer::new(Box::new(key), own, &chain).map_err(Fault::Pairing)
}

/// The key of the section that names a file.
fn key_of(material: &KeyMaterial, file: &Path) -> &'static str {
    match &material.source {
        _ if material.passphrase_file.as_deref() == Some(file) => "passphrase_file",
        KeySource::Pem { certificate, .. } if certificate == file => "certificate",
        KeySource::Pem { .. } => "private_key",
        KeySource::Pkcs12(_) => "pkcs12",
        KeySource::Token(token) if token.pin_file == file => "pin_file",
        KeySource::Token(_) => "certificate",
    }
}

/// The key of the section that a token's fault concerns.
fn key_of_token(error: &TokenError) -> &'static str {
    match error {
        TokenError::Module { .. } => "pkcs11_module",
        TokenError::NoToken { .. } | TokenError::TwoTokens { .. } => "pkcs11_token",
        TokenError::NoKey { .. } | TokenError::TwoKeys { .. } => "pkcs11_key",
        TokenError::Mismatch { .. } | TokenError::PublicKey { .. } => "certificate",
        error if error.is_about_pin() => "pin_file",
        _ => "pkcs11_token",
    }
}

fn first_certificate(file: &Path) -> Result<SignerCertificate, KeyFileError> {
    key_file::certificates(file).map(|(own, _)| own)
}
