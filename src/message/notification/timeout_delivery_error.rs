//! The timeout notices (§3.1.6): nothing was heard of one certified recipient.

use super::{Notification, identifier, subject_and_sender, when};
use crate::message::body::ReadableText;
use crate::message::certification_data::{CertificationData, TransactionFacts};
use crate::message::wire::{ErrorType, Kind};
use crate::model::{Address, Msgid, TemporalReference};

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TimeoutNotice {
    /// After 12 hours: neither taken in charge nor delivered.
    First,
    /// After 24 hours, not before 22: not delivered.
    Final,
}

impl TimeoutNotice {
    /// The sentences of the model.
    fn sentences(self) -> &'static str {
        match self {
            Self::First => {
                "non è stato consegnato nelle prime dodici ore dal suo invio. Non escludendo che questo possa avvenire in \
                 seguito, si ritiene utile considerare che l'invio potrebbe non andare a buon fine. Il sistema provvederà \
                 comunque ad inviare un ulteriore avviso di mancata consegna se nelle prossime dodici ore non vi sarà la \
                 conferma della ricezione da parte del destinatario."
            }
            Self::Final => {
                "non è stato consegnato nelle ventiquattro ore successive al suo invio. Si ritiene che la spedizione debba \
                 considerarsi non andata a buon fine."
            }
        }
    }

    /// What `errore-esteso` says.
    fn reason(self) -> &'static str {
        match self {
            Self::First => "nessuna ricevuta di presa in carico o di consegna nelle prime dodici ore",
            Self::Final => "nessuna ricevuta di consegna nelle ventiquattro ore",
        }
    }
}

/// The timeout notice about one recipient, to the sender.
pub fn timeout_delivery_error(
    facts: TransactionFacts,
    recipient: Address,
    notice: TimeoutNotice,
    issuer: &str,
    at: TemporalReference,
    id: Msgid,
) -> Notification {
    let recipient_line = format!("e destinato all'utente \"{recipient}\"");
    let data = CertificationData {
        error: ErrorType::Other,
        recipient: Some(recipient),
        error_text: Some(notice.reason().to_owned()),
        ..CertificationData::new(Kind::TimeoutDeliveryError, facts, issuer, at)
    };
    let lines = vec![
        format!("{} il messaggio", when(data.at)),
        subject_and_sender(&data),
        recipient_line,
        notice.sentences().to_owned(),
        identifier(&data),
    ];
    let text = ReadableText { title: "Avviso di mancata consegna", lines };
    Notification { to: data.facts.sender.clone(), data, id, text, original: None }
}
