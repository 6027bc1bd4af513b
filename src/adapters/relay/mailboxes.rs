//! Delivery into mailboxes: LMTP to Dovecot (RFC 2033), one outcome per recipient.
//!
//! Envelope and `DATA` go out in one batch, so that a delivery takes two round trips. A recipient's outcome is the
//! first of these that refuses it: `MAIL`, its `RCPT`, `DATA`; else its own reply after the message. Who has no outcome
//! when a fault comes gets a 4xx reply. After the final dot the message may have been stored nevertheless; a second
//! copy on the next try is better than none.

use super::dialogue::{Fault, outcome};
use super::pool::Pool;
use super::{Endpoint, dots, envelope};
use crate::operations::ports::{Mail, Mailboxes, Reply};

/// Dovecot's LMTP service.
pub struct DovecotLmtp {
    pool: Pool,
}

impl DovecotLmtp {
    /// Introduces itself as this host. Must be called inside the runtime.
    pub fn new(endpoint: Endpoint, hostname: &str) -> Self {
        DovecotLmtp { pool: Pool::new(endpoint, format!("LHLO {hostname}")) }
    }

    /// Fills in the outcomes as they come; those that a fault leaves open are the caller's.
    async fn transaction(&self, mail: &Mail, outcomes: &mut Outcomes) -> Result<(), Fault> {
        let opening = self.pool.open(|extensions| {
            let mut commands = envelope::commands(mail, extensions);
            commands.push("DATA".to_owned());
            commands
        });
        let (mut lease, mut opening) = opening.await?;
        outcomes.refuse(&opening.replies);
        if let Some(fault) = opening.fault {
            return Err(fault);
        }
        let data = opening.replies.pop().ok_or_else(Fault::lost)?;
        if data.code == 354 && outcomes.open() > 0 {
            let answers = lease.dialogue.message(dots::framed(&mail.message), outcomes.open()).await;
            outcomes.settle(answers.replies);
            if let Some(fault) = answers.fault {
                return Err(fault);
            }
            lease.keep();
        } else if data.code >= 400 {
            outcomes.settle(std::iter::repeat(data));
            lease.abandon_transaction().await;
        } else {
            // Also a go-ahead for nobody, which RFC 2033 §4.2 forbids: the connection ends before the message begins.
            return Err(Fault::OutOfPlace(data));
        }
        Ok(())
    }

    /// Fills in the replies to `MAIL` and `RCPT`, and takes the transaction back.
    async fn question(&self, mail: &Mail, outcomes: &mut Outcomes) -> Result<(), Fault> {
        let (lease, opening) = self.pool.open(|extensions| envelope::commands(mail, extensions)).await?;
        outcomes.refuse(&opening.replies);
        if let Some(fault) = opening.fault {
            return Err(fault);
        }
        outcomes.settle(opening.replies.into_iter().skip(1).filter(Reply::is_positive));
        lease.abandon_transaction().await;
        Ok(())
    }
}

impl Mailboxes for DovecotLmtp {
    async fn deliver(&self, mail: &Mail) -> Vec<Reply> {
        let mut outcomes = Outcomes(vec![None; mail.recipients.len()]);
        if let Some(refusal) = envelope::unwritable(mail) {
            outcomes.settle(std::iter::repeat(refusal));
        } else if let Err(fault) = self.transaction(mail, &mut outcomes).await {
            outcomes.settle(std::iter::repeat(self.pool.report(&fault)));
        }
        outcomes.0.into_iter().flatten().collect()
    }

    async fn would_take(&self, mail: &Mail) -> Vec<Reply> {
        let mut outcomes = Outcomes(vec![None; mail.recipients.len()]);
        if let Some(refusal) = envelope::unwritable(mail) {
            outcomes.settle(std::iter::repeat(refusal));
        } else if let Err(fault) = self.question(mail, &mut outcomes).await {
            outcomes.settle(std::iter::repeat(self.pool.report(&fault)));
        }
        outcomes.0.into_iter().flatten().collect()
    }
}

/// What is known so far for each recipient.
struct Outcomes(Vec<Option<Reply>>);

impl Outcomes {
    /// Takes the refusals out of the replies to `MAIL` and to each `RCPT`; there may be fewer replies than recipients.
    fn refuse(&mut self, replies: &[Reply]) {
        let Some((mail, rcpts)) = replies.split_first() else { return };
        if !mail.is_positive() {
            return self.settle(std::iter::repeat(mail.clone()));
        }
        for (recipient, reply) in self.0.iter_mut().zip(rcpts) {
            if !reply.is_positive() {
                *recipient = Some(outcome(reply.clone()));
            }
        }
    }

    /// Hands replies to the recipients without outcome, in order.
    fn settle(&mut self, replies: impl IntoIterator<Item = Reply>) {
        let open = self.0.iter_mut().filter(|recipient| recipient.is_none());
        for (recipient, reply) in open.zip(replies) {
            *recipient = Some(outcome(reply));
        }
    }

    fn open(&self) -> usize {
        self.0.iter().filter(|recipient| recipient.is_none()).count()
    }
}

#[cfg(test)]
mod tests;
