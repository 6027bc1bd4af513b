//! Reception (§2.2.2, §3.2): what is certified passes as it is; what is not goes on in an anomaly envelope, or, where it
//! is ordinary mail, as provider and mailboxes want it.
//!
//! What is not certified is owed no notice, so nothing of it may come back as a bounce to a sender who may be forged: the
//! mailbox server is asked first, and whom it refuses is refused in the SMTP dialogue. A message has one answer for all
//! its recipients. So one who refuses beside others who do not is taken out, with a line in the technical log, and only
//! when nobody is left is the message refused. For the same reason it has one form: where one recipient gets the
//! anomaly envelope, a copy that is forwarded is that envelope too. What somebody would get is scanned for viruses, and
//! an infected message is refused.

use bytes::Bytes;
use metrics::counter;
use tracing::warn;

use super::current::{Current, Handle, NoDirectory};
use super::ports::{Instruments, Mail, MailRecipient, Mailboxes, Reply, ScanFault};
use super::triggers::Trigger;
use super::virus_guard::VirusGuard;
use super::{NewEnvelope, Replacement};
use crate::incoming_point::{
    Arrival, CertifiedMessage, Classification, Forwarded, OrdinaryMail, Routes, Unjudged, apparent_sender, classify,
};
use crate::message::Pieces;
use crate::message::anomaly_envelope::{Anomaly, INHERITED, compose};
use crate::message::anomaly_reason::AnomalyReason;
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
    Pass { trigger: Option<Trigger>, envelope: Option<NewEnvelope>, beside: Beside, summary: String },
    /// An anomaly envelope takes its place.
    Replace { replacement: Replacement, beside: Beside },
    /// It is refused in the dialogue, with the answers of all its recipients; a 4xx among them asks to try again. The
    /// provider is the one that signed it, where it is not ordinary mail.
    Refuse { replies: Vec<Reply>, provider: Option<String> },
}

/// What becomes of a message besides, and no later event tells.
#[derive(Debug, Default)]
pub struct Beside {
    /// Recipients who get nothing of a message that others get, with the answers nobody is told.
    pub taken_out: Vec<(String, Reply)>,
    /// Whose copies go on elsewhere.
    pub forwarded: Vec<Forwarded>,
}

/// A fault of ours: the peer tries again.
#[derive(Debug, thiserror::Error)]
pub enum NotReceived {
    #[error(transparent)]
    NoDirectory(#[from] NoDirectory),
    #[error("the worker thread ended before its work was done")]
    Worker(#[from] tokio::task::JoinError),
    #[error("the anomaly envelope could not be signed")]
    Signing(#[from] SigningError),
    #[error(transparent)]
    Unjudged(#[from] Unjudged),
    #[error(transparent)]
    NotScanned(#[from] ScanFault),
}

/// What a classification leads to.
#[derive(Debug)]
enum Course {
    /// It is certified, and passes as it is.
    Pass {
        trigger: Option<Trigger>,
        summary: String,
    },
    Uncertified(Uncertified),
}

/// A message that is not certified, and where its copies would go.
#[derive(Debug)]
struct Uncertified {
    routes: Routes,
    reason: AnomalyReason,
    /// Who signed it, where it is not ordinary mail.
    provider: Option<String>,
    /// What it is, for the administrator's log.
    kind: String,
}

/// Classifies an incoming message and does what it deserves.
pub async fn receive(
    handle: &Handle,
    mailboxes: &impl Mailboxes,
    viruses: &VirusGuard,
    instruments: &impl Instruments,
    incoming: Incoming,
) -> Result<Reception, NotReceived> {
    let current = handle.now();
    current.needs_directory()?;
    let (at, chance) = (instruments.now(), instruments.chance());
    let (standards, message) = (current.clone(), incoming.clone());
    let classification = tokio::task::spawn_blocking(move || {
        let Incoming { sender, recipients, message, .. } = &message;
        let classification = classify(&Arrival { sender, recipients, message }, &standards.standards(at));
        (classification, standards.ordinary.now())
    });
    let (classification, ordinary) = classification.await?;
    let classification = classification.inspect_err(|unjudged| handle.ask_for_lists(unjudged.wanted()))?;
    let Uncertified { mut routes, reason, provider, kind } =
        match course(classification, &incoming.recipients, &ordinary) {
            Course::Pass { trigger, summary } => {
                return Ok(Reception::Pass { trigger, envelope: None, beside: Beside::default(), summary });
            }
            Course::Uncertified(uncertified) => uncertified,
        };
    let refused = match ordinary.asks_mailboxes {
        true => refused_by_mailboxes(&current, mailboxes, &incoming, &routes).await,
        false => Vec::new(),
    };
    let refusals = take_out(&mut routes, refused);
    if must_be_refused(&routes, &refusals) {
        let replies = refusals.into_iter().map(|(_, reply)| reply).collect();
        return Ok(Reception::Refuse { replies, provider });
    }
    // What is certified is scanned by the hop, after it is taken in charge (§2.2.2).
    if let Verdict::Infected(virus) = viruses.scan(&Pieces::from(incoming.message.clone())).await? {
        let replies = vec![Reply::new(550, format!("5.7.1 {}: {virus}", wire::INFECTED_MAIL))];
        return Ok(Reception::Refuse { replies, provider });
    }
    for (recipient, reply) in &refusals {
        warn!(queue_id = %incoming.queue_id, sender = %incoming.sender, %recipient, %reply, "recipient taken out of a message that others get");
    }
    let envelope = new_envelope(&routes, &incoming);
    let beside = Beside { taken_out: refusals, forwarded: routes.forwarded.clone() };
    if routes.enveloped.is_empty() {
        let summary = format!("{kind}, forwarded unmodified to {:?}", targets(&routes));
        return Ok(Reception::Pass { trigger: None, envelope, beside, summary });
    }
    let summary = format!("{kind}, put in an anomaly envelope: {reason}");
    let signing = tokio::task::spawn_blocking(move || {
        anomaly(&current, &incoming, &routes.enveloped, reason.phrase(), chance, at)
    });
    let message = signing.await??;
    let replacement = Replacement { message, inherited: &INHERITED, envelope, triggers: Vec::new(), summary };
    Ok(Reception::Replace { replacement, beside })
}

/// What a message is treated as.
fn course(classification: Classification, recipients: &[String], ordinary: &OrdinaryMail) -> Course {
    match classification {
        Classification::Envelope(message) => {
            count_sha1(&message);
            let summary = format!("correct envelope {} of {}", message.data.facts.id, message.provider);
            Course::Pass { trigger: Some(Trigger::TakeCharge), summary }
        }
        Classification::Notification(message) => {
            count_sha1(&message);
            let (kind, id) = (message.data.kind.token(), &message.data.facts.id);
            let summary = format!("correct notification {kind} about {id} of {}", message.provider);
            let trigger = (message.data.kind == Kind::VirusDetection).then_some(Trigger::VirusDetection);
            Course::Pass { trigger, summary }
        }
        Classification::NotCorrect { provider, reason } => {
            let routes = Routes { enveloped: recipients.to_vec(), ..Routes::default() };
            let kind = format!("from {provider} but not correct");
            Course::Uncertified(Uncertified { routes, reason, provider: Some(provider), kind })
        }
        Classification::Ordinary(reason) => {
            let routes = ordinary.routes(recipients);
            Course::Uncertified(Uncertified { routes, reason, provider: None, kind: "ordinary mail".to_owned() })
        }
    }
}

/// Whoever still signs so is to be known before it is refused.
fn count_sha1(message: &CertifiedMessage) {
    if message.is_sha1 {
        counter!("pec_milter_sha1_messages_total", "provider" => message.provider.clone()).increment(1);
    }
}

/// Takes those out whom the mailbox server refuses; returns the answers for all who get nothing.
fn take_out(routes: &mut Routes, refused: Vec<(String, Reply)>) -> Vec<(String, Reply)> {
    let is_refused = |address: &str| refused.iter().any(|(one, _)| one == address);
    routes.enveloped.retain(|recipient| !is_refused(recipient));
    routes.forwarded.retain(|forwarded| !is_refused(forwarded.to.as_str()));
    let only_certified = |recipient: &String| {
        (recipient.clone(), Reply::new(550, format!("5.7.1 <{recipient}> {}", wire::ONLY_CERTIFIED_MAIL)))
    };
    routes.refused.iter().map(only_certified).chain(refused).collect()
}

/// A message has one answer: it is refused where somebody may get it later, or where nobody is left to get it.
fn must_be_refused(routes: &Routes, refusals: &[(String, Reply)]) -> bool {
    let try_again = refusals.iter().any(|(_, reply)| !reply.is_permanent_failure());
    try_again || addressees(routes).is_empty()
}

/// The forward paths from here on, where they are not those that came.
fn new_envelope(routes: &Routes, incoming: &Incoming) -> Option<NewEnvelope> {
    let recipients = addressees(routes);
    (recipients != incoming.recipients).then_some(NewEnvelope { sender: None, recipients })
}

/// The forward paths from here on.
fn addressees(routes: &Routes) -> Vec<String> {
    let forwarded = targets(routes).into_iter().map(Address::to_string);
    routes.enveloped.iter().cloned().chain(forwarded).collect()
}

/// Where copies go on to, each address once.
fn targets(routes: &Routes) -> Vec<&Address> {
    let mut targets: Vec<&Address> = Vec::new();
    for Forwarded { to, .. } in &routes.forwarded {
        if !targets.contains(&to) {
            targets.push(to);
        }
    }
    targets
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
    current.sign(compose(&current.provider, &anomaly, &incoming.message, &token), at, at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routes(enveloped: &[&str], refused: &[&str], forwarded: &[&str]) -> Routes {
        let texts = |all: &[&str]| all.iter().map(|text| text.to_string()).collect();
        let forwarded = forwarded.iter().zip(1..);
        let forwarded =
            forwarded.map(|(to, n)| Forwarded { mailbox: format!("{n}@x.example"), to: to.parse().unwrap() });
        let forwarded = forwarded.collect();
        Routes { enveloped: texts(enveloped), refused: texts(refused), forwarded }
    }

    fn refused(recipient: &str, code: u16) -> Vec<(String, Reply)> {
        vec![(recipient.to_owned(), Reply::new(code, "x"))]
    }

    #[test]
    fn an_incorrect_message_of_a_provider_is_never_ordinary_mail() {
        let ordinary = OrdinaryMail { policy: crate::model::OrdinaryPolicy::Refuse, ..OrdinaryMail::default() };
        let to = ["bruno@beta.example".to_owned()];
        let course = |classification| match course(classification, &to, &ordinary) {
            Course::Uncertified(Uncertified { routes, .. }) => (routes.enveloped.len(), routes.refused.len()),
            Course::Pass { .. } => (0, 0),
        };
        let reason = AnomalyReason::NotSigned;
        assert_eq!(course(Classification::NotCorrect { provider: "Alfa".into(), reason }), (1, 0));
        assert_eq!(course(Classification::Ordinary(AnomalyReason::NotSigned)), (0, 1));
    }

    #[test]
    fn who_is_refused_beside_others_is_taken_out_and_answered() {
        let mut to =
            routes(&["a@x.example", "b@x.example"], &["c@x.example"], &["a@x.example", "d@y.example", "d@y.example"]);
        let refusals = take_out(&mut to, refused("a@x.example", 550));
        let answered: Vec<String> =
            refusals.iter().map(|(recipient, reply)| format!("{recipient} {}", reply.code)).collect();
        assert_eq!(answered, ["c@x.example 550", "a@x.example 550"]);
        assert_eq!(addressees(&to), ["b@x.example", "d@y.example"]);
        assert!(!must_be_refused(&to, &refusals));
    }

    #[test]
    fn a_message_is_refused_when_nobody_is_left_or_somebody_may_get_it_later() {
        let left = routes(&["b@x.example"], &[], &[]);
        assert!(!must_be_refused(&left, &refused("a@x.example", 550)));
        assert!(must_be_refused(&left, &refused("a@x.example", 451)));
        assert!(must_be_refused(&routes(&[], &[], &[]), &refused("a@x.example", 550)));
    }
}
