//! What an administrator says of single mailboxes: a text with one line each, `address word ...`.
//!
//! Blank lines and lines that begin with `#` are passed over. What the words mean is the room's whose table it is. A
//! table with any fault is refused whole, with all its faults and their lines, so that a reload keeps the old one.

use std::collections::HashMap;

use crate::model::{Address, InvalidAddress};

/// A value for each mailbox that has a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailboxTable<T>(HashMap<Address, T>);

/// What is wrong with one line; `form` is what a line should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MailboxTableError {
    #[error("line {line}: {invalid}; expected `{form}`")]
    NotAnAddress { line: usize, invalid: InvalidAddress, form: String },
    #[error("line {line}: found {found:?} for {address}; expected `{form}`")]
    NotAValue { line: usize, address: Address, found: String, form: String },
    #[error("line {line}: {address} has a line already, line {first}; keep one of them")]
    Repeated { line: usize, address: Address, first: usize },
}

impl<T> MailboxTable<T> {
    /// Reads a table, or says everything that is wrong with it; `read` gives the value of the words behind an address.
    pub fn parse(text: &str, form: &str, read: impl Fn(&[&str]) -> Option<T>) -> Result<Self, Vec<MailboxTableError>> {
        let (mut table, mut lines, mut errors) = (HashMap::new(), HashMap::new(), Vec::new());
        for (line, text) in (1..).zip(text.lines()) {
            let mut words = text.split_whitespace();
            let Some(first_word) = words.next().filter(|word| !word.starts_with('#')) else { continue };
            let address: Address = match first_word.parse() {
                Ok(address) => address,
                Err(invalid) => {
                    errors.push(MailboxTableError::NotAnAddress { line, invalid, form: form.to_owned() });
                    continue;
                }
            };
            if let Some(&first) = lines.get(&address) {
                errors.push(MailboxTableError::Repeated { line, address, first });
                continue;
            }
            lines.insert(address.clone(), line);
            let words: Vec<&str> = words.collect();
            match read(&words) {
                Some(value) => _ = table.insert(address, value),
                None => {
                    let (found, form) = (words.join(" "), form.to_owned());
                    errors.push(MailboxTableError::NotAValue { line, address, found, form });
                }
            }
        }
        if errors.is_empty() { Ok(MailboxTable(table)) } else { Err(errors) }
    }

    /// What is said of a mailbox.
    pub fn value_of(&self, mailbox: &Address) -> Option<&T> {
        self.0.get(mailbox)
    }

    /// The mailboxes that have a line, in no order.
    pub fn mailboxes(&self) -> impl Iterator<Item = &Address> {
        self.0.keys()
    }
}

impl<T> Default for MailboxTable<T> {
    fn default() -> Self {
        MailboxTable(HashMap::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<MailboxTable<u8>, Vec<String>> {
        let read = |words: &[&str]| match words {
            [word] => word.parse().ok(),
            _ => None,
        };
        MailboxTable::parse(text, "address number", read)
            .map_err(|errors| errors.iter().map(MailboxTableError::to_string).collect())
    }

    #[test]
    fn a_mailbox_is_found_in_any_letter_case() {
        let table = parse("# numbers\n\n  Anna@alfa.example\t1\r\n#carla@alfa.example 2\n").unwrap();
        assert_eq!(table.value_of(&"anna@ALFA.example".parse().unwrap()), Some(&1));
        assert_eq!(table.value_of(&"carla@alfa.example".parse().unwrap()), None);
        assert_eq!(table.mailboxes().count(), 1);
    }

    #[test]
    fn all_faults_are_told_with_their_lines() {
        let text = "anna 1\nanna@alfa.example\n\nbruno@alfa.example 300\nbruno@alfa.example 1\ncarla@alfa.example 1 2";
        assert_eq!(
            parse(text).unwrap_err(),
            [
                "line 1: \"anna\" has no local part and domain separated by @; expected `address number`",
                "line 2: found \"\" for anna@alfa.example; expected `address number`",
                "line 4: found \"300\" for bruno@alfa.example; expected `address number`",
                "line 5: bruno@alfa.example has a line already, line 4; keep one of them",
                "line 6: found \"1 2\" for carla@alfa.example; expected `address number`",
            ]
        );
    }
}
