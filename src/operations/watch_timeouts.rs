//! The watch over accepted transactions (§3.1.6): the sender is told when nothing is heard of a recipient.
//!
//! A pass records every notice that is owed, then sends every notice that is recorded and not sent; so what a crash left
//! between the two is sent by the first pass after it, in the same octets. That a notice went out is remembered after it
//! did: killed in between, it goes out a second time, with the same Message-ID. Between passes the task sleeps until the
//! next notice is due. Whatever fails is logged, stays as it is, and is tried again at growing intervals.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{error, info};

use super::current::{Current, Handle};
use super::deliver::receipts::{self, Original, Transaction};
use super::ports::{EventLog, Injection, Instruments, LogError, Mailboxes, Reply, Watch, Watched};
use super::telling::{self, TellingError};
use crate::crash;
use crate::legal_log::{Entry, EventKind, Recorded, Slot};
use crate::message::notification::TimeoutNotice;
use crate::model::{PecMsgid, TemporalReference};
use crate::transaction::Progress;

/// Instants are whole seconds, so nothing is gained by looking more often.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);

/// A clock that was set, or a machine that slept, is noticed after this at the latest.
const LONGEST_PAUSE: Duration = Duration::from_secs(600);

/// After a failure the next pass comes after a second, then after twice as long each time, up to this.
const LONGEST_RETRY: Duration = Duration::from_secs(300);

/// The task with everything it talks to.
pub struct TimeoutWatch<L, M, I, T> {
    pub current: Handle,
    pub log: Arc<L>,
    pub mailboxes: M,
    pub injection: I,
    pub instruments: T,
}

/// Why one notice, or all of them, must wait.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Telling(#[from] TellingError),
    #[error("the log holds no readable arrival of {0}, or one without its recipient")]
    NoFacts(PecMsgid),
    #[error("row {0} of the log is no notice that could be sent")]
    NoNotice(i64),
    #[error("the notice could not be sent: {0}")]
    NotSent(Reply),
}

impl<L: EventLog + Watch, M: Mailboxes, I: Injection, T: Instruments> TimeoutWatch<L, M, I, T> {
    /// Watches until it is told to stop.
    pub async fn run(&self, mut stopping: watch::Receiver<bool>) {
        let mut retry = SHORTEST_PAUSE;
        while !*stopping.borrow() {
            let failures = self.pass(&stopping).await;
            let next = match failures {
                0 => self.until_next().await,
                _ => Err(()),
            };
            let rest = async {
                sleep(SHORTEST_PAUSE).await;
                match next {
                    Ok(pause) => tokio::select! {
                        () = self.log.accepted() => {}
                        () = sleep(pause.saturating_sub(SHORTEST_PAUSE)) => {}
                    },
                    Err(()) => sleep(retry.saturating_sub(SHORTEST_PAUSE)).await,
                }
            };
            tokio::select! {
                _ = stopping.wait_for(|stop| *stop) => return,
                () = rest => {}
            }
            retry = if next.is_ok() { SHORTEST_PAUSE } else { (retry * 2).min(LONGEST_RETRY) };
        }
    }

    /// Records what is owed, sends what is recorded; returns how much of it failed.
    async fn pass(&self, stopping: &watch::Receiver<bool>) -> usize {
        let current = self.current.now();
        let mut failures = 0;
        for progress in Progress::OPEN {
            let recorded = self.record_owed(&current, progress, stopping, &mut failures).await;
            failures += reported(recorded, "timeout notices are not recorded, it will be tried again");
        }
        let sent = self.send_unsent(&current, stopping, &mut failures).await;
        failures + reported(sent, "timeout notices are not sent, it will be tried again")
    }

    /// Page after page of those that are due: a notice for each, in one commit for a page.
    async fn record_owed(
        &self,
        current: &Current,
        progress: Progress,
        stopping: &watch::Receiver<bool>,
        failures: &mut usize,
    ) -> Result<(), Fault> {
        let Some(age) = current.timeouts.next_after(progress) else { return Ok(()) };
        let now = self.instruments.now();
        let mut transaction = Last::default();
        let mut after = None;
        while !*stopping.borrow() {
            let page = self.log.open(progress, earlier(now, age), after).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.clone());
            let mut notices = Vec::with_capacity(page.len());
            for watched in &page {
                match self.owed(current, watched, now, &mut transaction).await {
                    Ok(notice) => notices.extend(notice),
                    Err(fault) => *failures += reported(Err(fault), "a timeout notice is not recorded"),
                }
            }
            for Recorded { sequence, entry, .. } in self.log.record_owed(notices).await? {
                let (kind, recipient) = (entry.kind.name(), entry.recipient.unwrap_or_default());
                let id = entry.pec_msgid.as_ref().map(PecMsgid::as_str).unwrap_or_default();
                info!(%id, recipient, kind, sequence, "nothing was heard of a recipient");
                crash::point("timeout-recorded");
            }
        }
        Ok(())
    }

    /// The notice that is owed about one recipient.
    async fn owed(
        &self,
        current: &Current,
        watched: &Watched,
        now: TemporalReference,
        transaction: &mut Last,
    ) -> Result<Option<Entry>, Fault> {
        let elapsed = u64::try_from(now.unix().saturating_sub(watched.accepted.unix())).unwrap_or_default();
        let Some(notice) = current.timeouts.owed(watched.progress, elapsed) else { return Ok(None) };
        let facts = &transaction.of(&*self.log, &watched.id).await?.facts;
        let recipient = facts.recipients.iter().find(|one| one.address == watched.recipient);
        let recipient = &recipient.ok_or_else(|| Fault::NoFacts(watched.id.clone()))?.address;
        let kind = match notice {
            TimeoutNotice::First => EventKind::FirstTimeout,
            TimeoutNotice::Final => EventKind::FinalTimeout,
        };
        Ok(Some(Entry {
            kind,
            at: now,
            queue_id: None,
            pec_msgid: Some(facts.id.clone()),
            client_msgid: facts.msgid.clone(),
            sender: Some(facts.sender.to_string()),
            recipient: Some(recipient.to_string()),
            subject: facts.subject.clone(),
            notification: Some(telling::new_id(current, self.instruments.chance(), now)),
            provider: Some(current.provider.name.clone()),
            issuer: Some(current.provider.name.clone()),
            details: None,
            slot: Some(Slot::timeout(&facts.id, recipient, kind)),
        }))
    }

    async fn send_unsent(
        &self,
        current: &Arc<Current>,
        stopping: &watch::Receiver<bool>,
        failures: &mut usize,
    ) -> Result<(), Fault> {
        let mut transaction = Last::default();
        let mut after = 0;
        loop {
            let page = self.log.unsent(after).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = last.sequence;
            for recorded in &page {
                if *stopping.borrow() {
                    return Ok(());
                }
                let sent = self.send(current, recorded, &mut transaction).await;
                *failures += reported(sent, "a timeout notice is not sent, it will be tried again");
            }
        }
    }

    async fn send(&self, current: &Arc<Current>, recorded: &Recorded, transaction: &mut Last) -> Result<(), Fault> {
        let id = recorded.entry.pec_msgid.as_ref().ok_or(Fault::NoNotice(recorded.sequence))?;
        let known = transaction.of(&*self.log, id).await?;
        let notification = receipts::notification(known, &Original::default(), &recorded.entry);
        let notification = notification.ok_or(Fault::NoNotice(recorded.sequence))?;
        let (kind, to, own_id) = (recorded.entry.kind.name(), notification.to.clone(), notification.id.clone());
        let reply =
            telling::tell(current, &self.mailboxes, &self.injection, notification, self.instruments.now()).await?;
        if !reply.is_positive() {
            return Err(Fault::NotSent(reply));
        }
        crash::point("timeout-sent");
        info!(%id, kind, notification = %own_id, %to, "notification sent");
        Ok(self.log.mark_sent(recorded.sequence).await?)
    }

    /// How long nothing will be due, if nothing is accepted meanwhile.
    async fn until_next(&self) -> Result<Duration, ()> {
        let current = self.current.now();
        let mut next = LONGEST_PAUSE;
        for progress in Progress::OPEN {
            let earliest = self.log.earliest(progress).await;
            let earliest =
                earliest.map_err(|error| _ = reported(Err(error.into()), "the next timeout is not known"))?;
            if let (Some(accepted), Some(age)) = (earliest, current.timeouts.next_after(progress)) {
                let due = accepted.unix().saturating_add_unsigned(age);
                let left = due.saturating_sub(self.instruments.now().unix());
                next = next.min(Duration::from_secs(u64::try_from(left).unwrap_or_default()));
            }
        }
        Ok(next)
    }
}

/// The transaction that was asked for last: those of one transaction come one after the other.
#[derive(Default)]
struct Last(Option<Transaction>);

impl Last {
    async fn of(&mut self, log: &impl EventLog, id: &PecMsgid) -> Result<&Transaction, Fault> {
        if self.0.as_ref().is_none_or(|known| known.facts.id != *id) {
            let entries = log.of_transaction(id).await?;
            self.0 = entries.iter().find_map(|one| Transaction::of(&one.entry));
        }
        self.0.as_ref().ok_or_else(|| Fault::NoFacts(id.clone()))
    }
}

fn earlier(now: TemporalReference, seconds: u64) -> TemporalReference {
    TemporalReference::from_unix(now.unix().saturating_sub_unsigned(seconds))
}

/// Tells the administrator of a failure; returns how many there were.
fn reported(result: Result<(), Fault>, what: &str) -> usize {
    let Err(fault) = result else { return 0 };
    error!(fault = &fault as &dyn std::error::Error, "{what}");
    1
}

#[cfg(test)]
mod tests;
