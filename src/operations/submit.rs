//! Submission (§2.2.1, §3.1): a user's message becomes a signed envelope in the place where it lies, or, where a formal
//! check fails, the signed notice that says so.
//!
//! Nothing is certified here: neither is durable yet. The triggers an envelope carries make the hop do that; a notice is
//! recorded when it passes the hop.

use super::current::Current;
use super::triggers::Trigger;
use super::{NewEnvelope, Replacement};
use crate::access_point::{Accepted, NotAccepted, Rules, Submission, accept};
use crate::message::notification::non_acceptance;
use crate::message::transport_envelope;
use crate::model::{PecMsgid, RecipientType, TemporalReference};
use crate::smime::SigningError;

/// A notice inherits nothing; `Received` is the trace of the queue file, not of the message (RFC 5321 §4.4).
const INHERITED_BY_NOTICE: [&str; 1] = ["Received"];

/// Checks, wraps and signs a submission, or signs the notice of its non-acceptance. `chance` gives a new number each
/// time. An error is a fault of ours: the client tries again.
pub fn submit(
    current: &Current,
    submission: &Submission,
    chance: impl Fn() -> u128,
    at: TemporalReference,
) -> Result<Replacement, SigningError> {
    let new_id = || PecMsgid::new(at.unix(), chance(), &current.provider.sending_address.domain());
    let rules = Rules { provider: &current.provider, limits: &current.limits, receipts: &current.receipts };
    let is_certified = |domain: &_| current.directory.is_certified(domain);
    match accept(submission, rules, is_certified, new_id(), at) {
        Ok(accepted) => envelope(current, accepted, at),
        Err(refused) => notice(current, *refused, new_id(), at),
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
        message: current.sign(accepted.envelope, at)?,
        inherited: &transport_envelope::INHERITED,
        envelope: None,
        triggers,
    })
}

/// The notice goes to the sender alone, and the original nowhere (§3.1.2).
fn notice(
    current: &Current,
    refused: NotAccepted,
    id: PecMsgid,
    at: TemporalReference,
) -> Result<Replacement, SigningError> {
    let NotAccepted { facts, defects } = refused;
    let summary = format!("not accepted, {}: {defects:?}", facts.id);
    let envelope = NewEnvelope {
        sender: Some(current.provider.sending_address.clone()),
        recipients: vec![facts.sender.to_string()],
    };
    let notice = non_acceptance(facts, &defects, &current.provider.name, at, id.bracketed());
    Ok(Replacement {
        message: current.sign(notice.compose(&current.provider), at)?,
        inherited: &INHERITED_BY_NOTICE,
        envelope: Some(envelope),
        triggers: Vec::new(),
        summary,
    })
}
