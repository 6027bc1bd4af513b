//! The Incoming Point (§2.2.2, §3.2): what an incoming message is, and what that makes of it.
//!
//! Pure: message, directory, trust and instant come in, a classification goes out. It is asked twice about the same
//! message, by the milter and again by the hop, because neither trusts a header.
//!
//! §2.2.2 draws the line between the two kinds that are not certified by the test that fails. Existence, origin and
//! validity of the signature (and so everything about the signer's certificate: whose it is, path, name constraints,
//! usage, validity, revocation) make a message ordinary mail, for it does not come from the PEC system at all. Only a
//! message whose signature passes all three and whose form is wrong is "from a provider but not correct". A signer of
//! whom nobody can say whether he was revoked is neither: it is a fault, and the message waits.

mod formal_correctness;
mod ordinary;

use bytes::Bytes;

use crate::directory::{Directory, ProviderRecord};
use crate::message::address_list::addresses;
use crate::message::anomaly_reason::AnomalyReason;
use crate::message::certification_data::CertificationData;
use crate::message::header::Header;
use crate::message::mime::Entity;
use crate::model::{Address, Domain, Msgid, TemporalReference};
use crate::smime::{
    DigestAlgorithm, Keyring, PathError, RevocationUnknown, Sha1Policy, Trust, VerifiedSignature, verify,
};

pub use ordinary::{Forwarded, OrdinaryMail, Routes};

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
    pub revocation: Revocation<'a>,
    /// This provider itself, where a message may be one of its own that waited here: that was judged when it was made, so
    /// it needs only a signature by one of these certificates that was valid at its own instant.
    pub own: Option<&'a ProviderRecord>,
    /// What was found when the message arrived here before, where it did.
    pub found_before: Option<&'a FoundBefore>,
}

/// Who was found to have signed a message when it arrived (§2.2.2). Whatever directory, CAs and clock say since, the message
/// needs only a signature by this certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundBefore {
    /// The name of the provider.
    pub provider: String,
    /// Where that provider wants take-charges and virus detections.
    pub mail_receipt: Address,
    /// SHA-256 of the signer's certificate.
    pub signer: [u8; 32],
}

/// Whose signature it is.
enum Signatory<'a> {
    Listed(&'a ProviderRecord),
    FoundBefore(&'a FoundBefore),
}

impl Signatory<'_> {
    fn name(&self) -> &str {
        match self {
            Self::Listed(record) => &record.name,
            Self::FoundBefore(found) => &found.provider,
        }
    }

    fn mail_receipt(&self) -> &Address {
        match self {
            Self::Listed(record) => &record.mail_receipt,
            Self::FoundBefore(found) => &found.mail_receipt,
        }
    }

    /// Whether a domain is among those it manages; what was found before was found to speak for its own domains alone.
    fn manages(&self, domain: &Domain) -> bool {
        match self {
            Self::Listed(record) => record.manages(domain),
            Self::FoundBefore(_) => true,
        }
    }
}

/// How the signer's revocation counts.
#[derive(Clone, Copy)]
pub enum Revocation<'a> {
    /// The message arrives. Of its own certificates a provider knows without a list whether they still hold; what a
    /// list says of them counts all the same.
    Checked { own: &'a Keyring },
    /// The message arrived before and was judged then (§2.2.2).
    JudgedBefore,
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
    /// SHA-256 of the signer's certificate.
    pub signer: [u8; 32],
    /// The content of postacert.eml, as it lies; empty for kinds without one.
    pub original: Bytes,
    /// Whether it is signed with SHA-1, which is counted.
    pub is_sha1: bool,
}

/// Classifies a message by the four tests of §2.2.2: signature existence, origin, validity, formal correctness.
pub fn classify(arrival: &Arrival, standards: &Standards) -> Result<Classification, Unjudged> {
    let signed = match signature_existence(arrival.message) {
        Ok(signed) => signed,
        Err(reason) => return Ok(Classification::Ordinary(reason)),
    };
    let (signature, provider) = match origin_and_validity(&signed, standards) {
        Ok(verified) => verified,
        Err(NotOfAProvider::Reason(reason)) => return Ok(Classification::Ordinary(reason)),
        Err(NotOfAProvider::Unjudged(unjudged)) => return Err(unjudged),
    };
    Ok(match formal_correctness::check(arrival, &signed.content, &provider) {
        Err(reason) => Classification::NotCorrect { provider: provider.name().to_owned(), reason },
        Ok(form) => {
            let message = Box::new(CertifiedMessage {
                data: form.data,
                id: Header::read(arrival.message).text("Message-ID").and_then(|text| text.parse().ok()),
                provider: provider.name().to_owned(),
                mail_receipt: provider.mail_receipt().clone(),
                signer: signature.signer.sha256(),
                original: form.original,
                is_sha1: signature.digest == DigestAlgorithm::Sha1,
            });
            match form.is_envelope {
                true => Classification::Envelope(message),
                false => Classification::Notification(message),
            }
        }
    })
}

/// Why nothing can be said of a message now: it waits, and nobody makes it ordinary mail.
#[derive(Debug, thiserror::Error)]
pub enum Unjudged {
    #[error(transparent)]
    RevocationUnknown(Box<RevocationUnknown>),
    #[error("whether the certificate {signer} is trusted could not be found out")]
    Fault {
        signer: String,
        #[source]
        source: Box<PathError>,
    },
}

impl Unjudged {
    /// The path whose revocation lists are wanting.
    pub fn wanted(&self) -> Option<&RevocationUnknown> {
        match self {
            Self::RevocationUnknown(unknown) => Some(unknown),
            Self::Fault { .. } => None,
        }
    }
}

/// Why the signature does not show that a message comes from a provider, or cannot show it now.
enum NotOfAProvider {
    Reason(AnomalyReason),
    Unjudged(Unjudged),
}

impl From<AnomalyReason> for NotOfAProvider {
    fn from(reason: AnomalyReason) -> Self {
        NotOfAProvider::Reason(reason)
    }
}

/// The two parts of a signed message.
pub struct SignedParts {
    /// What the signature covers.
    pub content: Entity,
    /// The SignedData, transfer encoding removed.
    pub signature: Vec<u8>,
}

/// The provider that signed what one of our anomaly envelopes carries, for the log (§2.3); none of ordinary mail, and none
/// where it cannot be judged.
pub fn provider_within(envelope: &Bytes, sender: &str, standards: &Standards) -> Option<String> {
    let parts = signature_existence(envelope).ok()?.content.parts().ok()?;
    let received = formal_correctness::original_message(&parts)?;
    match classify(&Arrival { sender, recipients: &[], message: &received }, standards).ok()? {
        Classification::Envelope(message) | Classification::Notification(message) => Some(message.provider),
        Classification::NotCorrect { provider, .. } => Some(provider),
        Classification::Ordinary(_) => None,
    }
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
) -> Result<(VerifiedSignature, Signatory<'a>), NotOfAProvider> {
    let signature = verify(&signed.signature, &signed.content.whole(), standards.sha1)
        .map_err(|error| AnomalyReason::BrokenSignature(error.to_string()))?;
    let signer = &signature.signer;
    if let Some(found) = standards.found_before.filter(|found| found.signer == signer.sha256()) {
        return Ok((signature, Signatory::FoundBefore(found)));
    }
    if let Some(own) = standards.own.filter(|own| own.certificates.iter().any(|one| one == signer.der())) {
        let made = certification_data_of(&signed.content).map(|data| data.at.unix());
        // A receipt may tell something that happened before the certificate that signs it began.
        return match made.is_some_and(|made| made > signer.not_after()) {
            false => Ok((signature, Signatory::Listed(own))),
            true => Err(AnomalyReason::InvalidCertificate {
                signer: signer.subject().to_owned(),
                defect: "it had expired when the message was made".to_owned(),
            }
            .into()),
        };
    }
    let provider = standards
        .directory
        .provider_of_certificate(signer.der())
        .ok_or_else(|| AnomalyReason::UnknownSigner(signer.subject().to_owned()))?;
    let Standards { trust, at, .. } = standards;
    let validity = match standards.revocation {
        Revocation::Checked { .. } => trust.check(signer, &signature.intermediates, *at),
        Revocation::JudgedBefore => trust.check_path(signer, &signature.intermediates, *at),
    };
    let is_own = match standards.revocation {
        Revocation::Checked { own } => own.certificates().any(|certificate| certificate == signer),
        Revocation::JudgedBefore => false,
    };
    match validity {
        Ok(()) => {}
        Err(PathError::RevocationUnknown(_)) if is_own => {}
        Err(PathError::RevocationUnknown(unknown)) => {
            return Err(NotOfAProvider::Unjudged(Unjudged::RevocationUnknown(unknown)));
        }
        Err(fault) if fault.is_fault() => {
            let (signer, source) = (signer.subject().to_owned(), Box::new(fault));
            return Err(NotOfAProvider::Unjudged(Unjudged::Fault { signer, source }));
        }
        Err(defect) => {
            let (signer, defect) = (signer.subject().to_owned(), defect.to_string());
            return Err(AnomalyReason::InvalidCertificate { signer, defect }.into());
        }
    }
    Ok((signature, Signatory::Listed(provider)))
}

/// The certification data inside a signed part, if there are any: not checked against anything.
pub fn certification_data_of(content: &Entity) -> Option<CertificationData> {
    formal_correctness::certification_data(&content.parts_or_itself()).ok()
}

/// The certification data that a signed message tells, if it tells any: not checked against anything.
pub fn data_told(message: &Bytes) -> Option<CertificationData> {
    certification_data_of(&signature_existence(message).ok()?.content)
}

/// Who an uncertified message is from: the reverse path, or the author where that is empty.
pub fn apparent_sender(reverse_path: &str, message: &[u8]) -> Option<Address> {
    if let Ok(sender) = reverse_path.parse() {
        return Some(sender);
    }
    let author = Header::read(message).first("From")?;
    addresses(author.raw_value()).ok()?.into_iter().next()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Provider;
    use crate::smime::testing::{NOW, certificate_der, content, read, signature};

    /// A signed message by OpenSSL that has nothing of PEC inside.
    fn signed(name: &str, content: &[u8]) -> Bytes {
        let signature = base64(&signature(name));
        let mut message = b"From: x@alfa.example\r\nContent-Type: multipart/signed; boundary=b\r\n\r\n--b\r\n".to_vec();
        message.extend_from_slice(content);
        let head = "\r\n--b\r\nContent-Type: application/pkcs7-signature\r\nContent-Transfer-Encoding: base64\r\n\r\n";
        message.extend_from_slice(format!("{head}{signature}\r\n--b--\r\n").as_bytes());
        message.into()
    }

    fn base64(octets: &[u8]) -> String {
        crate::message::encode::base64_lines(octets)
    }

    fn listed(certificate: &str) -> Directory {
        let provider = Provider {
            name: "Alfa PEC".into(),
            sending_address: "posta-certificata@alfa.example".parse().unwrap(),
            service_mailbox: "ricevute@alfa.example".parse().unwrap(),
            mail_domains: vec!["alfa.example".parse().unwrap()],
        };
        Directory::empty().with_own(ProviderRecord::own(&provider, vec![certificate_der(certificate)]))
    }

    fn judged(message: &Bytes, directory: &Directory, root: &str, at: i64) -> Classification {
        let trust = Trust::from_pem(&read(&format!("certificates/{root}.pem"))).unwrap();
        let at = TemporalReference::from_unix(at);
        let standards = Standards {
            directory,
            trust: &trust,
            sha1: Sha1Policy::Refuse,
            at,
            revocation: Revocation::JudgedBefore,
            own: None,
            found_before: None,
        };
        classify(&Arrival { sender: "", recipients: &[], message }, &standards).unwrap()
    }

    #[test]
    fn the_four_tests_come_in_their_order() {
        let (good, listed) = (signed("plain", &content()), listed("provider"));
        let reason = |classification| match classification {
            Classification::Ordinary(reason) => format!("ordinary: {reason}"),
            Classification::NotCorrect { provider, reason } => format!("{provider}: {reason}"),
            other => panic!("{other:?}"),
        };
        let ordinary = Bytes::from_static(b"Subject: s\r\n\r\ntext\r\n");
        let existence = reason(judged(&ordinary, &listed, "root", NOW));
        assert_eq!(existence, "ordinary: it is not a multipart/signed S/MIME message");
        let altered = [&content()[..], b"x"].concat();
        let broken = reason(judged(&signed("plain", &altered), &listed, "root", NOW));
        assert!(broken.starts_with("ordinary: its signature does not hold"), "{broken}");
        let sha1 = reason(judged(&signed("sha1", &content()), &listed, "root", NOW));
        assert!(sha1.starts_with("ordinary: its signature does not hold"), "{sha1}");
        let origin = reason(judged(&good, &Directory::empty(), "root", NOW));
        assert!(origin.contains("is not in the providers directory"), "{origin}");
        for (root, at) in [("other-root", NOW), ("root", 0)] {
            let validity = reason(judged(&good, &listed, root, at));
            assert!(validity.starts_with("ordinary: the certificate of"), "{validity}");
        }
        let form = reason(judged(&good, &listed, "root", NOW));
        assert!(form.starts_with("Alfa PEC: no X-Trasporto or X-Ricevuta field"), "{form}");
    }

    #[test]
    fn a_message_of_our_own_needs_neither_directory_nor_ca_but_its_signature() {
        let provider = listed("provider").provider_of_certificate(&certificate_der("provider")).unwrap().clone();
        let trust = Trust::from_pem(&read("certificates/other-root.pem")).unwrap();
        let (directory, at) = (Directory::empty(), TemporalReference::from_unix(NOW));
        let standards = |own| Standards {
            directory: &directory,
            trust: &trust,
            sha1: Sha1Policy::Refuse,
            at,
            revocation: Revocation::JudgedBefore,
            own,
            found_before: None,
        };
        let judged =
            |message, own| classify(&Arrival { sender: "", recipients: &[], message }, &standards(own)).unwrap();
        let good = signed("plain", &content());
        // What is wrong with its form is found only in messages of a known provider.
        assert!(matches!(judged(&good, Some(&provider)), Classification::NotCorrect { .. }));
        assert!(matches!(judged(&good, None), Classification::Ordinary(AnomalyReason::UnknownSigner(_))));
        let altered = signed("plain", &[&content()[..], b"x"].concat());
        assert!(matches!(judged(&altered, Some(&provider)), Classification::Ordinary(_)));
        let other = ProviderRecord { certificates: vec![certificate_der("no-eku")], ..provider.clone() };
        assert!(matches!(judged(&good, Some(&other)), Classification::Ordinary(AnomalyReason::UnknownSigner(_))));
    }

    #[test]
    fn a_signature_is_two_parts_the_second_of_which_says_what_it_is() {
        let message = |kind: &str, parts: &[&str]| {
            let parts: String = parts.iter().map(|part| format!("--b\r\n{part}\r\n")).collect();
            Bytes::from(format!("Content-Type: {kind}; boundary=b\r\n\r\n{parts}--b--\r\n"))
        };
        let [content, signature] =
            ["Content-Type: text/plain\r\n\r\nx", "Content-Type: application/x-PKCS7-signature\r\n\r\ny"];
        let found = signature_existence(&message("Multipart/Signed", &[content, signature])).unwrap();
        assert_eq!((&found.content.body()[..], found.signature), (&b"x"[..], b"y".to_vec()));
        for absent in [
            message("multipart/mixed", &[content, signature]),
            message("multipart/signed", &[content]),
            message("multipart/signed", &[content, content]),
            message("multipart/signed", &[content, signature, content]),
        ] {
            assert_eq!(signature_existence(&absent).err(), Some(AnomalyReason::NotSigned));
        }
        let open = Bytes::from_static(b"Content-Type: multipart/signed; boundary=b\r\n\r\n--b\r\n\r\nx");
        assert!(matches!(signature_existence(&open).err(), Some(AnomalyReason::BrokenSignature(_))));
    }

    #[test]
    fn the_apparent_sender_is_the_reverse_path_else_the_author() {
        let sender = |path, header: &str| {
            apparent_sender(path, format!("{header}\r\n\r\n").as_bytes()).map(|one| one.to_string())
        };
        assert_eq!(sender("a@x.example", "From: b@y.example").as_deref(), Some("a@x.example"));
        assert_eq!(sender("", "From: B <b@y.example>").as_deref(), Some("b@y.example"));
        assert_eq!(sender("", "From: nonsense"), None);
        assert_eq!(sender("", "Subject: s"), None);
    }
}
