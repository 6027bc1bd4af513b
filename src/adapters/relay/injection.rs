//! Injection into Postfix: SMTP to its loopback port behind the milters, one outcome for the whole message.
//!
//! Postfix takes the message for all recipients or, from us, for none: when it refuses one, its reply is the outcome
//! and the transaction is taken back. A notification has one recipient, so nobody waits for another's trouble. A fault
//! is a 4xx reply; after the final dot the message may be queued nevertheless, and the next try makes a second copy with
//! the same Message-ID.

use super::dialogue::{Answers, Fault, outcome};
use super::pool::Pool;
use super::{Endpoint, dots, envelope};
use crate::operations::ports::{Injection, Mail, Reply};

/// Postfix's smtpd(8) on a port of its own.
pub struct PostfixInjection {
    pool: Pool,
}

impl PostfixInjection {
    /// Introduces itself as this host. Must be called inside the runtime.
    pub fn new(endpoint: Endpoint, hostname: &str) -> Self {
        PostfixInjection { pool: Pool::new(endpoint, format!("EHLO {hostname}")) }
    }

    async fn transaction(&self, mail: &Mail) -> Result<Reply, Fault> {
        let (mut lease, opening) = self.pool.open(|extensions| envelope::commands(mail, extensions)).await?;
        // DATA is not part of the batch: whether the message may go out depends on every reply.
        let refusal = opening.replies.iter().find(|reply| !reply.is_positive()).cloned();
        if let Some(refusal) = refusal {
            if opening.fault.is_none() {
                lease.abandon_transaction().await;
            }
            return Ok(outcome(refusal));
        }
        single(opening)?;
        let data = single(lease.dialogue.commands(&["DATA".to_owned()]).await)?;
        match data.code {
            354 => {}
            400.. => {
                lease.abandon_transaction().await;
                return Ok(data);
            }
            _ => return Err(Fault::OutOfPlace(data)),
        }
        let reply = single(lease.dialogue.message(dots::framed(&mail.message), 1).await)?;
        lease.keep();
        Ok(outcome(reply))
    }
}

impl Injection for PostfixInjection {
    async fn inject(&self, mail: &Mail) -> Reply {
        if let Some(refusal) = envelope::unwritable(mail) {
            return refusal;
        }
        match self.transaction(mail).await {
            Ok(reply) => reply,
            Err(fault) => self.pool.report(&fault),
        }
    }
}

/// The last reply of a batch that went through.
fn single(answers: Answers) -> Result<Reply, Fault> {
    match answers.fault {
        Some(fault) => Err(fault),
        None => answers.replies.into_iter().next_back().ok_or_else(Fault::lost),
    }
}

#[cfg(test)]
mod tests;
