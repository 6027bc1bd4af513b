//! One command line of the LMTP dialogue, read into a [`Command`] or a [`Complaint`].
//!
//! Decided here: the syntax of RFC 5321 §4.1.1, of the announced extensions, and of Postfix's `XFORWARD`. Whether the
//! command fits the moment is `session`'s question. A complaint is told to the client and changes nothing.

use crate::adapters::path;
use crate::operations::ports::{MailRecipient, Reply};

/// RFC 3461 §4.2.
const LONGEST_ORCPT: usize = 500;

/// Room for any queue id: Postfix's long ones have 20 characters.
const LONGEST_QUEUE_ID: usize = 100;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Command {
    Lhlo,
    Mail {
        sender: String,
        size: Option<usize>,
        eight_bit: bool,
    },
    Rcpt(MailRecipient),
    Data,
    Rset,
    Noop,
    Vrfy,
    Quit,
    /// `ident` is the queue id; `None` where the attribute is absent or unknown to the client.
    Xforward {
        ident: Option<String>,
    },
}

/// Why a line is not a command.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Complaint {
    #[error("the line is longer than {0} octets")]
    LineTooLong(usize),
    #[error("the line does not end with CR LF")]
    BareLineFeed,
    #[error("the line is not text")]
    NotText,
    #[error("{0} is not a command of this server")]
    UnknownCommand(String),
    #[error("this is LMTP: say LHLO")]
    NotLmtp,
    #[error("syntax: {0}")]
    Syntax(&'static str),
    #[error("this is not a path a message can come from")]
    Sender,
    #[error("this is not a path a message can go to")]
    Recipient,
    #[error("{0} is not a parameter of this command")]
    UnknownParameter(String),
    #[error("the value of {0} is not understood")]
    ParameterValue(String),
}

impl Complaint {
    pub(super) fn reply(&self) -> Reply {
        let (code, status) = match self {
            Complaint::LineTooLong(_) | Complaint::BareLineFeed | Complaint::NotText => (500, "5.5.2"),
            Complaint::UnknownCommand(_) | Complaint::NotLmtp => (500, "5.5.1"),
            Complaint::Syntax(_) | Complaint::ParameterValue(_) => (501, "5.5.4"),
            Complaint::Sender => (501, "5.1.7"),
            Complaint::Recipient => (501, "5.1.3"),
            Complaint::UnknownParameter(_) => (555, "5.5.4"),
        };
        Reply::new(code, format!("{status} {self}"))
    }
}

/// Reads one line, given without its line end.
pub(super) fn parse(line: &[u8]) -> Result<Command, Complaint> {
    let line = std::str::from_utf8(line).map_err(|_| Complaint::NotText)?;
    if line.chars().any(char::is_control) {
        return Err(Complaint::NotText);
    }
    let (verb, argument) = line.split_once(' ').unwrap_or((line, ""));
    let verb = verb.to_ascii_uppercase();
    match verb.as_str() {
        "LHLO" if argument.trim().is_empty() => Err(Complaint::Syntax("LHLO hostname")),
        "LHLO" => Ok(Command::Lhlo),
        "HELO" | "EHLO" => Err(Complaint::NotLmtp),
        "MAIL" => mail(argument),
        "RCPT" => rcpt(argument),
        "DATA" => alone(argument, Command::Data, "DATA"),
        "RSET" => alone(argument, Command::Rset, "RSET"),
        "QUIT" => alone(argument, Command::Quit, "QUIT"),
        "NOOP" => Ok(Command::Noop),
        "VRFY" => Ok(Command::Vrfy),
        "XFORWARD" => xforward(argument),
        _ => Err(Complaint::UnknownCommand(verb)),
    }
}

fn alone(argument: &str, command: Command, syntax: &'static str) -> Result<Command, Complaint> {
    if argument.trim().is_empty() { Ok(command) } else { Err(Complaint::Syntax(syntax)) }
}

fn mail(argument: &str) -> Result<Command, Complaint> {
    let after = after_keyword(argument, "FROM:").ok_or(Complaint::Syntax("MAIL FROM:<path> parameters"))?;
    let (sender, rest) = path::split(after).ok_or(Complaint::Sender)?;
    let mut size = None;
    let mut eight_bit = false;
    for (name, value) in parameters(rest)? {
        match name.as_str() {
            "SIZE" => size = Some(value.parse().map_err(|_| Complaint::ParameterValue(name))?),
            "BODY" if value.eq_ignore_ascii_case("8BITMIME") => eight_bit = true,
            "BODY" if value.eq_ignore_ascii_case("7BIT") => eight_bit = false,
            "BODY" => return Err(Complaint::ParameterValue(name)),
            // They shape delivery status notifications, which Postfix writes and not the hop.
            "ENVID" | "RET" => {}
            _ => return Err(Complaint::UnknownParameter(name)),
        }
    }
    Ok(Command::Mail { sender: sender.to_owned(), size, eight_bit })
}

fn rcpt(argument: &str) -> Result<Command, Complaint> {
    let after = after_keyword(argument, "TO:").ok_or(Complaint::Syntax("RCPT TO:<path> parameters"))?;
    let (address, rest) = path::split(after).filter(|(address, _)| !address.is_empty()).ok_or(Complaint::Recipient)?;
    let mut orcpt = None;
    for (name, value) in parameters(rest)? {
        match name.as_str() {
            "ORCPT" if value.contains(';') && value.len() <= LONGEST_ORCPT => orcpt = Some(value.to_owned()),
            "ORCPT" => return Err(Complaint::ParameterValue(name)),
            "NOTIFY" => {}
            _ => return Err(Complaint::UnknownParameter(name)),
        }
    }
    Ok(Command::Rcpt(MailRecipient { address: address.to_owned(), orcpt }))
}

/// Postfix's XFORWARD_README. Only the queue id matters here; the other attributes tell of a client that the milter
/// already saw.
fn xforward(argument: &str) -> Result<Command, Complaint> {
    let mut ident = None;
    for (name, value) in parameters(argument)? {
        match name.as_str() {
            "IDENT" if matches!(value, "[UNAVAILABLE]" | "[TEMPUNAVAIL]") => {}
            "IDENT" => match decode_xtext(value).filter(|id| is_queue_id(id)) {
                Some(id) => ident = Some(id),
                None => return Err(Complaint::ParameterValue(name)),
            },
            "NAME" | "ADDR" | "PROTO" | "HELO" | "SOURCE" | "PORT" => {}
            _ => return Err(Complaint::UnknownParameter(name)),
        }
    }
    Ok(Command::Xforward { ident })
}

fn is_queue_id(text: &str) -> bool {
    (1..=LONGEST_QUEUE_ID).contains(&text.len()) && text.bytes().all(|octet| octet.is_ascii_graphic())
}

/// What follows `FROM:` or `TO:`. RFC 5321 §3.3 forbids blanks before the path; clients that send them mean no harm.
fn after_keyword<'a>(argument: &'a str, keyword: &str) -> Option<&'a str> {
    let (head, tail) = argument.trim_start().split_at_checked(keyword.len())?;
    head.eq_ignore_ascii_case(keyword).then(|| tail.trim_start())
}

/// The `NAME=value` pairs of a command, names in upper case. All parameters of this server have a value.
fn parameters(text: &str) -> Result<Vec<(String, &str)>, Complaint> {
    let pairs = text.split_ascii_whitespace().map(|word| match word.split_once('=') {
        Some((name, value)) if !value.is_empty() => Ok((name.to_ascii_uppercase(), value)),
        Some((name, _)) => Err(Complaint::ParameterValue(name.to_owned())),
        None => Err(Complaint::UnknownParameter(word.to_owned())),
    });
    pairs.collect()
}

/// RFC 3461 §4: `+` and two hexadecimal digits stand for one octet.
fn decode_xtext(text: &str) -> Option<String> {
    let mut parts = text.split('+');
    let mut decoded = parts.next()?.to_owned();
    for part in parts {
        let (hex, plain) = part.split_at_checked(2)?;
        let octet = u8::from_str_radix(hex, 16).ok().filter(u8::is_ascii)?;
        decoded.push(char::from(octet));
        decoded.push_str(plain);
    }
    Some(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mail_of(sender: &str, size: Option<usize>, eight_bit: bool) -> Result<Command, Complaint> {
        Ok(Command::Mail { sender: sender.into(), size, eight_bit })
    }

    fn rcpt_of(address: &str, orcpt: Option<&str>) -> Result<Command, Complaint> {
        Ok(Command::Rcpt(MailRecipient { address: address.into(), orcpt: orcpt.map(Into::into) }))
    }

    fn code(line: &str) -> u16 {
        parse(line.as_bytes()).expect_err(line).reply().code
    }

    #[test]
    fn commands_are_read_in_any_case() {
        assert_eq!(parse(b"lhlo mail.alfa.example"), Ok(Command::Lhlo));
        assert_eq!(parse(b"Data"), Ok(Command::Data));
        assert_eq!(parse(b"QUIT "), Ok(Command::Quit));
        assert_eq!(parse(b"vrfy anna"), Ok(Command::Vrfy));
        assert_eq!(parse(b"mail from:<> body=8bitmime size=12"), mail_of("", Some(12), true));
    }

    #[test]
    fn mail_takes_the_announced_parameters_and_no_others() {
        let line = b"MAIL FROM:<anna@alfa.example> SIZE=345 BODY=7BIT RET=HDRS ENVID=4Gx+2B";
        assert_eq!(parse(line), mail_of("anna@alfa.example", Some(345), false));
        assert_eq!(code("MAIL FROM:<a@x> SMTPUTF8"), 555);
        assert_eq!(code("MAIL FROM:<a@x> AUTH=<>"), 555);
        assert_eq!(code("MAIL FROM:<a@x> SIZE=many"), 501);
        assert_eq!(code("MAIL FROM:<a@x> BODY=BINARYMIME"), 501);
        assert_eq!(code("MAIL FROM:<a@x>SIZE=1"), 501);
        assert_eq!(code("MAIL TO:<a@x>"), 501);
    }

    #[test]
    fn rcpt_keeps_orcpt_as_it_came() {
        let line = b"RCPT TO:<bruno@beta.example> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;b+2Bx@beta.example";
        assert_eq!(parse(line), rcpt_of("bruno@beta.example", Some("rfc822;b+2Bx@beta.example")));
        assert_eq!(parse(b"RCPT TO:<postmaster>"), rcpt_of("postmaster", None));
        assert_eq!(code("RCPT TO:<>"), 501);
        assert_eq!(code("RCPT TO:<b@x> ORCPT=b@x"), 501);
        assert_eq!(code(&format!("RCPT TO:<b@x> ORCPT=rfc822;{}", "b".repeat(LONGEST_ORCPT))), 501);
        assert_eq!(code("RCPT TO:<b@x> SIZE=1"), 555);
    }

    #[test]
    fn xforward_gives_the_decoded_queue_id() {
        let ident = |line: &[u8]| {
            parse(line).map(|command| matches!(command, Command::Xforward { ident: Some(id) } if id == "4Yb+Q="))
        };
        assert_eq!(ident(b"XFORWARD NAME=[UNAVAILABLE] ADDR=10.0.0.1 PORT=25 IDENT=4Yb+2BQ+3D"), Ok(true));
        assert_eq!(parse(b"XFORWARD IDENT=[UNAVAILABLE] SOURCE=LOCAL"), Ok(Command::Xforward { ident: None }));
        assert_eq!(code("XFORWARD IDENT=4Yb+2"), 501);
        assert_eq!(code("XFORWARD IDENT=4Yb+0A"), 501);
        assert_eq!(code("XFORWARD IDENT=4Yb+E8"), 501);
        assert_eq!(code("XFORWARD LOGIN=anna"), 555);
    }

    #[test]
    fn lines_that_are_not_commands_are_told_apart() {
        assert_eq!(code("EHLO mail.alfa.example"), 500);
        assert_eq!(code("LHLO"), 501);
        assert_eq!(code(""), 500);
        assert_eq!(code("BDAT 10 LAST"), 500);
        assert_eq!(code("DATA now"), 501);
        assert_eq!(code("NOOP \u{7f}"), 500);
        assert_eq!(parse(b"NOOP \xff"), Err(Complaint::NotText));
    }
}
