//! Whether a message that a provider signed has the form of §3 and §4, and certifies only what that provider may.
//!
//! What is certified comes from the signed part alone; the unsigned header must agree with it. `To`, `Cc`, `Date`,
//! `Reply-To` and the texts certify nothing and are not compared.

use bytes::Bytes;

use super::{Arrival, Signatory};
use crate::message::address_list::addresses;
use crate::message::anomaly_reason::AnomalyReason;
use crate::message::certification_data::CertificationData;
use crate::message::header::Header;
use crate::message::mime::Entity;
use crate::message::wire::{self, Kind};
use crate::model::Address;

/// What a correct message holds.
pub struct Form {
    pub data: CertificationData,
    pub original: Bytes,
    pub is_envelope: bool,
}

/// Checks the form of a message whose signed part is `content`.
pub fn check(arrival: &Arrival, content: &Entity, provider: &Signatory) -> Result<Form, AnomalyReason> {
    let header = Header::read(arrival.message);
    author_is_the_providers(&header, provider)?;
    let announced = announced_kind(&header, provider)?;
    let parts = content.parts_or_itself();
    let data = certification_data(&parts)?;
    if data.kind != announced {
        return Err(AnomalyReason::KindMismatch { announced: announced.token(), found: data.kind.token() });
    }
    let mut original = Bytes::new();
    match announced {
        Kind::TransportEnvelope => {
            envelope_agrees(arrival, &header, &data, provider)?;
            original = original_message(&parts).ok_or(AnomalyReason::NoOriginal)?;
        }
        _ => notification_is_the_providers(&data, provider)?,
    }
    Ok(Form { data, original, is_envelope: announced == Kind::TransportEnvelope })
}

/// §2.2.2, §7: the `From` domain is among the signer's managed domains.
fn author_is_the_providers(header: &Header, provider: &Signatory) -> Result<(), AnomalyReason> {
    let foreign = || AnomalyReason::ForeignAuthor { provider: provider.name().to_owned() };
    let mut fields = header.all("From");
    let (Some(field), None) = (fields.next(), fields.next()) else { return Err(foreign()) };
    match addresses(field.raw_value()).as_deref() {
        Ok([author]) if provider.manages(&author.domain()) => Ok(()),
        _ => Err(foreign()),
    }
}

fn announced_kind(header: &Header, provider: &Signatory) -> Result<Kind, AnomalyReason> {
    let mut announcements = header.all(wire::X_TRASPORTO).chain(header.all(wire::X_RICEVUTA));
    let (Some(field), None) = (announcements.next(), announcements.next()) else { return Err(AnomalyReason::NoKind) };
    let (token, is_transport) = (field.text(), field.name().eq_ignore_ascii_case(wire::X_TRASPORTO.as_bytes()));
    if is_transport && token.eq_ignore_ascii_case(wire::ANOMALY) {
        return Err(AnomalyReason::AnomalyEnvelope(provider.name().to_owned()));
    }
    Kind::from_token(&token)
        .filter(|kind| (*kind == Kind::TransportEnvelope) == is_transport)
        .ok_or(AnomalyReason::NoKind)
}

/// Finds daticert.xml by its name, by its type where nothing has the name, at any depth but inside the original.
pub fn certification_data(parts: &[Entity]) -> Result<CertificationData, AnomalyReason> {
    let leaves = leaves(parts);
    let named: Vec<&Entity> = leaves.iter().filter(|part| part.is_named(wire::DATICERT)).collect();
    let typed =
        || leaves.iter().filter(|part| matches!(part.content_type.kind.as_str(), "application/xml" | "text/xml"));
    let candidates = if named.is_empty() { typed().collect() } else { named };
    let unreadable = |why: String| AnomalyReason::NoCertificationData(why);
    let [part] = candidates.as_slice() else {
        return Err(unreadable(format!("{} parts could be it", candidates.len())));
    };
    let xml = part.decoded_body().ok_or_else(|| unreadable("its transfer encoding is damaged".into()))?;
    CertificationData::from_xml(&xml).map_err(|error| unreadable(error.to_string()))
}

/// The content of postacert.eml: by name, else the one attached message.
pub fn original_message(parts: &[Entity]) -> Option<Bytes> {
    let leaves = leaves(parts);
    let by_name = leaves.iter().find(|part| part.is_named(wire::POSTACERT));
    let part = by_name.or_else(|| leaves.iter().find(|part| part.content_type.kind == "message/rfc822"))?;
    match part.header().transfer_encoding().as_str() {
        // Encoding a message/rfc822 part is against RFC 2046 §5.2.1, yet it occurs.
        "base64" | "quoted-printable" => part.decoded_body().map(Bytes::from),
        _ => Some(part.body()),
    }
}

fn leaves(parts: &[Entity]) -> Vec<Entity> {
    let mut leaves = Vec::new();
    for part in parts {
        match part.content_type.is_multipart() {
            true => match part.parts() {
                Ok(inner) => leaves.extend(self::leaves(&inner)),
                Err(_) => leaves.push(part.clone()),
            },
            false => leaves.push(part.clone()),
        }
    }
    leaves
}

fn envelope_agrees(
    arrival: &Arrival,
    header: &Header,
    data: &CertificationData,
    provider: &Signatory,
) -> Result<(), AnomalyReason> {
    let facts = &data.facts;
    let mut ids = header.all("Message-ID");
    let (id, None) = (ids.next().map(|field| field.text()), ids.next()) else {
        return Err(AnomalyReason::MsgidMismatch(facts.id.to_string()));
    };
    if id.as_deref() != Some(facts.id.bracketed().as_str()) {
        return Err(AnomalyReason::MsgidMismatch(facts.id.to_string()));
    }
    if arrival.sender.parse::<Address>().ok().as_ref() != Some(&facts.sender) {
        return Err(AnomalyReason::SenderMismatch(facts.sender.clone()));
    }
    certifies_for(provider, &facts.sender)?;
    for recipient in arrival.recipients {
        if !recipient.parse::<Address>().is_ok_and(|address| facts.certifies(&address)) {
            return Err(AnomalyReason::UnlistedRecipient(recipient.clone()));
        }
    }
    let asked =
        header.text(wire::X_TIPO_RICEVUTA).map_or(Some(Default::default()), |token| wire::receipt_from_token(&token));
    if data.requested.is_none() {
        return Err(AnomalyReason::Incomplete("ricevuta"));
    }
    if asked != data.requested {
        return Err(AnomalyReason::ReceiptTypeMismatch);
    }
    Ok(())
}

/// A provider certifies only what happens in its own domains.
fn notification_is_the_providers(data: &CertificationData, provider: &Signatory) -> Result<(), AnomalyReason> {
    match data.kind {
        Kind::ServerServerAcceptance if data.taken.is_empty() => Err(AnomalyReason::Incomplete("ricezione")),
        Kind::ServerServerAcceptance => data.taken.iter().try_for_each(|address| certifies_for(provider, address)),
        Kind::Delivery | Kind::VirusDetection | Kind::NonDelivery => match &data.recipient {
            None => Err(AnomalyReason::Incomplete("consegna")),
            Some(recipient) => certifies_for(provider, recipient),
        },
        Kind::ServerUserAcceptance | Kind::NonAcceptance | Kind::TimeoutDeliveryError | Kind::TransportEnvelope => {
            certifies_for(provider, &data.facts.sender)
        }
    }
}

fn certifies_for(provider: &Signatory, address: &Address) -> Result<(), AnomalyReason> {
    let domain = address.domain();
    match provider.manages(&domain) {
        true => Ok(()),
        false => Err(AnomalyReason::ForeignDomain { domain, provider: provider.name().to_owned() }),
    }
}

#[cfg(test)]
mod tests;
