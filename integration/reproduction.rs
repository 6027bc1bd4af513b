//! Receipts made again from the event log (RFC 6109 §2.3): beside the ones that the mailboxes hold, with the same octets but
//! for signature and mark; with and without the originals, under another name and another key.

#[path = "support/infected.rs"]
mod infected;
#[path = "support/originals.rs"]
mod originals;
#[path = "support/mod.rs"]
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use jiff::{Timestamp, ToSpan};
use originals::keep_originals;
use pec_milter::adapters::sqlite::SqliteLog;
use pec_milter::legal_log::{Entry, EventKind};
use pec_milter::model::TemporalReference;
use pec_testbed::disk::SmallDisk;
use pec_testbed::pki::Request;
use pec_testbed::referee::{MadeBy, Referee, openssl_cms_verify};
use pec_testbed::{Host, PATIENCE, Plan, Port, Received, Testbed, wait_until};
use rusqlite::Connection;
use serde_json::Value;
use support::{ELSEWHERE, HERE, Letter, SENDER, two_providers};

const SERVICE: &str = "ricevute@alfa.example";
const MARK: &str = "X-Riproduzione";

/// All entries of a host's log.
fn entries(host: &Host) -> Result<Vec<Entry>> {
    let log = SqliteLog::open_read_only(&host.daemon()?.event_log())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let all = TemporalReference::from_unix(0)..TemporalReference::from_unix(i64::MAX);
    Ok(runtime.block_on(log.of_period(all, 10_000))?.into_iter().map(|one| one.entry).collect())
}

/// The PEC msgid of the transaction that the client's msgid names.
fn transaction(host: &Host, msgid: &str) -> Result<String> {
    let of_client = |entry: &Entry| entry.client_msgid.as_ref().is_some_and(|id| id.as_str() == msgid);
    let found = entries(host)?.into_iter().find(of_client).with_context(|| format!("no {msgid}"))?;
    Ok(found.pec_msgid.context("no PEC msgid")?.to_string())
}

/// What `receipt reproduce` writes, and what it says; the name of each file ends with the kind.
fn reproduced(testbed: &Testbed, host: &Host, arguments: &[&str]) -> Result<(Vec<(String, Received)>, String)> {
    let folder = tempfile::tempdir_in(testbed.folder())?;
    let out = folder.path().join("out");
    let said =
        host.command(&[&["receipt", "reproduce", "--out", out.to_str().context("UTF-8")?], arguments].concat())?;
    let mut files = Vec::new();
    let mut paths: Vec<PathBuf> = fs::read_dir(&out)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    paths.sort();
    for path in paths {
        ensure!(fs::metadata(&path)?.permissions().mode() & 0o777 == 0o600, "{} is open to others", path.display());
        let name = path.file_stem().and_then(|name| name.to_str()).context("UTF-8")?;
        let kind = name.split_once('-').context("no kind")?.1.to_owned();
        files.push((kind, Received { mailbox: path.display().to_string(), bytes: fs::read(&path)? }));
    }
    Ok((files, said))
}

/// What the signature covers, without the mark of a reproduction, and that mark.
fn unmarked(message: &Received) -> Result<(String, Option<String>)> {
    let signed = String::from_utf8_lossy(&message.signed_part()?).into_owned();
    let Some(begin) = signed.find(&format!("{MARK}: ")) else { return Ok((signed, None)) };
    let end = signed[begin..].find("\r\n").context("no line end")? + begin;
    Ok((format!("{}{}", &signed[..begin], &signed[end + 2..]), Some(signed[begin..end].to_owned())))
}

/// text/plain and text/html with all their headers, as they travel.
fn texts(message: &Received) -> Result<String> {
    let signed = String::from_utf8_lossy(&message.signed_part()?).into_owned();
    let begin = signed.find("Content-Type: multipart/alternative").context("no texts")?;
    let end = signed.find("Content-Type: application/xml").context("no daticert.xml")?;
    Ok(signed[begin..end].to_owned())
}

/// Both tell the same in the same octets; the second one says that it was made again.
fn same(first: &Received, again: &Received) -> Result<()> {
    ensure!(first.certification_data()? == again.certification_data()?, "another daticert.xml");
    ensure!(texts(first)? == texts(again)?, "other texts");
    let fields = ["Date", "Subject", "From", "To", "Message-ID", "X-Ricevuta", "X-Riferimento-Message-ID"];
    for field in fields.into_iter().chain(["X-Mittente", "X-VerificaSicurezza", "X-TipoRicevuta"]) {
        ensure!(first.fields(field) == again.fields(field), "another {field}: {}", again.header());
    }
    let (_, mark) = unmarked(again)?;
    let outside = again.fields(MARK);
    ensure!(
        mark == outside.first().map(|value| format!("{MARK}: {value}")) && outside.len() == 1,
        "{mark:?} {outside:?}"
    );
    ensure!(outside.concat().starts_with("dal registro, ") && first.field(MARK).is_none());
    Ok(())
}

/// The errors that the referee finds in a message.
fn errors(testbed: &Testbed, message: &Received) -> Result<Vec<String>> {
    let folder = tempfile::tempdir_in(testbed.folder())?;
    let file = folder.path().join("message.eml");
    fs::write(&file, &message.bytes)?;
    let Some(referee) = Referee::find() else {
        return openssl_cms_verify(&file, &testbed.pki.root()).map(|()| Vec::new());
    };
    let findings = referee.check(&[file], &testbed.pki.root(), MadeBy::Us)?;
    Ok(findings.into_iter().filter(|line| line.contains(" ERROR ")).collect())
}

/// Every receipt and notice of all mailboxes by its Message-ID.
fn notifications(testbed: &Testbed) -> Result<BTreeMap<String, Received>> {
    let all = testbed.received()?.into_iter().filter(|one| one.field("X-Ricevuta").is_some());
    Ok(all.map(|one| (one.field("Message-ID").unwrap_or_default(), one)).collect())
}

fn submit(host: &Host, user: &str, to: &[&str], message: &[u8]) -> Result<()> {
    let from = format!("{user}@{}", host.site.domain);
    let dialogue = host.submit(user, Port::Submissions, &from, to, message)?;
    ensure!(dialogue.accepted(), "{dialogue}");
    Ok(())
}

fn reproductions(host: &Host) -> Result<Vec<Value>> {
    let rows = entries(host)?.into_iter().filter(|entry| entry.kind == EventKind::Reproduction);
    rows.map(|entry| Ok(serde_json::from_str(entry.details.as_deref().unwrap_or_default())?)).collect()
}

#[test]
fn trace_reproduce_gives_every_kind_of_receipt_as_its_holder_has_it() {
    let plan = Plan::new(env!("CARGO_BIN_EXE_pec-milter"))
        .provider("alfa", &["anna", "carla"])
        .with_pec_milter("[timeouts]\nfirst_seconds = 4\nfinal_seconds = 9\n")
        .provider("beta", &["bruno"])
        .with_clamd("");
    plan.test(|testbed| {
        let (alfa, beta) = (testbed.host("alfa")?, testbed.host("beta")?);
        keep_originals(testbed, alfa, 1)?;
        keep_originals(testbed, beta, 2)?;
        let nobody = "nessuno@beta.example";

        let header = format!("From: {SENDER}\r\nTo: {ELSEWHERE}, {nobody}\r\nCc: {HERE}\r\n");
        let complete = format!(
            "{header}Subject: =?utf-8?q?perch=C3=A9_=E2=82=AC?= & <no>\r\nMessage-ID: <intero@client.example>\r\nReply-To: {HERE}\r\n\
             MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\nperch\u{e9} no\r\n"
        );
        submit(alfa, "anna", &[ELSEWHERE, nobody, HERE], complete.as_bytes())?;
        let brief = String::from_utf8(infected::message("breve", &[ELSEWHERE], b"allegato"))?;
        submit(alfa, "anna", &[ELSEWHERE], format!("X-TipoRicevuta: breve\r\n{brief}").as_bytes())?;
        let odd = format!("From: {HERE}\r\nTo: {ELSEWHERE}\r\nSubject:   due  spazi\tperch\u{e9} =?utf-8?q?=07=0A_x?= \r\n\r\nCiao\r\n");
        submit(alfa, "anna", &[ELSEWHERE], odd.as_bytes())?;
        submit(alfa, "anna", &[ELSEWHERE], &infected::infected("virus", &[ELSEWHERE]))?;
        let own = String::from_utf8(infected::infected("virus-suo", &[SENDER]))?.replacen(SENDER, ELSEWHERE, 1);
        submit(beta, "bruno", &[SENDER], own.as_bytes())?;
        let expected: BTreeSet<&str> = [
            "accettazione", "non-accettazione", "presa-in-carico", "avvenuta-consegna", "errore-consegna",
            "rilevazione-virus",
        ]
        .into();
        let kinds = |all: &BTreeMap<String, Received>| all.values().map(Received::kind).collect::<BTreeSet<_>>();
        wait_until("receipts of every kind", PATIENCE, || {
            let found = kinds(&notifications(testbed)?);
            ensure!(expected.iter().all(|kind| found.contains(*kind)), "{found:?}");
            Ok(())
        })?;
        testbed.wait_for_empty_queues()?;
        beta.stop_postfix()?;
        submit(alfa, "anna", &[ELSEWHERE], &infected::message("silenzio", &[ELSEWHERE], b"x"))?;
        wait_until("both timeout notices", PATIENCE, || {
            let kinds: Vec<EventKind> = entries(alfa)?.iter().map(|entry| entry.kind).collect();
            ensure!(kinds.contains(&EventKind::FirstTimeout) && kinds.contains(&EventKind::FinalTimeout), "not yet");
            Ok(())
        })?;
        beta.start_postfix()?;
        alfa.flush_queue()?;
        testbed.wait_for_empty_queues()?;

        let held = notifications(testbed)?;
        let (mut seen, mut names) = (BTreeSet::new(), BTreeSet::new());
        for host in [alfa, beta] {
            let before = reproductions(host)?.len();
            let told = entries(host)?.into_iter().filter(|entry| entry.notification.is_some());
            let ids: BTreeSet<String> = told.filter_map(|entry| Some(entry.pec_msgid?.to_string())).collect();
            let mut count = 0;
            for id in &ids {
                let (files, said) = reproduced(testbed, host, &[id])?;
                ensure!(!said.contains("WITHOUT"), "{said}");
                for (kind, again) in files {
                    let own_id = again.field("Message-ID").context("no Message-ID")?;
                    let first = held.get(&own_id).with_context(|| format!("nobody has {own_id}:\n{}", again.header()))?;
                    same(first, &again).with_context(|| format!("{kind} {own_id}"))?;
                    ensure!(unmarked(first)?.0 == unmarked(&again)?.0, "{kind} {own_id}: another signed part");
                    let errors = errors(testbed, &again)?;
                    ensure!(errors.is_empty(), "{kind} {own_id}: {errors:#?}");
                    ensure!(seen.insert(own_id), "made twice");
                    names.insert(kind);
                    count += 1;
                }
            }
            let rows = reproductions(host)?;
            ensure!(rows.len() - before == count, "{count} reproductions, but {} rows", rows.len() - before);
            ensure!(rows.iter().all(|row| row["written"] == true && row["sent_to"].is_null() && row["by"] == "root"), "{rows:#?}");
        }
        assert_eq!(seen, held.keys().cloned().collect(), "every receipt and notice that somebody has, and no other");
        let kinds = [
            "acceptance", "delivery", "non-acceptance", "non-delivery", "take-charge", "timeout-final", "timeout-first",
            "virus-detection", "virus-non-delivery",
        ];
        assert_eq!(names.iter().map(String::as_str).collect::<Vec<_>>(), kinds);

        // One of a kind, one recipient's, and none.
        let id = transaction(beta, "<intero@client.example>")?;
        let of = |arguments: &[&str]| -> Result<Vec<String>> {
            let (files, _) = reproduced(testbed, beta, &[&[id.as_str()], arguments].concat())?;
            Ok(files.into_iter().map(|(kind, _)| kind).collect())
        };
        assert_eq!(of(&[])?, ["take-charge", "delivery", "non-delivery"]);
        assert_eq!(of(&["--kind", "delivery"])?, ["delivery"]);
        assert_eq!(of(&["--recipient", "NESSUNO@beta.example"])?, ["take-charge", "non-delivery"]);
        let (found, said) = beta.daemon()?.command(&["receipt", "reproduce", &id, "--kind", "acceptance"])?;
        assert!(!found && said.contains("issued no such receipt"), "{said}");
        Ok(())
    });
}

#[test]
fn trace_reproduce_sends_a_receipt_to_whom_it_went() {
    two_providers().test(|testbed| {
        let (alfa, beta, letter) = (testbed.host("alfa")?, testbed.host("beta")?, Letter::new("mandata"));
        letter.send(testbed)?;
        letter.conclude(testbed)?;
        let id = transaction(beta, &letter.msgid)?;
        let before = notifications(testbed)?;
        // Into a mailbox here at once; through Postfix to another provider, a service mailbox and a user.
        let said = alfa.command(&["receipt", "reproduce", &id, "--kind", "acceptance", "--send"])?;
        assert!(said.contains(&format!("sent to {SENDER}: acceptance")), "{said}");
        beta.command(&["receipt", "reproduce", &id, "--send"])?;
        let all = testbed.received_when(&[(SENDER, 5), (SERVICE, 3), (HERE, 1), (ELSEWHERE, 1)])?;
        let again: Vec<&Received> = all.iter().filter(|one| one.field(MARK).is_some()).collect();
        let mut went: Vec<(&str, String)> = again.iter().map(|one| (one.mailbox.as_str(), one.kind())).collect();
        went.sort();
        let expected = [(SENDER, "accettazione"), (SENDER, "avvenuta-consegna"), (SERVICE, "presa-in-carico")];
        assert_eq!(went, expected.map(|(to, kind)| (to, kind.to_owned())));
        for one in again {
            let first = &before[&one.field("Message-ID").context("no Message-ID")?];
            assert_eq!((one.mailbox.as_str(), one.field("To")), (first.mailbox.as_str(), Some(first.mailbox.clone())));
            same(first, one)?;
        }
        let sent: Vec<Value> = reproductions(beta)?.into_iter().map(|row| row["sent_to"].clone()).collect();
        assert_eq!(sent, [Value::from(SERVICE), Value::from(SENDER)]);
        let shown = alfa.command(&["log", "show", &id])?;
        assert!(
            shown.contains(&format!("to {SENDER} for root")) && shown.contains("reproduction of acceptance"),
            "{shown}"
        );

        // A row that somebody changed is not made true by a signature of today.
        let log = Connection::open(alfa.daemon()?.event_log())?;
        log.execute_batch("DROP TRIGGER event_refuses_update")?;
        let change = |subject: &str| log.execute("UPDATE event SET subject = ? WHERE kind = 'acceptance'", [subject]);
        let subject: String =
            log.query_row("SELECT subject FROM event WHERE kind = 'acceptance'", [], |row| row.get(0))?;
        change("altro")?;
        let folder = testbed.folder().join("extract");
        let day = jiff::Zoned::now().date().to_string();
        let extract = ["log", "extract", "--mailbox", SENDER, "--from", &day, "--to", &day, "--out"];
        let out = folder.to_str().context("UTF-8")?;
        for arguments in [&["receipt", "reproduce", &id, "--out", out][..], &[&extract[..], &[out]].concat()] {
            let (done, said) = alfa.daemon()?.command(arguments)?;
            ensure!(!done && said.contains("run `pec-milter log verify`"), "{arguments:?}: {said}");
            ensure!(said.contains("does not have the hash of its content") && !folder.exists(), "{said}");
        }
        // What every test ends with is an audit of the log.
        change(&subject)?;
        Ok(())
    });
}

#[test]
fn trace_reproduce_keeps_the_name_of_then_and_signs_with_the_key_of_today_and_says_what_it_lacks() {
    two_providers().test(|testbed| {
        let (alfa, letter) = (testbed.host("alfa")?, Letter::new("allora"));
        letter.send(testbed)?;
        letter.conclude(testbed)?;
        let id = transaction(alfa, &letter.msgid)?;
        let (daemon, old) = (alfa.daemon()?, alfa.provider.as_ref().context("no provider")?);
        let name = "Alfa Nuova PEC S.p.A.";
        let mut request = Request::provider("alfa-nuova", name, &old.sending_address);
        // A referee holds the certificate against the `Date` of the receipt, which is that of the first time.
        request.validity = Some(("20200101000000Z".to_owned(), "20400101000000Z".to_owned()));
        let new = testbed.pki.issue(&request)?;
        let text = fs::read_to_string(&daemon.configuration)?;
        let (_, rest) = text.split_once("[key]\n").context("no [key]")?;
        let (lines, _) = rest.split_once("\n[").context("nothing after [key]")?;
        let key = daemon.keep_secret(&new.key)?;
        daemon.reconfigure(lines, &format!("private_key = {key:?}\ncertificate = {:?}\n", new.chain))?;
        daemon.reconfigure(&format!("name = {:?}", old.name), &format!("name = {name:?}"))?;

        let held = notifications(testbed)?;
        let (files, said) = reproduced(testbed, alfa, &[&id])?;
        let kinds: Vec<&str> = files.iter().map(|(kind, _)| kind.as_str()).collect();
        assert_eq!(kinds, ["acceptance", "take-charge", "delivery"]);
        assert!(!said.contains("WITHOUT"), "carla's receipt is a concise one: {said}");
        for (kind, again) in &files {
            let first = &held[&again.field("Message-ID").context("no Message-ID")?];
            same(first, again).with_context(|| kind.clone())?;
            ensure!(unmarked(first)?.0 == unmarked(again)?.0, "{kind}: another signed part");
            assert_eq!(again.certified("gestore-emittente")?, std::slice::from_ref(&old.name));
            let errors = errors(testbed, again)?;
            ensure!(errors.is_empty(), "{kind}: {errors:#?}");
        }

        // A renewed key's certificate begins after the receipt's `Date`, and nothing else is wrong with it.
        let begins = Timestamp::now() + 1.second();
        request.name = "alfa-rinnovata".to_owned();
        request.validity = Some((begins.strftime("%Y%m%d%H%M%SZ").to_string(), "20400101000000Z".to_owned()));
        let renewed = testbed.pki.issue(&request)?;
        let renewed_key = daemon.keep_secret(&renewed.key)?;
        let lines = |key: &PathBuf, chain: &PathBuf| format!("private_key = {key:?}\ncertificate = {chain:?}\n");
        daemon.reconfigure(&lines(&key, &new.chain), &lines(&renewed_key, &renewed.chain))?;
        wait_until("the renewed certificate to begin", PATIENCE, || {
            ensure!(Timestamp::now() >= begins, "not yet");
            Ok(())
        })?;
        for (kind, again) in reproduced(testbed, alfa, &[&id])?.0 {
            let errors = errors(testbed, &again)?;
            let is_expected = errors.len() == 1 && errors[0].contains("certificate-validity");
            ensure!(is_expected || (errors.is_empty() && Referee::find().is_none()), "{kind}: {errors:#?}");
        }

        // Beta kept no original, so its complete receipt comes without, says so, and is no complete one to a referee.
        let beta = testbed.host("beta")?;
        let (files, said) = reproduced(testbed, beta, &[&id, "--kind", "delivery"])?;
        let [(_, again)] = files.as_slice() else { panic!("{}", files.len()) };
        assert!(said.contains("WITHOUT THE ORIGINAL"), "{said}");
        same(&held[&again.field("Message-ID").context("no Message-ID")?], again)?;
        assert!(
            again.field(MARK).unwrap_or_default().ends_with("; senza il messaggio originale"),
            "{}",
            again.header()
        );
        assert!(again.attachment("postacert.eml").is_none());
        let errors = errors(testbed, again)?;
        if Referee::find().is_some() {
            let has = |code: &str| errors.iter().any(|line| line.contains(code));
            assert!(errors.len() == 2 && has("original-missing") && has("kind-conflict"), "{errors:#?}");
        }
        assert_eq!(reproductions(beta)?[0]["lacks_original"], true);
        Ok(())
    });
}

#[test]
fn trace_reproduce_originals_that_a_full_disk_does_not_take_hold_the_delivery_back() {
    two_providers().test(|testbed| {
        let (beta, letter) = (testbed.host("beta")?, Letter::new("disco-pieno"));
        let store = keep_originals(testbed, beta, 7)?;
        let daemon = beta.daemon()?;
        let disk = SmallDisk::under(&store, "2m")?;
        let ballast = disk.fill()?;
        letter.send(testbed)?;
        wait_until("Postfix to keep the envelope because of a 451", PATIENCE, || {
            let queue = beta.queue()?;
            ensure!(queue.contains("451 4.3.0 the original could not be kept"), "{queue}\n{}", daemon.log());
            Ok(())
        })?;
        let events = daemon.timeline(&letter.msgid)?;
        ensure!(events.iter().all(|event| event.kind != "delivery"), "nothing is delivered, but {events:#?}");
        ensure!(beta.fetch("bruno")?.is_empty(), "bruno has what is not certified");

        // Killed before the mailbox is offered it: the next attempt finds the original kept.
        daemon.stop()?;
        daemon.start_with(&[("PEC_CRASH_AT", "original-kept")])?;
        fs::remove_file(&ballast)?;
        wait_until("the daemon to die", PATIENCE, || {
            beta.flush_queue()?;
            ensure!(!daemon.is_running()?, "it runs");
            Ok(())
        })?;
        daemon.start()?;
        letter.conclude(testbed)?.check_single()?;
        let kept = |folder: &PathBuf| -> Result<usize> { Ok(fs::read_dir(folder)?.count()) };
        let days: Vec<PathBuf> = fs::read_dir(&store)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
        assert_eq!((days.len(), kept(&days[0])?), (1, 1), "one original, and nothing half written");

        let id = transaction(beta, &letter.msgid)?;
        let (files, said) = reproduced(testbed, beta, &[&id, "--kind", "delivery"])?;
        files[0].1.carries(&letter.message).with_context(|| said)?;

        // Another key opens nothing, and is told from an altered file; a key that is none stops the start.
        let arguments = ["receipt", "reproduce", &id, "--kind", "delivery"];
        let refused = |words: &str| -> Result<()> {
            let (done, said) = daemon.command(&arguments)?;
            ensure!(!done && said.contains(words) && said.contains("--without-original"), "{said}");
            Ok(())
        };
        // The take-charge carries no original, and is made all the same; nor does a lost key hold anything up.
        let without = |arguments: &[&str], count: usize| -> Result<()> {
            let folder = tempfile::tempdir_in(testbed.folder())?;
            let out = ["receipt", "reproduce", &id, "--out", folder.path().to_str().context("UTF-8")?];
            let (_, said) = daemon.command(&[&out[..], arguments].concat())?;
            ensure!(fs::read_dir(folder.path())?.count() == count, "{said}");
            ensure!(said.contains("WITHOUT THE ORIGINAL") == (count == 2), "{said}");
            Ok(())
        };
        let key = daemon.state_folder().join("beta-7.key");
        fs::write(&key, [8; 32])?;
        refused("it was encrypted with another key than that of log.originals_key_file")?;
        fs::write(&key, [7; 32])?;
        let file = fs::read_dir(&days[0])?.next().context("no original")??.path();
        let mut octets = fs::read(&file)?;
        *octets.last_mut().context("empty")? ^= 1;
        fs::write(&file, octets)?;
        refused("it was altered")?;
        without(&[], 1)?;
        without(&["--without-original"], 2)?;
        let lost = key.with_extension("lost");
        fs::rename(&key, &lost)?;
        without(&["--without-original"], 2)?;
        fs::rename(&lost, &key)?;
        for (content, mode, words) in [(vec![7; 31], 0o400, "exactly 32 octets"), (vec![7; 32], 0o440, "run chmod 600")]
        {
            fs::write(&key, content)?;
            fs::set_permissions(&key, fs::Permissions::from_mode(mode))?;
            let (good, said) = daemon.command(&["check-config"])?;
            ensure!(!good && said.contains(words) && said.contains("log.originals_key_file"), "{said}");
        }
        drop(disk);
        Ok(())
    });
}
