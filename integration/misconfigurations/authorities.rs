//! The path from the own certificate to the CA, and the revocation lists.

use pec_testbed::pki::Request;

use crate::configuration::{Change, Site, in_days, request};

#[test]
fn trust_check_config_explains_what_is_wrong_with_the_path_to_the_ca() {
    let site = Site::new().unwrap();
    let pki = &site.pki;
    let of_ca = |name: &str, issuer: &str, authorities: &[&str]| {
        let mut request = request(name);
        request.issuer = issuer.to_owned();
        site.key_below(&pki.issue(&request).unwrap(), authorities).unwrap()
    };
    let yesterday = in_days(-1);
    pki.authority("short-ca", Some("root"), &[("basicConstraints", "critical,CA:TRUE,pathlen:0")]).unwrap();
    pki.authority("below-ca", Some("short-ca"), &[]).unwrap();
    pki.authority("other-ca", Some("root"), &[("nameConstraints", "critical,permitted;email:beta.example")]).unwrap();
    pki.authority("no-ca", Some("root"), &[("basicConstraints", "critical,CA:FALSE")]).unwrap();
    pki.authority("old-ca", Some("root"), &[]).unwrap();
    let mut old = Request::user("old-ca", "root", "old-ca").with("keyUsage", "critical,keyCertSign,cRLSign");
    old = old.with("basicConstraints", "critical,CA:TRUE").with("subjectKeyIdentifier", "hash");
    old.extensions.retain(|(name, _)| name != "extendedKeyUsage");
    old.validity = Some((in_days(-99), yesterday.clone()));
    pki.issue(&old).unwrap();
    pki.issue_list("old-ca", 86_400).unwrap();
    pki.authority("fallen-ca", Some("root"), &[]).unwrap();
    pki.authority("stranger-ca", None, &[]).unwrap();
    pki.revoke("root", &pki.certificate("fallen-ca"), &yesterday).unwrap();
    pki.issue_list("root", 86_400).unwrap();
    let revoked = pki.issue(&request("revoked")).unwrap();
    pki.revoke("provider-ca", &revoked.certificate, &yesterday).unwrap();
    pki.issue_list("provider-ca", 86_400).unwrap();

    let root = pki.root();
    let empty = site.file("empty", "").unwrap();
    let cases: [(&str, Vec<Change>, &[&str]); 12] = [
        (
            "an absent CA file",
            site.path_to(&root, &site.path("none.pem")),
            &["trust.ca_file", "none.pem: No such file"],
        ),
        (
            "an empty CA file",
            site.path_to(&root, &empty),
            &["trust.ca_file", "no self-signed one that could be a root"],
        ),
        (
            "a CA file without a root",
            site.path_to(&root, &pki.certificate("provider-ca")),
            &["trust.ca_file", "among the 1 certificates there is no self-signed one"],
        ),
        (
            "another root",
            site.path_to(&root, &pki.certificate("stranger-ca")),
            &["key.certificate: no path leads from", "add the missing CA to trust.ca_file"],
        ),
        (
            "a CA for other addresses",
            of_ca("of-other", "other-ca", &["other-ca"]),
            &["key.certificate", "outside the name constraints of its CA; ask the CA whether it may certify"],
        ),
        (
            "a CA below one that allows none",
            of_ca("of-below", "below-ca", &["below-ca", "short-ca"]),
            &["key.certificate", "(path length); other providers refuse what it signs: ask the CA for another"],
        ),
        (
            "an issuer that is no CA",
            of_ca("of-nobody", "no-ca", &["no-ca"]),
            &["CN=no-ca", "may not be used for its place"],
        ),
        (
            "a CA that has expired",
            of_ca("of-old", "old-ca", &["old-ca"]),
            &["key.certificate: the certificate CN=old-ca has expired; ask the CA for its certificate of today"],
        ),
        ("a CA that was revoked", of_ca("of-fallen", "fallen-ca", &["fallen-ca"]), &["CN=fallen-ca", "was revoked on"]),
        ("a certificate that was revoked", site.key(&revoked), &[" key: ", "was revoked on", "ask the CA for another"]),
        (
            "an absent list",
            site.path_to(&pki.list("root"), &site.path("none.crl")),
            &["trust.crl_files", "none.crl: No such file"],
        ),
        (
            "a list that is none",
            site.path_to(&pki.list("root"), &root),
            &["trust.crl_files", "it is not a revocation list"],
        ),
    ];
    for (what, changes, words) in cases {
        site.is_refused(what, &changes, words).unwrap();
    }
}
