//! The hop behind its LMTP server: a transaction becomes a queue file.

use super::lmtp::{Handler, Transaction};
use crate::operations::deliver::Hop;
use crate::operations::ports::{EventLog, Injection, Instruments, Mailboxes, QueueFile, Reply};

/// The hop as the LMTP server's handler.
pub struct HopServer<L, M, I, T>(pub Hop<L, M, I, T>);

impl<L: EventLog, M: Mailboxes, I: Injection, T: Instruments> Handler for HopServer<L, M, I, T> {
    async fn handle(&self, transaction: Transaction) -> Vec<Reply> {
        let Transaction { queue_id, sender, recipients, eight_bit, message } = transaction;
        let Some(queue_id) = queue_id else {
            tracing::error!(%sender, "a transaction without XFORWARD IDENT: set lmtp_send_xforward_command = yes in main.cf");
            let text = "4.3.5 no queue id: lmtp_send_xforward_command = yes is missing in Postfix";
            return vec![Reply::new(451, text); recipients.len()];
        };
        self.0.deliver(QueueFile { queue_id, sender, recipients, eight_bit, message }).await
    }
}
