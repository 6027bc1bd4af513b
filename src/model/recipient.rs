//! A forward path of a transaction, and whether certified mail reaches it (§2.1, §4.4).

use crate::model::Address;

/// One recipient with its kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipient {
    pub address: Address,
    pub kind: RecipientType,
}

/// Whether a recipient's domain is in the providers directory (§2.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecipientType {
    /// `certificato`: gives a delivery receipt.
    Certified,
    /// `esterno`: ordinary mail, gives none.
    External,
}
