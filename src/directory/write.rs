//! LDIF content records written (RFC 2849): this provider's own record for its publication (§4.5), and entries that came
//! over LDAP, so that they are kept and read like a file.
//!
//! What is not plain ASCII goes in base64, lines fold at 76 octets; `ldif` reads it back as the same.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::record::{
    MAIL_RECEIPT, MANAGED_DOMAINS, PROVIDER_CERTIFICATE_HASH, PROVIDER_NAME, PROVIDER_UNIT, ProviderRecord, sha1_of,
};

/// Where a line folds; RFC 2849 leaves it to the writer.
const LINE: usize = 76;

/// §4.5.6
const LDIF_LOCATION_URL: &str = "LDIFLocationURL";

/// One entry with its blank line; attributes keep their order and may repeat.
pub fn entry(dn: &str, attributes: &[(String, Vec<u8>)]) -> String {
    let mut text = line("dn", dn.as_bytes());
    for (name, value) in attributes {
        text += &line(name, value);
    }
    text + "\n"
}

/// A provider's own record as it publishes it; `location` is where its signed file can be fetched (§4.5.6).
pub fn own_record(record: &ProviderRecord, location: Option<&str>) -> String {
    let mut dn = format!("providerName={},o=postacert", escaped(&record.name));
    if let Some(unit) = &record.unit {
        dn = format!("providerUnit={},{dn}", escaped(unit));
    }
    let mut attributes: Vec<(&str, Vec<u8>)> = vec![
        ("objectClass", b"top".to_vec()),
        ("objectClass", b"provider".to_vec()),
        (PROVIDER_NAME, record.name.clone().into_bytes()),
    ];
    attributes.extend(record.unit.iter().map(|unit| (PROVIDER_UNIT, unit.clone().into_bytes())));
    for certificate in &record.certificates {
        attributes.push((PROVIDER_CERTIFICATE_HASH, sha1_of(certificate).to_ascii_uppercase().into_bytes()));
    }
    for certificate in &record.certificates {
        attributes.push(("providerCertificate;binary", certificate.clone()));
    }
    attributes.push((MAIL_RECEIPT, record.mail_receipt.to_string().into_bytes()));
    attributes.extend(location.map(|url| (LDIF_LOCATION_URL, url.as_bytes().to_vec())));
    let mut domains: Vec<&str> = record.domains.iter().map(|domain| domain.as_str()).collect();
    domains.sort_unstable();
    attributes.extend(domains.into_iter().map(|domain| (MANAGED_DOMAINS, domain.as_bytes().to_vec())));
    let attributes: Vec<_> = attributes.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    entry(&dn, &attributes)
}

fn line(name: &str, value: &[u8]) -> String {
    let is_plain = value.iter().all(|octet| (b' '..=b'~').contains(octet))
        && !value.first().is_some_and(|first| b" :<".contains(first))
        && !value.ends_with(b" ")
        && !name.ends_with(";binary");
    let whole = match std::str::from_utf8(value) {
        Ok(text) if is_plain => format!("{name}: {text}"),
        _ => format!("{name}:: {}", STANDARD.encode(value)),
    };
    folded(&whole)
}

/// Only ASCII arrives here, so every octet is a character.
fn folded(line: &str) -> String {
    let mut text = String::with_capacity(line.len() + line.len() / LINE * 2 + 1);
    for (index, character) in line.chars().enumerate() {
        // A continuation begins with a blank, which counts.
        if index == LINE || (index > LINE && (index - LINE) % (LINE - 1) == 0) {
            text.push_str("\n ");
        }
        text.push(character);
    }
    text.push('\n');
    text
}

/// Characters that would end or bend a name within a DN (RFC 4514 §2.4).
fn escaped(value: &str) -> String {
    let last = value.chars().count().saturating_sub(1);
    let mut text = String::with_capacity(value.len());
    for (index, character) in value.chars().enumerate() {
        let is_special = matches!(character, '"' | '+' | ',' | ';' | '<' | '>' | '\\' | '=')
            || (index == 0 && matches!(character, ' ' | '#'))
            || (index == last && character == ' ');
        if is_special {
            text.push('\\');
        }
        text.push(character);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::Directory;
    use crate::model::Provider;

    #[test]
    fn the_own_record_reads_as_the_same_record() {
        let provider = Provider {
            name: "Società Alfa, S.p.A. ".trim().into(),
            sending_address: "posta-certificata@alfa.example".parse().unwrap(),
            service_mailbox: "ricevute@alfa.example".parse().unwrap(),
            mail_domains: ["pec.alfa.example", "alfa.example"].map(|domain| domain.parse().unwrap()).to_vec(),
        };
        let mut record = ProviderRecord::own(&provider, vec![vec![0x30; 400]]);
        record.certificates.push(b"plain, but binary all the same".to_vec());
        let text = own_record(&record, Some("https://pec.alfa.example/alfa.ldif.p7m"));
        assert!(text.lines().all(|line| line.len() <= LINE), "{text}");
        assert!(text.contains("LDIFLocationURL: https://pec.alfa.example/alfa.ldif.p7m\n"), "{text}");
        assert!(text.contains("managedDomains: alfa.example\nmanagedDomains: pec.alfa.example\n"), "{text}");
        let read = Directory::from_ldif(text.as_bytes()).unwrap();
        assert_eq!((read.records(), read.remarks()), (&[record][..], &[][..]));
    }

    #[test]
    fn names_are_escaped_and_odd_values_encoded() {
        assert_eq!(escaped("A, B + \"C\""), "A\\, B \\+ \\\"C\\\"");
        assert_eq!(escaped("#1 "), "\\#1\\ ");
        assert_eq!(line("description", b":x"), "description:: Ong=\n");
        assert_eq!(line("description", b"x "), "description:: eCA=\n");
        assert_eq!(line("o", b"postacert"), "o: postacert\n");
    }
}
