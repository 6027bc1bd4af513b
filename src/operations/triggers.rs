//! The internal domain: recipients that only a milter adds, and that stay queued until their work is done.

use crate::model::Domain;

/// The domain that no mail from outside reaches (RFC 6761 §6.4 keeps `.invalid` free of real hosts).
pub const INTERNAL_DOMAIN: &str = "pec-milter.invalid";

/// The work that a trigger stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    /// Record and tell the acceptance (§3.1.4).
    Acceptance,
    /// Record and tell the take-charge (§3.2.1).
    TakeCharge,
    /// Record and tell the failures that Postfix's own bounce reports (§3.3.3).
    NonDelivery,
    /// Record and tell what another provider's virus detection means for our user (§3.2.4).
    VirusDetection,
}

impl Trigger {
    const ALL: [Self; 4] = [Self::Acceptance, Self::TakeCharge, Self::NonDelivery, Self::VirusDetection];

    pub fn address(self) -> &'static str {
        match self {
            Self::Acceptance => "accettazione@pec-milter.invalid",
            Self::TakeCharge => "presa-in-carico@pec-milter.invalid",
            Self::NonDelivery => "mancata-consegna@pec-milter.invalid",
            Self::VirusDetection => "rilevazione-virus@pec-milter.invalid",
        }
    }

    pub fn from_address(address: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|trigger| trigger.address().eq_ignore_ascii_case(address))
    }
}

/// Whether an address lies in the internal domain, known as a trigger or not.
pub fn is_internal(address: &str) -> bool {
    address.rsplit_once('@').is_some_and(|(_, domain)| domain.eq_ignore_ascii_case(INTERNAL_DOMAIN))
}

/// The internal domain as a value.
pub fn internal_domain() -> Option<Domain> {
    INTERNAL_DOMAIN.parse().ok()
}
