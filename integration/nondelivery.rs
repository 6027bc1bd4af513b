//! Non-delivery on real servers (§3.3.3): one coded notice for each recipient that does not get the message, whoever
//! refuses it, and never a bounce of Postfix to a user of certified mail.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
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

/// Postfix gives up soon, and a host that was down a moment ago is tried again.
const SHORT_LIFE: &str = "maximal_queue_lifetime = 4s\nsmtp_connect_timeout = 2s\n";

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

/// Gives a mailbox further userdb fields, as an administrator does in Dovecot's users file.
fn change_mailbox(host: &Host, user: &str, fields: &str) -> Result<()> {
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
    let users = ["bruno", "pieno", "piccolo", "grande", "sospeso"];
    alfa().provider("beta", &users).with_dovecot(QUOTA).with_postfix(disabled).test(|testbed| {
        let beta = testbed.host("beta")?;
        send(testbed, "prima", &["pieno@beta.example"], "riempie")?;
        testbed.received_when(&[(ANNA, 2), ("pieno@beta.example", 1), ("ricevute@alfa.example", 1)])?;
        // Over its quota before the message is offered, by the message, and by its size alone.
        change_mailbox(beta, "pieno", "userdb_quota_rule=*:bytes=1000")?;
        change_mailbox(beta, "piccolo", "userdb_quota_rule=*:bytes=2000")?;
        change_mailbox(beta, "grande", "userdb_quota_max_mail_size=2000")?;

        let to = ["bruno", "pieno", "piccolo", "grande", "sospeso", "nessuno"].map(|user| beta.mailbox(user));
        let to: Vec<&str> = to.iter().map(String::as_str).collect();
        send(testbed, "seconda", &to, "testo")?;
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
                ("grande@beta.example", "altro", "5.2.2 - Beta PEC S.p.A. - casella piena"),
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

/// A mail server that refuses every message at one stage with one reply. Returns its port.
fn refusing(stage: Stage, reply: &'static str) -> Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let port = listener.local_addr()?.port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A client that hangs up has read what it needs.
            thread::spawn(move || refuse(stream, stage, reply));
        }
    });
    Ok(port)
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
            "MAIL" => say(Stage::Mail, "250 ok")?,
            "RCPT" => say(Stage::Rcpt, "250 ok")?,
            "DATA" if stage == Stage::Data => say(Stage::Data, "")?,
            "DATA" => {
                say(Stage::Data, "354 go")?;
                while lines.next().transpose()?.is_some_and(|line| line != ".") {}
                say(Stage::End, "250 ok")?;
            }
            "QUIT" => return write!(stream, "221 bye\r\n"),
            _ => say(Stage::Mail, "250 ok")?,
        }
    }
    Ok(())
}

#[test]
fn outcome_a_refusal_at_any_stage_and_a_silent_host_are_told_by_the_senders_provider() {
    let peers = [
        ("connect.example", refusing(Stage::Connect, "554 5.3.2 no mail today")),
        ("ehlo.example", refusing(Stage::Ehlo, "550 5.7.1 go away")),
        ("mail.example", refusing(Stage::Mail, "550 5.7.1 not from you")),
        ("rcpt.example", refusing(Stage::Rcpt, "550-5.1.1 there is\r\n550 5.1.1 nobody here")),
        ("data.example", refusing(Stage::Data, "554 no enhanced code")),
        ("end.example", refusing(Stage::End, "552 5.2.2 full")),
    ];
    let mut routes = String::new();
    for (domain, port) in peers {
        routes.push_str(&format!("{{ {domain} = smtp:[127.0.0.1]:{} }}, ", port.unwrap()));
    }
    // Bound and not listening for long: nobody answers there.
    let closed = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
    routes.push_str(&format!("{{ silent.example = smtp:[127.0.0.1]:{closed} }}"));
    // A domain without a route is looked up; the host's own table says, as the DNS would, that it does not exist.
    let settings = format!(
        "site_transport_maps = inline:{{ {routes} }}\ndefault_transport = smtp\ndelay_warning_time = 1s\n\
         smtp_host_lookup = native\n{SHORT_LIFE}"
    );
    alfa().with_postfix(&settings).test(|testbed| {
        let alfa = testbed.host("alfa")?;
        let etc = alfa.site.spool().join("etc");
        fs::create_dir_all(&etc)?;
        fs::write(etc.join("nsswitch.conf"), "hosts: files\n")?;
        fs::write(etc.join("hosts"), "127.0.0.1 localhost\n")?;

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
