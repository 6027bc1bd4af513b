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
pub use non_acceptance::{non_acceptance, non_acceptance_for_virus, reason as non_acceptance_reason};
pub use non_delivery::{Failure, non_delivery};
pub use server_server_acceptance::server_server_acceptance;
pub use server_user_acceptance::server_user_acceptance;
pub use timeout_delivery_error::{TimeoutNotice, timeout_delivery_error};
pub use virus_delivery_error::virus_delivery_error;
pub use virus_detection::virus_detection;

use crate::message::Pieces;
use crate::message::body::{ReadableText, Unsigned};
use crate::message::certification_data::{CertificationData, TransactionFacts};
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
        self.composed(provider, None)
    }

    /// The same once more, made from the log: a field says so, outside and where the signature covers it. Texts and
    /// certification data are those of the first time.
    pub fn compose_again(self, provider: &Provider, made: TemporalReference, lacks_original: bool) -> Unsigned {
        let lack = if lacks_original { wire::WITHOUT_ORIGINAL } else { "" };
        self.composed(provider, Some(format!("{} {}{lack}", wire::FROM_LOG, made.date_field())))
    }

    fn composed(self, provider: &Provider, mark: Option<String>) -> Unsigned {
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
        let mark = mark.into_iter().map(|text| (wire::X_RIPRODUZIONE, text)).collect::<Vec<_>>();
        header.extend(mark.iter().cloned());
        Unsigned::compose_marked(header, &mark, &self.id, &self.text, Some(self.data.to_xml()), self.original)
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

/// The certification data of what a virus stopped; `name` is the scanner's word for it.
fn stopped_by_virus(
    kind: Kind,
    facts: TransactionFacts,
    name: &str,
    issuer: &str,
    at: TemporalReference,
) -> CertificationData {
    CertificationData {
        error: ErrorType::Virus,
        error_text: Some(name.to_owned()),
        ..CertificationData::new(kind, facts, issuer, at)
    }
}

/// `è stato rilevato un problema di sicurezza NAME.`
fn security_problem(name: &str) -> String {
    format!("è stato rilevato un problema di sicurezza {name}.")
}

/// `"S" proveniente da "SENDER"`
fn subject_and_sender(data: &CertificationData) -> String {
    format!("\"{}\" proveniente da \"{}\"", data.facts.subject_text(), data.facts.sender)
}
