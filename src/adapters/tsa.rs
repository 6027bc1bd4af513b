//! The time stamping authority, over HTTP or HTTPS (RFC 3161 §3.4). What is no 200 with the right media type is a failure,
//! a redirection too: the URL is configured. A server over HTTPS must be certified by one of the CAs that this machine
//! trusts. What comes is bounded in size and time; what it is worth is decided elsewhere. The call blocks.

use std::env;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use ureq::Agent;
use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsProvider};
use zeroize::Zeroizing;

use crate::operations::ports::{OutsideFault, StampServer};
use crate::smime::timestamp::{ANSWER_TYPE, LARGEST, REQUEST_TYPE};

/// For a connection, and for all of it: a command waits for this, and the end of the daemon.
const CONNECT: Duration = Duration::from_secs(10);
const ALL: Duration = Duration::from_secs(30);

/// Names another bundle, as OpenSSL has it.
const BUNDLE_VARIABLE: &str = "SSL_CERT_FILE";
/// Where Debian, and where Red Hat, keep the CAs that the machine trusts.
const BUNDLES: [&str; 2] = ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"];

/// An authority that can be asked.
pub struct Tsa {
    pub url: String,
    /// Name and password, for an authority that asks for them.
    pub user: Option<(String, Zeroizing<String>)>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
enum TsaFault {
    #[error("{url} cannot be reached")]
    NoAnswer {
        url: String,
        #[source]
        source: ureq::Error,
    },
    #[error(
        "{url} answers {status}{}",
        match .status { 401 | 403 => ": are log.tsa_user and its password right?", _ => "" }
    )]
    Status { url: String, status: u16 },
    #[error("{url} answers with {found:?}, not with {ANSWER_TYPE}")]
    MediaType { url: String, found: String },
    #[error("the answer of {url} broke off or has more than {LARGEST} octets")]
    Body {
        url: String,
        #[source]
        source: ureq::Error,
    },
    #[error("the CAs of this machine cannot be read from {}: install ca-certificates", .path.display())]
    Bundle {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} holds no certificate of a CA", .0.display())]
    EmptyBundle(PathBuf),
}

impl StampServer for Tsa {
    fn ask(&self, request: &[u8]) -> Result<Vec<u8>, OutsideFault> {
        let url = || self.url.clone();
        let mut call = self.agent()?.post(&self.url).header("Content-Type", REQUEST_TYPE).header("Accept", ANSWER_TYPE);
        if let Some((user, password)) = &self.user {
            let pair = Zeroizing::new(format!("{user}:{}", password.as_str()));
            let value = Zeroizing::new(format!("Basic {}", BASE64_STANDARD.encode(pair.as_bytes())));
            call = call.header("Authorization", value.as_str());
        }
        let mut response = call.send(request).map_err(|source| TsaFault::NoAnswer { url: url(), source })?;
        let status = response.status().as_u16();
        if status != 200 {
            return Err(TsaFault::Status { url: url(), status }.into());
        }
        let found = response.body().mime_type().unwrap_or_default().to_ascii_lowercase();
        if found != ANSWER_TYPE {
            return Err(TsaFault::MediaType { url: url(), found }.into());
        }
        let body = response.body_mut().with_config().limit(u64::try_from(LARGEST)?);
        Ok(body.read_to_vec().map_err(|source| TsaFault::Body { url: url(), source })?)
    }
}

impl Tsa {
    fn agent(&self) -> Result<Agent, TsaFault> {
        let is_encrypted = self.url.starts_with("https:");
        let authorities = if is_encrypted { authorities()? } else { Vec::new() };
        let tls = TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .root_certs(RootCerts::new_with_certs(&authorities))
            .build();
        let config = Agent::config_builder()
            .tls_config(tls)
            .https_only(is_encrypted)
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            // Whom the environment names as proxy is not whom the administrator configured.
            .proxy(None)
            .timeout_connect(Some(CONNECT))
            .timeout_global(Some(ALL))
            .build();
        Ok(config.into())
    }
}

/// Whom this machine trusts.
fn authorities() -> Result<Vec<Certificate<'static>>, TsaFault> {
    let configured = env::var_os(BUNDLE_VARIABLE).map(PathBuf::from);
    let usual = || BUNDLES.into_iter().map(PathBuf::from);
    let there = configured.or_else(|| usual().find(|path| path.exists())).or_else(|| usual().next());
    let path = there.unwrap_or_default();
    let text = fs::read(&path).map_err(|source| TsaFault::Bundle { path: path.clone(), source })?;
    // One odd certificate in the bundle is no reason to trust none.
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&text)
        .filter_map(Result::ok)
        .map(|der| Certificate::from_der(&der).to_owned())
        .collect();
    match certificates.is_empty() {
        true => Err(TsaFault::EmptyBundle(path)),
        false => Ok(certificates),
    }
}
