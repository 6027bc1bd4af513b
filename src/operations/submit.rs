//! Submission (§2.2.1, §3.1): a user's message becomes a signed envelope in the place where it lies.
//!
//! Nothing is certified here: the envelope is not durable yet. The triggers it carries make the hop do that.

use super::Replacement;
use super::current::Current;
use super::triggers::Trigger;
use crate::access_point::{Submission, accept};
use crate::message::defect::Defect;
use crate::message::transport_envelope::INHERITED;
use crate::model::{PecMsgid, RecipientType, TemporalReference};
use crate::smime::SigningError;

/// Why a submission did not become an envelope.
#[derive(Debug, thiserror::Error)]
pub enum NotSubmitted {
    /// A decision: the sender is told.
    #[error("{} formal checks failed", .0.len())]
    Refused(Vec<Defect>),
    /// A fault of ours: the client tries again.
    #[error("the envelope could not be signed")]
    Signing(#[from] SigningError),
}

/// Checks, wraps and signs a submission.
pub fn submit(
    current: &Current,
    submission: &Submission,
    chance: u128,
    at: TemporalReference,
) -> Result<Replacement, NotSubmitted> {
    let id = PecMsgid::new(at.unix(), chance, &current.provider.sending_address.domain());
    let is_certified = |domain: &_| current.directory.is_certified(domain);
    let accepted =
        accept(submission, &current.provider, &current.limits, is_certified, id, at).map_err(NotSubmitted::Refused)?;
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
    let summary = format!("accepted as {} for {} recipients", facts.id, facts.recipients.len());
    let message = current.sign(accepted.envelope, at)?;
    Ok(Replacement { message, inherited: &INHERITED, triggers, summary })
}
