//! The structure of a received CMS SignedData (RFC 5652 §5), from BER or DER.
//!
//! Only what verification needs is read, and only its structure is judged; `verify.rs` decides what it is worth.
//! Certificates and revocation lists stay uninterpreted octets, so that a stranger's odd certificate in the set cannot
//! make a signature unreadable. Fails with the part that is malformed.

use std::borrow::Cow;
use std::fmt;

use const_oid::ObjectIdentifier;
use const_oid::db::rfc5911::ID_SIGNED_DATA;

use super::ber::{BerError, Children, Element, INTEGER, OBJECT_IDENTIFIER, OCTET_STRING, SEQUENCE, SET, encode};

const CONTEXT_0: u8 = 0x80;
const CONTEXT_0_CONSTRUCTED: u8 = 0xa0;
const CONTEXT_1_CONSTRUCTED: u8 = 0xa1;

/// Why octets are not a SignedData.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CmsError {
    #[error("the CMS content type is {0}, not signed-data")]
    NotSignedData(String),
    #[error("the {part} cannot be read")]
    Malformed {
        part: &'static str,
        #[source]
        source: BerError,
    },
}

/// An object identifier's content octets: those of strangers may be longer than any library type holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Oid<'a>(&'a [u8]);

/// SignedData, RFC 5652 §5.1.
#[derive(Debug)]
pub(super) struct SignedData<'a> {
    pub content_type: Oid<'a>,
    /// The `[0]` around the content; none in a detached signature.
    pub content: Option<Element<'a>>,
    /// The X.509 certificates of the set, in the order they came; other kinds are left out.
    pub certificates: Vec<Cow<'a, [u8]>>,
    pub signers: Vec<SignerInfo<'a>>,
}

/// SignerInfo, RFC 5652 §5.3.
#[derive(Debug)]
pub(super) struct SignerInfo<'a> {
    pub identifier: SignerIdentifier<'a>,
    pub digest_algorithm: Algorithm<'a>,
    pub signed_attributes: Option<SignedAttributes<'a>>,
    pub signature_algorithm: Algorithm<'a>,
    pub signature: Cow<'a, [u8]>,
}

/// How a SignerInfo names its certificate.
#[derive(Debug)]
pub(super) enum SignerIdentifier<'a> {
    /// The issuer's name in DER, and the content octets of the serial number.
    IssuerAndSerial {
        issuer: Vec<u8>,
        serial: &'a [u8],
    },
    KeyIdentifier(Cow<'a, [u8]>),
}

/// AlgorithmIdentifier.
#[derive(Debug)]
pub(super) struct Algorithm<'a> {
    pub oid: Oid<'a>,
    pub parameters: Option<Element<'a>>,
}

/// The attributes under the signature, in both forms they may have been signed in (RFC 5652 §5.4).
#[derive(Debug)]
pub(super) struct SignedAttributes<'a> {
    /// DER, but in the order they came: some signers do not sort.
    pub as_received: Vec<u8>,
    /// True DER, with the set sorted.
    pub sorted: Vec<u8>,
    attributes: Vec<Attribute<'a>>,
}

#[derive(Debug)]
struct Attribute<'a> {
    oid: Oid<'a>,
    values: Vec<Element<'a>>,
}

impl<'a> SignedData<'a> {
    /// Reads a ContentInfo that holds a SignedData (RFC 5652 §3).
    pub(super) fn read(input: &'a [u8]) -> Result<Self, CmsError> {
        let (content_type, signed_data) = content_info(input).map_err(part("content info"))?;
        if !content_type.is(ID_SIGNED_DATA) {
            return Err(CmsError::NotSignedData(content_type.to_string()));
        }
        let mut fields = signed_data.children();
        let (content_type, content) = head(&mut fields).map_err(part("signed data"))?;
        let certificates = certificates(&mut fields).map_err(part("certificate set"))?;
        fields.optional(CONTEXT_1_CONSTRUCTED).map_err(part("set of revocation lists"))?;
        let signers = signers(&mut fields).map_err(part("signer info"))?;
        Ok(SignedData { content_type, content, certificates, signers })
    }

    /// The content that travels with the signature (RFC 5652 §5.2); none in a detached one.
    pub(super) fn content_octets(&self) -> Result<Option<Cow<'a, [u8]>>, CmsError> {
        let octets = |explicit: Element<'a>| {
            let inner = explicit.expect(CONTEXT_0_CONSTRUCTED)?.children().next();
            inner.ok_or(BerError::Missing { expected: OCTET_STRING })??.octet_string()
        };
        self.content.map(octets).transpose().map_err(part("signed content"))
    }
}

impl<'a> SignedAttributes<'a> {
    /// The value of an attribute that must be there once, with one value (RFC 5652 §11.1, §11.2).
    pub(super) fn only_value(&self, oid: ObjectIdentifier) -> Option<Element<'a>> {
        let mut of_this_type = self.attributes.iter().filter(|attribute| attribute.oid.is(oid));
        match (of_this_type.next()?.values.as_slice(), of_this_type.next()) {
            ([value], None) => Some(*value),
            _ => None,
        }
    }

    /// Whether an attribute is there at all.
    pub(super) fn has(&self, oid: ObjectIdentifier) -> bool {
        self.attributes.iter().any(|attribute| attribute.oid.is(oid))
    }

    fn read(set: Element<'a>) -> Result<Self, BerError> {
        let (mut encoded, mut attributes) = (Vec::new(), Vec::new());
        for attribute in set.children() {
            let attribute = attribute?.expect(SEQUENCE)?;
            encoded.push(attribute.to_der()?);
            let mut fields = attribute.children();
            let oid = Oid(fields.required(OBJECT_IDENTIFIER)?.content());
            let values = fields.required(SET)?.children().collect::<Result<_, _>>()?;
            attributes.push(Attribute { oid, values });
        }
        let as_received = encode(SET, &encoded.concat());
        encoded.sort();
        Ok(SignedAttributes { as_received, sorted: encode(SET, &encoded.concat()), attributes })
    }
}

impl<'a> Algorithm<'a> {
    pub(super) fn read(element: Element<'a>) -> Result<Self, BerError> {
        let mut fields = element.expect(SEQUENCE)?.children();
        let oid = Oid(fields.required(OBJECT_IDENTIFIER)?.content());
        Ok(Algorithm { oid, parameters: fields.next().transpose()? })
    }
}

impl<'a> Oid<'a> {
    pub(super) fn of(element: Element<'a>) -> Result<Self, BerError> {
        Ok(Oid(element.expect(OBJECT_IDENTIFIER)?.content()))
    }

    pub(super) fn is(self, known: ObjectIdentifier) -> bool {
        self.0 == known.as_bytes()
    }
}

impl fmt::Display for Oid<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match ObjectIdentifier::from_bytes(self.0) {
            Ok(oid) => write!(f, "{oid}"),
            Err(_) => write!(f, "an object identifier of {} octets", self.0.len()),
        }
    }
}

fn part(part: &'static str) -> impl Fn(BerError) -> CmsError {
    move |source| CmsError::Malformed { part, source }
}

fn content_info(input: &[u8]) -> Result<(Oid<'_>, Element<'_>), BerError> {
    let mut fields = Element::first(input)?.expect(SEQUENCE)?.children();
    let content_type = Oid(fields.required(OBJECT_IDENTIFIER)?.content());
    let content = fields.required(CONTEXT_0_CONSTRUCTED)?.children().required(SEQUENCE)?;
    Ok((content_type, content))
}

/// version, digestAlgorithms (a hint for readers in one pass, §5.1: not needed here), encapContentInfo.
fn head<'a>(fields: &mut Children<'a>) -> Result<(Oid<'a>, Option<Element<'a>>), BerError> {
    fields.required(INTEGER)?;
    fields.required(SET)?;
    let mut content = fields.required(SEQUENCE)?.children();
    let content_type = Oid(content.required(OBJECT_IDENTIFIER)?.content());
    Ok((content_type, content.next().transpose()?))
}

fn certificates<'a>(fields: &mut Children<'a>) -> Result<Vec<Cow<'a, [u8]>>, BerError> {
    let Some(set) = fields.optional(CONTEXT_0_CONSTRUCTED)? else {
        return Ok(Vec::new());
    };
    let is_x509 = |choice: &Element<'_>| choice.has_tag(SEQUENCE);
    set.children().filter(|choice| choice.as_ref().map_or(true, is_x509)).map(|choice| choice?.exact()).collect()
}

fn signers<'a>(fields: &mut Children<'a>) -> Result<Vec<SignerInfo<'a>>, BerError> {
    fields.required(SET)?.children().map(|signer| signer_info(signer?)).collect()
}

fn signer_info(element: Element<'_>) -> Result<SignerInfo<'_>, BerError> {
    let mut fields = element.expect(SEQUENCE)?.children();
    fields.required(INTEGER)?;
    let identifier = fields.next().ok_or(BerError::Missing { expected: SEQUENCE })??;
    let digest_algorithm = Algorithm::read(fields.required(SEQUENCE)?)?;
    let signed_attributes = fields.optional(CONTEXT_0_CONSTRUCTED)?.map(SignedAttributes::read).transpose()?;
    let signature_algorithm = Algorithm::read(fields.required(SEQUENCE)?)?;
    let signature = fields.next().ok_or(BerError::Missing { expected: OCTET_STRING })??.octet_string()?;
    let identifier = signer_identifier(identifier)?;
    Ok(SignerInfo { identifier, digest_algorithm, signed_attributes, signature_algorithm, signature })
}

fn signer_identifier(element: Element<'_>) -> Result<SignerIdentifier<'_>, BerError> {
    if element.has_tag(CONTEXT_0) || element.has_tag(CONTEXT_0_CONSTRUCTED) {
        return Ok(SignerIdentifier::KeyIdentifier(element.octets()?));
    }
    let mut fields = element.expect(SEQUENCE)?.children();
    let issuer = fields.required(SEQUENCE)?.to_der()?;
    let serial = fields.required(INTEGER)?.content();
    Ok(SignerIdentifier::IssuerAndSerial { issuer, serial })
}
