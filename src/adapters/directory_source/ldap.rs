//! The directory as entries over LDAP with TLS (§4.5): all below the base, page by page, written down as LDIF.
//!
//! Entries and values are sorted, so that the same directory gives the same file. A search that the server does not
//! finish, for its size limit above all, or of which it has handed a part to another server, is a failure: half a
//! directory would make certified domains ordinary ones. So is one that does not end.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use ldap3::adapters::PagedResults;
use ldap3::{Ldap, LdapConnAsync, LdapConnSettings, LdapError, ResultEntry, Scope, SearchEntry, parse_refs};
use rustls::ClientConfig;
use tokio::runtime;
use url::Url;

use super::tls::TlsFiles;
use super::{ALL, Bind, CONNECT, LARGEST};
use crate::directory::{self, Form};
use crate::operations::ports::{Fetched, OutsideFault};

/// Below what servers send without being asked to allow more.
const PAGE: i32 = 100;
const FILTER: &str = "(objectClass=provider)";
/// What a provider's record holds (§4.5.9).
const ATTRIBUTES: [&str; 7] = [
    "objectClass",
    "providerName",
    "providerUnit",
    "providerCertificateHash",
    "providerCertificate;binary",
    "mailReceipt",
    "managedDomains",
];

/// Why the entries did not come.
#[derive(Debug, thiserror::Error)]
enum LdapFault {
    #[error("{server} gives no answer; look at the network, at directory.ca_file and at directory.client_certificate")]
    NoAnswer {
        server: String,
        #[source]
        source: Box<LdapError>,
    },
    #[error("{server} does not let {dn} in; look at directory.bind_dn and directory.password_file")]
    Bind {
        server: String,
        dn: String,
        #[source]
        source: Box<LdapError>,
    },
    #[error(
        "{server} did not give all that lies below {base}; is the base in directory.url right, does the server know \
         directory.client_certificate, and may this provider read everything (size limit)?"
    )]
    Search {
        server: String,
        base: String,
        #[source]
        source: Box<LdapError>,
    },
    #[error(
        "{server} has only a part of what lies below {base}, and names others for the rest ({references}): ask the \
         publisher for a server that has all of it"
    )]
    Elsewhere { server: String, base: String, references: String },
    #[error("{server} gave an entry that cannot be read")]
    Entry { server: String },
    #[error("{server} gives out more than {LARGEST} bytes")]
    TooLarge { server: String },
    #[error("{server} did not come to an end within {seconds} seconds")]
    TooSlow { server: String, seconds: u64 },
}

pub(super) fn fetch(server: &Url, base: &str, bind: Option<&Bind>, tls: &TlsFiles) -> Result<Fetched, OutsideFault> {
    let (config, name) = (Arc::new(tls.client_config()?), server.to_string());
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let texts = runtime.block_on(within(ALL, &name, async {
        let mut connection = connect(server, config).await?;
        if let Some(bind) = bind {
            log_in(&mut connection, &name, bind).await?;
        }
        let texts = entries(&mut connection, &name, base).await?;
        // Everything is here; a server that does not like the goodbye takes nothing from it.
        _ = connection.unbind().await;
        Ok(texts)
    }));
    // What is still under way there is waited for by nobody.
    runtime.shutdown_background();
    let mut texts = texts?;
    texts.sort_unstable();
    Ok(Fetched { form: Form::Ldif, octets: texts.concat().into_bytes() })
}

/// Everything together: a server may answer each question in time and never come to an end.
async fn within<T>(
    limit: Duration,
    server: &str,
    work: impl Future<Output = Result<T, LdapFault>>,
) -> Result<T, LdapFault> {
    let too_slow = || LdapFault::TooSlow { server: server.to_owned(), seconds: limit.as_secs() };
    tokio::time::timeout(limit, work).await.unwrap_or_else(|_| Err(too_slow()))
}

async fn connect(server: &Url, config: Arc<ClientConfig>) -> Result<Ldap, LdapFault> {
    let settings = LdapConnSettings::new()
        .set_conn_timeout(CONNECT)
        .set_config(config)
        // Without it nothing would be asked over an open connection; the library sets it aside for ldaps.
        .set_starttls(server.scheme() == "ldap");
    let no_answer = |source| LdapFault::NoAnswer { server: server.to_string(), source: Box::new(source) };
    let (connection, handle) = LdapConnAsync::from_url_with_settings(settings, server).await.map_err(no_answer)?;
    // Its end is told to whoever asks by the handle.
    tokio::spawn(connection.drive());
    Ok(handle)
}

async fn log_in(connection: &mut Ldap, server: &str, Bind { dn, password }: &Bind) -> Result<(), LdapFault> {
    let bound = connection.with_timeout(CONNECT).simple_bind(dn, password).await.and_then(|result| result.success());
    let refused = |source| LdapFault::Bind { server: server.to_owned(), dn: dn.clone(), source: Box::new(source) };
    bound.map(drop).map_err(refused)
}

/// All providers below the base, in LDIF.
async fn entries(connection: &mut Ldap, server: &str, base: &str) -> Result<Vec<String>, LdapFault> {
    let name = || server.to_owned();
    let searching = |source| LdapFault::Search { server: name(), base: base.to_owned(), source: Box::new(source) };
    let mut entries = connection
        .with_timeout(CONNECT)
        .streaming_search_with(PagedResults::new(PAGE), base, Scope::Subtree, FILTER, ATTRIBUTES.to_vec())
        .await
        .map_err(searching)?;
    let (mut texts, mut size) = (Vec::new(), 0);
    while let Some(entry) = entries.next().await.map_err(searching)? {
        if entry.is_intermediate() {
            continue;
        }
        if entry.is_ref() {
            // The library panics over what is none.
            let references = catch_unwind(AssertUnwindSafe(|| parse_refs(entry.0))).unwrap_or_default().join(", ");
            return Err(LdapFault::Elsewhere { server: name(), base: base.to_owned(), references });
        }
        let text = ldif(entry).ok_or_else(|| LdapFault::Entry { server: name() })?;
        size += text.len();
        if size > LARGEST {
            return Err(LdapFault::TooLarge { server: name() });
        }
        texts.push(text);
    }
    entries.finish().await.success().map_err(searching)?;
    Ok(texts)
}

/// None for what is no entry: the library panics over it.
fn ldif(entry: ResultEntry) -> Option<String> {
    let SearchEntry { dn, attrs, bin_attrs } = catch_unwind(AssertUnwindSafe(|| SearchEntry::construct(entry))).ok()?;
    let texts = attrs.into_iter().map(|(name, values)| {
        let values: Vec<Vec<u8>> = values.into_iter().map(String::into_bytes).collect();
        (name, values)
    });
    let mut attributes: Vec<(String, Vec<u8>)> = texts
        .chain(bin_attrs)
        .flat_map(|(name, values)| values.into_iter().map(move |value| (name.clone(), value)))
        .collect();
    attributes.sort_unstable();
    Some(directory::entry(&dn, &attributes))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    /// The result of a search, success, with a control: another page is to follow.
    const EMPTY_PAGE: &[u8] = b"\x65\x07\x0a\x01\x00\x04\x00\x04\x00\
        \xa0\x24\x30\x22\x04\x161.2.840.113556.1.4.319\x04\x08\x30\x06\x02\x01\x00\x04\x01x";

    /// Answers every request with an empty page.
    fn answer_for_ever(mut stream: TcpStream) {
        let mut request = [0; 4096];
        while stream.read(&mut request).is_ok_and(|read| read > 0) {
            // The length of the request has one octet below 128, and one more for each that the first one counts.
            let further = usize::from(request[1].saturating_sub(0x80));
            let id = &request[2 + further..];
            let id = &id[..2 + usize::from(id[1])];
            let length = u8::try_from(id.len() + EMPTY_PAGE.len()).unwrap();
            if stream.write_all(&[&[0x30, length], id, EMPTY_PAGE].concat()).is_err() {
                return;
            }
        }
    }

    #[tokio::test]
    async fn a_server_that_sends_empty_pages_for_ever_is_left_after_a_time() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("ldap://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || answer_for_ever(listener.accept().unwrap().0));
        let (connection, mut handle) = LdapConnAsync::new(&address).await.unwrap();
        tokio::spawn(connection.drive());
        let searching = within(Duration::from_secs(1), "the server", entries(&mut handle, "the server", "o=postacert"));
        let fault = tokio::time::timeout(Duration::from_secs(20), searching).await.expect("it is not left");
        assert!(matches!(fault, Err(LdapFault::TooSlow { .. })), "{fault:?}");
    }
}
