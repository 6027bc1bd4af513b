mod odd_files;

use super::*;
use crate::model::{OrdinaryPolicy, Retention};
use crate::smime::WithoutList;

const LEAST: &str = r#"[provider]
name = "Alfa PEC S.p.A."
sending_address = "posta-certificata@alfa.example"
service_mailbox = "ricevute@alfa.example"
mail_domains = ["alfa.example"]
[key]
private_key = "/etc/pec-milter/key.pem"
certificate = "/etc/pec-milter/certificate.pem"
[trust]
ca_file = "/etc/pec-milter/ca.pem"
"#;

fn parse(text: &str) -> Result<Config, ConfigErrors> {
    Config::parse(Path::new("/etc/pec-milter.toml"), text)
}

/// What is wrong, a line each, without the name of the file.
fn errors(text: &str) -> Vec<String> {
    let errors = parse(text).unwrap_err().to_string();
    errors.lines().map(|line| line.strip_prefix("/etc/pec-milter.toml").unwrap().to_owned()).collect()
}

#[test]
fn the_least_file_gives_a_whole_configuration() {
    let config = parse(LEAST).unwrap();
    assert_eq!(config.provider.name, "Alfa PEC S.p.A.");
    assert_eq!(config.provider.mail_domains, ["alfa.example".parse().unwrap()]);
    assert_eq!(
        config.key,
        Key {
            material: KeyMaterial {
                source: KeySource::Pem {
                    private_key: "/etc/pec-milter/key.pem".into(),
                    certificate: "/etc/pec-milter/certificate.pem".into()
                },
                passphrase_file: None,
                engine: Engine::AwsLcRs,
            },
            previous_certificates: Vec::new(),
        }
    );
    assert_eq!((config.next_key.is_none(), config.metrics.listen), (true, None));
    assert!(config.trust.accept_sha1 && config.trust.crl_fetch && config.trust.crl_files.is_empty());
    assert_eq!((config.trust.crl_update_seconds, config.trust.crl_missing), (3600, WithoutList::Refuse));
    assert_eq!(config.trust.crl_store, Path::new("/var/lib/pec-milter/crl"));
    assert_eq!(config.directory.source, None);
    assert_eq!(config.senders, Senders { logins: LoginMap::None, certificates: None, listed_only: false });
    assert_eq!(config.tls, Tls { verify: Vec::new() });
    assert_eq!(config.receipts.map, None);
    assert_eq!(config.ordinary, Ordinary { policy: OrdinaryPolicy::Anomaly, map: None, ask_mailboxes: true });
    assert_eq!(config.limits, Limits { message_bytes: 104_857_600, product_bytes: 52_428_800_000, recipients: 500 });
    assert_eq!((config.timeouts.first_seconds, config.timeouts.final_seconds), (43_200, 86_400));
    assert_eq!(config.listen.access.path(), Path::new("/var/spool/postfix/pec-milter/access"));
    assert_eq!(config.postfix.inject.socket_addr().to_string(), "127.0.0.1:10025");
    assert_eq!(config.log.database, Path::new("/var/lib/pec-milter/log.sqlite"));
    assert_eq!(config.log.seals, Path::new("/var/lib/pec-milter/seals"));
    assert_eq!((config.log.retention, &config.log.tsa), (Retention::LEAST, &None));
    let store = "/var/lib/pec-milter/originals".into();
    assert_eq!(config.log.originals, Originals { are_kept: false, store, key_file: None });
    assert_eq!(config.virus, Virus { clamd: None, timeout_seconds: 120, store: "/var/lib/pec-milter/virus".into() });
}

#[test]
fn every_key_is_read() {
    let config = parse(
        r#"
provider.name = "D'Alfa \"PEC\""
provider.sending_address = "Posta-Certificata@ALFA.example"
provider.service_mailbox = "ricevute@pec.alfa.example"
provider.mail_domains = [
    "alfa.example",
    "PEC.alfa.example",
]
[key]
pkcs12 = "/k.p12"
passphrase_file = "/k.pass"
engine = "rsa"
previous_certificates = ["/2025.pem", "/2026.pem"]
[next_key]
certificate = "/next.pem"
pkcs11_module = "/m.so"
pkcs11_token = "pec"
pkcs11_key = "2027"
pin_file = "/pin"
pkcs11_sessions = 8
starts = "2027-01-15T00:00:00+01:00"
[trust]
ca_file = "/ca.pem"
accept_sha1 = false
crl_files = ["/a.crl", "/b.crl"]
crl_fetch = false
crl_update_seconds = 60
crl_missing = "accept"
crl_store = "/crl"
[directory]
ldif = "/d.ldif"
[senders]
sqlite = "/s"
query = "SELECT address FROM senders WHERE login = :login"
certificates = "/c"
listed_only = true
[tls]
verify = ["beta.example", "gamma.example match=mx.gamma.example:.gamma.example"]
[limits]
message_bytes = 0x4000000
product_bytes = 30_000_000
recipients = 50
[receipts]
map = "/r"
[ordinary]
policy = "forward"
forward_to = "ordinaria@gamma.example"
map = "/o"
ask_mailboxes = false
[timeouts]
first_seconds = 2
final_seconds = 4
[listen]
access = "unix:/a"
incoming = "unix:/i"
bounces = "unix:/b"
lmtp = "unix:/l"
tls_policy = "unix:/t"
socket_group = "mail"
[postfix]
inject = "[::1]:26"
[dovecot]
lmtp = "192.0.2.1:24"
[log]
database = "/l.db"
seals = "/s"
retention_months = 60
tsa_url = "https://tsa.example/tsr?a=b"
tsa_ca_file = "/t.pem"
tsa_user = "alfa"
tsa_password_file = "/t.password"
keep_originals = true
originals = "/o"
originals_key_file = "/o.key"
[virus]
clamd = "127.0.0.1:3310"
timeout_seconds = 30
store = "/v"
[metrics]
listen = "[::1]:9309"
"#,
    )
    .unwrap();
    assert_eq!(config.provider.name, "D'Alfa \"PEC\"");
    assert_eq!(config.provider.mail_domains.len(), 2);
    let key = &config.key.material;
    assert_eq!(key.source, KeySource::Pkcs12("/k.p12".into()));
    assert_eq!((key.passphrase_file.as_deref(), key.engine), (Some(Path::new("/k.pass")), Engine::Rsa));
    assert_eq!(config.key.previous_certificates, [Path::new("/2025.pem"), Path::new("/2026.pem")]);
    let next = config.next_key.as_ref().unwrap();
    assert_eq!(next.starts.unix(), 1_799_967_600);
    let token = TokenKey {
        module: "/m.so".into(),
        token: "pec".into(),
        key: "2027".into(),
        pin_file: "/pin".into(),
        sessions: 8,
        certificate: "/next.pem".into(),
    };
    assert_eq!(next.material.source, KeySource::Token(token));
    assert_eq!(config.metrics.listen, "[::1]:9309".parse().ok());
    assert!(!config.trust.accept_sha1 && !config.trust.crl_fetch);
    assert_eq!(config.trust.crl_files, [Path::new("/a.crl"), Path::new("/b.crl")]);
    assert_eq!((config.trust.crl_update_seconds, config.trust.crl_missing), (60, WithoutList::Accept));
    assert_eq!(config.trust.crl_store, Path::new("/crl"));
    assert_eq!(config.directory.source, Some(DirectorySource::Ldif("/d.ldif".into())));
    let query = "SELECT address FROM senders WHERE login = :login".to_owned();
    let logins = LoginMap::Sqlite { database: "/s".into(), query };
    assert_eq!(config.senders, Senders { logins, certificates: Some("/c".into()), listed_only: true });
    let [plain, named] = &config.tls.verify[..] else { panic!("two domains") };
    assert_eq!((plain.names.len(), named.names.len(), named.domain.as_str()), (0, 2, "gamma.example"));
    assert_eq!(config.limits, Limits { message_bytes: 67_108_864, product_bytes: 30_000_000, recipients: 50 });
    assert_eq!(config.receipts.map.as_deref(), Some(Path::new("/r")));
    let policy = OrdinaryPolicy::Forward("ordinaria@gamma.example".parse().unwrap());
    assert_eq!(config.ordinary, Ordinary { policy, map: Some("/o".into()), ask_mailboxes: false });
    assert_eq!(config.listen.bounces.path(), Path::new("/b"));
    assert_eq!(config.listen.tls_policy.path(), Path::new("/t"));
    assert_eq!((config.timeouts.first_seconds, config.timeouts.final_seconds), (2, 4));
    assert_eq!((config.listen.lmtp.path(), config.listen.socket_group.as_str()), (Path::new("/l"), "mail"));
    assert_eq!(config.postfix.inject.socket_addr().to_string(), "[::1]:26");
    assert_eq!(config.dovecot.lmtp, Endpoint::Tcp("192.0.2.1:24".parse().unwrap()));
    let Log { retention, tsa: Some(tsa), originals, .. } = &config.log else { panic!() };
    assert_eq!((retention.number(), config.log.seals.as_path()), (60, Path::new("/s")));
    assert_eq!((tsa.url.as_str(), tsa.ca_file.as_path()), ("https://tsa.example/tsr?a=b", Path::new("/t.pem")));
    assert_eq!(tsa.user, Some(("alfa".into(), "/t.password".into())));
    let key_file = Some("/o.key".into());
    assert_eq!(*originals, Originals { are_kept: true, store: "/o".into(), key_file });
    let LocalEndpoint::Tcp(clamd) = config.virus.clamd.as_ref().unwrap() else { panic!("not TCP") };
    assert_eq!(clamd.socket_addr().to_string(), "127.0.0.1:3310");
    assert_eq!((config.virus.timeout_seconds, config.virus.store.as_path()), (30, Path::new("/v")));
    assert_eq!(parse(&config.to_string()).unwrap().to_string(), config.to_string());
}

#[test]
fn originals_of_an_earlier_time_are_named_where_none_are_kept_any_more() {
    for keep in ["", "keep_originals = false\n"] {
        let lines = format!("[log]\n{keep}originals = \"/o\"\noriginals_key_file = \"/o.key\"\n");
        let config = parse(&format!("{LEAST}{lines}")).unwrap();
        let key_file = Some("/o.key".into());
        assert_eq!(config.log.originals, Originals { are_kept: false, store: "/o".into(), key_file });
        assert_eq!(parse(&config.to_string()).unwrap().log, config.log);
    }
}

#[test]
fn what_is_printed_reads_as_the_same_configuration() {
    let printed = parse(LEAST).unwrap().to_string();
    assert!(printed.starts_with("[provider]\nname = \"Alfa PEC S.p.A.\"\n"), "{printed}");
    assert!(printed.contains("\n\n[limits]\nmessage_bytes = 104857600  # default\n"), "{printed}");
    assert!(printed.contains("\n[senders]\n# map is not set\n"), "{printed}");
    let again = parse(&printed).unwrap().to_string();
    assert_eq!(again, printed.replace("  # default", ""));
}

#[test]
fn a_location_names_file_line_and_key() {
    let config = parse(LEAST).unwrap();
    assert_eq!(config.location("key.private_key"), "/etc/pec-milter.toml:7: key.private_key");
    assert_eq!(config.location("log.database"), "/etc/pec-milter.toml: log.database");
}

#[test]
fn everything_wrong_is_told_at_once_in_the_order_of_the_file() {
    let text = r#"[provider]
nome = "Alfa"
sending_address = "posta-certificata"
service_mailbox = "ricevute@alfa.example"
mail_domains = [
    "alfa.example",
    "b_eta.example",
]
[keys]
[key]
certificat = "x"
[limits]
recipients = "many"
[postfix]
inject = "192.0.2.1:25"
"#;
    let told = errors(text);
    let expected = [
        ":1: provider.name: missing; expected a text on one line",
        ":2: provider.nome: unknown key; known keys here are name, sending_address, service_mailbox, mail_domains",
        ":3: provider.sending_address: found \"posta-certificata\", expected an address such as",
        ":7: provider.mail_domains: found \"b_eta.example\", expected a list of domain names",
        ":9: keys: unknown section; the sections are provider, key, next_key, trust, directory,",
        ":10: key: no key; expected private_key and certificate, or pkcs12, or",
        ":11: key.certificat: unknown key; known keys here are private_key, certificate, pkcs12,",
        ":13: limits.recipients: found \"many\", expected a whole number",
        ":15: postfix.inject: found \"192.0.2.1:25\", expected a loopback address and a port",
        ": trust.ca_file: missing; expected the path of a file from the root",
    ];
    assert_eq!(told.len(), expected.len(), "{told:#?}");
    for (told, expected) in told.iter().zip(expected) {
        assert!(told.starts_with(expected), "{told}\n{expected}");
    }
}

#[test]
fn values_that_are_not_of_the_form_are_refused() {
    for (section, values) in [
        ("[log]\ndatabase", ["\"log.sqlite\"", "\"\"", "\"/var/\"", "3", "[\"/x\"]", "\"/a\\nb\""].as_slice()),
        (
            "[limits]\nrecipients",
            &["-1", "1.5", "\"50\"", "99999999999999999999", "true", "50_000_000_000_000_000_000"],
        ),
        ("[listen]\naccess", &["\"/run/a\"", "\"unix:run/a\"", "\"127.0.0.1:1\"", "\"unix:\"", "{}"]),
        ("[listen]\nsocket_group", &["\"\"", "\" a\"", "\"a\\u0000\"", "0"]),
        ("[postfix]\ninject", &["\"localhost:25\"", "\"127.0.0.1\"", "\"127.0.0.1:0\"", "\"0.0.0.0:25\"", "25"]),
        ("[dovecot]\nlmtp", &["\"dovecot:24\"", "\"unix:lmtp\"", "\"127.0.0.1:70000\"", "\"/run/dovecot/lmtp\""]),
        ("[ordinary]\npolicy", &["\"bounce\"", "true", "\"\""]),
        ("[directory]\nldif", &["true", "\"https://x\""]),
        (
            "[directory]\nurl",
            &[
                "\"http://x/d.p7m\"",
                "\"x\"",
                "\"ftp://x/\"",
                "\"https://user:pw@x/\"",
                "\"ldaps://x/%zz\"",
                "\"ldap:///o=p\"",
            ],
        ),
        ("[senders]\nlisted_only", &["\"yes\"", "1"]),
        ("[tls]\nverify", &["\"beta.example\"", "[\"beta.example verify\"]", "[\"b.example match=a b\"]", "[3]"]),
        ("[log]\nretention_months", &["29", "1201", "\"30\""]),
        ("[log]\nkeep_originals", &["1"]),
        ("[virus]\nclamd", &["\"/run/clamd\"", "\"192.0.2.1:3310\"", "\"localhost:3310\"", "false"]),
        ("[virus]\ntimeout_seconds", &["0", "241", "\"30\""]),
    ] {
        for value in values {
            let told = errors(&format!("{LEAST}{section} = {value}\n"));
            assert_eq!(told.len(), 1, "{section} = {value}: {told:?}");
            assert!(told[0].starts_with(":12: ") && told[0].contains(", expected "), "{told:?}");
        }
    }
    let long = format!("{LEAST}[listen]\naccess = \"unix:/{}\"\n", "a".repeat(107));
    assert!(errors(&long)[0].contains("at most 107 characters"));
    assert!(parse(&long.replace("/a", "/")).is_ok());
}

#[test]
fn rules_across_keys_name_the_key_to_change() {
    let cases = [
        ("posta-certificata@alfa", "pec@alfa", ":3: provider.sending_address: found pec@alfa.example, expected posta-"),
        (
            "certificata@alfa",
            "certificata@beta",
            ":3: provider.sending_address: posta-certificata@beta.example lies in",
        ),
        ("ricevute@alfa", "ricevute@beta", ":4: provider.service_mailbox: ricevute@beta.example lies in none of"),
        (
            "[\"alfa.example\"]",
            "[\"alfa.example\", \"ALFA.example.\"]",
            ":5: provider.mail_domains: alfa.example stands",
        ),
        ("[key]\n", "[key]\npkcs12 = \"/k\"\n", ":7: key.pkcs12: more than one form of the key"),
        ("[key]\n", "[key]\npin_file = \"/p\"\n", ":7: key.pin_file: only for a key in a token; set key.pkcs11_module"),
        ("[key]\n", "[key]\npkcs11_module = \"/m\"\n", ":8: key.private_key: more than one form of the key"),
        (
            "private_key = \"/etc/pec-milter/key.pem\"",
            "pkcs11_module = \"/m\"",
            ": key.pkcs11_token: missing; expected the label of the token",
        ),
        (
            "private_key = \"/etc/pec-milter/key.pem\"",
            "pkcs11_module = \"/m\"\nengine = \"rsa\"",
            ":8: key.engine: only for a key in files",
        ),
        (
            "private_key = \"/etc/pec-milter/key.pem\"",
            "pkcs11_module = \"/m\"\npkcs11_token = \"t\"\npkcs11_key = \"k\"\npin_file = \"/p\"\npkcs11_sessions = 65",
            ":11: key.pkcs11_sessions: found 65, expected 1 to 64",
        ),
        (
            "[trust]\n",
            "[next_key]\npkcs12 = \"/k\"\n[trust]\n",
            ": next_key.starts: missing; expected an instant with its offset",
        ),
        (
            "[trust]\n",
            "[next_key]\nstarts = \"2027-01-15T00:00:00+01:00\"\n[trust]\n",
            ":9: next_key: no key; expected private_key and certificate",
        ),
        (
            "[trust]\n",
            "[next_key]\npkcs12 = \"/k\"\nstarts = \"15/01/2027\"\n[trust]\n",
            ":11: next_key.starts: found \"15/01/2027\", expected an instant with its offset",
        ),
        ("private_key", "# private_key", ": key.private_key: missing; expected the private key of certificate"),
        ("certificate =", "# certificate =", ": key.certificate: missing; expected the certificate of private_key"),
        ("[key]\n", "[limits]\nrecipients = 49\n[key]\n", ":7: limits.recipients: found 49, expected at least 50"),
        (
            "[key]\n",
            "[ordinary]\npolicy = \"forward\"\n[key]\n",
            ": ordinary.forward_to: missing; expected an address such as",
        ),
        (
            "[key]\n",
            "[ordinary]\nforward_to = \"a@x.example\"\n[key]\n",
            ":7: ordinary.forward_to: only for policy = \"forward\"",
        ),
        ("[key]\n", "[senders]\nsqlite = \"/s\"\n[key]\n", ": senders.query: missing; expected a query such as"),
        ("[key]\n", "[senders]\nquery = \"SELECT\"\n[key]\n", ": senders.sqlite: missing; expected the path"),
        (
            "[key]\n",
            "[senders]\nmap = \"/m\"\nsqlite = \"/s\"\nquery = \"SELECT\"\n[key]\n",
            ":8: senders.sqlite: both forms of the logins' map; keep either map, or sqlite and query",
        ),
        ("[key]\n", "[senders]\nlisted_only = true\n[key]\n", ":7: senders.listed_only: nobody could send: name"),
        (
            "[key]\n",
            "[tls]\nverify = [\"b.example\", \"B.example match=x.example\"]\n[key]\n",
            ":7: tls.verify: b.example stands there twice",
        ),
        (
            "[key]\n",
            "[limits]\nmessage_bytes = 1\nproduct_bytes = 30000000\n[key]\n",
            ":7: limits.message_bytes: found 1,",
        ),
        (
            "[key]\n",
            "[timeouts]\nfirst_seconds = 0\n[key]\n",
            ":7: timeouts.first_seconds: found 0, expected 1 to 43200",
        ),
        (
            "[key]\n",
            "[timeouts]\nfinal_seconds = 86401\n[key]\n",
            ":7: timeouts.final_seconds: found 86401, expected 1 to 86400",
        ),
        (
            "[key]\n",
            "[timeouts]\nfirst_seconds = 9\nfinal_seconds = 9\n[key]\n",
            ":8: timeouts.final_seconds: found 9, expected more than timeouts.first_seconds, which is 9",
        ),
        ("[key]\n", "[log]\ntsa_ca_file = \"/c\"\n[key]\n", ":7: log.tsa_ca_file: only beside log.tsa_url"),
        ("[key]\n", "[log]\ntsa_user = \"u\"\n[key]\n", ":7: log.tsa_user: only beside log.tsa_password_file"),
        ("[key]\n", "[log]\ntsa_url = \"http://t/\"\n[key]\n", ": log.tsa_ca_file: missing; expected the CAs"),
        (
            "[key]\n",
            "[log]\nkeep_originals = true\n[key]\n",
            ": log.originals_key_file: missing; expected a file of 32",
        ),
        ("[key]\n", "[directory]\nca_file = \"/c\"\n[key]\n", ":7: directory.ca_file: only beside directory.url"),
        (
            "[key]\n",
            "[directory]\nurl = \"https://x/d\"\nca_file = \"/c\"\n[key]\n",
            ": directory.signer_certificate: missing; expected the certificate that signs the directory",
        ),
        (
            "[key]\n",
            "[directory]\nurl = \"ldaps://x\"\nca_file = \"/c\"\nsigner_ca_file = \"/s\"\n[key]\n",
            ":9: directory.signer_ca_file: only beside an https: URL in directory.url",
        ),
        (
            "[key]\n",
            "[directory]\nurl = \"ldaps://x\"\nca_file = \"/c\"\nmost_lost_percent = 101\n[key]\n",
            ":9: directory.most_lost_percent: found 101, expected 0 to 100",
        ),
        ("[key]\n", "[directory]\nstale_hours = 3\n[key]\n", ":7: directory.stale_hours: only beside directory.url"),
        (
            "[key]\n",
            "[directory]\nurl = \"ldaps://x\"\nca_file = \"/c\"\nldif = \"/d\"\n[key]\n",
            ":9: directory.ldif: not beside directory.url; keep one of the two",
        ),
        (
            "[key]\n",
            "[directory]\nurl = \"ldaps://x\"\nca_file = \"/c\"\nclient_key = \"/k\"\n[key]\n",
            ":9: directory.client_key: only beside directory.client_certificate; set that too or take this out",
        ),
        (
            "[key]\n",
            "[listen]\nlmtp = \"unix:/var/spool/postfix/pec-milter/access\"\n[key]\n",
            ":7: listen.lmtp: the same socket as listen.access",
        ),
    ];
    for (old, new, expected) in cases {
        let told = errors(&LEAST.replacen(old, new, 1));
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].starts_with(expected), "{told:?}\n{expected}");
    }
}

#[test]
fn a_fetched_directory_is_read_and_printed_with_all_its_keys() {
    let https = "[directory]\nurl = \"https://directory.example:8443/providers.ldif.p7m\"\nca_file = \"/ca\"\n\
                 client_certificate = \"/cc\"\nclient_key = \"/ck\"\nsigner_certificate = \"/sc\"\nstore = \"/st\"\n\
                 most_lost_percent = 0\nstale_hours = 72\n";
    let ldap = "[directory]\nurl = \"ldap://directory.example/ou=a%20b,o=postacert\"\nca_file = \"/ca\"\n\
                bind_dn = \"cn=alfa,o=postacert\"\npassword_file = \"/pw\"\n";
    for (section, is_ldap) in [(https, false), (ldap, true)] {
        let config = parse(&format!("{LEAST}{section}")).unwrap();
        let remote = config.directory.remote().unwrap();
        assert_eq!((remote.url.is_ldap(), remote.bind.is_some(), remote.signer.is_none()), (is_ldap, is_ldap, is_ldap));
        let printed = config.to_string();
        for line in section.lines() {
            assert!(printed.contains(&format!("{line}\n")), "{line} in\n{printed}");
        }
        assert_eq!(parse(&printed).unwrap().directory, config.directory);
    }
    let config = parse(&format!("{LEAST}{ldap}")).unwrap();
    let url = &config.directory.remote().unwrap().url;
    assert_eq!(
        (url.ldap_server().as_str(), url.ldap_base().as_str()),
        ("ldap://directory.example", "ou=a b,o=postacert")
    );
    assert_eq!((config.directory.most_lost_percent, config.directory.stale_hours), (5, 48));
}
