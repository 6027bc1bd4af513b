//! Postfix's own report about an envelope in the hop (§3.3.3): one notice for each recipient that will not get it.
//!
//! The bounces milter gave the report its trigger. It comes when another server refused, when no server could be found,
//! or when the queue lifetime was over (§2.2.2), also for mailboxes here. What is certified comes from the log: the
//! arrival of the envelope tells the transaction, and only its recipients are believed to have failed.
//!
//! What the hop itself had left to do is taken up first (`given_up`). A recipient that has its outcome gets no second one:
//! that is recorded and not told. A report about an envelope that the log does not know yet waits in Postfix's queue, for it
//! may have overtaken the envelope itself. After that time it is about one that a mailbox's owner sent on, and tells nothing.

use std::collections::HashSet;

use tracing::{debug, error, info, warn};

use super::attempt::{Attempt, xtext};
use super::entries::ReportAuthor;
use super::given_up::{TakenUp, left_to_do};
use super::plan::Plan;
use super::receipts::{self, Original, Telling, Transaction};
use super::served::names;
use super::{Fault, Hop, LONGEST_OVERTAKING};
use crate::crash;
use crate::delivery_point::reported_failure;
use crate::legal_log::{Entry, EventKind, Recorded};
use crate::message::delivery_status::{Action, DeliveryStatus, RecipientStatus};
use crate::message::header::Header;
use crate::model::{Address, Msgid, PecMsgid, Recipient};
use crate::operations::ports::{EventLog, Injection, Instruments, Mailboxes, Reply};
use crate::operations::triggers::Trigger;
use crate::transaction::told;

/// What the log knows of the transaction that is reported about.
struct Known<'a> {
    arrival: &'a Entry,
    transaction: Transaction,
    entries: &'a [Recorded],
}

impl<L: EventLog, M: Mailboxes, I: Injection, T: Instruments> Hop<L, M, I, T> {
    pub(super) async fn deliver_report(&self, attempt: &Attempt<'_>) -> Result<Vec<Reply>, Fault> {
        let (current, queue_id, message) = (&attempt.current, attempt.queue_id(), &attempt.file.message);
        if !attempt.triggers.are_only(Trigger::NonDelivery) {
            return Err(Fault::TriggerWithoutEnvelope("a report of Postfix".to_owned()));
        }
        if !is_written_by_postfix(message) {
            return Err(Fault::NoReport);
        }
        let mut report = DeliveryStatus::read(message.clone()).ok_or(Fault::NoReport)?;
        let id = report.envelope().ok_or(Fault::NoReport)?;
        let mut entries = self.log.of_transaction(&id).await?;
        let left = left_to_do(&mut report, &entries, |address| current.manages(address));
        let mut taken_up = None;
        if arrival(&report, &entries).is_none() && !left.is_empty() {
            // Of what is not recorded nothing can be told of the others either.
            taken_up = Some(self.take_up(attempt, &report, &id, &left).await?);
            entries = self.log.of_transaction(&id).await?;
        }
        // What the returned message calls itself proves nothing; that its queue file arrived here as this transaction does.
        let Some(arrival) = arrival(&report, &entries) else {
            if taken_up.is_some() {
                error!(queue_id, %id, "POSTFIX GAVE UP A MESSAGE OF THIS PROVIDER BEFORE IT WAS RECORDED and returned no envelope that can be taken up: its sender has been told nothing, tell him; the report waits in the queue until bounce_queue_lifetime is over (set bounce_size_limit as in postfix-conf/main.cf)");
                return Ok(wait(attempt, "4.3.0 the envelope is not recorded, see the log of pec-milter"));
            }
            return Ok(self.put_off(attempt, &id).await);
        };
        let known = Known::of(arrival, &entries).ok_or(Fault::UnreadableArrival)?;
        let mut replies = self.tell_failures(attempt, &known, &report).await?;
        // Those whom it can be told have been told: what cannot be done keeps nobody from it.
        let taken_up = match taken_up {
            Some(taken_up) => taken_up,
            None if left.is_empty() => TakenUp::Done,
            None => self.take_up(attempt, &report, &id, &left).await?,
        };
        match taken_up {
            TakenUp::Done => {}
            TakenUp::Waits => {
                let wait = Reply::new(451, "4.3.0 what is left of the envelope cannot be done now");
                replies.extend(attempt.triggers.places(Trigger::NonDelivery).into_iter().map(|at| (at, wait.clone())));
            }
            TakenUp::NoEnvelope => {
                error!(queue_id, %id, "Postfix gave up receipts of this envelope that were recorded and not sent, and returned no envelope that can be taken up: send them by `pec-milter receipt reproduce '{id}' --send`");
            }
        }
        // A copy that the administrator has Postfix make of everything is none of this.
        replies.extend(self.pass(attempt).await);
        let replies = attempt.in_order(&replies);
        if replies.iter().all(Reply::is_positive) {
            self.waiting_reports.end(queue_id);
        }
        Ok(replies)
    }

    /// Commits who has failed and tells it; once, while the report waits for something else.
    async fn tell_failures(
        &self,
        attempt: &Attempt<'_>,
        known: &Known<'_>,
        report: &DeliveryStatus,
    ) -> Result<Vec<(usize, Reply)>, Fault> {
        let (current, queue_id) = (&attempt.current, attempt.queue_id());
        let manages = |address: &Address| current.manages(address);
        let failed = known.failed(queue_id, report, manages);
        let (arrival, id, issuer) = (known.arrival, &known.transaction.facts.id, current.provider.name.as_str());
        let author = ReportAuthor { queue_id, arrival, id, at: self.instruments.now(), issuer };
        let plan = known.plan(&author, &failed, manages, || self.new_id(current));
        let recorded = self.commit(&plan).await?;
        crash::point("failures-recorded");
        log_failures(queue_id, known, &plan, &recorded);
        let mut replies = Vec::new();
        for telling in known.tellings(queue_id, recorded, attempt.triggers.places(Trigger::NonDelivery)) {
            let own_id = telling.notification.id.to_string();
            if self.waiting_reports.is_done(queue_id, &own_id) {
                continue;
            }
            let unsent = self.tell(attempt, vec![telling]).await?;
            if unsent.is_empty() {
                self.waiting_reports.set_done(queue_id, &own_id, self.instruments.now());
            }
            replies.extend(unsent);
        }
        Ok(replies)
    }

    /// What becomes of a report about an envelope that did not arrive here.
    async fn put_off(&self, attempt: &Attempt<'_>, id: &PecMsgid) -> Vec<Reply> {
        let (queue_id, now) = (attempt.queue_id(), self.instruments.now());
        let first_came = self.waiting_reports.since(queue_id, now);
        if now.unix() - first_came.unix() >= LONGEST_OVERTAKING {
            warn!(queue_id, %id, "Postfix reports about an envelope that did not arrive in its own queue file, so somebody sent it on: nobody is told");
            return attempt.in_order(&self.pass(attempt).await);
        }
        debug!(queue_id, %id, "Postfix reports about an envelope of which the log knows no arrival yet: it waits");
        wait(attempt, "4.3.0 the arrival of the envelope is not recorded yet")
    }
}

fn wait(attempt: &Attempt<'_>, text: &str) -> Vec<Reply> {
    vec![Reply::new(451, text); attempt.file.recipients.len()]
}

/// The arrival of the queue file that is reported about.
pub fn arrival<'e>(report: &DeliveryStatus, entries: &'e [Recorded]) -> Option<&'e Entry> {
    let is_reported = |entry: &&Entry| entry.kind == EventKind::Arrival && entry.queue_id == report.queue_id;
    entries.iter().map(|one| &one.entry).find(is_reported)
}

/// The recipient of the transaction that a report means: as its sender named it, before aliases.
pub fn named<'r>(recipients: &'r [Recipient], status: &RecipientStatus) -> Option<&'r Address> {
    // Postfix writes ORCPT as it stands in its queue, which may be in xtext.
    let decoded = status.original.as_ref().and_then(|original| xtext(original.as_str())?.parse().ok());
    let candidates = [status.original.as_ref(), decoded.as_ref(), status.last.as_ref()];
    candidates.into_iter().flatten().find_map(|candidate| {
        recipients.iter().map(|recipient| &recipient.address).find(|address| *address == candidate)
    })
}

/// One line for each failure.
fn log_failures(queue_id: &str, known: &Known, plan: &Plan, recorded: &[Recorded]) {
    let id = &known.transaction.facts.id;
    for (wanted, one) in plan.entries().zip(recorded) {
        let recipient = one.entry.recipient.as_deref().unwrap_or_default();
        match wanted.kind {
            EventKind::LateFailure => {
                warn!(queue_id, %id, recipient, "Postfix reports a failure after the outcome, nothing is told")
            }
            EventKind::NonDelivery => {
                info!(queue_id, %id, recipient, is_new = one.is_new, "Postfix reports a failure")
            }
            _ => {}
        }
    }
}

impl<'a> Known<'a> {
    fn of(arrival: &'a Entry, entries: &'a [Recorded]) -> Option<Self> {
        Some(Known { arrival, transaction: Transaction::of(arrival)?, entries })
    }

    /// The recipients of the transaction that the report says have failed, each once, and that are ours to tell of: all
    /// of them where we accepted the message, those of our domains otherwise.
    fn failed<'r>(
        &self,
        queue_id: &str,
        report: &'r DeliveryStatus,
        manages: impl Fn(&Address) -> bool,
    ) -> Vec<(Address, &'r RecipientStatus)> {
        let id = &self.transaction.facts.id;
        let is_accepted = self.entries.iter().any(|one| one.entry.kind == EventKind::Acceptance);
        let mut seen = HashSet::new();
        let mut failed = Vec::new();
        for status in report.recipients.iter().filter(|one| one.action == Action::Failed) {
            let Some(recipient) = named(&self.transaction.facts.recipients, status) else {
                let address = status.last.as_ref().or(status.original.as_ref());
                let address = address.map(Address::as_str).unwrap_or_default();
                warn!(queue_id, %id, address, "Postfix reports a failure for no recipient of the transaction");
                continue;
            };
            if !is_accepted && !manages(recipient) {
                warn!(queue_id, %id, %recipient, "Postfix reports a failure for a recipient of another provider");
            } else if seen.insert(recipient.clone()) {
                failed.push((recipient.clone(), status));
            }
        }
        failed
    }

    /// What is recorded of the failures.
    fn plan(
        &self,
        author: &ReportAuthor,
        failed: &[(Address, &RecipientStatus)],
        manages: impl Fn(&Address) -> bool,
        new_id: impl Fn() -> Msgid,
    ) -> Plan {
        let take_charge_id = new_id();
        let mut plan = Plan::default();
        for (recipient, status) in failed {
            // Postfix sent the envelope elsewhere, or nowhere, before the hop saw this recipient of ours.
            if manages(recipient) {
                plan.record(author.take_charge(recipient, take_charge_id.clone()));
            }
            let late = author.late_failure(recipient, status);
            // What an earlier attempt committed is told, whatever was heard since.
            let is_committed = self.has_outcome(recipient, |entry| entry.queue_id.as_deref() == Some(author.queue_id));
            if !is_committed && self.has_outcome(recipient, |_| true) {
                plan.record(late);
            } else {
                let failure = reported_failure(&status.status);
                plan.record_or(author.non_delivery(recipient, status, &failure, new_id()), late);
            }
        }
        plan
    }

    /// Whether an entry of these tells how it ended for a recipient. A timeout notice tells nothing of that (§3.1.6).
    fn has_outcome(&self, recipient: &Address, among: impl Fn(&Entry) -> bool) -> bool {
        // An end stands in an entry about one recipient; reading those about many takes long.
        let about = |entry: &&Entry| names(entry, recipient) && among(entry);
        let entries = self.entries.iter().map(|one| &one.entry).filter(about);
        let mut ends = entries.filter(|entry| entry.kind != EventKind::FinalTimeout).flat_map(told);
        ends.any(|(about, progress)| about == *recipient && !progress.is_open())
    }

    /// What this report told the log, for those whom it concerns.
    fn tellings(&self, queue_id: &str, recorded: Vec<Recorded>, places: Vec<usize>) -> Vec<Telling> {
        let is_own = |one: &Recorded| one.entry.queue_id.as_deref() == Some(queue_id);
        let recorded: Vec<Recorded> = recorded.into_iter().filter(is_own).collect();
        let mut notifications = receipts::take_charges(&self.transaction, &recorded);
        let failures = recorded.iter().filter(|one| one.entry.kind == EventKind::NonDelivery);
        let original = Original::default();
        notifications
            .extend(failures.filter_map(|one| receipts::notification(&self.transaction, &original, &one.entry)));
        notifications.into_iter().map(|notification| Telling { notification, answers: places.clone() }).collect()
    }
}

/// Whether Postfix itself wrote a message: its `Received` on top tells neither a client nor a user of the machine.
fn is_written_by_postfix(message: &[u8]) -> bool {
    let header = Header::read(message);
    let first = header.fields().next().filter(|field| field.name().eq_ignore_ascii_case(b"Received"));
    first.is_some_and(|field| {
        let text = field.text();
        text.starts_with("by ") && !text.contains("from userid")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::TemporalReference;

    #[test]
    fn what_postfix_wrote_is_told_from_what_came_to_it() {
        let is_own = |text: &str| is_written_by_postfix(format!("{text}\r\nSubject: s\r\n\r\n").as_bytes());
        assert!(is_own("Received: by mx.alfa.example (Postfix)\r\n\tid 4jX7K510Rdz1X2b2; Sat"));
        assert!(!is_own("Received: by mx.alfa.example (Postfix, from userid 0)\r\n\tid ABC; Sat"));
        assert!(!is_own("Received: from x by mx.alfa.example (Postfix) with ESMTP id ABC; Sat"));
        assert!(!is_own("X: y\r\nReceived: by mx.alfa.example (Postfix)\r\n\tid ABC"));
    }

    fn entry(kind: EventKind, recipient: Option<&str>, details: Option<&str>) -> Recorded {
        let entry = Entry {
            queue_id: Some("4Sxyz1".into()),
            pec_msgid: Some("pec.1@alfa.example".parse().unwrap()),
            sender: Some("anna@alfa.example".into()),
            recipient: recipient.map(str::to_owned),
            provider: Some("Alfa".into()),
            details: details.map(str::to_owned),
            ..Entry::new(kind, TemporalReference::from_unix(1_700_000_000))
        };
        Recorded { sequence: 1, entry, is_new: true }
    }

    fn arrival() -> Recorded {
        let details = r#"{"here":[],"triggers":[],"mail_receipt":"ricevute@alfa.example","accepted":1700000000,
            "recipients":[["bruno@beta.example","certificato"],["u+v@alfa.example","certificato"],
            ["mario@gamma.example","esterno"]],"replies":"anna@alfa.example","requested":"completa"}"#;
        entry(EventKind::Arrival, None, Some(details))
    }

    fn report(groups: &[(&str, &str, &str)]) -> DeliveryStatus {
        let groups: String = groups
            .iter()
            .map(|(original, last, action)| {
                format!(
                    "\r\nFinal-Recipient: rfc822; {last}\r\nOriginal-Recipient: rfc822;{original}\r\n\
                     Action: {action}\r\nStatus: 5.1.1\r\n"
                )
            })
            .collect();
        let text = format!(
            "Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n\
             --b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx\r\n{groups}\r\n\
             --b\r\nContent-Type: text/rfc822-headers\r\n\r\nSubject: s\r\n\r\n--b--\r\n"
        );
        DeliveryStatus::read(text.into()).unwrap()
    }

    fn failed(entries: &[Recorded], groups: &[(&str, &str, &str)]) -> Vec<String> {
        let known = Known::of(&entries[0].entry, entries).unwrap();
        let report = report(groups);
        let failed = known.failed("4Sxyz2", &report, |address| address.domain().as_str() == "alfa.example");
        failed.into_iter().map(|(recipient, _)| recipient.to_string()).collect()
    }

    #[test]
    fn only_recipients_of_the_transaction_have_failed_and_each_once_as_its_sender_named_it() {
        let accepted = [arrival(), entry(EventKind::Acceptance, None, None)];
        let groups = [
            ("BRUNO@beta.example", "b@elsewhere.example", "failed"),
            ("bruno@beta.example", "c@elsewhere.example", "failed"),
            ("u+2Bv@alfa.example", "x@elsewhere.example", "failed"),
            ("nobody@beta.example", "mario@gamma.example", "failed"),
            ("eve@beta.example", "eve@beta.example", "failed"),
            ("accettazione@pec-milter.invalid", "accettazione@pec-milter.invalid", "failed"),
        ];
        assert_eq!(failed(&accepted, &groups), ["bruno@beta.example", "u+v@alfa.example", "mario@gamma.example"]);
        assert!(failed(&accepted, &[("bruno@beta.example", "bruno@beta.example", "delayed")]).is_empty());
    }

    #[test]
    fn of_a_message_that_another_provider_accepted_only_our_recipients_are_ours_to_tell_of() {
        let groups = ["bruno@beta.example", "u+v@alfa.example", "mario@gamma.example"].map(|to| (to, to, "failed"));
        assert_eq!(failed(&[arrival()], &groups), ["u+v@alfa.example"]);
    }

    #[test]
    fn of_two_reports_at_once_the_later_one_is_recorded_as_late() {
        let entries = [arrival(), entry(EventKind::Acceptance, None, None)];
        let known = Known::of(&entries[0].entry, &entries).unwrap();
        let report = report(&[("bruno@beta.example", "bruno@beta.example", "failed")]);
        let failed = known.failed("4Sxyz2", &report, |_| false);
        let at = TemporalReference::from_unix(1_700_000_100);
        let author = ReportAuthor {
            queue_id: "4Sxyz2",
            arrival: known.arrival,
            id: &known.transaction.facts.id,
            at,
            issuer: "Alfa",
        };
        let plan = known.plan(&author, &failed, |_| false, || "<notice.1@alfa.example>".parse().unwrap());
        let planned: Vec<Entry> = plan.entries().cloned().collect();
        assert_eq!(planned.iter().map(|entry| entry.kind).collect::<Vec<_>>(), [EventKind::NonDelivery]);
        let standing = |queue_id: &str| {
            let entry = Entry { queue_id: Some(queue_id.into()), ..planned[0].clone() };
            [Recorded { sequence: 9, entry, is_new: false }]
        };
        assert!(plan.overtaken(&standing("4Sxyz2")).is_empty(), "its own, of an earlier attempt");
        let late = plan.overtaken(&standing("4Sxyz3"));
        assert_eq!(late.iter().map(|entry| entry.kind).collect::<Vec<_>>(), [EventKind::LateFailure]);
    }

    #[test]
    fn an_outcome_is_what_was_told_here_or_received_and_no_timeout() {
        let bruno: Address = "bruno@beta.example".parse().unwrap();
        let received = |kind| format!(r#"{{"kind":"{kind}","error":"nessuno","at":1,"reason":null,"mailboxes":[]}}"#);
        let has_outcome = |kind, details: Option<&str>| {
            let entries = [arrival(), entry(kind, Some("bruno@beta.example"), details)];
            Known::of(&entries[0].entry, &entries).unwrap().has_outcome(&bruno, |_| true)
        };
        assert!(has_outcome(EventKind::Delivery, None));
        assert!(has_outcome(EventKind::NonDelivery, None));
        assert!(has_outcome(EventKind::VirusNonDelivery, None));
        assert!(has_outcome(EventKind::NotificationReceived, Some(&received("avvenuta-consegna"))));
        assert!(has_outcome(EventKind::NotificationReceived, Some(&received("errore-consegna"))));
        assert!(!has_outcome(EventKind::NotificationReceived, Some(&received("presa-in-carico"))));
        assert!(!has_outcome(EventKind::TakeCharge, None));
        assert!(!has_outcome(EventKind::FirstTimeout, None));
        assert!(!has_outcome(EventKind::FinalTimeout, None));
    }
}
