//! The certificates of a PEM text, in their order; whatever stands between and around them is skipped.
//!
//! What they are for is left to the caller. Fails with the number of the certificate that cannot be read.

use memchr::memmem;
use openssl::error::ErrorStack;
use openssl::x509::X509;

const BEGIN: &[u8] = b"-----BEGIN CERTIFICATE-----";
const END: &[u8] = b"-----END CERTIFICATE-----";

/// One certificate of a PEM text cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("certificate {number} of the text cannot be read")]
pub struct PemError {
    /// Its place in the text, from 1.
    pub number: usize,
    #[source]
    pub source: ErrorStack,
}

/// All certificates of the text; none if it holds none.
pub fn certificates(text: &[u8]) -> Result<Vec<X509>, PemError> {
    let mut certificates = Vec::new();
    let mut rest = text;
    while let Some((block, after)) = first_block(rest) {
        let number = certificates.len() + 1;
        certificates.push(X509::from_pem(block).map_err(|source| PemError { number, source })?);
        rest = after;
    }
    Ok(certificates)
}

/// The first block with its delimiters, up to the end of the text if it is never closed, and what follows it.
fn first_block(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let text = text.get(memmem::find(text, BEGIN)?..)?;
    let end = memmem::find(text, END).map_or(text.len(), |end| end + END.len());
    text.split_at_checked(end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smime::testing::read;

    #[test]
    fn text_around_certificates_is_skipped() {
        let text = [b"Root:\n", &read("certificates/root.pem")[..], b"\nIssuing:\n", &read("certificates/issuing.pem")];
        assert_eq!(certificates(&text.concat()).unwrap().len(), 2);
        assert!(certificates(b"nothing").unwrap().is_empty());
    }

    #[test]
    fn the_error_counts_to_the_broken_certificate() {
        let whole = read("certificates/root.pem");
        let broken = [&whole[..], BEGIN, b"\nAAAA\n", END, &whole].concat();
        assert_eq!(certificates(&broken).unwrap_err().number, 2);
        let cut = [&whole[..], whole.split_at(200).0].concat();
        assert_eq!(certificates(&cut).unwrap_err().number, 2);
    }
}
