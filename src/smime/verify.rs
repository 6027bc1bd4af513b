//! Verifies a CMS signature over exact octets, detached (§2.2.2) or with its content inside (§4.5; RFC 5652 §5.4, §5.6).
//!
//! Decided here: the structure is one that certified mail allows, and the signer's key made this signature over these
//! octets. Left to others: whether the certificate leads to a CA (`path.rs`) and whose it is (the providers directory).
//! Each reason to refuse is a variant of [`SignatureError`]. Pure: the same octets always give the same answer.

use const_oid::db::rfc5911::{ID_CONTENT_TYPE, ID_DATA, ID_MESSAGE_DIGEST, ID_SIGNING_TIME};
use der::Decode;
use rsa::traits::PublicKeyParts;
use x509_cert::time::Time;

use super::algorithm::{AlgorithmError, DigestAlgorithm, Scheme};
use super::certificate::{CertificateError, SignerCertificate};
use super::cms::{CmsError, Oid, SignedAttributes, SignedData, SignerIdentifier, SignerInfo};
use crate::model::TemporalReference;

/// The largest signature that is read: certificates and even revocation lists inside stay far below.
const LARGEST_SIGNATURE: usize = 1024 * 1024;

/// The largest file that is read with its signature around it: some thirty times the national directory.
const LARGEST_SIGNED_FILE: usize = 64 * 1024 * 1024;

/// The most certificates in a signature: each costs work, here and in building the path.
const MOST_CERTIFICATES: usize = 32;

/// The shortest RSA key that still counts as proof.
const SMALLEST_KEY_BITS: usize = 2048;

/// Whether a signature over a SHA-1 digest counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sha1Policy {
    Accept,
    Refuse,
}

/// A signature that holds, and by whom; whether the signer may be trusted is not yet decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedSignature {
    pub signer: SignerCertificate,
    /// The other certificates of the signature, in DER, in the order they came.
    pub intermediates: Vec<Vec<u8>>,
    pub digest: DigestAlgorithm,
}

/// Content that came inside its signature, and what the signature says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedContent {
    pub content: Vec<u8>,
    pub signature: VerifiedSignature,
    /// When the signer says that he signed; none if he does not say (RFC 5652 §11.3).
    pub signed_at: Option<TemporalReference>,
}

/// Why octets are not validly signed.
#[derive(Debug, thiserror::Error)]
pub enum SignatureError {
    #[error("the signature has {0} octets, more than {LARGEST_SIGNATURE}")]
    TooLarge(usize),
    #[error("the signed file has {0} octets, more than {LARGEST_SIGNED_FILE}")]
    FileTooLarge(usize),
    #[error("the signature is not readable")]
    Malformed(#[from] CmsError),
    #[error("the signed content is of type {0}, not data")]
    ContentType(String),
    #[error("the signature carries its content, it is not detached")]
    NotDetached,
    #[error("the signature is detached, it does not carry its content")]
    NoContent,
    #[error("the signature has {0} signers, not one")]
    SignerCount(usize),
    #[error("the signature has {0} certificates, more than {MOST_CERTIFICATES}")]
    TooManyCertificates(usize),
    #[error("the signer's certificate is not among the {given} certificates, of which {unreadable} cannot be read")]
    NoSignerCertificate { given: usize, unreadable: usize },
    #[error("the signer's key cannot verify signatures")]
    Key(#[source] CertificateError),
    #[error("the signer's RSA key has {bits} bits, fewer than {SMALLEST_KEY_BITS}")]
    WeakKey { bits: usize },
    #[error("the algorithms of the signature cannot be worked with")]
    Algorithm(#[from] AlgorithmError),
    #[error("the signature is made with SHA-1")]
    Sha1,
    #[error("the signed attribute {0} is not there once with one readable value")]
    Attribute(&'static str),
    #[error("the signed attribute contentType is {0}, not data")]
    AttributeContentType(String),
    #[error("the signed octets differ from what the signer signed")]
    DigestDiffers,
    #[error("the signature was not made with the signer's key")]
    SignatureDiffers,
}

/// Verifies the one signature in `p7s` (DER or BER) over the octets `signed`.
pub fn verify(p7s: &[u8], signed: &[u8], sha1: Sha1Policy) -> Result<VerifiedSignature, SignatureError> {
    if p7s.len() > LARGEST_SIGNATURE {
        return Err(SignatureError::TooLarge(p7s.len()));
    }
    let data = SignedData::read(p7s)?;
    if data.content.is_some() {
        return Err(SignatureError::NotDetached);
    }
    check(&data, signed, sha1)
}

/// Verifies the one signature in a `.p7m` (DER or BER) over the content inside it.
pub fn verify_attached(p7m: &[u8], sha1: Sha1Policy) -> Result<SignedContent, SignatureError> {
    if p7m.len() > LARGEST_SIGNED_FILE {
        return Err(SignatureError::FileTooLarge(p7m.len()));
    }
    let data = SignedData::read(p7m)?;
    let content = data.content_octets()?.ok_or(SignatureError::NoContent)?;
    let signature = check(&data, &content, sha1)?;
    let attributes = data.signers.first().and_then(|signer| signer.signed_attributes.as_ref());
    let signed_at = attributes.map(signing_time).transpose()?.flatten();
    Ok(SignedContent { content: content.into_owned(), signature, signed_at })
}

fn check(data: &SignedData<'_>, signed: &[u8], sha1: Sha1Policy) -> Result<VerifiedSignature, SignatureError> {
    if !data.content_type.is(ID_DATA) {
        return Err(SignatureError::ContentType(data.content_type.to_string()));
    }
    let [info] = data.signers.as_slice() else {
        return Err(SignatureError::SignerCount(data.signers.len()));
    };
    let (signer, intermediates) = split_certificates(data, &info.identifier)?;
    let scheme = Scheme::of(&info.digest_algorithm, &info.signature_algorithm)?;
    if scheme.digest == DigestAlgorithm::Sha1 && sha1 == Sha1Policy::Refuse {
        return Err(SignatureError::Sha1);
    }
    check_signature(info, scheme, &signer, signed)?;
    Ok(VerifiedSignature { signer, intermediates, digest: scheme.digest })
}

/// The signer's certificate and all others.
fn split_certificates(
    data: &SignedData<'_>,
    identifier: &SignerIdentifier<'_>,
) -> Result<(SignerCertificate, Vec<Vec<u8>>), SignatureError> {
    let given = data.certificates.len();
    if given > MOST_CERTIFICATES {
        return Err(SignatureError::TooManyCertificates(given));
    }
    let (mut signer, mut others, mut unreadable) = (None, Vec::new(), 0);
    for der in &data.certificates {
        match SignerCertificate::from_der(der) {
            Ok(certificate) if signer.is_none() && certificate.is_named_by(identifier) => signer = Some(certificate),
            Ok(_) => others.push(der.to_vec()),
            Err(_) => {
                unreadable += 1;
                others.push(der.to_vec());
            }
        }
    }
    let signer = signer.ok_or(SignatureError::NoSignerCertificate { given, unreadable })?;
    Ok((signer, others))
}

fn check_signature(
    info: &SignerInfo<'_>,
    scheme: Scheme,
    signer: &SignerCertificate,
    signed: &[u8],
) -> Result<(), SignatureError> {
    let key = signer.rsa_key().map_err(SignatureError::Key)?;
    let bits = key.n().bits();
    if bits < SMALLEST_KEY_BITS {
        return Err(SignatureError::WeakKey { bits });
    }
    let content_digest = scheme.digest.digest(signed);
    let verifies = |digest: &[u8]| scheme.verifies(&key, digest, &info.signature);
    let is_valid = match &info.signed_attributes {
        None => verifies(&content_digest),
        Some(attributes) => {
            check_attributes(attributes, &content_digest)?;
            // RFC 5652 §5.4 wants the sorted form; signers that do not sort have signed what they sent.
            verifies(&scheme.digest.digest(&attributes.as_received))
                || verifies(&scheme.digest.digest(&attributes.sorted))
        }
    };
    if is_valid { Ok(()) } else { Err(SignatureError::SignatureDiffers) }
}

/// The two attributes that tie the signed attributes to the content (RFC 5652 §5.6, §11.1, §11.2).
fn check_attributes(attributes: &SignedAttributes<'_>, content_digest: &[u8]) -> Result<(), SignatureError> {
    const CONTENT_TYPE: SignatureError = SignatureError::Attribute("contentType");
    const MESSAGE_DIGEST: SignatureError = SignatureError::Attribute("messageDigest");
    let content_type = attributes.only_value(ID_CONTENT_TYPE).ok_or(CONTENT_TYPE)?;
    let content_type = Oid::of(content_type).map_err(|_| CONTENT_TYPE)?;
    if !content_type.is(ID_DATA) {
        return Err(SignatureError::AttributeContentType(content_type.to_string()));
    }
    let digest = attributes.only_value(ID_MESSAGE_DIGEST).ok_or(MESSAGE_DIGEST)?;
    let digest = digest.octet_string().map_err(|_| MESSAGE_DIGEST)?;
    if *digest != *content_digest {
        return Err(SignatureError::DigestDiffers);
    }
    Ok(())
}

/// When the signer says that he signed (RFC 5652 §11.3).
fn signing_time(attributes: &SignedAttributes<'_>) -> Result<Option<TemporalReference>, SignatureError> {
    if !attributes.has(ID_SIGNING_TIME) {
        return Ok(None);
    }
    let readable = attributes.only_value(ID_SIGNING_TIME).and_then(|value| value.exact().ok());
    let time = readable.and_then(|der| Time::from_der(&der).ok());
    let seconds = time.and_then(|time| i64::try_from(time.to_unix_duration().as_secs()).ok());
    seconds.map(TemporalReference::from_unix).map(Some).ok_or(SignatureError::Attribute("signingTime"))
}

#[cfg(test)]
mod tests;
