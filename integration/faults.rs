//! What the daemon works with fails for a while: the event log, Dovecot, Postfix, the daemon itself.
//!
//! Mail waits in Postfix's queue or with the sender meanwhile, nothing is certified that is not recorded, and afterwards
//! everything comes, once.

mod support;

use std::fs;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use pec_milter::adapters::sqlite::SqliteLog;
use pec_milter::legal_log::{EventKind, Recorded};
use pec_testbed::disk::SmallDisk;
use pec_testbed::smtp::Smtp;
use pec_testbed::{Daemon, Host, PATIENCE, Port, Testbed, wait_until};
use rusqlite::Connection;
use support::{ELSEWHERE, HERE, Letter, SENDER, two_providers};

#[test]
fn transaction_waits_while_another_process_locks_the_senders_event_log() {
    two_providers().test(|testbed| waits_for_the_log(testbed, "alfa", locked));
}

#[test]
fn transaction_waits_while_another_process_locks_the_receivers_event_log() {
    two_providers().test(|testbed| waits_for_the_log(testbed, "beta", locked));
}

#[test]
fn transaction_waits_while_the_disk_of_the_senders_event_log_is_full() {
    two_providers().test(|testbed| waits_for_the_log(testbed, "alfa", on_a_full_disk));
}

#[test]
fn transaction_waits_while_the_disk_of_the_receivers_event_log_is_full() {
    two_providers().test(|testbed| waits_for_the_log(testbed, "beta", on_a_full_disk));
}

#[test]
fn transaction_is_taken_in_charge_while_dovecot_is_down_and_delivered_once_afterwards() {
    two_providers().test(|testbed| {
        let (beta, letter) = (testbed.host("beta")?, Letter::new("dovecot-down"));
        beta.stop_dovecot()?;
        letter.send(testbed)?;
        wait_until("beta's take-charge at alfa while beta has no mailboxes", PATIENCE, || {
            let alfa = testbed.host("alfa")?.daemon()?.timeline(&letter.msgid)?;
            ensure!(alfa.iter().any(|event| event.kind == "received presa-in-carico"), "{alfa:#?}");
            Ok(())
        })?;
        let queue = beta.queue()?;
        ensure!(queue.contains(ELSEWHERE), "the envelope should wait in beta's queue, which holds\n{queue}");
        let events = beta.daemon()?.timeline(&letter.msgid)?;
        ensure!(
            events.iter().all(|event| event.kind != "delivery"),
            "nothing is delivered, but the log has {events:#?}"
        );

        beta.start_dovecot()?;
        beta.flush_queue()?;
        letter.conclude(testbed)?.check_single()
    });
}

#[test]
fn transaction_is_accepted_while_the_senders_dovecot_is_down_and_told_afterwards() {
    two_providers().test(|testbed| {
        let (alfa, letter) = (testbed.host("alfa")?, Letter::new("own-dovecot-down"));
        // Dovecot checks passwords, so the session begins before it stops.
        let mut session = logged_in(alfa)?;
        alfa.stop_dovecot()?;
        submit_over(&mut session, &letter)?;
        wait_until("the acceptance to wait in alfa's queue", PATIENCE, || {
            let queue = alfa.queue()?;
            ensure!(queue.contains("posta-certificata@alfa.example") && queue.contains(SENDER), "{queue}");
            Ok(())
        })?;

        alfa.start_dovecot()?;
        alfa.flush_queue()?;
        letter.conclude(testbed)?.check_single()
    });
}

#[test]
fn transaction_survives_a_restart_of_dovecot_between_two_messages_without_a_deferral() {
    two_providers().test(|testbed| {
        let (first, second) = (Letter::new("before-the-restart"), Letter::new("after-the-restart"));
        first.send(testbed)?;
        first.conclude(testbed)?.check_single()?;
        // The daemons keep connections to the Dovecot that ends here.
        for host in testbed.hosts() {
            host.stop_dovecot()?;
            host.start_dovecot()?;
        }
        second.send(testbed)?;
        second.conclude(testbed)?.check_single()?;
        for host in testbed.hosts() {
            let log = host.postfix_log()?;
            let deferral = log.lines().find(|line| line.contains("status=deferred"));
            ensure!(deferral.is_none(), "a closed connection should cost nothing, but {deferral:?}");
        }
        Ok(())
    });
}

#[test]
fn transaction_receipts_that_postfix_does_not_take_are_sent_later_unchanged() {
    two_providers().test(|testbed| {
        let (beta, letter) = (testbed.host("beta")?, Letter::new("injection-closed"));
        let told_by = |kind: &str| -> Result<Vec<Option<String>>> {
            let events = beta.daemon()?.timeline(&letter.msgid)?;
            Ok(events.into_iter().filter(|event| event.kind == kind).map(|event| event.told_by).collect())
        };
        let before = beta.with_port_closed(Port::Inject, || {
            letter.send(testbed)?;
            wait_for_words(beta.daemon()?, "kind=\"avvenuta-consegna\"", "notification not sent")?;
            let queue = beta.queue()?;
            ensure!(
                queue.contains(ELSEWHERE),
                "the recipient should not be answered yet, but the queue holds\n{queue}"
            );
            Ok([told_by("take-charge")?, told_by("delivery")?])
        })?;

        beta.flush_queue()?;
        letter.conclude(testbed)?.check_single().context("bruno's mailbox took the envelope at the first attempt")?;
        let after = [told_by("take-charge")?, told_by("delivery")?];
        ensure!(before == after, "recorded were the Message-IDs {before:?}, sent were {after:?}");
        Ok(())
    });
}

#[test]
fn transaction_is_refused_for_now_and_at_once_while_the_daemon_is_down() {
    two_providers().test(|testbed| {
        let (alfa, beta, letter) = (testbed.host("alfa")?, testbed.host("beta")?, Letter::new("daemon-down"));
        let mut session = logged_in(alfa)?;
        alfa.daemon()?.stop()?;
        let asked = Instant::now();
        let answer = session.command(&format!("MAIL FROM:<{SENDER}>"))?;
        ensure!(answer.code == 451, "a session that is open gets 451 at MAIL, but got {} {}", answer.code, answer.text);
        // Postfix says it at the first command that matters: AUTH, which has a code of its own for "not now" (RFC 4954 §6).
        let dialogue = letter.submit(testbed)?;
        ensure!(
            dialogue.code("AUTH") == Some(454) && !dialogue.accepted(),
            "a new session gets 454 at AUTH:\n{dialogue}"
        );
        // Port 25 as well: what is not checked does not come in.
        let dialogue = alfa.inject_as_peer("paola@altrove.example", &[SENDER], b"Subject: x\r\n\r\nx\r\n")?;
        ensure!(
            dialogue.code("MAIL") == Some(451) && !dialogue.accepted(),
            "another server gets 451 at MAIL:\n{dialogue}"
        );
        ensure!(asked.elapsed() < Duration::from_secs(5), "the refusals took {:?}", asked.elapsed());
        for host in [alfa, beta] {
            let queue = host.queue()?;
            ensure!(queue.starts_with("Mail queue is empty"), "nothing was accepted, but the queue holds\n{queue}");
        }

        alfa.daemon()?.start()?;
        letter.send(testbed)?;
        letter.conclude(testbed)?.check_single()
    });
}

#[test]
fn transaction_goes_on_after_a_killed_daemon_left_its_sockets() {
    two_providers().test(|testbed| {
        for host in testbed.hosts() {
            host.daemon()?.kill()?;
            for name in ["access", "incoming", "lmtp"] {
                let socket = host.site.spool().join("pec-milter").join(name);
                ensure!(
                    socket.exists() && UnixStream::connect(&socket).is_err(),
                    "{} should be stale",
                    socket.display()
                );
            }
            host.daemon()?.start().context("a stale socket should be replaced")?;
        }
        let letter = Letter::new("stale-sockets");
        letter.send(testbed)?;
        letter.conclude(testbed)?.check_single()
    });
}

#[test]
fn transaction_in_work_is_finished_before_the_daemon_stops() {
    two_providers().test(|testbed| {
        let (beta, letter) = (testbed.host("beta")?, Letter::new("stop"));
        let daemon = beta.daemon()?;
        thread::scope(|scope| -> Result<()> {
            let stop = beta.with_dovecot_paused(|| {
                letter.send(testbed)?;
                wait_for_words(daemon, "arrived", "provider=Alfa")?;
                let stop = scope.spawn(|| daemon.stop());
                wait_for_words(daemon, "stopping", "")?;
                Ok(stop)
            })?;
            stop.join().expect("the stop panicked")
        })?;
        // Nobody serves the hop any more: what it answers now it answered before the daemon ended.
        wait_until("Postfix to have the answer to the message that was in work", PATIENCE, || {
            let log = beta.postfix_log()?;
            let of_hop =
                |status: &str| log.lines().find(|line| line.contains("pec-milter/lmtp") && line.contains(status));
            let deferral = of_hop("status=deferred");
            ensure!(deferral.is_none(), "an orderly stop should cost nothing, but {deferral:?}");
            ensure!(of_hop("status=sent").is_some(), "no answer yet");
            Ok(())
        })?;
        // Its receipts wait for the TLS policies, which the daemon tells.
        daemon.start()?;
        letter.conclude(testbed)?.check_single()?;
        in_order(testbed, &letter)
    });
}

#[test]
fn transaction_not_yet_submitted_does_not_hold_up_a_stop() {
    two_providers().test(|testbed| {
        let (alfa, letter) = (testbed.host("alfa")?, Letter::new("stop-in-session"));
        let mut session = logged_in(alfa)?;
        ensure!(session.command(&format!("MAIL FROM:<{SENDER}>"))?.is_positive());
        let asked = Instant::now();
        alfa.daemon()?.stop()?;
        ensure!(asked.elapsed() < Duration::from_secs(10), "the stop took {:?}", asked.elapsed());
        // Whatever the session goes on with, it cannot end in a message that was not looked at.
        let mut codes = vec![session.command(&format!("RCPT TO:<{HERE}>"))?.code];
        if codes[0] < 400 {
            codes.push(session.command("DATA")?.code);
        }
        if codes.last() == Some(&354) {
            codes.push(session.message(b"Subject: x\r\n\r\nx\r\n")?.code);
        }
        ensure!(codes.last() == Some(&451), "expected 451 in the end, got {codes:?}");

        alfa.daemon()?.start()?;
        letter.send(testbed)?;
        letter.conclude(testbed)?.check_single()?;
        in_order(testbed, &letter)
    });
}

/// While the log is broken, this provider's hop answers 4xx and no mailbox of it gets anything; afterwards all is well.
fn waits_for_the_log(testbed: &Testbed, provider: &str, breaking: fn(&Host) -> Result<Broken>) -> Result<()> {
    let (host, letter) = (testbed.host(provider)?, Letter::new(&format!("no-log-at-{provider}")));
    let broken = breaking(host)?;
    letter.send(testbed)?;
    wait_for_words(host.daemon()?, "not delivered for now", "the event log could not record")?;
    wait_until("Postfix to keep the envelope because of a 451", PATIENCE, || {
        let queue = host.queue()?;
        ensure!(queue.contains("said: 451 4.3.0"), "{queue}");
        Ok(())
    })?;
    for user in &host.site.users {
        let found = host.fetch_as((&user.address, &user.password))?.len();
        ensure!(found == 0, "{} has {found} messages that no event stands for", user.address);
    }
    let events = host.daemon()?.timeline(&letter.msgid)?;
    ensure!(events.is_empty(), "nothing can be recorded, but {events:#?}");

    (broken.mend)()?;
    host.flush_queue()?;
    letter.conclude(testbed)?.check_single()?;
    in_order(testbed, &letter)
}

/// An event log that takes nothing, until it is mended.
struct Broken {
    mend: Box<dyn FnOnce() -> Result<()>>,
    /// Where the log lies, if not with everything else.
    _disk: Option<SmallDisk>,
}

fn locked(host: &Host) -> Result<Broken> {
    let other = Connection::open(host.daemon()?.event_log())?;
    other.execute_batch("BEGIN IMMEDIATE")?;
    Ok(Broken { mend: Box::new(move || Ok(other.execute_batch("ROLLBACK")?)), _disk: None })
}

fn on_a_full_disk(host: &Host) -> Result<Broken> {
    let daemon = host.daemon()?;
    daemon.stop()?;
    let disk = SmallDisk::under(daemon.state_folder(), "2m")?;
    daemon.start()?;
    let ballast = disk.fill()?;
    Ok(Broken { mend: Box::new(move || Ok(fs::remove_file(&ballast)?)), _disk: Some(disk) })
}

/// A session on the submission port that is logged in as anna.
fn logged_in(host: &Host) -> Result<Smtp> {
    let mut session = host.smtp(Port::Submissions)?;
    let answer = session.login(SENDER, "anna-password")?;
    ensure!(answer.is_positive(), "anna cannot log in: {}", answer.text);
    Ok(session)
}

fn submit_over(session: &mut Smtp, letter: &Letter) -> Result<()> {
    let envelope = [format!("MAIL FROM:<{SENDER}>"), format!("RCPT TO:<{ELSEWHERE}>"), format!("RCPT TO:<{HERE}>")];
    for command in envelope.iter().map(String::as_str).chain(["DATA"]) {
        let answer = session.command(command)?;
        ensure!(answer.is_positive(), "{command} was answered {} {}", answer.code, answer.text);
    }
    let answer = session.message(&letter.message)?;
    ensure!(answer.is_positive(), "the message was answered {} {}", answer.code, answer.text);
    Ok(())
}

/// Waits until the daemon said a line that holds both.
fn wait_for_words(daemon: &Daemon, one: &str, other: &str) -> Result<()> {
    wait_until(&format!("pec-milter to say {one:?} with {other:?}"), PATIENCE, || {
        let log = daemon.log();
        ensure!(log.lines().any(|line| line.contains(one) && line.contains(other)), "it did not say so");
        Ok(())
    })
}

/// On each provider, no event of the letter is of an instant before that of the event recorded before it. The acceptance
/// alone is older than its record: it is of the instant of the envelope.
fn in_order(testbed: &Testbed, letter: &Letter) -> Result<()> {
    for host in testbed.hosts() {
        let events = recorded(host, letter)?;
        let (accepted, others): (Vec<_>, Vec<_>) =
            events.iter().map(|one| &one.entry).partition(|entry| entry.kind == EventKind::Acceptance);
        ensure!(others.is_sorted_by_key(|entry| entry.at), "the events should follow each other in time: {others:#?}");
        let first = others.first().map(|entry| entry.at);
        ensure!(accepted.iter().all(|entry| Some(entry.at) <= first), "{accepted:#?} should not be after {first:?}");
    }
    Ok(())
}

fn recorded(host: &Host, letter: &Letter) -> Result<Vec<Recorded>> {
    let log = SqliteLog::open_read_only(&host.daemon()?.event_log())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(log.of_msgid(&letter.msgid))?.entries)
}
