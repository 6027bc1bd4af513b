//! Sealing that dies, or has no room, no certificate or no token, goes on later; no mail waits with it.

use super::*;

/// From the export to the row of the stamp, in order.
const POINTS: [&str; 6] = [
    "seal-rows-written",
    "seal-text-written",
    "seal-signed",
    "seal-recorded",
    "seal-stamp-written",
    "seal-stamp-recorded",
];

#[test]
fn trace_seal_is_one_seal_with_one_stamp_wherever_its_process_dies() {
    two_providers().test(|testbed| {
        let (tsa, alfa) = (authority_of_alfa(testbed, false)?, alfa(testbed)?);
        for (round, point) in (1..).zip(POINTS) {
            let letter = Letter::new(point);
            letter.send(testbed)?;
            letter.conclude(testbed)?;
            let (code, said) = alfa.command_with(&["log", "seal"], &[("PEC_CRASH_AT", point)])?;
            ensure!(code.is_none(), "{point}: it lives on: {code:?} {said}");
            // More is recorded before anybody looks again.
            let letter = Letter::new(&format!("after-{point}"));
            letter.send(testbed)?;
            letter.conclude(testbed)?;
            restart(alfa)?;
            wait_until("the seal to be whole", PATIENCE, || {
                let (seals, stamps) = recorded(alfa)?;
                ensure!(seals.len() == round && stamps.len() == round, "{point}: {seals:?} {stamps:?}");
                Ok(())
            })?;
            ensure!(judge(testbed, alfa, &tsa).context(point)? == round, "{point}");
        }
        // What came after the last seal is lost to none.
        let (code, said) = seal_now(alfa)?;
        ensure!(code == Some(0), "{code:?} {said}");
        ensure!(judge(testbed, alfa, &tsa)? == POINTS.len() + 1);
        Ok(())
    });
}

#[test]
fn trace_seal_of_the_daemon_itself_outlives_its_death() {
    two_providers().test(|testbed| {
        let (tsa, alfa) = (authority_of_alfa(testbed, false)?, alfa(testbed)?);
        alfa.stop()?;
        record_days_ago(alfa, 3)?;
        // It may die before it listens, or after.
        let started = alfa.start_with(&[("PEC_CRASH_AT", "seal-signed")]);
        alfa.wait_for_end()?;
        let found = SealFolder::at(&alfa.seals()).list()?;
        ensure!(found.len() == 1 && found[0].has(Part::Signature), "{started:?}: {found:?}");
        ensure!(recorded(alfa)?.0.is_empty(), "the seal is not in the log");
        alfa.stop()?;
        alfa.start()?;
        wait_until("the seal to be whole", PATIENCE, || {
            ensure!(recorded(alfa)?.1.len() == 1);
            Ok(())
        })?;
        ensure!(judge(testbed, alfa, &tsa)? == 1);
        Ok(())
    });
}

#[test]
fn trace_seal_waits_for_room_on_its_disk_and_no_mail_waits_with_it() {
    two_providers().test(|testbed| {
        let (tsa, alfa) = (authority_of_alfa(testbed, false)?, alfa(testbed)?);
        alfa.stop()?;
        record_days_ago(alfa, 1)?;
        let disk = SmallDisk::under(&alfa.seals(), "2m")?;
        let ballast = disk.fill()?;
        let log = alfa.log().len();
        alfa.start()?;
        wait_for_word(alfa, log, "NOT SEALED")?;
        let said = alfa.log_after(log);
        ensure!(said.contains("No space left") && said.contains("seals"), "{said}");
        let letter = Letter::new("full");
        letter.send(testbed)?;
        letter.conclude(testbed)?.check_single()?;
        let (code, said) = seal_now(alfa)?;
        ensure!(code == Some(2) && said.contains("No space left"), "{code:?} {said}");
        ensure!(SealFolder::at(&alfa.seals()).list()?.is_empty(), "half a file has no name");

        fs::remove_file(ballast)?;
        wait_for_word(alfa, log, "is time-stamped")?;
        ensure!(judge(testbed, alfa, &tsa)? == 1);
        Ok(())
    });
}

#[test]
fn trace_seal_waits_for_a_certificate_that_is_valid() {
    two_providers().test(|testbed| {
        let (tsa, alfa) = (authority_of_alfa(testbed, false)?, alfa(testbed)?);
        alfa.stop()?;
        record_days_ago(alfa, 1)?;
        let instant = |seconds: i64| -> Result<String> {
            let at = Timestamp::from_second(Timestamp::now().as_second() + seconds)?;
            Ok(at.strftime("%Y%m%d%H%M%SZ").to_string())
        };
        let mut request = Request::provider("alfa-soon", "Alfa PEC S.p.A.", "posta-certificata@alfa.example");
        request.validity = Some((instant(30)?, instant(365 * DAY)?));
        let soon = testbed.pki.issue(&request)?;
        let provider = testbed.host("alfa")?.provider.as_ref().context("alfa is a provider")?;
        let key = alfa.keep_secret(&soon.key)?;
        let old = format!("certificate = {:?}\n", provider.identity.chain);
        alfa.reconfigure(&old, &format!("certificate = {:?}\n", soon.chain))?;
        let old = alfa.state_folder().join(provider.identity.key.file_name().context("no name")?);
        alfa.reconfigure(&format!("{old:?}"), &format!("{key:?}"))?;
        let log = alfa.log().len();
        alfa.start()?;
        wait_for_word(alfa, log, "NOT SEALED")?;
        ensure!(alfa.log_after(log).contains("nothing is signed before"), "{}", alfa.log_after(log));
        wait_for_word(alfa, log, "is time-stamped")?;
        ensure!(judge(testbed, alfa, &tsa)? == 1);
        // The seal was begun before its signer was valid, and is of an instant when it was.
        let (code, said) = alfa.command_with(&["log", "verify"], &[])?;
        ensure!(code == Some(0) && !said.contains("VIOLATION"), "{code:?} {said}");
        Ok(())
    });
}

#[test]
fn trace_seal_waits_for_the_token_with_the_key() {
    two_providers().with_key("alfa", KeyForm::Token).test(|testbed| {
        let (tsa, alfa) = (authority_of_alfa(testbed, false)?, alfa(testbed)?);
        let token = testbed.host("alfa")?.provider.as_ref().and_then(|provider| provider.token.as_ref());
        let token = token.context("no token")?;
        restart(alfa)?;
        let letter = Letter::new("token");
        letter.send(testbed)?;
        letter.conclude(testbed)?;
        // A seal that waits for its signature, which the daemon finds at its next look.
        let (code, said) = alfa.command_with(&["log", "seal"], &[("PEC_CRASH_AT", "seal-text-written")])?;
        ensure!(code.is_none(), "{code:?} {said}");
        let log = alfa.log().len();
        token.pull()?;
        wait_for_word(alfa, log, "NOT SEALED")?;
        ensure!(alfa.log_after(log).contains("could not be signed"), "{}", alfa.log_after(log));
        token.plug()?;
        wait_for_word(alfa, log, "is time-stamped")?;
        ensure!(judge(testbed, alfa, &tsa)? == 1);
        Ok(())
    });
}
