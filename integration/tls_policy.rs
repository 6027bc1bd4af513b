//! TLS between providers (§5.3): what Postfix is told of each next hop, and what becomes of mail where a peer does not have
//! what it must have.

#[path = "support/anna.rs"]
mod anna;

use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;

use anna::{ANNA, anna_sends};
use anyhow::{Context, Result, ensure};
use pec_testbed::pki::Request;
use pec_testbed::publisher::Publisher;
use pec_testbed::{Host, PATIENCE, Plan, Received, Testbed, wait_until};

const BRUNO: &str = "bruno@beta.example";
const MARIO: &str = "mario@gamma.example";

const NO_TLS: &str = "smtpd_tls_security_level = none\n";

fn plan(alfa: &str) -> Plan {
    Plan::new(env!("CARGO_BIN_EXE_pec-milter")).provider("alfa", &["anna"]).with_pec_milter(alfa)
}

/// Waits until anna was told these things about a letter, and no others: kind, and which notice it is.
fn anna_is_told(testbed: &Testbed, name: &str, expected: &[&str]) -> Result<()> {
    let id = format!("<{name}@client.alfa.example>");
    wait_until(&format!("{expected:?} about {name}"), PATIENCE, || {
        let mut told = Vec::new();
        for bytes in testbed.host("alfa")?.fetch("anna")? {
            let message = Received { mailbox: ANNA.to_owned(), bytes };
            if message.field("X-Riferimento-Message-ID").as_ref() != Some(&id) {
                continue;
            }
            let reason = message.certified("errore-esteso").unwrap_or_default().concat();
            let which = match reason.contains("prime dodici ore") {
                true => " 12",
                false if message.is("preavviso-errore-consegna") => " 24",
                false => "",
            };
            told.push(format!("{}{which}", message.kind()));
        }
        told.sort();
        ensure!(told == expected, "{told:?}");
        Ok(())
    })
}

/// Waits until a host's Postfix says something.
fn postfix_says(host: &Host, words: &[&str]) -> Result<String> {
    wait_until(&format!("{words:?} in the log of Postfix"), PATIENCE, || {
        let log = host.postfix_log()?;
        let line = log.lines().find(|line| words.iter().all(|word| line.contains(word)));
        line.map(str::to_owned).context("it is not there")
    })
}

/// What the daemon of alfa says of these keys, by Postfix's own client.
fn policies(testbed: &Testbed, keys: &[&str]) -> Result<Vec<String>> {
    let alfa = &testbed.host("alfa")?.site;
    let table = format!("socketmap:unix:{}:tls", socket(testbed)?.display());
    keys.iter()
        .map(|key| {
            let output = Command::new("postmap")
                .arg("-c")
                .arg(alfa.folder.join("postfix"))
                .args(["-q", key, &table])
                .output()?;
            ensure!(output.stderr.is_empty(), "{key}: {}", String::from_utf8_lossy(&output.stderr));
            Ok(String::from_utf8(output.stdout)?.trim_end().to_owned())
        })
        .collect()
}

fn socket(testbed: &Testbed) -> Result<PathBuf> {
    Ok(testbed.host("alfa")?.site.spool().join("pec-milter/tls-policy"))
}

#[test]
fn tls_policy_a_provider_without_starttls_gets_nothing_and_its_sender_is_told() {
    let timeouts = "[timeouts]\nfirst_seconds = 3\nfinal_seconds = 9\n";
    plan(timeouts).provider("beta", &["bruno"]).with_postfix(NO_TLS).test(|testbed| {
        let (alfa, beta) = (testbed.host("alfa")?, testbed.host("beta")?);
        anna_sends(testbed, "chiaro", &[BRUNO])?;
        postfix_says(alfa, &["status=deferred", "TLS is required, but was not offered"])?;
        let notice = "preavviso-errore-consegna";
        anna_is_told(testbed, "chiaro", &["accettazione", &format!("{notice} 12"), &format!("{notice} 24")])?;
        ensure!(alfa.queue()?.contains(BRUNO), "the message should wait:\n{}", alfa.queue()?);
        assert_eq!(beta.fetch("bruno")?.len(), 0);

        beta.set_postfix("smtpd_tls_security_level = may\n")?;
        alfa.flush_queue()?;
        let all = ["accettazione", "avvenuta-consegna", &format!("{notice} 12"), &format!("{notice} 24")];
        anna_is_told(testbed, "chiaro", &all)?;
        postfix_says(alfa, &["TLS connection established to beta.example"])?;
        testbed.wait_for_empty_queues()
    });
}

#[test]
fn tls_policy_providers_speak_tls_and_ordinary_hosts_as_they_can() {
    plan("").provider("beta", &["bruno"]).plain("gamma", &["mario"]).with_postfix(NO_TLS).test(|testbed| {
        let alfa = testbed.host("alfa")?;
        anna_sends(testbed, "misto", &[BRUNO, MARIO])?;
        let all = testbed.received_when(&[(BRUNO, 1), (MARIO, 1), (ANNA, 2), ("ricevute@alfa.example", 1)])?;
        testbed.judge(&all)?;
        postfix_says(alfa, &["TLS connection established to beta.example"])?;
        let log = alfa.postfix_log()?;
        assert!(!log.contains("TLS connection established to gamma.example"), "gamma offers none");
        postfix_says(alfa, &["to=<mario@gamma.example>", "status=sent"]).map(drop)
    });
}

#[test]
fn tls_policy_a_provider_to_be_verified_must_prove_its_name() {
    // Without MX records the name is the domain's own, and the testbed's certificates are for mx.beta.example.
    plan("[tls]\nverify = [\"beta.example\"]\n").provider("beta", &["bruno"]).test(|testbed| {
        let (alfa, beta) = (testbed.host("alfa")?, testbed.host("beta")?);
        anna_sends(testbed, "verificato", &[BRUNO])?;
        postfix_says(alfa, &["status=deferred", "Server certificate not verified"])?;
        anna_is_told(testbed, "verificato", &["accettazione"])?;

        // The right name of the wrong CA.
        testbed.pki.authority("other-ca", None, &[])?;
        let server = |name: &str, issuer: &str| {
            let request = Request::user(name, issuer, "beta.example").with("extendedKeyUsage", "serverAuth");
            testbed.pki.issue(&request.with("subjectAltName", "DNS:beta.example"))
        };
        let shows = |name: &str, issuer: &str| -> Result<()> {
            let identity = server(name, issuer)?;
            let files = format!("{}, {}", identity.key.display(), identity.certificate.display());
            beta.set_postfix(&format!("smtpd_tls_chain_files = {files}\n"))
        };
        shows("beta-other", "other-ca")?;
        wait_until("a certificate that leads nowhere", PATIENCE, || {
            alfa.flush_queue()?;
            let log = alfa.postfix_log()?;
            let word = "certificate verification failed for beta.example";
            ensure!(log.contains(word), "{word} is not in the log");
            Ok(())
        })?;
        assert_eq!(beta.fetch("bruno")?.len(), 0);

        shows("beta-right", "tls-ca")?;
        wait_until("the letter at beta", PATIENCE, || {
            alfa.flush_queue()?;
            ensure!(beta.fetch("bruno")?.len() == 1, "it waits");
            Ok(())
        })?;
        anna_is_told(testbed, "verificato", &["accettazione", "avvenuta-consegna"])
    });
}

#[test]
fn tls_policy_the_names_that_count_may_be_given() {
    let verify = "[tls]\nverify = [\"beta.example match=mx.beta.example\"]\n";
    plan(verify).provider("beta", &["bruno"]).test(|testbed| {
        anna_sends(testbed, "nome", &[BRUNO])?;
        anna_is_told(testbed, "nome", &["accettazione", "avvenuta-consegna"])?;
        postfix_says(testbed.host("alfa")?, &["Verified TLS connection established to beta.example"]).map(drop)
    });
}

#[test]
fn tls_policy_postfix_reads_what_the_directory_in_force_says() {
    plan("").provider("beta", &["bruno"]).plain("gamma", &["mario"]).test(|testbed| {
        let (alfa, beta) = (testbed.host("alfa")?, testbed.host("beta")?);
        let encrypt = "encrypt protocols=>=TLSv1.2";
        let keys =
            ["beta.example", "beta.example:2525", "gamma.example", "alfa.example", ".example", "[127.0.0.1]:2525"];
        assert_eq!(policies(testbed, &keys)?, [encrypt, encrypt, "", "", "", ""]);

        // Gamma becomes a domain of beta's.
        let mut record = pec_testbed::ldif::Record {
            provider_name: "Gamma PEC S.p.A.".into(),
            certificates: vec![beta.provider.as_ref().context("beta is a provider")?.identity.certificate.clone()],
            mail_receipt: "ricevute@gamma.example".into(),
            managed_domains: vec!["gamma.example".into()],
        };
        testbed.list_in_directory(&[record.clone()])?;
        assert_eq!(policies(testbed, &["gamma.example"])?, [encrypt]);
        record.managed_domains = vec!["delta.example".into()];
        testbed.list_in_directory(&[record])?;
        assert_eq!(policies(testbed, &["gamma.example", "delta.example"])?, ["", encrypt]);

        // While the daemon is away Postfix knows of nobody, and mail to others waits.
        anna_sends(testbed, "prima", &[MARIO])?;
        testbed.received_when(&[(MARIO, 1), (ANNA, 1)])?;
        alfa.daemon()?.stop()?;
        let message = format!("From: {ANNA}\r\nTo: {MARIO}\r\nSubject: attesa\r\n\r\nCiao\r\n");
        alfa.sendmail(ANNA, &[MARIO], message.as_bytes())?;
        postfix_says(alfa, &["to=<mario@gamma.example>", "status=deferred", "client TLS configuration problem"])?;
        alfa.daemon()?.start()?;
        wait_until("both messages at gamma", PATIENCE, || {
            alfa.flush_queue()?;
            ensure!(testbed.host("gamma")?.fetch("mario")?.len() == 2, "one waits");
            Ok(())
        })
    });
}

#[test]
fn tls_policy_without_a_directory_nobody_knows_who_needs_tls_and_mail_waits() {
    let publisher = Publisher::new().unwrap();
    let plan = plan("").with_directory(&publisher.https_settings()).plain("gamma", &["mario"]).with_postfix(NO_TLS);
    plan.test(|testbed| {
        let (alfa, gamma) = (testbed.host("alfa")?, testbed.host("gamma")?);
        let message = format!("From: {ANNA}\r\nTo: {MARIO}\r\nSubject: attesa\r\n\r\nCiao\r\n");
        alfa.sendmail(ANNA, &[MARIO], message.as_bytes())?;
        postfix_says(alfa, &["to=<mario@gamma.example>", "status=deferred", "client TLS configuration problem"])?;
        ensure!(gamma.fetch("mario")?.is_empty(), "gamma may be a provider, for all that is known");

        publisher.publish(&fs::read_to_string(&testbed.ldif)?)?;
        publisher.start_https()?;
        wait_until("the letter at gamma", PATIENCE, || {
            alfa.flush_queue()?;
            ensure!(gamma.fetch("mario")?.len() == 1, "it waits");
            Ok(())
        })
    });
}

#[test]
fn tls_policy_a_route_to_a_domain_is_known_and_one_to_a_host_is_the_administrators() {
    // Only the first two next hops tell whose mail it is. Nobody needs to answer: the policy is asked for before.
    let routes = "site_transport_maps = inline:{ { beta.example = smtp:beta.example }, \
                  { port.example = smtp:beta.example:2525 }, { host.example = smtp:[127.0.0.1]:2527 }, \
                  { sub.example = smtp:mx.beta.example }, { own.example = smtp:[127.0.0.1]:2526 } }\n\
                  site_tls_policy = inline:{ { [127.0.0.1]:2526 = encrypt } }\n";
    plan("").with_postfix(routes).provider("beta", &["bruno"]).test(|testbed| {
        let alfa = testbed.host("alfa")?;
        let daemon = alfa.daemon()?;
        daemon.stop()?;
        daemon.start_with(&[("RUST_LOG", "debug")])?;
        let to = ["x@beta.example", "x@port.example", "x@host.example", "x@sub.example", "x@own.example"];
        anna_sends(testbed, "strade", &to)?;
        let asked = |next_hop: &str, answer: &str| -> Result<()> {
            let words = [format!("next_hop={next_hop:?}"), answer.to_owned()];
            wait_until(&format!("{words:?} in the log of pec-milter"), PATIENCE, || {
                let log = daemon.log();
                ensure!(log.lines().any(|line| words.iter().all(|word| line.contains(word))), "it is not there");
                Ok(())
            })
        };
        asked("beta.example", "Encrypt")?;
        asked("beta.example:2525", "Encrypt")?;
        asked("[127.0.0.1]:2527", "None")?;
        for next_hop in ["mx.beta.example", ".beta.example", ".example"] {
            asked(next_hop, "None")?;
        }
        postfix_says(alfa, &["to=<x@own.example>", "status=deferred"])?;
        ensure!(!daemon.log().contains("[127.0.0.1]:2526"), "a line of the administrator's comes first");
        Ok(())
    });
}

#[test]
fn tls_policy_garbage_and_silence_cost_nobody_an_answer() {
    plan("").provider("beta", &["bruno"]).test(|testbed| {
        let connect = || -> Result<UnixStream> {
            let stream = UnixStream::connect(socket(testbed)?)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            Ok(stream)
        };
        let mut silent = Vec::new();
        for _ in 0..300 {
            let mut stream = connect()?;
            stream.write_all(b"16:tls b")?;
            silent.push(stream);
        }
        for garbage in
            [&b"GET / HTTP/1.1\r\n\r\n"[..], b"99999999999999999999:", b"1024", b"0:,", b"\x00\xFF\xFE", b"3:tls,"]
        {
            let mut stream = connect()?;
            stream.write_all(garbage)?;
            stream.shutdown(Shutdown::Write)?;
            let mut answer = Vec::new();
            // A reset is an answer too: the server closed with our octets unread.
            _ = stream.read_to_end(&mut answer);
            assert_eq!(answer, b"", "{:?}", String::from_utf8_lossy(garbage));
        }
        let mut stream = connect()?;
        stream.write_all(b"18:other beta.example,")?;
        let mut answer = [0; 8];
        stream.read_exact(&mut answer)?;
        assert_eq!(&answer, b"62:PERM ");
        assert_eq!(policies(testbed, &["beta.example"])?, ["encrypt protocols=>=TLSv1.2"]);
        anna_sends(testbed, "comunque", &[BRUNO])?;
        anna_is_told(testbed, "comunque", &["accettazione", "avvenuta-consegna"])
    });
}
