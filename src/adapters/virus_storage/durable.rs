//! Files and folders that are there whole after a power cut, or not at all, and that only their owner can open.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

use super::StorageError;

const OWNER_ONLY_FOLDER: u32 = 0o700;
const OWNER_ONLY_FILE: u32 = 0o600;

/// Makes a folder, whose parent is there.
pub fn make_folder(folder: &Path) -> Result<(), StorageError> {
    match DirBuilder::new().mode(OWNER_ONLY_FOLDER).create(folder) {
        Ok(()) => sync_parent(folder),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => Ok(()),
        Err(error) => Err(StorageError::file("make", folder)(error)),
    }
}

/// Writes a file beside its place and renames it there.
pub fn write<'a>(path: &Path, chunks: impl Iterator<Item = &'a [u8]>) -> Result<(), StorageError> {
    let beside = beside(path);
    let written = fill(&beside, chunks).and_then(|()| fs::rename(&beside, path));
    if written.is_err() {
        // What went wrong is what counts; the rest goes with its day.
        _ = fs::remove_file(&beside);
    }
    written.map_err(StorageError::file("write", path))?;
    sync_parent(path)
}

/// A file that was not there before.
pub fn new_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(OWNER_ONLY_FILE).open(path)
}

/// What is in a folder; nothing where there is none.
pub fn entries(folder: &Path) -> Result<Vec<PathBuf>, StorageError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(StorageError::file("read", folder)(error)),
    };
    let paths: io::Result<Vec<PathBuf>> = entries.map(|entry| entry.map(|entry| entry.path())).collect();
    paths.map_err(StorageError::file("read", folder))
}

fn fill<'a>(path: &Path, chunks: impl Iterator<Item = &'a [u8]>) -> io::Result<()> {
    let mut file = new_file(path)?;
    for chunk in chunks {
        file.write_all(chunk)?;
    }
    file.sync_all()
}

/// Two writers of the same file do not meet.
fn beside(path: &Path) -> PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    path.with_extension(format!("{}-{number}.new", process::id()))
}

fn sync_parent(path: &Path) -> Result<(), StorageError> {
    let Some(parent) = path.parent() else { return Ok(()) };
    File::open(parent).and_then(|folder| folder.sync_all()).map_err(StorageError::file("sync", parent))
}
