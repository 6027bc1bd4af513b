//! The providers directory, the way to it, and the tables of senders, receipts and ordinary mail.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::configuration::{Change, Site, one, section};

#[test]
fn trust_check_config_explains_what_is_wrong_with_the_directory_and_the_tables() {
    let site = Site::new().unwrap();
    let ldif = site.path("providers.ldif");
    let whole = fs::read_to_string(&ldif).unwrap();
    let other = |name: &str, text: &str| site.path_to(&ldif, &site.file(name, text).unwrap());
    let url = |lines: &str| one(&format!("ldif = {ldif:?}"), &format!("store = {:?}\n{lines}", site.path("directory")));
    let pem = site.pki.tls_root();
    let key = &site.own.key;
    let open = site.file("open.pass", "segreta\n").unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o644)).unwrap();
    let https = "url = \"https://x.example/d.p7m\"\n";
    let ldaps = "url = \"ldaps://x.example\"\n";
    let table = |key: &str, text: &str| {
        let (section_name, name) = key.split_once('.').unwrap();
        section(&format!("[{section_name}]\n{name} = {:?}", site.file(&text.trim().replace(' ', "-"), text).unwrap()))
    };
    let cases: [(&str, Vec<Change>, &[&str]); 18] = [
        (
            "an absent directory",
            site.path_to(&ldif, &site.path("none.ldif")),
            &["directory.ldif", "none.ldif: No such file"],
        ),
        (
            "no LDIF",
            other("html", "<html>maintenance</html>\n"),
            &["directory.ldif", "html: ", "line 1", "has no colon"],
        ),
        (
            "no provider",
            other("base", "dn: o=postacert\no: postacert\n"),
            &["directory.ldif", "the file holds no provider"],
        ),
        (
            "a record without mailReceipt",
            other("no-receipt", &whole.replace("mailReceipt:", "description:")),
            &["directory.ldif", "no mailReceipt, which every provider's record must have"],
        ),
        (
            "http",
            url("url = \"http://x.example/d.p7m\"\n"),
            &["directory.url: found", "expected a URL such as \"https://"],
        ),
        (
            "no CA of the server",
            url(&format!("{ldaps}bind_dn = \"cn=a\"\n")),
            &["directory.ca_file: missing; expected the CAs"],
        ),
        ("a name without password", url(&format!("{ldaps}bind_dn = \"cn=a\"\n")), &["directory.bind_dn: only beside"]),
        (
            "a certificate without its key",
            url(&format!("{ldaps}ca_file = {pem:?}\nclient_certificate = {pem:?}\n")),
            &["directory.client_certificate: only beside directory.client_key"],
        ),
        (
            "nobody who must have signed",
            url(&format!("{https}ca_file = {pem:?}\n")),
            &["directory.signer_certificate: missing; expected the certificate that signs the directory"],
        ),
        (
            "a CA file that is a key",
            url(&format!("{https}ca_file = {key:?}\nsigner_certificate = {pem:?}\n")),
            &["directory.ca_file holds no certificate of a CA"],
        ),
        (
            "a pin that is a chain",
            url(&format!("{https}ca_file = {pem:?}\nsigner_certificate = {:?}\n", site.own.chain)),
            &["directory.signer_certificate", "the file holds 2 certificates; it must hold the signer's alone"],
        ),
        (
            "a password that others may read",
            url(&format!("{ldaps}ca_file = {pem:?}\nbind_dn = \"cn=a\"\npassword_file = {open:?}\n")),
            &["directory.password_file", "run chmod 600 on it"],
        ),
        (
            "a limit of more than all",
            url(&format!("{ldaps}ca_file = {pem:?}\nmost_lost_percent = 101\n")),
            &["directory.most_lost_percent: found 101, expected 0 to 100"],
        ),
        (
            "a login without address",
            table("senders.map", "a@alfa.example\n"),
            &["senders.map: ", "line 1: a@alfa.example has no address"],
        ),
        (
            "an unquoted name",
            table("senders.certificates", "ca Anna a@alfa.example\n"),
            &["senders.certificates: ", "line 1: expected two names in quotes"],
        ),
        (
            "another provider's mailbox",
            table("receipts.map", "a@beta.example breve\n"),
            &["receipts.map: ", "a@beta.example lies in none of provider.mail_domains"],
        ),
        (
            "an unknown receipt",
            table("receipts.map", "a@alfa.example corta\n"),
            &["receipts.map: ", "line 1: ", "corta"],
        ),
        (
            "an unknown policy",
            table("ordinary.map", "a@alfa.example bounce\n"),
            &["ordinary.map: ", "line 1: found \"bounce\""],
        ),
    ];
    for (what, changes, words) in cases {
        site.is_refused(what, &changes, words).unwrap();
    }
}
