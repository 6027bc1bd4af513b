//! Postfix's own report about an envelope in the hop (§3.3.3): one notice for each recipient that will not get it.
//!
//! The bounces milter gave the report its trigger. It comes when another server refused, when no server could be found,
//! or when the queue lifetime was over (§2.2.2), also for mailboxes here. What is certified comes from the log: the
//! arrival of the envelope tells the transaction, and only its recipients are believed to have failed.
//!
//! A recipient that has its outcome gets no second one: that is recorded and not told. A report about an envelope that
//! the log does not know yet waits in Postfix's queue, for it may have overtaken the envelope itself.

use std::collections::HashSet;
use std::sync::Arc;

use tracing::{error, info, warn};

use super::entries::{ArrivalDetails, ReportAuthor, details};
use super::envelope::{Telling, in_order};
use super::{Fault, Hop, Local, receipts, xtext};
use crate::crash;
use crate::delivery_point::reported_failure;
use crate::legal_log::{Entry, EventKind, Recorded};
use crate::message::certification_data::TransactionFacts;
use crate::message::delivery_status::{Action, DeliveryStatus, RecipientStatus};
use crate::message::header::Header;
use crate::model::Address;
use crate::operations::current::Current;
use crate::operations::ports::{EventLog, Injection, Instruments, Mailboxes, QueueFile, Reply};
use crate::operations::triggers::{Trigger, is_internal};
use crate::transaction::told;

/// What the log knows of the transaction that is reported about.
struct Known<'a> {
    arrival: &'a Entry,
    facts: TransactionFacts,
    mail_receipt: Address,
    entries: &'a [Recorded],
}

impl<L: EventLog, M: Mailboxes, I: Injection, T: Instruments> Hop<L, M, I, T> {
    pub(super) async fn deliver_report(
        &self,
        current: &Arc<Current>,
        file: &QueueFile,
        locals: Vec<Local>,
        triggers: &[(usize, Trigger)],
    ) -> Result<Vec<Reply>, Fault> {
        let [(place, Trigger::NonDelivery)] = triggers else {
            return Err(Fault::TriggerWithoutEnvelope("a report of Postfix".to_owned()));
        };
        if !is_written_by_postfix(&file.message) {
            return Err(Fault::NoReport);
        }
        let report = DeliveryStatus::read(file.message.clone()).ok_or(Fault::NoReport)?;
        let id = report.envelope().ok_or(Fault::NoReport)?;
        let entries = self.log.of_transaction(&id).await?;
        // What the returned message calls itself proves nothing; that its queue file arrived here as this transaction does.
        let is_reported = |entry: &Entry| entry.kind == EventKind::Arrival && entry.queue_id == report.queue_id;
        let arrival = entries.iter().find(|one| is_reported(&one.entry));
        let arrival = &arrival.ok_or(Fault::UnknownTransaction(id))?.entry;
        let known = Known::of(arrival, &entries).ok_or(Fault::UnreadableArrival)?;

        let failed = known.failed(&file.queue_id, &report, |address| current.manages(address));
        let recorded = self.record_failures(current, file, &known, &failed).await?;
        crash::point("failures-recorded");
        let tellings = known.tellings(current, &recorded, *place);
        let mut replies = self.tell(current, file, tellings).await?;
        // A copy that the administrator has Postfix make of everything is none of this.
        let places: Vec<usize> = locals.iter().map(|local| local.index).collect();
        if !locals.is_empty() {
            replies.extend(places.into_iter().zip(self.pass(file, locals).await));
        }
        Ok(in_order(file, replies))
    }

    /// Commits the failures; returns the entries of this report that are to be told.
    async fn record_failures(
        &self,
        current: &Current,
        file: &QueueFile,
        known: &Known<'_>,
        failed: &[(Address, &RecipientStatus)],
    ) -> Result<Vec<Recorded>, Fault> {
        let queue_id = file.queue_id.as_str();
        let author = ReportAuthor { queue_id, arrival: known.arrival, id: &known.facts.id, at: self.instruments.now() };
        let is_of_this_report = |entry: &Entry| entry.queue_id.as_deref() == Some(queue_id);
        let take_charge_id = self.new_id(current);
        let mut batch = Vec::new();
        for (recipient, status) in failed {
            // Postfix sent the envelope elsewhere, or nowhere, before the hop saw this recipient of ours.
            if current.manages(recipient) {
                batch.push(author.take_charge(recipient, take_charge_id.clone()));
            }
            // What an earlier attempt committed is told, whatever was heard since.
            let is_committed = known.has_outcome(recipient, |entry| is_of_this_report(entry));
            if !is_committed && known.has_outcome(recipient, |_| true) {
                batch.push(author.late_failure(recipient, status));
            } else {
                let failure = reported_failure(&status.status);
                batch.push(author.non_delivery(recipient, status, &failure, self.new_id(current)));
            }
        }
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let wanted: Vec<EventKind> = batch.iter().map(|entry| entry.kind).collect();
        let recorded = self.log.record(batch).await?;

        // Two reports at once: the other one was first.
        let overtaken = recorded
            .iter()
            .zip(&wanted)
            .filter(|(one, wanted)| **wanted == EventKind::NonDelivery && !is_of_this_report(&one.entry));
        let overtaken: Vec<Option<Address>> =
            overtaken.map(|(one, _)| one.entry.recipient.as_ref()?.parse().ok()).collect();
        let late: Vec<Entry> = failed
            .iter()
            .filter(|(recipient, _)| overtaken.contains(&Some(recipient.clone())))
            .map(|(recipient, status)| author.late_failure(recipient, status))
            .collect();
        if !late.is_empty() {
            self.log.record(late).await?;
        }
        for (one, wanted) in recorded.iter().zip(&wanted) {
            let recipient = one.entry.recipient.as_deref().unwrap_or_default();
            let id = &known.facts.id;
            match wanted {
                EventKind::LateFailure => {
                    warn!(queue_id, %id, recipient, "Postfix reports a failure after the outcome, nothing is told")
                }
                EventKind::NonDelivery => {
                    info!(queue_id, %id, recipient, is_new = one.is_new, "Postfix reports a failure")
                }
                _ => {}
            }
        }
        Ok(recorded.into_iter().filter(|one| is_of_this_report(&one.entry)).collect())
    }
}

impl<'a> Known<'a> {
    fn of(arrival: &'a Entry, entries: &'a [Recorded]) -> Option<Self> {
        let facts = ArrivalDetails::facts(arrival)?;
        let mail_receipt = details::<ArrivalDetails>(arrival)?.mail_receipt.parse().ok()?;
        Some(Known { arrival, facts, mail_receipt, entries })
    }

    /// The recipients of the transaction that the report says have failed, each once, and that are ours to tell of: all
    /// of them where we accepted the message, those of our domains otherwise.
    fn failed<'r>(
        &self,
        queue_id: &str,
        report: &'r DeliveryStatus,
        manages: impl Fn(&Address) -> bool,
    ) -> Vec<(Address, &'r RecipientStatus)> {
        let id = &self.facts.id;
        let is_accepted = self.entries.iter().any(|one| one.entry.kind == EventKind::Acceptance);
        let mut seen = HashSet::new();
        let mut failed = Vec::new();
        for status in report.recipients.iter().filter(|one| one.action == Action::Failed) {
            let Some(recipient) = self.named(status) else {
                let address = status.last.as_ref().or(status.original.as_ref());
                let address = address.map(Address::as_str).unwrap_or_default();
                if is_internal(address) {
                    error!(queue_id, %id, address, "Postfix gave up what this trigger stands for");
                } else {
                    warn!(queue_id, %id, address, "Postfix reports a failure for no recipient of the transaction");
                }
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

    /// The recipient of the transaction that a report means: as its sender named it, before aliases.
    fn named(&self, status: &RecipientStatus) -> Option<&Address> {
        // Postfix writes ORCPT as it stands in its queue, which may be in xtext.
        let decoded = status.original.as_ref().and_then(|original| xtext(original.as_str())?.parse().ok());
        let candidates = [status.original.as_ref(), decoded.as_ref(), status.last.as_ref()];
        let recipients = &self.facts.recipients;
        candidates.into_iter().flatten().find_map(|candidate| {
            recipients.iter().map(|recipient| &recipient.address).find(|address| *address == candidate)
        })
    }

    /// Whether an entry of these tells how it ended for a recipient. A timeout notice tells nothing of that (§3.1.6).
    fn has_outcome(&self, recipient: &Address, among: impl Fn(&Entry) -> bool) -> bool {
        let entries = self.entries.iter().map(|one| &one.entry).filter(|entry| among(entry));
        let mut ends = entries.filter(|entry| entry.kind != EventKind::FinalTimeout).flat_map(told);
        ends.any(|(about, progress)| about == *recipient && !progress.is_open())
    }

    fn tellings(&self, current: &Current, recorded: &[Recorded], place: usize) -> Vec<Telling> {
        let mut notifications = receipts::take_charges(current, &self.facts, &self.mail_receipt, recorded);
        let failures = recorded.iter().filter(|one| one.entry.kind == EventKind::NonDelivery);
        notifications
            .extend(failures.filter_map(|one| receipts::non_delivery_notice(current, &self.facts, &one.entry)));
        notifications.into_iter().map(|notification| Telling { notification, answers: vec![place] }).collect()
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
            kind,
            at: TemporalReference::from_unix(1_700_000_000),
            queue_id: Some("4Sxyz1".into()),
            pec_msgid: Some("pec.1@alfa.example".parse().unwrap()),
            client_msgid: None,
            sender: Some("anna@alfa.example".into()),
            recipient: recipient.map(str::to_owned),
            subject: None,
            notification: None,
            provider: Some("Alfa".into()),
            details: details.map(str::to_owned),
            slot: None,
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
