//! Makes CMS signatures, detached for messages (§2.1) and attached for the own record (§4.5; RFC 5652 §5): SHA-256 with RSA of PKCS #1 v1.5.
//!
//! What is signed is decided by the caller, who brings the digest of the exact octets and the temporal reference of the
//! operation; who holds the key is left to a [`SigningKey`]. The same digest, instant and key give the same octets, so a
//! notification that is written again is the same notification. Fails when the key does.

use std::error::Error;
use std::time::Duration;

use cms::cert::{CertificateChoices, IssuerAndSerialNumber};
use cms::content_info::{CmsVersion, ContentInfo};
use cms::signed_data::{
    CertificateSet, EncapsulatedContentInfo, SignedAttributes, SignedData, SignerIdentifier, SignerInfo, SignerInfos,
};
use const_oid::ObjectIdentifier;
use const_oid::db::rfc5911::{ID_CONTENT_TYPE, ID_DATA, ID_MESSAGE_DIGEST, ID_SIGNED_DATA, ID_SIGNING_TIME};
use const_oid::db::rfc5912::{ID_SHA_256, RSA_ENCRYPTION};
use der::asn1::{GeneralizedTime, OctetString, SetOfVec, UtcTime};
use der::{Any, DateTime, Encode, EncodeValue, Tagged};
use sha2::{Digest, Sha256};
use spki::AlgorithmIdentifierOwned;
use x509_cert::attr::Attribute;
use x509_cert::time::Time;

use super::certificate::SignerCertificate;
use crate::model::TemporalReference;

/// A private RSA key, wherever it lies.
pub trait SigningKey: Send + Sync {
    /// The PKCS #1 v1.5 signature with SHA-256 over a message.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SigningError>;
}

/// Why there is no signature.
#[derive(Debug, thiserror::Error)]
pub enum SigningError {
    #[error("{engine} cannot use the private key")]
    KeyRejected {
        engine: &'static str,
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    #[error("{engine} could not sign")]
    Engine {
        engine: &'static str,
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    #[error(
        "the certificate {subject}, serial {serial}, expired on {} at {}: nothing is signed until pec-milter has a new one",
        .since.day(), .since.time()
    )]
    Expired { subject: String, serial: String, since: TemporalReference },
    #[error(
        "the certificate {subject}, serial {serial}, is valid from {} at {}: nothing is signed before",
        .from.day(), .from.time()
    )]
    NotYetValid { subject: String, serial: String, from: TemporalReference },
    #[error("the certificate {subject} is not in DER, so it could not be sent as it is")]
    NotDer { subject: String },
    #[error("the signing time {0} (Unix time) cannot be written")]
    Instant(i64),
    #[error("the certificate {subject} was revoked on {since}: nothing is signed until another takes its place")]
    Revoked { subject: String, since: String },
    #[error("the signature could not be put together")]
    Encoding(#[from] der::Error),
}

/// The provider's key with its certificate and the intermediates that others need to verify it.
pub struct Signer {
    key: Box<dyn SigningKey>,
    certificate: SignerCertificate,
    chain: Vec<Vec<u8>>,
    set: CertificateSet,
}

impl Signer {
    /// Roots in the chain are left out: whoever trusts them has them (§5.5).
    pub fn new(
        key: Box<dyn SigningKey>,
        certificate: SignerCertificate,
        chain: &[SignerCertificate],
    ) -> Result<Self, SigningError> {
        let mut set = vec![choice(&certificate)?];
        let intermediates = chain.iter().map(|one| one.der().to_vec()).collect();
        for intermediate in chain.iter().filter(|one| !one.is_self_issued()) {
            let intermediate = choice(intermediate)?;
            if !set.contains(&intermediate) {
                set.push(intermediate);
            }
        }
        Ok(Signer { key, certificate, chain: intermediates, set: CertificateSet::try_from(set)? })
    }

    pub fn certificate(&self) -> &SignerCertificate {
        &self.certificate
    }

    /// What stood beside the certificate, in DER.
    pub fn chain(&self) -> &[Vec<u8>] {
        &self.chain
    }

    /// The DER of a detached signature over content with this SHA-256 digest, made at this instant.
    pub fn detached(&self, content_sha256: [u8; 32], at: TemporalReference) -> Result<Vec<u8>, SigningError> {
        // Some readers judge a certificate at the signing time: what a later key signs for earlier was not signed before it.
        let at = at.max(TemporalReference::from_unix(self.certificate.not_before()));
        self.signed_data(content_sha256, None, at)
    }

    /// The DER of a signature made at this instant, with the content inside it (§4.5).
    pub fn attached(&self, content: &[u8], at: TemporalReference) -> Result<Vec<u8>, SigningError> {
        let octets = Any::encode_from(&OctetString::new(content)?)?;
        self.signed_data(Sha256::digest(content).into(), Some(octets), at)
    }

    fn signed_data(
        &self,
        content_sha256: [u8; 32],
        econtent: Option<Any>,
        at: TemporalReference,
    ) -> Result<Vec<u8>, SigningError> {
        let attributes = signed_attributes(content_sha256, at)?;
        // What is signed is the set with its own tag, not with the one it has inside SignerInfo (RFC 5652 §5.4).
        let signature = self.key.sign(&attributes.to_der()?)?;
        let tbs = &self.certificate.parsed().tbs_certificate;
        let signer = SignerInfo {
            version: CmsVersion::V1,
            sid: SignerIdentifier::IssuerAndSerialNumber(IssuerAndSerialNumber {
                issuer: tbs.issuer.clone(),
                serial_number: tbs.serial_number.clone(),
            }),
            digest_alg: sha256(),
            signed_attrs: Some(attributes),
            signature_algorithm: AlgorithmIdentifierOwned { oid: RSA_ENCRYPTION, parameters: Some(Any::null()) },
            signature: OctetString::new(signature)?,
            unsigned_attrs: None,
        };
        let data = SignedData {
            version: CmsVersion::V1,
            digest_algorithms: SetOfVec::try_from([sha256()])?,
            encap_content_info: EncapsulatedContentInfo { econtent_type: ID_DATA, econtent },
            certificates: Some(self.set.clone()),
            crls: None,
            signer_infos: SignerInfos(SetOfVec::try_from([signer])?),
        };
        Ok(ContentInfo { content_type: ID_SIGNED_DATA, content: Any::encode_from(&data)? }.to_der()?)
    }
}

/// A certificate as a member of the set, which will be exactly the octets it came as.
fn choice(certificate: &SignerCertificate) -> Result<CertificateChoices, SigningError> {
    if certificate.parsed().to_der()? != certificate.der() {
        return Err(SigningError::NotDer { subject: certificate.subject().to_owned() });
    }
    Ok(CertificateChoices::Certificate(certificate.parsed().clone()))
}

fn signed_attributes(content_sha256: [u8; 32], at: TemporalReference) -> Result<SignedAttributes, SigningError> {
    Ok(SetOfVec::try_from([
        attribute(ID_CONTENT_TYPE, &ID_DATA)?,
        attribute(ID_SIGNING_TIME, &signing_time(at)?)?,
        attribute(ID_MESSAGE_DIGEST, &OctetString::new(content_sha256)?)?,
    ])?)
}

fn attribute(oid: ObjectIdentifier, value: &(impl Tagged + EncodeValue)) -> Result<Attribute, der::Error> {
    Ok(Attribute { oid, values: SetOfVec::try_from([Any::encode_from(value)?])? })
}

/// UTCTime until 2049, GeneralizedTime after (RFC 5652 §11.3).
fn signing_time(at: TemporalReference) -> Result<Time, SigningError> {
    let seconds = u64::try_from(at.unix()).map_err(|_| SigningError::Instant(at.unix()))?;
    let instant = DateTime::from_unix_duration(Duration::from_secs(seconds))?;
    Ok(match UtcTime::from_date_time(instant) {
        Ok(short) => Time::UtcTime(short),
        Err(_) => Time::GeneralTime(GeneralizedTime::from_date_time(instant)),
    })
}

/// Without parameters, as RFC 5754 §2 prefers and OpenSSL writes it.
fn sha256() -> AlgorithmIdentifierOwned {
    AlgorithmIdentifierOwned { oid: ID_SHA_256, parameters: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smime::testing::{self, certificate, certificate_der, content, signer};
    use crate::smime::{DigestAlgorithm, Engine, Sha1Policy, SignatureError, Trust, verify, verify_attached};
    use std::process::Command;

    const NOW: i64 = testing::NOW;

    fn detached(engine: Engine, at: i64) -> Vec<u8> {
        let digest = Sha256::digest(content()).into();
        signer(engine).detached(digest, TemporalReference::from_unix(at)).unwrap()
    }

    #[test]
    fn what_is_signed_verifies_and_leads_to_the_root() {
        let verified = verify(&detached(Engine::AwsLc, NOW), &content(), Sha1Policy::Refuse).unwrap();
        assert_eq!(verified.signer, certificate("provider"));
        assert_eq!(verified.intermediates, [certificate_der("issuing")]);
        assert_eq!(verified.digest, DigestAlgorithm::Sha256);
        let trust = Trust::from_pem(&testing::read("certificates/root.pem")).unwrap();
        trust.check_path(&verified.signer, &verified.intermediates, TemporalReference::from_unix(NOW)).unwrap();
    }

    #[test]
    fn what_is_signed_with_its_content_verifies_here_and_with_openssl_and_names_its_instant() {
        let signed = signer(Engine::AwsLc).attached(&content(), TemporalReference::from_unix(NOW)).unwrap();
        let read = verify_attached(&signed, Sha1Policy::Refuse).unwrap();
        assert_eq!((read.content, read.signed_at), (content(), Some(TemporalReference::from_unix(NOW))));
        assert_eq!(read.signature.signer, certificate("provider"));

        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("record.p7m");
        std::fs::write(&file, &signed).unwrap();
        let root = testing::at("certificates/root.pem");
        let mut openssl = Command::new("openssl");
        openssl.args(["cms", "-verify", "-binary", "-inform", "DER", "-attime", &NOW.to_string(), "-CAfile"]);
        let output = openssl.arg(root).arg("-in").arg(&file).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.stdout, content());

        let at = signed.windows(4).position(|octets| octets == &content()[..4]).unwrap();
        let altered: Vec<u8> = signed.iter().enumerate().map(|(i, octet)| octet ^ u8::from(i == at)).collect();
        assert!(matches!(verify_attached(&altered, Sha1Policy::Refuse), Err(SignatureError::DigestDiffers)));
        let detached = detached(Engine::AwsLc, NOW);
        assert!(matches!(verify_attached(&detached, Sha1Policy::Refuse), Err(SignatureError::NoContent)));
        assert!(matches!(verify(&signed, &content(), Sha1Policy::Refuse), Err(SignatureError::NotDetached)));
    }

    #[test]
    fn both_engines_write_the_same_octets_every_time() {
        assert_eq!(detached(Engine::AwsLc, NOW), detached(Engine::Rsa, NOW));
        assert_eq!(detached(Engine::AwsLc, NOW), detached(Engine::AwsLc, NOW));
        assert_ne!(detached(Engine::AwsLc, NOW), detached(Engine::AwsLc, NOW + 1));
    }

    #[test]
    fn openssl_accepts_what_is_signed() {
        for engine in [Engine::AwsLc, Engine::Rsa] {
            let folder = tempfile::tempdir().unwrap();
            let p7s = folder.path().join("smime.p7s");
            std::fs::write(&p7s, detached(engine, NOW)).unwrap();
            let output = Command::new("openssl")
                .args(["cms", "-verify", "-binary", "-inform", "DER", "-purpose", "smimesign", "-in"])
                .arg(&p7s)
                .args(["-attime", &NOW.to_string(), "-CAfile"])
                .arg(testing::at("certificates/root.pem"))
                .arg("-content")
                .arg(testing::at("signatures/content.eml"))
                .output()
                .unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            assert_eq!(output.stdout, content());
        }
    }

    #[test]
    fn the_signing_time_has_the_form_of_its_century() {
        let time = |seconds| signing_time(TemporalReference::from_unix(seconds));
        assert!(matches!(time(NOW), Ok(Time::UtcTime(_))));
        assert!(matches!(time(3_000_000_000), Ok(Time::GeneralTime(_))));
        assert!(matches!(time(-1), Err(SigningError::Instant(-1))));
    }

    #[test]
    fn the_chain_goes_out_without_root_and_without_repetition() {
        let chain = ["provider", "issuing", "root", "issuing"].map(certificate);
        let key = testing::key(Engine::AwsLc);
        let signer = Signer::new(key, certificate("provider"), &chain).unwrap();
        assert_eq!(signer.set.0.len(), 2);
    }
}
