//! This provider, as every message it emits names it (§2.2.5, §2.2.6).

use crate::model::{Address, Domain};

/// A provider (gestore): its name and its service addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provider {
    /// What `gestore-emittente` says: the O or CN of the signing certificate (§5.5).
    pub name: String,
    /// `posta-certificata@DOMAIN`, the address in the signing certificate.
    pub sending_address: Address,
    /// Where other providers send take-charges and virus detections: `mailReceipt` in the directory (§4.5).
    pub service_mailbox: Address,
    /// The domains whose mailboxes are certified by this provider.
    pub mail_domains: Vec<Domain>,
}

impl Provider {
    /// Whether an address is one of this provider's mailboxes, by its domain.
    pub fn manages(&self, address: &Address) -> bool {
        self.mail_domains.contains(&address.domain())
    }
}
