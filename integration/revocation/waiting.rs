//! What was taken in charge is certified as it was found when it came, whatever its signer's standing is since.

use anyhow::bail;
use pec_testbed::foreign::ForeignProvider;
use pec_testbed::{PATIENCE, wait_until};

use crate::{LONG, are_certified, is_an_anomaly, logged, plan, signed_by, yesterday};

#[test]
fn trust_an_envelope_that_waits_for_its_mailbox_is_certified_though_its_signer_is_revoked_or_unlisted_meanwhile() {
    plan("crl_update_seconds = 1\ncrl_fetch = false\n").test(|testbed| {
        let (alfa, pki) = (testbed.host("alfa")?, &testbed.pki);
        let gamma = ForeignProvider::new(testbed, testbed.host("gamma")?)?;
        let (fallen, gone) = (pki.issue(&gamma.request("fallen"))?, pki.issue(&gamma.request("gone"))?);
        testbed.list_in_directory(&[gamma.record(&[&fallen, &gone])])?;
        alfa.stop_dovecot()?;
        for (id, signer) in [("caduto", &fallen), ("tolto", &gone)] {
            gamma.send(alfa, &signed_by(&gamma, id, signer)?)?;
        }
        wait_until("both to wait for their mailbox", PATIENCE, || {
            let queue = alfa.queue()?;
            let waiting = queue.matches("bruno@alfa.example").count();
            let is_offered = alfa.daemon()?.log().matches("mailbox answered").count() >= 2;
            if waiting == 2 && is_offered { Ok(()) } else { bail!("{queue}") }
        })?;

        pki.revoke("provider-ca", &fallen.certificate, &yesterday())?;
        pki.issue_list("provider-ca", LONG)?;
        logged(alfa, 0, &["a new revocation list is in force", "provider-ca", "revoked=1"])?;
        testbed.list_in_directory(&[gamma.record(&[&fallen])])?;

        alfa.start_dovecot()?;
        is_an_anomaly(alfa, &gamma, &signed_by(&gamma, "caduto.dopo", &fallen)?, "was revoked on")?;
        is_an_anomaly(alfa, &gamma, &signed_by(&gamma, "tolto.dopo", &gone)?, "is not in the providers directory")?;
        alfa.flush_queue()?;
        are_certified(testbed, &["caduto", "tolto"], 2)
    });
}
