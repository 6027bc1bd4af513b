//! The store of revocation lists (§2.2.2): below its folder one file for each list in force, under the name of its CA key
//! and scope.
//!
//! A file is text: where the list came from and when, the list in PEM, the CA's certificate in PEM; `openssl crl -in`
//! reads it. It is written beside its place, synced and renamed. What is read from it is believed no more than what a
//! server sent: the list must be signed by a CA that leads to a root of today.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use openssl::error::ErrorStack;
use tempfile::NamedTempFile;

use crate::model::TemporalReference;
use crate::smime::{RevocationList, Trust, pem};

const OWNER_ONLY: u32 = 0o700;
const EXTENSION: &str = "crl";
const SOURCE: &str = "Source: ";
const FETCHED: &str = "Fetched (Unix time): ";

/// The store below one folder.
#[derive(Debug, Clone)]
pub struct ListStore {
    folder: PathBuf,
}

/// A list with what is known of its way here.
pub struct StoredList {
    pub list: RevocationList,
    /// The address or file that it came from.
    pub source: String,
    /// When it came, as Unix time.
    pub fetched: i64,
}

/// What the store holds: what can be used, and a line for each file that cannot.
#[derive(Default)]
pub struct Stored {
    pub lists: Vec<StoredList>,
    pub unusable: Vec<String>,
}

/// Why the store did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum ListStoreError {
    #[error("cannot {action} {}", path.display())]
    File {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("a revocation list could not be written as text")]
    Pem(#[from] ErrorStack),
}

impl ListStoreError {
    fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| ListStoreError::File { action, path, source }
    }
}

impl ListStore {
    /// Makes the folder if it is not there, and makes sure that files can be written into it.
    pub fn open(folder: &Path) -> Result<Self, ListStoreError> {
        match DirBuilder::new().mode(OWNER_ONLY).create(folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists || !folder.is_dir() => {
                return Err(ListStoreError::file("make", folder)(error));
            }
            _ => {}
        }
        NamedTempFile::new_in(folder).map_err(ListStoreError::file("write into", folder))?;
        Ok(Self::at(folder))
    }

    /// For reading; a folder that is not there holds nothing.
    pub fn at(folder: &Path) -> Self {
        ListStore { folder: folder.to_owned() }
    }

    /// Puts a list in the place of the one before it.
    pub fn keep(&self, list: &RevocationList, source: &str, at: TemporalReference) -> Result<(), ListStoreError> {
        let name: String = list.scope().iter().take(16).map(|octet| format!("{octet:02x}")).collect();
        let path = self.folder.join(name).with_extension(EXTENSION);
        let head = format!("{SOURCE}{source}\n{FETCHED}{}\n", at.unix());
        let text = [head.into_bytes(), list.to_pem()?, list.issuer().to_pem()?].concat();
        let write = || -> io::Result<()> {
            let mut beside = NamedTempFile::new_in(&self.folder)?;
            beside.write_all(&text)?;
            beside.as_file().sync_all()?;
            beside.persist(&path)?;
            File::open(&self.folder)?.sync_all()
        };
        write().map_err(ListStoreError::file("write", &path))
    }

    /// All lists that are signed by a CA that is trusted now.
    pub fn load(&self, trust: &Trust, at: TemporalReference) -> Result<Stored, ListStoreError> {
        let mut stored = Stored::default();
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(stored),
            Err(error) => return Err(ListStoreError::file("read", &self.folder)(error)),
        };
        for entry in entries {
            let path = entry.map_err(ListStoreError::file("read", &self.folder))?.path();
            if path.extension().is_none_or(|extension| extension != EXTENSION) {
                continue;
            }
            let text = fs::read(&path).map_err(ListStoreError::file("read", &path))?;
            // A CA that only messages bring stands in the file itself; if it is unreadable, it is no help.
            let issuers = pem::certificates(&text).unwrap_or_default();
            match trust.read_list(&text, &issuers, at) {
                Ok(list) => {
                    let value = |name| value(&text, name).unwrap_or_default();
                    let fetched = value(FETCHED).parse().unwrap_or_default();
                    stored.lists.push(StoredList { list, source: value(SOURCE), fetched });
                }
                Err(error) => stored.unusable.push(format!("{}: {error}", path.display())),
            }
        }
        stored.lists.sort_by(|one, other| one.list.issuer_name().cmp(other.list.issuer_name()));
        Ok(stored)
    }
}

/// The value of a line of the head.
fn value(text: &[u8], name: &str) -> Option<String> {
    let lines = text.split(|octet| *octet == b'\n').take(2);
    let mut values = lines.filter_map(|line| line.strip_prefix(name.as_bytes()));
    values.next().map(|value| String::from_utf8_lossy(value).into_owned())
}
