//! Non-delivery on real servers (§3.3.3): one coded notice for each recipient that does not get the message, whoever
//! refuses it, and never a bounce of Postfix to a user of certified mail.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;

use anyhow::{Context, Result, bail, ensure};
use pec_testbed::{Host, PATIENCE, Plan, Port, Received, Testbed, wait_until};

const ANNA: &str = "anna@alfa.example";

fn plan() -> Plan {
    Plan::new(env!("CARGO_BIN_EXE_pec-milter"))
}

fn alfa() -> Plan {
    plan().provider("alfa", &["anna", "carla"])
}

/// Postfix gives up soon.
const SHORT_LIFE: &str = "maximal_queue_lifetime = 4s\n";

fn message(subject: &str, to: &[&str], text: &str) -> Vec<u8> {
    let to = to.join(",\r\n ");
    format!(
        "From: {ANNA}\r\nTo: {to}\r\nSubject: {subject}\r\nMessage-ID: <{subject}@client.example>\r\n\r\n{text}\r\n"
    )
    .into_bytes()
}

fn send(testbed: &Testbed, subject: &str, to: &[&str], text: &str) -> Result<()> {
    let message = message(subject, to, text);
    let dialogue = testbed.host("alfa")?.submit("anna", Port::Submissions, ANNA, to, &message)?;
    ensure!(dialogue.accepted(), "{dialogue}");
    Ok(())
}

/// The PEC msgid of anna's transaction, from its acceptance.
fn transaction(testbed: &Testbed) -> Result<String> {
    wait_until("the acceptance", PATIENCE, || {
        let messages = testbed.host("alfa")?.fetch("anna")?;
        let received = messages.into_iter().map(|bytes| Received { mailbox: ANNA.to_owned(), bytes });
        received.filter(|message| message.is("accettazione")).find_map(|one| one.transaction()).context("none yet")
    })
}

fn timeline(host: &Host, id: &str) -> Result<String> {
    let (found, text) = host.daemon()?.command(&["log", "show", id])?;
    ensure!(found, "{text}");
    Ok(text)
}

/// Every non-delivery notice: recipient to `errore` and `errore-esteso`. Two for one recipient are an error.
fn notices(messages: &[Received], subject: &str) -> Result<BTreeMap<String, (String, String)>> {
    let mut found = BTreeMap::new();
    let wanted = format!("AVVISO DI MANCATA CONSEGNA: {subject}");
    for notice in messages.iter().filter(|one| one.is("errore-consegna")) {
        if notice.field("Subject").as_deref() != Some(&wanted) {
            continue;
        }
        ensure!(notice.mailbox == ANNA, "a notice for {}", notice.mailbox);
        let one = |texts: Vec<String>| -> Result<String> {
            let [text] = texts.as_slice() else { bail!("{texts:?} in\n{}", notice.header()) };
            Ok(text.clone())
        };
        let recipient = one(notice.certified("consegna")?)?;
        let error = one(notice.certified_attributes("postacert", "errore")?)?;
        let reason = one(notice.certified("errore-esteso")?)?;
        ensure!(found.insert(recipient.clone(), (error, reason)).is_none(), "two notices for {recipient}");
    }
    Ok(found)
}

fn expect(found: &BTreeMap<String, (String, String)>, wanted: &[(&str, &str, &str)]) -> Result<()> {
    let own = |text: &str| text.to_owned();
    let wanted = wanted.iter().map(|(to, error, reason)| (own(to), (own(error), own(reason)))).collect();
    ensure!(*found == wanted, "found {found:#?}\nexpected {wanted:#?}");
    Ok(())
}

/// Gives a mailbox further fields, as an administrator does in Dovecot's users file.
fn edit_mailbox(host: &Host, user: &str, fields: &str) -> Result<()> {
    let path = host.site.folder.join("users");
    let address = host.mailbox(user);
    let change = |line: &str| match line.split_once(':') {
        Some((name, _)) if name == address => {
            format!("{}::::::{fields}\n", line.split("::::::").next().unwrap_or(line))
        }
        _ => format!("{line}\n"),
    };
    let users: String = fs::read_to_string(&path)?.lines().map(change).collect();
    // In place of the old one at once: Dovecot reads it at any moment.
    let new = path.with_extension("new");
    fs::write(&new, users)?;
    fs::rename(new, path).context("cannot replace the users file")
}

/// The same with one field of the user database; returns when Dovecot, which looks at the file once a second, knows it.
fn change_mailbox(host: &Host, user: &str, fields: &str) -> Result<()> {
    edit_mailbox(host, user, fields)?;
    let address = host.mailbox(user);
    let configuration = host.site.folder.join("dovecot.conf");
    let (name, value) = fields.trim_start_matches("userdb_").split_once('=').context("no userdb field")?;
    wait_until(&format!("Dovecot to know {fields} of {address}"), PATIENCE, || {
        let output =
            Command::new("doveadm").arg("-c").arg(&configuration).args(["user", "-f", name, &address]).output()?;
        let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        ensure!(said == value, "{said:?}");
        Ok(())
    })
}

const QUOTA: &str = "
protocol lmtp {
  mail_plugins = $mail_plugins quota
}
plugin {
  quota = maildir:User quota
  quota_grace = 0
}
";

#[test]
fn outcome_each_refusal_of_the_mailbox_server_is_told_with_its_code() {
    let disabled = "site_disabled_mailboxes = inline:{ { sospeso@beta.example = error:5.2.1 mailbox disabled } }\n";
    let users = ["bruno", "pieno", "piccolo", "sospeso", "altrove"];
    let elsewhere = Peer::refusing(Stage::Rcpt, "554 not for you");
    let settings = format!("{QUOTA}\nlmtp_proxy = yes\n");
    alfa().provider("beta", &users).with_dovecot(&settings).with_postfix(disabled).test(|testbed| {
        let beta = testbed.host("beta")?;
        send(testbed, "prima", &["pieno@beta.example"], "riempie")?;
        testbed.received_when(&[(ANNA, 2), ("pieno@beta.example", 1), ("ricevute@alfa.example", 1)])?;
        // Dovecot asks another server: any other permanent failure, here one without an enhanced status code.
        edit_mailbox(beta, "altrove", &format!("proxy=y host=127.0.0.1 port={}", elsewhere.port))?;
        // Over its quota before the message is offered, and by the message.
        change_mailbox(beta, "pieno", "userdb_quota_rule=*:bytes=1000")?;
        change_mailbox(beta, "piccolo", "userdb_quota_rule=*:bytes=2000")?;

        let to = ["bruno", "pieno", "piccolo", "sospeso", "altrove", "nessuno"].map(|user| beta.mailbox(user));
        let to: Vec<&str> = to.iter().map(String::as_str).collect();
        send(testbed, "seconda", &to, "testo")?;
        testbed.host("alfa")?.fetch_when("anna", 2 + 1 + 6)?;
        // Its owner, too, was sent elsewhere: back, so that the test can look into the mailbox.
        edit_mailbox(beta, "altrove", "")?;
        wait_until("the mailbox to be here again", PATIENCE, || beta.fetch("altrove"))?;
        let all = testbed.received_when(&[
            (ANNA, 2 + 1 + 6),
            ("bruno@beta.example", 1),
            ("pieno@beta.example", 1),
            ("ricevute@alfa.example", 3),
        ])?;
        expect(
            &notices(&all, "seconda")?,
            &[
                ("nessuno@beta.example", "no-dest", "5.1.1 - Beta PEC S.p.A. - indirizzo non valido"),
                ("pieno@beta.example", "altro", "5.2.2 - Beta PEC S.p.A. - casella piena"),
                ("piccolo@beta.example", "altro", "5.2.2 - Beta PEC S.p.A. - casella piena"),
                (
                    "altrove@beta.example",
                    "altro",
                    "5.0.0 - Beta PEC S.p.A. - messaggio rifiutato dal sistema di destinazione",
                ),
                ("sospeso@beta.example", "altro", "5.2.1 - Beta PEC S.p.A. - casella inibita alla ricezione"),
            ],
        )?;
        testbed.judge(&all)
    });
}

/// Where a server that is no good refuses.
#[derive(Clone, Copy, PartialEq)]
enum Stage {
    Connect,
    Ehlo,
    Mail,
    Rcpt,
    Data,
    End,
}

/// A mail server that refuses every message at one stage, with a reply that can change.
struct Peer {
    port: u16,
    reply: Arc<Mutex<&'static str>>,
}

impl Peer {
    fn refusing(stage: Stage, reply: &'static str) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let peer = Peer { port: listener.local_addr().unwrap().port(), reply: Arc::new(Mutex::new(reply)) };
        let reply = peer.reply.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let reply = *reply.lock().unwrap();
                // A client that hangs up has read what it needs.
                thread::spawn(move || refuse(stream, stage, reply));
            }
        });
        peer
    }

    fn now_says(&self, reply: &'static str) {
        *self.reply.lock().unwrap() = reply;
    }
}

fn refuse(mut stream: TcpStream, stage: Stage, reply: &str) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let mut say = |at, usual: &str| {
        let text = if at == stage { reply } else { usual };
        write!(stream, "{text}\r\n")
    };
    say(Stage::Connect, "220 peer.example ESMTP")?;
    while let Some(line) = lines.next().transpose()? {
        match line.get(..4).unwrap_or_default().to_ascii_uppercase().as_str() {
            "EHLO" | "HELO" => say(Stage::Ehlo, "250 peer.example")?,
            "RCPT" => say(Stage::Rcpt, "250 ok")?,
            "DATA" => {
                say(Stage::Data, "354 go")?;
                if stage != Stage::Data {
                    while lines.next().transpose()?.is_some_and(|line| line != ".") {}
                    say(Stage::End, "250 ok")?;
                }
            }
            "QUIT" => return write!(stream, "221 bye\r\n"),
            _ => say(Stage::Mail, "250 ok")?,
        }
    }
    Ok(())
}

/// The only name server this host knows answers every question with "no such name" (RFC 1035 §4.1.1).
fn dns_without_names(host: &Host) -> Result<()> {
    let socket = UdpSocket::bind((host.site.address, 53))?;
    let etc = host.site.spool().join("etc");
    fs::create_dir_all(&etc)?;
    fs::write(etc.join("resolv.conf"), format!("nameserver {}\n", host.site.address))?;
    thread::spawn(move || {
        let mut packet = [0; 512];
        while let Ok((length, client)) = socket.recv_from(&mut packet) {
            // A response, recursion available, error 3; the rest is the question.
            if let Some(flags) = packet.get_mut(2..4) {
                flags.copy_from_slice(&[0x81, 0x83]);
            }
            // Without extensions in it, nothing follows the question.
            packet[10..12].fill(0);
            drop(socket.send_to(&packet[..length], client));
        }
    });
    Ok(())
}

#[test]
fn outcome_a_refusal_at_any_stage_and_a_silent_host_are_told_by_the_senders_provider() {
    let refusals = [
        ("connect.example", Stage::Connect, "554 5.3.2 no mail today"),
        ("ehlo.example", Stage::Ehlo, "550 5.7.1 go away"),
        ("mail.example", Stage::Mail, "550 5.7.1 not from you"),
        ("rcpt.example", Stage::Rcpt, "550-5.1.1 there is\r\n550 5.1.1 nobody here"),
        ("data.example", Stage::Data, "554 no enhanced code"),
        ("end.example", Stage::End, "552 5.2.2 full"),
    ];
    let mut routes = String::new();
    for (domain, stage, reply) in refusals {
        let port = Peer::refusing(stage, reply).port;
        routes.push_str(&format!("{{ {domain} = smtp:[127.0.0.1]:{port} }}, "));
    }
    // Bound and not listening for long: nobody answers there.
    let closed = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
    routes.push_str(&format!("{{ silent.example = smtp:[127.0.0.1]:{closed} }}"));
    let settings = format!(
        "site_transport_maps = inline:{{ {routes} }}\ndefault_transport = smtp\ndelay_warning_time = 1s\n\
         smtp_dns_support_level = enabled\nmaximal_queue_lifetime = 8s\n"
    );
    alfa().with_postfix(&settings).test(|testbed| {
        let alfa = testbed.host("alfa")?;
        dns_without_names(alfa)?;
        let domains = ["connect", "ehlo", "mail", "rcpt", "data", "end", "silent", "nowhere"];
        let to: Vec<String> = domains.iter().map(|domain| format!("mario+1@{domain}.example")).collect();
        let to: Vec<&str> = to.iter().map(String::as_str).collect();
        // So large that Postfix returns the header alone.
        send(testbed, "prova", &to, &"una riga\r\n".repeat(9_000))?;
        let all = testbed.received_when(&[(ANNA, 1 + 8)])?;
        let altro = |domain: &str, reason: &str| {
            (format!("mario+1@{domain}.example"), ("altro".to_owned(), reason.replace('@', " - Alfa PEC S.p.A. - ")))
        };
        let other = |error: &str, one: (String, (String, String))| (one.0, (error.to_owned(), one.1.1));
        let wanted = BTreeMap::from([
            altro("connect", "5.4.7@tempo massimo superato"),
            altro("ehlo", "5.7.1@messaggio rifiutato dal sistema di destinazione"),
            altro("mail", "5.7.1@messaggio rifiutato dal sistema di destinazione"),
            other("no-dest", altro("rcpt", "5.1.1@indirizzo non valido")),
            altro("data", "5.0.0@messaggio rifiutato dal sistema di destinazione"),
            altro("end", "5.2.2@casella piena"),
            altro("silent", "5.4.7@tempo massimo superato"),
            other("no-dominio", altro("nowhere", "5.1.2@dominio non valido")),
        ]);
        let found = notices(&all, "prova")?;
        ensure!(found == wanted, "found {found:#?}\nexpected {wanted:#?}");
        // Postfix did tell of the delay, and of several failures at once; nobody saw it.
        let log = alfa.daemon()?.log();
        ensure!(log.contains("a report of Postfix that tells no failure is dropped"), "no delay was reported");
        testbed.judge(&all)
    });
}

#[test]
fn outcome_a_mailbox_that_fails_for_now_gets_the_message_later_and_its_sender_no_notice() {
    let tempfail = format!("{QUOTA}\nquota_full_tempfail = yes\n");
    alfa().provider("beta", &["bruno", "pieno"]).with_dovecot(&tempfail).test(|testbed| {
        let beta = testbed.host("beta")?;
        change_mailbox(beta, "pieno", "userdb_quota_rule=*:bytes=1000")?;
        send(testbed, "prova", &["bruno@beta.example", "pieno@beta.example"], "testo")?;
        testbed.host("alfa")?.fetch_when("anna", 2)?;
        wait_until("the full mailbox to be tried", PATIENCE, || {
            ensure!(beta.daemon()?.log().contains("452 4.2.2"), "not yet");
            Ok(())
        })?;
        beta.stop_dovecot()?;
        beta.flush_queue()?;
        wait_until("the mailbox server to be missed", PATIENCE, || {
            ensure!(beta.queue()?.contains("pieno@beta.example"), "not in the queue");
            Ok(())
        })?;
        beta.start_dovecot()?;
        change_mailbox(beta, "pieno", "userdb_quota_rule=*:bytes=100000")?;
        let all = testbed.received_when(&[
            (ANNA, 3),
            ("bruno@beta.example", 1),
            ("pieno@beta.example", 1),
            ("ricevute@alfa.example", 1),
        ])?;
        expect(&notices(&all, "prova")?, &[])?;
        testbed.judge(&all)
    });
}

#[test]
fn outcome_a_mailbox_that_fails_until_the_time_is_over_is_told_by_its_provider() {
    let tempfail = format!("{QUOTA}\nquota_full_tempfail = yes\n");
    alfa().provider("beta", &["pieno", "grande"]).with_dovecot(&tempfail).with_postfix(SHORT_LIFE).test(|testbed| {
        let beta = testbed.host("beta")?;
        change_mailbox(beta, "pieno", "userdb_quota_rule=*:bytes=1000")?;
        // Dovecot takes this limit for a temporary one.
        change_mailbox(beta, "grande", "userdb_quota_max_mail_size=2000")?;
        send(testbed, "prova", &["pieno@beta.example", "grande@beta.example"], "testo")?;
        let all = testbed.received_when(&[(ANNA, 3), ("ricevute@alfa.example", 1)])?;
        let reason = "5.4.7 - Beta PEC S.p.A. - tempo massimo superato";
        let wanted = ["pieno@beta.example", "grande@beta.example"].map(|to| (to, "altro", reason));
        expect(&notices(&all, "prova")?, &wanted)?;
        testbed.judge(&all)
    });
}

#[test]
fn outcome_a_recipient_refused_by_another_host_does_not_keep_the_others_from_theirs() {
    let gamma =
        "smtpd_reject_unlisted_recipient = yes\nvirtual_mailbox_maps = inline:{ { mario@gamma.example = x } }\n";
    alfa().provider("beta", &["bruno"]).plain("gamma", &["mario"]).with_postfix(gamma).test(|testbed| {
        let to = [
            "bruno@beta.example",
            "carla@alfa.example",
            "mario@gamma.example",
            "ignoto@gamma.example",
            "ignota@gamma.example",
            "ignoto@beta.example",
            "ignoto@alfa.example",
            "ignoto@altrove.example",
        ];
        send(testbed, "prova", &to, "testo")?;
        let all = testbed.received_when(&[
            (ANNA, 1 + 2 + 5),
            ("bruno@beta.example", 1),
            ("carla@alfa.example", 1),
            ("mario@gamma.example", 1),
            ("ricevute@alfa.example", 2),
        ])?;
        expect(
            &notices(&all, "prova")?,
            &[
                ("ignoto@gamma.example", "no-dest", "5.1.1 - Alfa PEC S.p.A. - indirizzo non valido"),
                ("ignota@gamma.example", "no-dest", "5.1.1 - Alfa PEC S.p.A. - indirizzo non valido"),
                ("ignoto@beta.example", "no-dest", "5.1.1 - Beta PEC S.p.A. - indirizzo non valido"),
                ("ignoto@alfa.example", "no-dest", "5.1.1 - Alfa PEC S.p.A. - indirizzo non valido"),
                ("ignoto@altrove.example", "no-dominio", "5.1.2 - Alfa PEC S.p.A. - dominio non valido"),
            ],
        )?;
        let certified: Vec<&Received> = all.iter().filter(|one| one.mailbox != "mario@gamma.example").collect();
        testbed.judge(certified)
    });
}

#[test]
fn outcome_a_failure_after_the_outcome_is_recorded_and_not_told() {
    // Aliases with a second address that gets nothing: of our own domain and of another provider's.
    let peer = Peer::refusing(Stage::Rcpt, "450 4.2.1 not now");
    let aliases = format!(
        "virtual_alias_maps = inline:{{ {{ ufficio@alfa.example = carla@alfa.example, x@peer.example }}, \
         {{ bruno@beta.example = bruno@beta.example, y@peer.example }}, {{ solo@alfa.example = z@peer.example }} }}\n\
         default_transport = smtp:[127.0.0.1]:{}\n",
        peer.port
    );
    alfa().with_postfix(&aliases).provider("beta", &["bruno"]).test(|testbed| {
        let alfa = testbed.host("alfa")?;
        send(testbed, "prova", &["ufficio@alfa.example", "bruno@beta.example", "solo@alfa.example"], "testo")?;
        alfa.fetch_when("anna", 1 + 2)?;
        peer.now_says("550 5.1.1 nobody here");
        let id = transaction(testbed)?;
        wait_until("the late failures", PATIENCE, || {
            let timeline = timeline(alfa, &id)?;
            ensure!(timeline.matches("late-failure").count() == 2, "{timeline}");
            Ok(())
        })?;
        let all = testbed.received_when(&[
            (ANNA, 1 + 2 + 1),
            ("carla@alfa.example", 1),
            ("bruno@beta.example", 1),
            ("ricevute@alfa.example", 3),
        ])?;
        // What leads to nobody was taken in charge all the same: it is a mailbox of ours to everybody else.
        let reason = "5.1.1 - Alfa PEC S.p.A. - indirizzo non valido";
        expect(&notices(&all, "prova")?, &[("solo@alfa.example", "no-dest", reason)])?;
        let taken = all.iter().filter(|one| one.is("presa-in-carico")).map(|one| one.certified("ricezione"));
        let mut taken: Vec<String> = taken.collect::<Result<Vec<_>>>()?.concat();
        taken.sort();
        ensure!(taken == ["bruno@beta.example", "solo@alfa.example", "ufficio@alfa.example"], "{taken:?}");
        testbed.judge(&all)
    });
}

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
    alfa().with_postfix(&route).test(|testbed| {
        let alfa = testbed.host("alfa")?;
        send(testbed, "prova", &["mario@peer.example"], "testo")?;
        alfa.fetch_when("anna", 1)?;
        alfa.daemon()?.stop()?;
        peer.now_says("550 5.1.1 nobody here");
        wait_until("the refusal", PATIENCE, || {
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
fn outcome_a_report_about_a_transaction_that_the_log_does_not_know_waits_in_the_queue() {
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
            let log = alfa.daemon()?.log();
            ensure!(
                log.contains("Postfix reports about pec.1@alfa.example, of which the log knows no arrival"),
                "not yet"
            );
            Ok(())
        })?;
        ensure!(alfa.queue()?.contains("mancata-consegna@pec-milter.invalid"), "the report is gone");
        ensure!(alfa.fetch("anna")?.is_empty(), "anna was told");
        Ok(())
    });
}
