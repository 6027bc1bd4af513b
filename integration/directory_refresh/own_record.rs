//! This provider's own record, as it is published.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use jiff::{SignedDuration, Timestamp};
use pec_testbed::pki::Request;
use pec_testbed::publisher::Publisher;

use crate::{alfa_with, succeeds};

/// The SHA-1 hash of a certificate, by `openssl x509`.
fn fingerprint(certificate: &Path) -> Result<String> {
    let output =
        Command::new("openssl").args(["x509", "-noout", "-fingerprint", "-sha1", "-in"]).arg(certificate).output()?;
    let said = String::from_utf8(output.stdout)?;
    Ok(said.trim().split_once('=').with_context(|| format!("no fingerprint: {said}"))?.1.replace(':', ""))
}

#[test]
fn trust_the_own_record_is_signed_and_read_back_by_openssl_and_by_the_next_provider() {
    let publisher = Publisher::over_https().unwrap();
    alfa_with(&publisher.https_settings()).test(|testbed| {
        let alfa = testbed.host("alfa")?;
        let url = "https://pec.alfa.example/alfa.ldif.p7m";
        let ldif = succeeds(alfa, &["own-record", "--location", url])?;
        let record = ldif.get(ldif.find("dn: providerName=Alfa PEC S.p.A.,o=postacert\n").context("no record")?..);
        let record = record.context("no record")?;
        for line in [
            "objectClass: provider",
            "providerName: Alfa PEC S.p.A.",
            "mailReceipt: ricevute@alfa.example",
            "managedDomains: alfa.example",
            &format!("LDIFLocationURL: {url}"),
        ] {
            ensure!(record.lines().any(|one| one == line), "no {line:?} in\n{record}");
        }

        // The key that follows is published beside the one of today.
        let request = Request::provider("alfa-next", "Alfa PEC S.p.A.", "posta-certificata@alfa.example");
        let next = testbed.pki.issue(&request)?;
        let starts = Timestamp::now() + SignedDuration::from_hours(240);
        let section = format!(
            "[next_key]\nprivate_key = {:?}\ncertificate = {:?}\nstarts = \"{starts}\"\n\n",
            alfa.daemon()?.keep_secret(&next.key)?,
            next.chain
        );
        alfa.daemon()?.reconfigure("[trust]", &format!("{section}[trust]"))?;
        let with_next = succeeds(alfa, &["own-record", "--location", url])?;
        let own = &alfa.provider.as_ref().context("alfa is a provider")?.identity.certificate;
        for (text, certificates) in [(&ldif, &[own][..]), (&with_next, &[own, &next.certificate])] {
            let hashes = text.lines().filter_map(|line| line.strip_prefix("providerCertificateHash: "));
            let mut hashes: Vec<String> = hashes.map(str::to_uppercase).collect();
            let mut expected = certificates.iter().map(|one| fingerprint(one)).collect::<Result<Vec<_>>>()?;
            hashes.sort();
            expected.sort();
            ensure!(hashes == expected, "the hashes are {hashes:?}, openssl's are {expected:?}");
        }
        alfa.daemon()?.reconfigure(&section, "")?;

        let p7m = testbed.folder().join("alfa.ldif.p7m");
        let path = p7m.to_str().context("not UTF-8")?;
        succeeds(alfa, &["own-record", "--location", url, "--p7m", path])?;
        let chain = &alfa.provider.as_ref().context("alfa is a provider")?.identity.chain;
        let output = Command::new("openssl")
            .args(["cms", "-verify", "-binary", "-inform", "DER", "-in", path, "-CAfile"])
            .arg(testbed.pki.root())
            .arg("-certfile")
            .arg(chain)
            .output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        ensure!(String::from_utf8_lossy(&output.stdout) == record, "openssl reads the record");

        // A directory that holds only this, and whose signer is alfa.
        let certificate = &alfa.provider.as_ref().context("alfa is a provider")?.identity.certificate;
        let configuration = &alfa.daemon()?.configuration;
        let text = fs::read_to_string(configuration)?;
        let pinned = format!("{:?}", publisher.signer.certificate);
        fs::write(configuration, text.replace(&pinned, &format!("{certificate:?}")))?;
        publisher.publish_octets(&fs::read(&p7m)?)?;
        ensure!(succeeds(alfa, &["refresh"])?.contains("1 providers with 1 domains"));
        ensure!(succeeds(alfa, &["show", "alfa.example"])?.contains("provider     Alfa PEC S.p.A."));
        // Where the directory is a local file, one that is signed is compared with it as well.
        let with_url = fs::read_to_string(configuration)?;
        let store = with_url.lines().find(|line| line.starts_with("store = ") && line.contains("directory"));
        let settings = publisher.https_settings().replace(&pinned, &format!("{certificate:?}"));
        let store = format!("{}\n", store.context("no store")?);
        alfa.daemon()?.reconfigure(&(settings + &store), &format!("ldif = {:?}\n", testbed.ldif))?;
        let said = succeeds(alfa, &["diff", path])?;
        ensure!(said.contains("the same providers, domains and certificates"), "{said}");
        fs::write(configuration, with_url)?;

        // And slapd takes it as an entry of the directory.
        let base = fs::read_to_string(&testbed.ldif)?;
        let base = base.split_once("\n\n").context("no base")?.0.to_owned() + "\n\n";
        publisher.start_ldap(&(base + record), true, "")
    });
}
