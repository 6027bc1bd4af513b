//! The directory as entries over LDAP with TLS (§4.5): all below the base, page by page, written down as LDIF.
//!
//! Entries and values are sorted, so that the same directory gives the same file. A search that the server does not
//! finish, for its size limit above all, is a failure: half a directory would make certified domains ordinary ones.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use ldap3::adapters::{Adapter, EntriesOnly, PagedResults};
use ldap3::{LdapConn, LdapConnSettings, LdapError, ResultEntry, Scope, SearchEntry};
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
        source: LdapError,
    },
    #[error("{server} does not let {dn} in; look at directory.bind_dn and directory.password_file")]
    Bind {
        server: String,
        dn: String,
        #[source]
        source: LdapError,
    },
    #[error(
        "{server} did not give all that lies below {base}; is the base in directory.url right, does the server know \
         directory.client_certificate, and may this provider read everything (size limit)?"
    )]
    Search {
        server: String,
        base: String,
        #[source]
        source: LdapError,
    },
    #[error("{server} gave an entry that cannot be read")]
    Entry { server: String },
    #[error("{server} gives out more than {LARGEST} bytes")]
    TooLarge { server: String },
    #[error("{server} did not come to an end within {} seconds", ALL.as_secs())]
    TooSlow { server: String },
}

pub(super) fn fetch(server: &Url, base: &str, bind: Option<&Bind>, tls: &TlsFiles) -> Result<Fetched, OutsideFault> {
    let began = Instant::now();
    let name = server.to_string();
    let mut connection = connect(server, tls)?;
    if let Some(Bind { dn, password }) = bind {
        let bound = connection.with_timeout(CONNECT).simple_bind(dn, password).and_then(|result| result.success());
        bound.map_err(|source| LdapFault::Bind { server: name.clone(), dn: dn.clone(), source })?;
    }
    let searching = |source| LdapFault::Search { server: name.clone(), base: base.to_owned(), source };
    let adapters: Vec<Box<dyn Adapter<_, _>>> = vec![Box::new(EntriesOnly::new()), Box::new(PagedResults::new(PAGE))];
    let mut entries = connection
        .with_timeout(CONNECT)
        .streaming_search_with(adapters, base, Scope::Subtree, FILTER, ATTRIBUTES.to_vec())
        .map_err(searching)?;
    let (mut texts, mut size) = (Vec::new(), 0);
    while let Some(entry) = entries.next().map_err(searching)? {
        let text = ldif(entry).ok_or_else(|| LdapFault::Entry { server: name.clone() })?;
        size += text.len();
        if size > LARGEST {
            return Err(LdapFault::TooLarge { server: name }.into());
        }
        if began.elapsed() > ALL {
            return Err(LdapFault::TooSlow { server: name }.into());
        }
        texts.push(text);
    }
    entries.result().success().map_err(searching)?;
    // Everything is here; a server that does not like the goodbye takes nothing from it.
    _ = connection.unbind();
    texts.sort_unstable();
    Ok(Fetched { form: Form::Ldif, octets: texts.concat().into_bytes() })
}

fn connect(server: &Url, tls: &TlsFiles) -> Result<LdapConn, OutsideFault> {
    let settings = LdapConnSettings::new()
        .set_conn_timeout(CONNECT)
        .set_config(Arc::new(tls.client_config()?))
        // Without it nothing would be asked over an open connection; the library sets it aside for ldaps.
        .set_starttls(server.scheme() == "ldap");
    let connection = LdapConn::from_url_with_settings(settings, server);
    Ok(connection.map_err(|source| LdapFault::NoAnswer { server: server.to_string(), source })?)
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
