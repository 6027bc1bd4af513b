//! Time stamps (RFC 3161): the request to an authority, and whether its answer proves when some octets were there.
//!
//! An answer counts when it grants a token over this digest, with the nonce of the request; when the token is signed
//! (checked by OpenSSL) by one certificate that is inside it, that the signed attributes name by its hash (RFC 5816) and
//! that is for time stamping alone; and when a path leads from that certificate to a configured CA at the instant of the
//! stamp. So a stamp holds also after its certificate has expired. Fails with the first of these that is not so.

use const_oid::ObjectIdentifier;
use const_oid::db::rfc5280::ID_CE_EXT_KEY_USAGE;
use const_oid::db::rfc5911::ID_CONTENT_TYPE;
use const_oid::db::rfc5912::{ID_SHA_256, ID_SHA_384, ID_SHA_512};
use der::asn1::{Int, Null, OctetString};
use der::{Any, Encode};
use openssl::cms::{CMSOptions, CmsContentInfo};
use openssl::error::ErrorStack;
use openssl::stack::Stack;
use openssl::x509::X509;
use sha1::{Digest, Sha1};
use sha2::{Sha256, Sha384, Sha512};
use spki::AlgorithmIdentifier;
use x509_tsp::{MessageImprint, TimeStampReq, TspVersion};

use super::ber::{BOOLEAN, BerError, Element, INTEGER, OBJECT_IDENTIFIER, OCTET_STRING, SEQUENCE};
use super::certificate::SignerCertificate;
use super::cms::{CmsError, Oid, SignedAttributes, SignedData, SignerInfo};
use super::path::{PathError, Trust};
use crate::model::TemporalReference;

/// The largest answer that is read: a token has some certificates in it.
pub const LARGEST: usize = 64 * 1024;

/// The media types of request and answer over HTTP (RFC 3161 §3.4).
pub const REQUEST_TYPE: &str = "application/timestamp-query";
pub const ANSWER_TYPE: &str = "application/timestamp-reply";

const UTF8_STRING: u8 = 0x0c;
const BIT_STRING: u8 = 0x03;
const GENERALIZED_TIME: u8 = 0x18;
const ID_CT_TST_INFO: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.1.4");
const ID_KP_TIME_STAMPING: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.8");
/// SigningCertificate (RFC 2634 §5.4) and SigningCertificateV2 (RFC 5035 §3).
const ID_SIGNING_CERTIFICATE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.2.12");
const ID_SIGNING_CERTIFICATE_V2: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.2.47");

/// A time stamp that holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimeStamp {
    /// When the octets were there (`genTime`), to the second.
    pub at: TemporalReference,
    /// The number the authority gave it, as OpenSSL writes numbers: hexadecimal, upper case.
    pub serial: String,
    /// The subject of the authority's certificate.
    pub authority: String,
}

/// Why an answer proves nothing.
#[derive(Debug, thiserror::Error)]
pub enum TimestampError {
    #[error("the answer has {0} octets, more than {LARGEST}")]
    TooLarge(usize),
    #[error("the answer is no time stamp response (RFC 3161)")]
    Malformed(#[from] BerError),
    #[error("the authority refuses to stamp: {0}")]
    Rejected(String),
    #[error("the answer grants a stamp and has none")]
    NoToken,
    #[error("the stamp is not readable")]
    Token(#[from] CmsError),
    #[error("the stamp holds no TSTInfo but {0}")]
    ContentType(String),
    #[error("the stamp has {0} signers, not one")]
    SignerCount(usize),
    #[error("the certificate that signed the stamp is not inside it")]
    NoSignerCertificate,
    #[error("the signed attribute {0} of the stamp is not there once with one readable value")]
    Attribute(&'static str),
    #[error("the stamp names another certificate than the one that signed it")]
    OtherCertificate,
    #[error("the stamp is signed with the digest {0}, not with SHA-256, SHA-384 or SHA-512")]
    Digest(String),
    #[error("the stamp is not signed by its certificate")]
    Signature(#[source] ErrorStack),
    #[error("the stamp is over other octets")]
    Imprint,
    #[error("the stamp answers another request: its nonce is not ours")]
    Nonce,
    #[error("the instant of the stamp cannot be read: {0:?}")]
    Instant(String),
    #[error("the certificate {0} is not for time stamping alone (critical extendedKeyUsage timeStamping)")]
    Purpose(String),
    #[error("the authority is not trusted")]
    Path(#[from] PathError),
}

/// What is sent to an authority to have a SHA-256 digest stamped (RFC 3161 §2.4.1); the answer shall bring its certificate.
pub fn request(digest: &[u8; 32], nonce: u64) -> Result<Vec<u8>, der::Error> {
    let request = TimeStampReq {
        version: TspVersion::V1,
        message_imprint: MessageImprint {
            hash_algorithm: AlgorithmIdentifier { oid: ID_SHA_256, parameters: Some(Any::encode_from(&Null)?) },
            hashed_message: OctetString::new(*digest)?,
        },
        req_policy: None,
        nonce: Some(Int::new(&integer(nonce))?),
        cert_req: true,
        extensions: None,
    };
    request.to_der()
}

/// Judges an answer (RFC 3161 §2.4.2) to a request for this digest; the nonce is known only to whoever asked.
pub fn check(
    response: &[u8],
    digest: &[u8; 32],
    nonce: Option<u64>,
    authorities: &Trust,
) -> Result<TimeStamp, TimestampError> {
    if response.len() > LARGEST {
        return Err(TimestampError::TooLarge(response.len()));
    }
    let token = granted(response)?;
    let data = SignedData::read(&token)?;
    if !data.content_type.is(ID_CT_TST_INFO) {
        return Err(TimestampError::ContentType(data.content_type.to_string()));
    }
    let content = data.content_octets()?.ok_or(TimestampError::NoToken)?;
    let info = Info::read(&content)?;
    if info.digest != Some(digest) {
        return Err(TimestampError::Imprint);
    }
    if nonce.is_some_and(|nonce| info.nonce != Some(&integer(nonce)[..])) {
        return Err(TimestampError::Nonce);
    }
    let at = instant(info.instant)?;
    let [signer] = data.signers.as_slice() else {
        return Err(TimestampError::SignerCount(data.signers.len()));
    };
    let (certificate, others) = certificates(&data, signer)?;
    check_attributes(signer, &certificate)?;
    check_signature(&token, &certificate)?;
    check_purpose(&certificate)?;
    authorities.check_time_stamper(&certificate, &others, at)?;
    Ok(TimeStamp { at, serial: hexadecimal(info.serial), authority: certificate.subject().to_owned() })
}

/// The token of an answer that grants one, in the octets it came in.
fn granted(response: &[u8]) -> Result<Vec<u8>, TimestampError> {
    let mut fields = Element::first(response)?.expect(SEQUENCE)?.children();
    let mut status = fields.required(SEQUENCE)?.children();
    // 0 is granted, 1 granted with modifications.
    let number = status.required(INTEGER)?.content().to_vec();
    if !matches!(number.as_slice(), [0 | 1]) {
        return Err(TimestampError::Rejected(told(&number, &mut status)));
    }
    let token = fields.next().ok_or(TimestampError::NoToken)??.expect(SEQUENCE)?;
    Ok(token.exact()?.into_owned())
}

/// What the authority says for people, and the bits of its failure.
fn told<'a>(number: &[u8], rest: &mut impl Iterator<Item = Result<Element<'a>, BerError>>) -> String {
    let mut told = format!("status {}", hexadecimal(number));
    for element in rest.filter_map(Result::ok) {
        if element.has_tag(SEQUENCE) {
            let texts = element.children().filter_map(Result::ok).filter(|text| text.has_tag(UTF8_STRING));
            for text in texts {
                // Strangers' text goes to the log: one line, and not a long one.
                let text = String::from_utf8_lossy(text.content());
                let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect();
                told.push_str(&format!(", {text:?}"));
            }
        } else if element.has_tag(BIT_STRING) {
            told.push_str(&format!(", failure {}", failure(element.content())));
        }
    }
    told
}

/// PKIFailureInfo (RFC 3161 §2.4.2) by name.
fn failure(bits: &[u8]) -> &'static str {
    const NAMES: [(usize, &str); 8] = [
        (0, "badAlg"),
        (2, "badRequest"),
        (5, "badDataFormat"),
        (14, "timeNotAvailable"),
        (15, "unacceptedPolicy"),
        (16, "unacceptedExtension"),
        (17, "addInfoNotAvailable"),
        (25, "systemFailure"),
    ];
    // The first octet counts unused bits.
    let is_set = |bit: usize| bits.get(1 + bit / 8).is_some_and(|octet| octet & (0x80 >> (bit % 8)) != 0);
    NAMES.into_iter().find(|(bit, _)| is_set(*bit)).map_or("unknown", |(_, name)| name)
}

/// TSTInfo (RFC 3161 §2.4.2), as far as it is asked about.
struct Info<'a> {
    /// None where it is no SHA-256.
    digest: Option<&'a [u8]>,
    serial: &'a [u8],
    instant: &'a [u8],
    nonce: Option<&'a [u8]>,
}

impl<'a> Info<'a> {
    fn read(content: &'a [u8]) -> Result<Self, BerError> {
        let mut fields = Element::first(content)?.expect(SEQUENCE)?.children();
        fields.required(INTEGER)?;
        fields.required(OBJECT_IDENTIFIER)?;
        let mut imprint = fields.required(SEQUENCE)?.children();
        let algorithm = Oid::of(imprint.required(SEQUENCE)?.children().required(OBJECT_IDENTIFIER)?)?;
        let digest = imprint.required(OCTET_STRING)?.content();
        let serial = fields.required(INTEGER)?.content();
        let instant = fields.required(GENERALIZED_TIME)?.content();
        // The accuracy and whether stamps are in order.
        fields.optional(SEQUENCE)?;
        fields.optional(BOOLEAN)?;
        let nonce = fields.optional(INTEGER)?.map(Element::content);
        Ok(Info { digest: algorithm.is(ID_SHA_256).then_some(digest), serial, instant, nonce })
    }
}

/// `20260716000005Z`, with or without a fraction of a second.
fn instant(text: &[u8]) -> Result<TemporalReference, TimestampError> {
    let parse = || {
        let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
        let whole = text.split_once('.').map_or(text, |(whole, _)| whole);
        if whole.len() != 14 || !whole.bytes().all(|octet| octet.is_ascii_digit()) {
            return None;
        }
        let part = |from: usize, to: usize| whole.get(from..to);
        let (date, time) = (
            format!("{}-{}-{}", part(0, 4)?, part(4, 6)?, part(6, 8)?),
            format!("{}:{}:{}Z", part(8, 10)?, part(10, 12)?, part(12, 14)?),
        );
        TemporalReference::from_rfc3339(&format!("{date}T{time}"))
    };
    parse().ok_or_else(|| TimestampError::Instant(String::from_utf8_lossy(text).into_owned()))
}

/// The signer's certificate and the others of the token.
fn certificates(
    data: &SignedData<'_>,
    signer: &SignerInfo<'_>,
) -> Result<(SignerCertificate, Vec<Vec<u8>>), TimestampError> {
    let is_signer = |der: &[u8]| {
        SignerCertificate::from_der(der).ok().filter(|certificate| certificate.is_named_by(&signer.identifier))
    };
    let certificate = data.certificates.iter().find_map(|der| is_signer(der));
    let others = data.certificates.iter().map(|der| der.to_vec()).collect();
    Ok((certificate.ok_or(TimestampError::NoSignerCertificate)?, others))
}

/// The signed attributes: what was signed, and by which certificate.
fn check_attributes(signer: &SignerInfo<'_>, certificate: &SignerCertificate) -> Result<(), TimestampError> {
    // OpenSSL takes MD5, too.
    let digest = signer.digest_algorithm.oid;
    if ![ID_SHA_256, ID_SHA_384, ID_SHA_512].into_iter().any(|strong| digest.is(strong)) {
        return Err(TimestampError::Digest(digest.to_string()));
    }
    const CONTENT_TYPE: TimestampError = TimestampError::Attribute("contentType");
    let attributes = signer.signed_attributes.as_ref().ok_or(CONTENT_TYPE)?;
    let content_type = attributes.only_value(ID_CONTENT_TYPE).and_then(|value| Oid::of(value).ok());
    if !content_type.is_some_and(|oid| oid.is(ID_CT_TST_INFO)) {
        return Err(CONTENT_TYPE);
    }
    let named = [ID_SIGNING_CERTIFICATE_V2, ID_SIGNING_CERTIFICATE].map(|oid| names(attributes, oid, certificate));
    match named {
        [None, None] => Err(TimestampError::Attribute("signingCertificate")),
        named if named.into_iter().flatten().all(|is_named| is_named) => Ok(()),
        _ => Err(TimestampError::OtherCertificate),
    }
}

/// Whether the first certificate of SigningCertificate or SigningCertificateV2 is this one; none without the attribute.
fn names(attributes: &SignedAttributes<'_>, oid: ObjectIdentifier, certificate: &SignerCertificate) -> Option<bool> {
    let digest_matches = |value: Element<'_>| -> Result<bool, BerError> {
        let mut identifiers = value.expect(SEQUENCE)?.children().required(SEQUENCE)?.children();
        let mut first = identifiers.required(SEQUENCE)?.children();
        let algorithm = match oid == ID_SIGNING_CERTIFICATE_V2 {
            true => first.optional(SEQUENCE)?,
            false => None,
        };
        let named = first.required(OCTET_STRING)?.content();
        let der = certificate.der();
        let digest = match algorithm {
            None if oid == ID_SIGNING_CERTIFICATE => Sha1::digest(der).to_vec(),
            None => Sha256::digest(der).to_vec(),
            Some(algorithm) => match Oid::of(algorithm.children().required(OBJECT_IDENTIFIER)?)? {
                named if named.is(ID_SHA_256) => Sha256::digest(der).to_vec(),
                named if named.is(ID_SHA_384) => Sha384::digest(der).to_vec(),
                named if named.is(ID_SHA_512) => Sha512::digest(der).to_vec(),
                _ => return Ok(false),
            },
        };
        Ok(digest == named)
    };
    // Twice the same attribute is as good as a wrong one.
    let value = || attributes.only_value(oid).is_some_and(|value| digest_matches(value).unwrap_or(false));
    attributes.has(oid).then(value)
}

/// By OpenSSL, because authorities sign with elliptic curves, too; whom to trust is asked elsewhere. The certificate is the
/// one that is judged: left alone, OpenSSL looks for one inside the token, and may find another of the same issuer and
/// number.
fn check_signature(token: &[u8], certificate: &SignerCertificate) -> Result<(), TimestampError> {
    let verify = || {
        let mut signers = Stack::new()?;
        signers.push(X509::from_der(certificate.der())?)?;
        let options = CMSOptions::BINARY | CMSOptions::NO_SIGNER_CERT_VERIFY | CMSOptions::NOINTERN;
        CmsContentInfo::from_der(token)?.verify(Some(&signers), None, None, None, options)
    };
    verify().map_err(TimestampError::Signature)
}

/// RFC 3161 §2.3: extendedKeyUsage with timeStamping and nothing else, and critical.
fn check_purpose(certificate: &SignerCertificate) -> Result<(), TimestampError> {
    let is_alone = |value: &[u8]| -> Result<bool, BerError> {
        let mut purposes = Element::first(value)?.expect(SEQUENCE)?.children();
        Ok(Oid::of(purposes.required(OBJECT_IDENTIFIER)?)?.is(ID_KP_TIME_STAMPING) && purposes.next().is_none())
    };
    let usage = certificate.extension(ID_CE_EXT_KEY_USAGE).filter(|usage| usage.critical);
    match usage.is_some_and(|usage| is_alone(usage.extn_value.as_bytes()).unwrap_or(false)) {
        true => Ok(()),
        false => Err(TimestampError::Purpose(certificate.subject().to_owned())),
    }
}

/// The content octets of a non-negative INTEGER.
fn integer(number: u64) -> Vec<u8> {
    let octets = number.to_be_bytes();
    let zeros = octets.iter().take_while(|octet| **octet == 0).count().min(octets.len() - 1);
    let mut content = octets.get(zeros..).unwrap_or_default().to_vec();
    if content.first().is_some_and(|first| first & 0x80 != 0) {
        content.insert(0, 0);
    }
    content
}

fn hexadecimal(octets: &[u8]) -> String {
    let zeros = octets.iter().take_while(|octet| **octet == 0).count().min(octets.len().saturating_sub(1));
    octets.iter().skip(zeros).map(|octet| format!("{octet:02X}")).collect()
}

#[cfg(test)]
mod tests;
