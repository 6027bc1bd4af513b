//! The hop behind its LMTP server: a transaction becomes a queue file.
//!
//! Postfix names the queue file by XFORWARD only for mail that came through smtpd. For its own bounces and for sendmail(1)
//! the topmost `Received`, which Postfix itself wrote, tells it.

use super::lmtp::{Handler, Transaction};
use crate::message::header::Header;
use crate::operations::deliver::Hop;
use crate::operations::ports::{EventLog, Injection, Instruments, Mailboxes, QueueFile, Reply};

/// The hop as the LMTP server's handler.
pub struct HopServer<L, M, I, T>(pub Hop<L, M, I, T>);

impl<L: EventLog, M: Mailboxes, I: Injection, T: Instruments> Handler for HopServer<L, M, I, T> {
    async fn handle(&self, transaction: Transaction) -> Vec<Reply> {
        let Transaction { queue_id, sender, recipients, eight_bit, message } = transaction;
        let Some(queue_id) = queue_id.or_else(|| id_of_received(&message)) else {
            tracing::error!(%sender, "a transaction without a queue id: set lmtp_send_xforward_command = yes in main.cf");
            let text = "4.3.5 no queue id: lmtp_send_xforward_command = yes is missing in Postfix";
            return vec![Reply::new(451, text); recipients.len()];
        };
        self.0.deliver(QueueFile { queue_id, sender, recipients, eight_bit, message }).await
    }
}

/// The queue id in `Received: by HOST (Postfix) id QUEUE-ID`, written for mail that did not come from another host.
fn id_of_received(message: &[u8]) -> Option<String> {
    let received =
        Header::read(message).fields().next().filter(|field| field.name().eq_ignore_ascii_case(b"Received"))?;
    let text = received.text().split_whitespace().collect::<Vec<_>>().join(" ");
    let came_from_nobody = text.starts_with("by ") && text.contains("(Postfix");
    let (_, rest) = text.split_once(" id ").filter(|_| came_from_nobody)?;
    let id: String = rest.chars().take_while(char::is_ascii_alphanumeric).collect();
    (!id.is_empty()).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_queue_id_of_mail_from_this_machine_stands_in_its_first_field() {
        let id = |text: &str| id_of_received(format!("{text}\r\nSubject: s\r\n\r\n").as_bytes());
        assert_eq!(
            id("Received: by mx.alfa.example (Postfix)\r\n\tid 4jX7K510Rdz1X2b2; Sat").as_deref(),
            Some("4jX7K510Rdz1X2b2")
        );
        assert_eq!(id("Received: by mx (Postfix, from userid 0)\r\n\tid ABC; Sat").as_deref(), Some("ABC"));
        assert_eq!(id("Received: from evil by mx (Postfix) with ESMTP id ABC; Sat"), None);
        assert_eq!(id("X: y\r\nReceived: by mx (Postfix) id ABC"), None);
    }
}
