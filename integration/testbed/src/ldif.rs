//! The providers directory as LDIF (§4.5): the base record, then one record per provider.
//!
//! Written the way the RFC's example shows it (§4.5.10): certificates base64 and folded, hashes in upper case.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use openssl::hash::MessageDigest;
use openssl::x509::X509;

/// A line of LDIF ends here; RFC 2849 lets the writer choose.
const LINE: usize = 76;

/// One provider's record.
#[derive(Debug, Clone)]
pub struct Record {
    pub provider_name: String,
    /// PEM files: the certificate in use, and those it replaces or is replaced by.
    pub certificates: Vec<PathBuf>,
    pub mail_receipt: String,
    pub managed_domains: Vec<String>,
}

/// The whole directory.
pub fn write(records: &[Record]) -> Result<String> {
    let mut lines: Vec<String> = ["dn: o=postacert", "objectclass: top", "objectclass: organization", "o: postacert"]
        .map(str::to_owned)
        .to_vec();
    for record in records {
        lines.push(String::new());
        lines.push(attribute("dn", &format!("providerName={},o=postacert", escaped(&record.provider_name))));
        lines.extend(["objectclass: top", "objectclass: provider"].map(str::to_owned));
        lines.push(attribute("providerName", &record.provider_name));
        for file in &record.certificates {
            let pem = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
            let der = X509::from_pem(&pem)?.to_der()?;
            let hash: String =
                openssl::hash::hash(MessageDigest::sha1(), &der)?.iter().map(|byte| format!("{byte:02X}")).collect();
            lines.push(attribute("providerCertificateHash", &hash));
            lines.push(format!("providerCertificate;binary:: {}", STANDARD.encode(der)));
        }
        lines.push(attribute("mailReceipt", &record.mail_receipt));
        lines.extend(record.managed_domains.iter().map(|domain| attribute("managedDomains", domain)));
    }
    Ok(lines.iter().map(|line| folded(line)).collect())
}

/// A value that is not plain ASCII goes in base64 (RFC 2849).
fn attribute(name: &str, value: &str) -> String {
    let safe = value.bytes().all(|byte| (b' '..=b'~').contains(&byte)) && !value.starts_with([' ', ':', '<']);
    if safe { format!("{name}: {value}") } else { format!("{name}:: {}", STANDARD.encode(value)) }
}

/// Characters that separate the parts of a name are escaped in it (RFC 4514).
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace(',', "\\,").replace('+', "\\+")
}

/// Only ASCII arrives here, so every byte is a character.
fn folded(line: &str) -> String {
    let mut text = String::new();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_fold_to_what_they_were() {
        let line = "x".repeat(300);
        let written = folded(&line);
        assert!(written.lines().all(|line| line.len() <= LINE));
        assert_eq!(written.replace("\n ", "").trim_end(), line);
    }

    #[test]
    fn a_name_with_an_accent_is_written_in_base64() {
        assert_eq!(attribute("providerName", "Società"), "providerName:: U29jaWV0w6A=");
    }
}
