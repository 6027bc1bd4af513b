//! The provider's own key: where it lies, how another follows it, and what happens at the end of a certificate.

#[path = "support/mod.rs"]
mod support;

use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use jiff::Timestamp;
use pec_testbed::ldif::{self, Record};
use pec_testbed::metrics;
use pec_testbed::pki::{Identity, Request};
use pec_testbed::referee::openssl_cms_verify;
use pec_testbed::{Daemon, Host, KeyForm, PATIENCE, Port, Received, Testbed, wait_until};
use support::{ENVELOPE, Letter, two_providers};

const DAY: i64 = 86_400;

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map(|elapsed| elapsed.as_secs() as i64).unwrap_or_default()
}

fn calendar(unix: i64, form: &str) -> Result<String> {
    Ok(Timestamp::from_second(unix)?.strftime(form).to_string())
}

/// A request for a certificate of alfa, valid until this instant.
fn request(name: &str, until: i64) -> Result<Request> {
    let mut request = Request::provider(name, "Alfa PEC S.p.A.", "posta-certificata@alfa.example");
    let instant = |unix| calendar(unix, "%Y%m%d%H%M%SZ");
    request.validity = Some((instant(now() - DAY)?, instant(until)?));
    Ok(request)
}

fn identity(testbed: &Testbed, name: &str, until: i64) -> Result<Identity> {
    testbed.pki.issue(&request(name, until)?)
}

/// The lines of a section for a key in files.
fn lines(daemon: &Daemon, identity: &Identity) -> Result<String> {
    let key = daemon.keep_secret(&identity.key)?;
    Ok(format!("private_key = {key:?}\ncertificate = {:?}\n", identity.chain))
}

/// Puts another key into `[key]`.
fn set_key(daemon: &Daemon, identity: &Identity) -> Result<()> {
    let text = std::fs::read_to_string(&daemon.configuration)?;
    let (_, rest) = text.split_once("[key]\n").context("no [key]")?;
    let (old, _) = rest.split_once("\n[").context("nothing after [key]")?;
    daemon.reconfigure(&format!("[key]\n{old}"), &format!("[key]\n{}", lines(daemon, identity)?))
}

/// Writes the directory anew, with these certificates for alfa.
fn publish(testbed: &Testbed, of_alfa: &[&Identity]) -> Result<()> {
    let record = |host: &Host, certificates| -> Result<Record> {
        let provider = host.provider.as_ref().context("no provider")?;
        Ok(Record {
            provider_name: provider.name.clone(),
            certificates,
            mail_receipt: provider.service_mailbox.clone(),
            managed_domains: vec![host.site.domain.clone()],
        })
    };
    let (alfa, beta) = (testbed.host("alfa")?, testbed.host("beta")?);
    let certificates = of_alfa.iter().map(|identity| identity.certificate.clone()).collect();
    let of_beta = vec![beta.provider.as_ref().context("no provider")?.identity.certificate.clone()];
    let records = [record(alfa, certificates)?, record(beta, of_beta)?];
    std::fs::write(&testbed.ldif, ldif::write(&records)?).map_err(Into::into)
}

fn original(testbed: &Testbed) -> Result<Identity> {
    Ok(testbed.host("alfa")?.provider.as_ref().context("alfa is a provider")?.identity.clone())
}

/// What `openssl x509 -serial` says.
fn serial(certificate: &Path) -> Result<String> {
    let output = Command::new("openssl").args(["x509", "-noout", "-serial", "-in"]).arg(certificate).output()?;
    let said = String::from_utf8(output.stdout)?;
    Ok(said.trim().strip_prefix("serial=").with_context(|| format!("no serial number: {said}"))?.to_owned())
}

/// The serial number of the certificate that signed a message.
fn signer(testbed: &Testbed, message: &Received) -> Result<String> {
    let folder = tempfile::tempdir_in(testbed.folder())?;
    let (file, certificate) = (folder.path().join("message.eml"), folder.path().join("signer.pem"));
    std::fs::write(&file, &message.bytes)?;
    let mut command = Command::new("openssl");
    command.args(["cms", "-verify", "-noverify", "-inform", "SMIME", "-out", "/dev/null", "-in"]).arg(&file);
    let output = command.arg("-signer").arg(&certificate).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serial(&certificate)
}

fn is_of_alfa(message: &&Received) -> bool {
    message.field("From").is_some_and(|from| from.contains("posta-certificata@alfa.example"))
}

fn wait_until_past(instant: i64) -> Result<()> {
    wait_until("an instant to pass", PATIENCE, || match now() {
        past if past > instant => Ok(()),
        early => bail!("{} seconds are left", instant - early),
    })
}

#[test]
fn trust_keys_in_pkcs12_and_in_the_rust_engine_sign_what_everybody_takes() {
    two_providers().with_key("alfa", KeyForm::Pkcs12).with_key("beta", KeyForm::Rust).test(|testbed| {
        let letter = Letter::new("forms");
        letter.send(testbed)?;
        letter.conclude(testbed)?.check_single()
    });
}

#[test]
fn trust_the_next_key_takes_over_in_the_midst_of_mail_without_a_restart() {
    two_providers().test(|testbed| {
        let alfa = testbed.host("alfa")?.daemon()?;
        let (old, new) = (original(testbed)?, identity(testbed, "alfa-next", now() + 365 * DAY)?);
        publish(testbed, &[&old, &new])?;
        testbed.host("beta")?.daemon()?.reload_and_wait()?;
        let starts = now() + 15;
        let section = lines(alfa, &new)? + &format!("starts = {:?}\n", calendar(starts, "%Y-%m-%dT%H:%M:%SZ")?);
        alfa.reconfigure("[trust]", &format!("[next_key]\n{section}\n[trust]"))?;
        alfa.reload_and_wait()?;
        let process = alfa.process_id()?;
        ensure!(now() < starts, "this machine is too slow for the test");
        wait_until_past(starts - 2)?;

        let mut letters = Vec::new();
        while now() <= starts {
            let letter = Letter::new(&format!("rollover-{}", letters.len()));
            letter.send(testbed)?;
            letters.push(letter);
        }
        let [old, new] = [serial(&old.certificate)?, serial(&new.certificate)?];
        let (mut by_old, mut by_new) = (0, 0);
        for letter in &letters {
            for message in letter.conclude(testbed)?.messages.iter().filter(is_of_alfa) {
                let date = message.field("Date").context("no Date")?;
                let at = jiff::fmt::rfc2822::parse(date.trim())?.timestamp().as_second();
                let (expected, count) = if at < starts { (&old, &mut by_old) } else { (&new, &mut by_new) };
                *count += 1;
                let found = signer(testbed, message)?;
                ensure!(
                    found == *expected,
                    "a {} of {date} should be signed by {expected}, not {found}",
                    message.kind()
                );
            }
        }
        ensure!(by_old > 0 && by_new > 0, "{by_old} messages were signed before and {by_new} after the change");
        ensure!(alfa.process_id()? == process, "the daemon was started anew");
        ensure!(alfa.log().contains(&format!("serial=\"{new}\"")), "the change is not told:\n{}", alfa.log());
        Ok(())
    });
}

#[test]
fn trust_an_envelope_that_waits_while_its_certificate_expires_and_leaves_the_directory_gets_its_receipts() {
    two_providers().test(|testbed| {
        let (host, beta) = (testbed.host("alfa")?, testbed.host("beta")?);
        let alfa = host.daemon()?;
        // The envelope leaves for beta while alfa's daemon, which tells the TLS policies, is dead.
        host.set_postfix(&format!(
            "site_tls_policy = inline:{{ {{ beta.example:{} = encrypt }} }}\n",
            Port::Smtp.number()
        ))?;
        let end = now() + 40;
        let (old, new) = (identity(testbed, "alfa-old", end)?, identity(testbed, "alfa-new", now() + 365 * DAY)?);
        publish(testbed, &[&old])?;
        beta.daemon()?.reload_and_wait()?;
        set_key(alfa, &old)?;
        alfa.stop()?;
        alfa.start_with(&[("PEC_CRASH_AT", "hop-begin")])?;
        let letter = Letter::new("waits");
        letter.send(testbed)?;
        alfa.wait_for_end()?;
        beta.fetch_when("bruno", 1)?;
        ensure!(now() <= end, "this machine is too slow for the test");

        wait_until_past(end)?;
        publish(testbed, &[&new])?;
        set_key(alfa, &new)?;
        alfa.start()?;
        wait_until("the hop to refuse it", PATIENCE, || {
            host.flush_queue()?;
            let is_refused = alfa.log().contains("is not in the providers directory");
            if is_refused { Ok(()) } else { bail!("{}", alfa.log()) }
        })?;
        beta.daemon()?.reload_and_wait()?;
        let previous = format!("[key]\nprevious_certificates = [{:?}]\n", old.certificate);
        alfa.reconfigure("[key]\n", &previous)?;
        alfa.reload_and_wait()?;
        wait_until("all that comes of it", PATIENCE, || {
            testbed.hosts().iter().try_for_each(Host::flush_queue)?;
            letter.evidence(testbed)?.check()
        })?;
        testbed.wait_for_empty_queues()?;

        let evidence = letter.evidence(testbed)?;
        evidence.check()?;
        let [old, new] = [serial(&old.certificate)?, serial(&new.certificate)?];
        let file = testbed.folder().join("receipt.eml");
        for message in evidence.messages.iter().filter(is_of_alfa) {
            let found = signer(testbed, message)?;
            if message.is(ENVELOPE) {
                ensure!(found == old, "the envelope was made with the old key");
                continue;
            }
            ensure!(found == new, "a {} is signed by a certificate that has expired", message.kind());
            std::fs::write(&file, &message.bytes)?;
            openssl_cms_verify(&file, &testbed.pki.root())?;
        }
        Ok(())
    });
}

#[test]
fn trust_an_envelope_that_waits_while_a_reload_replaces_key_and_directory_is_certified() {
    two_providers().test(|testbed| {
        let (host, beta) = (testbed.host("alfa")?, testbed.host("beta")?);
        let alfa = host.daemon()?;
        let new = identity(testbed, "alfa-new", now() + 365 * DAY)?;
        // Postfix does not find the hop meanwhile.
        let socket = host.site.spool().join("pec-milter/lmtp");
        let hidden = socket.with_extension("hidden");
        std::fs::rename(&socket, &hidden)?;
        let letter = Letter::new("reload");
        letter.send(testbed)?;
        beta.fetch_when("bruno", 1)?;
        set_key(alfa, &new)?;
        publish(testbed, &[&new])?;
        alfa.reload_and_wait()?;
        beta.daemon()?.reload_and_wait()?;
        std::fs::rename(&hidden, &socket)?;
        let evidence = letter.conclude(testbed)?;
        let [old, new] = [serial(&original(testbed)?.certificate)?, serial(&new.certificate)?];
        for message in evidence.messages.iter().filter(is_of_alfa) {
            let expected = if message.is(ENVELOPE) { &old } else { &new };
            ensure!(signer(testbed, message)? == *expected, "a {} is not signed by {expected}", message.kind());
        }
        Ok(())
    });
}

#[test]
fn trust_an_expired_certificate_signs_nothing_and_all_mail_waits_for_the_next_one() {
    two_providers().test(|testbed| {
        let (host, beta) = (testbed.host("alfa")?, testbed.host("beta")?);
        let alfa = host.daemon()?;
        let end = now() + 8;
        let (old, new) = (identity(testbed, "alfa-old", end)?, identity(testbed, "alfa-new", now() + 365 * DAY)?);
        publish(testbed, &[&old, &new])?;
        beta.daemon()?.reload_and_wait()?;
        set_key(alfa, &old)?;
        alfa.reload_and_wait()?;
        wait_until_past(end)?;

        let waits = |what: &str, dialogue: &pec_testbed::Dialogue| -> Result<()> {
            let code = dialogue.refusal().map(|answer| answer.code);
            ensure!(code.is_some_and(|code| (400..500).contains(&code)), "{what} should wait:\n{dialogue}");
            Ok(())
        };
        let letter = Letter::new("expired");
        waits("a submission", &letter.submit(testbed)?)?;
        let ordinary = b"From: mario@gamma.example\r\nTo: carla@alfa.example\r\nSubject: ordinaria\r\n\r\nCiao\r\n";
        let from_outside = || host.inject_as_peer("mario@gamma.example", &["carla@alfa.example"], ordinary);
        waits("ordinary mail", &from_outside()?)?;
        let log = alfa.log();
        ensure!(log.contains("expired on") && log.contains(&serial(&old.certificate)?), "no reason is told:\n{log}");

        let question = b"From: bruno@beta.example\r\nTo: carla@alfa.example\r\nSubject: domanda\r\n\r\nE allora?\r\n";
        let dialogue =
            beta.submit("bruno", Port::Submissions, "bruno@beta.example", &["carla@alfa.example"], question)?;
        ensure!(dialogue.accepted(), "{dialogue}");
        wait_until("the hop to wait for a key", PATIENCE, || {
            let is_told = alfa.log().contains("a notification could not be signed");
            if is_told { Ok(()) } else { bail!("{}", alfa.log()) }
        })?;
        ensure!(!host.queue()?.contains("empty"), "the envelope should wait at alfa");

        let (is_good, said) = alfa.command(&["check-config"])?;
        ensure!(!is_good && said.contains("expired on") && said.contains("[next_key]"), "{said}");
        alfa.stop()?;
        let refused = alfa.start().err().context("it starts with nothing to sign with")?;
        ensure!(format!("{refused:#}").contains("expired on"), "{refused:#}");
        waits("a submission without the daemon", &letter.submit(testbed)?)?;
        let signed = testbed.received()?;
        let by_alfa = signed.iter().filter(is_of_alfa).count();
        ensure!(by_alfa == 0, "{by_alfa} messages were signed by an expired certificate");

        set_key(alfa, &new)?;
        alfa.start()?;
        letter.send(testbed)?;
        letter.conclude(testbed)?;
        let of_bruno = [("accettazione", 1), ("avvenuta-consegna", 1)];
        let all = testbed.received()?;
        for (kind, count) in of_bruno {
            let found = all.iter().filter(|one| one.mailbox == "bruno@beta.example" && one.is(kind)).count();
            ensure!(found == count, "bruno should have {count} {kind}, but has {found}");
        }
        testbed.judge(&all)
    });
}

/// The name of the metric that counts down to the end of a certificate.
fn expiry_of(serial: &str) -> String {
    format!("pec_milter_certificate_expiry_seconds{{serial=\"{serial}\"}}")
}

#[test]
fn trust_a_daemon_that_runs_tells_each_stage_when_it_comes() {
    two_providers().test(|testbed| {
        let host = testbed.host("alfa")?;
        let alfa = host.daemon()?;
        alfa.reconfigure("[listen]\n", &format!("{}\n[listen]\n", metrics::settings(host.site.address)))?;
        alfa.stop()?;
        alfa.start()?;
        let process = alfa.process_id()?;
        for (name, days, level, before, after) in [
            ("sixty", 60, "WARN", None, "expires in less than 60 days"),
            ("thirty", 30, "WARN", Some("expires in less than 60 days"), "expires in less than 30 days"),
            ("seven", 7, "ERROR", Some("expires in less than 30 days"), "expires within 7 days"),
        ] {
            let end = now() + days * DAY + 20;
            let short = identity(testbed, name, end)?;
            let number = serial(&short.certificate)?;
            set_key(alfa, &short)?;
            let start = alfa.log().len();
            alfa.reload_and_wait()?;
            let told = |text: &str| {
                let news = alfa.log_after(start);
                let is_it = |line: &&str| line.contains(text) && line.contains(&number);
                news.lines().find(is_it).map(str::to_owned).with_context(|| format!("{text:?} is not told:\n{news}"))
            };
            if let Some(text) = before {
                wait_until(text, PATIENCE, || told(text))?;
            }
            ensure!(now() <= end - days * DAY, "this machine is too slow for the test");
            ensure!(told(after).is_err(), "{after:?} is told too early");
            let line = wait_until(after, PATIENCE, || told(after))?;
            ensure!(line.contains(level), "{line}");
            let left = metrics::value(host.site.address, &expiry_of(&number))?;
            ensure!(left < (days * DAY) as f64 && left > (days * DAY - 120) as f64, "{left} seconds are told");
        }
        ensure!(alfa.process_id()? == process, "the daemon was started anew");
        Ok(())
    });
}

#[test]
fn trust_a_certificate_that_is_not_valid_yet_signs_nothing_until_it_is() {
    two_providers().test(|testbed| {
        let host = testbed.host("alfa")?;
        let alfa = host.daemon()?;
        alfa.reconfigure("[listen]\n", &format!("{}\n[listen]\n", metrics::settings(host.site.address)))?;
        alfa.stop()?;
        alfa.start()?;
        let begin = now() + 20;
        let mut early = request("early", now() + 365 * DAY)?;
        early.validity = Some((calendar(begin, "%Y%m%d%H%M%SZ")?, calendar(begin + 365 * DAY, "%Y%m%d%H%M%SZ")?));
        let early = testbed.pki.issue(&early)?;
        publish(testbed, &[&early])?;
        testbed.host("beta")?.daemon()?.reload_and_wait()?;
        set_key(alfa, &early)?;
        alfa.reload_and_wait()?;
        ensure!(alfa.log().contains("NOTHING IS SIGNED until"), "the reload does not tell:\n{}", alfa.log());
        let letter = Letter::new("early");
        let dialogue = letter.submit(testbed)?;
        let code = dialogue.refusal().map(|answer| answer.code);
        ensure!(now() < begin, "this machine is too slow for the test");
        ensure!(code == Some(451), "a certificate that is not valid yet should sign nothing:\n{dialogue}");
        ensure!(alfa.log().contains("nothing is signed before"), "no reason is told:\n{}", alfa.log());

        let failures = metrics::value(host.site.address, "pec_milter_signing_failures_total")?;
        ensure!(failures >= 1.0, "{failures} failures are counted");

        wait_until_past(begin)?;
        letter.send(testbed)?;
        let evidence = letter.conclude(testbed)?;
        let expected = serial(&early.certificate)?;
        for message in evidence.messages.iter().filter(is_of_alfa) {
            ensure!(signer(testbed, message)? == expected, "a {} is signed by another", message.kind());
        }
        Ok(())
    });
}

#[test]
fn trust_the_end_of_a_certificate_is_told_in_the_log_by_check_config_and_in_the_metrics() {
    two_providers().test(|testbed| {
        let host = testbed.host("alfa")?;
        let alfa = host.daemon()?;
        let address = host.site.address;
        alfa.reconfigure("[listen]\n", &format!("{}\n[listen]\n", metrics::settings(address)))?;
        let mut last = original(testbed)?;
        for (name, days, level, text) in [
            ("sixty", 59, "WARN", "expires in less than 60 days"),
            ("thirty", 29, "WARN", "expires in less than 30 days"),
            ("seven", 6, "ERROR", "expires within 7 days"),
        ] {
            last = identity(testbed, name, now() + days * DAY + DAY / 2)?;
            set_key(alfa, &last)?;
            alfa.stop()?;
            let before = alfa.log().len();
            alfa.start()?;
            let number = serial(&last.certificate)?;
            wait_until(&format!("{text:?} in the log"), PATIENCE, || {
                let news = alfa.log_after(before);
                let line = news.lines().find(|line| line.contains(text)).context("nothing is told")?;
                ensure!(line.contains(level) && line.contains(&number), "{line}");
                Ok(())
            })?;
            let (is_good, said) = alfa.command(&["check-config"])?;
            ensure!(is_good && said.contains(text), "{said}");

            let left = metrics::value(address, &expiry_of(&number))?;
            let expected = (days * DAY + DAY / 2) as f64;
            ensure!((left - expected).abs() < 120.0, "{left} seconds are told, {expected} are left");
        }

        let next = identity(testbed, "next", now() + 365 * DAY)?;
        let section =
            lines(alfa, &next)? + &format!("starts = {:?}\n", calendar(now() + 2 * DAY, "%Y-%m-%dT%H:%M:%SZ")?);
        alfa.reconfigure("[trust]", &format!("[next_key]\n{section}\n[trust]"))?;
        publish(testbed, &[&last, &next])?;
        testbed.host("beta")?.daemon()?.reload_and_wait()?;
        alfa.stop()?;
        let before = alfa.log().len();
        alfa.start()?;
        let letter = Letter::new("counted");
        letter.send(testbed)?;
        letter.conclude(testbed)?;
        wait_until("the change to be foreseen and a signature to be counted", PATIENCE, || {
            let metrics = metrics::scrape(address)?;
            ensure!(metrics.contains("pec_milter_signatures_total"), "{metrics}");
            ensure!(metrics.contains(&serial(&next.certificate)?), "{metrics}");
            Ok(())
        })?;
        let news = alfa.log_after(before);
        ensure!(!news.contains("expires"), "the next key comes in time, so no end is to be told:\n{news}");
        let (is_good, said) = alfa.command(&["check-config"])?;
        ensure!(is_good && !said.contains("expires"), "{said}");
        Ok(())
    });
}

#[test]
fn trust_lists_that_end_before_the_next_key_begins_are_nothing_to_be_told() {
    two_providers().test(|testbed| {
        let alfa = testbed.host("alfa")?.daemon()?;
        testbed.pki.issue_list("provider-ca", 3600)?;
        let next = identity(testbed, "alfa-later", now() + 365 * DAY)?;
        let starts = calendar(now() + 10 * DAY, "%Y-%m-%dT%H:%M:%SZ")?;
        let section = lines(alfa, &next)? + &format!("starts = \"{starts}\"\n");
        alfa.reconfigure("[trust]", &format!("[next_key]\n{section}\n[trust]"))?;
        let (is_good, said) = alfa.command(&["check-config"])?;
        ensure!(is_good && !said.contains("next_key.certificate"), "{said}");
        // Revoked it is, whenever it begins.
        testbed.pki.revoke("provider-ca", &next.certificate, "20250101000000Z")?;
        testbed.pki.issue_list("provider-ca", 3600)?;
        let (is_good, said) = alfa.command(&["check-config"])?;
        ensure!(is_good && said.contains("which does not sign now, was revoked on"), "{said}");
        Ok(())
    });
}
