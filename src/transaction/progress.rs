//! What is known of one certified recipient, folded from the entries of its transaction.
//!
//! News comes from the own log and from other providers' notifications, in any order, more than once, and before the own
//! acceptance. Therefore progress is ordered and only ever rises: the fold is a maximum, so order and repetition do not
//! matter. That a notification comes from the provider of the recipient it speaks of is checked before it is recorded.

use crate::legal_log::details::{Parties, ReceivedNotification};
use crate::legal_log::{Entry, EventKind};
use crate::message::wire::Kind;
use crate::model::{Address, RecipientType};

/// What is known of one certified recipient; later ones outweigh earlier ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Progress {
    /// It is on its way; nothing was heard of it.
    Sent,
    /// A provider, or we ourselves, took it in charge (§3.2.1).
    TakenInCharge,
    /// The sender was told that nothing was heard of it.
    Warned,
    /// It failed, or the sender was told to regard it as failed.
    GivenUp,
    /// Its mailbox holds it (§3.3.2).
    Delivered,
}

impl Progress {
    /// Those after which a notice may still be owed.
    pub const OPEN: [Self; 3] = [Self::Sent, Self::TakenInCharge, Self::Warned];

    pub fn is_open(self) -> bool {
        Self::OPEN.contains(&self)
    }
}

/// What one entry tells of which recipients.
pub fn told(entry: &Entry) -> Vec<(Address, Progress)> {
    let progress = match entry.kind {
        EventKind::TakeCharge => Progress::TakenInCharge,
        EventKind::FirstTimeout => Progress::Warned,
        EventKind::NonDelivery | EventKind::VirusDetection | EventKind::VirusNonDelivery | EventKind::FinalTimeout => {
            Progress::GivenUp
        }
        EventKind::Delivery => Progress::Delivered,
        EventKind::NotificationReceived => return told_by_another(entry),
        EventKind::Arrival
        | EventKind::Acceptance
        | EventKind::NonAcceptance
        | EventKind::Copy
        | EventKind::Duplicate
        | EventKind::LateFailure
        | EventKind::Anomaly
        | EventKind::Refusal
        | EventKind::Forward
        | EventKind::Seal
        | EventKind::Stamp
        | EventKind::Purge
        | EventKind::Hold
        | EventKind::Release
        | EventKind::Reproduction => return Vec::new(),
    };
    recipient(entry).map(|recipient| (recipient, progress)).into_iter().collect()
}

/// What all entries together tell of one recipient of an accepted transaction.
pub fn known<'a>(entries: impl IntoIterator<Item = &'a Entry>, recipient: &Address) -> Progress {
    let news = entries.into_iter().flat_map(told).filter(|(about, _)| about == recipient);
    news.map(|(_, progress)| progress).max().unwrap_or(Progress::Sent)
}

/// Whether what another provider told leaves no room for this failure of our own making: its sender would hold two notices
/// that contradict each other, or two failures.
pub fn forestalls(heard: &Entry, failure: &Entry) -> bool {
    let is_detection = || ReceivedNotification::of(heard).and_then(|told| told.kind()) == Some(Kind::VirusDetection);
    let is_end = heard.kind == EventKind::NotificationReceived
        && match failure.kind {
            EventKind::NonDelivery => true,
            // A detection is what it is made from.
            EventKind::VirusNonDelivery => !is_detection(),
            _ => false,
        };
    let about = recipient(failure);
    is_end && told(heard).iter().any(|(one, progress)| !progress.is_open() && about.as_ref() == Some(one))
}

/// The certified recipients of a transaction, by its arrival.
pub fn certified_recipients(arrival: &Entry) -> Option<Vec<Address>> {
    let all = Parties::of(arrival)?.recipients()?;
    Some(all.into_iter().filter(|one| one.kind == RecipientType::Certified).map(|one| one.address).collect())
}

fn told_by_another(entry: &Entry) -> Vec<(Address, Progress)> {
    let Some(notification) = ReceivedNotification::of(entry) else { return Vec::new() };
    let about_one = |progress| recipient(entry).map(|recipient| (recipient, progress)).into_iter().collect();
    match notification.kind() {
        Some(Kind::ServerServerAcceptance) => {
            notification.taken().into_iter().map(|recipient| (recipient, Progress::TakenInCharge)).collect()
        }
        Some(Kind::Delivery) => about_one(Progress::Delivered),
        Some(Kind::NonDelivery | Kind::VirusDetection) => about_one(Progress::GivenUp),
        Some(Kind::TransportEnvelope | Kind::ServerUserAcceptance | Kind::NonAcceptance)
        | Some(Kind::TimeoutDeliveryError)
        | None => Vec::new(),
    }
}

fn recipient(entry: &Entry) -> Option<Address> {
    entry.recipient.as_ref()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::TemporalReference;

    fn bruno() -> Address {
        "bruno@beta.example".parse().unwrap()
    }

    fn entry(kind: EventKind, recipient: &str) -> Entry {
        Entry {
            pec_msgid: Some("pec.1@alfa.example".parse().unwrap()),
            sender: Some("anna@alfa.example".into()),
            recipient: (!recipient.is_empty()).then(|| recipient.to_owned()),
            ..Entry::new(kind, TemporalReference::from_unix(1_700_000_000))
        }
    }

    fn received(kind: Kind, recipient: &str, taken: &[&str]) -> Entry {
        let details = ReceivedNotification {
            kind: kind.token().to_owned(),
            taken: taken.iter().map(|text| text.to_string()).collect(),
            ..ReceivedNotification::default()
        };
        let details = serde_json::to_string(&details).unwrap();
        Entry { details: Some(details), ..entry(EventKind::NotificationReceived, recipient) }
    }

    #[test]
    fn the_order_of_news_and_its_repetition_do_not_matter() {
        let taken = received(Kind::ServerServerAcceptance, "", &["bruno@beta.example", "dario@beta.example"]);
        let warned = entry(EventKind::FirstTimeout, "Bruno@Beta.example");
        let delivered = received(Kind::Delivery, "BRUNO@beta.example", &[]);
        let news = [taken, warned, delivered];
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            let mut entries: Vec<&Entry> = order.iter().map(|&at| &news[at]).collect();
            entries.push(&news[order[0]]);
            assert_eq!(known(entries, &bruno()), Progress::Delivered, "{order:?}");
        }
        assert_eq!(known([&news[1], &news[0]], &bruno()), Progress::Warned);
        assert_eq!(known(&news, &"dario@beta.example".parse().unwrap()), Progress::TakenInCharge);
    }

    #[test]
    fn own_events_count_like_received_ones() {
        for (kind, progress) in [
            (EventKind::TakeCharge, Progress::TakenInCharge),
            (EventKind::Delivery, Progress::Delivered),
            (EventKind::NonDelivery, Progress::GivenUp),
            (EventKind::VirusNonDelivery, Progress::GivenUp),
            (EventKind::FinalTimeout, Progress::GivenUp),
        ] {
            assert_eq!(known([&entry(kind, "bruno@beta.example")], &bruno()), progress, "{kind:?}");
        }
        for kind in [Kind::NonDelivery, Kind::VirusDetection] {
            assert_eq!(known([&received(kind, "bruno@beta.example", &[])], &bruno()), Progress::GivenUp);
        }
    }

    #[test]
    fn what_says_nothing_about_the_recipient_changes_nothing() {
        let odd = Entry { details: Some("{".into()), ..entry(EventKind::NotificationReceived, "bruno@beta.example") };
        for silent in [
            entry(EventKind::Delivery, "carla@alfa.example"),
            entry(EventKind::Delivery, "not an address"),
            entry(EventKind::Delivery, ""),
            entry(EventKind::Duplicate, "bruno@beta.example"),
            received(Kind::TimeoutDeliveryError, "bruno@beta.example", &[]),
            received(Kind::ServerUserAcceptance, "bruno@beta.example", &[]),
            odd,
        ] {
            assert_eq!(known([&silent], &bruno()), Progress::Sent, "{silent:?}");
        }
    }

    #[test]
    fn only_certified_recipients_are_watched() {
        let details =
            r#"{"here":[],"recipients":[["bruno@beta.example","certificato"],["mario@x.example","esterno"]]}"#;
        let arrival = Entry { details: Some(details.into()), ..entry(EventKind::Arrival, "") };
        assert_eq!(certified_recipients(&arrival), Some(vec![bruno()]));
        assert_eq!(certified_recipients(&entry(EventKind::Arrival, "")), None);
        assert_eq!(certified_recipients(&Entry { kind: EventKind::Delivery, ..arrival }), None);
    }

    #[test]
    fn a_failure_of_our_own_is_forestalled_by_what_ended_it_elsewhere() {
        let (failure, virus) = (EventKind::NonDelivery, EventKind::VirusNonDelivery);
        let of = |kind| entry(kind, "Bruno@beta.example");
        for heard in [Kind::Delivery, Kind::NonDelivery].map(|kind| received(kind, "bruno@beta.example", &[])) {
            assert!(forestalls(&heard, &of(failure)) && forestalls(&heard, &of(virus)), "{heard:?}");
            assert!(!forestalls(&heard, &entry(failure, "carla@beta.example")), "{heard:?}");
            assert!(!forestalls(&heard, &of(EventKind::LateFailure)), "{heard:?}");
        }
        let detection = received(Kind::VirusDetection, "bruno@beta.example", &[]);
        assert!(forestalls(&detection, &of(failure)) && !forestalls(&detection, &of(virus)));
        let taken = received(Kind::ServerServerAcceptance, "", &["bruno@beta.example"]);
        assert!(!forestalls(&taken, &of(failure)));
        for own in [EventKind::Delivery, EventKind::TakeCharge, EventKind::FirstTimeout, EventKind::FinalTimeout] {
            assert!(!forestalls(&of(own), &of(failure)), "the slot decides between our own, and notices end nothing");
        }
    }
}
