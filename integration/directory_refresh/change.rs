//! What a new directory changes, and when: in the next submission, and whole or not at all.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use pec_testbed::foreign::ForeignProvider;
use pec_testbed::ldif;
use pec_testbed::publisher::Publisher;

use crate::{
    PROGRAM, alfa_with, directory, grown, make_older, marking, refresh, refuses, succeeds, wait_for_log,
    wait_for_next_second,
};
use pec_testbed::disk::SmallDisk;

#[test]
fn trust_a_provider_that_comes_or_goes_is_marked_so_in_the_next_submission() {
    let publisher = Publisher::over_https().unwrap();
    // Gamma is in the directory and says nothing.
    alfa_with(&publisher.https_settings()).with_open_watches().test(|testbed| {
        let alfa = testbed.host("alfa")?;
        let without = fs::read_to_string(&testbed.ldif)?;
        let gamma = ForeignProvider::new(testbed, testbed.host("gamma")?)?;
        let alone = ldif::write(&[gamma.record(&[])])?;
        let record = alone.split_once("\n\n").context("no record")?.1;
        let with = format!("{without}\n{record}");
        refresh(&publisher, alfa, &without, &[])?;
        assert_eq!(marking(testbed, "mario@gamma.example")?, "esterno");
        for _ in 0..2 {
            wait_for_next_second()?;
            refresh(&publisher, alfa, &with, &[])?;
            assert_eq!(marking(testbed, "mario@gamma.example")?, "certificato", "gamma is in the directory now");
            let said = succeeds(alfa, &["show", "gamma.example"])?;
            ensure!(said.contains(&gamma.name) && said.contains("ricevute@gamma.example"), "{said}");
            ensure!(succeeds(alfa, &["show", &gamma.name.to_lowercase()])?.contains("domain       gamma.example"));
            wait_for_next_second()?;
            refresh(&publisher, alfa, &without, &["--accept-shrunken"])?;
            assert_eq!(marking(testbed, "mario@gamma.example")?, "esterno", "gamma is not in the directory any more");
        }
        refuses(alfa, &["show", "gamma.example"], "is no domain, provider or certificate")?;
        let own = succeeds(alfa, &["show", "alfa.example"])?;
        let hash = own.lines().find_map(|line| line.strip_prefix("certificate  ")?.split(' ').next());
        ensure!(succeeds(alfa, &["show", &hash.context("no hash")?.to_uppercase()])? == own, "by its hash the same");
        testbed.wait_for_empty_queues()?;
        testbed.judge(&testbed.received()?)
    });
}

#[test]
fn trust_a_directory_is_replaced_whole_or_not_at_all_however_the_process_ends() {
    let publisher = Publisher::over_https().unwrap();
    alfa_with(&publisher.https_settings()).test(|testbed| {
        let alfa = testbed.host("alfa")?;
        let daemon = alfa.daemon()?;
        publisher.publish(&grown(testbed, 1)?)?;
        succeeds(alfa, &["refresh"])?;
        for (number, (point, counts)) in
            [("directory-judged", 2), ("directory-written", 2), ("directory-replaced", 4)].into_iter().enumerate()
        {
            wait_for_next_second()?;
            publisher.publish(&grown(testbed, 2 + number)?)?;
            let status = Command::new(PROGRAM)
                .args(["directory", "refresh", "--config"])
                .arg(&daemon.configuration)
                .env("PEC_CRASH_AT", point)
                .stderr(Stdio::null())
                .stdout(Stdio::null())
                .status()?;
            ensure!(status.code().is_none(), "the process should die at {point}, but ends with {status}");
            let said = succeeds(alfa, &["show"])?;
            let expected = if counts == 2 { "2 providers" } else { "5 providers" };
            ensure!(said.contains(expected), "after {point} {expected} should be in force:\n{said}");
        }
        publisher.publish(&grown(testbed, 6)?)?;
        succeeds(alfa, &["refresh"])?;
        let files = fs::read_dir(daemon.state_folder().join("directory"))?.count();
        ensure!(files == 3, "the register and two copies should be left, but there are {files} files");
        Ok(())
    });
}

#[test]
fn trust_many_who_fetch_at_once_leave_one_whole_directory() {
    let publisher = Publisher::over_https().unwrap();
    alfa_with(&publisher.https_settings()).test(|testbed| {
        let alfa = testbed.host("alfa")?;
        let store = alfa.daemon()?.state_folder().join("directory");
        let mut in_force = 1;
        for round in 1..=3 {
            publisher.publish(&grown(testbed, round)?)?;
            in_force += 1;
            std::thread::scope(|scope| {
                let fetching: Vec<_> = (0..6).map(|_| scope.spawn(|| succeeds(alfa, &["refresh"]))).collect();
                let said: Vec<_> = fetching.into_iter().map(|one| one.join().expect("a fetch panicked")).collect();
                let said = said.into_iter().collect::<Result<Vec<_>>>()?;
                let replaced = said.iter().filter(|one| one.contains("in force: ")).count();
                ensure!(replaced == 1, "one of six should replace it, not {replaced}: {said:?}");
                Ok::<_, anyhow::Error>(())
            })?;
            ensure!(succeeds(alfa, &["show"])?.contains(&format!("{in_force} providers")), "round {round}");
            wait_for_next_second()?;
        }
        let files = fs::read_dir(&store)?.count();
        ensure!(files == 3, "the register and two copies should be left, but there are {files} files");

        // Whoever can write there decides who is certified.
        fs::set_permissions(&store, fs::Permissions::from_mode(0o777))?;
        for arguments in [&["refresh"][..], &["show"]] {
            let (is_yes, said) = directory(alfa, arguments)?;
            ensure!(
                !is_yes && said.contains("may be written by others than its owner: run chmod 700"),
                "{arguments:?}: {said}"
            );
        }
        ensure!(alfa.daemon()?.reload_and_wait().is_err(), "an open store is not read");
        fs::set_permissions(&store, fs::Permissions::from_mode(0o700))?;
        alfa.daemon()?.reload_and_wait()
    });
}

#[test]
fn trust_a_full_disk_leaves_the_directory_in_force() {
    let publisher = Publisher::over_https().unwrap();
    alfa_with(&publisher.https_settings()).test(|testbed| {
        let alfa = testbed.host("alfa")?;
        refresh(&publisher, alfa, &grown(testbed, 1)?, &[])?;
        // Room for the register and for half of what comes next.
        let next = publisher.publish(&grown(testbed, 60)?)?;
        let store = alfa.daemon()?.state_folder().join("directory");
        let disk = SmallDisk::under(&store, &(next.len() / 2 + 32_768).to_string())?;
        let before = alfa.daemon()?.log().len();
        refuses(alfa, &["refresh"], "No space left on device")?;
        ensure!(succeeds(alfa, &["show"])?.contains("2 providers"), "the old one is in force");
        assert_eq!(marking(testbed, "qualcuno@uno.p0.example")?, "certificato");
        ensure!(!alfa.daemon()?.log_after(before).contains("is not taken over"), "the daemon works with the old one");
        drop(disk);
        ensure!(succeeds(alfa, &["refresh"])?.contains("61 providers"));
        Ok(())
    });
}

#[test]
fn trust_a_daemon_that_dies_while_it_replaces_the_directory_goes_on_with_a_whole_one() {
    let publisher = Publisher::over_https().unwrap();
    alfa_with(&publisher.https_settings()).test(|testbed| {
        let alfa = testbed.host("alfa")?;
        let daemon = alfa.daemon()?;
        publisher.publish(&grown(testbed, 1)?)?;
        succeeds(alfa, &["refresh"])?;
        for (point, more, left) in
            [("directory-judged", 2, 2), ("directory-written", 3, 3), ("directory-replaced", 4, 5)]
        {
            wait_for_next_second()?;
            publisher.publish(&grown(testbed, more)?)?;
            daemon.stop()?;
            make_older(alfa, 25 * 3600)?;
            if let Err(early) = daemon.start_with(&[("PEC_CRASH_AT", point)]) {
                // It may have died before anybody could speak to it.
                ensure!(format!("{early:#}").contains("ended at start"), "{early:#}");
            }
            daemon.wait_for_end()?;
            let said = directory(alfa, &["show"])?.1;
            ensure!(said.contains(&format!("{left} providers")), "{point} should leave {left} providers:\n{said}");
            let before = daemon.log().len();
            daemon.start()?;
            wait_for_log(alfa, before, &format!("providers directory in force providers={}", more + 1))?;
        }
        assert_eq!(marking(testbed, "qualcuno@uno.p3.example")?, "certificato");
        testbed.wait_for_empty_queues()
    });
}
