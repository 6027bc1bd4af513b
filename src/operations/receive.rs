//! Reception (§2.2.2, §3.2): what comes from elsewhere passes as it is, or in an anomaly envelope.

use super::Replacement;
use super::current::Current;
use super::triggers::Trigger;
use crate::incoming_point::{Arrival, Classification, apparent_sender, classify};
use crate::message::anomaly_envelope::{Anomaly, INHERITED, compose};
use crate::message::anomaly_reason::AnomalyReason;
use crate::model::{PecMsgid, TemporalReference};
use crate::smime::SigningError;

/// What is done with an incoming message.
#[derive(Debug)]
pub enum Reception {
    /// It passes unmodified.
    Pass { trigger: Option<Trigger>, summary: String },
    /// An anomaly envelope takes its place.
    Replace(Replacement),
}

/// Classifies an incoming message and decides on it. An error is a fault of ours: the peer tries again.
pub fn receive(
    current: &Current,
    arrival: &Arrival,
    chance: u128,
    at: TemporalReference,
) -> Result<Reception, SigningError> {
    let (reason, kind) = match classify(arrival, &current.standards(at)) {
        Classification::Envelope(message) => {
            let summary = format!("correct envelope {} of {}", message.data.facts.id, message.provider);
            return Ok(Reception::Pass { trigger: Some(Trigger::TakeCharge), summary });
        }
        Classification::Notification(message) => {
            let (kind, id) = (message.data.kind.token(), &message.data.facts.id);
            let summary = format!("correct notification {kind} about {id} of {}", message.provider);
            return Ok(Reception::Pass { trigger: None, summary });
        }
        Classification::NotCorrect { provider, reason } => (reason, format!("from {provider} but not correct")),
        Classification::Ordinary(reason) => (reason, "ordinary mail".to_owned()),
    };
    anomaly(current, arrival, &reason, &kind, chance, at).map(Reception::Replace)
}

fn anomaly(
    current: &Current,
    arrival: &Arrival,
    reason: &AnomalyReason,
    kind: &str,
    chance: u128,
    at: TemporalReference,
) -> Result<Replacement, SigningError> {
    let sender = apparent_sender(arrival.sender, arrival.message);
    let anomaly = Anomaly { sender: sender.as_ref(), recipients: arrival.recipients, at, reason: reason.phrase() };
    let token = PecMsgid::new(at.unix(), chance, &current.provider.sending_address.domain()).bracketed();
    let envelope = compose(&current.provider, &anomaly, arrival.message, &token);
    let summary = format!("{kind}, put in an anomaly envelope: {reason}");
    Ok(Replacement { message: current.sign(envelope, at)?, inherited: &INHERITED, triggers: Vec::new(), summary })
}
