//! What the daemon does by itself: it waits for a directory, fetches one every day, and tells when it is stale.

use std::fs;

use anyhow::{Context, bail, ensure};
use jiff::Timestamp;
use pec_testbed::metrics;
use pec_testbed::publisher::Publisher;
use pec_testbed::{PATIENCE, Port, wait_until};

use crate::{
    ANNA, alfa_with, confirmed, grown, make_older, marking, refuses, submit, succeeds, unix_now, wait_for_log,
    wait_for_next_second,
};

#[test]
fn trust_without_any_directory_all_mail_is_put_off_until_one_is_there() {
    let publisher = Publisher::new().unwrap();
    let plan = alfa_with(&publisher.https_settings()).provider("beta", &["bruno"]);
    plan.test(|testbed| {
        let (alfa, beta) = (testbed.host("alfa")?, testbed.host("beta")?);
        let daemon = alfa.daemon()?;
        ensure!(daemon.log().contains("NO PROVIDERS DIRECTORY, ALL MAIL IS PUT OFF"), "{}", daemon.log());
        for to in ["bruno@beta.example", "mario@gamma.example", ANNA] {
            let dialogue = submit(testbed, to)?;
            let refusal = dialogue.refusal().context("it is accepted")?;
            ensure!(refusal.code == 451, "a submission to {to} should be put off:\n{dialogue}");
        }
        let ordinary = b"From: mario@gamma.example\r\nTo: anna@alfa.example\r\nSubject: s\r\n\r\nCiao\r\n";
        let dialogue = alfa.inject_as_peer("mario@gamma.example", &[ANNA], ordinary)?;
        ensure!(dialogue.refusal().is_some_and(|refusal| refusal.code == 451), "ordinary mail is put off:\n{dialogue}");
        let envelope = b"From: bruno@beta.example\r\nTo: anna@alfa.example\r\nSubject: certificata\r\n\r\nCiao\r\n";
        let sent = beta.submit("bruno", Port::Submissions, "bruno@beta.example", &[ANNA], envelope)?;
        ensure!(sent.accepted(), "{sent}");
        wait_until("beta's envelope to be put off", PATIENCE, || {
            ensure!(beta.postfix_log()?.contains("status=deferred"), "it is not");
            Ok(())
        })?;
        ensure!(alfa.fetch("anna")?.is_empty(), "nobody may get anything");
        refuses(alfa, &["show"], "NONE")?;

        // It appears, and is fetched without anybody's doing.
        publisher.publish(&fs::read_to_string(&testbed.ldif)?)?;
        publisher.start_https()?;
        wait_for_log(alfa, 0, "providers directory in force")?;
        let dialogue = submit(testbed, "bruno@beta.example")?;
        ensure!(dialogue.accepted(), "{dialogue}");
        beta.flush_queue()?;
        testbed.received_when(&[
            (ANNA, 3),
            ("bruno@beta.example", 3),
            ("ricevute@alfa.example", 1),
            ("ricevute@beta.example", 1),
        ])?;

        // The stored copy is enough for a start.
        publisher.stop_https()?;
        daemon.stop()?;
        daemon.start()?;
        assert_eq!(marking(testbed, "bruno@beta.example")?, "certificato");
        ensure!(succeeds(alfa, &["show"])?.contains("2 providers with 2 domains"));

        // A stored copy that somebody has changed is no directory.
        daemon.stop()?;
        let store = daemon.state_folder().join("directory");
        for entry in fs::read_dir(&store)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "p7m") {
                let mut octets = fs::read(&path)?;
                let middle = octets.len() / 2;
                octets[middle] ^= 1;
                fs::write(&path, octets)?;
            }
        }
        daemon.start()?;
        let refusal = submit(testbed, "bruno@beta.example")?;
        ensure!(refusal.refusal().is_some_and(|answer| answer.code == 451), "{refusal}");
        refuses(alfa, &["show"], "is not what was put there")?;
        publisher.start_https()?;
        succeeds(alfa, &["refresh"])?;
        wait_until("mail to be taken again", PATIENCE, || {
            let dialogue = submit(testbed, "bruno@beta.example")?;
            if dialogue.accepted() { Ok(()) } else { bail!("{dialogue}") }
        })?;
        testbed.wait_for_empty_queues()?;
        testbed.judge(&testbed.received()?)
    });
}

#[test]
fn trust_what_the_daemon_fetches_by_itself_is_judged_the_same_way_and_counted() {
    const HOUR: i64 = 3600;
    let publisher = Publisher::over_https().unwrap();
    alfa_with(&publisher.https_settings()).test(|testbed| {
        let alfa = testbed.host("alfa")?;
        let (daemon, address) = (alfa.daemon()?, alfa.site.address);
        daemon.reconfigure("[listen]\n", &format!("{}\n[listen]\n", metrics::settings(address)))?;
        publisher.publish(&grown(testbed, 20)?)?;
        succeeds(alfa, &["refresh"])?;
        let failures = || metrics::value(address, "pec_milter_directory_refresh_failures_total");
        let age = || metrics::value(address, "pec_milter_directory_age_seconds");
        for (octets, words) in [
            (publisher.sign(&publisher.signer, &grown(testbed, 1)?)?, "19 of 21 providers are gone"),
            (Vec::new(), "it is empty"),
            (grown(testbed, 20)?.into_bytes(), "its signature does not hold, or it has none"),
        ] {
            daemon.stop()?;
            make_older(alfa, 25 * HOUR - (unix_now()? - confirmed(alfa)?))?;
            publisher.publish_octets(&octets)?;
            let before = daemon.log().len();
            daemon.start()?;
            wait_for_log(alfa, before, "it will be tried again")?;
            let news = daemon.log_after(before);
            let line = news.lines().find(|line| line.contains("the one in force stays")).context("nothing is told")?;
            ensure!(line.contains("ERROR") && line.contains(words), "expected {words:?} in {line}");
            ensure!(!news.contains("STALE"), "a day is not stale:\n{news}");
            let shown = succeeds(alfa, &["show"])?;
            ensure!(shown.contains("21 providers") && shown.contains("last attempt FAILED"), "{shown}");
            ensure!(failures()? == 1.0, "the failure is counted");
            ensure!((age()? - (25 * HOUR) as f64).abs() < 120.0, "the age is told: {}", age()?);
        }
        assert_eq!(marking(testbed, "qualcuno@uno.p19.example")?, "certificato", "the old one is in force");

        wait_for_next_second()?;
        publisher.publish(&grown(testbed, 21)?)?;
        daemon.stop()?;
        let before = daemon.log().len();
        daemon.start()?;
        for words in [
            "was fetched and replaces the one in force",
            "providers directory in force providers=22",
            "is fetched next",
        ] {
            wait_for_log(alfa, before, words)?;
        }
        assert_eq!(marking(testbed, "qualcuno@uno.p20.example")?, "certificato", "the new one is in force");
        wait_until("the age to begin anew", PATIENCE, || {
            let age = age()?;
            if age < 120.0 { Ok(()) } else { bail!("{age}") }
        })?;

        // Not all providers come at once: each time another instant is chosen.
        (0..5).try_for_each(|_| daemon.reload_and_wait())?;
        let confirmed = confirmed(alfa)?;
        wait_until("every plan to be told", PATIENCE, || {
            let news = daemon.log_after(before);
            let told = news.lines().filter(|line| line.contains("is fetched next"));
            let instants = told.filter_map(|line| line.split_once("at=\"")?.1.split_once('"')?.0.parse().ok());
            let mut instants: Vec<i64> = instants.map(|at: Timestamp| at.as_second() - confirmed).collect();
            let count = instants.len();
            instants.sort_unstable();
            instants.dedup();
            ensure!(count >= 6 && instants.len() > 1, "{instants:?} of {count}");
            let is_within = |after: &i64| (20 * HOUR - 60..=24 * HOUR + 60).contains(after);
            ensure!(instants.iter().all(is_within), "{instants:?} seconds after the last success");
            Ok(())
        })
    });
}

#[test]
fn trust_a_stale_directory_is_told_and_stays_in_force_until_the_daemon_can_fetch_again() {
    let publisher = Publisher::over_https().unwrap();
    alfa_with(&publisher.https_settings()).test(|testbed| {
        let alfa = testbed.host("alfa")?;
        let daemon = alfa.daemon()?;
        publisher.publish(&grown(testbed, 3)?)?;
        succeeds(alfa, &["refresh"])?;
        publisher.stop_https()?;
        daemon.stop()?;
        make_older(alfa, 3 * 86_400)?;

        let before = daemon.log().len();
        daemon.start()?;
        for words in ["the providers directory is STALE", "not refreshed, the one in force stays"] {
            wait_for_log(alfa, before, words)?;
        }
        refuses(alfa, &["show"], "72 hours ago; the last attempt: the providers directory could not be fetched")?;
        assert_eq!(marking(testbed, "qualcuno@uno.p2.example")?, "certificato", "it is in force all the same");

        publisher.start_https()?;
        daemon.stop()?;
        let before = daemon.log().len();
        daemon.start()?;
        wait_for_log(alfa, before, "the providers directory was fetched, it is the one in force")?;
        succeeds(alfa, &["show"])?;
        testbed.wait_for_empty_queues()
    });
}
