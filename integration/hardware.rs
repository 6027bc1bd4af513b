//! Keys in hardware (§5.1), with SoftHSM as the token: they sign like others, never leave it, and a token that goes away
//! costs time, never a message.

#[path = "support/mod.rs"]
mod support;

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use pec_testbed::pki::Request;
use pec_testbed::token::{LABEL, MODULE, PIN, REMOTE_MODULE, Remote, SPY_MODULE, Token};
use pec_testbed::{Dialogue, Host, KeyForm, PATIENCE, Plan, Testbed, wait_until};
use support::{Letter, two_providers};

const PROGRAM: &str = env!("CARGO_BIN_EXE_pec-milter");

/// alfa has its key in a token, beta in a file.
fn alfa_with_token() -> Plan {
    two_providers().with_key("alfa", KeyForm::Token)
}

fn token(host: &Host) -> Result<&Token> {
    host.provider.as_ref().and_then(|provider| provider.token.as_ref()).context("no token")
}

fn waits(what: &str, dialogue: &Dialogue) -> Result<()> {
    let code = dialogue.refusal().map(|answer| answer.code);
    ensure!(code.is_some_and(|code| (400..500).contains(&code)), "{what} should wait:\n{dialogue}");
    Ok(())
}

/// All files below a folder.
fn files(folder: &Path) -> Result<Vec<Vec<u8>>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        match path.metadata() {
            Ok(metadata) if metadata.is_dir() => found.extend(files(&path)?),
            Ok(metadata) if metadata.is_file() => found.push(fs::read(&path)?),
            _ => {}
        }
    }
    Ok(found)
}

#[test]
fn trust_two_providers_with_keys_in_tokens_certify_and_the_keys_stay_there() {
    alfa_with_token().with_key("beta", KeyForm::Token).test(|testbed| {
        let letters: Vec<Letter> = (0..10).map(|number| Letter::new(&format!("token-{number}"))).collect();
        std::thread::scope(|scope| {
            let sent: Vec<_> = letters.iter().map(|letter| scope.spawn(|| letter.send(testbed))).collect();
            sent.into_iter().try_for_each(|one| one.join().expect("a sender panicked"))
        })?;
        for letter in &letters {
            letter.conclude(testbed)?.check_single()?;
        }
        for host in testbed.hosts() {
            let said = String::from_utf8(token(host)?.tool(&["--list-objects", "--type", "privkey"])?)?;
            ensure!(said.contains("never extractable") && said.contains("sensitive"), "{said}");
            let pem = b"PRIVATE KEY-----";
            let state = files(host.daemon()?.state_folder())?;
            let has_key = state.iter().any(|file| file.windows(pem.len()).any(|window| window == pem));
            ensure!(!has_key, "a private key lies in the folder of {}", host.site.domain);
            let log = host.daemon()?.log();
            ensure!(!log.contains(PIN), "the PIN stands in the log of {}", host.site.domain);
        }
        Ok(())
    });
}

/// Sends while the token is away, brings it back, and sees everything arrive.
fn lost_and_found(
    testbed: &Testbed,
    lose: impl FnOnce() -> Result<()>,
    find: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let alfa = testbed.host("alfa")?.daemon()?;
    let (before, meanwhile) = (Letter::new("before"), Letter::new("meanwhile"));
    before.send(testbed)?;
    before.conclude(testbed)?;
    let process = alfa.process_id()?;

    lose()?;
    let log = alfa.log().len();
    waits("a submission without the token", &meanwhile.submit(testbed)?)?;
    waits("a second one", &meanwhile.submit(testbed)?)?;
    // Beta's envelope needs no signature to be taken, its receipts do.
    let beta = testbed.host("beta")?;
    let question = b"From: bruno@beta.example\r\nTo: carla@alfa.example\r\nSubject: domanda\r\n\r\nE allora?\r\n";
    let port = pec_testbed::Port::Submissions;
    let dialogue = beta.submit("bruno", port, "bruno@beta.example", &["carla@alfa.example"], question)?;
    ensure!(dialogue.accepted(), "{dialogue}");
    wait_until("the hop to wait for the token", PATIENCE, || {
        let is_told = alfa.log_after(log).contains("a notification could not be signed");
        if is_told { Ok(()) } else { bail!("{}", alfa.log_after(log)) }
    })?;
    let news = alfa.log_after(log);
    ensure!(news.contains("the token does not sign") && news.contains(LABEL), "the loss is not told:\n{news}");

    find()?;
    wait_until("the token to sign again", PATIENCE, || {
        let dialogue = meanwhile.submit(testbed)?;
        if dialogue.accepted() { Ok(()) } else { bail!("{dialogue}") }
    })?;
    meanwhile.conclude(testbed)?;
    beta.fetch_when("bruno", 4)?;
    ensure!(alfa.process_id()? == process, "the daemon was started anew");
    ensure!(alfa.log_after(log).contains("the token signs again"), "the end of the loss is not told");
    testbed.judge(&testbed.received()?)
}

#[test]
fn trust_a_remote_token_that_dies_costs_4xx_and_serves_again_without_a_restart() {
    alfa_with_token().test(|testbed| {
        let alfa = testbed.host("alfa")?;
        let remote = std::cell::RefCell::new(Remote::of(token(alfa)?));
        remote.borrow_mut().start()?;
        let daemon = alfa.daemon()?;
        daemon.stop()?;
        daemon.reconfigure(MODULE, REMOTE_MODULE)?;
        let (name, address) = remote.borrow().environment();
        daemon.start_with(&[(&name, &address)])?;
        lost_and_found(testbed, || remote.borrow_mut().kill(), || remote.borrow_mut().start())
    });
}

#[test]
fn trust_a_token_that_is_pulled_out_and_put_back_signs_again_without_a_restart() {
    alfa_with_token().test(|testbed| {
        let token = token(testbed.host("alfa")?)?;
        lost_and_found(testbed, || token.pull(), || token.plug())
    });
}

#[test]
fn trust_another_token_of_the_same_labels_signs_nothing_until_the_right_one_is_back() {
    alfa_with_token().test(|testbed| {
        let (alfa, token) = (testbed.host("alfa")?.daemon()?, token(testbed.host("alfa")?)?);
        let (before, after) = (Letter::new("before-another"), Letter::new("after-another"));
        before.send(testbed)?;
        before.conclude(testbed)?;
        let (process, log) = (alfa.process_id()?, alfa.log().len());
        token.pull()?;
        token.make_another()?;
        token.generate("firma")?;
        wait_until("the daemon to tell of the wrong key", PATIENCE, || {
            waits("a submission with another token's key", &after.submit(testbed)?)?;
            let is_told = alfa.log_after(log).lines().any(|line| {
                let words = ["ERROR", "ANOTHER KEY", "firma", LABEL, "bring the right token back"];
                words.iter().all(|word| line.contains(word))
            });
            if is_told { Ok(()) } else { bail!("{}", alfa.log_after(log)) }
        })?;
        let (is_good, said) = alfa.command(&["check-config"])?;
        ensure!(!is_good && said.contains("key.certificate"), "{said}");
        token.plug_instead()?;
        wait_until("the right token to sign again", PATIENCE, || {
            let dialogue = after.submit(testbed)?;
            if dialogue.accepted() { Ok(()) } else { bail!("{dialogue}") }
        })?;
        after.conclude(testbed)?;
        ensure!(alfa.process_id()? == process, "the daemon was started anew");
        ensure!(alfa.log_after(log).contains("the token signs again"), "the end of the loss is not told");
        testbed.judge(&testbed.received()?)
    });
}

#[test]
fn trust_a_reload_tries_a_pin_again_that_a_token_refused_before() {
    alfa_with_token().test(|testbed| {
        let (alfa, token) = (testbed.host("alfa")?.daemon()?, token(testbed.host("alfa")?)?);
        let (meanwhile, log) = (Letter::new("refused-pin"), alfa.log().len());
        token.pull()?;
        token.make_another_with("99999999")?;
        wait_until("the other token to refuse the PIN", PATIENCE, || {
            waits("a submission with the wrong PIN", &meanwhile.submit(testbed)?)?;
            let news = alfa.log_after(log);
            if news.contains("refused the PIN") { Ok(()) } else { bail!("{news}") }
        })?;
        token.plug_instead()?;
        // The library is started anew at most every other second, and meanwhile knows nothing of the right one.
        wait_until("the daemon to find the right token", PATIENCE, || {
            let log = alfa.log().len();
            waits("nobody has said that the PIN is right now, so it", &meanwhile.submit(testbed)?)?;
            let news = alfa.log_after(log);
            if news.contains("refused the PIN") { Ok(()) } else { bail!("{news}") }
        })?;
        alfa.reload_and_wait()?;
        meanwhile.send(testbed)?;
        meanwhile.conclude(testbed).map(drop)
    });
}

#[test]
fn trust_signatures_share_as_many_sessions_as_are_configured_and_no_more() {
    const SESSIONS: usize = 3;
    const LETTERS: usize = 12;
    alfa_with_token().test(|testbed| {
        let alfa = testbed.host("alfa")?;
        let daemon = alfa.daemon()?;
        daemon.stop()?;
        daemon.reconfigure(&format!("{MODULE:?}"), &format!("{SPY_MODULE:?}\npkcs11_sessions = {SESSIONS}"))?;
        let calls = daemon.state_folder().join("calls");
        let output = calls.to_str().context("not UTF-8")?;
        daemon.start_with(&[("PKCS11SPY", MODULE), ("PKCS11SPY_OUTPUT", output)])?;
        let letters: Vec<Letter> = (0..LETTERS).map(|number| Letter::new(&format!("pool-{number}"))).collect();
        std::thread::scope(|scope| {
            let sent: Vec<_> = letters.iter().map(|letter| scope.spawn(|| letter.send(testbed))).collect();
            sent.into_iter().try_for_each(|one| one.join().expect("a sender panicked"))
        })?;
        for letter in &letters {
            letter.conclude(testbed)?.check_single()?;
        }
        daemon.stop()?;
        let calls = fs::read_to_string(&calls)?;
        let (mut open, mut most, mut signed) = (0_usize, 0, 0);
        for call in calls.lines().filter_map(|line| line.split_once(": C_").map(|(_, call)| call.trim())) {
            match call {
                "OpenSession" => open += 1,
                "CloseSession" => open = open.checked_sub(1).context("more sessions are closed than opened")?,
                "Sign" => signed += 1,
                _ => continue,
            }
            most = most.max(open);
        }
        // An envelope, an acceptance, a delivery receipt of each letter; a take-charge may name several.
        ensure!(signed >= 3 * LETTERS, "{signed} signatures are fewer than {LETTERS} letters need:\n{calls}");
        ensure!((2..=SESSIONS).contains(&most), "{most} sessions were open at a time, not 2 to {SESSIONS}");
        let opened = calls.matches(": C_OpenSession").count();
        ensure!(calls.contains("CKA_LABEL"), "the attributes that are asked for do not stand there:\n{calls}");
        let asked = ["C_WrapKey", "CKA_PRIVATE_EXPONENT", "CKA_PRIME_1", "CKA_VALUE"].map(|word| calls.contains(word));
        ensure!(asked == [false; 4], "the token was asked for the key itself: {asked:?}\n{calls}");
        ensure!(opened <= SESSIONS, "{opened} sessions were opened for {signed} signatures: they should be kept");
        Ok(())
    });
}

#[test]
fn trust_a_wrong_pin_is_tried_once_and_the_start_ends_with_a_code_of_its_own() {
    alfa_with_token().test(|testbed| {
        let alfa = testbed.host("alfa")?;
        let (daemon, token) = (alfa.daemon()?, token(alfa)?);
        daemon.stop()?;
        // The next key lies in the same token: its login would be a second try.
        let text = fs::read_to_string(&daemon.configuration)?;
        let provider = alfa.provider.as_ref().context("alfa is a provider")?;
        let next = token.settings("firma", &provider.identity.chain) + "starts = \"2024-01-01T00:00:00Z\"\n";
        fs::write(
            &daemon.configuration,
            text.replacen("[trust]", &format!("[next_key]\n{next}\n[trust]"), 1).replace(MODULE, SPY_MODULE),
        )?;
        fs::write(&token.pin_file, "00000000\n")?;

        let calls = alfa.site.folder.join("calls");
        let run = |command: &str| -> Result<(Option<i32>, String)> {
            let output = Command::new(PROGRAM)
                .args([command, "--config"])
                .arg(&daemon.configuration)
                .envs(token.environment())
                .env("PKCS11SPY", MODULE)
                .env("PKCS11SPY_OUTPUT", &calls)
                .output()?;
            Ok((output.status.code(), String::from_utf8([output.stdout, output.stderr].concat())?))
        };
        for (command, expected) in [("run", 3), ("check-config", 1)] {
            let _ = fs::remove_file(&calls);
            let (code, said) = run(command)?;
            ensure!(code == Some(expected), "{command} ended with {code:?}:\n{said}");
            ensure!(said.contains("key.pin_file") && said.contains("refused the PIN"), "{said}");
            ensure!(!said.contains("00000000"), "the PIN is told:\n{said}");
            let logins = fs::read_to_string(&calls)?.matches("C_Login").count();
            ensure!(logins == 1, "{command} tried the PIN {logins} times");
        }
        waits("a submission", &Letter::new("wrong-pin").submit(testbed)?)?;

        fs::write(&token.pin_file, format!("{PIN}\n"))?;
        let (code, said) = run("check-config")?;
        ensure!(code == Some(0), "{said}");
        fs::write(&daemon.configuration, text)?;
        daemon.start()?;
        let letter = Letter::new("right-pin");
        letter.send(testbed)?;
        letter.conclude(testbed).map(drop)
    });
}

#[test]
fn trust_a_token_without_sha256_signs_digests_and_the_next_key_may_lie_beside_the_first() {
    alfa_with_token().test(|testbed| {
        let alfa = testbed.host("alfa")?;
        let (daemon, token) = (alfa.daemon()?, token(alfa)?);
        daemon.stop()?;
        token.configure("slots.mechanisms = -CKM_SHA256_RSA_PKCS\n")?;
        let request = Request::provider("alfa-next", "Alfa PEC S.p.A.", "posta-certificata@alfa.example");
        let (certificate, chain) = testbed.pki.certify(&request, &token.generate("firma-2")?)?;
        let next = token.settings("firma-2", &chain) + "pkcs11_sessions = 1\nstarts = \"2024-01-01T00:00:00Z\"\n";
        daemon.reconfigure("[trust]", &format!("[next_key]\n{next}\n[trust]"))?;
        let old = fs::read_to_string(&testbed.ldif)?;
        let provider = alfa.provider.as_ref().context("alfa is a provider")?;
        let record = pec_testbed::ldif::Record {
            provider_name: "Alfa, seconda chiave".to_owned(),
            certificates: vec![certificate],
            mail_receipt: provider.service_mailbox.clone(),
            managed_domains: vec!["alfa.example".to_owned()],
        };
        let record = pec_testbed::ldif::write(&[record])?;
        fs::write(&testbed.ldif, format!("{old}\n{}", record.split_once("\n\n").context("no record")?.1))?;
        daemon.start()?;
        testbed.host("beta")?.daemon()?.reload_and_wait()?;
        let letters: Vec<Letter> = (0..4).map(|number| Letter::new(&format!("digest-{number}"))).collect();
        std::thread::scope(|scope| {
            let sent: Vec<_> = letters.iter().map(|letter| scope.spawn(|| letter.send(testbed))).collect();
            sent.into_iter().try_for_each(|one| one.join().expect("a sender panicked"))
        })?;
        letters.iter().try_for_each(|letter| letter.conclude(testbed).map(drop))
    });
}

#[test]
fn trust_check_config_explains_what_is_wrong_with_a_token() {
    alfa_with_token().test(|testbed| {
        let alfa = testbed.host("alfa")?.daemon()?;
        let sound = fs::read_to_string(&alfa.configuration)?;
        let chain = &testbed.host("beta")?.provider.as_ref().context("beta is a provider")?.identity.chain;
        let own = &testbed.host("alfa")?.provider.as_ref().context("alfa is a provider")?.identity.chain;
        let pin = &token(testbed.host("alfa")?)?.pin_file;
        let open_pin = pin.with_file_name("open-pin");
        fs::copy(pin, &open_pin)?;
        fs::set_permissions(&open_pin, std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
        let quoted = |path: &Path| format!("{path:?}");
        for (from, to, words) in [
            (format!("{MODULE:?}"), "\"/nonexistent.so\"".to_owned(), ["key.pkcs11_module", "/nonexistent.so"]),
            (format!("{LABEL:?}"), "\"altro\"".to_owned(), ["key.pkcs11_token", "\"pec\""]),
            ("\"firma\"".to_owned(), "\"altra\"".to_owned(), ["key.pkcs11_key", "no private RSA key"]),
            (quoted(own), quoted(chain), ["key.certificate", "does not belong to the certificate"]),
            (quoted(pin), "\"/nonexistent.pin\"".to_owned(), ["key.pin_file", "/nonexistent.pin"]),
            (quoted(pin), quoted(&open_pin), ["key.pin_file", "chmod 600"]),
        ] {
            alfa.reconfigure(&from, &to)?;
            let (is_good, said) = alfa.command(&["check-config"])?;
            ensure!(!is_good, "{to}: nothing is found wrong:\n{said}");
            let missing: Vec<_> = words.iter().filter(|word| !said.contains(**word)).collect();
            ensure!(missing.is_empty(), "{to}: no word of {missing:?} in:\n{said}");
            fs::write(&alfa.configuration, &sound)?;
        }

        // What is wrong with the token itself.
        let token = token(testbed.host("alfa")?)?;
        let complains = |words: &[&str]| -> Result<()> {
            let (is_good, said) = alfa.command(&["check-config"])?;
            ensure!(!is_good && words.iter().all(|word| said.contains(word)), "expected {words:?} in:\n{said}");
            Ok(())
        };
        token.configure("slots.mechanisms = CKM_SHA256,CKM_SHA512\n")?;
        complains(&["key.pkcs11_token", "signs neither with SHA256_RSA_PKCS nor with RSA_PKCS"])?;
        token.configure("")?;
        fs::write(&token.pin_file, "\n")?;
        complains(&["key.pin_file", "must be one line of text"])?;
        fs::write(&token.pin_file, format!("{PIN}\n"))?;
        token.generate("firma")?;
        complains(&["key.pkcs11_key", "several private RSA keys with the label \"firma\": give them different ones"])?;
        token.make_another()?;
        complains(&["key.pkcs11_token", "has two tokens with the label \"pec\": give one of them another"])
    });
}
