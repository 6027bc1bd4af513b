//! The daemon dies, at named points and at any instant, and the certified transaction ends as if it had not.
//!
//! `PEC_CRASH_AT` makes it abort at a point of `src/crash.rs`; Postfix and Dovecot live on. What may be seen of a crash
//! is a second copy of a message, never a second event, a second content, or nothing.

mod support;

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use pec_milter::adapters::sqlite::SqliteLog;
use pec_testbed::{Host, PATIENCE, Port, Received, Testbed, wait_until};
use support::{ELSEWHERE, ENVELOPE, HERE, Letter, SENDER, two_providers};

/// Before anything was decided, in the middle of the edits, and after the last edit before the answer.
const MILTER: [&str; 3] = ["eom-before", "eom-during", "eom-after"];

/// From the offer of the queue file to the answer, in order; the first notification is sent, others are not.
const HOP: [&str; 6] =
    ["hop-begin", "arrival-recorded", "mailbox-stored", "outcomes-recorded", "notification-sent", "before-answer"];

/// The one point between Dovecot's 250 and the commit: plain Postfix and Dovecot have the same window.
const STORED_BUT_NOT_RECORDED: &str = "mailbox-stored";

#[test]
fn transaction_is_refused_for_now_when_the_daemon_dies_in_the_access_milter() {
    two_providers().test(|testbed| {
        let alfa = testbed.host("alfa")?;
        for point in MILTER {
            let letter = Letter::new(point);
            dying_at(alfa, point, || {
                let dialogue = letter.submit(testbed)?;
                ensure!(dialogue.code("message") == Some(451), "{point}: expected 451 at the end, got\n{dialogue}");
                Ok(())
            })?;
            alfa.wait_for_empty_queue().context("what was answered with 451 must not be queued")?;
            ensure!(letter.evidence(testbed)?.messages.is_empty(), "{point}: nothing was accepted, something was sent");

            letter.send(testbed)?;
            let evidence = letter.conclude(testbed).context(point)?;
            evidence.check_single().with_context(|| format!("{point}: as after any accepted submission"))?;
        }
        Ok(())
    });
}

#[test]
fn transaction_ends_once_when_the_senders_daemon_dies_in_the_hop() {
    two_providers().test(|testbed| {
        for point in HOP {
            ends_once(testbed, "alfa", point)?;
        }
        Ok(())
    });
}

#[test]
fn transaction_ends_once_when_the_receivers_daemon_dies_in_the_incoming_milter() {
    two_providers().test(|testbed| {
        for point in MILTER {
            ends_once(testbed, "beta", point)?
                .check_single()
                .with_context(|| format!("{point}: Postfix had nothing"))?;
        }
        Ok(())
    });
}

#[test]
fn transaction_ends_once_when_the_receivers_daemon_dies_in_the_hop() {
    two_providers().test(|testbed| {
        for point in HOP {
            ends_once(testbed, "beta", point)?;
        }
        Ok(())
    });
}

#[test]
fn transaction_ends_once_when_the_senders_daemon_dies_with_a_receipt_in_hand() {
    two_providers().test(|testbed| {
        // What alfa makes itself goes straight to Dovecot: only beta's receipts pass.
        ends_once(testbed, "alfa", "passed").map(drop)
    });
}

/// On its way through the hop, in order: offered, committed, stored.
const NOTICE: [&str; 3] = ["hop-begin", "passing-recorded", "passed"];

#[test]
fn outcome_a_non_acceptance_is_told_once_when_the_daemon_dies_with_its_notice_in_hand() {
    two_providers().test(|testbed| {
        let alfa = testbed.host("alfa")?;
        let mut held = 0;
        for point in NOTICE {
            let msgid = format!("<avviso.{point}@client.alfa.example>");
            let unnamed =
                format!("From: {SENDER}\r\nTo: {HERE}\r\nSubject: {point}\r\nMessage-ID: {msgid}\r\n\r\nCiao\r\n");
            dying_at(alfa, point, || {
                let dialogue =
                    alfa.submit("anna", Port::Submissions, SENDER, &[ELSEWHERE, HERE], unnamed.as_bytes())?;
                ensure!(dialogue.accepted(), "{point}: {dialogue}");
                Ok(())
            })?;
            alfa.flush_queue()?;
            // Postfix was not answered: what is stored already is stored again, as with Postfix and Dovecot alone.
            let copies = if point == "passed" { 2 } else { 1 };
            held += copies;
            let all = testbed.received_when(&[(SENDER, held)]).context(point)?;
            let is_about = |one: &&Received| one.field("X-Riferimento-Message-ID").as_ref() == Some(&msgid);
            let notices: Vec<_> = all.iter().filter(is_about).collect();
            ensure!(notices.len() == copies, "{point}: {} copies", notices.len());
            for notice in &notices {
                ensure!(notice.is("non-accettazione"), "{point}: a {}", notice.kind());
                let is_same = notice.signed_part()? == notices[0].signed_part()?;
                ensure!(is_same && notice.field("Message-ID") == notices[0].field("Message-ID"), "{point}: another");
            }
            testbed.judge(notices.first().copied())?;

            let events = alfa.daemon()?.timeline(&msgid)?;
            let [event] = events.as_slice() else { bail!("{point}: {events:#?}") };
            ensure!(event.kind == "non-acceptance", "{point}: {event:?}");
            ensure!(event.told_by == notices[0].field("Message-ID"), "{point}: {event:?}");
        }
        verify_chain(alfa)
    });
}

#[test]
fn transaction_ends_once_when_both_daemons_are_killed_at_any_instant_under_load() {
    const LETTERS: usize = 60;
    const WRITERS: usize = 4;
    const KILLS: usize = 24;

    two_providers().test(|testbed| {
        let letters: Vec<Letter> = (0..LETTERS).map(|number| Letter::new(&format!("load-{number}"))).collect();
        let next = AtomicUsize::new(0);
        let write = || -> Result<()> {
            while let Some(letter) = letters.get(next.fetch_add(1, Ordering::Relaxed)) {
                // As a mail client does: again, as long as the answer is "not now".
                wait_until("a submission to be accepted", PATIENCE, || {
                    let dialogue = letter.submit(testbed)?;
                    let refusal = dialogue.refusal().filter(|answer| answer.code >= 500);
                    assert!(refusal.is_none(), "a dead daemon must not cause a permanent refusal:\n{dialogue}");
                    ensure!(dialogue.accepted(), "{dialogue}");
                    Ok(())
                })?;
            }
            Ok(())
        };
        let kill = || -> Result<()> {
            for number in 0..KILLS {
                // Not to wait for something: to die at an instant that nobody chose.
                thread::sleep(Duration::from_millis(20 + RandomState::new().hash_one(number) % 400));
                let daemon = testbed.host(if number % 2 == 0 { "alfa" } else { "beta" })?.daemon()?;
                daemon.kill()?;
                daemon.start()?;
            }
            Ok(())
        };
        thread::scope(|scope| {
            let writers: Vec<_> = (0..WRITERS).map(|_| scope.spawn(write)).collect();
            kill()?;
            writers.into_iter().try_for_each(|writer| writer.join().expect("a writer panicked"))
        })?;

        testbed.hosts().iter().try_for_each(Host::flush_queue)?;
        testbed.wait_for_empty_queues()?;
        let messages = testbed.received()?;
        for letter in &letters {
            letter.evidence_among(testbed, &messages)?.check().with_context(|| format!("{letter:?}"))?;
        }
        testbed.judge(&messages)?;
        for name in ["alfa", "beta"] {
            verify_chain(testbed.host(name)?).with_context(|| format!("the chain of {name}'s event log"))?;
        }
        Ok(())
    });
}

/// A letter is sent, and this provider's daemon dies at this point the first time it comes there.
fn ends_once(testbed: &Testbed, provider: &str, point: &str) -> Result<support::Evidence> {
    let letter = Letter::new(&format!("{provider}.{point}"));
    let host = testbed.host(provider)?;
    dying_at(host, point, || letter.send(testbed))?;
    testbed.hosts().iter().try_for_each(Host::flush_queue)?;
    let evidence = letter.conclude(testbed).with_context(|| format!("{provider} died at {point}"))?;
    for mailbox in [HERE, ELSEWHERE] {
        let is_copy = |message: &&Received| message.mailbox == mailbox && message.is(ENVELOPE);
        let copies = evidence.messages.iter().filter(is_copy).count();
        let is_at_the_window = point == STORED_BUT_NOT_RECORDED && mailbox.ends_with(&host.site.domain);
        let expected = if is_at_the_window { 2 } else { 1 };
        ensure!(
            copies == expected,
            "{point}: {mailbox} should have {expected} copies of the envelope, but has {copies}"
        );
    }
    Ok(evidence)
}

/// Does something while the host's daemon is one that dies at this point; then it runs as ever.
fn dying_at(host: &Host, point: &str, act: impl FnOnce() -> Result<()>) -> Result<()> {
    let daemon = host.daemon()?;
    daemon.stop()?;
    daemon.start_with(&[("PEC_CRASH_AT", point)])?;
    act()?;
    daemon.wait_for_end().with_context(|| format!("{} never came to {point}", host.site.domain))?;
    daemon.start()
}

fn verify_chain(host: &Host) -> Result<()> {
    let log = SqliteLog::open_read_only(&host.daemon()?.event_log())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(log.verify_chain())?;
    Ok(())
}
