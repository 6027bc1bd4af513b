//! Revocation lists from servers and files: when they take effect, and what happens while there is none in date.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use pec_testbed::foreign::ForeignProvider;
use pec_testbed::metrics;
use pec_testbed::pki::Pki;
use pec_testbed::{PATIENCE, Plan, Port, Testbed, wait_until};

use crate::{
    BRUNO, LONG, are_certified, envelope, is_an_anomaly, is_put_off, lists_are_fetched, log_length, logged, plan,
    signed_by, yesterday,
};

#[test]
fn trust_a_revocation_takes_effect_with_the_next_list() {
    plan("crl_update_seconds = 2\n").with_web().test(|testbed| {
        let (alfa, pki) = (testbed.host("alfa")?, &testbed.pki);
        let gamma = ForeignProvider::new(testbed, testbed.host("gamma")?)?;
        let fallen = pki.issue(&gamma.request("fallen"))?;
        testbed.list_in_directory(&[gamma.record(&[&fallen])])?;
        lists_are_fetched(alfa)?;
        let (is_in_date, shown) = alfa.daemon()?.command(&["trust", "show"])?;
        ensure!(is_in_date && shown.contains("list    of CN=provider-ca,O=Certifier,C=IT: in date"), "{shown}");
        ensure!(shown.contains("/provider-ca.crl, "), "the source is told: {shown}");
        gamma.send(alfa, &signed_by(&gamma, "before", &fallen)?)?;

        let before = fs::read(pki.list("provider-ca"))?;
        pki.revoke("provider-ca", &fallen.certificate, &yesterday())?;
        pki.issue_list("provider-ca", LONG)?;
        logged(alfa, 0, &["a new revocation list is in force", "provider-ca", "revoked=1"])?;
        is_an_anomaly(alfa, &gamma, &signed_by(&gamma, "after", &fallen)?, "was revoked on")?;

        let after = fs::read(pki.list("provider-ca"))?;
        let start = log_length(alfa)?;
        pki.publish("provider-ca", &before)?;
        logged(alfa, start, &["ERROR", "OLDER than the list of CN=provider-ca"])?;
        is_an_anomaly(alfa, &gamma, &signed_by(&gamma, "replayed", &fallen)?, "was revoked on")?;

        // The same names, other keys.
        let forger = Pki::new(testbed.folder().join("forger"), &["gamma.example"])?;
        let start = log_length(alfa)?;
        pki.publish("provider-ca", &fs::read(forger.list("provider-ca"))?)?;
        logged(alfa, start, &["ERROR", "FORGED: CN=provider-ca"])?;
        is_an_anomaly(alfa, &gamma, &signed_by(&gamma, "forged", &fallen)?, "was revoked on")?;

        // No server: what was fetched is still there after a restart.
        testbed.web()?.stop()?;
        alfa.daemon()?.stop()?;
        alfa.daemon()?.start()?;
        is_an_anomaly(alfa, &gamma, &signed_by(&gamma, "restarted", &fallen)?, "was revoked on")?;
        gamma.send(alfa, &envelope(&gamma, "good")?)?;
        pki.publish("provider-ca", &after)?;
        are_certified(testbed, &["before", "good"], 4)
    });
}

#[test]
fn trust_a_list_in_a_file_counts_as_soon_as_somebody_has_brought_it() {
    // Nothing is fetched: the file is replaced by whoever may reach the CA.
    plan("crl_update_seconds = 1\ncrl_fetch = false\n").test(|testbed| {
        let (alfa, pki) = (testbed.host("alfa")?, &testbed.pki);
        let gamma = ForeignProvider::new(testbed, testbed.host("gamma")?)?;
        let fallen = pki.issue(&gamma.request("fallen"))?;
        testbed.list_in_directory(&[gamma.record(&[&fallen])])?;
        gamma.send(alfa, &signed_by(&gamma, "prima", &fallen)?)?;

        pki.revoke("provider-ca", &fallen.certificate, &yesterday())?;
        pki.issue_list("provider-ca", LONG)?;
        logged(alfa, 0, &["a new revocation list is in force", "provider-ca", "revoked=1"])?;
        is_an_anomaly(alfa, &gamma, &signed_by(&gamma, "dopo", &fallen)?, "was revoked on")?;

        // Half a file is no list: the one in force stays, and the file is named.
        let start = log_length(alfa)?;
        let list = pki.list("provider-ca");
        let octets = fs::read(&list)?;
        fs::write(&list, octets.get(..octets.len() / 2).context("an empty list")?)?;
        logged(alfa, start, &["provider-ca.crl", "it is not a revocation list in PEM or DER"])?;
        is_an_anomaly(alfa, &gamma, &signed_by(&gamma, "mezza", &fallen)?, "was revoked on")?;
        fs::remove_file(&list)?;
        logged(alfa, start, &["provider-ca.crl", "No such file"])?;
        is_an_anomaly(alfa, &gamma, &signed_by(&gamma, "senza", &fallen)?, "was revoked on")?;
        gamma.send(alfa, &envelope(&gamma, "buono")?)?;
        are_certified(testbed, &["prima", "buono"], 3)
    });
}

#[test]
fn trust_mail_waits_while_no_list_is_in_date() {
    let plan = Plan::new(env!("CARGO_BIN_EXE_pec-milter"))
        .provider("alfa", &["anna"])
        .with_trust("crl_update_seconds = 1\n")
        .provider("beta", &["bruno"])
        .with_trust("crl_update_seconds = 1\n");
    plan.with_web().test(|testbed| {
        let (alfa, beta, pki) = (testbed.host("alfa")?, testbed.host("beta")?, &testbed.pki);
        let (daemon, address) = (beta.daemon()?, beta.site.address);
        daemon.reconfigure("[listen]\n", &format!("{}\n[listen]\n", metrics::settings(address)))?;
        daemon.stop()?;
        daemon.start()?;
        lists_are_fetched(beta)?;
        let left = || {
            metrics::value(address, "pec_milter_crl_next_update_seconds{issuer=\"CN=provider-ca,O=Certifier,C=IT\"}")
        };
        ensure!(left()? > f64::from(LONG), "{} seconds are left", left()?);
        pki.issue_list("provider-ca", 6)?;
        logged(beta, 0, &["will soon be out of date and no newer one has come", "provider-ca"])?;
        testbed.web()?.stop()?;
        logged(beta, 0, &["no revocation list came", "provider-ca.crl"])?;
        for host in [alfa, beta] {
            logged(host, 0, &["THE REVOCATION LIST IS OUT OF DATE", "provider-ca"])?;
        }
        let (is_in_date, shown) = beta.daemon()?.command(&["trust", "show"])?;
        ensure!(!is_in_date && shown.contains("CN=provider-ca,O=Certifier,C=IT: OUT OF DATE"), "{shown}");
        wait_until("the metric to say so", PATIENCE, || {
            let left = left()?;
            if left < 0.0 { Ok(()) } else { bail!("{left} seconds are left") }
        })?;

        // Its own certificate a provider believes: the sender gets his acceptance.
        let message = b"From: anna@alfa.example\r\nTo: bruno@beta.example\r\nSubject: attesa\r\n\
            Message-ID: <attesa@client.example>\r\n\r\nCiao.\r\n";
        let dialogue = alfa.submit("anna", Port::Submissions, "anna@alfa.example", &["bruno@beta.example"], message)?;
        ensure!(dialogue.accepted(), "{dialogue}");
        let received = alfa.fetch_when("anna", 1)?;
        let text = String::from_utf8_lossy(&received[0]).into_owned();
        ensure!(received.len() == 1 && text.contains("X-Ricevuta: accettazione"), "nothing but the acceptance: {text}");
        logged(beta, 0, &["not accepted for now", "was revoked is not known", "is out of date"])?;
        wait_until("the envelope to wait at alfa", PATIENCE, || {
            let queue = alfa.queue()?;
            if queue.contains("451") && queue.contains("bruno@beta.example") { Ok(()) } else { bail!("{queue}") }
        })?;
        ensure!(beta.fetch("bruno")?.is_empty(), "nothing is delivered on a fault");

        let (at_alfa, at_beta) = (log_length(alfa)?, log_length(beta)?);
        pki.issue_list("provider-ca", LONG)?;
        testbed.web()?.start()?;
        for (host, start) in [(alfa, at_alfa), (beta, at_beta)] {
            logged(host, start, &["the revocation list is in date again", "provider-ca"])?;
        }
        alfa.flush_queue()?;
        let expected = [("bruno@beta.example", 1), ("anna@alfa.example", 2), ("ricevute@alfa.example", 1)];
        let all = testbed.received_when(&expected)?;
        testbed.wait_for_empty_queues()?;
        testbed.judge(&all)
    });
}

#[test]
fn trust_a_list_that_is_met_first_with_a_message_is_fetched() {
    // Nothing is due for an hour: only the message that waits asks.
    plan("crl_update_seconds = 3600\n").with_web().test(|testbed| {
        let (alfa, pki) = (testbed.host("alfa")?, &testbed.pki);
        let gamma = ForeignProvider::new(testbed, testbed.host("gamma")?)?;
        lists_are_fetched(alfa)?;
        pki.authority("regional-ca", Some("root"), &[])?;
        let mut request = gamma.request("regional");
        request.issuer = "regional-ca".to_owned();
        let regional = pki.issue(&request)?;
        testbed.list_in_directory(&[gamma.record(&[&regional])])?;
        let mut draft = signed_by(&gamma, "primo", &regional)?;
        draft.signature.intermediate = Some(pki.certificate("regional-ca"));
        is_put_off(alfa, &draft)?;
        logged(alfa, 0, &["a new revocation list is in force", "regional-ca"])?;
        gamma.send(alfa, &draft)?;

        // The store knows the CA, too, which stands in no file of the configuration.
        testbed.web()?.stop()?;
        alfa.daemon()?.stop()?;
        alfa.daemon()?.start()?;
        let mut draft = signed_by(&gamma, "secondo", &regional)?;
        draft.signature.intermediate = Some(pki.certificate("regional-ca"));
        gamma.send(alfa, &draft)?;
        are_certified(testbed, &["primo", "secondo"], 0)
    });
}

#[test]
fn trust_where_lists_may_be_missing_a_revocation_known_once_still_counts() {
    plan("crl_update_seconds = 1\ncrl_missing = \"accept\"\n").with_web().test(|testbed| {
        let (alfa, pki) = (testbed.host("alfa")?, &testbed.pki);
        let gamma = ForeignProvider::new(testbed, testbed.host("gamma")?)?;
        let fallen = pki.issue(&gamma.request("fallen"))?;
        testbed.list_in_directory(&[gamma.record(&[&fallen])])?;
        pki.revoke("provider-ca", &fallen.certificate, &yesterday())?;
        pki.issue_list("provider-ca", 4)?;
        logged(alfa, 0, &["a new revocation list is in force", "provider-ca", "revoked=1"])?;
        testbed.web()?.stop()?;
        logged(alfa, 0, &["THE REVOCATION LIST IS OUT OF DATE", "provider-ca"])?;
        is_an_anomaly(alfa, &gamma, &signed_by(&gamma, "caduto", &fallen)?, "was revoked on")?;
        gamma.send(alfa, &envelope(&gamma, "buono")?)?;
        are_certified(testbed, &["buono"], 1)
    });
}

#[test]
fn trust_a_revoked_provider_signs_nothing() {
    plan("crl_update_seconds = 1\n").with_web().test(|testbed| {
        let own = testbed.host("alfa")?.provider.as_ref().context("no provider")?.identity.certificate.clone();
        signs_nothing_once_revoked(testbed, "provider-ca", &own, "THIS PROVIDER'S CERTIFICATE IS REVOKED")
    });
}

#[test]
fn trust_a_provider_below_a_revoked_ca_signs_nothing() {
    plan("crl_update_seconds = 1\n").with_web().test(|testbed| {
        let above = testbed.pki.certificate("provider-ca");
        signs_nothing_once_revoked(testbed, "root", &above, "THE CA ABOVE THIS PROVIDER'S CERTIFICATE IS REVOKED")
    });
}

/// A running daemon stops signing, and says why, when a CA revokes a certificate of its path.
fn signs_nothing_once_revoked(testbed: &Testbed, authority: &str, certificate: &Path, told: &str) -> Result<()> {
    let (alfa, pki) = (testbed.host("alfa")?, &testbed.pki);
    lists_are_fetched(alfa)?;
    pki.revoke(authority, certificate, &yesterday())?;
    pki.issue_list(authority, LONG)?;
    logged(alfa, 0, &[told])?;
    let message = b"From: anna@alfa.example\r\nTo: bruno@alfa.example\r\nSubject: no\r\n\r\nCiao.\r\n";
    let dialogue = alfa.submit("anna", Port::Submissions, "anna@alfa.example", &[BRUNO], message)?;
    let code = dialogue.refusal().map(|answer| answer.code);
    ensure!(code == Some(451), "a revoked provider should sign nothing:\n{dialogue}");
    let (is_good, said) = alfa.daemon()?.command(&["check-config"])?;
    ensure!(!is_good && said.contains("was revoked on") && said.contains("ask the CA for another"), "{said}");
    testbed.wait_for_empty_queues()
}

#[test]
fn trust_check_config_explains_what_is_wrong_with_the_lists() {
    plan("").test(|testbed| {
        let (alfa, pki) = (testbed.host("alfa")?, &testbed.pki);
        let daemon = alfa.daemon()?;
        let whole = fs::read_to_string(&daemon.configuration)?;
        let files = whole.lines().find(|line| line.starts_with("crl_files")).context("no crl_files")?.to_owned();
        let forger = Pki::new(testbed.folder().join("forger"), &["alfa.example"])?;
        let stranger = testbed.folder().join("stranger");
        pki.authority("stranger-ca", None, &[])?;
        fs::copy(pki.list("stranger-ca"), &stranger)?;
        let old = testbed.folder().join("old.crl");
        pki.issue_list("provider-ca", 1)?;
        fs::copy(pki.list("provider-ca"), &old)?;
        let one = |file: &std::path::Path| format!("crl_files = [{file:?}]");
        for (lines, expected) in [
            (one(&testbed.folder().join("none.crl")), "none.crl: No such file"),
            (one(&pki.root()), "root.pem: it is not a revocation list in PEM or DER"),
            (one(&forger.list("root")), "it is FORGED: CN=root,O=Certifier,C=IT did not sign it"),
            ("crl_fetch = false".to_owned(), "trust.crl_files: missing; expected the files of the revocation lists"),
            (
                "crl_missing = \"wait\"".to_owned(),
                "trust.crl_missing: found \"wait\", expected \"refuse\" or \"accept\"",
            ),
            (format!("{files}\ncrl_update_seconds = 0"), "trust.crl_update_seconds: found 0, expected 1 to 86400"),
        ] {
            fs::write(&daemon.configuration, whole.replace(&files, &lines))?;
            let (is_good, said) = daemon.command(&["check-config"])?;
            ensure!(!is_good && said.contains(expected), "{lines}: expected {expected:?}, found\n{said}");
        }
        for (lines, expected) in [
            ("".to_owned(), "was revoked is not known: there is no revocation list of CN=provider-ca"),
            (format!("{files}\ncrl_missing = \"accept\""), "a revoked signer passes for a good one"),
            ("crl_fetch = false\ncrl_missing = \"accept\"".to_owned(), "ALWAYS, for trust.crl_fetch is false"),
            (
                format!("crl_files = [{:?}, {stranger:?}]", pki.list("root")),
                "no trusted CA is called CN=stranger-ca,O=Certifier,C=IT; add its certificate to trust.ca_file",
            ),
            (one(&old), "the revocation list of CN=provider-ca,O=Certifier,C=IT is out of date"),
        ] {
            // An empty store, so that only these lines count.
            let text = whole.replace(&files, &lines).replace("/crl\"\n", "/none\"\n");
            fs::write(&daemon.configuration, text)?;
            wait_until(expected, PATIENCE, || {
                let (is_good, said) = daemon.command(&["check-config"])?;
                if is_good && said.contains("warning: ") && said.contains(expected) { Ok(()) } else { bail!("{said}") }
            })?;
        }
        fs::write(&daemon.configuration, whole)?;
        Ok(())
    });
}
