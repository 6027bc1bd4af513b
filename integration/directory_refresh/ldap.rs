//! The directory over LDAP, from a slapd with the schema of §4.5.

use std::fs;

use anyhow::{Context, ensure};
use pec_testbed::publisher::{Publisher, READER, READER_PASSWORD};

use crate::{alfa_with, directory, grown, marking, refuses, succeeds, wait_for_log};

#[test]
fn trust_a_directory_comes_over_ldap_page_by_page_and_only_whole() {
    let publisher = Publisher::new().unwrap();
    alfa_with(&publisher.ldaps_settings()).test(|testbed| {
        let alfa = testbed.host("alfa")?;
        let configuration = &alfa.daemon()?.configuration;
        let text = fs::read_to_string(configuration)?;
        let all = grown(testbed, 250)?;
        let counts = "251 providers with 501 domains";

        // No more than 60 entries to anybody who does not ask page by page.
        publisher.start_ldap(&all, true, "sizelimit size.soft=60 size.hard=60 size.pr=100 size.prtotal=unlimited")?;
        let before = alfa.daemon()?.log().len();
        ensure!(succeeds(alfa, &["refresh"])?.contains(counts));
        wait_for_log(alfa, before, "providers directory in force")?;
        assert_eq!(marking(testbed, "qualcuno@due.p249.example")?, "certificato");
        ensure!(succeeds(alfa, &["refresh"])?.contains("unchanged"), "the same entries give the same file");
        let without_certificate: String =
            text.lines().filter(|line| !line.starts_with("client_")).map(|line| format!("{line}\n")).collect();
        fs::write(configuration, without_certificate)?;
        refuses(alfa, &["refresh"], "directory.client_certificate")?;
        fs::write(configuration, &text)?;

        // A server that gives a part only.
        publisher.start_ldap(&all, true, "sizelimit size.soft=60 size.hard=60 size.pr=30 size.prtotal=60")?;
        refuses(alfa, &["refresh"], "did not give all")?;
        // One that has handed a part of the tree to another server.
        let part = "dn: ou=altrove,o=postacert\nobjectClass: referral\nobjectClass: extensibleObject\nou: altrove\n\
            ref: ldap://altrove.example/ou=altrove,o=postacert\n";
        publisher.start_ldap(&format!("{}\n\n{part}", all.trim_end()), true, "")?;
        refuses(alfa, &["refresh"], "ldap://altrove.example/ou=altrove,o=postacert")?;
        publisher.start_ldap(&all, true, "")?;
        fs::write(configuration, text.replace("/o=postacert\"", "/o=altro\""))?;
        refuses(alfa, &["refresh"], "is the base in directory.url right")?;
        fs::write(
            configuration,
            text.replace(&format!("{:?}", publisher.pki.tls_root()), &format!("{:?}", testbed.pki.tls_root())),
        )?;
        refuses(alfa, &["refresh"], "gives no answer")?;
        fs::write(configuration, &text)?;
        publisher.start_ldap(&grown(testbed, 200)?, true, "")?;
        refuses(alfa, &["refresh"], "50 of 251 providers are gone")?;
        let base = all.split_once("\n\n").context("no base")?.0.to_owned() + "\n";
        publisher.start_ldap(&base, true, "")?;
        refuses(alfa, &["refresh"], "it is empty")?;
        publisher.start_ldap(&all.replace("ricevute@gestore.example", "nessuno"), true, "")?;
        refuses(alfa, &["refresh"], "mailReceipt is not an address")?;
        ensure!(directory(alfa, &["show"])?.1.contains(counts), "the old one is in force");

        let own = publisher.show_another_name()?;
        publisher.start_ldap(&all, true, "")?;
        refuses(alfa, &["refresh"], "gives no answer")?;
        publisher.show(own);

        // STARTTLS, with a name and a password.
        publisher.start_ldap(&all, false, "")?;
        let password = testbed.folder().join("password");
        fs::write(&password, format!("{READER_PASSWORD}\n"))?;
        publisher.give_to_providers(&password)?;
        let keys = format!("{}bind_dn = {READER:?}\npassword_file = {password:?}\n", publisher.starttls_settings());
        let starttls = text.replace(&publisher.ldaps_settings(), &keys);
        ensure!(starttls != text, "no LDAP settings in\n{text}");
        fs::write(configuration, &starttls)?;
        ensure!(succeeds(alfa, &["refresh"])?.contains("unchanged"));
        fs::write(&password, "un'altra\n")?;
        refuses(alfa, &["refresh"], "does not let cn=alfa,o=postacert in")?;
        fs::write(configuration, text.replace(&publisher.ldaps_settings(), &publisher.starttls_settings()))?;
        refuses(alfa, &["refresh"], "did not give all")?;
        ensure!(directory(alfa, &["show"])?.1.contains(counts), "the old one is in force");
        testbed.wait_for_empty_queues()
    });
}
