//! Whether a file is an edition of the directory, and its publisher's (§4.5, §5.6).
//!
//! Over HTTPS it comes as a `.p7m` and its signer must be the one configured: this very certificate, or one that leads
//! to a configured CA. Over LDAP, and from a local file, it comes as LDIF, and whoever brings it answers for its origin.
//! Fails with what is wrong; a file that is refused changes nothing.

use super::comparison::Edition;
use super::index::{Directory, DirectoryError};
use crate::model::TemporalReference;
use crate::smime::{
    CertificateError, PathError, Sha1Policy, SignatureError, SignerCertificate, Trust, TrustError, pem, verify_attached,
};

/// How an edition travels and is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// LDIF inside a CMS signed-data in DER.
    P7m,
    Ldif,
}

/// Who must have signed.
pub enum Pin {
    /// The holder of exactly this certificate.
    Certificate(Box<SignerCertificate>),
    /// Whoever one of these CAs has certified.
    Authority(Trust),
}

/// Why a text does not say who must have signed.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    #[error("the file cannot be read")]
    Pem(#[from] pem::PemError),
    #[error("the file holds {0} certificates; it must hold the signer's alone")]
    Count(usize),
    #[error("the signer's certificate cannot be used")]
    Certificate(#[from] CertificateError),
    #[error(transparent)]
    Trust(#[from] TrustError),
}

/// Why a file is not an edition of the directory.
#[derive(Debug, thiserror::Error)]
pub enum Unacceptable {
    #[error("it is empty")]
    Empty,
    #[error("its signature does not hold, or it has none: expected a .p7m, LDIF inside signed-data in DER")]
    Signature(#[from] SignatureError),
    #[error(
        "it is signed by {found} with another certificate than the one of directory.signer_certificate, {expected}: \
         if the publisher announced a new one put it there, else tell him"
    )]
    OtherSigner { found: String, expected: String },
    #[error("the certificate of its signer {0} is not valid at this time: ask the publisher for the new one")]
    NotValid(String),
    #[error("its signer does not lead to the CA of directory.signer_ca_file")]
    Untrusted(#[from] PathError),
    #[error("what is signed is not a providers directory")]
    Directory(#[from] DirectoryError),
}

impl Pin {
    /// From PEM with one certificate.
    pub fn certificate(text: &[u8]) -> Result<Self, PinError> {
        let certificates = pem::certificates(text)?;
        let [certificate] = certificates.as_slice() else {
            return Err(PinError::Count(certificates.len()));
        };
        let der = certificate.to_der().map_err(|source| pem::PemError { number: 1, source })?;
        Ok(Pin::Certificate(Box::new(SignerCertificate::from_der(&der)?)))
    }

    /// From PEM with a root and, where there are, intermediates.
    pub fn authority(text: &[u8]) -> Result<Self, PinError> {
        Ok(Pin::Authority(Trust::from_pem(text)?))
    }
}

/// Reads an edition that came, or was fetched, at an instant. Without a pin any signer is believed: for what was verified
/// when it came.
pub fn read(form: Form, octets: &[u8], pin: Option<&Pin>, at: TemporalReference) -> Result<Edition, Unacceptable> {
    if octets.is_empty() {
        return Err(Unacceptable::Empty);
    }
    if form == Form::Ldif {
        return Ok(Edition { directory: Directory::from_ldif(octets)?, signed_at: None });
    }
    let signed = verify_attached(octets, Sha1Policy::Refuse)?;
    let signer = &signed.signature.signer;
    match pin {
        Some(Pin::Certificate(expected)) if signer.der() != expected.der() => {
            let [found, expected] = [signer, expected].map(|one| one.subject().to_owned());
            return Err(Unacceptable::OtherSigner { found, expected });
        }
        Some(Pin::Certificate(_)) if !(signer.not_before()..=signer.not_after()).contains(&at.unix()) => {
            return Err(Unacceptable::NotValid(signer.subject().to_owned()));
        }
        Some(Pin::Authority(trust)) => trust.check_path(signer, &signed.signature.intermediates, at)?,
        Some(Pin::Certificate(_)) | None => {}
    }
    Ok(Edition { directory: Directory::from_ldif(&signed.content)?, signed_at: signed.signed_at })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::{ProviderRecord, own_record};
    use crate::smime::Engine;
    use crate::smime::testing::{self, certificate, signer};

    fn at(seconds: i64) -> TemporalReference {
        TemporalReference::from_unix(testing::NOW + seconds)
    }

    fn ldif() -> Vec<u8> {
        let record = ProviderRecord {
            name: "Beta".into(),
            unit: None,
            mail_receipt: "ricevute@beta.example".parse().unwrap(),
            domains: ["beta.example".parse().unwrap()].into(),
            certificates: vec![b"beta".to_vec()],
        };
        own_record(&record, None).into_bytes()
    }

    fn pin(name: &str) -> Pin {
        Pin::certificate(&testing::read(&format!("certificates/{name}.pem"))).unwrap()
    }

    #[test]
    fn an_edition_of_the_pinned_signer_is_read_with_its_instant() {
        let p7m = signer(Engine::AwsLc).attached(&ldif(), at(0)).unwrap();
        let authority = Pin::authority(&testing::read("certificates/root.pem")).unwrap();
        for pin in [pin("provider"), authority] {
            let edition = read(Form::P7m, &p7m, Some(&pin), at(5)).unwrap();
            assert_eq!((edition.directory.providers(), edition.signed_at), (1, Some(at(0))));
        }
        let edition = read(Form::Ldif, &ldif(), None, at(5)).unwrap();
        assert_eq!((edition.directory.domains(), edition.signed_at), (1, None));
    }

    #[test]
    fn what_somebody_else_signed_is_refused() {
        let p7m = signer(Engine::AwsLc).attached(&ldif(), at(0)).unwrap();
        let refused = read(Form::P7m, &p7m, Some(&pin("other-address")), at(0)).unwrap_err();
        assert!(matches!(&refused, Unacceptable::OtherSigner { found, .. } if found.contains("Alfa")), "{refused}");
        let authority = Pin::authority(&testing::read("certificates/other-root.pem")).unwrap();
        assert!(matches!(read(Form::P7m, &p7m, Some(&authority), at(0)), Err(Unacceptable::Untrusted(_))));
        let beyond = TemporalReference::from_unix(certificate("provider").not_after() + 1);
        for pin in [pin("provider"), Pin::authority(&testing::read("certificates/root.pem")).unwrap()] {
            let refused = read(Form::P7m, &p7m, Some(&pin), beyond).unwrap_err();
            assert!(matches!(refused, Unacceptable::NotValid(_) | Unacceptable::Untrusted(_)), "{refused}");
        }
    }

    #[test]
    fn what_is_not_signed_empty_or_no_directory_is_refused() {
        let pin = pin("provider");
        let refused = |octets: &[u8]| read(Form::P7m, octets, Some(&pin), at(0)).unwrap_err();
        assert!(matches!(refused(b""), Unacceptable::Empty));
        assert!(matches!(refused(&ldif()), Unacceptable::Signature(_)));
        let empty = signer(Engine::AwsLc).attached(b"dn: o=postacert\no: postacert\n", at(0)).unwrap();
        assert!(matches!(refused(&empty), Unacceptable::Directory(DirectoryError::NoProvider)));
        let html = signer(Engine::AwsLc).attached(b"<html>maintenance</html>", at(0)).unwrap();
        assert!(matches!(refused(&html), Unacceptable::Directory(DirectoryError::Ldif(_))));
    }

    #[test]
    fn a_pin_is_one_certificate() {
        let two = [testing::read("certificates/provider.pem"), testing::read("certificates/root.pem")].concat();
        assert!(matches!(Pin::certificate(&two), Err(PinError::Count(2))));
        assert!(matches!(Pin::certificate(b""), Err(PinError::Count(0))));
    }
}
