//! Copies of the log while mail flows, and what comes back to one that is put back (§2.3).

mod support;
#[path = "support/trace.rs"]
mod trace;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Context, Result, bail, ensure};
use pec_milter::adapters::sqlite::SqliteLog;
use pec_milter::legal_log::EventKind;
use pec_testbed::{Host, PATIENCE, Testbed, wait_until};
use support::{Letter, SENDER, two_providers};
use trace::{ABORTED, exports_verify, hold, kinds, on, said, seal, sealed, seals, today, verifies};

/// Sends letters until it is told to stop; returns them.
fn keep_sending(testbed: &Testbed, is_over: &AtomicBool) -> Result<Vec<Letter>> {
    let mut letters = Vec::new();
    while !is_over.load(Ordering::Relaxed) {
        let letter = Letter::new(&format!("flusso-{}", letters.len()));
        letter.send(testbed)?;
        letters.push(letter);
    }
    Ok(letters)
}

fn last_row(log: &Path) -> Result<i64> {
    let connection = rusqlite::Connection::open(log)?;
    Ok(connection.query_row("SELECT coalesce(max(sequence), 0) FROM event", [], |row| row.get(0))?)
}

fn owner(path: &Path) -> Result<u32> {
    Ok(fs::metadata(path)?.uid())
}

/// Puts a copy into the place of the log of a daemon that is stopped.
fn put_back(host: &Host, copy: &Path) -> Result<()> {
    let log = host.daemon()?.event_log();
    let owner = owner(&log)?;
    for beside in ["-wal", "-shm"] {
        let path = PathBuf::from(format!("{}{beside}", log.display()));
        ensure!(!path.exists(), "the daemon leaves {} behind", path.display());
    }
    // Beside its place first: the copy itself is needed again.
    let beside = log.with_extension("new");
    fs::copy(copy, &beside)?;
    fs::rename(&beside, &log)?;
    std::os::unix::fs::chown(&log, Some(owner), None).map_err(Into::into)
}

/// The files of the seals with their octets.
fn files(host: &Host) -> Result<BTreeMap<PathBuf, Vec<u8>>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(seals(host)?)? {
        let path = entry?.path();
        files.insert(path.clone(), fs::read(path)?);
    }
    Ok(files)
}

/// A letter, and the stamped seal over it.
fn stamped(testbed: &Testbed, name: &str) -> Result<Letter> {
    let letter = Letter::new(name);
    letter.send(testbed)?;
    letter.conclude(testbed)?.check()?;
    testbed.host("alfa")?.command(&["log", "seal"])?;
    Ok(letter)
}

/// The end of a transaction is lost with the rows behind the last seal. The receipt that the sender has ends the watch.
#[test]
fn trace_restore_tells_who_is_waited_for_though_his_receipt_came() {
    two_providers().test(|testbed| {
        let (alfa, beta) = (testbed.host("alfa")?, testbed.host("beta")?);
        let daemon = alfa.daemon()?;
        let copy = testbed.folder().join("copy.sqlite");
        let letter = Letter::new("in-corso");
        beta.stop_dovecot()?;
        letter.send(testbed)?;
        wait_until("the take-charge of beta and the delivery at alfa", PATIENCE, || {
            let kinds = kinds(alfa, &letter)?;
            let all = ["received presa-in-carico", "delivery"].iter().all(|kind| kinds.contains(&(*kind).to_owned()));
            if all { Ok(()) } else { bail!("{kinds:?}") }
        })?;
        alfa.command(&["log", "backup", "--to", &copy.display().to_string()])?;
        seal(alfa)?;
        beta.start_dovecot()?;
        beta.flush_queue()?;
        letter.conclude(testbed)?.check()?;
        let receipt = testbed.received()?.into_iter().find(|message| {
            message.mailbox == SENDER
                && message.is("avvenuta-consegna")
                && message.field("X-Riferimento-Message-ID").is_some()
                && String::from_utf8_lossy(&message.bytes).contains("posta-certificata@beta.example")
        });
        let receipt = receipt.context("anna has no receipt of beta")?;
        daemon.stop()?;
        put_back(alfa, &copy)?;

        let told = alfa.command(&["log", "restore"])?;
        ensure!(
            told.contains("1 recipients are waited for") && told.contains(" bruno@beta.example, accepted "),
            "{told}"
        );
        daemon.start()?;
        let dialogue = alfa.inject_as_peer("posta-certificata@beta.example", &[SENDER], &receipt.bytes)?;
        ensure!(dialogue.accepted(), "{dialogue}");
        wait_until("the receipt in the log", PATIENCE, || {
            let kinds = kinds(alfa, &letter)?;
            ensure!(kinds.contains(&"received avvenuta-consegna".to_owned()), "{kinds:?}");
            Ok(())
        })?;
        let told = alfa.command(&["log", "rebuild"])?;
        ensure!(told.starts_with("0 recipients are watched"), "{told}");
        Ok(())
    });
}

#[test]
fn trace_restore_brings_back_what_was_sealed_after_the_copy() {
    two_providers().test(|testbed| {
        let alfa = testbed.host("alfa")?;
        let daemon = alfa.daemon()?;
        let tsa = testbed.tsa(false)?;
        tsa.start()?;
        daemon.reconfigure("[log]\n", &format!("[log]\n{}", tsa.settings()))?;
        let copy = testbed.folder().join("copy.sqlite");
        stamped(testbed, "prima")?;
        let told = alfa.command(&["log", "backup", "--to", &copy.display().to_string()])?;
        ensure!(told.contains("holds the log up to row "), "{told}");
        let (second, third) = (stamped(testbed, "seconda")?, stamped(testbed, "terza")?);
        let sealed_rows = last_row(&daemon.event_log())?;
        let last = Letter::new("non-sigillata");
        last.send(testbed)?;
        last.conclude(testbed)?.check()?;
        daemon.stop()?;
        ensure!(last_row(&daemon.event_log())? > sealed_rows, "the last letter has no rows");
        let before = files(alfa)?;

        // What the administrator sees who only puts the copy back.
        put_back(alfa, &copy)?;
        let (is_sealed, told) = daemon.command(&["log", "seal"])?;
        ensure!(!is_sealed && told.contains("`pec-milter log restore` brings back"), "{told}");
        let (holds, told) = daemon.command(&["log", "verify"])?;
        ensure!(!holds && told.contains("VIOLATION"), "{told}");
        assert_eq!(kinds(alfa, &second)?, Vec::<String>::new());

        // Something was recorded before: another log, which takes none of it.
        let number = hold(today()?, alfa, ["--mailbox", SENDER])?;
        let (is_done, told) = daemon.command(&["log", "restore"])?;
        ensure!(!is_done && told.contains("something was recorded after the copy was put back"), "{told}");
        assert_eq!(last_row(&daemon.event_log())?.to_string(), number);

        // A changed row is not brought back, nor what comes after it.
        put_back(alfa, &copy)?;
        let rows = seals(alfa)?.join(format!("000003-{}.rows", today()?));
        let sound = fs::read(&rows)?;
        fs::write(&rows, String::from_utf8(sound.clone())?.replacen("terza", "quarta", 1))?;
        let (is_done, told) = daemon.command(&["log", "restore"])?;
        ensure!(!is_done && told.contains("VIOLATION 000003-") && told.contains("nothing is restored"), "{told}");
        fs::write(&rows, sound)?;

        // Killed between two ranges, it goes on with the next.
        let killed = on(today()?, alfa, &["log", "restore"], &[("PEC_CRASH_AT", "range-restored")])?;
        ensure!(killed.status.signal() == Some(ABORTED), "{}", said(&killed));
        ensure!(kinds(alfa, &third)?.is_empty() && !kinds(alfa, &second)?.is_empty(), "one range should be back");
        let told = alfa.command(&["log", "restore"])?;
        // The entries of the last seal and its stamp are in no export: the next attempt to seal makes them.
        let end = last_row(&daemon.event_log())?;
        ensure!(told.contains(&format!(" to {end}\n")) && end == sealed_rows - 2, "{end} of {sealed_rows}: {told}");
        ensure!(alfa.command(&["log", "restore"])?.contains("nothing was sealed after row"), "once is enough");
        alfa.command(&["log", "seal"])?;
        assert_eq!(last_row(&daemon.event_log())?, sealed_rows);
        assert_eq!(files(alfa)?, before, "no file of a seal is written over");
        verifies(today()?, alfa)?;
        daemon.start()?;
        for letter in [&second, &third] {
            ensure!(kinds(alfa, letter)?.contains(&"acceptance".to_owned()), "{} should be back", letter.msgid);
        }
        assert_eq!(kinds(alfa, &last)?, Vec::<String>::new());
        let after = stamped(testbed, "dopo")?;
        ensure!(kinds(alfa, &after)?.contains(&"acceptance".to_owned()), "mail goes on");
        verifies(today()?, alfa)?;
        let told = exports_verify(testbed, alfa, &[])?;
        ensure!(told.contains("4 seals of Alfa"), "{told}");
        Ok(())
    });
}

#[test]
fn trace_restore_leaves_a_sealing_that_was_never_finished_and_a_log_is_never_begun_anew_beside_seals() {
    two_providers().test(|testbed| {
        let alfa = testbed.host("alfa")?;
        let daemon = alfa.daemon()?;
        let copy = testbed.folder().join("copy.sqlite");
        let first = sealed(testbed, "prima")?;
        alfa.command(&["log", "backup", "--to", &copy.display().to_string()])?;
        let second = sealed(testbed, "seconda")?;
        let third = Letter::new("terza");
        third.send(testbed)?;
        third.conclude(testbed)?.check()?;
        let killed = on(today()?, alfa, &["log", "seal"], &[("PEC_CRASH_AT", "seal-text-written")])?;
        ensure!(killed.status.signal() == Some(ABORTED), "{}", said(&killed));
        daemon.stop()?;

        // The database is lost: a new one would know of nothing, not even of what is held.
        fs::rename(daemon.event_log(), testbed.folder().join("lost.sqlite"))?;
        let log = daemon.log().len();
        ensure!(daemon.start().is_err(), "a log should not be begun anew");
        ensure!(
            daemon.log_after(log).contains("put a backup back and run `pec-milter log restore`"),
            "{}",
            daemon.log()
        );
        fs::copy(testbed.folder().join("lost.sqlite"), daemon.event_log())?;
        std::os::unix::fs::chown(daemon.event_log(), Some(owner(daemon.state_folder())?), None)?;

        put_back(alfa, &copy)?;
        let (is_whole, told) = daemon.command(&["log", "restore"])?;
        ensure!(!is_whole && told.contains("has no signature") && told.contains("restored: rows "), "{told}");
        for ending in ["rows", "seal"] {
            let file = format!("000003-{}.{ending}", today()?);
            fs::rename(seals(alfa)?.join(&file), testbed.folder().join(&file))?;
        }
        seal(alfa)?;
        daemon.start()?;
        for (letter, is_there) in [(&first, true), (&second, true), (&third, false)] {
            assert_eq!(!kinds(alfa, letter)?.is_empty(), is_there, "{}", letter.msgid);
        }
        verifies(today()?, alfa)
    });
}

#[test]
fn trace_backup_is_taken_while_mail_flows_and_can_be_put_back() {
    // What came after the copy is lost with the log, outcomes too.
    two_providers().with_open_watches().test(|testbed| {
        let alfa = testbed.host("alfa")?;
        let daemon = alfa.daemon()?;
        let copy = testbed.folder().join("copy.sqlite");
        let to = copy.display().to_string();
        let is_over = AtomicBool::new(false);
        let letters = thread::scope(|scope| {
            let sending = scope.spawn(|| keep_sending(testbed, &is_over));
            let taken = (|| {
                wait_until("the first rows", PATIENCE, || {
                    if last_row(&daemon.event_log())? > 0 { Ok(()) } else { bail!("there are none") }
                })?;
                // In the middle of the first copy it is killed, and nothing is lost but the copy.
                let killed = on(today()?, alfa, &["log", "backup", "--to", &to], &[("PEC_CRASH_AT", "backup-copied")])?;
                ensure!(killed.status.signal() == Some(ABORTED) && !copy.exists(), "{}", said(&killed));
                let told = alfa.command(&["log", "backup", "--to", &to])?;
                ensure!(told.contains(&format!("holds the log up to row {}\n", last_row(&copy)?)), "{told}");
                let (is_done, told) = daemon.command(&["log", "backup", "--to", &to])?;
                ensure!(!is_done && told.contains("is there already"), "{told}");
                Ok(())
            })();
            is_over.store(true, Ordering::Relaxed);
            let letters = sending.join().map_err(|_| anyhow::anyhow!("sending ended early"))??;
            taken.map(|()| letters)
        })?;
        ensure!(!letters.is_empty(), "no mail flowed");
        for letter in &letters {
            letter.conclude(testbed)?.check()?;
        }
        // The queue is empty: what comes after the copy is in the mailboxes, and the copy is put back.
        testbed.wait_for_empty_queues()?;
        daemon.stop()?;
        let log = daemon.event_log();
        let rows = last_row(&log)?;
        let kept = last_row(&copy)?;
        ensure!((1..=rows).contains(&kept), "{kept} of {rows}");
        put_back(alfa, &copy)?;
        daemon.start()?;
        let after = Letter::new("dopo");
        after.send(testbed)?;
        after.conclude(testbed)?.check()?;
        assert_eq!(kinds(alfa, &after)?.iter().filter(|kind| *kind == EventKind::Acceptance.name()).count(), 1);
        let runtime = tokio::runtime::Runtime::new()?;
        let link = runtime.block_on(SqliteLog::open_read_only(&log)?.verify_chain())?;
        assert!(link.sequence > kept);
        Ok(())
    });
}
