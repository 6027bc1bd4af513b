//! Every Italian header name, value, subject and file name that travels, beside its English name (RFC 6109 App. A).

use crate::model::{ReceiptType, RecipientType};

pub const X_TRASPORTO: &str = "X-Trasporto";
pub const X_RICEVUTA: &str = "X-Ricevuta";
pub const X_TIPO_RICEVUTA: &str = "X-TipoRicevuta";
pub const X_VERIFICA_SICUREZZA: &str = "X-VerificaSicurezza";
pub const X_MITTENTE: &str = "X-Mittente";
pub const X_RIFERIMENTO: &str = "X-Riferimento-Message-ID";
/// Not of the rules: what a notification carries that was made again from the log (§2.3).
pub const X_RIPRODUZIONE: &str = "X-Riproduzione";
/// How its value begins; the instant of the reproduction follows.
pub const FROM_LOG: &str = "dal registro,";
/// How it ends where the receipt carried the original once and does not any more.
pub const WITHOUT_ORIGINAL: &str = "; senza il messaggio originale";
/// Certification data (§4.4).
pub const DATICERT: &str = "daticert.xml";
/// The original message (§4.3.4).
pub const POSTACERT: &str = "postacert.eml";
/// The value of `X-VerificaSicurezza` (§3.1.3, §3.2.4).
pub const SECURITY_ERROR: &str = "errore";
/// The value of `X-Trasporto` in an anomaly envelope (§3.2.2).
pub const ANOMALY: &str = "errore";
pub const ANOMALY_SUBJECT: &str = "ANOMALIA MESSAGGIO:";
/// What stands before the sender in the display name of an envelope (§3.1.5).
pub const ON_BEHALF_OF: &str = "Per conto di: ";

/// What an ordinary sender is told by mailboxes that take no ordinary mail; he may know no Italian.
pub const ONLY_CERTIFIED_MAIL: &str =
    "la casella accetta solo posta certificata / this mailbox accepts certified mail (PEC) only";
/// What an ordinary sender is told whose message is infected; the virus follows.
pub const INFECTED_MAIL: &str = "il messaggio contiene un virus / the message contains a virus";
/// The name of an attached message that has none, in a brief receipt (§3.3.2.2).
pub const UNNAMED_MESSAGE: &str = "messaggio.eml";
/// What stands behind the name of a part whose hash takes its place (§3.3.2.2).
pub const HASH_SUFFIX: &str = ".hash";

/// The kinds of certified message, as the `tipo` of the certification data tells them apart (§4.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// §3.1.5
    TransportEnvelope,
    /// §3.1.4
    ServerUserAcceptance,
    /// §3.1.2, §3.1.3
    NonAcceptance,
    /// §3.2.1
    ServerServerAcceptance,
    /// §3.3.2
    Delivery,
    /// §3.3.3, §3.2.4
    NonDelivery,
    /// §3.1.6
    TimeoutDeliveryError,
    /// §3.2.3
    VirusDetection,
}

impl Kind {
    pub const ALL: [Self; 8] = [
        Self::TransportEnvelope,
        Self::ServerUserAcceptance,
        Self::NonAcceptance,
        Self::ServerServerAcceptance,
        Self::Delivery,
        Self::NonDelivery,
        Self::TimeoutDeliveryError,
        Self::VirusDetection,
    ];

    /// `tipo` of the certification data and value of the announcing header field.
    pub fn token(self) -> &'static str {
        match self {
            Self::TransportEnvelope => "posta-certificata",
            Self::ServerUserAcceptance => "accettazione",
            Self::NonAcceptance => "non-accettazione",
            Self::ServerServerAcceptance => "presa-in-carico",
            Self::Delivery => "avvenuta-consegna",
            Self::NonDelivery => "errore-consegna",
            Self::TimeoutDeliveryError => "preavviso-errore-consegna",
            Self::VirusDetection => "rilevazione-virus",
        }
    }

    /// What stands before the original subject; viruses have prefixes of their own (§3.1.3, §3.2.4).
    pub fn subject_prefix(self, error: ErrorType) -> &'static str {
        match self {
            Self::NonAcceptance if error == ErrorType::Virus => "AVVISO DI NON ACCETTAZIONE PER VIRUS:",
            Self::NonDelivery if error == ErrorType::Virus => "AVVISO DI MANCATA CONSEGNA PER VIRUS:",
            Self::TransportEnvelope => "POSTA CERTIFICATA:",
            Self::ServerUserAcceptance => "ACCETTAZIONE:",
            Self::NonAcceptance => "AVVISO DI NON ACCETTAZIONE:",
            Self::ServerServerAcceptance => "PRESA IN CARICO:",
            Self::Delivery => "CONSEGNA:",
            Self::NonDelivery => "AVVISO DI MANCATA CONSEGNA:",
            Self::TimeoutDeliveryError => "AVVISO DI MANCATA CONSEGNA PER SUP. TEMPO MASSIMO:",
            Self::VirusDetection => "PROBLEMA DI SICUREZZA:",
        }
    }

    pub fn from_token(token: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.token().eq_ignore_ascii_case(token))
    }
}

/// The `errore` of the certification data (§4.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ErrorType {
    /// `nessuno`
    #[default]
    None,
    /// `no-dest`: unknown mailbox
    NoRecipient,
    /// `no-dominio`: unknown domain
    NoDomain,
    /// `virus`
    Virus,
    /// `altro`
    Other,
}

impl ErrorType {
    const ALL: [Self; 5] = [Self::None, Self::NoRecipient, Self::NoDomain, Self::Virus, Self::Other];

    pub fn token(self) -> &'static str {
        match self {
            Self::None => "nessuno",
            Self::NoRecipient => "no-dest",
            Self::NoDomain => "no-dominio",
            Self::Virus => "virus",
            Self::Other => "altro",
        }
    }

    pub fn from_token(token: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|error| error.token().eq_ignore_ascii_case(token))
    }
}

/// `completa`, `breve`, `sintetica` (§3.3.2).
pub fn receipt_token(kind: ReceiptType) -> &'static str {
    match kind {
        ReceiptType::Complete => "completa",
        ReceiptType::Brief => "breve",
        ReceiptType::Concise => "sintetica",
    }
}

/// What a token asks for; `None` for an unknown one.
pub fn receipt_from_token(token: &str) -> Option<ReceiptType> {
    let kinds = [ReceiptType::Complete, ReceiptType::Brief, ReceiptType::Concise];
    kinds.into_iter().find(|kind| receipt_token(*kind).eq_ignore_ascii_case(token))
}

/// `certificato`, `esterno` (§4.4).
pub fn recipient_token(kind: RecipientType) -> &'static str {
    match kind {
        RecipientType::Certified => "certificato",
        RecipientType::External => "esterno",
    }
}

/// What a `tipo` of `destinatari` means; `None` for an unknown one.
pub fn recipient_from_token(token: &str) -> Option<RecipientType> {
    [RecipientType::Certified, RecipientType::External].into_iter().find(|kind| recipient_token(*kind) == token)
}

/// What stands behind a recipient in the acceptance's text (§3.1.4).
pub fn recipient_label(kind: RecipientType) -> &'static str {
    match kind {
        RecipientType::Certified => "posta certificata",
        RecipientType::External => "posta ordinaria",
    }
}
