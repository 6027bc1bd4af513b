//! What an administrator sets and asks: who may send as whom, the providers directory, reloads, `check-config`, `verify`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, bail, ensure};
use pec_testbed::ldif::{self, Record};
use pec_testbed::{Dialogue, Host, PATIENCE, Plan, Port, Received, Testbed, wait_until};

const PROGRAM: &str = env!("CARGO_BIN_EXE_pec-milter");

/// A message of this author for mario.
fn note(from: &str) -> Vec<u8> {
    format!("From: {from}\r\nTo: mario@gamma.example\r\nSubject: per conto\r\n\r\nCiao\r\n").into_bytes()
}

fn anna_writes_as(testbed: &Testbed, sender: &str) -> Result<Dialogue> {
    let alfa = testbed.host("alfa")?;
    alfa.submit("anna", Port::Submission, sender, &["mario@gamma.example"], &note(sender))
}

/// Sends SIGHUP and waits until the log says what came of it.
fn reload(host: &Host, outcome: &str) -> Result<String> {
    let daemon = host.daemon()?;
    let before = daemon.log().len();
    daemon.reload()?;
    wait_until(&format!("{outcome:?} in the log"), PATIENCE, || {
        let log = daemon.log();
        let news = log.get(before..).unwrap_or_default();
        match news.lines().find(|line| line.contains("reloaded")) {
            // Both outcomes have the word; the wrong one will not become the right one.
            Some(line) => Ok((line.contains(outcome), news.to_owned())),
            None => bail!("{news}"),
        }
    })
    .and_then(|(is_expected, news)| {
        ensure!(is_expected, "expected {outcome:?}, the log says:\n{news}");
        Ok(news)
    })
}

#[test]
fn transaction_as_a_shared_mailbox_follows_the_map_that_is_in_force() {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let map = folder.path().join("senders");
    fs::write(&map, "# login  addresses\nanna@alfa.example info@alfa.example\n").unwrap();
    let plan = Plan::new(PROGRAM)
        .provider("alfa", &["anna", "info", "ufficio"])
        .with_pec_milter(&format!("[senders]\nmap = {map:?}\n"))
        .plain("gamma", &["mario"]);
    plan.test(|testbed| {
        let alfa = testbed.host("alfa")?;
        let accepted = |sender: &str, why: &str| -> Result<()> {
            let dialogue = anna_writes_as(testbed, sender)?;
            ensure!(dialogue.accepted(), "expected anna to send as {sender}, {why}:\n{dialogue}");
            Ok(())
        };
        let refused = |sender: &str, why: &str| -> Result<()> {
            let dialogue = anna_writes_as(testbed, sender)?;
            let refusal = dialogue.refusal().with_context(|| format!("anna sent as {sender}, {why}:\n{dialogue}"))?;
            assert!(refusal.code == 553 && refusal.text.starts_with("5.7.1 "), "{dialogue}");
            assert!(!dialogue.accepted(), "{dialogue}");
            Ok(())
        };
        accepted("anna@alfa.example", "her own address needs no line")?;
        accepted("Info@Alfa.Example", "the map gives her that")?;
        refused("ufficio@alfa.example", "which no line gives her")?;

        fs::write(&map, "anna@alfa.example ufficio@alfa.example\n")?;
        accepted("ufficio@alfa.example", "the new map is in force without a word")?;
        refused("info@alfa.example", "the old map is no longer in force")?;

        fs::write(&map, "anna@alfa.example info@alfa.example\nanna@alfa.example nessuno\n")?;
        let said = reload(alfa, "not reloaded")?;
        let line = "senders.map";
        assert!(said.contains(line) && said.contains("line 2"), "expected the log to name {line} and line 2:\n{said}");
        let dialogue = anna_writes_as(testbed, "ufficio@alfa.example")?;
        assert_eq!(dialogue.code("MAIL"), Some(451), "nobody knows whether she still may:\n{dialogue}");
        fs::write(&map, "anna@alfa.example ufficio@alfa.example\n")?;
        accepted("ufficio@alfa.example", "the map is mended")?;
        refused("info@alfa.example", "the mended map has no such line")?;

        let all = testbed.received_when(&[
            ("mario@gamma.example", 4),
            ("anna@alfa.example", 1),
            ("info@alfa.example", 1),
            ("ufficio@alfa.example", 2),
        ])?;
        testbed.judge(&all)
    });
}

#[test]
fn transaction_gives_a_copy_to_a_mailbox_that_postfix_is_told_of_and_certifies_nothing_about_it() {
    let plan = Plan::new(PROGRAM)
        .provider("alfa", &["anna", "carla", "archivio"])
        .with_postfix("always_bcc = archivio@alfa.example\n")
        .provider("beta", &["bruno", "registro"])
        .with_postfix("recipient_bcc_maps = inline:{ { bruno@beta.example = registro@beta.example } }\n");
    plan.test(|testbed| {
        let (alfa, beta) = (testbed.host("alfa")?, testbed.host("beta")?);
        let to = ["bruno@beta.example", "carla@alfa.example"];
        let sent = format!("From: anna@alfa.example\r\nTo: {}\r\nSubject: copie\r\n\r\nCiao\r\n", to.join(", "));
        let dialogue = alfa.submit("anna", Port::Submissions, "anna@alfa.example", &to, sent.as_bytes())?;
        ensure!(dialogue.accepted(), "{dialogue}");
        let all = testbed.received_when(&[
            ("anna@alfa.example", 3),
            ("carla@alfa.example", 1),
            ("ricevute@alfa.example", 2),
            ("bruno@beta.example", 1),
            // The envelope, and what beta tells: own receipts reach their mailboxes without Postfix.
            ("archivio@alfa.example", 3),
            ("registro@beta.example", 1),
        ])?;
        let is_copy =
            |one: &&Received| ["archivio@alfa.example", "registro@beta.example"].contains(&one.mailbox.as_str());
        let copies = all.iter().filter(is_copy).filter(|one| one.is("posta-certificata")).count();
        assert_eq!(copies, 2, "the envelope as it is, not in an anomaly envelope");
        testbed.judge(all.iter().filter(|one| !is_copy(one)))?;
        let mut about: Vec<String> = Vec::new();
        for receipt in all.iter().filter(|one| one.mailbox == "anna@alfa.example" && one.is("avvenuta-consegna")) {
            about.extend(receipt.certified("consegna")?);
        }
        about.sort();
        assert_eq!(about, to, "one receipt for each recipient, none for a copy");

        let id = all[0].transaction().context("no identificativo")?;
        for (host, mailbox) in [(alfa, "archivio@alfa.example"), (beta, "registro@beta.example")] {
            let daemon = host.daemon()?;
            let events = daemon.timeline(&id)?;
            let copy = events.iter().filter(|event| event.kind == "copy").map(|event| event.recipient.as_deref());
            assert_eq!(copy.collect::<Vec<_>>(), [Some(mailbox)], "{events:#?}");
            let log = daemon.log();
            let line = log.lines().find(|line| line.contains("does not name this mailbox")).unwrap_or_default();
            assert!(line.contains("WARN") && line.contains(mailbox) && line.contains("always_bcc"), "{log}");
        }
        Ok(())
    });
}

#[test]
fn transaction_waits_for_those_alone_whom_postfix_hides() {
    let plan = Plan::new(PROGRAM)
        .provider("alfa", &["anna", "archivio"])
        .with_postfix("always_bcc = archivio@alfa.example\n")
        .with_postfix("virtual_alias_maps = inline:{ { ufficio@alfa.example = mario@gamma.example } }\n")
        .provider("beta", &["bruno", "dora"])
        .with_postfix("virtual_alias_maps = inline:{ { ufficio@beta.example = bruno@beta.example } }\n")
        .with_postfix("lmtp_discard_lhlo_keywords = dsn\n")
        .plain("gamma", &["mario"]);
    plan.test(|testbed| {
        let (alfa, beta) = (testbed.host("alfa")?, testbed.host("beta")?);
        let sends = |to: &[&str]| -> Result<()> {
            let list = to.join(", ");
            let sent = format!("From: anna@alfa.example\r\nTo: {list}\r\nSubject: alias\r\n\r\nCiao\r\n");
            let dialogue = alfa.submit("anna", Port::Submissions, "anna@alfa.example", to, sent.as_bytes())?;
            ensure!(dialogue.accepted(), "{dialogue}");
            Ok(())
        };
        // An alias may lead away: the copy beside it is no recipient that was lost.
        sends(&["ufficio@alfa.example"])?;
        testbed.received_when(&[("anna@alfa.example", 1), ("archivio@alfa.example", 1), ("mario@gamma.example", 1)])?;

        sends(&["ufficio@beta.example", "dora@beta.example"])?;
        let daemon = beta.daemon()?;
        wait_until("the remedy in the log", PATIENCE, || {
            ensure!(daemon.log().contains("take dsn out of lmtp_discard_lhlo_keywords"), "it is not there");
            Ok(())
        })?;
        // The acceptance, and the receipt of the recipient who is known.
        alfa.fetch_when("anna", 1 + 1 + 1)?;
        alfa.fetch_when("ricevute", 1)?;
        let received = testbed.received()?;
        let told = |kind: &str, element: &str| -> Result<Vec<String>> {
            let of_kind = received.iter().filter(|one| one.is(kind) && !one.mailbox.starts_with("archivio"));
            Ok(of_kind.map(|one| one.certified(element)).collect::<Result<Vec<_>>>()?.concat())
        };
        assert_eq!(told("avvenuta-consegna", "consegna")?, ["dora@beta.example"]);
        assert_eq!(told("presa-in-carico", "ricezione")?, ["dora@beta.example"]);
        let queue = beta.queue()?;
        ensure!(queue.contains("bruno@beta.example"), "expected the envelope to wait: {queue}");
        assert_eq!(beta.fetch("bruno")?.len(), 0, "nothing is delivered that would not be certified");
        Ok(())
    });
}

/// Why README forbids it: it takes the certified delivery from those to whom the message was written.
#[test]
fn transaction_with_a_copy_to_another_provider_is_not_correct_there() {
    // An anomaly there has no receipt.
    let plan = Plan::new(PROGRAM)
        .provider("alfa", &["anna"])
        .with_postfix("sender_bcc_maps = inline:{ { anna@alfa.example = registro@beta.example } }\n")
        .provider("beta", &["bruno", "registro"]);
    plan.with_open_watches().test(|testbed| {
        let (sender, to) = ("anna@alfa.example", "bruno@beta.example");
        let sent = format!("From: {sender}\r\nTo: {to}\r\nSubject: copia\r\n\r\nCiao\r\n");
        let alfa = testbed.host("alfa")?;
        let dialogue = alfa.submit("anna", Port::Submissions, sender, &[to], sent.as_bytes())?;
        ensure!(dialogue.accepted(), "{dialogue}");
        let all = testbed.received_when(&[(sender, 1), (to, 1), ("registro@beta.example", 1)])?;
        for message in all.iter().filter(|one| one.mailbox != sender) {
            assert!(message.is("errore"), "expected an anomaly envelope for {}: {}", message.mailbox, message.header());
        }
        let log = testbed.host("beta")?.daemon()?.log();
        assert!(log.contains("registro@beta.example"), "expected the log to name who is not listed:\n{log}");
        Ok(())
    });
}

#[test]
fn transaction_follows_the_directory_that_is_in_force() {
    // Gamma is in the directory and says nothing.
    let plan = Plan::new(PROGRAM).provider("alfa", &["anna"]).provider("beta", &[]).plain("gamma", &["mario"]);
    plan.with_open_watches().test(|testbed| {
        let alfa = testbed.host("alfa")?;
        let mut sent = 0;
        let mut kind_of_mario = || -> Result<String> {
            let dialogue = anna_writes_as(testbed, "anna@alfa.example")?;
            ensure!(dialogue.accepted(), "{dialogue}");
            sent += 1;
            let bytes = alfa.fetch_when("anna", sent)?.pop().context("no acceptance")?;
            let acceptance = Received { mailbox: alfa.mailbox("anna"), bytes };
            Ok(acceptance.certified_attributes("destinatari", "tipo")?.concat())
        };
        assert_eq!(kind_of_mario()?, "esterno", "gamma is not in the directory");

        let old = fs::read_to_string(&testbed.ldif)?;
        let beta = testbed.host("beta")?.provider.as_ref().context("beta is a provider")?;
        let gamma = Record {
            provider_name: "Gamma, società di posta".to_owned(),
            certificates: vec![beta.identity.certificate.clone()],
            mail_receipt: "ricevute@gamma.example".to_owned(),
            managed_domains: vec!["Gamma.Example".to_owned()],
        };
        let record = ldif::write(&[gamma])?;
        let added = record.split_once("\n\n").context("no record")?.1;
        fs::write(&testbed.ldif, format!("{old}\n{added}"))?;
        reload(alfa, "reloaded")?;
        assert_eq!(kind_of_mario()?, "certificato", "the new directory has gamma");

        fs::write(&testbed.ldif, format!("{old}\ndn: providerName=x,o=postacert\nproviderName x\n"))?;
        let said = reload(alfa, "not reloaded")?;
        assert!(said.contains("directory.ldif"), "expected the log to name directory.ldif:\n{said}");
        assert_eq!(kind_of_mario()?, "certificato", "a bad directory leaves the old one in force");

        fs::remove_file(&testbed.ldif)?;
        reload(alfa, "not reloaded")?;
        assert_eq!(kind_of_mario()?, "certificato", "an absent directory leaves the old one in force");
        Ok(())
    });
}

fn pec_milter(configuration: &Path, arguments: &[&str]) -> Result<(Option<i32>, String, String)> {
    let Output { status, stdout, stderr } =
        Command::new(PROGRAM).args(arguments).arg("--config").arg(configuration).output()?;
    Ok((status.code(), String::from_utf8(stdout)?, String::from_utf8(stderr)?))
}

/// A configuration of one error, and what must be said about it: the line of `key`, and these words.
struct Broken {
    name: &'static str,
    from: String,
    to: String,
    key: &'static str,
    remedy: &'static str,
}

#[test]
fn transaction_check_config_goes_the_way_of_a_start_and_tells_every_error_with_its_place() {
    Plan::new(PROGRAM).provider("alfa", &[]).provider("beta", &[]).test(|testbed| {
        let alfa = testbed.host("alfa")?;
        let configuration = &alfa.daemon()?.configuration;
        let text = fs::read_to_string(configuration)?;

        let (code, printed, said) = pec_milter(configuration, &["check-config"])?;
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("configuration is good; 2 providers with 2 domains"), "{said}");
        assert!(printed.contains("engine = \"aws-lc-rs\"  # default"), "defaults are marked:\n{printed}");
        let copy = configuration.with_file_name("copy.toml");
        fs::write(&copy, &printed)?;
        let (code, again, said) = pec_milter(&copy, &["check-config"])?;
        assert_eq!(
            (code, again),
            (Some(0), printed.replace("  # default", "")),
            "what is printed means the same: {said}"
        );

        let provider = alfa.provider.as_ref().context("alfa is a provider")?;
        let beta = testbed.host("beta")?.provider.as_ref().context("beta is a provider")?;
        let key = setting(&text, "private_key");
        let open_key = alfa.site.folder.join("open.key");
        fs::copy(&key, &open_key)?;
        fs::set_permissions(&open_key, fs::Permissions::from_mode(0o644))?;
        let quoted = |path: &Path| format!("{path:?}");
        let cases = [
            Broken {
                name: "an unknown key",
                from: "service_mailbox =".into(),
                to: "service_mailbx =".into(),
                key: "provider.service_mailbx",
                remedy: "known keys here are",
            },
            Broken {
                name: "a key that others may read",
                from: quoted(&key),
                to: quoted(&open_key),
                key: "key.private_key",
                remedy: "run chmod 600 on it",
            },
            Broken {
                name: "the certificate of another key",
                from: quoted(&provider.identity.chain),
                to: quoted(&beta.identity.chain),
                key: "key.certificate",
                remedy: "put the signer's certificate first",
            },
            Broken {
                name: "an address outside the domains",
                from: "\"ricevute@alfa.example\"".into(),
                to: "\"ricevute@altrove.example\"".into(),
                key: "provider.service_mailbox",
                remedy: "mail_domains",
            },
            Broken {
                name: "an absent directory",
                from: quoted(&testbed.ldif),
                to: "\"/nonexistent/providers.ldif\"".into(),
                key: "directory.ldif",
                remedy: "/nonexistent/providers.ldif",
            },
            Broken {
                name: "a CA that did not issue the certificate",
                from: quoted(&testbed.pki.root()),
                to: quoted(&testbed.pki.tls_root()),
                key: "key.certificate",
                remedy: "trust.ca_file",
            },
        ];
        for broken in cases {
            let file = configuration.with_file_name("broken.toml");
            let changed = text.replacen(&broken.from, &broken.to, 1);
            ensure!(changed != text, "{}: {} is not in the configuration", broken.name, broken.from);
            fs::write(&file, &changed)?;
            let (code, _, said) = pec_milter(&file, &["check-config"])?;
            assert_eq!(code, Some(1), "{}: {said}", broken.name);
            let place = format!("{}:{}: {}", file.display(), line_of(&changed, &text, broken.key), broken.key);
            assert!(said.contains(&place), "{}: expected the place {place:?}, found:\n{said}", broken.name);
            assert!(said.contains(broken.remedy), "{}: expected {:?} in:\n{said}", broken.name, broken.remedy);
        }
        let (code, _, said) = pec_milter(Path::new("/nonexistent.toml"), &["check-config"])?;
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("/nonexistent.toml"), "{said}");
        Ok(())
    });
}

/// The value of a key that holds a path.
fn setting(text: &str, key: &str) -> PathBuf {
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{key} = "))).unwrap_or_default();
    PathBuf::from(line.trim_matches('"'))
}

/// The line that was changed, or that of the certificate when the CA was.
fn line_of(changed: &str, text: &str, key: &str) -> usize {
    let lines = || (1..).zip(changed.lines().zip(text.lines()));
    let named = lines().find(|(_, (line, _))| key == "key.certificate" && line.starts_with("certificate = "));
    named.or_else(|| lines().find(|(_, (new, old))| new != old)).map_or(0, |(number, _)| number)
}

#[test]
fn transaction_verify_says_what_a_message_is_by_its_exit_code() {
    let plan = Plan::new(PROGRAM).provider("alfa", &["anna"]).provider("beta", &["bruno"]);
    plan.test(|testbed| {
        let alfa = testbed.host("alfa")?;
        let sent = b"From: anna@alfa.example\r\nTo: bruno@beta.example\r\nSubject: prova\r\n\r\nCiao, Bruno\r\n";
        let dialogue = alfa.submit("anna", Port::Submissions, "anna@alfa.example", &["bruno@beta.example"], sent)?;
        ensure!(dialogue.accepted(), "{dialogue}");
        let all = testbed.received_when(&[
            ("anna@alfa.example", 2),
            ("ricevute@alfa.example", 1),
            ("bruno@beta.example", 1),
        ])?;
        let configuration = &alfa.daemon()?.configuration;
        let file = testbed.folder().join("message.eml");
        let path = file.to_str().context("not UTF-8")?;
        let verify = |message: &[u8]| -> Result<(Option<i32>, String)> {
            fs::write(&file, message)?;
            let (code, out, said) = pec_milter(configuration, &["verify", path])?;
            Ok((code, out + &said))
        };
        for message in &all {
            let with_lf: Vec<u8> = message.bytes.iter().copied().filter(|byte| *byte != b'\r').collect();
            for bytes in [&message.bytes, &with_lf] {
                let (code, said) = verify(bytes)?;
                assert_eq!(code, Some(0), "{}: {said}", message.kind());
                assert!(said.contains(&message.kind()) && said.contains("PEC S.p.A."), "{said}");
            }
            let text = String::from_utf8(message.bytes.clone())?;
            let altered = text.replacen("messaggio", "massaggio", 1);
            ensure!(altered != text, "nothing to alter in the {}", message.kind());
            let (code, said) = verify(altered.as_bytes())?;
            assert_eq!(code, Some(1), "an altered {}: {said}", message.kind());
            assert!(said.contains("NOT CERTIFIED"), "{said}");
        }
        let (code, said) = verify(sent)?;
        assert_eq!(code, Some(1), "ordinary mail: {said}");
        let (code, _, said) = pec_milter(configuration, &["verify", "/nonexistent.eml"])?;
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains("/nonexistent.eml"), "{said}");
        let (code, _, said) = pec_milter(Path::new("/nonexistent.toml"), &["verify", path])?;
        assert_eq!(code, Some(2), "{said}");
        Ok(())
    });
}
