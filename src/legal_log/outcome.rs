//! What an entry tells of the end of a message for a recipient: the words by which an operator looks for it.

use crate::legal_log::details::ReceivedNotification;
use crate::legal_log::{Entry, EventKind};
use crate::message::wire::{ErrorType, Kind};

/// What became of a message, or of one recipient of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// A mailbox holds it; told here or by the recipient's provider.
    Delivered,
    /// A mailbox or a server refused it, or nobody was reached.
    Failed,
    /// It was stopped because of a virus.
    Virus,
    /// Nothing was heard of a delivery for 24 hours, and the sender was told so (§3.1.6).
    Timeout,
    /// The submission was answered by a notice that it is not accepted.
    NotAccepted,
    /// It was refused in the SMTP dialogue.
    Refused,
    /// It reached a mailbox, but in an anomaly envelope: nothing is certified.
    Uncertified,
    /// It was accepted here, and nothing of the above is known yet of a certified recipient.
    Open,
}

impl Outcome {
    pub const ALL: [Self; 8] = [
        Self::Delivered,
        Self::Failed,
        Self::Virus,
        Self::Timeout,
        Self::NotAccepted,
        Self::Refused,
        Self::Uncertified,
        Self::Open,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Failed => "failed",
            Self::Virus => "virus",
            Self::Timeout => "timeout",
            Self::NotAccepted => "not-accepted",
            Self::Refused => "refused",
            Self::Uncertified => "uncertified",
            Self::Open => "open",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|outcome| outcome.name() == name)
    }

    /// What an entry tells. That something is open no entry tells, since others may have come after it.
    pub fn told_by(entry: &Entry) -> Option<Self> {
        match entry.kind {
            EventKind::Delivery => Some(Self::Delivered),
            EventKind::NonDelivery => Some(Self::Failed),
            EventKind::VirusDetection | EventKind::VirusNonDelivery => Some(Self::Virus),
            EventKind::FinalTimeout => Some(Self::Timeout),
            EventKind::NonAcceptance => Some(Self::NotAccepted),
            EventKind::Refusal => Some(Self::Refused),
            EventKind::Anomaly => Some(Self::Uncertified),
            EventKind::NotificationReceived => told_by_another(&ReceivedNotification::of(entry)?),
            EventKind::Arrival
            | EventKind::Acceptance
            | EventKind::TakeCharge
            | EventKind::FirstTimeout
            | EventKind::Copy
            | EventKind::Duplicate
            | EventKind::LateFailure
            | EventKind::Forward
            | EventKind::Seal
            | EventKind::Stamp
            | EventKind::Purge
            | EventKind::Hold
            | EventKind::Release
            | EventKind::Reproduction => None,
        }
    }
}

fn told_by_another(notification: &ReceivedNotification) -> Option<Outcome> {
    let is_virus = ErrorType::from_token(&notification.error) == Some(ErrorType::Virus);
    match notification.kind()? {
        Kind::Delivery => Some(Outcome::Delivered),
        Kind::VirusDetection => Some(Outcome::Virus),
        Kind::NonDelivery if is_virus => Some(Outcome::Virus),
        Kind::NonDelivery => Some(Outcome::Failed),
        Kind::NonAcceptance => Some(Outcome::NotAccepted),
        Kind::TransportEnvelope
        | Kind::ServerUserAcceptance
        | Kind::ServerServerAcceptance
        | Kind::TimeoutDeliveryError => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::TemporalReference;

    fn told(kind: EventKind, details: Option<&str>) -> Option<Outcome> {
        let entry = Entry::new(kind, TemporalReference::from_unix(0));
        Outcome::told_by(&Entry { details: details.map(str::to_owned), ..entry })
    }

    #[test]
    fn another_providers_word_counts_like_the_own() {
        let received = |kind: &str, error: &str| {
            let details = format!(r#"{{"kind":"{kind}","error":"{error}","at":1,"reason":null,"mailboxes":[]}}"#);
            told(EventKind::NotificationReceived, Some(&details))
        };
        assert_eq!(received("avvenuta-consegna", "nessuno"), told(EventKind::Delivery, None));
        assert_eq!(received("errore-consegna", "altro"), told(EventKind::NonDelivery, None));
        assert_eq!(received("errore-consegna", "virus"), Some(Outcome::Virus));
        assert_eq!(received("rilevazione-virus", "virus"), told(EventKind::VirusDetection, None));
        assert_eq!(received("presa-in-carico", "nessuno"), None);
        assert_eq!(received("joke", "nessuno"), None);
        assert_eq!(told(EventKind::NotificationReceived, Some("{")), None);
    }

    #[test]
    fn every_word_is_read_back() {
        for outcome in Outcome::ALL {
            assert_eq!(Outcome::from_name(outcome.name()), Some(outcome));
        }
        assert_eq!(told(EventKind::FirstTimeout, None), None, "what may still come is no outcome");
    }
}
