//! The store of originals, out of which complete and brief receipts are made again (§2.3): below its folder one folder per
//! day, in it one file (`NAME.original`) for each certified message.
//!
//! The day is that of the arrival here, so that a day's originals go when its events go. A name is the SHA-256 of the PEC
//! msgid, because ids of other providers hold what no file name can. A file is compressed, then encrypted (`sealed`), then
//! written beside its place, synced and renamed: it is there whole, or not at all, and is not written a second time.

mod sealed;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use jiff::civil::Date;
use sha2::{Digest, Sha256};

pub use sealed::{KeyError, OriginalsKey, Unreadable};

use crate::adapters::durable::{self, FileError};
use crate::model::{PecMsgid, TemporalReference};
use crate::operations::ports::{DayStore, OriginalFault, OriginalStore, OutsideFault, Pending};

const EXTENSION: &str = "original";

/// The store below one folder. Clones share their key.
#[derive(Debug, Clone)]
pub struct Originals {
    folder: PathBuf,
    key: Arc<OriginalsKey>,
}

/// Why the store did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum OriginalsError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("the original could not be compressed and encrypted for {}", path.display())]
    Sealing {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} cannot be read back", path.display())]
    Unreadable {
        path: PathBuf,
        #[source]
        source: Unreadable,
    },
}

impl Originals {
    /// Makes the folder if it is not there.
    pub fn open(folder: &Path, key: OriginalsKey) -> Result<Self, OriginalsError> {
        durable::make_folder(folder)?;
        Ok(Self::at(folder, key))
    }

    /// For reading; a folder that is not there holds nothing.
    pub fn at(folder: &Path, key: OriginalsKey) -> Self {
        Originals { folder: folder.to_owned(), key: Arc::new(key) }
    }

    fn write(&self, original: &Bytes, id: &PecMsgid, arrived: TemporalReference) -> Result<(), OriginalsError> {
        let day = self.folder.join(arrived.date().to_string());
        let path = day.join(file_name(id));
        if path.try_exists().map_err(FileError::of("look at", &path))? {
            return Ok(());
        }
        durable::make_folder(&day)?;
        let (header, content) =
            self.key.seal(original, id).map_err(|source| OriginalsError::Sealing { path: path.clone(), source })?;
        Ok(durable::write(&path, [header.as_slice(), content.as_slice()].into_iter())?)
    }

    fn read(&self, id: &PecMsgid, arrived: TemporalReference) -> Result<Option<Bytes>, OriginalsError> {
        let path = self.folder.join(arrived.date().to_string()).join(file_name(id));
        let octets = match fs::read(&path) {
            Ok(octets) => octets,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(FileError::of("read", &path)(error).into()),
        };
        let original = self.key.open(octets, id).map_err(|source| OriginalsError::Unreadable { path, source })?;
        Ok(Some(original.into()))
    }
}

/// What a purge asks of the store: it needs no key.
#[derive(Debug, Clone)]
pub struct Shelves(PathBuf);

impl Shelves {
    /// A folder that is not there holds nothing.
    pub fn at(folder: &Path) -> Self {
        Shelves(folder.to_owned())
    }
}

impl DayStore for Shelves {
    fn holds_what(&self) -> &'static str {
        "originals"
    }

    fn days(&self) -> Result<Vec<Date>, OutsideFault> {
        Ok(durable::days(&self.0)?.into_iter().map(|(day, _)| day).collect())
    }

    fn remove(&self, day: Date) -> Result<(), OutsideFault> {
        Ok(durable::remove_folder(&self.0.join(day.to_string()))?)
    }
}

/// Ids of other providers hold what a file name cannot.
fn file_name(id: &PecMsgid) -> String {
    let digest = Sha256::digest(id.as_str());
    let name: String = digest.iter().map(|octet| format!("{octet:02x}")).collect();
    format!("{name}.{EXTENSION}")
}

impl OriginalStore for Originals {
    fn keep<'a>(
        &'a self,
        original: &'a Bytes,
        id: &'a PecMsgid,
        arrived: TemporalReference,
    ) -> Pending<'a, Result<(), OriginalFault>> {
        let (store, original, id) = (self.clone(), original.clone(), id.clone());
        Box::pin(async move {
            let writing = tokio::task::spawn_blocking(move || store.write(&original, &id, arrived));
            writing.await.map_err(OriginalFault::of)?.map_err(OriginalFault::of)
        })
    }

    fn original<'a>(
        &'a self,
        id: &'a PecMsgid,
        arrived: TemporalReference,
    ) -> Pending<'a, Result<Option<Bytes>, OriginalFault>> {
        let (store, id) = (self.clone(), id.clone());
        Box::pin(async move {
            let reading = tokio::task::spawn_blocking(move || store.read(&id, arrived));
            reading.await.map_err(OriginalFault::of)?.map_err(OriginalFault::of)
        })
    }
}

#[cfg(test)]
mod tests;
