use std::fs;
use std::path::Path;

use rusqlite::Connection;

use super::*;
use crate::operations::ports::Senders as _;

const QUERY: &str = "SELECT address FROM senders WHERE login = :login";

fn address(text: &str) -> Address {
    text.parse().unwrap()
}

fn login(text: &str) -> User {
    User::Login(text.to_owned())
}

fn certificate(issuer: &str, subject: &str) -> User {
    User::Certificate { issuer: issuer.to_owned(), subject: subject.to_owned() }
}

fn map_at(file: &Path) -> TableFile<SenderMap> {
    TableFile::open(file, |text| {
        SenderMap::parse(text).map_err(|errors| errors.iter().map(ToString::to_string).collect())
    })
    .unwrap()
}

fn certificates_at(file: &Path) -> TableFile<CertificateMap> {
    let parse =
        |text: &str| CertificateMap::parse(text).map_err(|errors| errors.iter().map(ToString::to_string).collect());
    TableFile::open(file, parse).unwrap()
}

/// A database with these rows.
fn database(file: &Path, rows: &[(&str, &str)]) -> Connection {
    let connection = Connection::open(file).unwrap();
    connection.execute_batch("CREATE TABLE senders (login TEXT, address TEXT)").unwrap();
    for row in rows {
        connection.execute("INSERT INTO senders VALUES (?1, ?2)", *row).unwrap();
    }
    connection
}

#[test]
fn a_login_is_its_own_sender_unless_only_what_is_listed_counts() {
    let folder = tempfile::tempdir().unwrap();
    let map = folder.path().join("senders");
    fs::write(&map, "anna@alfa.example info@alfa.example\n").unwrap();
    let mut senders = Senders { logins: Logins::File(map_at(&map)), ..Senders::default() };
    let may =
        |senders: &Senders, as_whom: &str| senders.may_send_as(&login("anna@alfa.example"), &address(as_whom)).unwrap();
    assert!(may(&senders, "anna@alfa.example") && may(&senders, "info@alfa.example"));
    assert!(!may(&senders, "carla@alfa.example"));
    senders.listed_only = true;
    assert!(!may(&senders, "anna@alfa.example") && may(&senders, "info@alfa.example"));
    fs::write(&map, "").unwrap();
    assert!(!may(&senders, "info@alfa.example"));
}

#[test]
fn a_map_that_cannot_be_used_is_a_fault_for_whoever_needs_it() {
    let folder = tempfile::tempdir().unwrap();
    let map = folder.path().join("senders");
    fs::write(&map, "").unwrap();
    let senders = Senders { logins: Logins::File(map_at(&map)), ..Senders::default() };
    fs::write(&map, "anna@alfa.example\n").unwrap();
    let anna = login("anna@alfa.example");
    assert!(senders.may_send_as(&anna, &address("anna@alfa.example")).unwrap());
    assert!(senders.may_send_as(&anna, &address("info@alfa.example")).is_err());
    fs::remove_file(&map).unwrap();
    assert!(senders.may_send_as(&anna, &address("info@alfa.example")).is_err());
}

#[test]
fn a_certificate_needs_a_line_whatever_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let map = folder.path().join("certificates");
    fs::write(&map, "\"Users\" \"Anna Bianchi\" anna@alfa.example\n").unwrap();
    let anna = address("anna@alfa.example");
    let senders = Senders { certificates: Some(certificates_at(&map)), ..Senders::default() };
    assert!(senders.may_send_as(&certificate("Users", "Anna Bianchi"), &anna).unwrap());
    assert!(!senders.may_send_as(&certificate("Others", "Anna Bianchi"), &anna).unwrap());
    assert!(!senders.may_send_as(&certificate("Users", "anna@alfa.example"), &anna).unwrap());
    assert!(!senders.may_send_as(&login("Anna Bianchi"), &anna).unwrap());
    assert!(!Senders::default().may_send_as(&certificate("Users", "anna@alfa.example"), &anna).unwrap());
    fs::write(&map, "Users Anna anna@alfa.example\n").unwrap();
    assert!(senders.may_send_as(&certificate("Users", "Anna Bianchi"), &anna).is_err());
}

#[test]
fn a_login_is_bound_and_never_read_as_sql() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("users.sqlite");
    let connection =
        database(&file, &[("anna", "anna@alfa.example"), ("anna", "info@alfa.example"), ("o'x", "o@x.example")]);
    let senders = SqliteSenders::new(&file, QUERY);
    senders.check().unwrap();
    assert!(senders.lists("Anna", &address("INFO@alfa.example")).unwrap());
    assert!(senders.lists("o'x", &address("o@x.example")).unwrap());
    assert!(!senders.lists("x' OR '1'='1", &address("anna@alfa.example")).unwrap());
    assert!(!senders.lists("bruno", &address("anna@alfa.example")).unwrap());
    // Changed in place, and by another file.
    connection.execute("DELETE FROM senders WHERE address = 'info@alfa.example'", []).unwrap();
    assert!(!senders.lists("anna", &address("info@alfa.example")).unwrap());
    let other = folder.path().join("other.sqlite");
    drop(database(&other, &[]));
    fs::rename(&other, &file).unwrap();
    assert!(!senders.lists("anna", &address("anna@alfa.example")).unwrap());
}

#[test]
fn a_database_that_gives_no_addresses_is_a_fault() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("users.sqlite");
    let missing = SqliteSenders::new(&file, QUERY).check().unwrap_err();
    assert!(matches!(missing, SqliteFault::Sqlite { call: "open", .. }), "{missing:?}");
    let connection = database(&file, &[("anna", "no address")]);
    let senders = SqliteSenders::new(&file, QUERY);
    let error = senders.lists("anna", &address("anna@alfa.example")).unwrap_err();
    assert!(matches!(error, SqliteFault::NotAnAddress { .. }), "{error:?}");
    connection.execute("UPDATE senders SET address = NULL", []).unwrap();
    assert!(senders.lists("anna", &address("anna@alfa.example")).is_err());
    let error = |query: &str| SqliteSenders::new(&file, query).check().unwrap_err();
    assert!(matches!(error("SELECT address FROM senders"), SqliteFault::Parameters { found: 0 }));
    assert!(matches!(error("SELECT address FROM senders WHERE login = ?"), SqliteFault::Parameters { found: 1 }));
    assert!(matches!(error("SELECT * FROM senders WHERE login = :login"), SqliteFault::Columns { found: 2 }));
    assert!(matches!(error("DELETE FROM senders WHERE login = :login RETURNING address"), SqliteFault::Writes));
    assert!(matches!(error("SELECT nothing WHERE :login"), SqliteFault::Sqlite { call: "ask", .. }));
    drop(connection);
    fs::write(&file, "no database at all, but long enough to be looked at as one").unwrap();
    assert!(senders.check().is_err());
}
