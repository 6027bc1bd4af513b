//! Files and folders that are there whole after a power cut, or not at all, and that only their owner can open.
//!
//! What root writes belongs to the owner of the folder: a command run as root must not lock the daemon out.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, chown, fchown};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::civil::Date;

const OWNER_ONLY_FOLDER: u32 = 0o700;
const OWNER_ONLY_FILE: u32 = 0o600;

/// How the name of a file ends that was not there whole yet when its writer died.
const UNFINISHED: &str = "new";

/// What could not be done with a file.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}", path.display())]
pub struct FileError {
    pub action: &'static str,
    pub path: PathBuf,
    #[source]
    pub source: io::Error,
}

impl FileError {
    pub fn of(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| FileError { action, path, source }
    }
}

/// Makes a folder, whose parent is there.
pub fn make_folder(folder: &Path) -> Result<(), FileError> {
    match DirBuilder::new().mode(OWNER_ONLY_FOLDER).create(folder) {
        Ok(()) => {
            let parent = parent(folder);
            if is_root() {
                let owner = fs::metadata(parent).map_err(FileError::of("look at", parent))?;
                chown(folder, Some(owner.uid()), Some(owner.gid())).map_err(FileError::of("chown", folder))?;
            }
            sync(parent)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => Ok(()),
        Err(error) => Err(FileError::of("make", folder)(error)),
    }
}

/// Writes a file beside its place and renames it there.
pub fn write<'a>(path: &Path, chunks: impl Iterator<Item = &'a [u8]>) -> Result<(), FileError> {
    let mut growing = Growing::beside(path)?;
    for chunk in chunks {
        growing.append(chunk)?;
    }
    growing.finish(path)
}

/// A file for whoever runs the program alone, that was not there before; what cannot be written whole goes again.
pub fn write_new(path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let file = OpenOptions::new().write(true).create_new(true).mode(OWNER_ONLY_FILE).open(path)?;
    let mut file = BufWriter::new(file);
    let written = write(&mut file).and_then(|()| file.into_inner()?.sync_all());
    if written.is_err() {
        // What went wrong is what counts.
        _ = fs::remove_file(path);
    }
    written
}

/// A file that was not there before.
pub fn new_file(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().write(true).create_new(true).mode(OWNER_ONLY_FILE).open(path)?;
    if is_root() {
        let owner = fs::metadata(parent(path))?;
        fchown(&file, Some(owner.uid()), Some(owner.gid()))?;
    }
    Ok(file)
}

/// What is in a folder; nothing where there is none.
pub fn entries(folder: &Path) -> Result<Vec<PathBuf>, FileError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(FileError::of("read", folder)(error)),
    };
    let paths: io::Result<Vec<PathBuf>> = entries.map(|entry| entry.map(|entry| entry.path())).collect();
    paths.map_err(FileError::of("read", folder))
}

/// Removes a file for good.
pub fn remove(path: &Path) -> Result<(), FileError> {
    fs::remove_file(path).map_err(FileError::of("remove", path))?;
    sync(parent(path))
}

/// The folders below a store that are named after a day, the earliest first; anything else there is not the store's and
/// left alone.
pub fn days(store: &Path) -> Result<Vec<(Date, PathBuf)>, FileError> {
    let day = |path: PathBuf| {
        let day: Date = path.file_name()?.to_str()?.parse().ok()?;
        (path.file_name()?.to_str()? == day.to_string()).then_some((day, path))
    };
    let mut days: Vec<(Date, PathBuf)> = entries(store)?.into_iter().filter_map(day).collect();
    days.sort();
    Ok(days)
}

/// Removes a folder with all that is in it, for good.
pub fn remove_folder(folder: &Path) -> Result<(), FileError> {
    fs::remove_dir_all(folder).map_err(FileError::of("remove", folder))?;
    sync(parent(folder))
}

/// A file that is written piece by piece and has no name yet; it goes when it is dropped unfinished.
#[derive(Debug)]
pub struct Growing {
    file: File,
    path: PathBuf,
    is_finished: bool,
}

impl Growing {
    /// Begins one in the folder of a path.
    pub fn beside(path: &Path) -> Result<Self, FileError> {
        let beside = beside(path);
        let file = new_file(&beside).map_err(FileError::of("make", &beside))?;
        Ok(Growing { file, path: beside, is_finished: false })
    }

    pub fn append(&mut self, octets: &[u8]) -> Result<(), FileError> {
        self.file.write_all(octets).map_err(FileError::of("write", &self.path))
    }

    /// Gives it its place, whole and durable.
    pub fn finish(mut self, path: &Path) -> Result<(), FileError> {
        self.file.sync_all().map_err(FileError::of("sync", &self.path))?;
        fs::rename(&self.path, path).map_err(FileError::of("write", path))?;
        self.is_finished = true;
        sync(parent(path))
    }
}

impl Drop for Growing {
    fn drop(&mut self) {
        if !self.is_finished {
            // What went wrong is what counts; what cannot be removed now is found by its ending.
            _ = fs::remove_file(&self.path);
        }
    }
}

/// Whether a file is what a writer left who died; nobody writes it any more where this is asked under a lock.
pub fn is_unfinished(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == UNFINISHED)
}

/// Two writers of the same file do not meet.
fn beside(path: &Path) -> PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    path.with_extension(format!("{}-{number}.{UNFINISHED}", process::id()))
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn sync(folder: &Path) -> Result<(), FileError> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(FileError::of("sync", folder))
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_file_is_there_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.text");
        let mut growing = Growing::beside(&path).unwrap();
        growing.append(b"one ").unwrap();
        let unfinished = entries(folder.path()).unwrap();
        assert!(unfinished.len() == 1 && is_unfinished(&unfinished[0]) && !is_unfinished(&path));
        drop(growing);
        assert!(entries(folder.path()).unwrap().is_empty());

        write(&path, [&b"one "[..], b"two"].into_iter()).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"one two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, OWNER_ONLY_FILE);
        remove(&path).unwrap();
        assert!(entries(folder.path()).unwrap().is_empty());
    }

    #[test]
    fn a_new_file_takes_the_place_of_none_and_goes_where_it_cannot_be_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.eml");
        let full = |out: &mut dyn Write| out.write_all(&[b'x'; 100_000]).and(Err(io::ErrorKind::StorageFull.into()));
        assert_eq!(write_new(&path, full).unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert!(!path.exists(), "so the next attempt finds its place free");
        write_new(&path, |out| out.write_all(b"whole")).unwrap();
        let taken = write_new(&path, |out| out.write_all(b"other")).unwrap_err();
        assert_eq!((taken.kind(), fs::read(&path).unwrap()), (io::ErrorKind::AlreadyExists, b"whole".to_vec()));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, OWNER_ONLY_FILE);
    }

    #[test]
    fn what_root_writes_belongs_to_the_owner_of_the_folder() {
        if !is_root() {
            return;
        }
        const NOBODY: u32 = 65534;
        let folder = tempfile::tempdir().unwrap();
        chown(folder.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        let inner = folder.path().join("inner");
        make_folder(&inner).unwrap();
        write(&inner.join("file"), [&b"x"[..]].into_iter()).unwrap();
        for path in [inner.clone(), inner.join("file")] {
            let owner = fs::metadata(&path).unwrap();
            assert_eq!((owner.uid(), owner.gid()), (NOBODY, NOBODY), "{}", path.display());
        }
    }
}
