//! The Incoming Point (§2.2.2, §3.2): what an incoming message is, and what that makes of it.
//!
//! Pure: message, directory, trust and instant come in, a classification goes out. It is asked twice about the same
//! message, by the milter and again by the hop, because neither trusts a header.

mod formal_correctness;
mod ordinary;

use bytes::Bytes;

use crate::directory::{Directory, ProviderRecord};
use crate::message::address_list::addresses;
use crate::message::anomaly_reason::AnomalyReason;
use crate::message::certification_data::CertificationData;
use crate::message::header::Header;
use crate::message::mime::Entity;
use crate::model::{Address, Msgid, TemporalReference};
use crate::smime::{DigestAlgorithm, Sha1Policy, Trust, VerifiedSignature, verify};

pub use ordinary::{OrdinaryMail, Routes};

/// A message as it arrives: the SMTP envelope and the octets.
#[derive(Debug, Clone, Copy)]
pub struct Arrival<'a> {
    /// The reverse path without angle brackets; empty for the empty one.
    pub sender: &'a str,
    /// The forward paths, as their sender named them.
    pub recipients: &'a [String],
    pub message: &'a Bytes,
}

/// Against what a message is checked.
#[derive(Clone, Copy)]
pub struct Standards<'a> {
    pub directory: &'a Directory,
    pub trust: &'a Trust,
    pub sha1: Sha1Policy,
    pub at: TemporalReference,
}

/// What an incoming message is (§2.2.2).
#[derive(Debug)]
pub enum Classification {
    /// A correct and undamaged transport envelope: to be taken in charge.
    Envelope(Box<CertifiedMessage>),
    /// A correct and undamaged notification.
    Notification(Box<CertifiedMessage>),
    /// From a provider, but not correct.
    NotCorrect { provider: String, reason: AnomalyReason },
    /// Not from the PEC system.
    Ordinary(AnomalyReason),
}

/// A message whose signature, signer and form hold.
#[derive(Debug, Clone)]
pub struct CertifiedMessage {
    pub data: CertificationData,
    /// Its own Message-ID, where it is one.
    pub id: Option<Msgid>,
    /// The name of the provider that signed it.
    pub provider: String,
    /// Where that provider wants take-charges and virus detections.
    pub mail_receipt: Address,
    /// SHA-1 of the signer's certificate, the name the directory gives it (§4.5).
    pub signer: [u8; 20],
    /// The content of postacert.eml, as it lies; empty for kinds without one.
    pub original: Bytes,
    /// Whether it is signed with SHA-1, which is counted.
    pub is_sha1: bool,
}

/// Classifies a message by the four tests of §2.2.2: signature existence, origin, validity, formal correctness.
pub fn classify(arrival: &Arrival, standards: &Standards) -> Classification {
    let signed = match signature_existence(arrival.message) {
        Ok(signed) => signed,
        Err(reason) => return Classification::Ordinary(reason),
    };
    let (signature, provider) = match origin_and_validity(&signed, standards) {
        Ok(verified) => verified,
        Err(reason) => return Classification::Ordinary(reason),
    };
    match formal_correctness::check(arrival, &signed.content, provider) {
        Err(reason) => Classification::NotCorrect { provider: provider.name.clone(), reason },
        Ok(form) => {
            let message = Box::new(CertifiedMessage {
                data: form.data,
                id: Header::read(arrival.message).text("Message-ID").and_then(|text| text.parse().ok()),
                provider: provider.name.clone(),
                mail_receipt: provider.mail_receipt.clone(),
                signer: signature.signer.sha1(),
                original: form.original,
                is_sha1: signature.digest == DigestAlgorithm::Sha1,
            });
            match form.is_envelope {
                true => Classification::Envelope(message),
                false => Classification::Notification(message),
            }
        }
    }
}

/// The two parts of a signed message.
pub struct SignedParts {
    /// What the signature covers.
    pub content: Entity,
    /// The SignedData, transfer encoding removed.
    pub signature: Vec<u8>,
}

/// Takes a `multipart/signed` S/MIME message apart.
pub fn signature_existence(message: &Bytes) -> Result<SignedParts, AnomalyReason> {
    let whole = Entity::read(message.clone());
    let is_pkcs7 = |kind: &str| {
        ["application/pkcs7-signature", "application/x-pkcs7-signature"]
            .iter()
            .any(|one| one.eq_ignore_ascii_case(kind))
    };
    // A signature part of the right type is enough: some providers leave `protocol` out or spell it otherwise.
    if whole.content_type.kind != "multipart/signed" {
        return Err(AnomalyReason::NotSigned);
    }
    let parts = whole.parts().map_err(|error| AnomalyReason::BrokenSignature(error.to_string()))?;
    let [content, signature] = parts.as_slice() else { return Err(AnomalyReason::NotSigned) };
    if !is_pkcs7(&signature.content_type.kind) {
        return Err(AnomalyReason::NotSigned);
    }
    let octets = signature
        .decoded_body()
        .ok_or_else(|| AnomalyReason::BrokenSignature("the signature part is not valid base64".into()))?;
    Ok(SignedParts { content: content.clone(), signature: octets })
}

fn origin_and_validity<'a>(
    signed: &SignedParts,
    standards: &Standards<'a>,
) -> Result<(VerifiedSignature, &'a ProviderRecord), AnomalyReason> {
    let signature = verify(&signed.signature, &signed.content.whole(), standards.sha1)
        .map_err(|error| AnomalyReason::BrokenSignature(error.to_string()))?;
    let signer = &signature.signer;
    let provider = standards
        .directory
        .provider_of_certificate(signer.der())
        .ok_or_else(|| AnomalyReason::UnknownSigner(signer.subject().to_owned()))?;
    standards.trust.check(signer, &signature.intermediates, standards.at).map_err(|defect| {
        AnomalyReason::InvalidCertificate { signer: signer.subject().to_owned(), defect: defect.to_string() }
    })?;
    Ok((signature, provider))
}

/// The certification data inside a signed part, if there are any: not checked against anything.
pub fn certification_data_of(content: &Entity) -> Option<CertificationData> {
    formal_correctness::certification_data(&content.parts_or_itself()).ok()
}

/// Who an uncertified message is from: the reverse path, or the author where that is empty.
pub fn apparent_sender(reverse_path: &str, message: &[u8]) -> Option<Address> {
    if let Ok(sender) = reverse_path.parse() {
        return Some(sender);
    }
    let author = Header::read(message).first("From")?;
    addresses(author.raw_value()).ok()?.into_iter().next()
}
