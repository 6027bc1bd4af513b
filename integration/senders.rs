//! Who may send, and who may read (§5.2): users with a certificate beside users with a password, and maps that count as they
//! are in the moment of the question.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use anyhow::{Result, ensure};
use pec_testbed::mailbox::Credentials;
use pec_testbed::pki::{Identity, Request};
use pec_testbed::smtp::{Smtp, send};
use pec_testbed::{Dialogue, Host, Plan, Port, Testbed, USERS_CA};
use rusqlite::Connection;
use tempfile::TempDir;

const ANNA: &str = "anna@alfa.example";
const BRUNO: &str = "bruno@alfa.example";
const CARLA: &str = "carla@alfa.example";
const MARIO: &str = "mario@gamma.example";
const CARLAS_LOGIN: (&str, &str) = (CARLA, "carla-password");
const SUBMISSION: [Port; 2] = [Port::Submissions, Port::Submission];

fn plan(toml: &str) -> Plan {
    let plan = Plan::new(env!("CARGO_BIN_EXE_pec-milter")).provider("alfa", &["anna", "bruno", "carla", "dora"]);
    plan.with_pec_milter(toml)
}

/// Files of the administrator's, which the daemon reads under its own account.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        Files(folder)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let file = self.path(name);
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        file
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

fn message(from: &str) -> Vec<u8> {
    format!("From: {from}\r\nTo: {MARIO}\r\nSubject: Prova\r\n\r\nCiao\r\n").into_bytes()
}

fn identity(testbed: &Testbed, file: &str, issuer: &str, common_name: &str) -> Result<Identity> {
    testbed.pki.issue(&Request::user(file, issuer, common_name))
}

fn accepted(why: &str, dialogue: &Dialogue) -> Result<()> {
    ensure!(dialogue.accepted(), "{why}:\n{dialogue}");
    Ok(())
}

/// Refused at MAIL, and nothing was taken.
fn refused(why: &str, dialogue: &Dialogue, code: u16) -> Result<()> {
    ensure!(dialogue.code("MAIL") == Some(code) && !dialogue.accepted(), "{why}:\n{dialogue}");
    Ok(())
}

/// What the server says to one more sender of an open session.
fn mail(smtp: &mut Smtp, sender: &str) -> Result<u16> {
    let code = smtp.command(&format!("MAIL FROM:<{sender}>"))?.code;
    smtp.command("RSET")?;
    Ok(code)
}

#[test]
fn senders_a_certificate_sends_as_its_addresses_and_as_nobody_else() {
    let files = Files::new();
    let map = files.write(
        "certificates",
        "\"users-ca\" \"Anna Bianchi\" anna@alfa.example\n\"users-ca\" \"bruno@alfa.example\" bruno@alfa.example\n\
         \"users-ca\" \"Società \\\"Due\\\"\" bruno@alfa.example\n",
    );
    let plan = plan(&format!("[senders]\ncertificates = {map:?}\n")).with_user_certificates(&[]);
    plan.plain("gamma", &["mario"]).test(|testbed| {
        let alfa = testbed.host("alfa")?;
        let pki = &testbed.pki;
        let anna = identity(testbed, "anna", USERS_CA, "Anna Bianchi")?;
        let dora = identity(testbed, "dora", USERS_CA, "dora@alfa.example")?;
        // Another CA that calls itself the same and certifies the same name.
        let ca = [("keyUsage", "critical,keyCertSign"), ("basicConstraints", "critical,CA:TRUE")];
        let ca = ca.into_iter().fold(Request::user("forged-ca", "forged-ca", USERS_CA), |request, (name, value)| {
            request.with(name, value)
        });
        pki.issue_self_signed(&ca)?;
        let forged = identity(testbed, "forged-anna", "forged-ca", "Anna Bianchi")?;
        let alone = pki.issue_self_signed(&Request::user("alone", "alone", "Anna Bianchi"))?;
        let of_servers = identity(testbed, "of-servers", "tls-ca", "Anna Bianchi")?;
        let server =
            pki.issue(&Request::user("server", USERS_CA, "Anna Bianchi").with("extendedKeyUsage", "serverAuth"))?;
        let mut past = Request::user("past", USERS_CA, "Anna Bianchi");
        past.validity = Some(("20200101000000Z".to_owned(), "20210101000000Z".to_owned()));
        let past = pki.issue(&past)?;

        let company = identity(testbed, "company", USERS_CA, "Società \"Due\"")?;

        for port in SUBMISSION {
            let sends = |identity: &Identity, login, from: &str| {
                send(alfa.smtp_as(port, identity)?, login, from, &[MARIO], &message(from))
            };
            accepted("anna's certificate needs no login", &sends(&anna, None, ANNA)?)?;
            refused("anna's certificate for carla's address", &sends(&anna, None, CARLA)?, 553)?;
            refused("anna's certificate for another user's with a certificate", &sends(&anna, None, BRUNO)?, 553)?;
            refused(
                "a certificate without a line, for the address it bears",
                &sends(&dora, None, "dora@alfa.example")?,
                553,
            )?;
            for (what, identity) in [
                ("another CA of the same name", &forged),
                ("nobody's", &alone),
                ("the servers' CA", &of_servers),
                ("a server's", &server),
                ("expired", &past),
            ] {
                refused(what, &sends(identity, None, ANNA)?, 530)?;
            }
            let dialogue = send(alfa.smtp_as(port, &anna)?, None, ANNA, &[MARIO], &message(CARLA))?;
            accepted("a message in carla's name is answered by a notice", &dialogue)?;
            accepted("a name in Italian and in quotes", &sends(&company, None, BRUNO)?)?;
            // Who logs in is who logged in, whatever the certificate.
            accepted("carla by her password", &sends(&anna, Some(CARLAS_LOGIN), CARLA)?)?;
            refused("carla's login with anna's certificate", &sends(&anna, Some(CARLAS_LOGIN), ANNA)?, 553)?;
            accepted(
                "a certificate that counts for nothing is in nobody's way",
                &sends(&forged, Some(CARLAS_LOGIN), CARLA)?,
            )?;

            let mut smtp = alfa.smtp_as(port, &anna)?;
            smtp.command(&format!("MAIL FROM:<{ANNA}>"))?;
            let trigger = smtp.command("RCPT TO:<accettazione@pec-milter.invalid>")?;
            ensure!(trigger.code == 550, "a certificate may pull no trigger: {trigger:?}");
        }
        // Port 25 asks for no certificate and takes nothing for others by one.
        let dialogue = send(alfa.smtp_as(Port::Smtp, &anna)?, None, ANNA, &[MARIO], &message(ANNA))?;
        ensure!(dialogue.code("RCPT") == Some(554), "{dialogue}");

        let log = alfa.daemon()?.log();
        ensure!(
            log.contains(r#"certificate "users-ca" "Anna Bianchi""#)
                || log.contains(r#"certificate \"users-ca\" \"Anna Bianchi\""#),
            "{log}"
        );
        let all = testbed.received_when(&[(MARIO, 8), (ANNA, 4), (BRUNO, 2), (CARLA, 4)])?;
        let notices = all.iter().filter(|one| one.mailbox == ANNA && one.is("non-accettazione")).count();
        ensure!(notices == SUBMISSION.len(), "{notices} notices for what anna wrote in carla's name");
        testbed.judge(&all)
    });
}

#[test]
fn senders_a_mailbox_opens_to_its_own_certificate_alone() {
    // Dovecot answers one who guesses later and later.
    let patient =
        "auth_failure_delay = 0\nservice anvil {\n  unix_listener anvil-auth-penalty {\n    mode = 0\n  }\n}\n";
    let plan = plan("").with_user_certificates(&["anna", "bruno"]).with_dovecot(patient);
    plan.test(|testbed| {
        let alfa = testbed.host("alfa")?;
        for user in [ANNA, BRUNO, CARLA, "dora@alfa.example"] {
            let letter = format!("From: x@gamma.example\r\nSubject: per {user}\r\n\r\nCiao\r\n");
            accepted("a letter", &alfa.inject_as_peer("x@gamma.example", &[user], letter.as_bytes())?)?;
        }
        testbed.wait_for_empty_queues()?;
        // Whose mailbox opens, if any.
        let opens = |credentials: Credentials| -> Result<Option<String>> {
            let inboxes = [alfa.fetch_with(credentials), alfa.fetch_pop3_with(credentials)];
            let owner = |messages: Vec<Vec<u8>>| {
                let text = String::from_utf8_lossy(&messages.concat()).into_owned();
                [ANNA, BRUNO, CARLA, "dora@alfa.example"]
                    .into_iter()
                    .find(|user| text.contains(&format!("per {user}")))
                    .map(str::to_owned)
            };
            let [imap, pop3] = inboxes.map(|inbox| inbox.ok().and_then(owner));
            ensure!(imap == pop3, "IMAP opens {imap:?} and POP3 {pop3:?}");
            Ok(imap)
        };
        let anna = identity(testbed, "anna", USERS_CA, ANNA)?;
        let bruno = identity(testbed, "bruno", USERS_CA, BRUNO)?;
        let dora = identity(testbed, "dora", USERS_CA, "dora@alfa.example")?;
        testbed.pki.authority("other-ca", None, &[])?;
        let other = identity(testbed, "other", "other-ca", ANNA)?;
        let alone = testbed.pki.issue_self_signed(&Request::user("alone", "alone", ANNA))?;

        for (why, credentials, whose) in [
            ("her certificate", Credentials::Certificate(&anna, ""), Some(ANNA)),
            ("her certificate and name", Credentials::Certificate(&anna, ANNA), Some(ANNA)),
            ("his certificate", Credentials::Certificate(&bruno, ""), Some(BRUNO)),
            ("a certificate without a line", Credentials::Certificate(&dora, ""), None),
            ("another CA's", Credentials::Certificate(&other, ""), None),
            ("another CA's with a name", Credentials::Certificate(&other, ANNA), None),
            ("nobody's", Credentials::Certificate(&alone, ANNA), None),
            ("a password", Credentials::Password(CARLAS_LOGIN), Some(CARLA)),
            ("a password of one who has a certificate too", Credentials::Password((ANNA, "anna-password")), Some(ANNA)),
            ("no password", Credentials::Password((ANNA, "")), None),
            ("a password and a certificate", Credentials::Both(&anna, (ANNA, "anna-password")), Some(ANNA)),
        ] {
            let found = opens(credentials)?;
            ensure!(found.as_deref() == whose, "{why} opens {found:?}");
        }
        // With anna's certificate nothing is ever bruno's, not even his name or his password.
        for credentials in [
            Credentials::Certificate(&anna, BRUNO),
            Credentials::Both(&anna, (BRUNO, "bruno-password")),
            Credentials::Both(&anna, CARLAS_LOGIN),
        ] {
            let found = opens(credentials)?;
            ensure!(found.is_none() || found.as_deref() == Some(ANNA), "{credentials:?} opens {found:?}");
        }
        // What Dovecot offers its own clients Postfix does not: it would be a login without a password.
        for port in SUBMISSION {
            for mut smtp in [alfa.smtp(port)?, alfa.smtp_as(port, &anna)?] {
                let greeting = smtp.command("EHLO client.example")?;
                ensure!(
                    greeting.text.contains("AUTH PLAIN LOGIN") && !greeting.text.contains("EXTERNAL"),
                    "{greeting:?}"
                );
                let answer = smtp.command("AUTH EXTERNAL YW5uYUBhbGZhLmV4YW1wbGU=")?;
                ensure!(!answer.is_positive(), "{answer:?}");
                ensure!(mail(&mut smtp, ANNA)? >= 500, "nobody logged in");
            }
        }
        Ok(())
    });
}

#[test]
fn senders_whoever_is_taken_out_of_a_map_stops_in_the_open_session() {
    let files = Files::new();
    let line = "anna@alfa.example anna@alfa.example\ncarla@alfa.example carla@alfa.example\n";
    let map = files.write("senders", line);
    let certificate = "\"users-ca\" \"Bruno\" bruno@alfa.example\n";
    let certificates = files.write("certificates", certificate);
    let toml = format!("[senders]\nmap = {map:?}\ncertificates = {certificates:?}\nlisted_only = true\n");
    plan(&toml).with_user_certificates(&[]).test(|testbed| {
        let alfa = testbed.host("alfa")?;
        let mut anna = alfa.smtp(Port::Submissions)?;
        anna.login(ANNA, "anna-password")?;
        let mut bruno = alfa.smtp_as(Port::Submission, &identity(testbed, "bruno", USERS_CA, "Bruno")?)?;
        let mut dora = alfa.smtp(Port::Submissions)?;
        dora.login("dora@alfa.example", "dora-password")?;
        let mut both = || Ok::<_, anyhow::Error>((mail(&mut anna, ANNA)?, mail(&mut bruno, BRUNO)?));
        assert_eq!(both()?, (250, 250));
        assert_eq!(mail(&mut dora, "dora@alfa.example")?, 553, "a login without a line, as itself");

        fs::write(&map, "carla@alfa.example carla@alfa.example\n")?;
        assert_eq!(both()?, (553, 250));
        fs::write(&certificates, "")?;
        assert_eq!(both()?, (553, 553));

        // Nobody knows who may: not even those who could before.
        fs::write(&map, format!("{line}dora\n"))?;
        fs::remove_file(&certificates)?;
        assert_eq!(both()?, (451, 451));
        let log = alfa.daemon()?.log();
        for words in [["senders: line 3: dora has no address", "ERROR"], ["cannot read", "certificates"]] {
            ensure!(
                log.lines().any(|line| words.iter().all(|word| line.contains(word))),
                "{words:?} is not in the log:\n{log}"
            );
        }
        // Mended, by another file and in place.
        files.write("new", line);
        fs::rename(files.path("new"), &map)?;
        files.write("certificates", certificate);
        assert_eq!(both()?, (250, 250));
        ensure!(!log.contains("reloaded"), "nobody told the daemon:\n{log}");
        Ok(())
    });
}

#[test]
fn senders_whoever_is_taken_out_before_the_message_ends_sends_it_no_more() {
    let files = Files::new();
    let line = "anna@alfa.example anna@alfa.example\n";
    let map = files.write("senders", line);
    let certificate = "\"users-ca\" \"Bruno\" bruno@alfa.example\n";
    let certificates = files.write("certificates", certificate);
    let toml = format!("[senders]\nmap = {map:?}\ncertificates = {certificates:?}\nlisted_only = true\n");
    plan(&toml).with_user_certificates(&[]).plain("gamma", &["mario"]).test(|testbed| {
        let alfa = testbed.host("alfa")?;
        let mut anna = alfa.smtp(Port::Submissions)?;
        anna.login(ANNA, "anna-password")?;
        let mut bruno = alfa.smtp_as(Port::Submission, &identity(testbed, "bruno", USERS_CA, "Bruno")?)?;
        // What is told at the end of a message whose sender was known at MAIL and RCPT.
        let ends = |smtp: &mut Smtp, sender: &str, change: &dyn Fn() -> Result<()>| -> Result<u16> {
            for (command, code) in
                [(format!("MAIL FROM:<{sender}>"), 250), (format!("RCPT TO:<{MARIO}>"), 250), ("DATA".to_owned(), 354)]
            {
                let answer = smtp.command(&command)?;
                ensure!(answer.code == code, "{command}: {answer:?}");
            }
            change()?;
            Ok(smtp.message(&message(sender))?.code)
        };
        assert_eq!(ends(&mut anna, ANNA, &|| Ok(fs::write(&map, "")?))?, 553);
        assert_eq!(ends(&mut bruno, BRUNO, &|| Ok(fs::write(&certificates, "")?))?, 553);
        let refusal = alfa.daemon()?.log();
        ensure!(refusal.lines().any(|line| line.contains("WARN") && line.contains("refused at the end")), "{refusal}");
        fs::write(&map, line)?;
        assert_eq!(ends(&mut anna, ANNA, &|| Ok(fs::write(&map, "anna\n")?))?, 451, "nobody knows who may");
        fs::write(&map, line)?;
        testbed.wait_for_empty_queues()?;
        ensure!(testbed.host("gamma")?.fetch("mario")?.is_empty(), "something was sent");
        ensure!(alfa.fetch("anna")?.is_empty() && alfa.fetch("bruno")?.is_empty(), "something was answered");
        assert_eq!(ends(&mut anna, ANNA, &|| Ok(()))?, 250);
        testbed.judge(&testbed.received_when(&[(MARIO, 1), (ANNA, 1)])?)
    });
}

#[test]
fn senders_logins_are_looked_up_in_sqlite() {
    let files = Files::new();
    let new_database = |name: &str| {
        let database = files.write(name, "");
        let connection = Connection::open(&database).unwrap();
        connection.execute_batch("CREATE TABLE senders (login TEXT, address TEXT)").unwrap();
        (database, connection)
    };
    let (database, users) = new_database("users.sqlite");
    let toml = format!(
        "[senders]\nsqlite = {database:?}\nquery = \"SELECT address FROM senders WHERE login = :login\"\nlisted_only = true\n"
    );
    plan(&toml).plain("gamma", &["mario"]).test(|testbed| {
        let alfa = testbed.host("alfa")?;
        let mut anna = alfa.smtp(Port::Submissions)?;
        anna.login("Anna@alfa.example", "anna-password")?;
        assert_eq!(mail(&mut anna, ANNA)?, 553);
        users.execute_batch("INSERT INTO senders VALUES ('anna@alfa.example', 'anna@alfa.example'), ('anna@alfa.example', 'bruno@alfa.example')")?;
        assert_eq!((mail(&mut anna, ANNA)?, mail(&mut anna, BRUNO)?, mail(&mut anna, CARLA)?), (250, 250, 553));
        let dialogue = alfa.submit("anna", Port::Submission, BRUNO, &[MARIO], &message(BRUNO))?;
        accepted("anna as bruno", &dialogue)?;
        users.execute_batch("DELETE FROM senders WHERE address = 'anna@alfa.example'")?;
        assert_eq!((mail(&mut anna, ANNA)?, mail(&mut anna, BRUNO)?), (553, 250));

        // Somebody holds it for longer than anybody waits.
        users.execute_batch("BEGIN EXCLUSIVE")?;
        assert_eq!(mail(&mut anna, BRUNO)?, 451);
        users.execute_batch("COMMIT")?;
        assert_eq!(mail(&mut anna, BRUNO)?, 250);
        users.execute_batch("ALTER TABLE senders RENAME TO others")?;
        assert_eq!(mail(&mut anna, BRUNO)?, 451);
        let log = alfa.daemon()?.log();
        ensure!(log.contains("no such table: senders") && log.contains("users.sqlite"), "{log}");

        // Another file under the same name.
        let (other, users) = new_database("other.sqlite");
        fs::rename(other, &database)?;
        assert_eq!(mail(&mut anna, BRUNO)?, 553);
        drop(users);
        let all = testbed.received_when(&[(MARIO, 1), (BRUNO, 1)])?;
        testbed.judge(&all)
    });
}

#[test]
fn senders_the_other_tables_count_as_they_are_too() {
    let files = Files::new();
    let (receipts, ordinary) = (files.write("receipts", ""), files.write("ordinary", ""));
    plan(&format!("[receipts]\nmap = {receipts:?}\n[ordinary]\nmap = {ordinary:?}\n")).test(|testbed| {
        let alfa = testbed.host("alfa")?;
        let peer = |why: &str| -> Result<bool> {
            let letter = format!("From: x@gamma.example\r\nSubject: {why}\r\n\r\nCiao\r\n");
            Ok(alfa.inject_as_peer("x@gamma.example", &[CARLA], letter.as_bytes())?.accepted())
        };
        ensure!(peer("no line")?, "ordinary mail is taken");
        fs::write(&ordinary, "carla@alfa.example refuse\n")?;
        ensure!(!peer("a line")?, "carla takes none");
        fs::write(&ordinary, "carla@alfa.example refuse\ncarla@beta.example refuse\n")?;
        // It gives nobody a right, so nothing stops for it.
        ensure!(!peer("a faulty line")?, "the line before goes on");
        let said = alfa.daemon()?.log();
        ensure!(said.contains("carla@beta.example lies in none of provider.mail_domains"), "{said}");
        fs::write(&ordinary, "")?;
        ensure!(peer("none again")?, "ordinary mail is taken");

        fs::write(&receipts, "anna@alfa.example sintetica\n")?;
        let letter = format!("From: {ANNA}\r\nTo: {BRUNO}\r\nSubject: Sintetica\r\n\r\nCiao\r\n");
        accepted("a letter", &alfa.submit("anna", Port::Submissions, ANNA, &[BRUNO], letter.as_bytes())?)?;
        let messages = alfa.fetch_when("anna", 2)?;
        let concise = messages.iter().any(|one| String::from_utf8_lossy(one).contains("X-TipoRicevuta: sintetica"));
        let envelope = alfa.fetch_when("bruno", 1)?.concat();
        ensure!(
            concise || String::from_utf8_lossy(&envelope).contains("X-TipoRicevuta: sintetica"),
            "the receipt should be concise"
        );
        Ok(())
    });
}

/// What `check-config` says of these settings.
fn check(host: &Host, base: &str, settings: &str, files: &Files) -> Result<String> {
    let file = files.write("checked.toml", &format!("{base}\n{settings}"));
    let program = env!("CARGO_BIN_EXE_pec-milter");
    let output = std::process::Command::new(program).args(["check-config", "--config"]).arg(file).output()?;
    ensure!(output.status.code() == Some(1), "{settings} should be refused at {}", host.site.domain);
    Ok(String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn senders_check_config_explains_what_is_wrong_with_the_maps() {
    plan("").test(|testbed| {
        let alfa = testbed.host("alfa")?;
        let base = fs::read_to_string(&alfa.daemon()?.configuration)?;
        let files = Files::new();
        let certificates = files.write("certificates", "users-ca Anna anna@alfa.example\n\"users-ca\" \"Anna\"\n");
        let database = files.write("users.sqlite", "");
        Connection::open(&database)?.execute_batch("CREATE TABLE senders (login TEXT, address TEXT)")?;
        let with_query = |query: &str| format!("[senders]\nsqlite = {database:?}\nquery = {query:?}\n");
        for (settings, expected) in [
            (format!("[senders]\ncertificates = {certificates:?}\n"), &["senders.certificates", "line 1: expected two names in quotes", "line 2: \"Anna\" has no address"][..]),
            ("[senders]\ncertificates = \"/nowhere/certificates\"\n".to_owned(), &["senders.certificates", "cannot read /nowhere/certificates"]),
            ("[senders]\nsqlite = \"/nowhere/db\"\nquery = \"SELECT :login\"\n".to_owned(), &["senders.sqlite", "cannot open the database /nowhere/db"]),
            (with_query("SELECT address FROM senders"), &["senders.query", "0 parameters; expected one, :login"]),
            (with_query("SELECT mail FROM senders WHERE login = :login"), &["senders.query", "no such column: mail"]),
            (with_query("UPDATE senders SET login = :login RETURNING address"), &["senders.query", "writes"]),
            ("[senders]\nlisted_only = true\n".to_owned(), &["senders.listed_only", "nobody could send"]),
            ("[tls]\nverify = [\"b_eta\"]\n".to_owned(), &["tls.verify", "expected a list of domains"]),
        ] {
            let said = check(alfa, &base, &settings, &files)?;
            let missing: Vec<_> = expected.iter().filter(|words| !said.contains(**words)).collect();
            ensure!(missing.is_empty(), "{settings}: {missing:?} is missing in:\n{said}");
        }
        Ok(())
    })
}
