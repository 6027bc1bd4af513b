//! Who hands over a message, as Postfix found out (§5.2).

use std::fmt;

/// Somebody who was identified, by one of the two means that §5.2 knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum User {
    /// By login and password.
    Login(String),
    /// By a TLS client certificate that leads to the CA of the users: its common names.
    Certificate { issuer: String, subject: String },
}

impl User {
    /// What he calls himself.
    pub fn name(&self) -> &str {
        match self {
            User::Login(login) => login,
            User::Certificate { subject, .. } => subject,
        }
    }
}

/// For the administrator's log; a certificate as its line in the map begins.
impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            User::Login(login) => f.write_str(login),
            User::Certificate { issuer, subject } => write!(f, "certificate {issuer:?} {subject:?}"),
        }
    }
}
