//! One LMTP connection without its socket (RFC 2033): octets in, replies and transactions out.
//!
//! Decided here: which command fits the moment, the limits of a transaction, and the wire form of replies. The line
//! syntax is `command`'s, the framing of the message `body`'s; timeouts and what a transaction leads to are the
//! caller's. Wrong input gets a 5xx reply and leaves the session as it was.

use bytes::{Bytes, BytesMut};
use memchr::memchr;

use super::body::{Body, TooLong};
use super::command::{self, Command, Complaint};
use crate::operations::ports::{MailRecipient, Reply};

/// Room for a path of 1024 octets and its `ORCPT`; RFC 5321 §4.5.3.1.4 and the extensions ask for about 1100.
const LONGEST_LINE: usize = 4096;

/// A queue file must arrive as one transaction, so this is what Postfix's queue manager holds in memory at most
/// (`qmgr_message_recipient_limit`).
const MOST_RECIPIENTS: usize = 20_000;

/// RFC 5321 §4.5.3.1.5 allows 512 octets, code and line end included.
const LONGEST_REPLY_TEXT: usize = 506;

/// One message with its envelope, complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    /// Postfix's queue id, from `XFORWARD IDENT`.
    pub queue_id: Option<String>,
    /// The reverse path without angle brackets; empty for the empty one.
    pub sender: String,
    /// At least one.
    pub recipients: Vec<MailRecipient>,
    /// Whether the client said `BODY=8BITMIME`.
    pub eight_bit: bool,
    pub message: Bytes,
}

/// What the session needs next.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// More input.
    Read,
    /// A reply per recipient, by [`Session::answer`].
    Answer(Transaction),
    /// Nothing: the connection ends once the output is written.
    Close,
}

/// The state of one connection.
#[derive(Debug)]
pub struct Session {
    hostname: Box<str>,
    message_limit: usize,
    phase: Phase,
    greeted: bool,
    queue_id: Option<String>,
    envelope: Option<Envelope>,
    output: BytesMut,
}

#[derive(Debug)]
enum Phase {
    Commands,
    /// Inside a line that is already too long.
    OverlongLine,
    Message(Body),
    /// Waiting for the replies of this many recipients.
    Answers(usize),
    Closed,
}

#[derive(Debug)]
struct Envelope {
    sender: String,
    size: usize,
    eight_bit: bool,
    recipients: Vec<MailRecipient>,
}

impl Session {
    /// Greets as this host; messages may have up to `message_limit` octets.
    pub fn new(hostname: &str, message_limit: usize) -> Self {
        let mut session = Session {
            hostname: hostname.into(),
            message_limit,
            phase: Phase::Commands,
            greeted: false,
            queue_id: None,
            envelope: None,
            output: BytesMut::new(),
        };
        session.say(220, format!("{hostname} LMTP"));
        session
    }

    /// Works through the input until it needs something. What it leaves there, it wants to see again with more.
    pub fn receive(&mut self, input: &mut BytesMut) -> Step {
        loop {
            match &mut self.phase {
                Phase::Closed => return Step::Close,
                Phase::Answers(_) => return Step::Read,
                Phase::Message(body) => {
                    let Some(end) = body.feed(input) else { return Step::Read };
                    if let Some(transaction) = self.end_message(end) {
                        return Step::Answer(transaction);
                    }
                }
                Phase::Commands | Phase::OverlongLine => {
                    if !self.read_line(input) {
                        return Step::Read;
                    }
                }
            }
        }
    }

    /// The replies to the transaction last handed out, in the order of its recipients.
    ///
    /// A recipient without a reply is told to try again later, and so is one whose code does not settle anything.
    pub fn answer(&mut self, replies: impl IntoIterator<Item = Reply>) {
        let Phase::Answers(count) = self.phase else { return };
        let unsettled = || Reply::new(451, "4.3.0 no outcome for this recipient");
        let settled = |reply: Reply| if matches!(reply.code, 200..300 | 400..600) { reply } else { unsettled() };
        let replies = replies.into_iter().map(settled).chain(std::iter::repeat_with(unsettled));
        for reply in replies.take(count) {
            self.reply(&with_status(reply));
        }
        self.phase = Phase::Commands;
    }

    /// Ends the connection with a last reply.
    pub fn close(&mut self, reply: &Reply) {
        self.reply(reply);
        self.phase = Phase::Closed;
    }

    /// Whether no transaction is under way.
    pub fn is_idle(&self) -> bool {
        self.envelope.is_none() && matches!(self.phase, Phase::Commands | Phase::OverlongLine | Phase::Closed)
    }

    /// What is to be written to the client.
    pub fn take_output(&mut self) -> Bytes {
        self.output.split().freeze()
    }

    /// Takes one line off the input, if it holds one.
    fn read_line(&mut self, input: &mut BytesMut) -> bool {
        let Some(at) = memchr(b'\n', input) else {
            if input.len() > LONGEST_LINE {
                input.clear();
                self.phase = Phase::OverlongLine;
            }
            return false;
        };
        let overlong = matches!(self.phase, Phase::OverlongLine) || at > LONGEST_LINE;
        self.phase = Phase::Commands;
        let line = input.split_to(at + 1);
        let command = match line.strip_suffix(b"\r\n") {
            _ if overlong => Err(Complaint::LineTooLong(LONGEST_LINE)),
            None => Err(Complaint::BareLineFeed),
            Some(line) => command::parse(line),
        };
        match command {
            Ok(command) => self.obey(command),
            Err(complaint) => self.reply(&complaint.reply()),
        }
        true
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Lhlo => self.lhlo(),
            Command::Noop => self.say(250, "2.0.0 ok"),
            Command::Vrfy => self.say(252, "2.5.0 send the message and see"),
            Command::Quit => self.close(&Reply::new(221, "2.0.0 bye")),
            Command::Rset => {
                self.reset();
                self.say(250, "2.0.0 forgotten");
            }
            _ if !self.greeted => self.say(503, "5.5.1 say LHLO first"),
            Command::Xforward { ident } => self.xforward(ident),
            Command::Mail { sender, size, eight_bit } => self.mail(sender, size.unwrap_or_default(), eight_bit),
            Command::Rcpt(recipient) => self.rcpt(recipient),
            Command::Data => self.data(),
        }
    }

    fn lhlo(&mut self) {
        self.reset();
        self.greeted = true;
        // Postfix does not look for extensions on the first line.
        let extensions = format!(
            "{}\nPIPELINING\n8BITMIME\nENHANCEDSTATUSCODES\nDSN\nSIZE {}\nXFORWARD NAME ADDR PROTO HELO SOURCE PORT IDENT",
            self.hostname, self.message_limit
        );
        self.say(250, extensions);
    }

    /// The attributes may come in several commands, and hold for the next transaction only.
    fn xforward(&mut self, ident: Option<String>) {
        if self.envelope.is_some() {
            return self.say(503, "5.5.1 XFORWARD comes before MAIL");
        }
        self.queue_id = ident.or(self.queue_id.take());
        self.say(250, "2.0.0 ok");
    }

    fn mail(&mut self, sender: String, size: usize, eight_bit: bool) {
        if self.envelope.is_some() {
            return self.say(503, "5.5.1 there is a sender already");
        }
        if size > self.message_limit {
            return self.say(552, too_large(self.message_limit));
        }
        self.envelope = Some(Envelope { sender, size, eight_bit, recipients: Vec::new() });
        self.say(250, "2.1.0 ok");
    }

    fn rcpt(&mut self, recipient: MailRecipient) {
        match &mut self.envelope {
            None => self.say(503, "5.5.1 say MAIL first"),
            Some(envelope) if envelope.recipients.len() >= MOST_RECIPIENTS => {
                self.say(452, "4.5.3 too many recipients");
            }
            Some(envelope) => {
                envelope.recipients.push(recipient);
                self.say(250, "2.1.5 ok");
            }
        }
    }

    fn data(&mut self) {
        match &self.envelope {
            None => self.say(503, "5.5.1 say MAIL first"),
            Some(envelope) if envelope.recipients.is_empty() => self.say(503, "5.5.1 no valid recipients"),
            Some(envelope) => {
                self.phase = Phase::Message(Body::new(envelope.size, self.message_limit));
                self.say(354, "end with <CRLF>.<CRLF>");
            }
        }
    }

    /// The transaction, unless the message was too long and its recipients have been told so.
    fn end_message(&mut self, message: Result<Bytes, TooLong>) -> Option<Transaction> {
        let queue_id = self.queue_id.take();
        // A message is only read inside an envelope.
        let envelope = self.envelope.take()?;
        self.phase = Phase::Answers(envelope.recipients.len());
        match message {
            Ok(message) => {
                let Envelope { sender, eight_bit, recipients, .. } = envelope;
                Some(Transaction { queue_id, sender, recipients, eight_bit, message })
            }
            Err(TooLong) => {
                let refusal = Reply::new(552, too_large(self.message_limit));
                self.answer(envelope.recipients.iter().map(|_| refusal.clone()));
                None
            }
        }
    }

    fn reset(&mut self) {
        self.queue_id = None;
        self.envelope = None;
    }

    fn say(&mut self, code: u16, text: impl Into<String>) {
        self.reply(&Reply::new(code, text));
    }

    fn reply(&mut self, reply: &Reply) {
        let mut lines = reply.text.split('\n').peekable();
        while let Some(line) = lines.next() {
            let dash = if lines.peek().is_some() { '-' } else { ' ' };
            let printable = |c: char| if c.is_ascii_graphic() || c == ' ' { c } else { '?' };
            let text: String = line.chars().take(LONGEST_REPLY_TEXT).map(printable).collect();
            self.output.extend_from_slice(format!("{}{dash}{text}\r\n", reply.code).as_bytes());
        }
    }
}

fn too_large(limit: usize) -> String {
    format!("5.3.4 a message may have {limit} octets")
}

/// Adds the enhanced status code (RFC 2034 §4) to lines that have none.
fn with_status(reply: Reply) -> Reply {
    let class = reply.code / 100;
    let line = |line: &str| if has_status(line) { line.to_owned() } else { format!("{class}.0.0 {line}") };
    Reply { code: reply.code, text: reply.text.split('\n').map(line).collect::<Vec<_>>().join("\n") }
}

fn has_status(line: &str) -> bool {
    let status = line.split(' ').next().unwrap_or_default();
    let is_number = |part: &str| (1..=3).contains(&part.len()) && part.bytes().all(|octet| octet.is_ascii_digit());
    status.split('.').count() == 3 && status.split('.').all(is_number)
}

#[cfg(test)]
mod tests;
