//! Non-delivery on real servers (§3.3.3): one coded notice for each recipient that does not get the message, whoever
//! refuses it, and never a bounce of Postfix to a user of certified mail.

mod bounces;
mod given_up;
mod peers;

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use pec_testbed::{Host, PATIENCE, Plan, Port, Received, Testbed, wait_until};
use peers::{Peer, Stage, dns_without_names};

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

#[test]
fn outcome_a_refusal_at_any_stage_and_a_silent_host_are_told_by_the_senders_provider() {
    let refusals = [
        ("connect.example", Stage::Connect, "554 5.3.2 no mail today"),
        ("ehlo.example", Stage::Ehlo, "550 5.7.1 go away"),
        ("mail.example", Stage::Mail, "550 5.7.1 not from you"),
        ("rcpt.example", Stage::Rcpt, "550-5.1.1 there is\r\n550 5.1.1 nobody here"),
        ("data.example", Stage::Data, "554 no enhanced code"),
        ("end.example", Stage::End, "552 5.2.2 full"),
        ("later.example", Stage::Rcpt, "450 4.2.1 not now, and never"),
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
        let domains = ["connect", "ehlo", "mail", "rcpt", "data", "end", "later", "silent", "nowhere"];
        let to: Vec<String> = domains.iter().map(|domain| format!("mario+1@{domain}.example")).collect();
        let to: Vec<&str> = to.iter().map(String::as_str).collect();
        // So large that Postfix returns the header alone.
        send(testbed, "prova", &to, &"una riga\r\n".repeat(9_000))?;
        let all = testbed.received_when(&[(ANNA, 1 + 9)])?;
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
            altro("later", "5.4.7@tempo massimo superato"),
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
fn outcome_notices_that_the_senders_full_mailbox_refuses_come_back_to_the_provider() {
    alfa().with_dovecot(QUOTA).provider("beta", &["bruno"]).test(|testbed| {
        let alfa = testbed.host("alfa")?;
        change_mailbox(alfa, "anna", "userdb_quota_rule=*:bytes=1000")?;
        send(testbed, "buona", &["bruno@beta.example", "carla@alfa.example"], "testo")?;
        let unnamed = message("difettosa", &["bruno@beta.example"], "testo");
        let dialogue = alfa.submit("anna", Port::Submissions, ANNA, &["carla@alfa.example"], &unnamed)?;
        ensure!(dialogue.accepted(), "{dialogue}");

        // The mail itself is not held up, no notice is lost, and a bounce causes no further notice.
        let (own, other) = ("posta-certificata@alfa.example", "posta-certificata@beta.example");
        let all = testbed.received_when(&[
            ("bruno@beta.example", 1),
            ("carla@alfa.example", 1),
            ("ricevute@alfa.example", 2),
            (own, 3),
            (other, 1),
        ])?;
        for (mailbox, kind, returned) in [
            (own, "ordinary", "ACCETTAZIONE: buona"),
            (own, "ordinary", "CONSEGNA: buona"),
            (own, "ordinary", "AVVISO DI NON ACCETTAZIONE: difettosa"),
            // What beta sent has left it, so that the bounce comes from another host.
            (other, "errore", "CONSEGNA: buona"),
        ] {
            let subject = format!("\r\nSubject: {returned}\r\n");
            let holds = |one: &&Received| one.is(kind) && String::from_utf8_lossy(&one.bytes).contains(&subject);
            let count = all.iter().filter(|one| one.mailbox == mailbox).filter(holds).count();
            ensure!(count == 1, "{mailbox} has {count} bounces of {returned}");
        }
        testbed.judge(all.iter().filter(|one| one.mailbox != own))
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
