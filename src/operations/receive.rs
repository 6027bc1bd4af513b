//! Reception (§2.2.2, §3.2): what is certified passes as it is; what is not goes on in an anomaly envelope, or, where it
//! is ordinary mail, as provider and mailboxes want it.
//!
//! What is not certified is owed no notice, so nothing of it may come back as a bounce to a sender who may be forged: the
//! mailbox server is asked first, and whom it refuses is refused in the SMTP dialogue. A message has one answer for all
//! its recipients. So one who refuses beside others who do not is taken out, with a line in the technical log, and only
//! when nobody is left is the message refused. For the same reason it has one form: where one recipient gets the
//! anomaly envelope, a copy that is forwarded is that envelope too. What somebody would get is scanned for viruses, and
//! an infected message is refused.

use std::sync::Arc;

use bytes::Bytes;
use tracing::warn;

use super::current::Current;
use super::ports::{Instruments, Mail, MailRecipient, Mailboxes, Reply, ScanFault};
use super::triggers::Trigger;
use super::virus_guard::VirusGuard;
use super::{NewEnvelope, Replacement};
use crate::incoming_point::{Arrival, Classification, Routes, apparent_sender, classify};
use crate::message::Pieces;
use crate::message::anomaly_envelope::{Anomaly, INHERITED, compose};
use crate::message::wire::{self, Kind};
use crate::model::{Address, PecMsgid, TemporalReference};
use crate::smime::SigningError;
use crate::virus::Verdict;

/// A message that another host hands over.
#[derive(Debug, Clone)]
pub struct Incoming {
    pub queue_id: String,
    /// The reverse path without angle brackets; empty for the empty one.
    pub sender: String,
    /// The forward paths without angle brackets, as the client wrote them.
    pub recipients: Vec<String>,
    pub message: Bytes,
}

/// What is done with an incoming message.
#[derive(Debug)]
pub enum Reception {
    /// It passes unmodified, to other recipients where there is a new envelope.
    Pass { trigger: Option<Trigger>, envelope: Option<NewEnvelope>, summary: String },
    /// An anomaly envelope takes its place.
    Replace(Replacement),
    /// It is refused in the dialogue, with the answers of all its recipients; a 4xx among them asks to try again.
    Refuse(Vec<Reply>),
}

/// A fault of ours: the peer tries again.
#[derive(Debug, thiserror::Error)]
pub enum NotReceived {
    #[error("the worker thread ended before its work was done")]
    Worker(#[from] tokio::task::JoinError),
    #[error("the anomaly envelope could not be signed")]
    Signing(#[from] SigningError),
    #[error(transparent)]
    NotScanned(#[from] ScanFault),
}

/// Classifies an incoming message and decides on it.
pub async fn receive(
    current: Arc<Current>,
    mailboxes: &impl Mailboxes,
    viruses: &VirusGuard,
    instruments: &impl Instruments,
    incoming: Incoming,
) -> Result<Reception, NotReceived> {
    let (at, chance) = (instruments.now(), instruments.chance());
    let (standards, message) = (current.clone(), incoming.clone());
    let classification = tokio::task::spawn_blocking(move || {
        let Incoming { sender, recipients, message, .. } = &message;
        classify(&Arrival { sender, recipients, message }, &standards.standards(at))
    });
    let (mut routes, reason, kind) = match classification.await? {
        Classification::Envelope(message) => {
            let summary = format!("correct envelope {} of {}", message.data.facts.id, message.provider);
            return Ok(Reception::Pass { trigger: Some(Trigger::TakeCharge), envelope: None, summary });
        }
        Classification::Notification(message) => {
            let (kind, id) = (message.data.kind.token(), &message.data.facts.id);
            let summary = format!("correct notification {kind} about {id} of {}", message.provider);
            let trigger = (message.data.kind == Kind::VirusDetection).then_some(Trigger::VirusDetection);
            return Ok(Reception::Pass { trigger, envelope: None, summary });
        }
        Classification::NotCorrect { provider, reason } => {
            let routes = Routes { enveloped: incoming.recipients.clone(), ..Routes::default() };
            (routes, reason, format!("from {provider} but not correct"))
        }
        Classification::Ordinary(reason) => {
            (current.ordinary.routes(&incoming.recipients), reason, "ordinary mail".to_owned())
        }
    };
    let only_certified = |recipient: &String| {
        (recipient.clone(), Reply::new(550, format!("5.7.1 <{recipient}> {}", wire::ONLY_CERTIFIED_MAIL)))
    };
    let mut refusals: Vec<(String, Reply)> = routes.refused.iter().map(only_certified).collect();
    if current.ordinary.asks_mailboxes {
        let refused = refused_by_mailboxes(&current, mailboxes, &incoming, &routes).await;
        let is_refused = |address: &str| refused.iter().any(|(one, _)| one == address);
        routes.enveloped.retain(|recipient| !is_refused(recipient));
        routes.forwarded.retain(|recipient| !is_refused(recipient.as_str()));
        refusals.extend(refused);
    }
    let try_again = refusals.iter().any(|(_, reply)| !reply.is_permanent_failure());
    let next = addressees(&routes);
    if try_again || next.is_empty() {
        return Ok(Reception::Refuse(refusals.into_iter().map(|(_, reply)| reply).collect()));
    }
    // What is certified is scanned by the hop, after it is taken in charge (§2.2.2).
    if let Verdict::Infected(virus) = viruses.scan(&Pieces::from(incoming.message.clone())).await? {
        return Ok(Reception::Refuse(vec![Reply::new(550, format!("5.7.1 {}: {virus}", wire::INFECTED_MAIL))]));
    }
    for (recipient, reply) in &refusals {
        warn!(queue_id = %incoming.queue_id, sender = %incoming.sender, %recipient, %reply, "recipient taken out of a message that others get");
    }
    let envelope = (next != incoming.recipients).then_some(NewEnvelope { sender: None, recipients: next });
    if routes.enveloped.is_empty() {
        let summary = format!("{kind}, forwarded unmodified to {:?}", routes.forwarded);
        return Ok(Reception::Pass { trigger: None, envelope, summary });
    }
    let summary = format!("{kind}, put in an anomaly envelope: {reason}");
    let signing = tokio::task::spawn_blocking(move || {
        anomaly(&current, &incoming, &routes.enveloped, reason.phrase(), chance, at)
    });
    let message = signing.await??;
    Ok(Reception::Replace(Replacement { message, inherited: &INHERITED, envelope, triggers: Vec::new(), summary }))
}

/// The forward paths from here on.
fn addressees(routes: &Routes) -> Vec<String> {
    let forwarded = routes.forwarded.iter().map(Address::to_string);
    routes.enveloped.iter().cloned().chain(forwarded).collect()
}

/// Whom the mailbox server would not take the message for, with its answers. Only mailboxes of ours are asked about.
async fn refused_by_mailboxes(
    current: &Current,
    mailboxes: &impl Mailboxes,
    incoming: &Incoming,
    routes: &Routes,
) -> Vec<(String, Reply)> {
    let is_ours = |text: &String| text.parse().is_ok_and(|address| current.manages(&address));
    let asked: Vec<String> = addressees(routes).into_iter().filter(is_ours).collect();
    if asked.is_empty() {
        return Vec::new();
    }
    let question = Mail {
        sender: incoming.sender.clone(),
        recipients: asked.iter().map(|address| MailRecipient { address: address.clone(), orcpt: None }).collect(),
        eight_bit: !incoming.message.is_ascii(),
        message: Pieces::from(incoming.message.clone()),
    };
    let replies = mailboxes.would_take(&question).await;
    asked.into_iter().zip(replies).filter(|(_, reply)| !reply.is_positive()).collect()
}

fn anomaly(
    current: &Current,
    incoming: &Incoming,
    recipients: &[String],
    reason: &str,
    chance: u128,
    at: TemporalReference,
) -> Result<crate::message::body::Signed, SigningError> {
    let sender = apparent_sender(&incoming.sender, &incoming.message);
    let anomaly = Anomaly { sender: sender.as_ref(), recipients, at, reason };
    let token = PecMsgid::new(at.unix(), chance, &current.provider.sending_address.domain()).bracketed();
    current.sign(compose(&current.provider, &anomaly, &incoming.message, &token), at)
}
