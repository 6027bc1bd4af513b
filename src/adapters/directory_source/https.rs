//! The directory as a file over HTTPS (§5.6). What is no 200 is a failure, a redirection too: the URL is configured.

use std::time::Duration;

use ureq::Agent;
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig, TlsProvider};

use super::tls::{TlsFiles, provider};
use super::{ALL, CONNECT, LARGEST};
use crate::directory::Form;
use crate::operations::ports::{Fetched, OutsideFault};

/// Why the file did not come.
#[derive(Debug, thiserror::Error)]
enum HttpsFault {
    #[error("{url} gives no answer; look at the network, at directory.ca_file and at directory.client_certificate")]
    NoAnswer {
        url: String,
        #[source]
        source: ureq::Error,
    },
    #[error(
        "{url} answers {status}; {}",
        if *.status == 403 || *.status == 400 || *.status == 401 {
            "does the publisher know directory.client_certificate?"
        } else {
            "is directory.url still right?"
        }
    )]
    Status { url: String, status: u16 },
    #[error("the file at {url} broke off or has more than {LARGEST} bytes")]
    Body {
        url: String,
        #[source]
        source: ureq::Error,
    },
}

pub(super) fn fetch(url: &str, tls: &TlsFiles) -> Result<Fetched, OutsideFault> {
    let agent = agent(tls)?;
    let url = url.to_owned();
    let mut response = agent.get(&url).call().map_err(|source| HttpsFault::NoAnswer { url: url.clone(), source })?;
    let status = response.status().as_u16();
    if status != 200 {
        return Err(HttpsFault::Status { url, status }.into());
    }
    let body = response.body_mut().with_config().limit(u64::try_from(LARGEST)?);
    let octets = body.read_to_vec().map_err(|source| HttpsFault::Body { url, source })?;
    Ok(Fetched { form: Form::P7m, octets })
}

fn agent(tls: &TlsFiles) -> Result<Agent, OutsideFault> {
    // It also finds what is wrong with the files, which the agent would tell in worse words.
    tls.client_config()?;
    let authorities: Vec<Certificate<'static>> =
        tls.authorities()?.iter().map(|der| Certificate::from_der(der).to_owned()).collect();
    let client = match (tls.identity()?, &tls.client) {
        (Some((chain, _)), Some((_, key))) => {
            let chain: Vec<_> = chain.iter().map(|der| Certificate::from_der(der).to_owned()).collect();
            Some(ClientCert::new_with_certs(&chain, PrivateKey::from_pem(key)?))
        }
        _ => None,
    };
    let tls = TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .unversioned_rustls_crypto_provider(provider())
        .root_certs(RootCerts::new_with_certs(&authorities))
        .client_cert(client)
        .build();
    let config = Agent::config_builder()
        .tls_config(tls)
        .https_only(true)
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        // Whom the environment names as proxy is not whom the administrator configured.
        .proxy(None)
        .timeout_connect(Some(CONNECT))
        .timeout_global(Some(ALL))
        .timeout_recv_response(Some(Duration::from_secs(60)))
        .build();
    Ok(config.into())
}
