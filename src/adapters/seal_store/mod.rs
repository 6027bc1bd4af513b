//! The folder of the seals (§2.3): up to four files of one name for each, as `legal_log::seal` describes them.
//!
//! `NAME.rows` are the exported rows, `NAME.seal` is the text that binds them, `NAME.p7s` its signature, `NAME.tsr` the
//! stamp over that. Each is written beside its place, synced and renamed, so that a file with its name is whole. Whoever
//! changes something holds the lock; reading needs none. Anything else in the folder is left alone. Files are for their
//! owner: the rows say who wrote to whom.

mod evidence;

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use jiff::civil::Date;
use nix::fcntl::{Flock, FlockArg};

use crate::adapters::durable::{self, FileError, Growing};
pub use crate::legal_log::seal::{Found, Part};
use crate::legal_log::seal::{Seal, SealError};
use crate::operations::ports::{OutsideFault, SealStore};

const LOCK: &str = ".lock";
const OWNER_ONLY_FILE: u32 = 0o600;

/// A seal has some hundred octets, a signature or stamp some thousand: more was not written here.
const LARGEST: u64 = 1024 * 1024;

/// The folder of the seals.
#[derive(Debug, Clone)]
pub struct SealFolder {
    folder: PathBuf,
}

/// Why the folder did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum SealFolderError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("{} is too large for what it should be", .0.display())]
    TooLarge(PathBuf),
    #[error("{} is no seal", path.display())]
    NoSeal {
        path: PathBuf,
        #[source]
        source: SealError,
    },
}

/// Held by whoever changes the folder; another process waits.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "it is held, not asked")] Flock<File>);

/// Exported rows that grow until they get their name.
#[derive(Debug)]
pub struct NewRows {
    folder: PathBuf,
    growing: Growing,
}

impl SealFolder {
    /// For reading; a folder that is not there holds nothing.
    pub fn at(folder: &Path) -> Self {
        SealFolder { folder: folder.to_owned() }
    }

    /// Makes the folder if it is not there.
    pub fn open(folder: &Path) -> Result<Self, SealFolderError> {
        durable::make_folder(folder)?;
        Ok(Self::at(folder))
    }

    /// Where a file lies.
    pub fn path(&self, name: &str, part: Part) -> PathBuf {
        self.folder.join(format!("{name}.{}", part.ending()))
    }

    /// Everything of the form of a seal's file, by number.
    pub fn list(&self) -> Result<Vec<Found>, SealFolderError> {
        let mut found: Vec<Found> = Vec::new();
        let mut files: Vec<_> = durable::entries(&self.folder)?.iter().filter_map(|path| file_of(path)).collect();
        files.sort_by(|one, other| (one.0, &one.1).cmp(&(other.0, &other.1)));
        for (number, name, part) in files {
            match found.last_mut().filter(|last| last.name == name) {
                Some(last) => last.parts.push(part),
                None => found.push(Found { number, name, parts: vec![part] }),
            }
        }
        Ok(found)
    }

    /// The octets of a file other than the rows; none where it is not there.
    pub fn read(&self, name: &str, part: Part) -> Result<Option<Vec<u8>>, SealFolderError> {
        let path = self.path(name, part);
        match fs::metadata(&path) {
            Ok(metadata) if metadata.len() > LARGEST => return Err(SealFolderError::TooLarge(path)),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(FileError::of("look at", &path)(error).into()),
        }
        let octets = fs::read(&path).map_err(FileError::of("read", &path))?;
        Ok(Some(octets))
    }

    /// A seal as it is read; none where its file is not there. What it says of itself need not be true of its name.
    pub fn seal(&self, name: &str) -> Result<Option<Seal>, SealFolderError> {
        let Some(octets) = self.read(name, Part::Seal)? else { return Ok(None) };
        // What is no UTF-8 is the text of no seal either: the replacement shows in its form.
        let seal = Seal::from_text(&String::from_utf8_lossy(&octets));
        let no_seal = |source| SealFolderError::NoSeal { path: self.path(name, Part::Seal), source };
        seal.map(Some).map_err(no_seal)
    }

    /// The exported rows, to be read line by line; none where they are not there.
    pub fn rows(&self, name: &str) -> Result<Option<BufReader<File>>, SealFolderError> {
        let path = self.path(name, Part::Rows);
        match File::open(&path) {
            Ok(file) => Ok(Some(BufReader::new(file))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(FileError::of("open", &path)(error).into()),
        }
    }

    /// Writes a file other than the rows.
    pub fn write(&self, name: &str, part: Part, octets: &[u8]) -> Result<(), SealFolderError> {
        Ok(durable::write(&self.path(name, part), [octets].into_iter())?)
    }

    /// Rows whose name is not known before the last of them.
    pub fn new_rows(&self) -> Result<NewRows, SealFolderError> {
        let growing = Growing::beside(&self.folder.join(Part::Rows.ending()))?;
        Ok(NewRows { folder: self.folder.clone(), growing })
    }

    /// Removes a file, if it is there.
    pub fn remove(&self, name: &str, part: Part) -> Result<(), SealFolderError> {
        let path = self.path(name, part);
        match durable::remove(&path) {
            Err(FileError { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => Ok(removed?),
        }
    }

    /// Waits until nobody else changes the folder; then removes what a process left that died while it wrote. Blocks.
    pub fn lock(&self) -> Result<Lock, SealFolderError> {
        let path = self.folder.join(LOCK);
        let file = OpenOptions::new().write(true).open(&path).or_else(|error| match error.kind() {
            io::ErrorKind::NotFound => durable::new_file(&path).or_else(|error| match error.kind() {
                // Another process has just made it.
                io::ErrorKind::AlreadyExists => OpenOptions::new().write(true).mode(OWNER_ONLY_FILE).open(&path),
                _ => Err(error),
            }),
            _ => Err(error),
        });
        let file = file.map_err(FileError::of("open", &path))?;
        let lock = Flock::lock(file, FlockArg::LockExclusive)
            .map_err(|(_, errno)| FileError::of("lock", &path)(errno.into()))?;
        for unfinished in durable::entries(&self.folder)?.iter().filter(|path| durable::is_unfinished(path)) {
            durable::remove(unfinished)?;
        }
        Ok(Lock(lock))
    }
}

impl SealStore for SealFolder {
    type Rows = NewRows;
    type Lock = Lock;

    fn lock(&self) -> Result<Lock, OutsideFault> {
        // The daemon makes it when it starts, a command may come before.
        durable::make_folder(&self.folder)?;
        Ok(SealFolder::lock(self)?)
    }

    fn list(&self) -> Result<Vec<Found>, OutsideFault> {
        Ok(SealFolder::list(self)?)
    }

    fn read(&self, name: &str, part: Part) -> Result<Option<Vec<u8>>, OutsideFault> {
        Ok(SealFolder::read(self, name, part)?)
    }

    fn rows(&self, name: &str) -> Result<Option<Box<dyn BufRead>>, OutsideFault> {
        Ok(SealFolder::rows(self, name)?.map(|rows| Box::new(rows) as Box<dyn BufRead>))
    }

    fn new_rows(&self) -> Result<NewRows, OutsideFault> {
        Ok(SealFolder::new_rows(self)?)
    }

    fn append(&self, rows: &mut NewRows, octets: &[u8]) -> Result<(), OutsideFault> {
        Ok(rows.append(octets)?)
    }

    fn finish(&self, rows: NewRows, name: &str) -> Result<(), OutsideFault> {
        Ok(rows.finish(name)?)
    }

    fn write(&self, name: &str, part: Part, octets: &[u8]) -> Result<(), OutsideFault> {
        Ok(SealFolder::write(self, name, part, octets)?)
    }

    fn remove(&self, name: &str, part: Part) -> Result<(), OutsideFault> {
        Ok(SealFolder::remove(self, name, part)?)
    }
}

impl NewRows {
    pub fn append(&mut self, octets: &[u8]) -> Result<(), SealFolderError> {
        Ok(self.growing.append(octets)?)
    }

    /// Gives them their name, whole and durable.
    pub fn finish(self, name: &str) -> Result<(), SealFolderError> {
        let path = self.folder.join(format!("{name}.{}", Part::Rows.ending()));
        Ok(self.growing.finish(&path)?)
    }
}

/// What a file of a seal is, by its name: `000012-2026-07-15.seal`.
fn file_of(path: &Path) -> Option<(u64, String, Part)> {
    let (name, ending) = path.file_name()?.to_str()?.split_once('.')?;
    let part = Part::ALL.into_iter().find(|part| part.ending() == ending)?;
    let (digits, day) = name.split_once('-')?;
    let number: u64 = digits.parse().ok()?;
    let day: Date = day.parse().ok()?;
    (name == format!("{number:06}-{day}")).then(|| (number, name.to_owned(), part))
}

#[cfg(test)]
mod tests;
