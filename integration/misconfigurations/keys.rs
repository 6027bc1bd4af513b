//! The files of key and certificate, and the profile of §5.5.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use pec_testbed::pki::Request;

use crate::configuration::{Change, SENDING, Site, in_days, one, request, section};

#[test]
fn trust_check_config_explains_what_is_wrong_with_the_files_of_key_and_certificate() {
    let site = Site::new().unwrap();
    let (own, pki) = (&site.own, &site.pki);
    let refused = |what: &str, changes: Vec<Change>, words: &[&str]| site.is_refused(what, &changes, words).unwrap();
    let certified = |request: Request| site.key(&pki.issue(&request).unwrap());

    let open = site.file("open.key", fs::read(&own.key).unwrap()).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o640)).unwrap();
    let encrypted = site.path("encrypted.key");
    let mut openssl = Command::new("openssl");
    openssl.args(["pkey", "-aes256", "-passout", "pass:giusta", "-in"]).arg(&own.key).arg("-out").arg(&encrypted);
    assert!(openssl.status().unwrap().success());
    let wrong = site.file("wrong.pass", "sbagliata\n").unwrap();
    let empty = site.file("empty", "").unwrap();
    let large = site.file("large", vec![b' '; 1 << 21]).unwrap();
    let with_pass = |key: &Path, file: &Path| {
        vec![
            (format!("{:?}", own.key), format!("{key:?}")),
            ("[key]\n".to_owned(), format!("[key]\npassphrase_file = {file:?}\n")),
        ]
    };
    for (what, key, words) in [
        ("an absent key", &site.path("none.key"), "none.key: No such file"),
        ("a key that others may read", &open, "open.key is open to others than its owner (mode 0640): run chmod 600"),
        ("a key that is too large", &large, "large is larger than"),
        ("a file that is no key", &own.certificate, "holds no readable private key: it must be PEM"),
        ("an encrypted key", &encrypted, "is encrypted: configure a passphrase file"),
    ] {
        let key = if *key == own.certificate { &site.file("pem", fs::read(key).unwrap()).unwrap() } else { key };
        refused(what, site.path_to(&own.key, key), &["key.private_key", words]);
    }
    refused(
        "a wrong passphrase",
        with_pass(&encrypted, &wrong),
        &["key.private_key", "check the passphrase in", "wrong.pass"],
    );
    refused("an empty passphrase", with_pass(&encrypted, &empty), &["key.passphrase_file", "must be one line of text"]);

    let beta = pki.issue(&Request::provider("beta", "Beta", "posta-certificata@beta.example")).unwrap();
    let reversed = [fs::read(pki.certificate("provider-ca")).unwrap(), fs::read(&own.certificate).unwrap()].concat();
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for (what, chain, words) in [
        ("an absent certificate", site.path("none.pem"), "none.pem: No such file"),
        ("no certificate", empty.clone(), "holds no certificate: put the signer's certificate there"),
        ("a broken certificate", site.file("broken.pem", broken).unwrap(), "cannot be read: replace it"),
        (
            "the CA's certificate first",
            site.file("reversed.pem", reversed).unwrap(),
            "put the signer's certificate first",
        ),
        ("somebody else's certificate", beta.chain.clone(), "does not belong to the private key"),
        ("no certificate of the CA", own.certificate.clone(), "no path leads from"),
    ] {
        refused(what, site.path_to(&own.chain, &chain), &["key.certificate", words]);
    }
    refused("no certificate of the CA", site.path_to(&own.chain, &own.certificate), &["put the intermediate behind"]);

    let p12 = pki.pkcs12(own, "giusta").unwrap();
    let both = format!("private_key = {:?}\ncertificate = {:?}\n", own.key, own.chain);
    let in_p12 = |file: &Path, more: &str| one(&both, &format!("pkcs12 = {file:?}\n{more}"));
    let pass = |file: &Path| format!("passphrase_file = {file:?}\n");
    refused("PKCS#12 without passphrase", in_p12(&p12, ""), &["key.pkcs12: needs passphrase_file beside it"]);
    refused(
        "PKCS#12 with another",
        in_p12(&p12, &pass(&wrong)),
        &["key.pkcs12", "cannot be decrypted: check the passphrase"],
    );
    refused("no PKCS#12", in_p12(&encrypted, &pass(&wrong)), &["key.pkcs12", "is not a PKCS #12 file"]);

    let mut short = request("short");
    short.key = ["RSA", "rsa_keygen_bits:1024"];
    refused("a short key", certified(short), &["key.private_key", "has 1024 bits: it must have 2048 to 4096"]);
    let mut elliptic = request("elliptic");
    elliptic.key = ["EC", "ec_paramgen_curve:P-256"];
    refused("a key that is not RSA", certified(elliptic), &["key.private_key", "is not RSA: providers sign with RSA"]);
    let mut renamed = request("renamed");
    renamed.subject = "/C=IT/O=Altra PEC/CN=Posta".to_owned();
    refused("another provider's name", certified(renamed), &["key.certificate: neither O nor CN", "Altra PEC", "§5.5"]);
    for (number, (extension, value, words)) in [
        ("keyUsage", "digitalSignature", "keyUsage is absent or not critical"),
        ("keyUsage", "critical,keyEncipherment", "keyUsage does not allow digitalSignature"),
        ("extendedKeyUsage", "serverAuth", "extendedKeyUsage does not list emailProtection"),
        ("extendedKeyUsage", "critical,emailProtection", "the extension 2.5.29.37 is critical"),
        ("authorityKeyIdentifier", "none", "authorityKeyIdentifier with a keyIdentifier is absent"),
        ("subjectKeyIdentifier", "none", "subjectKeyIdentifier is absent"),
        ("subjectAltName", "email:altro@alfa.example", "not the sending address posta-certificata@alfa.example"),
        ("basicConstraints", "CA:FALSE", "basicConstraints is present"),
        ("basicConstraints", "critical,CA:TRUE", "is a CA and may not sign messages"),
    ]
    .into_iter()
    .enumerate()
    {
        let request = request(&format!("departs-{number}")).with(extension, value);
        refused(&format!("{extension} = {value}"), certified(request), &["key.certificate", words]);
    }
    let mut past = request("past");
    past.validity = Some((in_days(-9), in_days(-1)));
    refused(
        "an expired certificate",
        certified(past),
        &[" key: ", "expired on", "get a new certificate, and set it here"],
    );
    let next = |starts: &str| {
        section(&format!("[next_key]\nprivate_key = {:?}\ncertificate = {:?}\nstarts = {starts:?}", own.key, own.chain))
    };
    let mixed = |key: &Path, chain: &Path| {
        section(&format!(
            "[next_key]\nprivate_key = {key:?}\ncertificate = {chain:?}\nstarts = \"2024-01-01T00:00:00Z\""
        ))
    };
    let others = mixed(&beta.key, &beta.chain);
    refused("a next key of somebody else", others, &["next_key.certificate", SENDING]);
    let unpaired = mixed(&own.key, &beta.chain);
    refused(
        "a next key of another certificate",
        unpaired,
        &["next_key.certificate", "does not belong to the private key"],
    );
    let endless = section("[next_key]\npkcs12 = \"/k\"");
    refused("a next key without a start", endless, &["next_key.starts: missing; expected an instant with its offset"]);
    refused("a start after the end", next("2099-01-01T00:00:00Z"), &["next_key.starts", "choose an instant between"]);
    let previous = format!("[key]\nprevious_certificates = [{:?}]\n", site.path("2025.pem"));
    refused("an absent former certificate", one("[key]\n", &previous), &["key.previous_certificates", "2025.pem"]);
}
