//! Submission (§2.2.1, §3.1): a user's message becomes a signed envelope in the place where it lies, or, where a formal
//! check fails or a virus is found, the signed notice that says so.
//!
//! The formal checks come first: what they refuse goes nowhere, so nobody needs to look inside. Nothing is certified
//! here: neither is durable yet. The triggers an envelope carries make the hop do that; a notice is recorded when it
//! passes the hop.

use std::sync::Arc;

use bytes::Bytes;

use super::current::{Current, NoDirectory};
use super::ports::{Infected, Instruments};
use super::triggers::Trigger;
use super::virus_guard::{VirusFault, VirusGuard};
use super::{NewEnvelope, Replacement};
use crate::access_point::{Accepted, NotAccepted, Rules, Submission, accept};
use crate::crash;
use crate::message::Pieces;
use crate::message::notification::{Notification, non_acceptance, non_acceptance_for_virus, non_acceptance_reason};
use crate::message::transport_envelope;
use crate::model::{Address, PecMsgid, RecipientType, TemporalReference};
use crate::smime::SigningError;
use crate::virus::Place;

/// A message that a user hands over.
#[derive(Debug, Clone)]
pub struct Outgoing {
    pub queue_id: String,
    /// The reverse path, which belongs to the authenticated user.
    pub sender: Address,
    /// The forward paths, each once.
    pub recipients: Vec<Address>,
    pub message: Bytes,
}

/// A fault of ours: the client tries again.
#[derive(Debug, thiserror::Error)]
pub enum NotSubmitted {
    #[error(transparent)]
    NoDirectory(#[from] NoDirectory),
    #[error("the worker thread ended before its work was done")]
    Worker(#[from] tokio::task::JoinError),
    #[error("the message could not be signed")]
    Signing(#[from] SigningError),
    #[error(transparent)]
    Virus(#[from] VirusFault),
}

/// What is made of a submission, still to be signed.
enum Decision {
    Envelope(Box<Accepted>),
    Notice { notification: Box<Notification>, summary: String },
}

/// Checks, scans, wraps and signs a submission, or signs the notice of its non-acceptance.
pub async fn submit(
    current: Arc<Current>,
    viruses: &VirusGuard,
    instruments: &impl Instruments,
    outgoing: Outgoing,
) -> Result<Replacement, NotSubmitted> {
    current.needs_directory()?;
    let at = instruments.now();
    let new_id = || PecMsgid::new(at.unix(), instruments.chance(), &current.provider.sending_address.domain());
    let (id, notice) = (new_id(), new_id());
    let (checking, submission) = (current.clone(), outgoing.clone());
    let checked = tokio::task::spawn_blocking(move || check(&checking, &submission, id, at)).await?;
    let decision = match checked {
        Err(refused) => refusal(&current, *refused, notice, at),
        Ok(accepted) => unless_infected(&current, viruses, &outgoing, accepted, notice, at).await?,
    };
    Ok(tokio::task::spawn_blocking(move || sign(&current, decision, at)).await??)
}

fn check(
    current: &Current,
    outgoing: &Outgoing,
    id: PecMsgid,
    at: TemporalReference,
) -> Result<Accepted, Box<NotAccepted>> {
    let Outgoing { sender, recipients, message, .. } = outgoing;
    let receipts = current.receipts.now();
    let rules = Rules { provider: &current.provider, limits: &current.limits, receipts: &receipts };
    let is_certified = |domain: &_| current.directory.is_certified(domain);
    accept(&Submission { sender, recipients, message }, rules, is_certified, id, at)
}

fn refusal(current: &Current, refused: NotAccepted, notice: PecMsgid, at: TemporalReference) -> Decision {
    let NotAccepted { facts, defects } = refused;
    let summary = format!("not accepted, {}: {defects:?}", facts.id);
    let reason = non_acceptance_reason(&defects);
    let notification = non_acceptance(facts, &reason, &current.provider.name, at, notice.bracketed());
    Decision::Notice { notification: Box::new(notification), summary }
}

/// §3.1.3: an infected submission lies in the store before its notice exists.
async fn unless_infected(
    current: &Current,
    viruses: &VirusGuard,
    outgoing: &Outgoing,
    accepted: Accepted,
    notice: PecMsgid,
    at: TemporalReference,
) -> Result<Decision, VirusFault> {
    let facts = &accepted.data.facts;
    let about = |virus| Infected {
        at,
        place: Place::AccessPoint,
        id: facts.id.clone(),
        queue_id: outgoing.queue_id.clone(),
        sender: facts.sender.to_string(),
        recipients: facts.recipients.iter().map(|recipient| recipient.address.to_string()).collect(),
        virus,
    };
    let Some(found) = viruses.inspect(&Pieces::from(outgoing.message.clone()), about).await? else {
        return Ok(Decision::Envelope(Box::new(accepted)));
    };
    crash::point("infected-stored");
    let summary = format!("not accepted, {}: infected with {}, stored as {}", facts.id, found.virus, found.name);
    let (name, issuer) = (found.virus.as_str(), current.provider.name.as_str());
    let notification = non_acceptance_for_virus(accepted.data.facts, name, issuer, at, notice.bracketed());
    Ok(Decision::Notice { notification: Box::new(notification), summary })
}

fn sign(current: &Current, decision: Decision, at: TemporalReference) -> Result<Replacement, SigningError> {
    match decision {
        Decision::Envelope(accepted) => envelope(current, *accepted, at),
        // The notice goes to the sender alone, and the original nowhere (§3.1.2).
        Decision::Notice { notification, summary } => {
            let recipients = vec![notification.to.to_string()];
            Ok(Replacement {
                message: current.sign(notification.compose(&current.provider), at, at)?,
                // Not even `Received`: Postfix's own, the trace of this queue file (RFC 5321 §4.4), stays by itself.
                inherited: &[],
                envelope: Some(NewEnvelope { sender: Some(current.provider.sending_address.clone()), recipients }),
                triggers: Vec::new(),
                summary,
            })
        }
    }
}

fn envelope(current: &Current, accepted: Accepted, at: TemporalReference) -> Result<Replacement, SigningError> {
    let facts = &accepted.data.facts;
    // Sender and recipient of the same provider get the same messages as any others (§3.4).
    let has_own_recipient = facts
        .recipients
        .iter()
        .any(|recipient| recipient.kind == RecipientType::Certified && current.manages(&recipient.address));
    let mut triggers = vec![Trigger::Acceptance];
    if has_own_recipient {
        triggers.push(Trigger::TakeCharge);
    }
    Ok(Replacement {
        summary: format!("accepted as {} for {} recipients", facts.id, facts.recipients.len()),
        message: current.sign(accepted.envelope, at, at)?,
        inherited: &transport_envelope::INHERITED,
        envelope: None,
        triggers,
    })
}
