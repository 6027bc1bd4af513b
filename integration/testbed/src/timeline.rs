//! What `pec-milter log show` prints, read back: one [`Event`] per line of a timeline.
//!
//! A line that is not of the printed form is an error, so a test never overlooks an event.

use anyhow::{Context, Result};

/// One event of a transaction, as an administrator sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// `dd/mm/yyyy hh:mm:ss +hhmm`.
    pub instant: String,
    /// As in `delivery`; of another provider's notification as in `received avvenuta-consegna`.
    pub kind: String,
    pub recipient: Option<String>,
    /// The Message-ID of the notification that tells it, with angle brackets.
    pub told_by: Option<String>,
    pub queue_id: Option<String>,
    /// Its place in the log.
    pub sequence: u64,
}

/// The events of a timeline; those of an unknown transaction are none.
pub fn read(timeline: &str) -> Result<Vec<Event>> {
    // The facts of the transaction stand above an empty line.
    let events = timeline.split_once("\n\n").map(|(_, events)| events).unwrap_or_default();
    events.lines().map(|line| event(line).with_context(|| format!("no event: {line:?}"))).collect()
}

fn event(line: &str) -> Option<Event> {
    let (line, sequence) = line.rsplit_once(" #")?;
    let (line, queue_id) = ending(line, " queue ");
    // The provider's name may hold anything but stands between brackets.
    let line = line.split_once(" [").map_or(line, |(before, _)| before);
    let (line, told_by) = ending(line, " told by ");
    let mut words = line.split_whitespace();
    let instant = [words.next()?, words.next()?, words.next()?].join(" ");
    let mut kind = words.next()?.to_owned();
    if kind == "received" {
        kind = format!("{kind} {}", words.next()?);
    }
    let recipient = words.next().map(str::to_owned);
    let is_whole = words.next().is_none();
    is_whole.then_some(Event { instant, kind, recipient, told_by, queue_id, sequence: sequence.parse().ok()? })
}

fn ending<'a>(line: &'a str, mark: &str) -> (&'a str, Option<String>) {
    match line.rsplit_once(mark) {
        Some((before, value)) => (before, Some(value.to_owned())),
        None => (line, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_printed_column_is_read() {
        let timeline = "transaction  id\nsubject      a\n\n\
            15/07/2024 10:30:45 +0200  delivery               b@x.example told by <n@x.example> [B [2] S.p.A.] queue Q1 #7\n\
            15/07/2024 10:30:46 +0200  received presa-in-carico [B] queue Q2 #8\n";
        let [delivery, received] = &read(timeline).unwrap()[..] else { panic!("two events") };
        assert_eq!((delivery.kind.as_str(), delivery.recipient.as_deref()), ("delivery", Some("b@x.example")));
        assert_eq!((delivery.told_by.as_deref(), delivery.queue_id.as_deref()), (Some("<n@x.example>"), Some("Q1")));
        assert_eq!((delivery.instant.as_str(), delivery.sequence), ("15/07/2024 10:30:45 +0200", 7));
        assert_eq!((received.kind.as_str(), &received.recipient), ("received presa-in-carico", &None));
        assert!(read("no entry for x\n").unwrap().is_empty());
        assert!(read("x\n\nsomething else\n").is_err());
    }
}
