//! One attempt at a queue file: whom it is for, and what each recipient is answered. Pure.
//!
//! A recipient is a trigger, or a mailbox. Its place among the recipients of the LMTP transaction names it throughout,
//! because an address may stand there twice: two aliases can lead to one mailbox.

use std::collections::HashSet;
use std::sync::Arc;

use crate::message::Pieces;
use crate::message::certification_data::TransactionFacts;
use crate::model::Address;
use crate::operations::current::Current;
use crate::operations::ports::{Mail, MailRecipient, QueueFile, Reply};
use crate::operations::triggers::Trigger;

/// A queue file as Postfix offers it now, with what this attempt works with.
pub struct Attempt<'a> {
    pub current: Arc<Current>,
    pub file: &'a QueueFile,
    pub locals: Vec<Local>,
    pub triggers: Triggers,
}

/// A recipient of the queue file that is a mailbox.
#[derive(Debug, Clone)]
pub struct Local {
    /// Its place among the recipients of the LMTP transaction.
    pub index: usize,
    pub recipient: MailRecipient,
    /// As the sender named it, before aliases.
    pub named: String,
}

/// The triggers of a queue file, each with its place.
#[derive(Debug, Default)]
pub struct Triggers(Vec<(usize, Trigger)>);

/// The mailboxes of an envelope, by what its certification data say of them.
#[derive(Debug, Default)]
pub struct Addressed {
    /// Those of certified recipients.
    pub listed: Vec<Local>,
    /// Those of ordinary recipients, whose domain Postfix hosts, too. Nothing is certified about them.
    pub ordinary: Vec<Local>,
    /// Those of nobody who is named: Postfix was told to send them a copy (`always_bcc`). Nothing is certified about them.
    pub copies: Vec<Local>,
    /// Those of nobody who is named, and who may yet be meant: Postfix tells the original recipient of each, its own
    /// copies included, unless it was told to hide them.
    pub unnamed: Vec<Local>,
}

impl<'a> Attempt<'a> {
    pub fn at(file: &'a QueueFile, current: Arc<Current>) -> Self {
        let (mut locals, mut triggers) = (Vec::new(), Triggers::default());
        for (index, recipient) in file.recipients.iter().enumerate() {
            match Trigger::from_address(&recipient.address) {
                Some(trigger) => triggers.0.push((index, trigger)),
                None => locals.push(Local { index, named: named(recipient), recipient: recipient.clone() }),
            }
        }
        Attempt { current, file, locals, triggers }
    }

    pub fn queue_id(&self) -> &'a str {
        &self.file.queue_id
    }

    /// The mailboxes as the sender named them.
    pub fn named(&self) -> Vec<String> {
        self.locals.iter().map(|local| local.named.clone()).collect()
    }

    /// The mailboxes apart, by what is certified of the message.
    pub fn addressed(&self, facts: &TransactionFacts) -> Addressed {
        let mut addressed = Addressed::default();
        for local in &self.locals {
            let class = match local.address() {
                Some(address) if facts.certifies(&address) => &mut addressed.listed,
                Some(address) if facts.names(&address) => &mut addressed.ordinary,
                _ if local.recipient.orcpt.is_some() => &mut addressed.copies,
                _ => &mut addressed.unnamed,
            };
            class.push(local.clone());
        }
        addressed
    }

    /// The message for some of its mailboxes.
    pub fn mail(&self, locals: &[Local]) -> Mail {
        Mail {
            sender: self.file.sender.clone(),
            recipients: locals.iter().map(|local| local.recipient.clone()).collect(),
            eight_bit: self.file.eight_bit,
            message: Pieces::from(self.file.message.clone()),
        }
    }

    /// One reply per recipient: what was decided for it, a 4xx before anything else, 250 where nothing stands against it.
    pub fn in_order(&self, replies: &[(usize, Reply)]) -> Vec<Reply> {
        let answer = |index| {
            let of_index = replies.iter().filter(|(place, _)| *place == index).map(|(_, reply)| reply);
            let worst = of_index.min_by_key(|reply| if (400..500).contains(&reply.code) { 0 } else { 1 });
            worst.cloned().unwrap_or_else(|| Reply::new(250, "2.0.0 done"))
        };
        (0..self.file.recipients.len()).map(answer).collect()
    }
}

impl Addressed {
    /// Whether there are mailboxes, and the envelope certifies something of none of them.
    pub fn are_all_beside(&self) -> bool {
        let beside = [&self.ordinary, &self.copies, &self.unnamed];
        self.listed.is_empty() && beside.into_iter().any(|locals| !locals.is_empty())
    }
}

impl Triggers {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn has(&self, trigger: Trigger) -> bool {
        self.kinds().any(|one| one == trigger)
    }

    /// Whether there are triggers, and all are this one.
    pub fn are_only(&self, trigger: Trigger) -> bool {
        !self.is_empty() && self.kinds().all(|one| one == trigger)
    }

    pub fn kinds(&self) -> impl Iterator<Item = Trigger> {
        self.0.iter().map(|(_, trigger)| *trigger)
    }

    /// The places of one trigger.
    pub fn places(&self, trigger: Trigger) -> Vec<usize> {
        self.0.iter().filter(|(_, one)| *one == trigger).map(|(index, _)| *index).collect()
    }
}

impl Local {
    pub fn address(&self) -> Option<Address> {
        self.named.parse().ok()
    }

    pub fn is(&self, recipient: &Address) -> bool {
        self.address().as_ref() == Some(recipient)
    }
}

/// The recipients as their sender named them, each once.
pub fn distinct(locals: &[Local]) -> Vec<Address> {
    let mut seen = HashSet::new();
    locals.iter().filter_map(Local::address).filter(|address| seen.insert(address.clone())).collect()
}

pub fn places(locals: &[Local]) -> Vec<usize> {
    locals.iter().map(|local| local.index).collect()
}

/// The address the sender named: `ORCPT`, which Postfix sets where an alias rewrote it (RFC 3461 §4.2).
fn named(recipient: &MailRecipient) -> String {
    let original = recipient.orcpt.as_deref().and_then(|value| {
        let (kind, text) = value.split_once(';')?;
        kind.eq_ignore_ascii_case("rfc822").then(|| xtext(text))?
    });
    original.filter(|text| text.parse::<Address>().is_ok()).unwrap_or_else(|| recipient.address.clone())
}

/// Decodes xtext (RFC 3461 §4); `None` where it is damaged.
pub fn xtext(text: &str) -> Option<String> {
    let mut decoded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('+') {
        decoded.push_str(before);
        let byte = u8::from_str_radix(after.get(..2)?, 16).ok()?;
        decoded.push(char::from(byte));
        rest = after.get(2..)?;
    }
    decoded.push_str(rest);
    Some(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipient(address: &str, orcpt: Option<&str>) -> MailRecipient {
        MailRecipient { address: address.into(), orcpt: orcpt.map(str::to_owned) }
    }

    #[test]
    fn the_recipient_that_counts_is_the_one_the_sender_named() {
        assert_eq!(named(&recipient("a@x.example", None)), "a@x.example");
        assert_eq!(named(&recipient("a@x.example", Some("rfc822;ufficio@x.example"))), "ufficio@x.example");
        assert_eq!(named(&recipient("a@x.example", Some("RFC822;u+2Bv@x.example"))), "u+v@x.example");
        for damaged in ["rfc822;", "rfc822;+zz@x.example", "x400;c=it", "rfc822;+2", "nonsense"] {
            assert_eq!(named(&recipient("a@x.example", Some(damaged))), "a@x.example", "{damaged}");
        }
    }
}
