//! The log is sealed: exported, signed by the provider, stamped by an authority, each day and on command, and whatever
//! fails meanwhile, no mail waits for it. OpenSSL and sha256sum are the judges.

mod hindered;
#[path = "../support/mod.rs"]
mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use pec_milter::adapters::seal_store::{Found, Part, SealFolder};
use pec_milter::adapters::sqlite::SqliteLog;
use pec_milter::legal_log::seal::{Seal, Sealed, Stamped};
use pec_milter::legal_log::{Entry, EventKind, Link, Recorded};
use pec_milter::model::TemporalReference;
use pec_milter::operations::ports::EventLog;
use pec_testbed::disk::SmallDisk;
use pec_testbed::pki::Request;
use pec_testbed::tsa::{Mood, Tsa};
use pec_testbed::{Daemon, KeyForm, PATIENCE, Testbed, faketime, wait_until};
use support::{Letter, two_providers};

const DAY: i64 = 86_400;

/// The authority of the test, which runs, and which alfa asks from its next start on.
fn authority_of_alfa(testbed: &Testbed, over_tls: bool) -> Result<Tsa> {
    let tsa = testbed.tsa(over_tls)?;
    tsa.start()?;
    alfa(testbed)?.reconfigure("[log]\n", &format!("[log]\n{}", tsa.settings()))?;
    Ok(tsa)
}

fn alfa(testbed: &Testbed) -> Result<&Daemon> {
    testbed.host("alfa")?.daemon()
}

fn restart(daemon: &Daemon) -> Result<()> {
    daemon.stop()?;
    daemon.start()
}

/// `log seal`: its exit code and what it said.
fn seal_now(daemon: &Daemon) -> Result<(Option<i32>, String)> {
    daemon.command_with(&["log", "seal"], &[])
}

fn in_runtime<T>(work: impl AsyncFnOnce() -> Result<T>) -> Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work())
}

/// What the log of a provider says of its seals and stamps.
fn recorded(daemon: &Daemon) -> Result<(Vec<Sealed>, Vec<Stamped>)> {
    let rows: Vec<Recorded> = in_runtime(async || Ok(SqliteLog::open_read_only(&daemon.event_log())?.seals().await?))?;
    let of = |kind| rows.iter().filter(move |one| one.entry.kind == kind).map(|one| &one.entry);
    let seals: Vec<Sealed> = of(EventKind::Seal).filter_map(Sealed::of).collect();
    let stamps: Vec<Stamped> = of(EventKind::Stamp).filter_map(Stamped::of).collect();
    ensure!(seals.len() + stamps.len() == rows.len(), "a seal or stamp that cannot be read: {rows:#?}");
    Ok((seals, stamps))
}

/// An event of this many days ago, put in the log of a daemon that does not run: nobody waits for midnight here.
fn record_days_ago(daemon: &Daemon, days: i64) -> Result<()> {
    let at = TemporalReference::from_unix(Timestamp::now().as_second() - days * DAY);
    in_runtime(async || {
        let log = SqliteLog::open(&daemon.event_log())?;
        let entry = Entry { sender: Some("ieri@alfa.example".into()), ..Entry::new(EventKind::Refusal, at) };
        log.record(vec![entry]).await?;
        Ok(log.close().await?)
    })
}

/// Everything that others can say of the seals of a provider; returns how many there are.
fn judge(testbed: &Testbed, daemon: &Daemon, tsa: &Tsa) -> Result<usize> {
    let folder = SealFolder::at(&daemon.seals());
    let found = folder.list()?;
    let (seals, stamps) = recorded(daemon)?;
    let numbers: Vec<u64> = found.iter().map(|found| found.number).collect();
    let expected: Vec<u64> = (1..).take(found.len()).collect();
    ensure!(numbers == expected, "{numbers:?}");
    ensure!(seals.iter().map(|one| one.number).eq(expected.iter().copied()), "one row for each seal: {seals:#?}");
    ensure!(stamps.iter().map(|one| one.number).eq(expected.iter().copied()), "one row for each stamp: {stamps:#?}");
    let (mut before, mut previous) = (Link::BEFORE_FIRST, [0; 32]);
    for ((found, sealed), stamped) in found.iter().zip(&seals).zip(&stamps) {
        let seal = judge_one(testbed, &folder, found, tsa).with_context(|| found.name.clone())?;
        ensure!(seal.before == before && seal.previous == previous, "{} does not follow", found.name);
        ensure!(sealed.sha256 == seal.digest() && sealed.name == found.name, "{sealed:?}");
        ensure!(sha256sum(&folder.path(&found.name, Part::Stamp))? == hexadecimal(&stamped.sha256), "{stamped:?}");
        ensure!(stamped.authority.contains("CN=tsa"), "{stamped:?}");
        (before, previous) = (seal.last, seal.digest());
    }
    let others: Vec<String> = fs::read_dir(daemon.seals())?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<Vec<_>>>()?
        .into_iter()
        .filter(|name| name != ".lock" && !found.iter().any(|found| name.starts_with(&found.name)))
        .collect();
    ensure!(others.is_empty(), "{others:?} lie in the folder, too");
    let chain = in_runtime(async || Ok(SqliteLog::open_read_only(&daemon.event_log())?.verify_chain().await?))?;
    ensure!(chain.sequence > before.sequence, "the last seal is in the log");
    Ok(found.len())
}

/// What OpenSSL and sha256sum say of one seal.
fn judge_one(testbed: &Testbed, folder: &SealFolder, found: &Found, tsa: &Tsa) -> Result<Seal> {
    let path = |part| folder.path(&found.name, part);
    for part in Part::ALL {
        let metadata = fs::metadata(path(part)).with_context(|| format!("no {part:?}"))?;
        ensure!(metadata.mode() & 0o777 == 0o600, "{part:?} has mode {:o}", metadata.mode());
        let owner = fs::metadata(path(Part::Seal).parent().context("no folder")?)?.uid();
        ensure!(metadata.uid() == owner && owner != 0, "{part:?} belongs to {}", metadata.uid());
    }
    let said = tsa.verify(&path(Part::Signature), &path(Part::Stamp))?;
    ensure!(said.contains("Verification: OK"), "{said}");
    let content = path(Part::Seal);
    let mut openssl = Command::new("openssl");
    openssl
        .args(["cms", "-verify", "-binary", "-inform", "DER", "-out", "/dev/null", "-in"])
        .arg(path(Part::Signature));
    run(openssl.arg("-content").arg(&content).arg("-CAfile").arg(testbed.pki.root()))?;
    let seal = folder.seal(&found.name)?.context("no seal")?;
    let text = fs::read_to_string(&content)?;
    let last = text.lines().last().context("an empty seal")?;
    let list = testbed.folder().join("sums");
    fs::write(&list, format!("{last}\n"))?;
    let folder_of_files = content.parent().context("no folder")?;
    run(Command::new("sha256sum").arg("--check").arg(&list).current_dir(folder_of_files))?;
    ensure!(sha256sum(&content)? == hexadecimal(&seal.digest()), "the digest of the seal is that of its file");
    let rows = fs::read_to_string(path(Part::Rows))?;
    let expected = seal.last.sequence - seal.before.sequence;
    ensure!(i64::try_from(rows.lines().count())? == expected, "{expected} rows are sealed");
    Ok(seal)
}

fn run(command: &mut Command) -> Result<String> {
    let output = command.output()?;
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    ensure!(output.status.success(), "{command:?}: {said}");
    Ok(said)
}

fn sha256sum(path: &Path) -> Result<String> {
    let said = run(Command::new("sha256sum").arg(path))?;
    Ok(said.split(' ').next().unwrap_or_default().to_owned())
}

fn hexadecimal(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

/// Waits until the daemon has said this after a place in its log.
fn wait_for_word(daemon: &Daemon, after: usize, word: &str) -> Result<()> {
    // A look once a minute, besides what is due.
    wait_until(&format!("the daemon to say {word:?}"), 2 * PATIENCE, || {
        let said = daemon.log_after(after);
        ensure!(said.contains(word), "it said\n{said}");
        Ok(())
    })
}

/// A value of the daemon's metrics.
fn metric(address: &str, name: &str) -> Result<f64> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let line = answer.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    Ok(line.with_context(|| format!("no {name} in\n{answer}"))?.parse()?)
}

#[test]
fn trace_seal_of_real_mail_is_what_openssl_and_sha256sum_accept() {
    two_providers().test(|testbed| {
        let tsa = authority_of_alfa(testbed, false)?;
        let alfa = alfa(testbed)?;
        restart(alfa)?;
        let (code, said) = seal_now(alfa)?;
        ensure!(code == Some(1) && said.contains("nothing to seal"), "{code:?} {said}");

        // Beside the running daemon, which goes on recording.
        for round in 1..=3 {
            let letter = Letter::new(&format!("sealed-{round}"));
            letter.send(testbed)?;
            letter.conclude(testbed)?.check_single()?;
            let (code, said) = seal_now(alfa)?;
            ensure!(code == Some(0) && said.contains("sealed ") && said.contains("stamped "), "{code:?} {said}");
            ensure!(judge(testbed, alfa, &tsa)? == round, "{round} seals");
        }
        let (code, said) = seal_now(alfa)?;
        ensure!(code == Some(1) && said.contains("nothing to seal"), "{code:?} {said}");
        ensure!(judge(testbed, alfa, &tsa)? == 3);

        // Two at once make one seal.
        let letter = Letter::new("sealed-twice");
        letter.send(testbed)?;
        letter.conclude(testbed)?;
        let codes = std::thread::scope(|scope| {
            let runs = [(); 2].map(|()| scope.spawn(|| seal_now(alfa)));
            runs.map(|run| run.join().map_err(|_| anyhow::anyhow!("a panic")).and_then(|result| result))
        });
        let mut codes = codes.into_iter().map(|one| Ok(one?.0)).collect::<Result<Vec<_>>>()?;
        codes.sort();
        ensure!(codes.iter().all(|code| matches!(code, Some(0 | 1))) && codes.contains(&Some(0)), "{codes:?}");
        ensure!(judge(testbed, alfa, &tsa)? == 4);
        Ok(())
    });
}

#[test]
fn trace_seal_of_a_day_is_made_right_after_its_midnight() {
    two_providers().test(|testbed| {
        let alfa = alfa(testbed)?;
        let letter = Letter::new("sera");
        letter.send(testbed)?;
        letter.conclude(testbed)?.check()?;
        let today = Timestamp::now().to_zoned(jiff::tz::TimeZone::get("Europe/Rome")?).date();
        alfa.stop()?;
        let log = alfa.log().len();
        let evening = faketime::beginning_at(&format!("{today} 23:59:45"))?;
        alfa.start_with(&evening.each_ref().map(|(name, value)| (*name, value.as_str())))?;
        wait_for_word(alfa, log, "the log is sealed")?;
        let (seals, _) = recorded(alfa)?;
        let folder = SealFolder::at(&alfa.seals());
        let name = folder.list()?.first().context("no seal")?.name.clone();
        let seal = folder.seal(&name)?.context("no text")?;
        let midnight = TemporalReference::beginning(today.tomorrow()?);
        let late = seal.sealed.unix() - midnight.unix();
        ensure!(seals.len() == 1 && (0..10).contains(&late), "sealed {late} s after midnight: {seal:?}");
        ensure!(name == format!("000001-{today}"), "it bears the name of the day that has ended, but is {name}");
        alfa.stop()?;
        let (holds, said) = alfa.command(&["log", "verify"])?;
        ensure!(holds || said.contains("a clock that stands ahead"), "{said}");
        Ok(())
    });
}

#[test]
fn trace_seal_of_a_missed_day_is_made_at_start_and_stamped_when_the_authority_is_back() {
    two_providers().test(|testbed| {
        let (tsa, alfa) = (authority_of_alfa(testbed, false)?, alfa(testbed)?);
        tsa.stop()?;
        let address = format!("{}:2999", testbed.host("alfa")?.site.address);
        alfa.reconfigure("[listen]\n", &format!("[metrics]\nlisten = {address:?}\n\n[listen]\n"))?;
        alfa.stop()?;
        record_days_ago(alfa, 1)?;
        let log = alfa.log().len();
        alfa.start()?;
        wait_for_word(alfa, log, "the log is sealed")?;
        wait_for_word(alfa, log, "NO TIME STAMP")?;
        ensure!(alfa.log_after(log).contains("cannot be reached"), "{}", alfa.log_after(log));
        ensure!(metric(&address, "pec_milter_log_unstamped_seals")? == 1.0, "one waits");
        ensure!(metric(&address, "pec_milter_log_stamp_failures_total")? >= 1.0, "a failure counts");

        // Whether there is no authority, or one that does not answer, is nothing to the mail.
        let letter = Letter::new("unstamped");
        letter.send(testbed)?;
        letter.conclude(testbed)?.check_single()?;
        tsa.set_mood(Mood::Silent)?;
        tsa.start()?;
        wait_until("the authority to be asked", 2 * PATIENCE, || {
            ensure!(tsa.asked(Mood::Silent) > 0);
            Ok(())
        })?;
        let letter = Letter::new("silent");
        letter.send(testbed)?;
        letter.conclude(testbed)?.check_single()?;
        ensure!(recorded(alfa)?.1.is_empty(), "nobody stamped");

        tsa.set_mood(Mood::Good)?;
        wait_for_word(alfa, log, "is time-stamped")?;
        ensure!(metric(&address, "pec_milter_log_unstamped_seals")? == 0.0, "none waits");
        ensure!(metric(&address, "pec_milter_log_seal_age_seconds")? < 600.0, "a fresh seal");
        ensure!(judge(testbed, alfa, &tsa)? == 1, "the letters are of today");

        // The day has been sealed: the next start has nothing to do.
        let log = alfa.log().len();
        restart(alfa)?;
        wait_until("the new process to have looked", PATIENCE, || {
            ensure!(metric(&address, "pec_milter_log_seal_age_seconds")? > 0.0);
            Ok(())
        })?;
        ensure!(!alfa.log_after(log).contains("the log is sealed"), "{}", alfa.log_after(log));
        ensure!(judge(testbed, alfa, &tsa)? == 1);
        Ok(())
    });
}

#[test]
fn trace_seal_without_an_authority_is_signed_and_told() {
    two_providers().test(|testbed| {
        let alfa = alfa(testbed)?;
        ensure!(alfa.log().matches("NO TIME STAMPING AUTHORITY").count() == 1, "{}", alfa.log());
        let letter = Letter::new("unstamped");
        letter.send(testbed)?;
        letter.conclude(testbed)?;
        let (code, said) = seal_now(alfa)?;
        ensure!(code == Some(1) && said.contains("WAITING") && said.contains("log.tsa_url"), "{code:?} {said}");
        // Whoever configures one later gets the stamps.
        let tsa = authority_of_alfa(testbed, false)?;
        let (code, said) = seal_now(alfa)?;
        ensure!(code == Some(0) && said.contains("stamped ") && said.contains("nothing to seal"), "{code:?} {said}");
        ensure!(judge(testbed, alfa, &tsa)? == 1);
        Ok(())
    });
}

#[test]
fn trace_seal_takes_no_answer_that_proves_nothing() {
    two_providers().test(|testbed| {
        let (tsa, alfa) = (authority_of_alfa(testbed, false)?, alfa(testbed)?);
        let letter = Letter::new("doubtful");
        letter.send(testbed)?;
        letter.conclude(testbed)?;
        for (mood, word) in [
            (Mood::Broken, "answers 500"),
            (Mood::Page, "text/html"),
            (Mood::Garbage, "no time stamp response"),
            (Mood::Endless, "more than"),
            (Mood::Refusing, "badAlg"),
            (Mood::Confused, "over other octets"),
            (Mood::Stranger, "log.tsa_ca_file"),
            (Mood::Ahead, "by our own clock"),
        ] {
            tsa.set_mood(mood)?;
            let (code, said) = seal_now(alfa)?;
            ensure!(code == Some(1) && said.contains(word), "{mood:?}: {code:?} {said}");
            let (seals, stamps) = recorded(alfa)?;
            ensure!(seals.len() == 1 && stamps.is_empty(), "{mood:?}: {stamps:?}");
            let found = SealFolder::at(&alfa.seals()).list()?;
            ensure!(found.iter().all(|found| !found.has(Part::Stamp)), "{mood:?}: it was kept");
        }
        tsa.set_mood(Mood::Good)?;
        let (code, said) = seal_now(alfa)?;
        ensure!(code == Some(0), "{code:?} {said}");
        ensure!(judge(testbed, alfa, &tsa)? == 1);
        Ok(())
    });
}

#[test]
fn trace_seal_is_stamped_over_https_by_an_authority_that_asks_for_a_password() {
    two_providers().test(|testbed| {
        let (tsa, alfa) = (authority_of_alfa(testbed, true)?, alfa(testbed)?);
        tsa.demand("alfa", "così è")?;
        let letter = Letter::new("https");
        letter.send(testbed)?;
        letter.conclude(testbed)?;
        let (code, said) = seal_now(alfa)?;
        ensure!(
            code == Some(1) && said.contains("cannot be reached"),
            "its CA is none of this machine: {code:?} {said}"
        );
        let bundle = testbed.pki.tls_root();
        let bundle = [("SSL_CERT_FILE", bundle.to_str().context("no text")?)];
        let ask = || alfa.command_with(&["log", "seal"], &bundle);
        let (code, said) = ask()?;
        ensure!(code == Some(1) && said.contains("401") && said.contains("log.tsa_user"), "{code:?} {said}");

        let password = testbed.folder().join("tsa.password");
        let configure = |from: &str, word: &str| -> Result<PathBuf> {
            fs::write(&password, format!("{word}\n"))?;
            let kept = alfa.keep_secret(&password)?;
            alfa.reconfigure(from, &format!("[log]\ntsa_user = \"alfa\"\ntsa_password_file = {kept:?}\n"))?;
            Ok(kept)
        };
        let kept = configure("[log]\n", "così no")?;
        let (code, said) = ask()?;
        ensure!(code == Some(1) && said.contains("401") && !said.contains("così"), "{code:?} {said}");
        fs::write(&kept, "così è\n")?;
        let (code, said) = ask()?;
        ensure!(code == Some(0), "{code:?} {said}");
        ensure!(judge(testbed, alfa, &tsa)? == 1);

        // What is wrong with the files is told before anything runs.
        run(Command::new("chmod").arg("644").arg(&kept))?;
        alfa.reconfigure("tsa_ca_file = ", "tsa_ca_file = \"/nowhere/tsa.pem\" # ")?;
        let (is_good, said) = alfa.command(&["check-config"])?;
        ensure!(!is_good && said.contains("log.tsa_password_file") && said.contains("chmod 600"), "{said}");
        ensure!(said.contains("log.tsa_ca_file") && said.contains("/nowhere/tsa.pem"), "{said}");
        Ok(())
    });
}
