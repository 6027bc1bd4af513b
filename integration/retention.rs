//! What goes after its retention and what stays (§2.2.4, §2.3).

#[path = "support/in_use.rs"]
mod in_use;
#[path = "support/infected.rs"]
mod infected;
#[path = "support/originals.rs"]
mod originals;
mod support;
#[path = "support/trace.rs"]
mod trace;
#[path = "support/virus_store.rs"]
mod virus_store;

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use in_use::was_in_use;
use infected::infected;
use jiff::civil::Date;
use jiff::{Timestamp, ToSpan};
use originals::keep_originals;
use pec_testbed::pki::Pki;
use pec_testbed::{Host, PATIENCE, Plan, Port, Testbed, wait_until};
use support::{ELSEWHERE, HERE, Letter, SENDER, two_providers};
use trace::{ABORTED, PROGRAM, exports_verify, hold, kinds, on, said, seal, sealed, seals, today, verifies};
use virus_store::{exported, stored};

/// When a command runs that runs on this day.
fn noon(day: Date) -> Result<Timestamp> {
    Ok(day.at(12, 0, 0, 0).in_tz("Europe/Rome")?.timestamp())
}

fn purge(day: Date, host: &Host) -> Result<String> {
    was_in_use(host, noon(day)?)?;
    let output = on(day, host, &["log", "purge"], &[])?;
    ensure!(output.status.success(), "{}", said(&output));
    Ok(said(&output))
}

/// Everything of today is sealed: the seal itself is of tomorrow.
fn seal_tomorrow(host: &Host) -> Result<()> {
    let told = said(&on(today()?.tomorrow()?, host, &["log", "seal"], &[])?);
    ensure!(told.contains("sealed   0"), "{told}");
    Ok(())
}

/// The PEC msgid of a letter.
fn transaction(host: &Host, letter: &Letter) -> Result<String> {
    let shown = host.command(&["log", "show", &letter.msgid])?;
    let id = shown.split_whitespace().find(|word| word.starts_with("pec.") && word.contains('@'));
    id.map(str::to_owned).with_context(|| format!("no PEC msgid in {shown}"))
}

/// What the command says that makes the delivery receipts of a transaction again.
fn reproduce(day: Date, testbed: &Testbed, host: &Host, id: &str) -> Result<String> {
    let folder = tempfile::tempdir_in(testbed.folder())?;
    let to = folder.path().join("out").display().to_string();
    Ok(said(&on(day, host, &["receipt", "reproduce", id, "--kind", "delivery", "--out", &to], &[])?))
}

fn release(day: Date, host: &Host, number: &str) -> Result<()> {
    let output = on(day, host, &["log", "hold", "release", number, "--reason", "archiviata"], &[])?;
    ensure!(output.status.success(), "{}", said(&output));
    Ok(())
}

/// The endings of the files of each seal, in order.
fn endings(host: &Host) -> Result<Vec<String>> {
    let mut files: Vec<String> = Vec::new();
    for entry in fs::read_dir(seals(host)?)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if let Some((name, ending)) = name.split_once('.').filter(|(name, _)| !name.is_empty()) {
            files.push(format!("{} {ending}", name.trim_start_matches('0').split('-').next().unwrap_or_default()));
        }
    }
    files.sort();
    Ok(files)
}

/// Thirty months later, the last day on which what happens now is kept.
fn last_day() -> Result<Date> {
    Ok(today()?.checked_add(30.months())?)
}

#[test]
fn trace_retention_ends_by_whole_sealed_days_and_mail_goes_on() {
    two_providers().test(|testbed| {
        let alfa = testbed.host("alfa")?;
        let tsa = testbed.tsa(false)?;
        tsa.start()?;
        alfa.daemon()?.reconfigure("[log]\n", &format!("[log]\n{}", tsa.settings()))?;
        let (first, second) = (sealed(testbed, "prima")?, Letter::new("seconda"));
        second.send(testbed)?;
        second.conclude(testbed)?.check()?;
        let last = last_day()?;
        assert!(purge(last, alfa)?.contains("nothing is past its retention of 30 months"));
        assert!(!kinds(alfa, &first)?.is_empty());

        let told = purge(last.tomorrow()?, alfa)?;
        assert!(told.contains("removed: rows 1 to "), "{told}");
        assert_eq!(kinds(alfa, &first)?, Vec::<String>::new());
        assert!(kinds(alfa, &second)?.contains(&"acceptance".to_owned()), "what is not sealed stays, however old");
        assert_eq!(endings(alfa)?, ["1 p7s", "1 seal", "1 tsr"], "the seal is for ever, its rows are not");
        assert!(alfa.command(&["log", "audit"])?.contains("0 violations"));
        verifies(last.tomorrow()?, alfa)?;

        // The daemon was serving all the time, and the database refuses everything but what was purged.
        let third = Letter::new("terza");
        third.send(testbed)?;
        third.conclude(testbed)?.check()?;
        seal(alfa)?;
        assert_eq!(endings(alfa)?, ["1 p7s", "1 seal", "1 tsr", "2 p7s", "2 rows", "2 seal", "2 tsr"]);
        verifies(last.tomorrow()?, alfa)?;
        let connection = rusqlite::Connection::open(alfa.daemon()?.event_log())?;
        let refused = connection.execute("DELETE FROM event", []).unwrap_err().to_string();
        assert!(refused.contains("never deleted"), "{refused}");
        Ok(())
    });
}

#[test]
fn trace_retention_waits_for_the_release_of_a_hold() {
    two_providers().test(|testbed| {
        let (alfa, past) = (testbed.host("alfa")?, last_day()?.tomorrow()?);
        let letter = Letter::new("lite");
        letter.send(testbed)?;
        letter.conclude(testbed)?.check()?;
        let (is_any, said) = alfa.daemon()?.command(&["log", "hold", "list"])?;
        assert!(!is_any && said.contains("no hold stands"), "{said}");
        let holds = [["--mailbox", SENDER], ["--msgid", letter.msgid.as_str()]];
        let mut numbers = Vec::new();
        for held in holds {
            let said = alfa.command(&[&["log", "hold", "add", "--reason", "procura"][..], &held].concat())?;
            numbers.push(said.split([' ', ':']).nth(1).context("no number")?.to_owned());
        }
        let list = alfa.command(&["log", "hold", "list"])?;
        assert!(list.contains(SENDER) && list.contains(&letter.msgid[1..9]) && list.contains("(procura)"), "{list}");
        seal(alfa)?;

        let both = format!("held by hold {}, hold {}", numbers[0], numbers[1]);
        let told = purge(past, alfa)?;
        assert!(told.contains("kept: rows 1 to ") && told.contains(&both), "{told}");
        assert!(!kinds(alfa, &letter)?.is_empty());
        alfa.command(&["log", "hold", "release", &numbers[0], "--reason", "archiviata"])?;
        assert!(purge(past, alfa)?.contains(&format!("held by hold {}\n", numbers[1])));
        let (is_known, said) = alfa.daemon()?.command(&["log", "hold", "release", &numbers[0], "--reason", "x"])?;
        assert!(!is_known && said.contains("no hold"), "{said}");
        alfa.command(&["log", "hold", "release", &numbers[1], "--reason", "archiviata"])?;
        assert!(purge(past, alfa)?.contains("removed: rows 1 to "));
        assert_eq!(kinds(alfa, &letter)?, Vec::<String>::new());

        for wrong in
            [&["add", "--reason", "x"][..], &["add", "--mailbox", "nobody", "--reason", "x"], &["release", "x"]]
        {
            let (is_done, said) = alfa.daemon()?.command(&[&["log", "hold"][..], wrong].concat())?;
            assert!(!is_done && said.contains("error:"), "{wrong:?}: {said}");
        }
        Ok(())
    });
}

#[test]
fn trace_retention_purge_killed_in_the_middle_is_ended_by_the_next() {
    two_providers().test(|testbed| {
        let (alfa, past) = (testbed.host("alfa")?, last_day()?.tomorrow()?);
        let letter = sealed(testbed, "prima")?;
        was_in_use(alfa, noon(past)?)?;
        let killed = on(past, alfa, &["log", "purge"], &[("PEC_CRASH_AT", "rows-purged")])?;
        assert_eq!(killed.status.signal(), Some(ABORTED), "{}", said(&killed));
        assert_eq!(kinds(alfa, &letter)?, Vec::<String>::new());
        assert!(endings(alfa)?.contains(&"1 rows".to_owned()));
        let told = purge(past, alfa)?;
        assert!(!told.contains("removed: rows"), "they were removed: {told}");
        assert_eq!(endings(alfa)?, ["1 p7s", "1 seal"]);
        Ok(())
    });
}

#[test]
fn trace_retention_keeps_what_is_not_as_it_was_sealed() {
    two_providers().test(|testbed| {
        let (alfa, past) = (testbed.host("alfa")?, last_day()?.tomorrow()?);
        sealed(testbed, "prima")?;
        was_in_use(alfa, noon(past)?)?;
        alfa.daemon()?.stop()?;
        let (log, sound) = (alfa.daemon()?.event_log(), testbed.folder().join("sound.sqlite"));
        fs::copy(&log, &sound)?;
        let connection = rusqlite::Connection::open(&log)?;
        connection
            .execute_batch("DROP TRIGGER event_refuses_update; UPDATE event SET subject = 'x' WHERE sequence = 2")?;
        drop(connection);
        let output = on(past, alfa, &["log", "purge"], &[])?;
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        let kept = said(&output);
        assert!(kept.contains("kept: rows 1 to ") && kept.contains("row 2 does not have the hash"), "{kept}");
        assert!(endings(alfa)?.contains(&"1 rows".to_owned()), "the evidence stays");

        // Signed by somebody else whom the same CA certifies: what would stay is no evidence.
        fs::write(&log, fs::read(&sound)?)?;
        let name = seals(alfa)?.join(format!("000001-{}", today()?));
        let (signature, text) = (name.with_extension("p7s"), name.with_extension("seal"));
        let own = fs::read(&signature)?;
        fs::write(&signature, Pki::sign_detached(&testbed.folder().join("pki"), "beta-provider", &text)?)?;
        let kept = said(&on(past, alfa, &["log", "purge"], &[])?);
        assert!(kept.contains("its seal does not hold: VIOLATION 000001-") && kept.contains("it is made by"), "{kept}");
        assert!(endings(alfa)?.contains(&"1 rows".to_owned()), "the evidence stays");
        fs::write(&signature, own)?;
        // Octet by octet into the same file, which keeps its owner: every log is audited in the end.
        fs::write(&log, fs::read(&sound)?)?;
        Ok(())
    });
}

#[test]
fn trace_retention_of_originals_and_infected_messages_ends_with_the_rows_of_their_day() {
    let plan = Plan::new(PROGRAM).provider("alfa", &["anna", "carla"]).provider("beta", &["bruno"]).with_clamd("");
    plan.test(|testbed| {
        let (beta, past) = (testbed.host("beta")?, last_day()?.tomorrow()?);
        let originals = keep_originals(testbed, beta, 3)?;
        let letter = Letter::new("originale");
        letter.send(testbed)?;
        letter.conclude(testbed)?.check()?;
        let virus = String::from_utf8(infected("virus", &[HERE]))?.replacen(SENDER, ELSEWHERE, 1).into_bytes();
        let dialogue = beta.submit("bruno", Port::Submissions, ELSEWHERE, &[HERE], &virus)?;
        ensure!(dialogue.accepted(), "{dialogue}");
        wait_until("the infected message", PATIENCE, || {
            if stored(beta)?.len() == 1 { Ok(()) } else { bail!("it is not in the store") }
        })?;
        testbed.wait_for_empty_queues()?;
        let (name, day) = (stored(beta)?.remove(0), today()?.to_string());
        let days = |store: &Path| -> Result<Vec<String>> {
            let names = fs::read_dir(store)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
            Ok(names.collect::<Result<Vec<_>>>()?.into_iter().filter(|name| name.starts_with("20")).collect())
        };
        let viruses = beta.daemon()?.state_folder().join("virus");
        assert_eq!((days(&originals)?, days(&viruses)?), (vec![day.clone()], vec![day.clone()]));
        let id = transaction(beta, &letter)?;

        // The whole day stays for one transaction in it, and what is in it can still be read.
        let held = hold(today()?, beta, ["--msgid", letter.msgid.as_str()])?;
        seal_tomorrow(beta)?;
        let told = purge(past, beta)?;
        ensure!(told.contains(&format!("held by hold {held}")) && !told.contains("removed:"), "{told}");
        assert_eq!((days(&originals)?, days(&viruses)?), (vec![day.clone()], vec![day.clone()]));
        assert_eq!(exported(beta, &name)?, virus);
        // Before the certificate that signs has expired.
        let told = reproduce(today()?.tomorrow()?, testbed, beta, &id)?;
        ensure!(!told.contains("WITHOUT THE ORIGINAL") && !told.contains("error:"), "{told}");

        release(past, beta, &held)?;
        let told = purge(past, beta)?;
        for gone in ["removed: rows 1 to ", &format!("infected messages of {day}"), &format!("originals of {day}")] {
            ensure!(told.contains(gone), "{gone}: {told}");
        }
        assert_eq!((days(&originals)?, days(&viruses)?), (vec![], vec![]));
        assert_eq!(stored(beta)?, Vec::<String>::new());
        let (is_there, told) = beta.daemon()?.command(&["virus", "show", &name])?;
        ensure!(!is_there && told.contains(&name), "{told}");
        let told = reproduce(today()?.tomorrow()?, testbed, beta, &id)?;
        ensure!(told.contains("this provider issued no such receipt") && told.contains(&id), "{told}");
        verifies(past, beta)
    });
}

/// A transaction across midnight: its beginning is sealed in one range, its end in the next.
#[test]
fn trace_retention_of_half_a_transaction_is_no_violation_and_no_watch() {
    two_providers().test(|testbed| {
        let (alfa, beta, past) = (testbed.host("alfa")?, testbed.host("beta")?, last_day()?.tomorrow()?);
        let (letter, other) = (Letter::new("mezzanotte"), Letter::new("lite"));
        other.send(testbed)?;
        other.conclude(testbed)?.check()?;
        beta.stop_dovecot()?;
        letter.send(testbed)?;
        wait_until("beta's take-charge", PATIENCE, || {
            let is_taken = kinds(beta, &letter)?.contains(&"take-charge".to_owned());
            ensure!(is_taken && kinds(alfa, &letter)?.contains(&"acceptance".to_owned()), "it is not there");
            Ok(())
        })?;
        [alfa, beta].into_iter().try_for_each(seal)?;
        beta.start_dovecot()?;
        beta.flush_queue()?;
        letter.conclude(testbed)?.check()?;

        // Its beginning goes, its end is not sealed yet.
        assert!(purge(past, beta)?.contains("removed: rows 1 to "));
        assert_eq!(kinds(beta, &letter)?, ["delivery"]);
        let told = said(&on(past, beta, &["log", "audit"], &[])?);
        ensure!(told.contains(" 0 violations"), "{told}");

        // Its beginning lies in a range that is held for another transaction, its end goes.
        seal(alfa)?;
        let held = hold(today()?, alfa, ["--msgid", other.msgid.as_str()])?;
        let told = purge(past, alfa)?;
        ensure!(told.contains(&format!("held by hold {held}")) && told.contains("removed: rows "), "{told}");
        assert_eq!(
            kinds(alfa, &letter)?,
            ["arrival", "acceptance", "take-charge", "delivery", "received presa-in-carico"]
        );
        let told = said(&on(past, alfa, &["log", "audit"], &[])?);
        ensure!(told.contains(" 0 violations"), "{told}");
        let told = alfa.command(&["log", "rebuild"])?;
        ensure!(told.starts_with("0 recipients"), "{told}");
        Ok(())
    });
}

#[test]
fn trace_retention_by_several_purges_around_a_hold_still_verifies() {
    two_providers().test(|testbed| {
        let (alfa, past) = (testbed.host("alfa")?, last_day()?.tomorrow()?);
        let (first, second, third) = (sealed(testbed, "prima")?, sealed(testbed, "seconda")?, Letter::new("terza"));
        third.send(testbed)?;
        third.conclude(testbed)?.check()?;
        let tomorrow = today()?.tomorrow()?;
        // A row of tomorrow in the third seal.
        reproduce(tomorrow, testbed, alfa, &transaction(alfa, &third)?)?;
        seal_tomorrow(alfa)?;
        let held = hold(tomorrow, alfa, ["--msgid", second.msgid.as_str()])?;

        let told = purge(past, alfa)?;
        assert_eq!(told.matches("removed: rows ").count(), 1, "{told}");
        ensure!(told.contains(&format!("held by hold {held}")), "{told}");
        verifies(past, alfa)?;
        // The third seal has a row of tomorrow, and the entry of the second one.
        let past = past.tomorrow()?;
        assert_eq!(purge(past, alfa)?.matches("removed: rows ").count(), 1);
        for (letter, is_left) in [(&first, false), (&second, true), (&third, false)] {
            assert_eq!(!kinds(alfa, letter)?.is_empty(), is_left, "{}", letter.msgid);
        }
        assert_eq!(endings(alfa)?, ["1 p7s", "1 seal", "2 p7s", "2 rows", "2 seal", "3 p7s", "3 seal"]);
        let day = today()?.to_string();
        verifies(past, alfa)?;
        let told = exports_verify(testbed, alfa, &[])?;
        ensure!(told.contains("3 seals of Alfa PEC S.p.A."), "{told}");
        assert_eq!(told.matches("the rows are not here").count(), 2, "{told}");
        // Of today there are rows in each of them.
        let told = exports_verify(testbed, alfa, &["--from", &day, "--to", &day])?;
        ensure!(told.contains("3 seals of Alfa"), "{told}");

        // Of some days alone: what is wrong with the others does not count.
        let rows = seals(alfa)?.join(format!("000002-{day}.rows"));
        let sound = fs::read(&rows)?;
        let mut other = sound.clone();
        *other.get_mut(100).context("a short line")? ^= 1;
        fs::write(&rows, &other)?;
        let told = exports_verify(testbed, alfa, &["--from", &tomorrow.to_string()])?;
        ensure!(told.contains("1 seals of Alfa"), "{told}");
        let found = exports_verify(testbed, alfa, &["--to", &day]).expect_err("a changed row should be found");
        ensure!(found.to_string().contains(&format!("VIOLATION 000002-{day}.rows")), "{found:#}");
        fs::write(&rows, &sound)?;

        release(past, alfa, &held)?;
        let told = purge(past, alfa)?;
        assert_eq!(told.matches("removed: rows ").count(), 1, "{told}");
        assert_eq!(kinds(alfa, &second)?, Vec::<String>::new());
        verifies(past, alfa)?;
        let told = exports_verify(testbed, alfa, &[])?;
        assert_eq!(told.matches("the rows are not here").count(), 3, "{told}");
        Ok(())
    });
}
