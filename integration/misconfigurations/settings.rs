//! The keys of the file: what is misspelt, missing, or does not go together.

use crate::configuration::{Change, Site, one, section};

#[test]
fn trust_check_config_explains_every_misuse_of_the_keys_of_the_file() {
    let site = Site::new().unwrap();
    let (code, said) = site.command("check-config", &site.text()).unwrap();
    // No server is here, the scanner neither.
    let is_warning = |line: &&str| line.starts_with("warning") && !line.contains("virus.clamd: no connection to clamd");
    assert!(code == Some(0) && !said.lines().any(|line| is_warning(&line)), "{said}");
    let cases: [(&str, Vec<Change>, &[&str]); 26] = [
        ("no TOML", one("[key]", "[key"), &[":7: not TOML"]),
        ("an unknown section", one("[virus]", "[viruses]"), &[": viruses: unknown section; the sections are provider"]),
        ("an unknown key", one("ca_file", "ca_fle"), &[":12: trust.ca_fle: unknown key; known keys here are ca_file"]),
        ("no section", one("[provider]", "metrics = 3\n[provider]"), &[":1: metrics: not a section; write [metrics]"]),
        ("an absent key", one("ca_file", "# ca_file"), &[" trust.ca_file: missing; expected the path of a file"]),
        (
            "another form",
            section("[limits]\nrecipients = \"many\""),
            &["limits.recipients: found \"many\", expected a"],
        ),
        ("no key", one("[key]\n", "[key]\n[keys]\n"), &[":7: key: no key; expected private_key and certificate"]),
        (
            "two keys",
            one("[key]\n", "[key]\npkcs12 = \"/k\"\n"),
            &["key.pkcs12: more than one form of the key; keep one"],
        ),
        (
            "a PIN for a file",
            one("[key]\n", "[key]\npin_file = \"/p\"\n"),
            &["key.pin_file: only for a key in a token"],
        ),
        (
            "an engine for a token",
            one("private_key =", "engine = \"rsa\"\npkcs11_module ="),
            &["key.engine: only for a key in files"],
        ),
        ("a foreign mailbox", one("ricevute@alfa", "ricevute@beta"), &["provider.service_mailbox", "lies in none of"]),
        ("another local part", one("posta-certificata@", "pec@"), &["provider.sending_address", "expected posta-"]),
        (
            "a domain twice",
            one("[\"alfa.example\"]", "[\"alfa.example\", \"Alfa.Example\"]"),
            &["provider.mail_domains: alfa.example stands there twice"],
        ),
        ("an unknown group", one("\"root\"", "\"nessuno\""), &["listen.socket_group: there is no group nessuno"]),
        (
            "two sockets in one place",
            one("[listen]\n", "[listen]\naccess = \"unix:/a\"\nlmtp = \"unix:/a\"\n"),
            &["listen.lmtp: the same socket as listen.access"],
        ),
        (
            "two maps of logins",
            section("[senders]\nmap = \"/m\"\nsqlite = \"/s\"\nquery = \"SELECT :login\""),
            &["senders.sqlite: both forms of the logins' map"],
        ),
        ("nobody who may send", section("[senders]\nlisted_only = true"), &["senders.listed_only: nobody could send"]),
        (
            "a domain verified twice",
            section("[tls]\nverify = [\"b.example\", \"b.example match=mx.b.example\"]"),
            &["tls.verify: b.example stands there twice"],
        ),
        (
            "nowhere to forward",
            section("[ordinary]\npolicy = \"forward\""),
            &["ordinary.forward_to: missing; expected an address"],
        ),
        (
            "somewhere to forward nothing",
            section("[ordinary]\nforward_to = \"a@x.example\""),
            &["ordinary.forward_to: only for policy = \"forward\""],
        ),
        (
            "a limit below the decree",
            section("[limits]\nrecipients = 49"),
            &["limits.recipients: found 49, expected at least 50"],
        ),
        (
            "a notice that is late",
            section("[timeouts]\nfinal_seconds = 86401"),
            &["timeouts.final_seconds: found 86401, expected 1 to 86400"],
        ),
        (
            "notices in the wrong order",
            section("[timeouts]\nfirst_seconds = 9\nfinal_seconds = 9"),
            &["timeouts.final_seconds: found 9, expected more than timeouts.first_seconds"],
        ),
        (
            "a directory from two places",
            one("[directory]\n", "[directory]\nurl = \"ldaps://x\"\nca_file = \"/c\"\n"),
            &["directory.ldif: not beside directory.url"],
        ),
        (
            "a pin for a local directory",
            one("[directory]\n", "[directory]\nsigner_certificate = \"/c\"\n"),
            &["directory.signer_certificate: only beside directory.url"],
        ),
        (
            "a list that nobody brings",
            one("crl_files", "crl_fetch = false\n# crl_files"),
            &["trust.crl_files: missing; expected the files of the revocation lists"],
        ),
    ];
    for (what, changes, words) in cases {
        site.is_refused(what, &changes, words).unwrap();
    }
}
