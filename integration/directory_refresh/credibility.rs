//! Which directory is believed, and from whom: what is refused leaves the old one in force.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use pec_testbed::Received;
use pec_testbed::foreign::{ForeignProvider, Kind};
use pec_testbed::ldif::{self, Record};
use pec_testbed::pki::Request;
use pec_testbed::publisher::Publisher;

use crate::{
    ANNA, alfa_with, directory, grown, marking, refresh, refuses, succeeds, wait_for_log, wait_for_next_second,
};

/// A directory of more bytes is not read to its end.
const LARGEST: u64 = 64 << 20;

#[test]
fn trust_a_directory_that_is_not_the_publishers_or_not_credible_is_refused_and_the_old_one_stays() {
    let publisher = Publisher::over_https().unwrap();
    alfa_with(&publisher.https_settings()).test(|testbed| {
        let alfa = testbed.host("alfa")?;
        let good = grown(testbed, 40)?;
        let old = publisher.publish(&good)?;
        succeeds(alfa, &["refresh"])?;
        let in_force = "41 providers with 81 domains";
        let stays = |what: &str| -> Result<()> {
            ensure!(directory(alfa, &["show"])?.1.contains(in_force), "after {what} another directory is in force");
            Ok(())
        };
        ensure!(succeeds(alfa, &["refresh"])?.contains("unchanged"), "the same again is unchanged");
        wait_for_next_second()?;
        publisher.publish(&good)?;
        succeeds(alfa, &["refresh"])?;

        let other = Request::provider("other-signer", "Gestore Indice", "indice@publisher.example");
        let mut same_ca = other.clone();
        same_ca.issuer = "root".into();
        let (other, same_ca) = (publisher.pki.issue_self_signed(&other)?, publisher.pki.issue(&same_ca)?);
        let mut altered = publisher.sign(&publisher.signer, &good)?;
        let at = altered.windows(10).position(|octets| octets == b"p7.example").context("no p7.example")?;
        altered[at] = b'q';
        let shrunken_providers = grown(testbed, 37)?;
        let shrunken_domains = good.replace("managedDomains: due", "description: due");
        let two_without = grown(testbed, 38)?;
        let detached = {
            let file = testbed.folder().join("good.ldif");
            fs::write(&file, &good)?;
            let mut openssl = Command::new("openssl");
            openssl.args(["cms", "-sign", "-binary", "-outform", "DER", "-in"]).arg(&file).arg("-signer");
            openssl.arg(&publisher.signer.certificate).arg("-inkey").arg(&publisher.signer.key);
            openssl.stderr(Stdio::null()).output()?.stdout
        };
        let signed = |text: &str| publisher.sign(&publisher.signer, text);
        let signed_with = |options: &[&str]| publisher.sign_with(&publisher.signer, &good, options);
        let second = [&same_ca.certificate, &same_ca.key].map(|path| path.display().to_string());
        let with_second = ["-outform", "DER", "-signer", &second[0], "-inkey", &second[1]];
        let cases: [(&str, Vec<u8>, &str); 16] = [
            ("an empty file", Vec::new(), "it is empty"),
            ("one that is not signed", good.clone().into_bytes(), "its signature does not hold, or it has none"),
            ("one whose signature lacks the content", detached, "detached"),
            ("one in PEM", signed_with(&["-outform", "PEM"])?, "expected a .p7m, LDIF inside signed-data in DER"),
            ("one with SHA-1", signed_with(&["-outform", "DER", "-md", "sha1"])?, "the signature is made with SHA-1"),
            (
                "one without an instant",
                signed_with(&["-outform", "DER", "-noattr"])?,
                "its signature does not say when it was made",
            ),
            ("one of two signers", signed_with(&with_second)?, "its signature does not hold"),
            ("one that was altered", altered, "the signed octets differ"),
            ("one of a self-signed signer of the same name", publisher.sign(&other, &good)?, "another certificate"),
            ("one of another signer of the same CA", publisher.sign(&same_ca, &good)?, "another certificate"),
            ("an older one", old, "the server gives out an old file"),
            ("one without providers", signed("dn: o=postacert\no: postacert\n")?, "holds no provider"),
            ("one that is no LDIF", signed("<html>maintenance</html>")?, "has no colon"),
            (
                "one with a broken record",
                signed(&good.replace("mailReceipt: ricevute@gestore.example\n", ""))?,
                "no mailReceipt",
            ),
            ("one that lost providers", signed(&shrunken_providers)?, "3 of 41 providers are gone"),
            ("one that lost domains", signed(&shrunken_domains)?, "of 81 domains are gone"),
        ];
        for (what, octets, words) in &cases {
            publisher.publish_octets(octets)?;
            refuses(alfa, &["diff"], words).with_context(|| what.to_string())?;
            refuses(alfa, &["refresh"], words).with_context(|| what.to_string())?;
            stays(what)?;
            ensure!(directory(alfa, &["show"])?.1.contains("last attempt FAILED"), "the failure of {what} shows");
        }
        assert_eq!(marking(testbed, "qualcuno@uno.p39.example")?, "certificato", "the old one is in force");
        let file = testbed.folder().join("shrunken.p7m");
        fs::write(&file, signed(&shrunken_providers)?)?;
        let (would_be_taken, said) = directory(alfa, &["diff", file.to_str().context("not UTF-8")?])?;
        ensure!(!would_be_taken && said.contains("- provider Gestore 38, società"), "{said}");
        ensure!(said.contains("it would be REFUSED: 3 of 41 providers are gone"), "{said}");

        // As much as the limit may go, and more only when the administrator says so.
        publisher.publish(&two_without)?;
        let said = succeeds(alfa, &["diff"])?;
        ensure!(
            said.contains("- provider Gestore 39, società") && said.contains("- domain due.p38.example of"),
            "{said}"
        );
        ensure!(succeeds(alfa, &["refresh"])?.contains("39 providers with 77 domains"));
        ensure!(succeeds(alfa, &["diff", "--last"])?.contains("- provider Gestore 39, società"));
        publisher.publish(&grown(testbed, 1)?)?;
        refuses(alfa, &["refresh"], "--accept-shrunken")?;
        ensure!(succeeds(alfa, &["refresh", "--accept-shrunken"])?.contains("2 providers with 3 domains"));

        // More than a directory can be.
        fs::File::create(publisher.file())?.set_len(LARGEST + 1)?;
        refuses(alfa, &["refresh"], &format!("has more than {LARGEST} bytes"))?;

        // The server's answers that are no file.
        fs::remove_file(publisher.file())?;
        refuses(alfa, &["refresh"], "answers 404; is directory.url still right?")?;
        publisher.stop_https()?;
        refuses(alfa, &["refresh"], "gives no answer")?;
        ensure!(succeeds(alfa, &["show"])?.contains("2 providers with 3 domains"));
        testbed.wait_for_empty_queues()
    });
}

#[test]
fn trust_the_server_and_the_client_of_the_directory_must_know_each_other() {
    let publisher = Publisher::over_https().unwrap();
    alfa_with(&publisher.https_settings()).test(|testbed| {
        let alfa = testbed.host("alfa")?;
        publisher.publish(&fs::read_to_string(&testbed.ldif)?)?;
        succeeds(alfa, &["refresh"])?;
        let configuration = &alfa.daemon()?.configuration;
        let text = fs::read_to_string(configuration)?;
        let without = |key: &str| -> String {
            text.lines().filter(|line| !line.starts_with(key)).map(|line| format!("{line}\n")).collect()
        };
        let quoted = |path: &Path| format!("{path:?}");
        let stranger = testbed.pki.server("stranger", alfa.site.address)?;
        publisher.give_to_providers(&stranger.key)?;
        let open_key = publisher.pki.server("open", alfa.site.address)?;
        fs::set_permissions(&open_key.key, fs::Permissions::from_mode(0o644))?;
        let (client, signer) = (&publisher.client, &publisher.signer);
        let with_stranger = text
            .replace(&quoted(&client.certificate), &quoted(&stranger.certificate))
            .replace(&quoted(&client.key), &quoted(&stranger.key));
        let cases = [
            ("no certificate", without("client_"), "does the publisher know directory.client_certificate?"),
            ("a stranger's certificate", with_stranger, "does the publisher know directory.client_certificate?"),
            (
                "a server of another CA",
                text.replace(&quoted(&publisher.pki.tls_root()), &quoted(&testbed.pki.tls_root())),
                "look at the network, at directory.ca_file",
            ),
            (
                "a key that others may read",
                text.replace(&quoted(&client.key), &quoted(&open_key.key)),
                "directory.client_key",
            ),
            (
                "the key of another certificate",
                text.replace(&quoted(&client.key), &quoted(&stranger.key)),
                "cannot be used together",
            ),
            (
                "a pin that is no certificate",
                text.replace(&quoted(&signer.certificate), &quoted(&signer.key)),
                "directory.signer_certificate",
            ),
            ("a redirection", text.replace("providers.ldif.p7m", "moved"), "answers 302"),
            ("plain http", text.replace("https://", "http://"), "expected a URL such as"),
        ];
        for (what, changed, words) in cases {
            ensure!(changed != text, "{what} changes nothing");
            fs::write(configuration, changed)?;
            refuses(alfa, &["refresh"], words).with_context(|| what.to_owned())?;
            if words.contains("directory.client_key") || words.contains("together") || words.contains("expected a URL")
            {
                let (is_good, said) = alfa.daemon()?.command(&["check-config"])?;
                ensure!(!is_good && said.contains(words), "check-config should tell of {what}:\n{said}");
            }
        }
        // Another server that the same CA has certified.
        publisher.stop_https()?;
        let own = publisher.show_another_name()?;
        publisher.start_https()?;
        fs::write(configuration, &text)?;
        refuses(alfa, &["refresh"], "gives no answer")?;
        publisher.stop_https()?;
        publisher.show(own);
        publisher.start_https()?;

        // A CA for a signer, in place of the certificate.
        let pinned = format!("signer_certificate = {:?}", signer.certificate);
        for (ca, is_accepted) in [(publisher.pki.root(), true), (testbed.pki.root(), false)] {
            fs::write(configuration, text.replace(&pinned, &format!("signer_ca_file = {ca:?}")))?;
            let (is_yes, said) = directory(alfa, &["refresh"])?;
            ensure!(is_yes == is_accepted, "with the CA {}: {said}", ca.display());
            ensure!(is_accepted || said.contains("does not lead to the CA of directory.signer_ca_file"), "{said}");
        }
        // Of that CA's certificates only those for mail count, and only while they are valid.
        let of_root = |name: &str| {
            let mut request = Request::provider(name, "Gestore Indice", "indice@publisher.example");
            request.issuer = "root".into();
            request
        };
        let mut past = of_root("past");
        past.validity = Some(("20240101000000Z".into(), "20250101000000Z".into()));
        fs::write(configuration, text.replace(&pinned, &format!("signer_ca_file = {:?}", publisher.pki.root())))?;
        let ldif = fs::read_to_string(&testbed.ldif)?;
        for (request, words) in [
            (past, "has expired"),
            (of_root("servers").with("extendedKeyUsage", "serverAuth"), "does not allow e-mail protection"),
        ] {
            let other = publisher.pki.issue(&request)?;
            publisher.publish_octets(&publisher.sign(&other, &ldif)?)?;
            refuses(alfa, &["refresh"], words).with_context(|| request.name.clone())?;
        }
        publisher.publish(&ldif)?;
        fs::write(configuration, text)?;
        succeeds(alfa, &["refresh"]).map(drop)
    });
}

#[test]
fn trust_a_replaced_directory_entry_never_yields_a_receipt() {
    let publisher = Publisher::over_https().unwrap();
    alfa_with(&publisher.https_settings()).test(|testbed| {
        let alfa = testbed.host("alfa")?;
        let gamma = ForeignProvider::new(testbed, testbed.host("gamma")?)?;
        let mut impostor = gamma.clone();
        impostor.identity = testbed.pki.issue(&gamma.request("impostor"))?;
        let alfas = fs::read_to_string(&testbed.ldif)?;
        let with = |record: Record| -> Result<String> {
            let alone = ldif::write(&[record])?;
            Ok(format!("{alfas}\n{}", alone.split_once("\n\n").context("no record")?.1))
        };
        let good = with(gamma.record(&[]))?;
        refresh(&publisher, alfa, &good, &[])?;
        let p7m = fs::read(publisher.file())?;
        wait_for_next_second()?;

        // Signed by somebody else; changed after it was signed, in what was published and in the store.
        let forged = with(impostor.record(&[]))?;
        let thief = publisher.pki.issue_self_signed(&Request::provider(
            "thief",
            "Gestore Indice",
            "indice@publisher.example",
        ))?;
        publisher.publish_octets(&publisher.sign(&thief, &forged)?)?;
        refuses(alfa, &["refresh"], "another certificate")?;
        let (of_gamma, of_impostor) = (certificate_lines(&good)?, certificate_lines(&forged)?);
        let swapped = String::from_utf8_lossy(&p7m).contains(&of_gamma[..60]);
        ensure!(swapped, "the record stands readable in the p7m");
        let altered = replaced(&p7m, of_gamma.as_bytes(), of_impostor.as_bytes())?;
        publisher.publish_octets(&altered)?;
        refuses(alfa, &["refresh"], "the signed octets differ")?;
        let store = alfa.daemon()?.state_folder().join("directory");
        for entry in fs::read_dir(store)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "p7m") {
                fs::write(path, &altered)?;
            }
        }
        let before = alfa.daemon()?.log().len();
        ensure!(alfa.daemon()?.reload_and_wait().is_err(), "a changed store is not taken over");
        wait_for_log(alfa, before, "is not what was put there")?;

        let facts = impostor.facts("mario", &[ANNA], "falsa", "opec.falsa");
        impostor.send(alfa, &impostor.draft(Kind::Envelope, &facts)?)?;
        let received = testbed.received_when(&[(ANNA, 1)])?;
        ensure!(received.iter().all(|one| one.is("errore")), "it should come in an anomaly envelope: {received:?}");
        testbed.wait_for_empty_queues()?;
        let all = testbed.received()?;
        let told: Vec<_> = all.iter().filter(|one| one.mailbox != ANNA).map(Received::header).collect();
        ensure!(told.is_empty(), "nobody may be told anything, but:\n{}", told.join("\n"));
        testbed.judge(&all)
    });
}

/// The value of the last certificate, as it stands there.
fn certificate_lines(ldif: &str) -> Result<String> {
    let (_, value) = ldif.rsplit_once("providerCertificate;binary:: ").context("no certificate")?;
    Ok(value.split_once("\nmailReceipt").context("no end")?.0.to_owned())
}

/// One passage replaced by another, cut or filled to the same length.
fn replaced(octets: &[u8], old: &[u8], new: &[u8]) -> Result<Vec<u8>> {
    let at = octets.windows(old.len()).position(|window| window == old).context("not there")?;
    let mut changed = octets.to_vec();
    for (place, octet) in changed.iter_mut().skip(at).zip(new.iter().take(old.len())) {
        *place = *octet;
    }
    Ok(changed)
}
