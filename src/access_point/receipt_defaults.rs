//! Which type of delivery receipt a mailbox asks for when its message asks for none (§3.3.2).
//!
//! The administrator's table: one line per mailbox, `address type`. A mailbox without a line asks for complete ones.

use crate::message::wire;
use crate::model::{Address, MailboxTable, MailboxTableError, ReceiptType};

/// The receipt type of each mailbox that differs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReceiptDefaults(MailboxTable<ReceiptType>);

impl ReceiptDefaults {
    /// Reads the table, or says everything that is wrong with it.
    pub fn parse(text: &str) -> Result<Self, Vec<MailboxTableError>> {
        let tokens = [ReceiptType::Complete, ReceiptType::Brief, ReceiptType::Concise].map(wire::receipt_token);
        let form = format!("address {}", tokens.join("|"));
        let table = MailboxTable::parse(text, &form, |words| match words {
            [token] => wire::receipt_from_token(token),
            _ => None,
        });
        table.map(ReceiptDefaults)
    }

    /// What a mailbox asks for.
    pub fn of(&self, mailbox: &Address) -> ReceiptType {
        self.0.value_of(mailbox).copied().unwrap_or_default()
    }

    /// The mailboxes that have a line, in no order.
    pub fn mailboxes(&self) -> impl Iterator<Item = &Address> {
        self.0.mailboxes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mailbox_without_a_line_asks_for_complete_receipts() {
        let defaults = ReceiptDefaults::parse("anna@alfa.example Breve\ncarla@alfa.example sintetica\n").unwrap();
        assert_eq!(defaults.of(&"ANNA@alfa.example".parse().unwrap()), ReceiptType::Brief);
        assert_eq!(defaults.of(&"carla@alfa.example".parse().unwrap()), ReceiptType::Concise);
        assert_eq!(defaults.of(&"bruno@alfa.example".parse().unwrap()), ReceiptType::Complete);
    }

    #[test]
    fn an_unknown_type_is_told_with_the_known_ones() {
        let errors = ReceiptDefaults::parse("anna@alfa.example brief\n").unwrap_err();
        let expected = "line 1: found \"brief\" for anna@alfa.example; expected `address completa|breve|sintetica`";
        assert_eq!(errors.iter().map(ToString::to_string).collect::<Vec<_>>(), [expected]);
    }
}
