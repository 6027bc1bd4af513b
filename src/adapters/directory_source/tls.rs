//! Who the server must be, and who this provider is to it.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem};
use rustls::{ClientConfig, RootCertStore};
use zeroize::Zeroizing;

/// The texts of the files, all PEM.
pub struct TlsFiles {
    /// The CAs that may certify the server.
    pub authorities: Vec<u8>,
    /// The certificate that is shown to the server, with intermediates, and its key.
    pub client: Option<(Vec<u8>, Zeroizing<Vec<u8>>)>,
}

/// Why the files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("directory.ca_file holds no certificate of a CA that can be used")]
    NoAuthority,
    #[error("directory.{key} cannot be read as PEM")]
    Pem {
        key: &'static str,
        #[source]
        source: pem::Error,
    },
    #[error("directory.client_certificate and directory.client_key cannot be used together")]
    Client(#[source] rustls::Error),
    #[error("TLS could not be set up")]
    Setup(#[source] rustls::Error),
}

/// The certificates and the key that are shown to a server.
pub(super) type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

impl TlsFiles {
    pub(super) fn authorities(&self) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        certificates(&self.authorities, "ca_file")
    }

    pub(super) fn identity(&self) -> Result<Option<Identity>, TlsError> {
        let Some((certificate, key)) = &self.client else { return Ok(None) };
        let chain = certificates(certificate, "client_certificate")?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|source| TlsError::Pem { key: "client_key", source })?;
        Ok(Some((chain, key)))
    }

    /// What LDAP speaks TLS with; for HTTPS it shows that the files are good.
    pub(super) fn client_config(&self) -> Result<ClientConfig, TlsError> {
        let mut roots = RootCertStore::empty();
        if roots.add_parsable_certificates(self.authorities()?).0 == 0 {
            return Err(TlsError::NoAuthority);
        }
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Setup)?
            .with_root_certificates(roots);
        match self.identity()? {
            Some((chain, key)) => builder.with_client_auth_cert(chain, key).map_err(TlsError::Client),
            None => Ok(builder.with_no_client_auth()),
        }
    }
}

/// The same cryptography that signs.
pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn certificates(text: &[u8], key: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    certificates.map_err(|source| TlsError::Pem { key, source })
}
