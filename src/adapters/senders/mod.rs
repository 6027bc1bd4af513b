//! Who may send as whom (§5.2), from the administrator's maps as they are in the moment of the question.
//!
//! A map that cannot be used is a fault and no answer: with an older copy somebody who was taken out of it would go on
//! sending. Who needs no map, a login that sends as itself, is not held up by it.

mod sqlite;

pub use sqlite::{SqliteFault, SqliteSenders};

use crate::adapters::table_file::TableFile;
use crate::identity::{CertificateMap, SenderMap, is_own};
use crate::model::{Address, User};
use crate::operations::ports;

/// The maps of a provider.
#[derive(Default)]
pub struct Senders {
    pub logins: Logins,
    /// Without it no certificate sends.
    pub certificates: Option<TableFile<CertificateMap>>,
    /// Whether a login that is an address needs a line to send as itself.
    pub listed_only: bool,
}

/// What logins own.
#[derive(Default)]
pub enum Logins {
    /// Themselves alone.
    #[default]
    Unlisted,
    File(TableFile<SenderMap>),
    Sqlite(SqliteSenders),
}

impl ports::Senders for Senders {
    fn may_send_as(&self, user: &User, address: &Address) -> Result<bool, ports::SendersFault> {
        match (user, &self.certificates) {
            (User::Login(login), _) if !self.listed_only && is_own(login, address) => Ok(true),
            (User::Login(login), _) => self.logins.list(login, address),
            (User::Certificate { .. }, None) => Ok(false),
            (User::Certificate { issuer, subject }, Some(map)) => {
                Ok(map.read().map_err(ports::SendersFault::of)?.lists(issuer, subject, address))
            }
        }
    }
}

impl Logins {
    fn list(&self, login: &str, address: &Address) -> Result<bool, ports::SendersFault> {
        match self {
            Logins::Unlisted => Ok(false),
            Logins::File(map) => Ok(map.read().map_err(ports::SendersFault::of)?.lists(login, address)),
            Logins::Sqlite(map) => map.lists(login, address).map_err(ports::SendersFault::of),
        }
    }
}

#[cfg(test)]
mod tests;
