//! `[senders]`: who may send as whom (§5.2).

use std::fmt;
use std::path::PathBuf;

use super::{Found, Section};
use crate::config::Problem;
use crate::config::effective::Printer;
use crate::config::format::Document;
use crate::config::params::Value;

/// Who may send as whom (§5.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Senders {
    pub logins: LoginMap,
    /// Without it no certificate sends.
    pub certificates: Option<PathBuf>,
    /// Whether a login that is an address needs a line to send as itself.
    pub listed_only: bool,
}

/// Where it stands what logins own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoginMap {
    /// Nowhere: each login sends as itself only.
    None,
    File(PathBuf),
    Sqlite {
        database: PathBuf,
        /// With `:login`; one address a row.
        query: String,
    },
}

impl Section for Senders {
    fn read(document: &mut Document) -> Option<Self> {
        let map = document.optional("senders.map");
        let (database, query) = (document.optional("senders.sqlite"), document.optional("senders.query"));
        let certificates = document.optional("senders.certificates");
        let listed_only = document.or("senders.listed_only", false);
        match login_map(map, database, query) {
            Ok(LoginMap::None) if listed_only && certificates.is_none() => {
                document.note([("senders.listed_only", Problem::NobodyListed)]);
                None
            }
            Ok(logins) => Some(Senders { logins, certificates, listed_only }),
            Err(error) => {
                document.note([error]);
                None
            }
        }
    }

    fn print(&self, print: &mut Printer) -> fmt::Result {
        let (map, database, query) = match &self.logins {
            LoginMap::None => (None, None, None),
            LoginMap::File(map) => (Some(map), None, None),
            LoginMap::Sqlite { database, query } => (None, Some(database), Some(query)),
        };
        print.optional("senders.map", map)?;
        print.optional("senders.sqlite", database)?;
        print.optional("senders.query", query)?;
        print.optional("senders.certificates", self.certificates.as_ref())?;
        print.value("senders.listed_only", &self.listed_only)
    }
}

fn login_map(map: Option<PathBuf>, database: Option<PathBuf>, query: Option<String>) -> Result<LoginMap, Found> {
    match (map, database, query) {
        (None, None, None) => Ok(LoginMap::None),
        (Some(map), None, None) => Ok(LoginMap::File(map)),
        (None, Some(database), Some(query)) => Ok(LoginMap::Sqlite { database, query }),
        (None, Some(_), None) => Err(("senders.query", Problem::Missing(QUERY_FORM))),
        (None, None, Some(_)) => Err(("senders.sqlite", Problem::Missing(PathBuf::FORM))),
        (Some(_), Some(_), _) => Err(("senders.sqlite", Problem::TwoLoginMaps)),
        (Some(_), None, Some(_)) => Err(("senders.query", Problem::TwoLoginMaps)),
    }
}

const QUERY_FORM: &str = "a query such as \"SELECT address FROM senders WHERE login = :login\"";
