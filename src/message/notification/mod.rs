//! The notifications (§3): one file per kind, all with the same inner order.
//!
//! A notification is made from certification data and nothing else but, in a delivery receipt, the original; so the
//! same entry of the log always gives the same octets.

mod delivery;
mod non_acceptance;
mod non_delivery;
mod server_server_acceptance;
mod server_user_acceptance;
mod timeout_delivery_error;
mod virus_delivery_error;
mod virus_detection;

pub use delivery::delivery;
pub use non_acceptance::{non_acceptance, non_acceptance_for_virus};
pub use non_delivery::{Failure, non_delivery};
pub use server_server_acceptance::server_server_acceptance;
pub use server_user_acceptance::server_user_acceptance;
pub use timeout_delivery_error::{TimeoutNotice, timeout_delivery_error};
pub use virus_delivery_error::virus_delivery_error;
pub use virus_detection::virus_detection;

use crate::message::Pieces;
use crate::message::body::{ReadableText, Unsigned};
use crate::message::certification_data::CertificationData;
use crate::message::encode::unstructured;
use crate::message::wire::{self, ErrorType, Kind};
use crate::model::{Address, Msgid, Provider, TemporalReference};

/// A notification before it is put together and signed.
#[derive(Debug, Clone)]
pub struct Notification {
    pub data: CertificationData,
    /// Its own Message-ID, never the PEC msgid.
    pub id: Msgid,
    pub to: Address,
    text: ReadableText,
    original: Option<Pieces>,
}

impl Notification {
    /// The message without its signature. `Date` and text carry the instant of the certification data (§4.1).
    pub fn compose(self, provider: &Provider) -> Unsigned {
        let CertificationData { kind, error, facts, at, .. } = &self.data;
        let reference = facts.msgid.clone().unwrap_or_else(|| facts.id.bracketed());
        let mut header = vec![
            (wire::X_RICEVUTA, kind.token().to_owned()),
            ("Date", at.date_field()),
            ("Subject", unstructured("Subject", kind.subject_prefix(*error), facts.subject_text())),
            ("From", provider.sending_address.to_string()),
            ("To", self.to.to_string()),
            ("Message-ID", self.id.to_string()),
            (wire::X_RIFERIMENTO, reference.to_string()),
        ];
        match (kind, error) {
            (Kind::VirusDetection, _) => header.push((wire::X_MITTENTE, facts.sender.to_string())),
            (_, ErrorType::Virus) => header.push((wire::X_VERIFICA_SICUREZZA, wire::SECURITY_ERROR.to_owned())),
            _ => {}
        }
        Unsigned::compose(header, &self.id, &self.text, Some(self.data.to_xml()), self.original)
    }
}

/// `Il giorno D alle ore T (Z)`, the beginning of every text (§4.2).
pub fn when(at: TemporalReference) -> String {
    format!("Il giorno {} alle ore {} ({})", at.day(), at.time(), at.zone())
}

/// `Identificativo messaggio: ID`, the end of every text.
fn identifier(data: &CertificationData) -> String {
    format!("Identificativo messaggio: {}", data.facts.id)
}

/// `"S" proveniente da "SENDER"`
fn subject_and_sender(data: &CertificationData) -> String {
    format!("\"{}\" proveniente da \"{}\"", data.facts.subject_text(), data.facts.sender)
}
