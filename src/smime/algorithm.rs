//! The algorithms a signature may use: SHA-1 or SHA-2, with RSA of either padding (RFC 3370 §3.2, RFC 4056, RFC 5754).
//!
//! Reads the two AlgorithmIdentifiers of a SignerInfo into one [`Scheme`] and verifies with it. That the two agree on
//! the digest is decided here; whether the digest is strong enough is left to `verify.rs`. Fails with the identifier
//! that is unknown or does not fit.

use const_oid::ObjectIdentifier;
use const_oid::db::rfc5912::{
    ID_MGF_1, ID_RSASSA_PSS, ID_SHA_1, ID_SHA_256, ID_SHA_384, ID_SHA_512, RSA_ENCRYPTION, SHA_1_WITH_RSA_ENCRYPTION,
    SHA_256_WITH_RSA_ENCRYPTION, SHA_384_WITH_RSA_ENCRYPTION, SHA_512_WITH_RSA_ENCRYPTION,
};
use rsa::{Pkcs1v15Sign, Pss, RsaPublicKey};
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha384, Sha512};

use super::ber::{BerError, Children, Element, INTEGER, SEQUENCE};
use super::cms::{Algorithm, Oid};

/// What RSASSA-PSS-params mean where a field is absent (RFC 4055 §3.1).
const DEFAULT_PSS_DIGEST: DigestAlgorithm = DigestAlgorithm::Sha1;
const DEFAULT_SALT_LENGTH: usize = 20;
const DEFAULT_TRAILER_FIELD: usize = 1;

/// The fields of RSASSA-PSS-params.
const PSS_DIGEST: u8 = 0xa0;
const PSS_MASK_GENERATION: u8 = 0xa1;
const PSS_SALT_LENGTH: u8 = 0xa2;
const PSS_TRAILER_FIELD: u8 = 0xa3;

/// A digest that occurs in signatures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DigestAlgorithm {
    Sha1,
    Sha256,
    Sha384,
    Sha512,
}

/// Why the algorithms of a signature cannot be worked with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AlgorithmError {
    #[error("the digest algorithm {0} is not supported")]
    UnknownDigest(String),
    #[error("the signature algorithm {0} is not supported")]
    UnknownSignature(String),
    #[error("the digest is {digest:?}, but the signature is made with {signature:?}")]
    DigestMismatch { digest: DigestAlgorithm, signature: DigestAlgorithm },
    #[error("the RSASSA-PSS mask generation function {0} is not supported")]
    UnknownMask(String),
    #[error("the RSASSA-PSS trailer field is {0}, not 1")]
    TrailerField(usize),
    #[error("the RSASSA-PSS parameters cannot be read")]
    Parameters(#[from] BerError),
}

/// A digest and a padding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Scheme {
    pub digest: DigestAlgorithm,
    padding: Padding,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Padding {
    Pkcs1,
    Pss { salt_length: usize },
}

impl DigestAlgorithm {
    pub(super) fn digest(self, octets: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha1 => Sha1::digest(octets).to_vec(),
            Self::Sha256 => Sha256::digest(octets).to_vec(),
            Self::Sha384 => Sha384::digest(octets).to_vec(),
            Self::Sha512 => Sha512::digest(octets).to_vec(),
        }
    }

    fn named(oid: Oid<'_>) -> Result<Self, AlgorithmError> {
        let known = [
            (ID_SHA_1, Self::Sha1),
            (ID_SHA_256, Self::Sha256),
            (ID_SHA_384, Self::Sha384),
            (ID_SHA_512, Self::Sha512),
        ];
        lookup(oid, known).ok_or_else(|| AlgorithmError::UnknownDigest(oid.to_string()))
    }
}

impl Scheme {
    /// The one scheme that the two algorithms of a SignerInfo name together.
    pub(super) fn of(digest: &Algorithm<'_>, signature: &Algorithm<'_>) -> Result<Self, AlgorithmError> {
        let digest = DigestAlgorithm::named(digest.oid)?;
        let (signature_digest, padding) = if signature.oid.is(RSA_ENCRYPTION) {
            (digest, Padding::Pkcs1)
        } else if signature.oid.is(ID_RSASSA_PSS) {
            pss(signature.parameters)?
        } else {
            (digest_with_rsa(signature.oid)?, Padding::Pkcs1)
        };
        if signature_digest != digest {
            return Err(AlgorithmError::DigestMismatch { digest, signature: signature_digest });
        }
        Ok(Scheme { digest, padding })
    }

    /// Whether the signature over octets with this digest value was made with the private half of this key.
    pub(super) fn verifies(self, key: &RsaPublicKey, digest: &[u8], signature: &[u8]) -> bool {
        match self.padding {
            Padding::Pkcs1 => key.verify(self.pkcs1(), digest, signature).is_ok(),
            // A salt has room only inside the signature; the library adds to this number unchecked.
            Padding::Pss { salt_length } if salt_length > signature.len() => false,
            Padding::Pss { salt_length } => key.verify(self.pss(salt_length), digest, signature).is_ok(),
        }
    }

    fn pkcs1(self) -> Pkcs1v15Sign {
        match self.digest {
            DigestAlgorithm::Sha1 => Pkcs1v15Sign::new::<Sha1>(),
            DigestAlgorithm::Sha256 => Pkcs1v15Sign::new::<Sha256>(),
            DigestAlgorithm::Sha384 => Pkcs1v15Sign::new::<Sha384>(),
            DigestAlgorithm::Sha512 => Pkcs1v15Sign::new::<Sha512>(),
        }
    }

    fn pss(self, salt_length: usize) -> Pss {
        match self.digest {
            DigestAlgorithm::Sha1 => Pss::new_with_salt::<Sha1>(salt_length),
            DigestAlgorithm::Sha256 => Pss::new_with_salt::<Sha256>(salt_length),
            DigestAlgorithm::Sha384 => Pss::new_with_salt::<Sha384>(salt_length),
            DigestAlgorithm::Sha512 => Pss::new_with_salt::<Sha512>(salt_length),
        }
    }
}

fn digest_with_rsa(oid: Oid<'_>) -> Result<DigestAlgorithm, AlgorithmError> {
    let known = [
        (SHA_1_WITH_RSA_ENCRYPTION, DigestAlgorithm::Sha1),
        (SHA_256_WITH_RSA_ENCRYPTION, DigestAlgorithm::Sha256),
        (SHA_384_WITH_RSA_ENCRYPTION, DigestAlgorithm::Sha384),
        (SHA_512_WITH_RSA_ENCRYPTION, DigestAlgorithm::Sha512),
    ];
    lookup(oid, known).ok_or_else(|| AlgorithmError::UnknownSignature(oid.to_string()))
}

fn lookup(oid: Oid<'_>, known: [(ObjectIdentifier, DigestAlgorithm); 4]) -> Option<DigestAlgorithm> {
    known.into_iter().find(|(known, _)| oid.is(*known)).map(|(_, digest)| digest)
}

/// RSASSA-PSS-params, RFC 4055 §3.1.
fn pss(parameters: Option<Element<'_>>) -> Result<(DigestAlgorithm, Padding), AlgorithmError> {
    let mut fields = parameters.ok_or(BerError::Missing { expected: SEQUENCE })?.expect(SEQUENCE)?.children();
    let digest = match field(&mut fields, PSS_DIGEST, SEQUENCE)? {
        Some(digest) => DigestAlgorithm::named(Algorithm::read(digest)?.oid)?,
        None => DEFAULT_PSS_DIGEST,
    };
    let mask_digest = match field(&mut fields, PSS_MASK_GENERATION, SEQUENCE)? {
        Some(mask) => mask_digest(&Algorithm::read(mask)?)?,
        None => DEFAULT_PSS_DIGEST,
    };
    if mask_digest != digest {
        return Err(AlgorithmError::DigestMismatch { digest, signature: mask_digest });
    }
    let salt_length = field(&mut fields, PSS_SALT_LENGTH, INTEGER)?.map_or(DEFAULT_SALT_LENGTH, small_number);
    match field(&mut fields, PSS_TRAILER_FIELD, INTEGER)?.map_or(DEFAULT_TRAILER_FIELD, small_number) {
        DEFAULT_TRAILER_FIELD => Ok((digest, Padding::Pss { salt_length })),
        other => Err(AlgorithmError::TrailerField(other)),
    }
}

fn mask_digest(mask: &Algorithm<'_>) -> Result<DigestAlgorithm, AlgorithmError> {
    if !mask.oid.is(ID_MGF_1) {
        return Err(AlgorithmError::UnknownMask(mask.oid.to_string()));
    }
    let digest = mask.parameters.ok_or(BerError::Missing { expected: SEQUENCE })?;
    DigestAlgorithm::named(Algorithm::read(digest)?.oid)
}

/// What an explicitly tagged optional field holds.
fn field<'a>(fields: &mut Children<'a>, tag: u8, content: u8) -> Result<Option<Element<'a>>, BerError> {
    fields.optional(tag)?.map(|field| field.children().required(content)).transpose()
}

/// The value of an INTEGER; what does not fit becomes a number that no check accepts.
fn small_number(integer: Element<'_>) -> usize {
    let add = |number: usize, octet: &u8| number.checked_mul(0x100)?.checked_add(usize::from(*octet));
    integer.content().iter().try_fold(0, add).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smime::ber::{OBJECT_IDENTIFIER, encode};

    fn identifier(oid: ObjectIdentifier, parameters: &[u8]) -> Vec<u8> {
        encode(SEQUENCE, &[&encode(OBJECT_IDENTIFIER, oid.as_bytes())[..], parameters].concat())
    }

    fn scheme(
        digest: ObjectIdentifier,
        signature: ObjectIdentifier,
        parameters: &[u8],
    ) -> Result<Scheme, AlgorithmError> {
        let (digest, signature) = (identifier(digest, &[]), identifier(signature, parameters));
        let read = |octets| Algorithm::read(Element::first(octets).unwrap()).unwrap();
        Scheme::of(&read(&digest), &read(&signature))
    }

    fn pss_parameters(mask: ObjectIdentifier, mask_digest: ObjectIdentifier, rest: &[u8]) -> Vec<u8> {
        let digest = encode(PSS_DIGEST, &identifier(ID_SHA_256, &[]));
        let mask = encode(PSS_MASK_GENERATION, &identifier(mask, &identifier(mask_digest, &[])));
        encode(SEQUENCE, &[&digest[..], &mask, rest].concat())
    }

    #[test]
    fn rsa_takes_its_digest_from_either_identifier() {
        let expected = Ok(Scheme { digest: DigestAlgorithm::Sha256, padding: Padding::Pkcs1 });
        assert_eq!(scheme(ID_SHA_256, RSA_ENCRYPTION, &[5, 0]), expected);
        assert_eq!(scheme(ID_SHA_256, SHA_256_WITH_RSA_ENCRYPTION, &[]), expected);
    }

    #[test]
    fn digests_that_disagree_are_refused() {
        let mismatch = |signature| Err(AlgorithmError::DigestMismatch { digest: DigestAlgorithm::Sha256, signature });
        assert_eq!(scheme(ID_SHA_256, SHA_1_WITH_RSA_ENCRYPTION, &[]), mismatch(DigestAlgorithm::Sha1));
        assert_eq!(scheme(ID_SHA_256, ID_RSASSA_PSS, &encode(SEQUENCE, &[])), mismatch(DigestAlgorithm::Sha1));
        let parameters = pss_parameters(ID_MGF_1, ID_SHA_512, &[]);
        assert_eq!(scheme(ID_SHA_256, ID_RSASSA_PSS, &parameters), mismatch(DigestAlgorithm::Sha512));
    }

    #[test]
    fn absent_pss_fields_have_their_defaults() {
        let pss = |digest, salt_length| Ok(Scheme { digest, padding: Padding::Pss { salt_length } });
        assert_eq!(scheme(ID_SHA_1, ID_RSASSA_PSS, &encode(SEQUENCE, &[])), pss(DigestAlgorithm::Sha1, 20));
        let parameters = pss_parameters(ID_MGF_1, ID_SHA_256, &[PSS_SALT_LENGTH, 4, 2, 2, 1, 0xde]);
        assert_eq!(scheme(ID_SHA_256, ID_RSASSA_PSS, &parameters), pss(DigestAlgorithm::Sha256, 0x1de));
    }

    #[test]
    fn unknown_algorithms_are_named() {
        use const_oid::db::rfc5912::{ECDSA_WITH_SHA_256, ID_SHA_224};
        let unknown = AlgorithmError::UnknownDigest("2.16.840.1.101.3.4.2.4".to_owned());
        assert_eq!(scheme(ID_SHA_224, RSA_ENCRYPTION, &[]), Err(unknown));
        let unknown = AlgorithmError::UnknownSignature("1.2.840.10045.4.3.2".to_owned());
        assert_eq!(scheme(ID_SHA_256, ECDSA_WITH_SHA_256, &[]), Err(unknown));
        let parameters = pss_parameters(ID_SHA_1, ID_SHA_256, &[]);
        let unknown = AlgorithmError::UnknownMask("1.3.14.3.2.26".to_owned());
        assert_eq!(scheme(ID_SHA_256, ID_RSASSA_PSS, &parameters), Err(unknown));
        let parameters = pss_parameters(ID_MGF_1, ID_SHA_256, &[PSS_TRAILER_FIELD, 3, 2, 1, 2]);
        assert_eq!(scheme(ID_SHA_256, ID_RSASSA_PSS, &parameters), Err(AlgorithmError::TrailerField(2)));
        let missing = AlgorithmError::Parameters(BerError::Missing { expected: SEQUENCE });
        assert_eq!(scheme(ID_SHA_256, ID_RSASSA_PSS, &[]), Err(missing));
    }
}
