//! What a provider or one of its mailboxes makes of mail that is not certified (§3.2.2).

use crate::model::Address;

/// What becomes of ordinary mail.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum OrdinaryPolicy {
    /// It goes to the mailbox in an anomaly envelope (§3.2.2).
    #[default]
    Anomaly,
    /// It is refused in the SMTP dialogue.
    Refuse,
    /// It goes elsewhere, as it is.
    Forward(Address),
}
