//! Whether a signer's certificate leads to a configured CA at a given instant (§2.2.2, §5.5; RFC 5280 §6).
//!
//! OpenSSL builds and validates the path, name constraints on mail addresses included; the rules on the signer's own
//! certificate that are stricter than S/MIME's are checked here. Revocation is not looked at. Fails with the
//! [`PathError`] that names the certificate at fault.

use openssl::error::ErrorStack;
use openssl::stack::Stack;
use openssl::x509::store::{X509Store, X509StoreBuilder};
use openssl::x509::verify::X509VerifyParam;
use openssl::x509::{X509, X509PurposeId, X509Ref, X509StoreContext, X509StoreContextRef, X509VerifyResult};

use super::certificate::SignerCertificate;
use super::pem::{self, PemError};
use crate::model::TemporalReference;

/// Results of OpenSSL's path validation (openssl/x509_vfy.h); the numbers are part of its interface.
mod result {
    pub const UNABLE_TO_GET_ISSUER: i32 = 2;
    pub const NOT_YET_VALID: i32 = 9;
    pub const EXPIRED: i32 = 10;
    pub const SELF_SIGNED_LEAF: i32 = 18;
    pub const SELF_SIGNED_IN_CHAIN: i32 = 19;
    pub const UNABLE_TO_GET_ISSUER_LOCALLY: i32 = 20;
    pub const UNABLE_TO_VERIFY_LEAF: i32 = 21;
    pub const INVALID_PURPOSE: i32 = 26;
    pub const PERMITTED_VIOLATION: i32 = 47;
    pub const EXCLUDED_VIOLATION: i32 = 48;
}

/// The CAs that the configuration trusts.
pub struct Trust {
    roots: Vec<X509>,
    intermediates: Vec<X509>,
}

/// Why a text is not a set of trusted CAs.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    #[error(transparent)]
    Pem(#[from] PemError),
    #[error("among the {0} certificates there is no self-signed one that could be a root")]
    NoRoot(usize),
}

/// Why a certificate is not trusted to sign messages; `subject` is the certificate at fault.
#[derive(Debug, thiserror::Error)]
pub enum PathError {
    #[error("the keyUsage of {subject} does not allow digital signatures")]
    KeyUsage { subject: String },
    #[error("the extendedKeyUsage of {subject} does not allow e-mail protection")]
    ExtendedKeyUsage { subject: String },
    #[error("{subject} is a CA and may not sign messages")]
    SignerIsCa { subject: String },
    #[error("the certificate {subject} is not valid yet")]
    NotYetValid { subject: String },
    #[error("the certificate {subject} has expired")]
    Expired { subject: String },
    #[error("no path leads from {subject} to a configured CA")]
    NoPath { subject: String },
    #[error("{subject} is outside the name constraints of its CA")]
    NameConstraints { subject: String },
    #[error("{subject} may not be used for its place in a path of S/MIME signatures")]
    Purpose { subject: String },
    #[error("the path of {subject} is not valid: {reason}")]
    Other { subject: String, reason: &'static str },
    #[error("OpenSSL could not {call}")]
    OpenSsl {
        call: &'static str,
        #[source]
        source: ErrorStack,
    },
}

impl Trust {
    /// From PEM text with at least one root; certificates that are not self-signed only help to build paths.
    pub fn from_pem(text: &[u8]) -> Result<Self, TrustError> {
        let (roots, intermediates): (Vec<_>, Vec<_>) = pem::certificates(text)?.into_iter().partition(is_self_signed);
        if roots.is_empty() {
            return Err(TrustError::NoRoot(intermediates.len()));
        }
        Ok(Trust { roots, intermediates })
    }

    /// Whether this certificate could sign messages at this instant; `intermediates` are those of the signature, in DER.
    pub fn check(
        &self,
        signer: &SignerCertificate,
        intermediates: &[Vec<u8>],
        at: TemporalReference,
    ) -> Result<(), PathError> {
        check_signer(signer)?;
        let leaf = X509::from_der(signer.der()).map_err(openssl("read the signer's certificate"))?;
        let helpers = self.helpers(intermediates).map_err(openssl("collect the intermediate certificates"))?;
        let store = self.store(at).map_err(openssl("set up path validation"))?;
        let mut context = X509StoreContext::new().map_err(openssl("set up path validation"))?;
        let verdict = context.init(&store, &leaf, &helpers, |context| {
            let is_valid = context.verify_cert()?;
            // What a failed check leaves in this thread's queue would show up as the cause of some later error.
            drop(ErrorStack::get());
            Ok(if is_valid { Ok(()) } else { Err(reason(context, signer)) })
        });
        verdict.map_err(openssl("validate a path"))?
    }

    fn helpers(&self, received: &[Vec<u8>]) -> Result<Stack<X509>, ErrorStack> {
        let mut helpers = Stack::new()?;
        // An intermediate that cannot be read is no help, and no harm either.
        for certificate in received.iter().filter_map(|der| X509::from_der(der).ok()) {
            helpers.push(certificate)?;
        }
        for certificate in &self.intermediates {
            helpers.push(certificate.clone())?;
        }
        Ok(helpers)
    }

    /// Made anew for each check, because the instant belongs to the store; the certificates inside are shared.
    fn store(&self, at: TemporalReference) -> Result<X509Store, ErrorStack> {
        let mut parameters = X509VerifyParam::new()?;
        parameters.set_time(at.unix());
        parameters.set_purpose(X509PurposeId::SMIME_SIGN)?;
        let mut store = X509StoreBuilder::new()?;
        store.set_param(&parameters)?;
        for root in &self.roots {
            store.add_cert(root.clone())?;
        }
        Ok(store.build())
    }
}

/// What the rules ask of the signer's own certificate beyond a valid path (§5.5).
fn check_signer(signer: &SignerCertificate) -> Result<(), PathError> {
    let subject = || signer.subject().to_owned();
    if signer.allows_digital_signature() == Some(false) {
        return Err(PathError::KeyUsage { subject: subject() });
    }
    if signer.allows_email_protection() == Some(false) {
        return Err(PathError::ExtendedKeyUsage { subject: subject() });
    }
    if signer.is_ca() == Some(true) {
        return Err(PathError::SignerIsCa { subject: subject() });
    }
    Ok(())
}

fn reason(context: &X509StoreContextRef, signer: &SignerCertificate) -> PathError {
    let subject = context.current_cert().map_or_else(|| signer.subject().to_owned(), subject);
    let error = context.error();
    match error.as_raw() {
        result::NOT_YET_VALID => PathError::NotYetValid { subject },
        result::EXPIRED => PathError::Expired { subject },
        result::UNABLE_TO_GET_ISSUER
        | result::SELF_SIGNED_LEAF
        | result::SELF_SIGNED_IN_CHAIN
        | result::UNABLE_TO_GET_ISSUER_LOCALLY
        | result::UNABLE_TO_VERIFY_LEAF => PathError::NoPath { subject },
        result::PERMITTED_VIOLATION | result::EXCLUDED_VIOLATION => PathError::NameConstraints { subject },
        result::INVALID_PURPOSE => PathError::Purpose { subject },
        _ => PathError::Other { subject, reason: error.error_string() },
    }
}

fn subject(certificate: &X509Ref) -> String {
    let readable = certificate.to_der().ok().and_then(|der| SignerCertificate::from_der(&der).ok());
    readable.map_or_else(|| "an unreadable certificate".to_owned(), |certificate| certificate.subject().to_owned())
}

fn is_self_signed(certificate: &X509) -> bool {
    certificate.issued(certificate) == X509VerifyResult::OK
        && certificate.public_key().and_then(|key| certificate.verify(&key)).unwrap_or(false)
}

fn openssl(call: &'static str) -> impl Fn(ErrorStack) -> PathError {
    move |source| PathError::OpenSsl { call, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smime::testing::{self, certificate, certificate_der, read};

    const JUST_BEFORE_2020: i64 = 1_577_836_799;
    const IN_2022: i64 = 1_650_000_000;
    const IN_2091: i64 = 3_818_448_000;

    fn trust(files: &[&str]) -> Result<Trust, TrustError> {
        let text: Vec<u8> = files.iter().flat_map(|name| read(&format!("certificates/{name}.pem"))).collect();
        Trust::from_pem(&text)
    }

    fn check_at(name: &str, at: i64) -> Result<(), PathError> {
        let intermediates = [certificate_der("issuing")];
        trust(&["root"]).unwrap().check(&certificate(name), &intermediates, TemporalReference::from_unix(at))
    }

    fn check(name: &str) -> Result<(), PathError> {
        check_at(name, testing::NOW)
    }

    #[test]
    fn a_provider_under_the_root_is_trusted() {
        check("provider").unwrap();
        check("no-eku").unwrap();
    }

    #[test]
    fn the_intermediate_may_come_from_the_message_or_the_ca_file() {
        let now = TemporalReference::from_unix(testing::NOW);
        let provider = certificate("provider");
        trust(&["issuing", "root", "other-root"]).unwrap().check(&provider, &[], now).unwrap();
        let missing = trust(&["root"]).unwrap().check(&provider, &[], now);
        assert!(matches!(missing, Err(PathError::NoPath { subject }) if subject.contains("Alfa")));
        let odd = [b"odd".to_vec(), certificate_der("other-root"), certificate_der("issuing")];
        trust(&["root"]).unwrap().check(&provider, &odd, now).unwrap();
    }

    #[test]
    fn a_root_that_only_the_message_brings_is_not_trusted() {
        let brought = [certificate_der("issuing"), certificate_der("root")];
        let now = TemporalReference::from_unix(testing::NOW);
        let verdict = trust(&["other-root"]).unwrap().check(&certificate("provider"), &brought, now);
        assert!(matches!(verdict, Err(PathError::NoPath { .. })));
    }

    #[test]
    fn the_instant_decides_on_validity() {
        assert!(matches!(check_at("provider", JUST_BEFORE_2020), Err(PathError::NotYetValid { .. })));
        assert!(matches!(check_at("provider", IN_2091), Err(PathError::Expired { .. })));
        check_at("expired", JUST_BEFORE_2020 + 1).unwrap();
        assert!(
            matches!(check_at("expired", IN_2022), Err(PathError::Expired { subject }) if subject.contains("Alfa"))
        );
    }

    #[test]
    fn an_address_outside_the_name_constraints_is_refused() {
        assert!(
            matches!(check("other-address"), Err(PathError::NameConstraints { subject }) if subject.contains("Beta"))
        );
    }

    #[test]
    fn a_certificate_for_something_else_is_refused() {
        assert!(matches!(check("encipherment"), Err(PathError::KeyUsage { .. })));
        assert!(matches!(check("server-eku"), Err(PathError::ExtendedKeyUsage { .. })));
        assert!(matches!(check("ca-signer"), Err(PathError::SignerIsCa { .. })));
    }

    #[test]
    fn a_certificate_altered_after_it_was_issued_is_refused() {
        let mut der = certificate_der("provider");
        let at = der.windows(4).position(|octets| octets == b"alfa").unwrap();
        der[at] = b'A';
        let intermediates = [certificate_der("issuing")];
        let now = TemporalReference::from_unix(testing::NOW);
        let altered = SignerCertificate::from_der(&der).unwrap();
        let verdict = trust(&["root"]).unwrap().check(&altered, &intermediates, now);
        assert!(
            matches!(verdict, Err(PathError::Other { reason: "certificate signature failure", .. })),
            "{verdict:?}"
        );
    }

    #[test]
    fn a_set_without_root_is_refused() {
        assert!(matches!(trust(&["issuing"]), Err(TrustError::NoRoot(1))));
        assert!(matches!(Trust::from_pem(b""), Err(TrustError::NoRoot(0))));
    }

    #[test]
    fn the_set_can_be_shared_between_threads() {
        fn shared<T: Send + Sync>() {}
        shared::<Trust>();
    }
}
