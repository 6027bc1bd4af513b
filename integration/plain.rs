//! The shipped Postfix and Dovecot configuration by itself, on a host without pec-milter.
//!
//! What is proved here needs no certified mail: which ports are open, who may submit, and that bytes arrive as sent.

use std::io::{Read, Write};
use std::net::TcpStream;

use pec_testbed::{Dialogue, Plan, Port};

fn gamma() -> Plan {
    Plan::new(env!("CARGO_BIN_EXE_pec-milter")).plain("gamma", &["mario", "lucia"])
}

/// Everything that a mail server is tempted to change: no Date, a Bcc, a long line, 8-bit text, lines with dots.
fn awkward_message() -> Vec<u8> {
    let mut message = b"From: mario@gamma.example\r\nTo: lucia@gamma.example\r\nBcc: altro@gamma.example\r\n\
        Subject: prova\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\
        Content-Transfer-Encoding: 8bit\r\n\r\n.\r\n..\r\nperch\xc3\xa9\r\n"
        .to_vec();
    message.extend([b'x'; 5000]);
    message.extend(b"\r\n");
    message
}

fn refused_at_rcpt(dialogue: &Dialogue) -> bool {
    matches!(dialogue.code("RCPT"), Some(550 | 554)) && !dialogue.accepted()
}

#[test]
fn plain_hosts_receive_by_submission_on_465_and_587() {
    gamma().test(|testbed| {
        let gamma = testbed.host("gamma")?;
        let sent = awkward_message();
        for port in [Port::Submissions, Port::Submission] {
            let dialogue = gamma.submit("mario", port, "mario@gamma.example", &["lucia@gamma.example"], &sent)?;
            assert!(dialogue.accepted(), "{dialogue}");
        }
        let received = gamma.fetch_when("lucia", 2)?;
        assert_eq!(received, gamma.fetch_pop3("lucia")?, "IMAP and POP3 give the same bytes");
        for message in received {
            assert!(message.ends_with(&sent), "altered: {}", String::from_utf8_lossy(&message));
        }
        Ok(())
    });
}

#[test]
fn plain_hosts_exchange_mail() {
    gamma().plain("delta", &["paola"]).test(|testbed| {
        let sent = awkward_message();
        let dialogue = testbed.host("gamma")?.submit(
            "mario",
            Port::Submissions,
            "mario@gamma.example",
            &["paola@delta.example"],
            &sent,
        )?;
        assert!(dialogue.accepted(), "{dialogue}");
        let received = testbed.host("delta")?.fetch_when("paola", 1)?;
        assert!(received[0].ends_with(&sent), "altered: {}", String::from_utf8_lossy(&received[0]));
        testbed.wait_for_empty_queues()
    });
}

#[test]
fn transaction_only_secure_protocols_are_offered() {
    gamma().test(|testbed| {
        let gamma = testbed.host("gamma")?;
        let offered = [Port::Smtp.number(), Port::Submission.number(), Port::Submissions.number()];
        let others: Vec<_> = gamma.open_ports().into_iter().filter(|port| !offered.contains(port)).collect();
        assert_eq!(others, [2993, 2995], "besides SMTP only IMAPS and POP3S");

        // A session without TLS may neither log in nor begin a message.
        let mut smtp = gamma.smtp_without_tls(Port::Submission)?;
        assert_eq!(smtp.login("mario@gamma.example", "mario-password")?.code, 530);
        assert_eq!(smtp.command("MAIL FROM:<mario@gamma.example>")?.code, 530);

        // Nor on port 25, where TLS is optional but login is not offered.
        let mut smtp = gamma.smtp(Port::Smtp)?;
        assert_eq!(smtp.login("mario@gamma.example", "mario-password")?.code, 503);

        // The port that speaks TLS from the first byte has no greeting for others.
        let mut stream = TcpStream::connect((gamma.site.address, Port::Submissions.number()))?;
        stream.write_all(b"EHLO client.example\r\n")?;
        let mut said = Vec::new();
        // It ends the connection in one way or another.
        let _ = stream.read_to_end(&mut said);
        assert!(!said.starts_with(b"220"), "{}", String::from_utf8_lossy(&said));
        Ok(())
    });
}

#[test]
fn transaction_without_login_is_refused_on_the_submission_ports() {
    gamma().test(|testbed| {
        let gamma = testbed.host("gamma")?;
        for port in [Port::Submissions, Port::Submission] {
            let dialogue = pec_testbed::smtp::send(
                gamma.smtp(port)?,
                None,
                "mario@gamma.example",
                &["lucia@gamma.example"],
                &awkward_message(),
            )?;
            assert_eq!(dialogue.code("RCPT"), Some(554), "{dialogue}");

            let login = Some(("mario@gamma.example", "wrong"));
            let dialogue = pec_testbed::smtp::send(gamma.smtp(port)?, login, "", &[], b"")?;
            assert_eq!(dialogue.code("AUTH"), Some(535), "{dialogue}");
        }
        assert!(gamma.fetch_as(("mario@gamma.example", "wrong")).is_err());
        assert_eq!(gamma.fetch("lucia")?.len(), 0);
        Ok(())
    });
}

#[test]
fn the_internal_domain_is_refused_from_outside() {
    gamma().test(|testbed| {
        let gamma = testbed.host("gamma")?;
        let message = awkward_message();
        for trigger in
            ["accettazione@pec-milter.invalid", "presa-in-carico@PEC-Milter.INVALID", "x@sub.pec-milter.invalid"]
        {
            let submitted = gamma.submit("mario", Port::Submission, "mario@gamma.example", &[trigger], &message)?;
            assert!(refused_at_rcpt(&submitted), "{submitted}");
            let relayed = gamma.inject_as_peer("paola@delta.example", &[trigger], &message)?;
            assert!(refused_at_rcpt(&relayed), "{relayed}");
            // A bounce would pull the trigger as well.
            let sender = gamma.inject_as_peer(trigger, &["lucia@gamma.example"], &message)?;
            assert!(refused_at_rcpt(&sender), "{sender}");
        }
        Ok(())
    });
}

#[test]
fn port_25_relays_for_nobody_and_takes_no_delivery_status_wishes() {
    gamma().test(|testbed| {
        let gamma = testbed.host("gamma")?;
        let relayed = gamma.inject_as_peer("paola@delta.example", &["qualcuno@altrove.example"], &awkward_message())?;
        assert!(refused_at_rcpt(&relayed), "{relayed}");

        for port in [Port::Smtp, Port::Submission] {
            let greeting = gamma.smtp(port)?.command("EHLO client.example")?;
            let keywords: Vec<_> = greeting.text.lines().filter_map(|line| line.split(' ').next()).collect();
            assert!(!keywords.contains(&"DSN") && !keywords.contains(&"SMTPUTF8"), "{keywords:?}");
            assert!(keywords.contains(&"8BITMIME"), "{keywords:?}");
        }
        Ok(())
    });
}
