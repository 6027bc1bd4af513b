//! One certified message from alfa.example to a user of beta.example with a copy to one of its own, and the whole of what
//! must come of it: a test only says what goes wrong meanwhile, and how many copies that may cost.

use std::collections::BTreeMap;

use anyhow::{Result, bail, ensure};
use pec_testbed::smtp::Dialogue;
use pec_testbed::{Event, Host, PATIENCE, Plan, Port, Received, Testbed, wait_until};

pub const SENDER: &str = "anna@alfa.example";
pub const ELSEWHERE: &str = "bruno@beta.example";
pub const HERE: &str = "carla@alfa.example";
const SERVICE: &str = "ricevute@alfa.example";

pub const ENVELOPE: &str = "posta-certificata";
const ACCEPTANCE: &str = "accettazione";
const TAKE_CHARGE: &str = "presa-in-carico";
const DELIVERY: &str = "avvenuta-consegna";

/// The mailboxes that hold something in the end, and what.
const MESSAGES: [(&str, &str, usize); 6] = [
    (SENDER, ACCEPTANCE, 1),
    (SENDER, DELIVERY, 2),
    (HERE, ENVELOPE, 1),
    (ELSEWHERE, ENVELOPE, 1),
    (SERVICE, TAKE_CHARGE, 2),
    ("ricevute@beta.example", TAKE_CHARGE, 0),
];

/// The providers alfa and beta with the users of a [`Letter`].
pub fn two_providers() -> Plan {
    Plan::new(env!("CARGO_BIN_EXE_pec-milter")).provider("alfa", &["anna", "carla"]).provider("beta", &["bruno"])
}

/// A message that anna writes, known by the Message-ID of her client.
#[derive(Debug, Clone)]
pub struct Letter {
    pub msgid: String,
    pub message: Vec<u8>,
}

impl Letter {
    /// `name` distinguishes it from the other letters of the test.
    pub fn new(name: &str) -> Self {
        let msgid = format!("<{name}@client.alfa.example>");
        let message = format!(
            "From: Anna Bianchi <{SENDER}>\r\nTo: {ELSEWHERE}\r\nCc: {HERE}\r\nSubject: Lettera {name}\r\n\
             Date: Mon, 15 Jul 2024 10:30:43 +0200\r\nMessage-ID: {msgid}\r\nMIME-Version: 1.0\r\n\
             Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\nPerché no?\r\n"
        );
        Letter { msgid, message: message.into_bytes() }
    }

    pub fn submit(&self, testbed: &Testbed) -> Result<Dialogue> {
        testbed.host("alfa")?.submit("anna", Port::Submissions, SENDER, &[ELSEWHERE, HERE], &self.message)
    }

    /// Submits it to a provider that must take it.
    pub fn send(&self, testbed: &Testbed) -> Result<()> {
        let dialogue = self.submit(testbed)?;
        ensure!(dialogue.accepted(), "alfa should accept {}:\n{dialogue}", self.msgid);
        Ok(())
    }

    /// Waits until everything has come of it and nothing is under way, and judges all of it.
    pub fn conclude(&self, testbed: &Testbed) -> Result<Evidence> {
        wait_until(&format!("all that comes of {}", self.msgid), PATIENCE, || {
            // Each time: what a dying daemon held may not have been back in the queue the time before.
            testbed.hosts().iter().try_for_each(Host::flush_queue)?;
            self.evidence(testbed)?.check()
        })?;
        testbed.wait_for_empty_queues()?;
        let evidence = self.evidence(testbed)?;
        evidence.check()?;
        testbed.judge(&evidence.messages)?;
        Ok(evidence)
    }

    /// What there is of it now.
    pub fn evidence(&self, testbed: &Testbed) -> Result<Evidence> {
        self.evidence_among(testbed, &testbed.received()?)
    }

    /// What there is of it among these messages and in the logs.
    pub fn evidence_among(&self, testbed: &Testbed, messages: &[Received]) -> Result<Evidence> {
        let timeline = |name| testbed.host(name)?.daemon()?.timeline(&self.msgid);
        let is_ours = |message: &&Received| message.field("X-Riferimento-Message-ID").as_ref() == Some(&self.msgid);
        let messages = messages.iter().filter(is_ours).cloned().collect();
        Ok(Evidence { alfa: timeline("alfa")?, beta: timeline("beta")?, messages })
    }
}

/// The events of both providers about one letter, and the messages of all mailboxes.
#[derive(Debug)]
pub struct Evidence {
    pub alfa: Vec<Event>,
    pub beta: Vec<Event>,
    pub messages: Vec<Received>,
}

/// A message with all its copies: mailbox, kind and Message-ID name it.
type Copies<'a> = BTreeMap<(&'a str, String, String), Vec<&'a Received>>;

impl Evidence {
    /// Every event once and no other; every message that tells one, and no other; all copies of one the same.
    pub fn check(&self) -> Result<()> {
        let on = |kind: &str, recipient: &str| format!("{kind} {recipient}");
        let alone = |kind: &str| kind.to_owned();
        let expected = [alone("acceptance"), alone("arrival"), on("delivery", HERE), on("take-charge", HERE)];
        ensure!(facts(&self.alfa) == expected, "alfa should log {expected:?}, but has {:#?}", self.alfa);
        let expected = [alone("arrival"), on("delivery", ELSEWHERE), on("take-charge", ELSEWHERE)];
        ensure!(facts(&self.beta) == expected, "beta should log {expected:?}, but has {:#?}", self.beta);
        for kind in [TAKE_CHARGE, DELIVERY] {
            let received = format!("received {kind}");
            ensure!(self.alfa.iter().any(|event| event.kind == received), "alfa should log beta's {kind}");
        }

        let copies = self.copies();
        for (mailbox, kind, count) in MESSAGES {
            let found = copies.keys().filter(|(at, is, _)| *at == mailbox && is == kind).count();
            ensure!(found == count, "{mailbox} should have {count} different {kind}, but has {found}");
        }
        let others = copies.len() - MESSAGES.iter().map(|(.., count)| count).sum::<usize>();
        ensure!(others == 0, "{others} messages that nobody should have: {:?}", copies.keys());
        for event in self.alfa.iter().chain(&self.beta) {
            let Some(told_by) = &event.told_by else { continue };
            let is_for_service = event.kind.ends_with("take-charge") || event.kind.ends_with(TAKE_CHARGE);
            let mailbox = if is_for_service { SERVICE } else { SENDER };
            let is_told = copies.keys().any(|(at, _, id)| *at == mailbox && id == told_by);
            ensure!(is_told, "{mailbox} should have {told_by}, which tells {event:?}");
        }
        for (name, copies) in copies {
            let same = copies.iter().all(|copy| signed(copy) == signed(copies[0]));
            ensure!(same, "the copies of {name:?} should be the same octets");
        }
        Ok(())
    }

    /// Nothing lies in a mailbox twice, and no notification was received twice.
    pub fn check_single(&self) -> Result<()> {
        if let Some((name, copies)) = self.copies().into_iter().find(|(_, copies)| copies.len() > 1) {
            bail!("there should be one copy of {name:?}, but there are {}", copies.len());
        }
        let received = self.alfa.iter().filter(|event| event.kind.starts_with("received")).count();
        ensure!(received == 2, "alfa should receive two notifications, but has {:#?}", self.alfa);
        Ok(())
    }

    fn copies(&self) -> Copies<'_> {
        let mut copies = Copies::new();
        for message in &self.messages {
            let id = message.field("Message-ID").unwrap_or_default();
            copies.entry((&message.mailbox, message.kind(), id)).or_default().push(message);
        }
        copies
    }
}

/// The provider's own events. A notification that another provider sent again is received again.
fn facts(events: &[Event]) -> Vec<String> {
    let own = events.iter().filter(|event| !event.kind.starts_with("received"));
    let mut facts: Vec<String> = own
        .map(|event| match &event.recipient {
            Some(recipient) => format!("{} {recipient}", event.kind),
            None => event.kind.clone(),
        })
        .collect();
    facts.sort();
    facts
}

/// Signed part and signature: everything below the header.
fn signed(message: &Received) -> &[u8] {
    message.bytes.get(message.header().len()..).unwrap_or_default()
}
