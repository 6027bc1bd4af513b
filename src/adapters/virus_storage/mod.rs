//! The store of infected messages (§2.2.4): below its folder one folder per day, in it for each message its octets
//! (`NAME.eml`) and what is known of it (`NAME.json`).
//!
//! A message is kept when its `.json` is there, which is written last; each file is written beside its place, synced and
//! renamed, and so are the folders synced. The name comes from day, PEC msgid and content, so that keeping a message
//! again writes the same files. Only whole days that are past their retention are removed. Files are for their owner
//! alone: what lies here is dangerous, and private.

mod record;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use jiff::civil::Date;
use sha2::{Digest, Sha256};

pub use record::Record;

use crate::adapters::durable::{self, FileError};
use crate::message::Pieces;
use crate::operations::ports::{DayStore, Infected, OutsideFault, Pending, StoreFault, VirusStore};

/// How much of a PEC msgid stands in a name: file names have at most 255 octets.
const MOST_OF_ID: usize = 150;

/// The store below one folder.
#[derive(Debug, Clone)]
pub struct VirusStorage {
    folder: PathBuf,
}

/// Why the store did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("{} is not a record of the virus store", path.display())]
    Record {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error("{0:?} is not the name of a stored message; virus list tells them")]
    Unknown(String),
    #[error("{} does not have the SHA-256 of its record: it was altered", .0.display())]
    Altered(PathBuf),
}

impl VirusStorage {
    /// Makes the folder if it is not there.
    pub fn open(folder: &Path) -> Result<Self, StorageError> {
        durable::make_folder(folder)?;
        Ok(VirusStorage { folder: folder.to_owned() })
    }

    /// For reading; a folder that is not there holds nothing.
    pub fn at(folder: &Path) -> Self {
        VirusStorage { folder: folder.to_owned() }
    }

    /// What was found from a day to another, both included, the earliest first.
    pub fn list(&self, from: Option<Date>, to: Option<Date>) -> Result<Vec<Record>, StorageError> {
        let mut records = Vec::new();
        for (day, folder) in durable::days(&self.folder)? {
            if from.is_some_and(|from| day < from) || to.is_some_and(|to| day > to) {
                continue;
            }
            for path in durable::entries(&folder)? {
                if path.extension().is_some_and(|extension| extension == "json") {
                    records.push(record::read(&path)?);
                }
            }
        }
        records.sort_by(|one, other| (one.at, &one.name).cmp(&(other.at, &other.name)));
        Ok(records)
    }

    /// What is known of one message.
    pub fn show(&self, name: &str) -> Result<Record, StorageError> {
        let path = self.path(name, "json")?;
        match path.try_exists() {
            Ok(true) => record::read(&path),
            Ok(false) => Err(StorageError::Unknown(name.to_owned())),
            Err(error) => Err(FileError::of("look at", &path)(error).into()),
        }
    }

    /// Copies one message, octet by octet, into a new file for its owner alone.
    pub fn export(&self, name: &str, to: &Path) -> Result<Record, StorageError> {
        let record = self.show(name)?;
        let path = self.path(name, "eml")?;
        let octets = fs::read(&path).map_err(FileError::of("read", &path))?;
        if record::hexadecimal(&Sha256::digest(&octets)) != record.sha256 {
            return Err(StorageError::Altered(path));
        }
        let mut file = durable::new_file(to).map_err(FileError::of("make", to))?;
        file.write_all(&octets).and_then(|()| file.sync_all()).map_err(FileError::of("write", to))?;
        Ok(record)
    }

    fn write(&self, message: &Pieces, about: &Infected) -> Result<String, StorageError> {
        let record = Record::new(message, about);
        let (octets, facts) = (self.path(&record.name, "eml")?, self.path(&record.name, "json")?);
        let folder = self.folder.join(about.at.date().to_string());
        durable::make_folder(&folder)?;
        if !facts.exists() {
            durable::write(&octets, message.iter().map(AsRef::as_ref))?;
            durable::write(&facts, [record.to_json().as_bytes()].into_iter())?;
        }
        Ok(record.name)
    }

    /// Where a file of a message lies. A name that leads elsewhere is none.
    fn path(&self, name: &str, extension: &str) -> Result<PathBuf, StorageError> {
        let unknown = || StorageError::Unknown(name.to_owned());
        let day: Date = name.get(..10).and_then(|day| day.parse().ok()).ok_or_else(unknown)?;
        if !name.chars().all(record::may_stand_in_name) {
            return Err(unknown());
        }
        Ok(self.folder.join(day.to_string()).join(format!("{name}.{extension}")))
    }
}

impl DayStore for VirusStorage {
    fn holds_what(&self) -> &'static str {
        "infected messages"
    }

    fn days(&self) -> Result<Vec<Date>, OutsideFault> {
        Ok(durable::days(&self.folder)?.into_iter().map(|(day, _)| day).collect())
    }

    fn remove(&self, day: Date) -> Result<(), OutsideFault> {
        Ok(durable::remove_folder(&self.folder.join(day.to_string()))?)
    }
}

impl VirusStore for VirusStorage {
    fn keep<'a>(&'a self, message: &'a Pieces, about: &'a Infected) -> Pending<'a, Result<String, StoreFault>> {
        let (storage, message, about) = (self.clone(), message.clone(), about.clone());
        Box::pin(async move {
            let writing = tokio::task::spawn_blocking(move || storage.write(&message, &about));
            match writing.await {
                Ok(written) => written.map_err(|error| StoreFault(Box::new(error))),
                Err(error) => Err(StoreFault(Box::new(error))),
            }
        })
    }
}

#[cfg(test)]
mod tests;
