//! Keeping originals, where the administrator wants their receipts to be made again whole (§2.3).
//!
//! An original is durable before a mailbox is offered the envelope, so that no delivery is certified without it, and so
//! that a store which takes nothing costs the mailbox no second copy: its recipients wait in Postfix's queue, while
//! acceptance and take-charge are told. One that no mailbox takes in the end stays until its day is purged.

use tracing::error;

use super::attempt::Local;
use super::viruses::Inspection;
use super::{Attempt, Hop};
use crate::crash;
use crate::delivery_point::issued_receipt;
use crate::incoming_point::CertifiedMessage;
use crate::model::{ReceiptType, TemporalReference};
use crate::operations::causes;
use crate::operations::ports::{EventLog, Injection, Instruments, Mailboxes, Reply};

impl<L: EventLog, M: Mailboxes, I: Injection, T: Instruments> Hop<L, M, I, T> {
    /// Keeps the original of an envelope if one of these recipients would give a receipt with it; `arrived` is the same
    /// in every attempt, so that it is kept once. Says whether the mailboxes may be offered it.
    pub(super) async fn keep_original(
        &self,
        attempt: &Attempt<'_>,
        message: &CertifiedMessage,
        certified: &[Local],
        arrived: TemporalReference,
    ) -> Inspection {
        let Some(store) = self.originals.as_ref().filter(|_| is_wanted(message, certified)) else {
            return Inspection::Clean;
        };
        let id = &message.data.facts.id;
        match store.keep(&message.original, id, arrived).await {
            Ok(()) => {
                crash::point("original-kept");
                Inspection::Clean
            }
            Err(fault) => {
                let (queue_id, cause) = (attempt.queue_id(), causes(&fault));
                error!(queue_id, %id, %cause, "the original is not kept, so nothing is delivered for now, Postfix will offer it again");
                Inspection::Unknown(Reply::new(451, "4.3.0 the original could not be kept, see the log of pec-milter"))
            }
        }
    }
}

fn is_wanted(message: &CertifiedMessage, certified: &[Local]) -> bool {
    let requested = message.data.requested.unwrap_or_default();
    let mut recipients = certified.iter().filter_map(Local::address);
    recipients.any(|one| issued_receipt(requested, &one, &message.original) != ReceiptType::Concise)
}
