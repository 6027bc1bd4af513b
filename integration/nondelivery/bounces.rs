//! Which bounces are believed, and what a death or an absence of the daemon costs them.

use super::*;

/// What Postfix would write about anna's message to a recipient that it could not reach.
fn forged_bounce(id: &str, recipient: &str) -> Vec<u8> {
    format!(
        "From: Mail Delivery System <MAILER-DAEMON@mx.alfa.example>\r\nSubject: Undelivered Mail Returned to Sender\r\n\
         To: {ANNA}\r\nMessage-ID: <forged@mx.alfa.example>\r\nMIME-Version: 1.0\r\n\
         Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n\
         --b\r\nContent-Type: text/plain\r\n\r\nfailed\r\n\
         --b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx.alfa.example\r\n\
         X-Postfix-Sender: rfc822; {ANNA}\r\n\r\nFinal-Recipient: rfc822; {recipient}\r\nAction: failed\r\nStatus: 5.1.1\r\n\r\n\
         --b\r\nContent-Type: message/rfc822\r\n\r\nX-Trasporto: posta-certificata\r\nMessage-ID: <{id}>\r\n\r\nx\r\n\
         --b--\r\n"
    )
    .into_bytes()
}

#[test]
fn outcome_only_what_postfix_itself_writes_is_a_bounce() {
    alfa().provider("beta", &["bruno"]).test(|testbed| {
        let (alfa, beta) = (testbed.host("alfa")?, testbed.host("beta")?);
        // As long as the message waits, a false report would be believed.
        beta.stop_dovecot()?;
        send(testbed, "prova", &["bruno@beta.example"], "testo")?;
        let id = transaction(testbed)?;
        let forged = forged_bounce(&id, "bruno@beta.example");

        let outside = alfa.inject_as_peer("", &[ANNA], &forged)?;
        ensure!(outside.accepted(), "{outside}");
        let trigger = alfa.inject_as_peer("", &["mancata-consegna@pec-milter.invalid"], &forged)?;
        ensure!(matches!(trigger.code("RCPT"), Some(550 | 554)), "{trigger}");
        let injected = pec_testbed::smtp::send(
            alfa.smtp(Port::Inject)?,
            None,
            "",
            &["mancata-consegna@pec-milter.invalid"],
            &forged,
        );
        ensure!(!injected.is_ok_and(|dialogue| dialogue.accepted()), "the injection service took a trigger");
        // The machine's own programs: the bounces milter must not take theirs for Postfix's, nor may root name a trigger.
        alfa.sendmail("", &[ANNA], &forged)?;
        alfa.fetch_when("anna", 1 + 2)?;
        alfa.sendmail("", &["mancata-consegna@pec-milter.invalid"], &forged)?;
        wait_until("the trigger to be refused", PATIENCE, || {
            ensure!(alfa.daemon()?.log().contains("by a message that is no report of Postfix"), "not yet");
            Ok(())
        })?;

        beta.start_dovecot()?;
        beta.flush_queue()?;
        alfa.fetch_when("anna", 1 + 2 + 1)?;
        let all = testbed.received()?;
        expect(&notices(&all, "prova")?, &[])?;
        let mut kinds: Vec<String> = all.iter().filter(|one| one.mailbox == ANNA).map(Received::kind).collect();
        kinds.sort();
        ensure!(kinds == ["accettazione", "avvenuta-consegna", "errore", "ordinary"], "{kinds:?}");
        testbed.judge(all.iter().filter(|one| !one.is("ordinary")))
    });
}

#[test]
fn outcome_reports_that_tell_no_failure_reach_nobody_and_nobody_can_ask_for_them() {
    alfa().plain("gamma", &["mario"]).test(|testbed| {
        let alfa = testbed.host("alfa")?;
        // Who submits can neither forbid the report of a failure nor ask for another.
        let mut smtp = alfa.smtp(Port::Submissions)?;
        smtp.login(ANNA, "anna-password")?;
        smtp.command(&format!("MAIL FROM:<{ANNA}>"))?;
        for wish in ["NOTIFY=NEVER", "NOTIFY=SUCCESS", "ORCPT=rfc822;altri@gamma.example"] {
            let answer = smtp.command(&format!("RCPT TO:<mario@gamma.example> {wish}"))?;
            ensure!(answer.code >= 500, "{wish}: {answer:?}");
        }
        // The injection service alone takes such wishes.
        let mut smtp = alfa.smtp_without_tls(Port::Inject)?;
        smtp.command(&format!("MAIL FROM:<{ANNA}>"))?;
        smtp.command("RCPT TO:<mario@gamma.example> NOTIFY=SUCCESS")?;
        smtp.command("DATA")?;
        let answer =
            smtp.message(b"X-Trasporto: posta-certificata\r\nMessage-ID: <pec.1@alfa.example>\r\n\r\nx\r\n")?;
        ensure!(answer.is_positive(), "{answer:?}");
        wait_until("the report of a success to be dropped", PATIENCE, || {
            ensure!(alfa.daemon()?.log().contains("a report of Postfix that tells no failure is dropped"), "not yet");
            Ok(())
        })?;
        testbed.received_when(&[("mario@gamma.example", 1)]).map(drop)
    });
}

#[test]
fn outcome_a_crash_after_the_commit_neither_loses_nor_doubles_the_notice() {
    alfa().test(|testbed| {
        let alfa = testbed.host("alfa")?;
        let daemon = alfa.daemon()?;
        daemon.stop()?;
        daemon.start_with(&[("PEC_CRASH_AT", "failures-recorded")])?;
        send(testbed, "prova", &["uno@altrove.example", "due@altrove.example"], "testo")?;
        daemon.wait_for_end()?;
        let id = {
            let acceptance = alfa.fetch_when("anna", 1)?;
            let acceptance = Received { mailbox: ANNA.to_owned(), bytes: acceptance.concat() };
            acceptance.transaction().context("no acceptance")?
        };
        let committed = timeline(alfa, &id)?;
        daemon.start()?;
        let all = testbed.received_when(&[(ANNA, 1 + 2)])?;
        ensure!(timeline(alfa, &id)? == committed, "the log changed:\n{committed}\n{}", timeline(alfa, &id)?);
        for notice in all.iter().filter(|one| one.is("errore-consegna")) {
            let own = notice.field("Message-ID").context("no Message-ID")?;
            ensure!(committed.contains(&format!("told by {own}")), "{own} is not in\n{committed}");
        }
        ensure!(notices(&all, "prova")?.len() == 2, "a notice is missing");
        testbed.judge(&all)
    });
}

#[test]
fn outcome_a_failure_while_the_daemon_is_away_is_told_when_it_is_back() {
    let peer = Peer::refusing(Stage::Rcpt, "450 4.2.1 not now");
    let route = format!("site_transport_maps = inline:{{ {{ peer.example = smtp:[127.0.0.1]:{} }} }}\n", peer.port);
    // With a policy of the administrator's own, mail goes on while pec-milter, which has no other, is away.
    let policy = format!("site_tls_policy = inline:{{ {{ [127.0.0.1]:{} = may }} }}\n", peer.port);
    alfa().with_postfix(&(route + &policy)).test(|testbed| {
        let alfa = testbed.host("alfa")?;
        send(testbed, "prova", &["mario@peer.example"], "testo")?;
        alfa.fetch_when("anna", 1)?;
        alfa.daemon()?.stop()?;
        peer.now_says("550 5.1.1 nobody here");
        wait_until("the refusal", PATIENCE, || {
            // Postfix puts a message off for long that it finds still being delivered.
            alfa.flush_queue()?;
            ensure!(alfa.logs().contains("status=bounced"), "not yet");
            Ok(())
        })?;
        ensure!(alfa.queue()?.contains(ANNA), "Postfix forgot the message");
        alfa.daemon()?.start()?;
        let all = testbed.received_when(&[(ANNA, 2)])?;
        let reason = "5.1.1 - Alfa PEC S.p.A. - indirizzo non valido";
        expect(&notices(&all, "prova")?, &[("mario@peer.example", "no-dest", reason)])?;
        testbed.judge(&all)
    });
}

#[test]
fn outcome_a_report_about_an_envelope_that_the_log_does_not_know_waits_in_the_queue() {
    alfa().test(|testbed| {
        let alfa = testbed.host("alfa")?;
        // As if the log had been lost: what looks like an envelope of ours fails, and the arrival is not there.
        let envelope = b"X-Trasporto: posta-certificata\r\nMessage-ID: <pec.1@alfa.example>\r\n\r\nx\r\n";
        let mut smtp = alfa.smtp_without_tls(Port::Inject)?;
        smtp.command(&format!("MAIL FROM:<{ANNA}>"))?;
        smtp.command("RCPT TO:<mario@altrove.example>")?;
        smtp.command("DATA")?;
        ensure!(smtp.message(envelope)?.is_positive(), "the injection service refused it");
        wait_until("the report to be put off", PATIENCE, || {
            let log = alfa.postfix_log()?;
            ensure!(log.contains("451 4.3.0 the arrival of the envelope is not recorded yet"), "not yet");
            Ok(())
        })?;
        ensure!(alfa.queue()?.contains("mancata-consegna@pec-milter.invalid"), "the report is gone");
        ensure!(alfa.fetch("anna")?.is_empty(), "anna was told");
        Ok(())
    });
}
