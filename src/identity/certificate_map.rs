//! The addresses that client certificates own: one line per certificate, `"issuer CN" "subject CN" address [address
//! ...]`, blank lines and lines that begin with `#` aside.
//!
//! Names stand in quotes because they hold blanks; inside, `\"` is a quote and `\\` a backslash. They compare octet by
//! octet: two certificates are the same user only if the CA wrote the same name. A map with any fault is refused whole,
//! with all its faults.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use crate::model::{Address, InvalidAddress};

/// The addresses that certificates own, by common names of issuer and subject.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CertificateMap(HashMap<Names, HashSet<Address>>);

/// Common names of issuer and subject.
type Names = (String, String);

/// What is wrong with one line of a certificate map.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateMapError {
    #[error("line {line}: expected two names in quotes: `{FORM}`")]
    NoNames { line: usize },
    #[error("line {line}: {subject:?} has no address; expected `{FORM}`")]
    NoAddress { line: usize, subject: String },
    #[error("line {line}: {invalid}; expected `{FORM}`")]
    NotAnAddress { line: usize, invalid: InvalidAddress },
    #[error("line {line}: {subject:?} of {issuer:?} has a line already, line {first}; put all its addresses there")]
    Repeated { line: usize, issuer: String, subject: String, first: usize },
}

const FORM: &str = "\"issuer CN\" \"subject CN\" address [address ...]";

impl CertificateMap {
    /// Reads a map, or says everything that is wrong with it.
    pub fn parse(text: &str) -> Result<Self, Vec<CertificateMapError>> {
        let (mut owned, mut lines, mut errors) = (HashMap::new(), HashMap::new(), Vec::new());
        for (line, text) in (1..).zip(text.lines().map(str::trim)) {
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            let Some((names, addresses)) = names(text) else {
                errors.push(CertificateMapError::NoNames { line });
                continue;
            };
            match lines.entry(names.clone()) {
                Entry::Vacant(free) => _ = free.insert(line),
                Entry::Occupied(taken) => {
                    let (first, (issuer, subject)) = (*taken.get(), names);
                    errors.push(CertificateMapError::Repeated { line, issuer, subject, first });
                    continue;
                }
            }
            let words: Vec<&str> = addresses.split_whitespace().collect();
            if words.is_empty() {
                errors.push(CertificateMapError::NoAddress { line, subject: names.1.clone() });
            }
            let mut found = HashSet::new();
            for word in words {
                match word.parse() {
                    Ok(address) => _ = found.insert(address),
                    Err(invalid) => errors.push(CertificateMapError::NotAnAddress { line, invalid }),
                }
            }
            owned.insert(names, found);
        }
        if errors.is_empty() { Ok(CertificateMap(owned)) } else { Err(errors) }
    }

    /// Whether the line of a certificate lists an address.
    pub fn lists(&self, issuer: &str, subject: &str, address: &Address) -> bool {
        let names = (issuer.to_owned(), subject.to_owned());
        self.0.get(&names).is_some_and(|owned| owned.contains(address))
    }
}

/// The two names at the beginning of a line, and what follows.
fn names(line: &str) -> Option<(Names, &str)> {
    let (issuer, rest) = quoted(line)?;
    let (subject, rest) = quoted(rest.trim_start())?;
    Some(((issuer, subject), rest))
}

/// A text in quotes, none of them empty, and what follows behind a blank.
fn quoted(text: &str) -> Option<(String, &str)> {
    let inside = text.strip_prefix('"')?;
    let mut content = String::new();
    let mut characters = inside.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => {
                let rest = inside.get(at + 1..)?;
                let is_apart = rest.is_empty() || rest.starts_with(char::is_whitespace);
                return (is_apart && !content.is_empty()).then_some((content, rest));
            }
            '\\' => content.push(characters.next().map(|(_, next)| next).filter(|next| matches!(next, '"' | '\\'))?),
            _ => content.push(character),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        text.parse().unwrap()
    }

    #[test]
    fn a_certificate_owns_what_its_line_says() {
        let map = CertificateMap::parse(
            "# issuer subject addresses\n\n\"Alfa Users\" \"Anna Bianchi\" anna@alfa.example  info@alfa.example\r\n  \
             \"Alfa Users\"\t\"Società \\\"Due\\\" C:\\\\x\" due@alfa.example\n",
        )
        .unwrap();
        assert!(map.lists("Alfa Users", "Anna Bianchi", &address("ANNA@alfa.example")));
        assert!(map.lists("Alfa Users", "Anna Bianchi", &address("info@alfa.example")));
        assert!(map.lists("Alfa Users", "Società \"Due\" C:\\x", &address("due@alfa.example")));
        assert!(!map.lists("Alfa Users", "Anna Bianchi", &address("due@alfa.example")));
        // Names are the CA's, not the user's: another spelling is another certificate.
        assert!(!map.lists("Alfa Users", "anna bianchi", &address("anna@alfa.example")));
        assert!(!map.lists("Other Users", "Anna Bianchi", &address("anna@alfa.example")));
        assert!(!map.lists("Alfa Users\" \"Anna", "Bianchi", &address("anna@alfa.example")));
    }

    #[test]
    fn all_faults_of_a_map_are_told_with_their_lines() {
        let text = "Alfa Anna anna@alfa.example\n\"A\" \"\" a@alfa.example\n\"A\"\"B\" a@alfa.example\n\
                    \"A\" \"B\nx\" a@alfa.example\n\"A\" \"B\\n\" a@alfa.example\n\"A\" \"B\"\n\
                    \"A\" \"C\" nobody\n\"A\" \"C\" c@alfa.example\n\"A\" \"B\"a@alfa.example\n";
        let errors = CertificateMap::parse(text).unwrap_err();
        let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        let unquoted = |line: usize| format!("line {line}: expected two names in quotes: `{FORM}`");
        let expected = [1, 2, 3, 4, 5, 6].map(unquoted).into_iter().chain([
            format!("line 7: \"B\" has no address; expected `{FORM}`"),
            format!("line 8: \"nobody\" has no local part and domain separated by @; expected `{FORM}`"),
            "line 9: \"C\" of \"A\" has a line already, line 8; put all its addresses there".to_owned(),
            unquoted(10),
        ]);
        assert_eq!(texts, expected.collect::<Vec<_>>());
    }

    #[test]
    fn odd_lines_never_panic() {
        let line = "\"Società\\\\\" \"A\\\"\" a@alfa.example";
        for end in (0..line.len()).filter(|end| line.is_char_boundary(*end)) {
            let _ = CertificateMap::parse(&line[..end]);
            let _ = CertificateMap::parse(&line[end..]);
        }
    }
}
