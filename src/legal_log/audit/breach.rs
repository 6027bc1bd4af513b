//! What an audit finds, in the words of an administrator.

use crate::model::{Address, PecMsgid};

/// Something that must not be in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub id: PecMsgid,
    /// The row of the log that shows it.
    pub sequence: i64,
    pub breach: Breach,
    /// The provider whose notification says it; none where the log itself is wrong.
    pub said_by: Option<String>,
}

/// Which property does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Breach {
    #[error("the details cannot be read")]
    Unreadable,
    #[error("the sender is {found}, before it was {expected}")]
    Sender { expected: String, found: String },
    #[error("the recipients are not those of row {0}")]
    Recipients(i64),
    #[error("our envelope has no acceptance")]
    NotAccepted,
    #[error("a second acceptance")]
    AcceptedTwice,
    #[error("an acceptance of a message that was not sent from here")]
    ForeignAcceptance,
    #[error("an acceptance without the arrival of its envelope")]
    AcceptanceWithoutArrival,
    #[error("accepted and not accepted")]
    AcceptedAndRefused,
    #[error("{0} was never taken in charge")]
    NotTakenInCharge(Address),
    #[error("{0} is taken in charge a second time")]
    TakenInChargeTwice(Address),
    #[error("{0} is taken in charge without having arrived")]
    TakenInChargeWithoutArrival(Address),
    #[error("{0} has a second outcome")]
    TwoOutcomes(Address),
    #[error("another take-charge names {0} once more")]
    ToldTakenTwice(Address),
    #[error("the outcome of {0} is told by another notification once more")]
    ToldTwice(Address),
    #[error("{0} is told as delivered and as not delivered")]
    Contradiction(Address),
    #[error("{0} has no outcome, and its time is over")]
    NoOutcome(Address),
    #[error("nothing was heard of {0}, and nobody was told in time")]
    NoNotice(Address),
    #[error("{0} is no recipient of this transaction")]
    UnknownRecipient(Address),
    #[error("{0} is no certified recipient of this transaction")]
    NotCertified(Address),
    #[error("delivered to {0} without having arrived")]
    DeliveryWithoutArrival(Address),
    #[error("delivered to {0} in no mailbox")]
    DeliveryWithoutMailbox(Address),
    #[error("the virus detection for {0} has no virus non-delivery")]
    DetectionAlone(Address),
    #[error("the virus non-delivery for {0} has no virus detection")]
    NonDeliveryWithoutDetection(Address),
    #[error("a second virus non-delivery for {0}")]
    SecondVirusNonDelivery(Address),
    #[error("a timeout notice about {0} without an acceptance")]
    NoticeWithoutAcceptance(Address),
    #[error("a timeout notice about {0} before its time")]
    NoticeTooEarly(Address),
    #[error("a timeout notice about {0} that was not owed any more")]
    NoticeNotOwed(Address),
}
