//! A copy of the log while it is written (§2.3).
//!
//! SQLite itself writes the copy, out of one snapshot; the write-ahead log only grows meanwhile. The copy gets its name when
//! it is whole, durable, sound as a database, and ends with the row that it says it ends with. A copy that was not finished
//! keeps the name of one.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::adapters::sqlite::error::{Named, StoreError};
use crate::adapters::sqlite::{file, reader, row};
use crate::crash;
use crate::legal_log::Link;

const OWNER_ONLY: u32 = 0o600;

pub(super) fn backup(path: &Path, to: &Path) -> Result<Link, StoreError> {
    if fs::symlink_metadata(to).is_ok() {
        return Err(StoreError::Exists { path: to.to_owned() });
    }
    let unfinished = unfinished(to);
    match fs::remove_file(&unfinished) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error).named(&unfinished, "remove"),
        _ => {}
    }
    // Made here, so that nobody else can open it at any moment.
    let made = File::options().write(true).create_new(true).open(&unfinished).named(&unfinished, "create")?;
    made.set_permissions(Permissions::from_mode(OWNER_ONLY)).named(&unfinished, "set the mode of")?;
    let copied = copy(path, &unfinished).and_then(|last| {
        crash::point("backup-copied");
        made.sync_all().named(&unfinished, "sync")?;
        // A link fails where a file has come to be meanwhile, a rename would take its place.
        fs::hard_link(&unfinished, to).named(to, "create")?;
        Ok(last)
    });
    fs::remove_file(&unfinished).named(&unfinished, "remove")?;
    let last = copied?;
    file::sync_folder(to)?;
    Ok(last)
}

fn copy(path: &Path, unfinished: &Path) -> Result<Link, StoreError> {
    const CALL: &str = "copy";
    let source = file::open_to_read(path)?;
    let name = unfinished.to_str().ok_or_else(|| StoreError::NotText { path: unfinished.to_owned() })?;
    source.execute("VACUUM INTO ?1", [name]).named(path, CALL)?;
    let copy = file::open_to_read(unfinished)?;
    let verdict: String =
        copy.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).named(unfinished, "check the pages of")?;
    if verdict != "ok" {
        return Err(StoreError::Damaged { path: unfinished.to_owned(), verdict });
    }
    reader::check_tail(&copy, unfinished)?;
    row::last_link(&copy, unfinished)
}

fn unfinished(to: &Path) -> PathBuf {
    let mut name = to.as_os_str().to_owned();
    name.push(".unfinished");
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::sqlite::SqliteLog;
    use crate::legal_log::{Entry, EventKind};
    use crate::model::TemporalReference;
    use crate::operations::ports::EventLog;

    #[tokio::test]
    async fn a_copy_is_a_log_that_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let (path, to) = (folder.path().join("log.db"), folder.path().join("copy.db"));
        let log = SqliteLog::open(&path).unwrap();
        let entry = |at| Entry::new(EventKind::Arrival, TemporalReference::from_unix(at));
        log.record(vec![entry(1), entry(2)]).await.unwrap();
        // What a copy that was killed left behind is no obstacle.
        fs::write(unfinished(&to), "half").unwrap();
        assert_eq!(backup(&path, &to).unwrap().sequence, 2);
        assert_eq!(fs::metadata(&to).unwrap().permissions().mode() & 0o7777, 0o600);
        assert!(!unfinished(&to).exists());
        log.record(vec![entry(3)]).await.unwrap();
        let copy = SqliteLog::open(&to).unwrap();
        assert_eq!(copy.record(vec![entry(4)]).await.unwrap()[0].sequence, 3);
        assert_eq!(copy.reader().verify_chain().await.unwrap().sequence, 3);
        let error = backup(&path, &to).unwrap_err().to_string();
        assert!(error.contains("copy.db is there already"), "{error}");
    }

    #[test]
    fn without_a_log_there_is_no_copy() {
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("copy.db");
        assert!(backup(&folder.path().join("none.db"), &to).is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
