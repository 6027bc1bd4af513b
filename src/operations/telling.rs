//! How a notification gets to its addressee: signed, then into a local mailbox at once, or through Postfix.

use std::sync::Arc;

use super::current::Current;
use super::ports::{Injection, Mail, MailRecipient, Mailboxes, Reply};
use crate::message::body::Signed;
use crate::message::notification::Notification;
use crate::model::{Address, Msgid, PecMsgid, TemporalReference};
use crate::smime::SigningError;

/// Why a notification could not even be offered to a server.
#[derive(Debug, thiserror::Error)]
pub enum TellingError {
    #[error("a notification could not be signed")]
    Signing(#[from] SigningError),
    #[error("a worker thread ended before its work was done")]
    Worker(#[from] tokio::task::JoinError),
}

/// Signs a notification, away from the async threads, and sends it; returns the server's answer. Its own instant is that of
/// the event; `now` is when it is signed.
pub async fn tell(
    current: &Arc<Current>,
    mailboxes: &impl Mailboxes,
    injection: &impl Injection,
    notification: Notification,
    now: TemporalReference,
) -> Result<Reply, TellingError> {
    let (to, at) = (notification.to.clone(), notification.data.at);
    let signing = current.clone();
    let signed = tokio::task::spawn_blocking(move || {
        let unsigned = notification.compose(&signing.provider);
        signing.sign(unsigned, at, now)
    });
    let signed = signed.await??;
    Ok(send(current, mailboxes, injection, &to, signed).await)
}

/// A Message-ID that no message had.
pub fn new_id(current: &Current, chance: u128, at: TemporalReference) -> Msgid {
    PecMsgid::new(at.unix(), chance, &current.provider.sending_address.domain()).bracketed()
}

/// Sends what is signed; returns the server's answer. A local mailbox gets its notification at once; refused there, or elsewhere, it goes through Postfix.
pub async fn send(
    current: &Current,
    mailboxes: &impl Mailboxes,
    injection: &impl Injection,
    to: &Address,
    signed: Signed,
) -> Reply {
    let mail = Mail {
        sender: current.provider.sending_address.to_string(),
        recipients: vec![MailRecipient { address: to.to_string(), orcpt: None }],
        eight_bit: signed.eight_bit,
        message: signed.into_pieces(),
    };
    if current.manages(to) {
        let replies = mailboxes.deliver(&mail).await;
        if let Some(reply) = replies.into_iter().next().filter(Reply::is_positive) {
            return reply;
        }
    }
    injection.inject(&mail).await
}
