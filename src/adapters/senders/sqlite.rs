//! The addresses of a login in an SQLite database of the provider's: one query, one address a row.
//!
//! The database is opened for each question and only to be read: it may be changed in place or replaced by another file
//! at any moment. The login is bound, never written into the query. It comes in lower case, as Dovecot hands logins on
//! unless told otherwise, so that the query needs no case of its own.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, Statement};

use crate::model::{Address, InvalidAddress};

/// What the login is called in the query.
const LOGIN: &str = ":login";

/// The call that fails where the query is no SQL, or names what the database does not have.
const ASK: &str = "ask";

/// How long a lock of whoever writes is waited for; Postfix waits for a milter's answer no longer than 30 seconds.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// A database with a query.
#[derive(Debug, Clone)]
pub struct SqliteSenders {
    database: PathBuf,
    query: String,
}

/// Why the database gives no answer.
#[derive(Debug, thiserror::Error)]
pub enum SqliteFault {
    #[error("cannot {call} the database {}", database.display())]
    Sqlite {
        call: &'static str,
        database: PathBuf,
        #[source]
        source: rusqlite::Error,
    },
    #[error("the query has {found} parameters; expected one, {LOGIN}")]
    Parameters { found: usize },
    #[error("the query gives {found} columns; expected one, an address")]
    Columns { found: usize },
    #[error("the query writes; expected a SELECT")]
    Writes,
    #[error("{} lists what is no address for {login}", database.display())]
    NotAnAddress {
        database: PathBuf,
        login: String,
        #[source]
        source: InvalidAddress,
    },
}

impl SqliteFault {
    /// Whether another query would mend it.
    pub fn is_of_query(&self) -> bool {
        match self {
            SqliteFault::Sqlite { call, .. } => *call == ASK,
            SqliteFault::Parameters { .. } | SqliteFault::Columns { .. } | SqliteFault::Writes => true,
            SqliteFault::NotAnAddress { .. } => false,
        }
    }
}

impl SqliteSenders {
    pub fn new(database: &Path, query: &str) -> Self {
        SqliteSenders { database: database.to_owned(), query: query.to_owned() }
    }

    /// Whether the query can be asked at all.
    pub fn check(&self) -> Result<(), SqliteFault> {
        self.prepare(&self.open()?).map(drop)
    }

    /// Whether the query gives an address for a login.
    pub fn lists(&self, login: &str, address: &Address) -> Result<bool, SqliteFault> {
        let failed = |source| self.fault("read", source);
        let connection = self.open()?;
        let mut statement = self.prepare(&connection)?;
        let mut rows = statement.query(&[(LOGIN, &login.to_lowercase())]).map_err(failed)?;
        while let Some(row) = rows.next().map_err(failed)? {
            let text: String = row.get(0).map_err(failed)?;
            let listed: Address = text.parse().map_err(|source| SqliteFault::NotAnAddress {
                database: self.database.clone(),
                login: login.to_owned(),
                source,
            })?;
            if listed == *address {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn open(&self) -> Result<Connection, SqliteFault> {
        // The mutex of a connection is for threads that share it.
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection =
            Connection::open_with_flags(&self.database, flags).map_err(|source| self.fault("open", source))?;
        connection.busy_timeout(BUSY_TIMEOUT).map_err(|source| self.fault("open", source))?;
        Ok(connection)
    }

    fn prepare<'c>(&self, connection: &'c Connection) -> Result<Statement<'c>, SqliteFault> {
        let statement = connection.prepare(&self.query).map_err(|source| self.fault(ASK, source))?;
        let parameters = statement.parameter_count();
        if parameters != 1 || statement.parameter_name(1) != Some(LOGIN) {
            return Err(SqliteFault::Parameters { found: parameters });
        }
        if !statement.readonly() {
            return Err(SqliteFault::Writes);
        }
        match statement.column_count() {
            1 => Ok(statement),
            found => Err(SqliteFault::Columns { found }),
        }
    }

    fn fault(&self, call: &'static str, source: rusqlite::Error) -> SqliteFault {
        SqliteFault::Sqlite { call, database: self.database.clone(), source }
    }
}
