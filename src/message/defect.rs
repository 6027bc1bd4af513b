//! What can be wrong with a submission (§3.1.1), and how its sender is told.
//!
//! The phrases are Italian without accents, because they travel in SMTP replies as well as in notices.

use crate::model::Address;

/// One failed check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Defect {
    NoFrom,
    MalformedFrom,
    SeveralAuthors,
    /// `From` is not the reverse path.
    AuthorMismatch {
        author: Address,
        sender: Address,
    },
    NoTo,
    MalformedTo,
    MalformedCc,
    /// A forward path in neither `To` nor `Cc`.
    UnnamedRecipient(Address),
    BlindCopy,
    TooManyRecipients {
        count: usize,
        limit: usize,
    },
    /// Size times recipients.
    TooLarge {
        product: u64,
        limit: u64,
    },
    /// A line over 998 octets (RFC 5322 §2.1.1).
    LongLine,
    BareLineEnd,
    Nul,
    /// A header field too large to be handed over whole.
    LongHeader,
    /// All header fields together.
    LargeHeader,
    /// A line of the header section that is no field.
    MalformedHeader,
    /// A field that RFC 5322 §3.6 allows once.
    RepeatedField(&'static str),
    BrokenMime,
}

impl Defect {
    /// The phrase for the sender.
    pub fn phrase(&self) -> String {
        match self {
            Self::NoFrom => "manca il campo From".into(),
            Self::MalformedFrom => "il campo From non contiene un indirizzo valido".into(),
            Self::SeveralAuthors => "il campo From contiene diversi indirizzi".into(),
            Self::AuthorMismatch { author, sender } => {
                format!("l'indirizzo del campo From ({author}) non coincide con il mittente ({sender})")
            }
            Self::NoTo => "manca il campo To".into(),
            Self::MalformedTo => "il campo To non contiene indirizzi validi".into(),
            Self::MalformedCc => "il campo Cc non contiene indirizzi validi".into(),
            Self::UnnamedRecipient(address) => format!("il destinatario {address} non figura nei campi To e Cc"),
            Self::BlindCopy => "il campo Bcc contiene destinatari in copia nascosta".into(),
            Self::TooManyRecipients { count, limit } => {
                format!("i destinatari sono {count}, il massimo consentito e' {limit}")
            }
            Self::TooLarge { product, limit } => format!(
                "la dimensione del messaggio moltiplicata per i destinatari ({product} byte) supera il limite di {limit} byte"
            ),
            Self::LongLine => "il messaggio contiene righe di oltre 998 caratteri".into(),
            Self::BareLineEnd => "il messaggio contiene fini riga non conformi (CR o LF isolati)".into(),
            Self::Nul => "il messaggio contiene caratteri nulli".into(),
            Self::LongHeader => "un campo dell'intestazione del messaggio supera la dimensione consentita".into(),
            Self::LargeHeader => "l'intestazione del messaggio supera la dimensione consentita".into(),
            Self::MalformedHeader => "l'intestazione del messaggio contiene righe non conformi".into(),
            Self::RepeatedField(name) => format!("il campo {name} compare diverse volte"),
            Self::BrokenMime => "la struttura MIME del messaggio non e' conforme".into(),
        }
    }
}
