//! What a provider reports of a period: counted from the entries as they come.
//!
//! A message counts as sent on the day of its acceptance, for the domain of its sender; as received on the day it arrived,
//! once for each domain that has a recipient of it. A mailbox is seen when it sends and when it gets something; an address
//! that is none is not. Notices are those that tell an entry, each once.

use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::Date;
use serde_json::Value;

use crate::legal_log::details::{Parties, ReceivedNotification, mailboxes};
use crate::legal_log::{Entry, EventKind, Slot};
use crate::message::wire::ErrorType;
use crate::model::{Address, Domain, Msgid, Provider};

/// Messages of one day and domain.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Messages {
    pub sent: u64,
    pub received: u64,
}

/// The figures of a period.
#[derive(Debug, Clone, Default)]
pub struct Stats {
    /// Legal Italian time.
    pub days: BTreeMap<Date, BTreeMap<Domain, Messages>>,
    /// The mailboxes here that sent or received, by domain, in lower case.
    pub mailboxes: BTreeMap<Domain, BTreeSet<String>>,
    /// By the kind of the entry that they tell.
    pub notices: BTreeMap<&'static str, u64>,
    /// Other providers' notifications, by `tipo`.
    pub received: BTreeMap<String, u64>,
    /// Submissions that a notice says are not accepted because of a virus.
    pub viruses_submitted: u64,
    /// Recipients whose envelope of another provider was stopped because of a virus.
    pub viruses_received: u64,
    /// Recipients to whom another provider stopped a message of ours because of a virus.
    pub viruses_told: u64,
    /// Recipients of whom nothing was heard for 12 hours.
    pub first_timeouts: u64,
    /// Recipients of whose delivery nothing was heard for 24 hours.
    pub final_timeouts: u64,
    /// What was refused in the SMTP dialogue.
    pub refusals: u64,
    /// What was delivered in anomaly envelopes.
    pub anomalies: u64,
    last_notice: Option<Msgid>,
}

impl Stats {
    /// Adds the next entry, by instant and number.
    pub fn count(&mut self, entry: &Entry, provider: &Provider) {
        self.count_notice(entry);
        match entry.kind {
            EventKind::Acceptance => {
                if let Some(sender) = entry.sender.as_deref().and_then(|sender| own(sender, provider)) {
                    self.messages(entry, sender.domain()).sent += 1;
                    self.saw(&sender);
                }
            }
            EventKind::Arrival => self.count_arrival(entry, provider),
            EventKind::Delivery | EventKind::Copy => self.saw_mailboxes(entry, provider),
            EventKind::NonAcceptance => self.viruses_submitted += u64::from(is_virus(entry)),
            EventKind::VirusDetection => self.viruses_received += u64::from(entry.recipient.is_some()),
            EventKind::VirusNonDelivery => self.viruses_told += 1,
            EventKind::FirstTimeout => self.first_timeouts += 1,
            EventKind::FinalTimeout => self.final_timeouts += 1,
            EventKind::Refusal => self.refusals += 1,
            EventKind::Anomaly => {
                self.anomalies += 1;
                self.saw_mailboxes(entry, provider);
            }
            EventKind::NotificationReceived => {
                if let Some(notification) = ReceivedNotification::of(entry) {
                    *self.received.entry(notification.kind).or_default() += 1;
                }
            }
            _ => {}
        }
    }

    /// Messages of each day, over all domains.
    pub fn of_day(&self, day: Date) -> Messages {
        let of_day = self.days.get(&day).into_iter().flat_map(BTreeMap::values);
        of_day.fold(Messages::default(), |sum, one| Messages {
            sent: sum.sent + one.sent,
            received: sum.received + one.received,
        })
    }

    fn count_arrival(&mut self, entry: &Entry, provider: &Provider) {
        let Some(parties) = Parties::of(entry) else { return };
        let here: Vec<Address> = parties.here().into_iter().filter(|one| provider.manages(one)).collect();
        // A recipient whom Postfix named later belongs to an arrival that counts already.
        let is_first = entry.queue_id.as_deref().map(Slot::arrival) == entry.slot;
        let domains: BTreeSet<Domain> = here.iter().map(Address::domain).collect();
        for domain in domains.into_iter().filter(|_| is_first) {
            self.messages(entry, domain).received += 1;
        }
    }

    /// A take-charge tells one entry for each of its recipients, one right after the other.
    fn count_notice(&mut self, entry: &Entry) {
        let is_told = entry.kind != EventKind::NotificationReceived && entry.kind != EventKind::Reproduction;
        let Some(notice) = entry.notification.as_ref().filter(|_| is_told) else { return };
        if self.last_notice.as_ref() != Some(notice) {
            *self.notices.entry(entry.kind.name()).or_default() += 1;
            self.last_notice = Some(notice.clone());
        }
    }

    fn messages(&mut self, entry: &Entry, domain: Domain) -> &mut Messages {
        self.days.entry(entry.at.date()).or_default().entry(domain).or_default()
    }

    /// The mailboxes that got something; an alias that led to one is none.
    fn saw_mailboxes(&mut self, entry: &Entry, provider: &Provider) {
        for mailbox in mailboxes(entry) {
            if let Some(mailbox) = own(&mailbox, provider) {
                self.saw(&mailbox);
            }
        }
    }

    fn saw(&mut self, mailbox: &Address) {
        self.mailboxes.entry(mailbox.domain()).or_default().insert(mailbox.key());
    }
}

fn own(address: &str, provider: &Provider) -> Option<Address> {
    address.parse().ok().filter(|address| provider.manages(address))
}

fn is_virus(non_acceptance: &Entry) -> bool {
    let details = non_acceptance.details.as_deref().and_then(|text| serde_json::from_str::<Value>(text).ok());
    let error = details.as_ref().and_then(|details| details.get("error")).and_then(Value::as_str);
    error.and_then(ErrorType::from_token) == Some(ErrorType::Virus)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::TemporalReference;

    fn provider() -> Provider {
        Provider {
            name: "Alfa".into(),
            sending_address: "posta-certificata@alfa.example".parse().unwrap(),
            service_mailbox: "ricevute@alfa.example".parse().unwrap(),
            mail_domains: vec!["alfa.example".parse().unwrap(), "ente.example".parse().unwrap()],
        }
    }

    fn entry(kind: EventKind, at: &str, notice: &str) -> Entry {
        Entry {
            queue_id: Some("Q".into()),
            sender: Some("Anna@alfa.example".into()),
            notification: format!("<{notice}@alfa.example>").parse().ok(),
            ..Entry::new(kind, TemporalReference::from_rfc3339(at).unwrap())
        }
    }

    const BEFORE_MIDNIGHT: &str = "2024-07-14T21:59:59Z";
    const AFTER_MIDNIGHT: &str = "2024-07-14T22:00:00Z";

    #[test]
    fn messages_count_on_their_day_in_italy_and_once_for_each_domain() {
        let mut stats = Stats::default();
        stats.count(&entry(EventKind::Acceptance, BEFORE_MIDNIGHT, "1"), &provider());
        stats.count(&entry(EventKind::Acceptance, AFTER_MIDNIGHT, "2"), &provider());
        let details =
            r#"{"here":["b@alfa.example","C@alfa.example","d@ente.example","x@beta.example"],"recipients":[]}"#;
        let arrival = Entry {
            details: Some(details.into()),
            slot: Some(Slot::arrival("Q")),
            ..entry(EventKind::Arrival, AFTER_MIDNIGHT, "")
        };
        stats.count(&arrival, &provider());
        let late = Slot::late_arrival("Q", &"e@alfa.example".parse().unwrap());
        let details = Some(r#"{"here":["e@alfa.example"],"recipients":[]}"#.into());
        stats.count(&Entry { slot: Some(late), details, ..arrival }, &provider());
        let day = |day: &str| stats.of_day(day.parse().unwrap());
        assert_eq!(day("2024-07-14"), Messages { sent: 1, received: 0 });
        assert_eq!(day("2024-07-15"), Messages { sent: 1, received: 2 });
        for recipient in ["B@alfa.example", "b@alfa.example", "d@ente.example", "x@beta.example"] {
            let delivery = entry(EventKind::Delivery, AFTER_MIDNIGHT, recipient);
            stats.count(&Entry { recipient: Some(recipient.into()), ..delivery }, &provider());
        }
        // An alias delivered to b, what comes in an anomaly envelope, a copy.
        for (kind, recipient, details) in [
            (EventKind::Delivery, Some("info@alfa.example"), r#"{"mailbox":"B@alfa.example"}"#),
            (EventKind::Anomaly, None, r#"{"mailboxes":["f@ente.example","x@beta.example"]}"#),
            (EventKind::Copy, Some("info@alfa.example"), r#"{"mailbox":"archivio@alfa.example"}"#),
        ] {
            let (recipient, details) = (recipient.map(str::to_owned), Some(details.to_owned()));
            stats.count(&Entry { recipient, details, ..entry(kind, AFTER_MIDNIGHT, "m") }, &provider());
        }
        let mailboxes: Vec<usize> = stats.mailboxes.values().map(BTreeSet::len).collect();
        assert_eq!(mailboxes, [3, 2], "anna, b and archivio; d and f");
    }

    #[test]
    fn a_notice_counts_once_and_by_its_kind() {
        let mut stats = Stats::default();
        for (kind, notice) in [
            (EventKind::TakeCharge, "1"),
            (EventKind::TakeCharge, "1"),
            (EventKind::TakeCharge, "2"),
            (EventKind::Delivery, "3"),
            (EventKind::NotificationReceived, "4"),
        ] {
            stats.count(&entry(kind, AFTER_MIDNIGHT, notice), &provider());
        }
        assert_eq!(stats.notices, BTreeMap::from([("take-charge", 2), ("delivery", 1)]));
        let virus = Entry {
            details: Some(r#"{"error":"virus"}"#.into()),
            ..entry(EventKind::NonAcceptance, AFTER_MIDNIGHT, "5")
        };
        let formal = Entry {
            details: Some(r#"{"error":"altro"}"#.into()),
            ..entry(EventKind::NonAcceptance, AFTER_MIDNIGHT, "6")
        };
        stats.count(&virus, &provider());
        stats.count(&formal, &provider());
        assert_eq!((stats.viruses_submitted, stats.notices["non-acceptance"]), (1, 2));
    }
}
