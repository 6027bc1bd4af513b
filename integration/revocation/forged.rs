//! Forged envelopes: what the signer is makes them mail that is not of the PEC system, at the port and in the hop.

use std::fs;

use anyhow::{Context, Result, ensure};
use pec_testbed::foreign::ForeignProvider;
use pec_testbed::ldif::Record;
use pec_testbed::metrics;
use pec_testbed::pki::{Identity, Pki};

use crate::{
    BRUNO, LONG, MARIO, NOT_CORRECT, ORDINARY, SERVICE, are_certified, envelope, is_classed, offer, plan, signed_by,
    yesterday,
};

#[test]
fn trust_a_forged_envelope_yields_no_receipt() {
    // SHA-1 is refused; the lists are files.
    plan("accept_sha1 = false\n").test(|testbed| {
        let (alfa, pki) = (testbed.host("alfa")?, &testbed.pki);
        let gamma = ForeignProvider::new(testbed, testbed.host("gamma")?)?;
        pki.authority("short-ca", Some("root"), &[("basicConstraints", "critical,CA:TRUE,pathlen:0")])?;
        pki.authority("below-ca", Some("short-ca"), &[])?;
        pki.authority("fallen-ca", Some("root"), &[])?;
        pki.authority("other-ca", Some("root"), &[("nameConstraints", "critical,excluded;email:gamma.example")])?;
        pki.authority("no-ca", Some("root"), &[("basicConstraints", "critical,CA:FALSE")])?;
        let of_ca = |name: &str, issuer: &str| {
            let mut request = gamma.request(name);
            request.issuer = issuer.to_owned();
            pki.issue(&request)
        };
        let valid = |name: &str, from: &str, to: &str| {
            let mut request = gamma.request(name);
            request.validity = Some((from.to_owned(), to.to_owned()));
            pki.issue(&request)
        };
        let with_key = |name: &str, key: [&'static str; 2]| {
            let mut request = gamma.request(name);
            request.key = key;
            pki.issue(&request)
        };
        let revoked = pki.issue(&gamma.request("revoked"))?;
        let yesterday = yesterday();
        pki.revoke("provider-ca", &revoked.certificate, &yesterday)?;
        pki.revoke("root", &pki.certificate("fallen-ca"), &yesterday)?;
        pki.issue_list("provider-ca", LONG)?;
        pki.issue_list("root", LONG)?;
        let below = testbed.folder().join("below.pem");
        fs::write(&below, [fs::read(pki.certificate("below-ca"))?, fs::read(pki.certificate("short-ca"))?].concat())?;
        let usual = gamma.intermediate.clone();
        // Whoever calls his CAs as they are called, and puts the right certificate beside his own.
        let forger = Pki::new(testbed.folder().join("forger"), &["gamma.example"])?;
        let beside = testbed.folder().join("beside.pem");
        fs::write(&beside, [fs::read(&gamma.identity.certificate)?, fs::read(&usual)?].concat())?;

        // In the directory, so that only the certificate itself stands against them.
        let listed = [
            (
                "self-signed, and listed",
                pki.issue_self_signed(&gamma.request("self-listed"))?,
                &usual,
                "no path leads from",
            ),
            (
                "of a CA of the same name, and listed",
                forger.issue(&gamma.request("forged-listed"))?,
                &forger.certificate("provider-ca"),
                "no path leads from",
            ),
            ("revoked yesterday", revoked, &usual, "CN=Posta Certificata,O=GAMMA Posta S.r.l.,C=IT was revoked on"),
            (
                "of a CA that was revoked yesterday",
                of_ca("of-fallen", "fallen-ca")?,
                &pki.certificate("fallen-ca"),
                "CN=fallen-ca,O=Certifier,C=IT was revoked on",
            ),
            (
                "against the name constraints",
                pki.issue(&gamma.request("outside").with("subjectAltName", "email:posta-certificata@altro.example"))?,
                &usual,
                "outside the name constraints",
            ),
            (
                "whom the name constraints exclude",
                of_ca("excluded", "other-ca")?,
                &pki.certificate("other-ca"),
                "outside the name constraints",
            ),
            (
                "of somebody who is no CA",
                of_ca("of-nobody", "no-ca")?,
                &pki.certificate("no-ca"),
                "CN=no-ca,O=Certifier,C=IT may not be used for its place in a path",
            ),
            (
                "who is a CA",
                pki.issue(&gamma.request("ca").with("basicConstraints", "critical,CA:TRUE"))?,
                &usual,
                "is a CA and may not sign messages",
            ),
            ("against the path length", of_ca("below", "below-ca")?, &below, "below one that allows no further CA"),
            (
                "for encipherment",
                pki.issue(&gamma.request("encipher").with("keyUsage", "critical,keyEncipherment"))?,
                &usual,
                "does not allow digital signatures",
            ),
            (
                "for servers",
                pki.issue(&gamma.request("server").with("extendedKeyUsage", "serverAuth"))?,
                &usual,
                "does not allow e-mail protection",
            ),
            ("expired", valid("expired", "20240101000000Z", "20250101000000Z")?, &usual, "has expired"),
            ("not yet valid", valid("early", "20400101000000Z", "20410101000000Z")?, &usual, "is not valid yet"),
            (
                "with a key that is too short",
                with_key("short", ["RSA", "rsa_keygen_bits:1024"])?,
                &usual,
                "the signer's RSA key has 1024 bits, fewer than 2048",
            ),
            (
                "with a key that is not RSA",
                with_key("curve", ["EC", "ec_paramgen_curve:P-256"])?,
                &usual,
                "the algorithms of the signature cannot be worked with",
            ),
        ];
        let cosigner = pki.issue(&gamma.request("cosigner"))?;
        let unlisted = [
            ("self-signed with the right names", pki.issue_self_signed(&gamma.request("self"))?),
            ("equal in name and CA, not in octets", pki.issue(&gamma.request("twin"))?),
        ];
        let delta = pki.issue(&gamma.request("delta"))?;
        let delta_record = Record {
            provider_name: "DELTA Posta S.r.l.".to_owned(),
            certificates: vec![delta.certificate.clone()],
            mail_receipt: "ricevute@delta.example".to_owned(),
            managed_domains: vec!["delta.example".to_owned()],
        };
        let further: Vec<_> = listed.iter().map(|(_, identity, ..)| identity).chain([&cosigner]).collect();
        testbed.list_in_directory(&[gamma.record(&further), delta_record])?;

        let mut forged = Vec::new();
        for (name, identity, intermediate, reason) in &listed {
            let mut draft = signed_by(&gamma, &format!("f{}", forged.len()), identity)?;
            draft.signature.intermediate = Some(intermediate.to_path_buf());
            forged.push((*name, draft, ORDINARY, *reason));
        }
        for (name, identity) in &unlisted {
            let draft = signed_by(&gamma, &format!("f{}", forged.len()), identity)?;
            forged.push((name, draft, ORDINARY, "is not in the providers directory"));
        }
        let mut aside = signed_by(&gamma, "f-beside", &forger.issue(&gamma.request("forged"))?)?;
        aside.signature.intermediate = Some(beside);
        let reason = "is not in the providers directory";
        forged.push(("of a CA of the same name, beside the right one", aside, ORDINARY, reason));
        let mut sha1 = envelope(&gamma, "f-sha1")?;
        (sha1.signature.options, sha1.signature.micalg) = (&["-md", "sha1"], "sha1");
        forged.push(("with SHA-1", sha1, ORDINARY, "the signature is made with SHA-1"));
        // Each of the two would do alone; whose message it is nobody could say.
        let mut two = envelope(&gamma, "f-two")?;
        two.signature.cosigner = Some(cosigner);
        forged.push(("and another one", two, ORDINARY, "the signature has 2 signers, not one"));
        let other = signed_by(&gamma, "f-other", &delta)?;
        let reason = "author's domain is not one that DELTA Posta S.r.l. manages";
        forged.push(("valid, of another provider", other, NOT_CORRECT, reason));

        for (name, draft, class, reason) in &forged {
            is_classed(alfa, &gamma, draft, class, reason).with_context(|| format!("a signer {name}"))?;
        }
        // Where ordinary mail is refused, the class is the answer.
        let daemon = alfa.daemon()?;
        let text = fs::read_to_string(&daemon.configuration)?;
        fs::write(&daemon.configuration, format!("{text}[ordinary]\npolicy = \"refuse\"\n"))?;
        daemon.reload_and_wait()?;
        for (name, draft, class, _) in &forged {
            let dialogue = offer(alfa, draft)?;
            let code = dialogue.refusal().map(|answer| answer.code);
            let expected = if *class == ORDINARY { Some(550) } else { None };
            ensure!(code == expected, "a signer {name}: expected {expected:?}, found\n{dialogue}");
        }
        // The same envelope by the right signer, so that nothing else stands against the forged ones.
        gamma.send(alfa, &envelope(&gamma, "genuine")?)?;
        are_certified(testbed, &["genuine"], forged.len() + 1)
    });
}

#[test]
fn trust_a_forged_envelope_that_no_milter_saw_yields_no_receipt_in_the_hop() {
    plan("").test(|testbed| {
        let (alfa, pki) = (testbed.host("alfa")?, &testbed.pki);
        let gamma = ForeignProvider::new(testbed, testbed.host("gamma")?)?;
        let revoked = pki.issue(&gamma.request("revoked"))?;
        let alone = pki.issue_self_signed(&gamma.request("alone"))?;
        let twin = pki.issue(&gamma.request("twin"))?;
        let outside = gamma.request("outside").with("subjectAltName", "email:posta-certificata@altro.example");
        let outside = pki.issue(&outside)?;
        testbed.list_in_directory(&[gamma.record(&[&revoked, &alone, &outside])])?;
        pki.revoke("provider-ca", &revoked.certificate, &yesterday())?;
        pki.issue_list("provider-ca", LONG)?;
        alfa.daemon()?.reload_and_wait()?;

        // As a user of the machine hands mail over, past the milter of port 25.
        let hands_over = |id: &str, signer: &Identity| -> Result<()> {
            let draft = signed_by(&gamma, id, signer)?;
            alfa.sendmail(&draft.reverse_path, &[BRUNO], &draft.build()?)
        };
        let forged = [("f-revoked", &revoked), ("f-alone", &alone), ("f-twin", &twin), ("f-outside", &outside)];
        for (id, signer) in forged {
            hands_over(id, signer)?;
        }
        hands_over("genuine", &gamma.identity)?;
        let all = testbed.received_when(&[(BRUNO, forged.len() + 1), (MARIO, 1), (SERVICE, 1)])?;
        for told in all.iter().filter(|one| one.mailbox != BRUNO) {
            ensure!(told.transaction().as_deref() == Some("genuine@gamma.example"), "{}", told.header());
        }
        for (id, _) in forged {
            let said = alfa.daemon()?.command(&["log", "show", &format!("{id}@gamma.example")])?.1;
            ensure!(!said.contains("delivery") && !said.contains("arrival"), "{id} is in the log:\n{said}");
        }
        Ok(())
    });
}

#[test]
fn trust_a_signature_with_sha1_counts_while_it_is_accepted_and_is_counted() {
    plan("").test(|testbed| {
        let alfa = testbed.host("alfa")?;
        let (daemon, address) = (alfa.daemon()?, alfa.site.address);
        daemon.reconfigure("[listen]\n", &format!("{}\n[listen]\n", metrics::settings(address)))?;
        daemon.stop()?;
        daemon.start()?;
        let gamma = ForeignProvider::new(testbed, testbed.host("gamma")?)?;
        testbed.list_in_directory(&[gamma.record(&[])])?;
        let sent = |id: &str, options: &'static [&'static str], micalg| -> Result<()> {
            let mut draft = envelope(&gamma, id)?;
            (draft.signature.options, draft.signature.micalg) = (options, micalg);
            gamma.send(alfa, &draft).map(drop)
        };
        sent("nuova", &["-md", "sha256"], "sha-256")?;
        let name = format!("pec_milter_sha1_messages_total{{provider=\"{}\"}}", gamma.name);
        ensure!(!metrics::scrape(address)?.contains(&name), "nothing was signed with SHA-1 yet");
        sent("vecchia", &["-md", "sha1"], "sha1")?;
        sent("antica", &["-md", "sha1"], "sha1")?;
        ensure!(metrics::value(address, &name)? == 2.0, "{}", metrics::scrape(address)?);
        are_certified(testbed, &["nuova", "vecchia", "antica"], 0)
    });
}
