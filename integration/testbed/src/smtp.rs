//! An SMTP client that shows every answer, and lets a test say what it likes.
//!
//! [`send`] is the usual dialogue; [`Smtp`] is for the unusual ones. A refusal is an answer, not an error: errors are
//! connections that break.

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::network;
use crate::pki::Identity;
use crate::wire::Wire;

/// A service of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Port {
    /// 465: TLS from the first byte.
    Submissions,
    /// 587: STARTTLS.
    Submission,
    /// 25: other servers; TLS when offered.
    Smtp,
    /// The loopback service for finished notifications.
    Inject,
}

impl Port {
    pub fn number(self) -> u16 {
        match self {
            Port::Submissions => network::SUBMISSIONS,
            Port::Submission => network::SUBMISSION,
            Port::Smtp => network::SMTP,
            Port::Inject => network::INJECT,
        }
    }
}

/// What a server said to one command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The command; `connect`, `STARTTLS` and `message` stand for what has no line of its own.
    pub command: String,
    pub code: u16,
    /// All lines, without their codes.
    pub text: String,
}

impl Answer {
    pub fn is_positive(&self) -> bool {
        self.code < 400
    }
}

/// All answers of one session, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dialogue(pub Vec<Answer>);

impl Dialogue {
    /// Whether the server took responsibility for the message.
    pub fn accepted(&self) -> bool {
        self.code("message").is_some_and(|code| (200..300).contains(&code))
    }

    /// The answer to the first command that begins with this.
    pub fn code(&self, command: &str) -> Option<u16> {
        self.0.iter().find(|answer| answer.command.starts_with(command)).map(|answer| answer.code)
    }

    /// The name under which Postfix queued the message.
    pub fn queue_id(&self) -> Option<&str> {
        let answer = self.0.iter().find(|answer| answer.command == "message")?;
        answer.text.split_once("queued as ").map(|(_, id)| id.trim())
    }

    /// The first answer that is a refusal.
    pub fn refusal(&self) -> Option<&Answer> {
        self.0.iter().find(|answer| !answer.is_positive())
    }
}

impl fmt::Display for Dialogue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|answer| writeln!(f, "{}: {} {}", answer.command, answer.code, answer.text))
    }
}

/// User and password.
pub type Login<'a> = (&'a str, &'a str);

/// Hands one message over: EHLO, TLS, login, one MAIL, all RCPTs, the message if a recipient was taken, QUIT.
pub fn send(mut smtp: Smtp, login: Option<Login>, from: &str, to: &[&str], message: &[u8]) -> Result<Dialogue> {
    if let Some((user, password)) = login
        && !smtp.login(user, password)?.is_positive()
    {
        return smtp.quit();
    }
    if !smtp.command(&format!("MAIL FROM:<{from}>"))?.is_positive() {
        return smtp.quit();
    }
    let mut taken = false;
    for recipient in to {
        taken |= smtp.command(&format!("RCPT TO:<{recipient}>"))?.is_positive();
    }
    if taken && smtp.command("DATA")?.is_positive() {
        smtp.message(message)?;
    }
    smtp.quit()
}

/// A session with a server.
pub struct Smtp {
    wire: Wire,
    answers: Vec<Answer>,
}

impl Smtp {
    /// Connects, says EHLO, and starts TLS the way the port wants it, with a client certificate if there is one.
    pub fn open(
        address: SocketAddr,
        port: Port,
        hostname: &str,
        ca: &Path,
        identity: Option<&Identity>,
    ) -> Result<Self> {
        let mut smtp = Smtp { wire: Wire::connect(address)?, answers: Vec::new() };
        if port == Port::Submissions {
            smtp.wire.start_tls(hostname, ca, identity)?;
        }
        smtp.answer("connect")?;
        let greeting = smtp.command("EHLO client.example")?;
        if greeting.text.lines().any(|line| line == "STARTTLS") && smtp.command("STARTTLS")?.is_positive() {
            smtp.wire.start_tls(hostname, ca, identity)?;
            smtp.command("EHLO client.example")?;
        }
        Ok(smtp)
    }

    /// Connects without TLS, and says EHLO.
    pub fn open_plain(address: SocketAddr) -> Result<Self> {
        let mut smtp = Smtp { wire: Wire::connect(address)?, answers: Vec::new() };
        smtp.answer("connect")?;
        smtp.command("EHLO client.example")?;
        Ok(smtp)
    }

    /// Sends one line, whatever it says.
    pub fn command(&mut self, line: &str) -> Result<Answer> {
        self.wire.send(format!("{line}\r\n").as_bytes())?;
        self.answer(line)
    }

    pub fn login(&mut self, user: &str, password: &str) -> Result<Answer> {
        self.command(&format!("AUTH PLAIN {}", STANDARD.encode(format!("\0{user}\0{password}"))))
    }

    /// Sends the message after a positive answer to DATA.
    pub fn message(&mut self, message: &[u8]) -> Result<Answer> {
        self.wire.send(&stuffed(message))?;
        self.answer("message")
    }

    /// Ends the session and gives all its answers.
    pub fn quit(mut self) -> Result<Dialogue> {
        // The dialogue is what the caller wants; a server that hung up after a refusal has said it.
        let _ = self.command("QUIT");
        Ok(Dialogue(self.answers))
    }

    fn answer(&mut self, command: &str) -> Result<Answer> {
        let mut lines = Vec::new();
        loop {
            let line = self.wire.line().with_context(|| format!("no answer to {command}"))?;
            let line = String::from_utf8_lossy(&line).into_owned();
            let (code, text) = line.split_at_checked(3).with_context(|| format!("{line:?} answers {command}"))?;
            lines.push(text.get(1..).unwrap_or_default().to_owned());
            if !text.starts_with('-') {
                let code = code.parse().with_context(|| format!("{line:?} answers {command}"))?;
                let answer = Answer { command: command.to_owned(), code, text: lines.join("\n") };
                self.answers.push(answer.clone());
                return Ok(answer);
            }
        }
    }
}

/// Dots doubled, and the end of the message (RFC 5321 §4.5.2).
fn stuffed(message: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(message.len() + 5);
    let mut line_begins = true;
    for &byte in message {
        if line_begins && byte == b'.' {
            bytes.push(b'.');
        }
        bytes.push(byte);
        line_begins = byte == b'\n';
    }
    if !bytes.ends_with(b"\r\n") {
        bytes.extend(b"\r\n");
    }
    bytes.extend(b".\r\n");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_begins_with_a_dot_is_not_the_end() {
        assert_eq!(stuffed(b"a\r\n.\r\n..b"), b"a\r\n..\r\n...b\r\n.\r\n");
    }
}
