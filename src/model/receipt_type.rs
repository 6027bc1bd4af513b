//! The type of delivery receipt that a sender asks for (§3.3.2).

/// What `X-TipoRicevuta` and the `ricevuta` element ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReceiptType {
    /// The original is attached.
    #[default]
    Complete,
    /// The original is attached with hash values in place of its attachments.
    Brief,
    /// No original.
    Concise,
}
