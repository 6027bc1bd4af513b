//! A table that Postfix asks over a socket (socketmap_table(5)): one request and one answer at a time, each a netstring.
//!
//! `netstring` takes requests out of the octets that came, `server` has the socket and the time limits. What a key means
//! is left to whoever answers. A client that breaks the protocol or is slow loses its connection and costs nobody else
//! anything; Postfix connects again.

pub mod netstring;
mod server;

pub use server::serve;

/// What is said of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    Found(String),
    NotFound,
    /// Postfix keeps the mail and asks again later.
    Temporary(String),
    /// The question makes no sense; Postfix keeps the mail and logs this.
    Permanent(&'static str),
}

impl Answer {
    fn text(&self) -> String {
        match self {
            Answer::Found(value) => format!("OK {value}"),
            Answer::NotFound => "NOTFOUND ".to_owned(),
            Answer::Temporary(reason) => format!("TEMP {reason}"),
            Answer::Permanent(reason) => format!("PERM {reason}"),
        }
    }
}
