//! What does not keep the daemon from starting, and should be known.

use std::fs;

use pec_testbed::pki::Request;

use crate::configuration::{Change, NAME, SENDING, Site, in_days, one, request, section};

#[test]
fn trust_check_config_warns_of_what_goes_on_for_now() {
    let site = Site::new().unwrap();
    let (pki, ldif) = (&site.pki, site.path("providers.ldif"));
    let certified = |request: Request| {
        let identity = pki.issue(&request).unwrap();
        let listed = site.directory(&[&site.own, &identity], &["alfa.example"]).unwrap();
        fs::write(&ldif, listed).unwrap();
        site.key(&identity)
    };
    let valid = |name: &str, from: i64, to: i64| {
        let mut request = request(name);
        request.validity = Some((in_days(from), in_days(to)));
        certified(request)
    };
    let mut addressed = request("addressed");
    addressed.subject = format!("/C=IT/O={NAME}/CN=Posta/emailAddress={SENDING}");
    let mut weak = request("weak");
    weak.digest = "sha1".to_owned();
    let mut without_use = request("without-use");
    without_use.extensions.retain(|(name, _)| name != "extendedKeyUsage");
    let lists = format!("crl_files = [{:?}, {:?}]\n", pki.list("root"), pki.list("provider-ca"));
    let unlisted = site
        .file("unlisted.ldif", site.directory(&[&pki.issue(&request("listed")).unwrap()], &["alfa.example"]).unwrap());
    let narrow = site.file("narrow.ldif", site.directory(&[&site.own], &["altro.alfa.example"]).unwrap());
    let cases: [(&str, Vec<Change>, &[&str]); 16] = [
        ("no extendedKeyUsage", certified(without_use), &["key.certificate: extendedKeyUsage is absent", "§5.5"]),
        (
            "an address in the subject",
            certified(addressed),
            &["holds the e-mail address", "belongs into subjectAltName alone"],
        ),
        ("a certificate with SHA-1", certified(weak), &["key.certificate", "a digest that is no longer safe"]),
        (
            "59 days left",
            valid("fifty-nine", -9, 59),
            &["the certificate CN=Posta Certificata", "expires in less than 60 days"],
        ),
        ("29 days left", valid("twenty-nine", -9, 29), &["expires in less than 30 days"]),
        ("6 days left", valid("six", -9, 6), &["expires within 6 days"]),
        ("not yet valid", valid("early", 5, 300), &[" key: NOTHING IS SIGNED until", "mail is answered 4xx"]),
        ("no list", one(&lists, ""), &["was revoked is not known: there is no revocation list of CN=provider-ca"]),
        (
            "no need of lists",
            one(&lists, "crl_missing = \"accept\"\n"),
            &["trust.crl_missing", "a revoked signer passes"],
        ),
        (
            "a certificate that is not listed",
            site.path_to(&ldif, &unlisted.unwrap()),
            &["directory.ldif: other providers will not trust what this one signs", "it is not listed"],
        ),
        (
            "a domain that is not listed",
            site.path_to(&ldif, &narrow.unwrap()),
            &["directory.ldif: this provider's record does not list its domain alfa.example"],
        ),
        ("no directory", one(&format!("ldif = {ldif:?}\n"), ""), &["directory.ldif: there is no providers directory"]),
        (
            "a directory that was never fetched",
            one(
                &format!("ldif = {ldif:?}\n"),
                &format!(
                    "url = \"ldaps://x.example\"\nca_file = {:?}\nstore = {:?}\n",
                    pki.tls_root(),
                    site.path("directory")
                ),
            ),
            &["NO PROVIDERS DIRECTORY, ALL MAIL IS PUT OFF", "run `pec-milter directory refresh`"],
        ),
        ("no scanner", one("clamd = \"127.0.0.1:3310\"\n", ""), &["virus.clamd: NO VIRUS SCANNER"]),
        ("a scanner that is away", Vec::new(), &["virus.clamd: no connection to clamd", "does it run"]),
        ("early notices", section("[timeouts]\nfinal_seconds = 79199"), &["timeouts.final_seconds", "for tests only"]),
    ];
    for (what, changes, words) in cases {
        site.is_warned(what, &changes, words).unwrap();
    }
}
