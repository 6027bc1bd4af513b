//! Reads a mailbox over IMAPS or POP3S, every message with exactly the bytes the server gives.
//!
//! Messages are neither changed nor marked as read. A refused login is an error with the server's words.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::pki::Identity;
use crate::smtp::Login;
use crate::wire::Wire;

/// How a client says who it is.
#[derive(Debug, Clone, Copy)]
pub enum Credentials<'a> {
    Password(Login<'a>),
    /// By its TLS certificate (SASL EXTERNAL); the name it wants to be may be empty.
    Certificate(&'a Identity, &'a str),
    /// A password in a connection in which it showed a certificate.
    Both(&'a Identity, Login<'a>),
}

impl<'a> Credentials<'a> {
    fn identity(self) -> Option<&'a Identity> {
        match self {
            Credentials::Password(_) => None,
            Credentials::Certificate(identity, _) | Credentials::Both(identity, _) => Some(identity),
        }
    }
}

/// All messages of the inbox, in order of arrival.
pub fn imap(address: SocketAddr, hostname: &str, ca: &Path, credentials: Credentials) -> Result<Vec<Vec<u8>>> {
    let mut wire = open(address, hostname, ca, credentials.identity())?;
    match credentials {
        Credentials::Password((user, password)) | Credentials::Both(_, (user, password)) => {
            imap_command(&mut wire, &format!("LOGIN {} {}", quoted(user), quoted(password)))?
        }
        Credentials::Certificate(_, name) => {
            imap_command(&mut wire, &format!("AUTHENTICATE EXTERNAL {}", external(name)))?
        }
    };
    imap_command(&mut wire, "EXAMINE INBOX")?;
    let messages = imap_command(&mut wire, "UID FETCH 1:* (BODY.PEEK[])")?;
    imap_command(&mut wire, "LOGOUT")?;
    Ok(messages)
}

/// All messages of the inbox, in order of arrival.
pub fn pop3(address: SocketAddr, hostname: &str, ca: &Path, credentials: Credentials) -> Result<Vec<Vec<u8>>> {
    let mut wire = open(address, hostname, ca, credentials.identity())?;
    match credentials {
        Credentials::Password((user, password)) | Credentials::Both(_, (user, password)) => {
            pop3_command(&mut wire, &format!("USER {user}"))?;
            pop3_command(&mut wire, &format!("PASS {password}"))?
        }
        Credentials::Certificate(_, name) => pop3_command(&mut wire, &format!("AUTH EXTERNAL {}", external(name)))?,
    };
    let status = pop3_command(&mut wire, "STAT")?;
    let count: usize = status.split(' ').nth(1).and_then(|word| word.parse().ok()).context("STAT gave no number")?;
    let mut messages = Vec::with_capacity(count);
    for number in 1..=count {
        pop3_command(&mut wire, &format!("RETR {number}"))?;
        messages.push(pop3_text(&mut wire)?);
    }
    pop3_command(&mut wire, "QUIT")?;
    Ok(messages)
}

fn open(address: SocketAddr, hostname: &str, ca: &Path, identity: Option<&Identity>) -> Result<Wire> {
    let mut wire = Wire::connect(address)?;
    wire.start_tls(hostname, ca, identity)?;
    wire.line().context("no greeting")?;
    Ok(wire)
}

/// Sends a command; returns the literals of its untagged answers (RFC 3501 §4.3).
fn imap_command(wire: &mut Wire, command: &str) -> Result<Vec<Vec<u8>>> {
    wire.send(format!("t {command}\r\n").as_bytes())?;
    let mut literals = Vec::new();
    loop {
        let line = wire.line()?;
        let line = String::from_utf8_lossy(&line);
        if let Some(result) = line.strip_prefix("t ") {
            let verb = command.split(' ').next().unwrap_or_default();
            ensure!(result.starts_with("OK"), "{verb} was answered with {result}");
            return Ok(literals);
        }
        let length = line.strip_suffix('}').and_then(|line| line.rsplit_once('{')).map(|(_, length)| length);
        if let Some(length) = length.and_then(|length| length.parse().ok()) {
            literals.push(wire.bytes(length)?);
        }
    }
}

/// The initial response of SASL EXTERNAL (RFC 4422 appendix A); `=` is the empty one.
fn external(name: &str) -> String {
    if name.is_empty() { "=".to_owned() } else { STANDARD.encode(name) }
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn pop3_command(wire: &mut Wire, command: &str) -> Result<String> {
    wire.send(format!("{command}\r\n").as_bytes())?;
    let line = String::from_utf8_lossy(&wire.line()?).into_owned();
    let verb = command.split(' ').next().unwrap_or_default();
    ensure!(line.starts_with("+OK"), "{verb} was answered with {line}");
    Ok(line)
}

/// A multi-line answer, with the doubled dots undone (RFC 1939 §3).
fn pop3_text(wire: &mut Wire) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    loop {
        let line = wire.line()?;
        if line == b"." {
            return Ok(text);
        }
        text.extend(line.strip_prefix(b".").unwrap_or(&line));
        text.extend(b"\r\n");
    }
}
