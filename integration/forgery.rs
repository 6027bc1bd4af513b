//! Who may send: nobody submits under a name that is not his own, and nobody outside reaches the internal domain.
//!
//! Every attempt has its exact place in the dialogue and its exact answer; it leaves nothing in any mailbox or queue, and
//! a line in a log that names the login.

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pec_testbed::smtp::{Answer, Smtp, send};
use pec_testbed::{Dialogue, Host, Plan, Port, Received, Testbed};

const ANNA: &str = "anna@alfa.example";
const LOGIN: (&str, &str) = (ANNA, "anna-password");
const BRUNO: &str = "bruno@alfa.example";
const SUBMISSION: [Port; 2] = [Port::Submissions, Port::Submission];

fn plan() -> Plan {
    Plan::new(env!("CARGO_BIN_EXE_pec-milter")).provider("alfa", &["anna", "bruno", "carla"])
}

fn message(author: &str) -> Vec<u8> {
    format!("{author}To: {BRUNO}\r\nSubject: prova\r\nMessage-ID: <prova@client.example>\r\n\r\nCiao.\r\n").into_bytes()
}

/// An attempt must be refused at this command with this code and enhanced code, and before it nothing else.
fn refused(attempt: &str, dialogue: &Dialogue, command: &str, code: u16, status: &str) -> Result<()> {
    let Some(refusal) = dialogue.refusal() else { anyhow::bail!("{attempt} is not refused:\n{dialogue}") };
    let Answer { command: at, code: given, text } = refusal;
    ensure!(
        at.starts_with(command) && *given == code && text.starts_with(status),
        "{attempt}: expected {code} {status} at {command}, found {given} {text} at {at}:\n{dialogue}"
    );
    ensure!(!dialogue.accepted(), "{attempt}: the message is taken nevertheless:\n{dialogue}");
    Ok(())
}

/// Nothing lies anywhere.
fn nothing_was_sent(testbed: &Testbed) -> Result<()> {
    testbed.wait_for_empty_queues()?;
    let received = testbed.received()?;
    let found: Vec<_> = received.iter().map(|one| format!("{}:\n{}", one.mailbox, one.header())).collect();
    ensure!(found.is_empty(), "expected empty mailboxes, found:\n{}", found.join("\n"));
    Ok(())
}

/// Nothing lies anywhere but that many non-acceptance notices, for one sender.
fn only_notices(testbed: &Testbed, sender: &str, count: usize) -> Result<()> {
    let received = testbed.received_when(&[(sender, count)])?;
    let others: Vec<_> = received.iter().filter(|one| !one.is("non-accettazione")).map(Received::header).collect();
    ensure!(others.is_empty(), "expected nothing but notices, found:\n{}", others.join("\n"));
    Ok(())
}

/// A log of the host has a new line with all of these words.
fn is_logged(host: &Host, before: usize, words: &[&str]) -> Result<()> {
    let logs = ["pec-milter.log", "postfix.log"].map(|name| std::fs::read_to_string(host.site.folder.join(name)));
    let [daemon, postfix] = logs;
    let text = [daemon?, postfix?].concat();
    let found = text.lines().filter(|line| words.iter().all(|word| line.contains(word))).count();
    ensure!(found > before, "no new line of the logs has all of {words:?}:\n{text}");
    Ok(())
}

/// How many lines there are so far.
fn logged(host: &Host, words: &[&str]) -> usize {
    let text = ["pec-milter.log", "postfix.log"]
        .map(|name| std::fs::read_to_string(host.site.folder.join(name)).unwrap_or_default())
        .concat();
    text.lines().filter(|line| words.iter().all(|word| line.contains(word))).count()
}

#[test]
fn transaction_a_reverse_path_that_is_not_the_logins_is_refused() {
    plan().test(|testbed| {
        let alfa = testbed.host("alfa")?;
        for port in SUBMISSION {
            for (from, status) in [
                ("carla@alfa.example", "5.7.1"),
                ("Carla@ALFA.example", "5.7.1"),
                ("\"carla\"@alfa.example", "5.7.1"),
                ("posta-certificata@alfa.example", "5.7.1"),
                ("anna@altrove.example", "5.7.1"),
                ("anna@sub.alfa.example", "5.7.1"),
                ("anna+x@alfa.example", "5.7.1"),
                ("accettazione@pec-milter.invalid", "5.7.1"),
                ("", "5.7.1"),
                ("anna", "5.1.3"),
                ("anna@[127.0.0.1]", "5.1.3"),
                ("carla%alfa.example@alfa.example", "5.7.1"),
                ("\"anna@alfa.example\"@alfa.example", "5.7.1"),
            ] {
                let words = [ANNA, "refused at MAIL"];
                let before = logged(alfa, &words);
                let author = format!("From: {}\r\n", if from.is_empty() { ANNA } else { from });
                let dialogue = send(alfa.smtp(port)?, Some(LOGIN), from, &[BRUNO], &message(&author))?;
                refused(&format!("<{from}> at {port:?}"), &dialogue, "MAIL", 553, status)?;
                is_logged(alfa, before, &words).with_context(|| format!("<{from}>"))?;
            }
        }
        nothing_was_sent(testbed)
    });
}

#[test]
fn transaction_an_author_that_is_not_the_reverse_path_is_refused() {
    plan().test(|testbed| {
        let alfa = testbed.host("alfa")?;
        let mut attempts = 0;
        for (attempt, author) in [
            ("another user", "From: carla@alfa.example\r\n"),
            ("no author", ""),
            ("an empty author", "From:\r\n"),
            ("two authors", "From: anna@alfa.example, carla@alfa.example\r\n"),
            ("two authors, the own one last", "From: carla@alfa.example, anna@alfa.example\r\n"),
            ("two fields", "From: anna@alfa.example\r\nFrom: carla@alfa.example\r\n"),
            ("two fields, in odd case", "FROM: carla@alfa.example\r\nfrom: anna@alfa.example\r\n"),
            (
                "two fields, one with a blank before the colon",
                "From: anna@alfa.example\r\nFrom : carla@alfa.example\r\n",
            ),
            ("the own address twice", "From: anna@alfa.example\r\nFrom: anna@alfa.example\r\n"),
            ("the own address as display name", "From: \"anna@alfa.example\" <carla@alfa.example>\r\n"),
            ("the own address as bare display name", "From: anna@alfa.example <carla@alfa.example>\r\n"),
            ("the own address in a comment", "From: carla@alfa.example (anna@alfa.example)\r\n"),
            ("the own address in a comment first", "From: (anna@alfa.example) carla@alfa.example\r\n"),
            ("the own address in angle brackets and another", "From: <anna@alfa.example> <carla@alfa.example>\r\n"),
            ("a group of another", "From: anna@alfa.example: carla@alfa.example;\r\n"),
            ("a group of the own address", "From: \"carla@alfa.example\": anna@alfa.example;\r\n"),
            ("an empty group", "From: anna@alfa.example:;\r\n"),
            ("a route", "From: <@carla.example:anna@alfa.example>\r\n"),
            ("the own address as encoded word", "From: =?utf-8?Q?anna=40alfa.example?= <carla@alfa.example>\r\n"),
            ("nothing but an encoded word", "From: =?utf-8?Q?=22Anna=22_=3Canna=40alfa.example=3E?=\r\n"),
            ("an address with an encoded word", "From: =?utf-8?Q?carla?=@alfa.example\r\n"),
            ("quotes around the whole", "From: \"Anna <anna@alfa.example>\"\r\n"),
            ("a quote that does not end", "From: \"anna@alfa.example <carla@alfa.example>\r\n"),
            ("8-bit text", "From: Ann\u{e0} <anna@alfa.example>\r\n"),
            ("a fold inside the address", "From: carla@alfa.example,\r\n anna@alfa.example\r\n"),
            ("only Sender is the own", "From: carla@alfa.example\r\nSender: anna@alfa.example\r\n"),
            ("only Reply-To is the own", "From: carla@alfa.example\r\nReply-To: anna@alfa.example\r\n"),
            ("only Resent-From is the own", "From: carla@alfa.example\r\nResent-From: anna@alfa.example\r\n"),
        ] {
            let words = [ANNA, "refused by the formal checks"];
            let before = logged(alfa, &words);
            let dialogue = send(alfa.smtp(Port::Submissions)?, Some(LOGIN), ANNA, &[BRUNO], &message(author))?;
            ensure!(dialogue.accepted(), "{attempt}: {author:?}:\n{dialogue}");
            is_logged(alfa, before, &words).with_context(|| attempt.to_owned())?;
            attempts += 1;
        }
        only_notices(testbed, ANNA, attempts)
    });
}

#[test]
fn transaction_the_log_names_the_login_and_not_only_the_address() {
    let folder = tempfile::tempdir().unwrap();
    let map = folder.path().join("senders");
    std::fs::write(&map, "carla@alfa.example ufficio@alfa.example\n").unwrap();
    // The daemon reads it under its own account.
    for path in [folder.path(), &map] {
        let mode = if path.is_dir() { 0o755 } else { 0o644 };
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    }
    let plan = Plan::new(env!("CARGO_BIN_EXE_pec-milter")).provider("alfa", &["anna", "bruno", "carla", "ufficio"]);
    plan.with_pec_milter(&format!("[senders]\nmap = {map:?}\n")).test(|testbed| {
        let alfa = testbed.host("alfa")?;
        let carla = Some(("carla@alfa.example", "carla-password"));
        let ufficio = "ufficio@alfa.example";
        let forged = message("From: anna@alfa.example\r\n");
        let dialogue = send(alfa.smtp(Port::Submission)?, carla, ufficio, &[BRUNO], &forged)?;
        ensure!(dialogue.accepted(), "{dialogue}");
        is_logged(alfa, 0, &["refused by the formal checks", "carla@alfa.example", ufficio])?;

        let dialogue = send(alfa.smtp(Port::Submission)?, Some(LOGIN), ufficio, &[BRUNO], &forged)?;
        refused("anna as ufficio", &dialogue, "MAIL", 553, "5.7.1")?;
        is_logged(alfa, 0, &["refused at MAIL", ANNA, ufficio])?;
        only_notices(testbed, ufficio, 1)
    });
}

#[test]
fn transaction_the_own_address_may_be_spelt_as_one_likes() {
    plan().test(|testbed| {
        let alfa = testbed.host("alfa")?;
        let attempts = [
            ("ANNA@Alfa.Example", "From: anna@alfa.example\r\n"),
            ("\"anna\"@alfa.example", "From: \"A.B.\" <Anna@ALFA.example>\r\n"),
            (ANNA, "From: =?utf-8?Q?Ann=C3=A0?= (lei)\r\n\t<\"anna\"@alfa.example> (qui)\r\n"),
            // A display name is a name: the envelope shows the true address.
            (ANNA, "From: \"carla@alfa.example\" <anna@alfa.example>\r\n"),
            (ANNA, "From: anna@alfa.example\r\nSender: carla@alfa.example\r\n"),
        ];
        for (from, author) in attempts {
            let dialogue = send(alfa.smtp(Port::Submission)?, Some(LOGIN), from, &[BRUNO], &message(author))?;
            ensure!(dialogue.accepted(), "<{from}> and {author:?} are the login's own:\n{dialogue}");
        }
        // As a login, too, the address may be in odd case.
        let login = Some(("Anna@ALFA.example", "anna-password"));
        let dialogue =
            send(alfa.smtp(Port::Submission)?, login, ANNA, &[BRUNO], &message("From: anna@alfa.example\r\n"))?;
        ensure!(dialogue.accepted(), "{dialogue}");

        let count = attempts.len() + 1;
        let expected = [(BRUNO, count), (ANNA, 2 * count), ("ricevute@alfa.example", count)];
        let all = testbed.received_when(&expected)?;
        for envelope in all.iter().filter(|one| one.is("posta-certificata")) {
            assert_eq!(envelope.fields("Sender"), [""; 0], "no Sender is inherited:\n{}", envelope.header());
            let from = envelope.field("From").unwrap_or_default().to_lowercase();
            assert_eq!(from, "\"per conto di: anna@alfa.example\" <posta-certificata@alfa.example>");
        }
        testbed.judge(&all)
    });
}

#[test]
fn transaction_without_a_proper_login_nothing_is_submitted() {
    // Dovecot answers one who guesses later and later, which Postfix takes for a dead server at last.
    let patient =
        "auth_failure_delay = 0\nservice anvil {\n  unix_listener anvil-auth-penalty {\n    mode = 0\n  }\n}\n";
    plan().with_dovecot(patient).test(|testbed| {
        let alfa = testbed.host("alfa")?;
        let own = message("From: anna@alfa.example\r\n");
        for port in SUBMISSION {
            let dialogue = send(alfa.smtp(port)?, None, ANNA, &[BRUNO], &own)?;
            refused(&format!("no login at {port:?}"), &dialogue, "MAIL", 530, "5.7.0")?;

            for (attempt, login) in [
                ("a wrong password", (ANNA, "sbagliata")),
                ("an empty password", (ANNA, "")),
                ("another user's password", (ANNA, "carla-password")),
                ("an unknown user", ("dora@alfa.example", "dora-password")),
                ("no user at all", ("", "")),
                ("a user without domain", ("anna", "anna-password")),
            ] {
                let dialogue = send(alfa.smtp(port)?, Some(login), ANNA, &[BRUNO], &own)?;
                refused(&format!("{attempt} at {port:?}"), &dialogue, "AUTH", 535, "5.7.8")?;
                // After a refused login the session is one without.
                let mut smtp = alfa.smtp(port)?;
                smtp.login(login.0, login.1)?;
                let answer = smtp.command("MAIL FROM:<anna@alfa.example>")?;
                assert_eq!(answer.code, 530, "after {attempt}: {answer:?}");
            }
            is_logged(alfa, 0, &["authentication failed", ANNA])?;

            // The own password does not log in as somebody else.
            let mut smtp = alfa.smtp(port)?;
            let borrowed = STANDARD.encode("carla@alfa.example\0anna@alfa.example\0anna-password");
            let answer = smtp.command(&format!("AUTH PLAIN {borrowed}"))?;
            assert_eq!(answer.code, 535, "carla's name with anna's password: {answer:?}");
        }
        // Login needs TLS, and so does everything else.
        let mut smtp = alfa.smtp_without_tls(Port::Submission)?;
        for command in [
            "AUTH PLAIN AGFubmFAYWxmYS5leGFtcGxlAGFubmEtcGFzc3dvcmQ=",
            "MAIL FROM:<anna@alfa.example>",
            "RCPT TO:<bruno@alfa.example>",
        ] {
            let answer = smtp.command(command)?;
            assert_eq!(answer.code, 530, "without TLS: {answer:?}");
        }
        nothing_was_sent(testbed)
    });
}

#[test]
fn transaction_a_login_without_domain_owns_nothing_unless_a_map_says_so() {
    // Any login with this password is let in, as where accounts have short names.
    let dovecot = "passdb {\n  driver = static\n  args = password=parola\n}\n";
    plan().with_dovecot(dovecot).test(|testbed| {
        let alfa = testbed.host("alfa")?;
        for login in ["anna", "ufficio"] {
            let own = message("From: anna@alfa.example\r\n");
            let dialogue = send(alfa.smtp(Port::Submission)?, Some((login, "parola")), ANNA, &[BRUNO], &own)?;
            refused(login, &dialogue, "MAIL", 553, "5.7.1")?;
            is_logged(alfa, 0, &["refused at MAIL", &format!("login=\"{login}\"")])?;
        }
        nothing_was_sent(testbed)
    });
}

/// As `postfix-conf/site.cf` has it: then Postfix takes `user%domain@OWN-NAME` and `domain!user` apart.
const OWN_NAMES: &str = "mydestination = $myhostname, localhost\n";

/// Ways to name a trigger of the internal domain.
const TRIGGERS: [&str; 12] = [
    "<accettazione@pec-milter.invalid>",
    "accettazione@pec-milter.invalid",
    "<ACCETTAZIONE@PEC-MILTER.INVALID>",
    "<\"accettazione\"@pec-milter.invalid>",
    "<\"accetta\\zione\"@pec-milter.invalid>",
    "<accettazione@pec-milter.invalid.>",
    "<accettazione@sub.pec-milter.invalid>",
    "<@alfa.example:accettazione@pec-milter.invalid>",
    "<@alfa.example,@mx.alfa.example:accettazione@pec-milter.invalid>",
    LITERAL,
    "<accettazione%pec-milter.invalid@mx.alfa.example>",
    "<pec-milter.invalid!accettazione>",
];

/// What looks like a trigger and is a mailbox that nobody has.
const NO_TRIGGERS: [&str; 3] = [
    "<accettazione%pec-milter.invalid@alfa.example>",
    "<\"accettazione@pec-milter.invalid\"@alfa.example>",
    "<pec-milter.invalid!accettazione@alfa.example>",
];

/// What looks like an address literal is none that Postfix understands.
const LITERAL: &str = "<accettazione@[pec-milter.invalid]>";

/// Names a recipient in a session that has a sender: it must be refused with this, and then there is none.
fn recipient_is_refused(mut smtp: Smtp, recipient: &str, code: u16, status: &str) -> Result<()> {
    let (code, status) = if recipient == LITERAL { (501, "5.1.3") } else { (code, status) };
    let answer = smtp.command(&format!("RCPT TO:{recipient}"))?;
    ensure!(
        answer.code == code && answer.text.starts_with(status),
        "expected {code} {status} for {recipient}, found {answer:?}"
    );
    let data = smtp.command("DATA")?;
    ensure!(data.code == 554, "{recipient} is the only recipient, yet: {data:?}");
    Ok(())
}

#[test]
fn transaction_no_user_reaches_the_internal_domain() {
    plan().with_postfix(OWN_NAMES).test(|testbed| {
        let alfa = testbed.host("alfa")?;
        for port in SUBMISSION {
            for trigger in TRIGGERS {
                let mut smtp = alfa.smtp(port)?;
                ensure!(smtp.login(LOGIN.0, LOGIN.1)?.is_positive());
                ensure!(smtp.command("MAIL FROM:<anna@alfa.example>")?.is_positive());
                recipient_is_refused(smtp, trigger, 550, "5.1.2")?;
            }
        }
        is_logged(alfa, 0, &["reject: RCPT", "pec-milter.invalid", ANNA])?;
        nothing_was_sent(testbed)
    });
}

#[test]
fn transaction_nobody_outside_reaches_the_internal_domain_or_relays() {
    plan().with_postfix(OWN_NAMES).test(|testbed| {
        let alfa = testbed.host("alfa")?;
        let relays = [
            "<qualcuno@altrove.example>",
            "<qualcuno%altrove.example@mx.alfa.example>",
            "<@alfa.example:qualcuno@altrove.example>",
            "<altrove.example!qualcuno>",
        ];
        for recipient in TRIGGERS.into_iter().chain(relays) {
            let mut smtp = alfa.smtp(Port::Smtp)?;
            ensure!(smtp.command("MAIL FROM:<paola@altrove.example>")?.is_positive());
            recipient_is_refused(smtp, recipient, 554, "5.7.1")?;
        }
        // Nor as the address to which a bounce would return.
        for sender in TRIGGERS {
            let dialogue = {
                let mut smtp = alfa.smtp(Port::Smtp)?;
                if smtp.command(&format!("MAIL FROM:{sender}"))?.is_positive() {
                    smtp.command("RCPT TO:<nessuno@alfa.example>")?;
                }
                smtp.quit()?
            };
            let (at, code, status) = if sender == LITERAL { ("MAIL", 501, "5.1.7") } else { ("RCPT", 550, "5.1.8") };
            refused(&format!("{sender} as sender"), &dialogue, at, code, status)?;
        }
        nothing_was_sent(testbed)
    });
}

#[test]
fn transaction_a_mailbox_that_looks_like_a_trigger_pulls_none() {
    plan().with_postfix(OWN_NAMES).test(|testbed| {
        let alfa = testbed.host("alfa")?;
        for (number, recipient) in NO_TRIGGERS.iter().enumerate() {
            let mut smtp = alfa.smtp(Port::Smtp)?;
            ensure!(smtp.command("MAIL FROM:<>")?.is_positive());
            let rcpt = smtp.command(&format!("RCPT TO:{recipient}"))?;
            if rcpt.is_positive() {
                ensure!(smtp.command("DATA")?.is_positive());
                smtp.message(format!("From: p@altrove.example\r\nSubject: {number}\r\n\r\nx\r\n").as_bytes())?;
            }
        }
        testbed.wait_for_empty_queues()?;
        let log = alfa.daemon()?.log();
        for word in ["notification sent", "a trigger came with", "internal domain"] {
            ensure!(!log.contains(word), "a trigger was pulled: {word:?} in\n{log}");
        }
        Ok(())
    });
}

#[test]
fn transaction_clients_cannot_claim_to_be_others() {
    plan().test(|testbed| {
        let alfa = testbed.host("alfa")?;
        for port in [Port::Smtp, Port::Submissions, Port::Submission] {
            let mut smtp = alfa.smtp(port)?;
            let greeting = smtp.command("EHLO client.example")?;
            ensure!(!greeting.text.contains("XFORWARD") && !greeting.text.contains("XCLIENT"), "{greeting:?}");
            if port != Port::Smtp {
                ensure!(smtp.login(LOGIN.0, LOGIN.1)?.is_positive());
            }
            for command in [
                "XCLIENT LOGIN=carla@alfa.example",
                "XCLIENT ADDR=127.0.0.1 NAME=localhost",
                "XFORWARD ADDR=127.0.0.1 IDENT=ABCDEF",
            ] {
                let answer = smtp.command(command)?;
                assert_eq!(answer.code, 550, "{command} at {port:?}: {answer:?}");
            }
            // The login of the session is the one it was before.
            if port != Port::Smtp {
                let answer = smtp.command("MAIL FROM:<carla@alfa.example>")?;
                assert_eq!(answer.code, 553, "{answer:?}");
            }
        }
        nothing_was_sent(testbed)
    });
}

/// Ends of a message that some servers take for one and others do not.
const FALSE_ENDS: [&str; 6] = ["\n.\n", "\n.\r\n", "\r\n.\n", "\r.\r", "\r\n.\r", "\r.\r\n"];

#[test]
fn transaction_no_second_message_is_smuggled_into_the_first() {
    plan().test(|testbed| {
        let alfa = testbed.host("alfa")?;
        for (number, end) in FALSE_ENDS.iter().enumerate() {
            let smuggled = "MAIL FROM:<anna@alfa.example>\r\nRCPT TO:<carla@alfa.example>\r\nDATA\r\n\
                From: anna@alfa.example\r\nTo: carla@alfa.example\r\nSubject: falsa\r\n\r\nfalsa";
            let text = format!(
                "From: paola@altrove.example\r\nTo: {BRUNO}\r\nSubject: {number}\r\n\r\nvera{end}{smuggled}\r\n."
            );
            let mut smtp = alfa.smtp(Port::Smtp)?;
            ensure!(smtp.command("MAIL FROM:<paola@altrove.example>")?.is_positive());
            ensure!(smtp.command("RCPT TO:<bruno@alfa.example>")?.is_positive());
            ensure!(smtp.command("DATA")?.is_positive());
            let answer = smtp.command(&text)?;
            assert_eq!(answer.code, 250, "{end:?} is no end: {answer:?}");
            // The answer to the next command must be its own, and not that to smuggled ones.
            let answer = smtp.command("NOOP")?;
            assert_eq!((answer.code, answer.text.as_str()), (250, "2.0.0 Ok"), "after {end:?}: {answer:?}");
            let dialogue = smtp.quit()?;
            assert_eq!(dialogue.code("QUIT"), Some(221), "after {end:?}: {dialogue}");
        }
        let all = testbed.received_when(&[(BRUNO, FALSE_ENDS.len())])?;
        for Received { bytes, .. } in &all {
            let text = String::from_utf8_lossy(bytes);
            assert!(text.contains("vera") && text.contains("falsa"), "one message holds both: {text}");
        }
        testbed.judge(&all)
    });
}

#[test]
fn transaction_no_second_message_is_smuggled_into_a_submission() {
    plan().test(|testbed| {
        let alfa = testbed.host("alfa")?;
        let (mut certified, mut refused) = (0, 0);
        for end in FALSE_ENDS {
            let smuggled = "MAIL FROM:<carla@alfa.example>\r\nRCPT TO:<bruno@alfa.example>\r\nDATA\r\n\
                From: carla@alfa.example\r\nTo: bruno@alfa.example\r\nSubject: falsa\r\n\r\nfalsa";
            let text = format!("From: {ANNA}\r\nTo: {BRUNO}\r\nSubject: vera\r\n\r\nvera{end}{smuggled}\r\n.");
            let mut smtp = alfa.smtp(Port::Submission)?;
            ensure!(smtp.login(LOGIN.0, LOGIN.1)?.is_positive());
            ensure!(smtp.command("MAIL FROM:<anna@alfa.example>")?.is_positive());
            ensure!(smtp.command("RCPT TO:<bruno@alfa.example>")?.is_positive());
            ensure!(smtp.command("DATA")?.is_positive());
            let accepted = usize::from(smtp.command(&text)?.code == 250);
            // Postfix makes an LF alone a line end; a CR alone is told to the sender.
            match end.replace("\r\n", "").contains('\r') {
                true => refused += accepted,
                false => certified += accepted,
            }
            let answer = smtp.command("NOOP")?;
            assert_eq!((answer.code, answer.text.as_str()), (250, "2.0.0 Ok"), "after {end:?}: {answer:?}");
        }
        let expected = [(BRUNO, certified), (ANNA, 2 * certified + refused), ("ricevute@alfa.example", certified)];
        let all = testbed.received_when(&expected)?;
        assert_eq!(all.iter().filter(|one| one.is("non-accettazione")).count(), refused);
        for envelope in all.iter().filter(|one| one.is("posta-certificata")) {
            assert_eq!(envelope.certified("mittente")?, [ANNA], "carla sends nothing");
        }
        testbed.judge(&all)
    });
}
