//! Why an incoming message is not certified (§2.2.2), and how the anomaly envelope says so.

use crate::model::{Address, Domain};

/// The check that failed. `Display` is for the administrator's log, [`AnomalyReason::phrase`] for the recipient.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnomalyReason {
    #[error("it is not a multipart/signed S/MIME message")]
    NotSigned,
    #[error("its signature does not hold: {0}")]
    BrokenSignature(String),
    #[error("the signer {0} is not in the providers directory")]
    UnknownSigner(String),
    #[error("the certificate of {signer} is not valid: {defect}")]
    InvalidCertificate { signer: String, defect: String },
    #[error("its author's domain is not one that {provider} manages")]
    ForeignAuthor { provider: String },
    #[error("no X-Trasporto or X-Ricevuta field, or more than one, says what it is")]
    NoKind,
    #[error("it is an anomaly envelope of {0}")]
    AnomalyEnvelope(String),
    #[error("it has no readable daticert.xml: {0}")]
    NoCertificationData(String),
    #[error("its daticert.xml is that of a {found}, its header says {announced}")]
    KindMismatch { announced: &'static str, found: &'static str },
    #[error("its Message-ID is not the identificativo {0}")]
    MsgidMismatch(String),
    #[error("the reverse path is not the mittente {0}")]
    SenderMismatch(Address),
    #[error("the domain {domain} is not one that {provider} manages, so it cannot certify for it")]
    ForeignDomain { domain: Domain, provider: String },
    #[error("the forward path {0} is not one of the certified recipients")]
    UnlistedRecipient(String),
    #[error("the receipt type in the header is not that of daticert.xml")]
    ReceiptTypeMismatch,
    #[error("it carries no original message")]
    NoOriginal,
    #[error("its daticert.xml lacks {0}")]
    Incomplete(&'static str),
}

impl AnomalyReason {
    /// The phrase in the anomaly envelope (§3.2.2).
    pub fn phrase(&self) -> &'static str {
        match self {
            Self::NotSigned => "il messaggio non è un messaggio di posta certificata",
            Self::BrokenSignature(_) => "la firma del messaggio non è valida",
            Self::UnknownSigner(_) => "il firmatario del messaggio non è un gestore di posta certificata",
            Self::InvalidCertificate { .. } => "il certificato del firmatario del messaggio non è valido",
            Self::ForeignAuthor { .. } => "il mittente della busta non appartiene al gestore che l'ha firmata",
            Self::NoKind | Self::KindMismatch { .. } => "il tipo del messaggio certificato non è riconoscibile",
            Self::AnomalyEnvelope(_) => "il messaggio è una busta di anomalia di un altro gestore",
            Self::NoCertificationData(_) | Self::Incomplete(_) => {
                "i dati di certificazione mancano o non sono corretti"
            }
            Self::MsgidMismatch(_) => "l'identificativo del messaggio non coincide con i dati di certificazione",
            Self::SenderMismatch(_) => "il mittente non coincide con i dati di certificazione",
            Self::ForeignDomain { .. } => "i dati di certificazione riguardano domini che il gestore non amministra",
            Self::UnlistedRecipient(_) => "un destinatario non figura tra i destinatari certificati",
            Self::ReceiptTypeMismatch => "il tipo di ricevuta non coincide con i dati di certificazione",
            Self::NoOriginal => "il messaggio originale manca",
        }
    }
}
