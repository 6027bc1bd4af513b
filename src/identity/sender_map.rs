//! The addresses that logins own: one line per login, `login address [address ...]`, blank lines and lines that begin
//! with `#` aside.
//!
//! Logins compare without case, as addresses do and as Dovecot hands them on unless told otherwise. A map with any fault
//! is refused whole, with all its faults.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use crate::model::{Address, InvalidAddress};

/// The addresses that logins own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SenderMap {
    /// By login in lower case.
    owned: HashMap<String, HashSet<Address>>,
}

/// What is wrong with one line of a sender map.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SenderMapError {
    #[error("line {line}: {login} has no address; expected `login address [address ...]`")]
    NoAddress { line: usize, login: String },
    #[error("line {line}: {invalid}; expected `login address [address ...]`")]
    NotAnAddress { line: usize, invalid: InvalidAddress },
    #[error("line {line}: {login} has a line already, line {first}; put all its addresses there")]
    Repeated { line: usize, login: String, first: usize },
}

impl SenderMap {
    /// Reads a map, or says everything that is wrong with it.
    pub fn parse(text: &str) -> Result<Self, Vec<SenderMapError>> {
        let (mut owned, mut lines, mut errors) = (HashMap::new(), HashMap::new(), Vec::new());
        for (line, text) in (1..).zip(text.lines()) {
            let mut words = text.split_whitespace();
            let Some(login) = words.next().filter(|word| !word.starts_with('#')) else { continue };
            match lines.entry(login.to_ascii_lowercase()) {
                Entry::Vacant(free) => _ = free.insert(line),
                Entry::Occupied(taken) => {
                    errors.push(SenderMapError::Repeated { line, login: login.to_owned(), first: *taken.get() });
                    continue;
                }
            }
            let mut addresses = HashSet::new();
            let mut is_alone = true;
            for word in words {
                is_alone = false;
                match word.parse() {
                    Ok(address) => _ = addresses.insert(address),
                    Err(invalid) => errors.push(SenderMapError::NotAnAddress { line, invalid }),
                }
            }
            if is_alone {
                errors.push(SenderMapError::NoAddress { line, login: login.to_owned() });
            }
            owned.insert(login.to_ascii_lowercase(), addresses);
        }
        if errors.is_empty() { Ok(SenderMap { owned }) } else { Err(errors) }
    }

    /// Whether the line of a login lists an address.
    pub fn lists(&self, login: &str, address: &Address) -> bool {
        self.owned.get(&login.to_ascii_lowercase()).is_some_and(|owned| owned.contains(address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        text.parse().unwrap()
    }

    #[test]
    fn a_login_owns_what_its_line_says() {
        let map = SenderMap::parse(
            "# login address\n\nanna anna@alfa.example  \"an na\"@alfa.example\n\tcarla@alfa.example\toffice@alfa.example\r\n",
        );
        // A blank inside quotes parts words, and a half of such an address is none.
        assert_eq!(map.unwrap_err().len(), 2);

        let map = SenderMap::parse(
            "# login address\n\nAnna anna@alfa.example  a.rossi@alfa.example\n\tcarla@alfa.example\toffice@alfa.example\r\n",
        )
        .unwrap();
        assert!(map.lists("anna", &address("A.Rossi@alfa.example")));
        assert!(map.lists("ANNA", &address("anna@alfa.example")));
        assert!(!map.lists("anna", &address("office@alfa.example")));
        assert!(map.lists("carla@alfa.example", &address("office@alfa.example")));
    }

    #[test]
    fn all_faults_of_a_map_are_told_with_their_lines() {
        let errors = SenderMap::parse("anna\nbruno b@alfa.example nobody\nbruno c@alfa.example\n").unwrap_err();
        let texts: Vec<String> = errors.iter().map(SenderMapError::to_string).collect();
        assert_eq!(texts.len(), 3);
        assert!(texts[0].starts_with("line 1: anna has no address"), "{texts:?}");
        assert!(texts[1].starts_with("line 2: \"nobody\" has no local part"), "{texts:?}");
        assert!(texts[2].starts_with("line 3: bruno has a line already, line 2"), "{texts:?}");
    }
}
