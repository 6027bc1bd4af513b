//! The database file: made for its owner alone, known to be ours, of the schema version this program writes.
//!
//! A file that is anything else is refused before a byte of it changes, with the remedy in the error.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use crate::adapters::sqlite::error::{Named, StoreError};

/// The schema, version by version: version N is what the first N of these make. Released ones never change.
pub(super) const MIGRATIONS: &[&str] =
    &[include_str!("schema.sql"), include_str!("watch.sql"), include_str!("search.sql")];

/// The statements that a connection keeps prepared: all that one commit or one question needs.
const STATEMENTS: usize = 64;

/// How long a lock of another process is waited for: longer than a reader's or a backup's moment, shorter than
/// anybody's patience with a mail server. Then the callers answer 4xx and Postfix tries again.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Marks the file as ours (`PRAGMA application_id`): "PECL".
const APPLICATION_ID: i64 = 0x5045_434C;

const OWNER_ONLY: u32 = 0o600;
const GROUP_AND_OTHERS: u32 = 0o077;

/// The one connection that writes; creates the file and upgrades its schema where needed.
pub(super) fn open_to_write(path: &Path, migrations: &[&str]) -> Result<Connection, StoreError> {
    create_or_check(path)?;
    sync_what_a_crash_left(path)?;
    let mut connection = open(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let version = version_of(&connection, path)?;
    refuse_newer(version, migrations, path)?;
    let mode: String = connection
        .query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))
        .named(path, "set the journal mode of")?;
    if mode != "wal" {
        return Err(StoreError::NoWriteAheadLog { path: path.to_owned(), mode });
    }
    connection.pragma_update(None, "synchronous", "FULL").named(path, "set the durability of")?;
    // What was removed after its retention is gone, not only out of sight.
    connection.pragma_update(None, "secure_delete", "ON").named(path, "set the deletion of")?;
    migrate(&mut connection, path, migrations)?;
    Ok(connection)
}

/// A connection that cannot write. Permissions are not asked about: an auditor's copy is the auditor's business.
pub(super) fn open_to_read(path: &Path) -> Result<Connection, StoreError> {
    refuse_missing(path)?;
    let connection = open(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let found = version_of(&connection, path)?;
    refuse_newer(found, MIGRATIONS, path)?;
    if found == 0 {
        return Err(StoreError::Empty { path: path.to_owned() });
    }
    if found < known(MIGRATIONS) {
        return Err(StoreError::Older { path: path.to_owned(), found, known: known(MIGRATIONS) });
    }
    Ok(connection)
}

/// For whoever does not make the file.
pub(super) fn refuse_missing(path: &Path) -> Result<(), StoreError> {
    match path.try_exists().named(path, "look at")? {
        true => Ok(()),
        false => Err(StoreError::Missing { path: path.to_owned() }),
    }
}

fn create_or_check(path: &Path) -> Result<(), StoreError> {
    match OpenOptions::new().write(true).create_new(true).mode(OWNER_ONLY).open(path) {
        Ok(file) => {
            // The umask may have taken bits from the mode; it must not decide.
            file.set_permissions(Permissions::from_mode(OWNER_ONLY)).named(path, "set the mode of")?;
            sync_folder(path)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            // By name: opening and closing the file here would drop the locks this process holds on it.
            let mode = fs::metadata(path).named(path, "read the mode of")?.permissions().mode() & 0o7777;
            if mode & GROUP_AND_OTHERS == 0 {
                Ok(())
            } else {
                Err(StoreError::Permissions { path: path.to_owned(), mode })
            }
        }
        Err(source) => Err(source).named(path, "create"),
    }
}

pub(super) fn sync_folder(path: &Path) -> Result<(), StoreError> {
    let real = fs::canonicalize(path).named(path, "resolve")?;
    let Some(folder) = real.parent() else { return Ok(()) };
    File::open(folder).and_then(|folder| folder.sync_all()).named(folder, "sync")
}

/// A daemon killed between writing a commit and syncing it leaves rows that are readable but not yet durable. They
/// would be found by their slots and told to users, so they are made durable first.
fn sync_what_a_crash_left(path: &Path) -> Result<(), StoreError> {
    let mut journal = fs::canonicalize(path).named(path, "resolve")?.into_os_string();
    journal.push("-wal");
    let journal = PathBuf::from(journal);
    match File::open(&journal) {
        Ok(file) => file.sync_all().named(&journal, "sync"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(source).named(&journal, "open"),
    }
}

fn open(path: &Path, access: OpenFlags) -> Result<Connection, StoreError> {
    // Without SQLITE_OPEN_URI, so that a path is a path also when it begins with `file:`.
    let connection = Connection::open_with_flags(path, access | OpenFlags::SQLITE_OPEN_NO_MUTEX).named(path, "open")?;
    connection.busy_timeout(BUSY_TIMEOUT).named(path, "set the lock timeout of")?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(connection)
}

/// The schema version of a file that is ours, 0 for an empty one.
fn version_of(connection: &Connection, path: &Path) -> Result<i64, StoreError> {
    let read = || -> rusqlite::Result<(i64, i64, i64)> {
        Ok((
            connection.pragma_query_value(None, "application_id", |row| row.get(0))?,
            connection.pragma_query_value(None, "user_version", |row| row.get(0))?,
            connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?,
        ))
    };
    let foreign = || StoreError::Foreign { path: path.to_owned() };
    match read() {
        Ok((APPLICATION_ID, version, _)) => Ok(version),
        Ok((0, 0, 0)) => Ok(0),
        Ok(_) => Err(foreign()),
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::NotADatabase) => Err(foreign()),
        Err(error) => Err(error).named(path, "read the header of"),
    }
}

/// Brings the schema to the version of `migrations`, in one transaction: all of it or nothing.
fn migrate(connection: &mut Connection, path: &Path, migrations: &[&str]) -> Result<(), StoreError> {
    const CALL: &str = "upgrade the schema of";
    if version_of(connection, path)? == known(migrations) {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).named(path, CALL)?;
    // Asked again under the lock: another process may just have upgraded it.
    let found = version_of(&transaction, path)?;
    refuse_newer(found, migrations, path)?;
    for (version, migration) in (1_i64..).zip(migrations) {
        if version > found {
            transaction.execute_batch(migration).named(path, CALL)?;
        }
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID).named(path, CALL)?;
    transaction.pragma_update(None, "user_version", known(migrations)).named(path, CALL)?;
    transaction.commit().named(path, CALL)
}

fn refuse_newer(found: i64, migrations: &[&str], path: &Path) -> Result<(), StoreError> {
    let known = known(migrations);
    if found > known {
        return Err(StoreError::Newer { path: path.to_owned(), found, known });
    }
    Ok(())
}

/// The schema version that `migrations` lead to.
fn known(migrations: &[&str]) -> i64 {
    i64::try_from(migrations.len()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    fn folder() -> (TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.db");
        (folder, path)
    }

    /// The migrations of a later program.
    fn with_later(further: &[&'static str]) -> Vec<&'static str> {
        [MIGRATIONS, &["CREATE TABLE later (x)"], further].concat()
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_new_file_belongs_to_its_owner_alone_and_is_durable() {
        let (_folder, path) = folder();
        let connection = open_to_write(&path, MIGRATIONS).unwrap();
        connection.execute_batch("BEGIN IMMEDIATE; CREATE TABLE t (x); COMMIT").unwrap();
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(&path.with_extension("db-wal")), 0o600);
        assert_eq!(version_of(&connection, &path).unwrap(), known(MIGRATIONS));
        let full: i64 = connection.pragma_query_value(None, "synchronous", |row| row.get(0)).unwrap();
        assert_eq!(full, 2);
    }

    #[test]
    fn a_file_open_to_others_is_refused_with_the_remedy() {
        let (_folder, path) = folder();
        drop(open_to_write(&path, MIGRATIONS).unwrap());
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        let error = open_to_write(&path, MIGRATIONS).unwrap_err();
        assert!(matches!(error, StoreError::Permissions { mode: 0o640, .. }));
        assert!(error.to_string().contains("(mode 0640); run `chmod 600"), "{error}");
        open_to_read(&path).unwrap();
    }

    #[test]
    fn a_file_of_another_program_is_refused_and_left_as_it_is() {
        let (folder, path) = folder();
        let text = folder.path().join("text");
        fs::write(&text, "x".repeat(4096)).unwrap();
        Connection::open(&path).unwrap().execute_batch("CREATE TABLE t (x)").unwrap();
        for foreign in [&path, &text] {
            fs::set_permissions(foreign, Permissions::from_mode(0o600)).unwrap();
            let before = fs::read(foreign).unwrap();
            assert!(matches!(open_to_write(foreign, MIGRATIONS), Err(StoreError::Foreign { .. })));
            assert!(matches!(open_to_read(foreign), Err(StoreError::Foreign { .. })));
            assert_eq!(fs::read(foreign).unwrap(), before);
        }
    }

    #[test]
    fn a_file_of_a_newer_version_is_refused_naming_both() {
        let (_folder, path) = folder();
        drop(open_to_write(&path, &with_later(&[])).unwrap());
        for error in [open_to_write(&path, MIGRATIONS).unwrap_err(), open_to_read(&path).unwrap_err()] {
            let StoreError::Newer { found, known, .. } = error else { panic!("{error}") };
            assert_eq!((found, known), (known + 1, super::known(MIGRATIONS)));
        }
    }

    #[test]
    fn an_empty_file_becomes_a_log_and_an_older_log_is_upgraded() {
        let (_folder, path) = folder();
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        assert!(matches!(open_to_read(&path), Err(StoreError::Empty { .. })));
        drop(open_to_write(&path, MIGRATIONS).unwrap());
        let upgraded = open_to_write(&path, &with_later(&[])).unwrap();
        assert_eq!(version_of(&upgraded, &path).unwrap(), known(MIGRATIONS) + 1);
        upgraded.execute("INSERT INTO later VALUES (1)", []).unwrap();
    }

    #[test]
    fn a_migration_that_fails_changes_nothing() {
        let (_folder, path) = folder();
        drop(open_to_write(&path, MIGRATIONS).unwrap());
        assert!(matches!(open_to_write(&path, &with_later(&["nonsense"])), Err(StoreError::Sqlite { .. })));
        let connection = open_to_write(&path, MIGRATIONS).unwrap();
        let tables: i64 = connection
            .query_row("SELECT count(*) FROM sqlite_schema WHERE name = 'later'", [], |row| row.get(0))
            .unwrap();
        assert_eq!(tables, 0);
    }
}
