//! The commands that open a transaction: `MAIL` and `RCPT` with the parameters the server announced.
//!
//! Mail whose envelope or message could be taken for something else on the wire is refused before anything is sent:
//! that is no fault of the server, and no later try would help. An 8-bit message goes out as it is even to a server
//! that does not announce `8BITMIME`: re-encoding it would break its signature, and our own servers are 8-bit clean.

use super::dialogue::Extensions;
use super::dots;
use crate::adapters::path;
use crate::operations::ports::{Mail, MailRecipient, Reply};

/// Why this mail cannot be written at all, if so.
pub(super) fn unwritable(mail: &Mail) -> Option<Reply> {
    let orcpt_is_harmless = |orcpt: &str| orcpt.bytes().all(|octet| octet.is_ascii_graphic());
    let is_harmless = |to: &MailRecipient| {
        !to.address.is_empty() && path::is_harmless(&to.address) && to.orcpt.as_deref().is_none_or(orcpt_is_harmless)
    };
    if !path::is_harmless(&mail.sender) {
        Some(Reply::new(553, format!("5.1.7 {:?} cannot be written as a sender", mail.sender)))
    } else if let Some(to) = mail.recipients.iter().find(|to| !is_harmless(to)) {
        Some(Reply::new(553, format!("5.1.3 {:?} cannot be written as a recipient", to.address)))
    } else if dots::has_bare_line_feed(&mail.message) {
        Some(Reply::new(554, "5.6.0 the message holds a line feed without carriage return"))
    } else {
        None
    }
}

/// `MAIL`, then one `RCPT` per recipient.
pub(super) fn commands(mail: &Mail, extensions: Extensions) -> Vec<String> {
    let mut commands = Vec::with_capacity(mail.recipients.len() + 2);
    commands.push(mail_command(mail, extensions));
    commands.extend(mail.recipients.iter().map(|recipient| rcpt_command(recipient, extensions)));
    commands
}

fn mail_command(mail: &Mail, extensions: Extensions) -> String {
    let size = if extensions.size { format!(" SIZE={}", mail.message.len()) } else { String::new() };
    let body = if extensions.eight_bit && mail.eight_bit { " BODY=8BITMIME" } else { "" };
    format!("MAIL FROM:<{}>{size}{body}", mail.sender)
}

fn rcpt_command(recipient: &MailRecipient, extensions: Extensions) -> String {
    match &recipient.orcpt {
        Some(orcpt) if extensions.dsn => format!("RCPT TO:<{}> ORCPT={orcpt}", recipient.address),
        _ => format!("RCPT TO:<{}>", recipient.address),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mail() -> Mail {
        let to = |address: &str, orcpt: Option<&str>| MailRecipient {
            address: address.into(),
            orcpt: orcpt.map(Into::into),
        };
        Mail {
            sender: "anna@alfa.example".into(),
            recipients: vec![
                to("bruno@beta.example", Some("rfc822;info@beta.example")),
                to("carla@beta.example", None),
            ],
            eight_bit: true,
            message: "perché\r\n".into(),
        }
    }

    #[test]
    fn only_announced_parameters_are_used() {
        assert_eq!(
            commands(&mail(), Extensions::default()),
            ["MAIL FROM:<anna@alfa.example>", "RCPT TO:<bruno@beta.example>", "RCPT TO:<carla@beta.example>"]
        );
        let all = Extensions { pipelining: true, eight_bit: true, dsn: true, size: true };
        assert_eq!(
            commands(&mail(), all),
            [
                "MAIL FROM:<anna@alfa.example> SIZE=9 BODY=8BITMIME",
                "RCPT TO:<bruno@beta.example> ORCPT=rfc822;info@beta.example",
                "RCPT TO:<carla@beta.example>"
            ]
        );
    }

    #[test]
    fn mail_that_would_be_read_differently_is_not_written() {
        assert_eq!(unwritable(&mail()), None);
        assert_eq!(unwritable(&Mail { sender: String::new(), ..mail() }), None);
        let mut cases = vec![mail(), mail(), mail(), mail(), mail()];
        cases[0].sender = "anna@alfa.example>\r\nRSET".into();
        cases[1].recipients[1].address = "carla@beta.example> ORCPT=rfc822;x@y".into();
        cases[2].recipients[1].address = String::new();
        cases[3].recipients[0].orcpt = Some("rfc822;x@y\r\nDATA".into());
        cases[4].message = "a\n.\nMAIL FROM:<eve@x>\r\n".into();
        for case in cases {
            assert!(unwritable(&case).is_some_and(|reply| reply.is_permanent_failure()), "{case:?}");
        }
    }
}
