//! The auditor's properties of the log (§2.3): what must hold of every transaction, whatever happened to it.
//!
//! Pure: all entries of one transaction come in, in order of recording, and everything that contradicts them goes out.
//! What this provider recorded wrongly is a violation. What another provider's notification says against the log is a
//! remark: it is recorded as it came, and nobody here can mend it. Entries without a PEC msgid certify nothing. Whole
//! days go after their retention and others are held, so a transaction may have lost its beginning or its end: what may
//! stand in rows that are gone is not asked for.

mod breach;

use std::collections::{BTreeMap, BTreeSet};

pub use breach::{Breach, Finding};

use crate::legal_log::details::{Parties, ReceivedNotification};
use crate::legal_log::{Entry, EventKind, Recorded, watched_since};
use crate::message::wire::Kind;
use crate::model::{Address, PecMsgid, Provider, RecipientType, TemporalReference};

/// How long a recipient may be without outcome: a day in the queue, its last attempt, and what comes of the bounce.
const OPEN_AT_MOST: i64 = 26 * 3600;

/// How late a notice may be recorded: a restart lies in between, or many are due at once.
const NOTICE_DELAY: i64 = 3600;

/// How long another provider's detection waits for our acceptance, which it may have overtaken.
const DETECTION_WAITS: i64 = 2 * 3600;

/// How long after its arrival the last that this provider itself records of a message may come: days in queues, and an outage.
const SPAN_AT_MOST: i64 = 30 * 24 * 3600;

/// Rows that are gone after their retention: what a transaction had among them is not missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    pub first: i64,
    /// The instant of the first row behind it.
    pub ended: TemporalReference,
}

/// Against what a transaction is judged.
#[derive(Debug, Clone, Copy)]
pub struct Standards<'a> {
    pub provider: &'a Provider,
    /// Seconds after the acceptance before which no first notice may be recorded.
    pub first_notice: i64,
    /// Seconds after the acceptance before which no final notice may be recorded.
    pub final_notice: i64,
    pub gaps: &'a [Gap],
    pub now: TemporalReference,
}

/// Everything that is wrong with the entries of one transaction.
pub fn findings(id: &PecMsgid, entries: &[Recorded], standards: &Standards) -> Vec<Finding> {
    let transaction = Transaction::of(entries);
    let mut audit = Audit { id, standards, entries, transaction, found: Vec::new() };
    audit.one_sender_and_one_set_of_recipients();
    audit.one_acceptance_if_sent_from_here();
    audit.recipients_are_the_transactions();
    audit.one_take_charge_per_recipient_here();
    audit.one_outcome_per_recipient();
    audit.viruses_in_pairs();
    audit.notices_only_while_owed();
    audit.others_tell_once();
    audit.found.sort_by_key(|finding| finding.sequence);
    audit.found
}

/// What the entries together say.
struct Transaction<'a> {
    arrivals: Vec<(&'a Recorded, Parties)>,
    acceptances: Vec<&'a Recorded>,
    /// By address; whether it is certified.
    recipients: BTreeMap<String, bool>,
    /// Those whose mailbox is here, each with its first arrival.
    here: BTreeMap<String, (&'a Recorded, Address)>,
}

impl<'a> Transaction<'a> {
    fn of(entries: &'a [Recorded]) -> Self {
        let readable = |one: &'a Recorded| Some((one, Parties::of(&one.entry)?));
        let arrivals: Vec<_> = entries.iter().filter_map(readable).collect();
        let (mut recipients, mut here) = (BTreeMap::new(), BTreeMap::new());
        for (arrival, parties) in &arrivals {
            for one in parties.recipients().unwrap_or_default() {
                recipients.entry(one.address.key()).or_insert(one.kind == RecipientType::Certified);
            }
            for address in parties.here() {
                here.entry(address.key()).or_insert((*arrival, address));
            }
        }
        let acceptances = entries.iter().filter(|one| one.entry.kind == EventKind::Acceptance).collect();
        Transaction { arrivals, acceptances, recipients, here }
    }
}

struct Audit<'a> {
    id: &'a PecMsgid,
    standards: &'a Standards<'a>,
    entries: &'a [Recorded],
    transaction: Transaction<'a>,
    found: Vec<Finding>,
}

impl<'a> Audit<'a> {
    fn found(&mut self, at: &Recorded, breach: Breach) {
        let said_by = match at.entry.kind {
            EventKind::NotificationReceived => Some(at.entry.provider.clone().unwrap_or_default()),
            _ => None,
        };
        self.found.push(Finding { id: self.id.clone(), sequence: at.sequence, breach, said_by });
    }

    /// Whether what a row follows from may be in rows that are gone.
    fn may_lack_its_beginning(&self, row: &Recorded) -> bool {
        let is_near = |gap: &Gap| row.entry.at.unix().saturating_sub(gap.ended.unix()) <= SPAN_AT_MOST;
        self.standards.gaps.iter().any(|gap| gap.first < row.sequence && is_near(gap))
    }

    /// Whether what follows from a row may be in rows that are gone.
    fn may_lack_its_end(&self, row: &Recorded) -> bool {
        self.standards.gaps.iter().any(|gap| gap.first > row.sequence)
    }

    /// Something that must have come before this row is not there.
    fn found_no_beginning(&mut self, at: &Recorded, breach: Breach) {
        if !self.may_lack_its_beginning(at) {
            self.found(at, breach);
        }
    }

    /// Something that must have come after this row is not there.
    fn found_no_end(&mut self, at: &Recorded, breach: Breach) {
        if !self.may_lack_its_end(at) {
            self.found(at, breach);
        }
    }

    /// The entries of a kind about one recipient, with it.
    fn about(&self, kind: EventKind) -> impl Iterator<Item = (&'a Recorded, Address)> + use<'a> {
        let of_kind = self.entries.iter().filter(move |one| one.entry.kind == kind);
        of_kind.filter_map(|one| Some((one, recipient(&one.entry)?)))
    }

    /// Other providers' notifications of a kind about one recipient, with it.
    fn heard(&self, kind: Kind) -> impl Iterator<Item = (&'a Recorded, Address)> + use<'a> {
        let is_of_kind = move |one: &Recorded| {
            ReceivedNotification::of(&one.entry).and_then(|notification| notification.kind()) == Some(kind)
        };
        self.about(EventKind::NotificationReceived).filter(move |(one, _)| is_of_kind(one))
    }

    fn one_sender_and_one_set_of_recipients(&mut self) {
        // What the own log says counts, whatever was heard before.
        let own_first = |is_own: bool| {
            self.entries.iter().filter(move |one| (one.entry.kind != EventKind::NotificationReceived) == is_own)
        };
        let order: Vec<&Recorded> = own_first(true).chain(own_first(false)).collect();
        let mut sender: Option<&str> = None;
        let mut recipients: Option<(i64, BTreeSet<String>)> = None;
        for one in order {
            if let Some(found) = one.entry.sender.as_deref() {
                let expected = *sender.get_or_insert(found);
                if !expected.eq_ignore_ascii_case(found) {
                    self.found(one, Breach::Sender { expected: expected.to_owned(), found: found.to_owned() });
                }
            }
            match listed(&one.entry) {
                Listed::Nobody => {}
                Listed::Unreadable => self.found(one, Breach::Unreadable),
                Listed::These(found) => match &recipients {
                    None => recipients = Some((one.sequence, found)),
                    Some((first, expected)) if *expected != found => {
                        let first = *first;
                        self.found(one, Breach::Recipients(first));
                    }
                    Some(_) => {}
                },
            }
        }
    }

    fn one_acceptance_if_sent_from_here(&mut self) {
        let provider = self.standards.provider;
        let acceptances = self.transaction.acceptances.clone();
        for acceptance in &acceptances {
            let sender = acceptance.entry.sender.as_ref().and_then(|text| text.parse::<Address>().ok());
            let is_ours = acceptance.entry.provider.as_ref() == Some(&provider.name)
                || sender.is_some_and(|sender| provider.manages(&sender));
            if !is_ours {
                self.found(acceptance, Breach::ForeignAcceptance);
            }
            let queue_id = &acceptance.entry.queue_id;
            if !self.transaction.arrivals.iter().any(|(arrival, _)| arrival.entry.queue_id == *queue_id) {
                self.found_no_beginning(acceptance, Breach::AcceptanceWithoutArrival);
            }
        }
        for further in acceptances.iter().skip(1) {
            self.found(further, Breach::AcceptedTwice);
        }
        let own = self.transaction.arrivals.iter().map(|(arrival, _)| *arrival);
        let own = own.into_iter().find(|arrival| arrival.entry.provider.as_ref() == Some(&provider.name));
        if let (Some(arrival), true) = (own, acceptances.is_empty()) {
            self.found_no_end(arrival, Breach::NotAccepted);
        }
        if !acceptances.is_empty() {
            let refused = self.entries.iter().filter(|one| one.entry.kind == EventKind::NonAcceptance);
            refused.for_each(|one| self.found(one, Breach::AcceptedAndRefused));
        }
    }

    /// What is certified is certified of certified recipients; a failure may also be told of an ordinary one.
    fn recipients_are_the_transactions(&mut self) {
        if self.transaction.arrivals.is_empty() {
            // Nothing is known but what others said.
            return;
        }
        for one in self.entries {
            let heard = ReceivedNotification::of(&one.entry);
            let is_certified_only = is_for_certified_recipients(&one.entry, heard.as_ref());
            let taken = heard.map(|heard| heard.taken()).unwrap_or_default();
            for address in recipient(&one.entry).into_iter().chain(taken) {
                match self.transaction.recipients.get(&address.key()) {
                    None => self.found(one, Breach::UnknownRecipient(address)),
                    Some(false) if is_certified_only => self.found(one, Breach::NotCertified(address)),
                    Some(_) => {}
                }
            }
        }
    }

    fn one_take_charge_per_recipient_here(&mut self) {
        let mut taken = BTreeSet::new();
        for (one, address) in self.about(EventKind::TakeCharge) {
            if !self.transaction.here.contains_key(&address.key()) && !self.failed_with(one, &address) {
                self.found_no_beginning(one, Breach::TakenInChargeWithoutArrival(address));
            } else if !taken.insert(address.key()) {
                self.found(one, Breach::TakenInChargeTwice(address));
            }
        }
        let here = self.transaction.here.clone();
        for (_, (arrival, address)) in here.into_iter().filter(|(key, _)| !taken.contains(key)) {
            self.found_no_end(arrival, Breach::NotTakenInCharge(address));
        }
    }

    /// A recipient here that Postfix failed to bring to the hop is taken in charge and failed by Postfix's report.
    fn failed_with(&self, take_charge: &Recorded, recipient: &Address) -> bool {
        self.about(EventKind::NonDelivery)
            .any(|(one, of)| of == *recipient && one.entry.queue_id == take_charge.entry.queue_id)
    }

    fn one_outcome_per_recipient(&mut self) {
        for (one, address) in self.about(EventKind::Delivery) {
            let arrived = self.transaction.arrivals.iter().any(|(arrival, parties)| {
                let is_before = arrival.sequence < one.sequence && arrival.entry.queue_id == one.entry.queue_id;
                is_before && parties.here().contains(&address)
            });
            if !arrived {
                self.found_no_beginning(one, Breach::DeliveryWithoutArrival(address.clone()));
            }
            if !names_mailbox(&one.entry) {
                self.found(one, Breach::DeliveryWithoutMailbox(address));
            }
        }
        let own = [EventKind::Delivery, EventKind::NonDelivery, EventKind::VirusDetection];
        let mut outcomes: Vec<_> = own.into_iter().flat_map(|kind| self.about(kind)).collect();
        outcomes.sort_by_key(|(one, _)| one.sequence);
        let mut decided = BTreeSet::new();
        for (one, address) in outcomes {
            if !decided.insert(address.key()) {
                self.found(one, Breach::TwoOutcomes(address));
            }
        }
        self.nothing_is_told_as_delivered_and_as_not();
        self.nothing_stays_open(&decided);
    }

    fn nothing_is_told_as_delivered_and_as_not(&mut self) {
        let delivered =
            self.about(EventKind::Delivery).chain(self.heard(Kind::Delivery)).map(|(one, of)| (one, of, true));
        let failed = self.about(EventKind::NonDelivery).chain(self.about(EventKind::VirusNonDelivery));
        let failed = failed.chain(self.heard(Kind::NonDelivery)).map(|(one, of)| (one, of, false));
        let mut told: Vec<_> = delivered.chain(failed).collect();
        told.sort_by_key(|(one, ..)| one.sequence);
        let mut first = BTreeMap::new();
        for (one, address, is_delivered) in told {
            if *first.entry(address.key()).or_insert(is_delivered) != is_delivered {
                self.found(one, Breach::Contradiction(address));
            }
        }
    }

    /// Another provider names a recipient in one take-charge and tells his outcome in one receipt. The same notification may
    /// come any number of times.
    fn others_tell_once(&mut self) {
        let mut told: BTreeMap<(Option<&str>, &str, String), BTreeSet<&str>> = BTreeMap::new();
        for one in self.entries {
            let (Some(heard), Some(id)) = (ReceivedNotification::of(&one.entry), &one.entry.notification) else {
                continue;
            };
            let (kind, about, breach): (_, _, fn(Address) -> Breach) = match heard.kind() {
                Some(kind @ Kind::ServerServerAcceptance) => (kind, heard.taken(), Breach::ToldTakenTwice),
                Some(kind @ (Kind::Delivery | Kind::NonDelivery)) => {
                    (kind, recipient(&one.entry).into_iter().collect(), Breach::ToldTwice)
                }
                _ => continue,
            };
            for address in about {
                let ids = told.entry((one.entry.provider.as_deref(), kind.token(), address.key())).or_default();
                if ids.insert(id.as_str()) && ids.len() > 1 {
                    self.found(one, breach(address));
                }
            }
        }
    }

    fn nothing_stays_open(&mut self, decided: &BTreeSet<String>) {
        let now = self.standards.now.unix();
        let here = self.transaction.here.clone();
        for (key, (arrival, address)) in &here {
            if !decided.contains(key) && arrival.entry.at.unix() + OPEN_AT_MOST < now {
                self.found_no_end(arrival, Breach::NoOutcome(address.clone()));
            }
        }
        let Some(acceptance) = self.transaction.acceptances.first().copied() else { return };
        let arrivals = self.transaction.arrivals.iter().map(|(arrival, _)| &arrival.entry);
        let recorded =
            arrivals.filter(|arrival| arrival.queue_id == acceptance.entry.queue_id).map(|arrival| arrival.at);
        let since = watched_since(acceptance.entry.at, recorded.min().unwrap_or(acceptance.entry.at));
        if since.unix() + self.standards.final_notice + NOTICE_DELAY >= now {
            return;
        }
        let ends = [EventKind::NonDelivery, EventKind::VirusNonDelivery, EventKind::FinalTimeout, EventKind::Delivery];
        let heard = [Kind::Delivery, Kind::NonDelivery, Kind::VirusDetection];
        let ended = ends.into_iter().flat_map(|kind| self.about(kind));
        let ended = ended.chain(heard.into_iter().flat_map(|kind| self.heard(kind)));
        let ended: BTreeSet<String> = ended.map(|(_, address)| address.key()).collect();
        let silent: Vec<String> = self
            .transaction
            .recipients
            .iter()
            .filter(|(_, certified)| **certified)
            .map(|(key, _)| key.clone())
            .filter(|key| !ended.contains(key) && !here.contains_key(key))
            .collect();
        for address in silent.iter().filter_map(|key| key.parse().ok()) {
            self.found_no_end(acceptance, Breach::NoNotice(address));
        }
    }

    /// Our user is told of every virus that was found in his message, and of no other.
    fn viruses_in_pairs(&mut self) {
        let detections: Vec<_> =
            self.about(EventKind::VirusDetection).chain(self.heard(Kind::VirusDetection)).collect();
        let told: Vec<_> = self.about(EventKind::VirusNonDelivery).collect();
        let mut seen = BTreeSet::new();
        for (one, address) in &told {
            if !seen.insert(address.key()) {
                self.found(one, Breach::SecondVirusNonDelivery(address.clone()));
            }
            if !detections.iter().any(|(_, of)| of == address) {
                self.found_no_beginning(one, Breach::NonDeliveryWithoutDetection(address.clone()));
            }
        }
        if self.transaction.acceptances.is_empty() {
            return;
        }
        for (one, address) in detections {
            let is_ours = self.transaction.recipients.get(&address.key()) == Some(&true);
            if self.ended_otherwise(one, &address) {
                continue;
            }
            let is_over = one.entry.at.unix() + OPEN_AT_MOST < self.standards.now.unix();
            if is_ours && is_over && !seen.contains(&address.key()) && !self.may_lack_its_end(one) {
                // Whoever found it, telling our user is ours to do.
                let finding = Breach::DetectionAlone(address);
                self.found.push(Finding {
                    id: self.id.clone(),
                    sequence: one.sequence,
                    breach: finding,
                    said_by: None,
                });
            }
        }
    }

    /// Whether a recipient had its delivery or failure when a detection about it was decided on: then nobody is told.
    fn ended_otherwise(&self, detection: &Recorded, address: &Address) -> bool {
        let own = self.about(EventKind::Delivery).chain(self.about(EventKind::NonDelivery));
        let mut ends = own.chain(self.heard(Kind::Delivery)).chain(self.heard(Kind::NonDelivery));
        let decided = detection.entry.at.unix() + DETECTION_WAITS;
        ends.any(|(end, of)| of == *address && end.entry.at.unix() <= decided)
    }

    fn notices_only_while_owed(&mut self) {
        let (first, last) = (EventKind::FirstTimeout, EventKind::FinalTimeout);
        let notices: Vec<_> = self.about(first).chain(self.about(last)).collect();
        for (one, address) in notices {
            let Some(acceptance) = self.transaction.acceptances.first().copied() else {
                self.found_no_beginning(one, Breach::NoticeWithoutAcceptance(address));
                continue;
            };
            let is_first = one.entry.kind == first;
            let age = one.entry.at.unix().saturating_sub(acceptance.entry.at.unix());
            if age < if is_first { self.standards.first_notice } else { self.standards.final_notice } {
                self.found(one, Breach::NoticeTooEarly(address.clone()));
            }
            if self.ended_before(one, &address, is_first) {
                self.found(one, Breach::NoticeNotOwed(address));
            }
        }
    }

    /// Whether something recorded earlier than a notice made it needless.
    fn ended_before(&self, notice: &Recorded, recipient: &Address, is_first: bool) -> bool {
        let earlier = self.entries.iter().filter(|one| one.sequence < notice.sequence);
        earlier.flat_map(|one| ends_watch(&one.entry, is_first)).any(|about| about == *recipient)
    }
}

/// The recipients that no notice is owed about after this entry.
fn ends_watch(entry: &Entry, is_first: bool) -> Vec<Address> {
    let one = || recipient(entry).into_iter().collect();
    match entry.kind {
        EventKind::Delivery | EventKind::NonDelivery | EventKind::VirusDetection | EventKind::VirusNonDelivery => one(),
        EventKind::FinalTimeout => one(),
        EventKind::TakeCharge | EventKind::FirstTimeout if is_first => one(),
        EventKind::NotificationReceived => {
            let Some(heard) = ReceivedNotification::of(entry) else { return Vec::new() };
            match heard.kind() {
                Some(Kind::Delivery | Kind::NonDelivery | Kind::VirusDetection) => one(),
                Some(Kind::ServerServerAcceptance) if is_first => heard.taken(),
                _ => Vec::new(),
            }
        }
        _ => Vec::new(),
    }
}

fn is_for_certified_recipients(entry: &Entry, heard: Option<&ReceivedNotification>) -> bool {
    use EventKind::{Delivery, FinalTimeout, FirstTimeout, TakeCharge, VirusDetection, VirusNonDelivery};
    let certifying = [TakeCharge, Delivery, VirusDetection, VirusNonDelivery, FirstTimeout, FinalTimeout];
    certifying.contains(&entry.kind) || heard.is_some_and(|heard| heard.kind() != Some(Kind::NonDelivery))
}

/// Which recipients an entry lists for the whole transaction.
enum Listed {
    Nobody,
    Unreadable,
    These(BTreeSet<String>),
}

fn listed(entry: &Entry) -> Listed {
    let addresses = match entry.kind {
        EventKind::Arrival => {
            let all = Parties::of(entry).and_then(|parties| parties.recipients());
            all.map(|all| all.into_iter().map(|one| one.address.key()).collect())
        }
        EventKind::NotificationReceived => ReceivedNotification::of(entry)
            .map(|heard| heard.recipients.iter().map(|text| text.to_ascii_lowercase()).collect()),
        _ => return Listed::Nobody,
    };
    addresses.map_or(Listed::Unreadable, Listed::These)
}

fn names_mailbox(delivery: &Entry) -> bool {
    let details = delivery.details.as_deref().and_then(|text| serde_json::from_str::<serde_json::Value>(text).ok());
    details.is_some_and(|details| {
        details.get("mailbox").and_then(|mailbox| mailbox.as_str()).is_some_and(|text| !text.is_empty())
    })
}

fn recipient(entry: &Entry) -> Option<Address> {
    entry.recipient.as_ref()?.parse().ok()
}

#[cfg(test)]
mod tests;
