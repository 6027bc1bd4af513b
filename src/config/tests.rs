use super::*;

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
            source: KeySource::Pem {
                private_key: "/etc/pec-milter/key.pem".into(),
                certificate: "/etc/pec-milter/certificate.pem".into()
            },
            passphrase_file: None,
            engine: Engine::AwsLcRs,
        }
    );
    assert!(config.trust.accept_sha1);
    assert_eq!((config.directory.ldif.as_deref(), config.senders.map.as_deref()), (None, None));
    assert_eq!(config.limits, Limits { message_bytes: 104_857_600, product_bytes: 52_428_800_000, recipients: 500 });
    assert_eq!((config.timeouts.first_seconds, config.timeouts.final_seconds), (43_200, 86_400));
    assert_eq!(config.listen.access.path(), Path::new("/var/spool/postfix/pec-milter/access"));
    assert_eq!(config.postfix.inject.socket_addr().to_string(), "127.0.0.1:10025");
    assert_eq!(config.log.database, Path::new("/var/lib/pec-milter/log.sqlite"));
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
[trust]
ca_file = "/ca.pem"
accept_sha1 = false
[directory]
ldif = "/d.ldif"
[senders]
map = "/s"
[limits]
message_bytes = 0x4000000
product_bytes = 30_000_000
recipients = 50
[timeouts]
first_seconds = 2
final_seconds = 4
[listen]
access = "unix:/a"
incoming = "unix:/i"
bounces = "unix:/b"
lmtp = "unix:/l"
socket_group = "mail"
[postfix]
inject = "[::1]:26"
[dovecot]
lmtp = "192.0.2.1:24"
[log]
database = "/l.db"
"#,
    )
    .unwrap();
    assert_eq!(config.provider.name, "D'Alfa \"PEC\"");
    assert_eq!(config.provider.mail_domains.len(), 2);
    assert_eq!(config.key.source, KeySource::Pkcs12("/k.p12".into()));
    assert_eq!((config.key.passphrase_file.as_deref(), config.key.engine), (Some(Path::new("/k.pass")), Engine::Rsa));
    assert!(!config.trust.accept_sha1);
    assert_eq!(config.directory.ldif.as_deref(), Some(Path::new("/d.ldif")));
    assert_eq!(config.senders.map.as_deref(), Some(Path::new("/s")));
    assert_eq!(config.limits, Limits { message_bytes: 67_108_864, product_bytes: 30_000_000, recipients: 50 });
    assert_eq!(config.listen.bounces.path(), Path::new("/b"));
    assert_eq!((config.timeouts.first_seconds, config.timeouts.final_seconds), (2, 4));
    assert_eq!((config.listen.lmtp.path(), config.listen.socket_group.as_str()), (Path::new("/l"), "mail"));
    assert_eq!(config.postfix.inject.socket_addr().to_string(), "[::1]:26");
    assert_eq!(config.dovecot.lmtp, Endpoint::Tcp("192.0.2.1:24".parse().unwrap()));
    assert_eq!(parse(&config.to_string()).unwrap().to_string(), config.to_string());
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
        ":9: keys: unknown section; the sections are provider, key, trust, directory,",
        ":10: key: no key; expected private_key and certificate, or pkcs12",
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
        ("[directory]\nldif", &["true", "\"https://x\""]),
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
        ("[key]\n", "[key]\npkcs12 = \"/k\"\n", ":7: key.pkcs12: both forms of the key"),
        ("private_key", "# private_key", ": key.private_key: missing; expected the private key of certificate"),
        ("certificate =", "# certificate =", ": key.certificate: missing; expected the certificate of private_key"),
        ("[key]\n", "[limits]\nrecipients = 49\n[key]\n", ":7: limits.recipients: found 49, expected at least 50"),
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
fn a_file_that_is_not_toml_is_refused_with_its_lines() {
    let told = errors("[provider\nname = \"x\"\n\nname = = 3\n");
    assert!(told.len() >= 2, "{told:?}");
    assert!(told[0].starts_with(":1: not TOML: "), "{told:?}");
    assert!(told.iter().any(|line| line.starts_with(":4: not TOML: ")), "{told:?}");
    assert!(errors(&LEAST.replace("[key]", "[provider]")).iter().any(|line| line.contains("not TOML")));
    assert_eq!(
        errors(&format!("log = 3\n{LEAST}")),
        [":1: log: not a section; write [log] on a line of its own and its keys below"]
    );
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let error = Config::read(Path::new("/nonexistent/pec-milter.toml")).unwrap_err();
    assert_eq!(error.to_string(), "/nonexistent/pec-milter.toml: the configuration cannot be read");
    assert!(std::error::Error::source(&error).is_some());
}

#[test]
fn odd_files_never_panic() {
    for text in
        ["", "\0", "\u{feff}", "[a.b.c]", "provider = []", "[[provider]]", "provider.name.x = 1", "\"\" = 1", "[\"\"]"]
    {
        assert!(parse(text).is_err(), "{text:?}");
    }
    for end in 0..LEAST.len() {
        let _ = parse(&LEAST[..end]);
        let _ = parse(&format!("{}\u{1}é{}", &LEAST[..end], &LEAST[end..]));
    }
}
