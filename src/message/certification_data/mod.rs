//! Certification data (§4.4): the only part of a certified message that machines read.
//!
//! `write` and `read` are inverse for what we write; what others write is read by the same rules. The wire form is
//! `daticert.xml`, whose DTD lies in `testdata/daticert.dtd`.

mod read;
mod write;

use crate::message::wire::{ErrorType, Kind};
use crate::model::{Address, Msgid, PecMsgid, ReceiptType, Recipient, RecipientType, TemporalReference};

pub use read::InvalidCertificationData;

/// What is the same in every message of one transaction: taken from the SMTP dialogue, never from texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionFacts {
    /// `mittente`: the reverse path.
    pub sender: Address,
    /// `destinatari`: all forward paths.
    pub recipients: Vec<Recipient>,
    /// `risposte`: the addresses of `Reply-To`, or the sender.
    pub replies: String,
    /// `oggetto`
    pub subject: Option<String>,
    /// `identificativo`
    pub id: PecMsgid,
    /// `msgid`: the client's, where it gave one.
    pub msgid: Option<Msgid>,
}

impl TransactionFacts {
    /// The subject for texts and subject lines.
    pub fn subject_text(&self) -> &str {
        self.subject.as_deref().unwrap_or_default()
    }

    /// Whether an address is one of the certified recipients.
    pub fn certifies(&self, address: &Address) -> bool {
        self.recipients.iter().any(|one| one.kind == RecipientType::Certified && one.address == *address)
    }

    /// Whether an address is one of the recipients, certified or ordinary.
    pub fn names(&self, address: &Address) -> bool {
        self.recipients.iter().any(|one| one.address == *address)
    }
}

/// All of one daticert.xml.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificationData {
    /// `tipo`
    pub kind: Kind,
    /// `errore`
    pub error: ErrorType,
    pub facts: TransactionFacts,
    /// `gestore-emittente`
    pub issuer: String,
    /// `data`
    pub at: TemporalReference,
    /// `ricevuta`: the type of receipt that the sender requested.
    pub requested: Option<ReceiptType>,
    /// `consegna`
    pub recipient: Option<Address>,
    /// `ricezione`
    pub taken: Vec<Address>,
    /// `errore-esteso`
    pub error_text: Option<String>,
}

impl CertificationData {
    /// Certification data of a kind with nothing but what every kind has.
    pub fn new(kind: Kind, facts: TransactionFacts, issuer: &str, at: TemporalReference) -> Self {
        CertificationData {
            kind,
            error: ErrorType::None,
            facts,
            issuer: issuer.to_owned(),
            at,
            requested: None,
            recipient: None,
            taken: Vec::new(),
            error_text: None,
        }
    }
}
