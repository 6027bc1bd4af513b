//! The fetched copies of the providers directory on disk: the current one and the one before (§4.5, §7).
//!
//! A copy is a file named by its SHA-256, written once. Which is the current one stands in one small register,
//! `state.json`, that is replaced by a rename: that rename is the instant in which a new directory is there. Killed
//! before, the old one is in force, and the file that nobody names is removed by the next change. A copy that is not what
//! its name says is refused. The daemon and the commands may both write: changes are made under a lock on the folder, and
//! what root writes belongs to the owner of the folder. The folder is open to its owner only (§7 asks for that).

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown, fchown};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::crash;
use crate::directory::Form;
use crate::model::TemporalReference;
use crate::operations::ports::{Copies, DirectoryCopy, DirectoryStore, Fetched, OutsideFault};

const REGISTER: &str = "state.json";
const NEW_REGISTER: &str = "state.new";
const OWNER_ONLY_FOLDER: u32 = 0o700;
const OWNER_ONLY_FILE: u32 = 0o600;
/// The permissions of group and others to write.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// The folder of the copies.
#[derive(Debug, Clone)]
pub struct CopiesOnDisk {
    folder: PathBuf,
}

/// What went wrong with a file of the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("could not {call} {}", path.display())]
    File {
        call: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} is not a register of this program: remove the folder and fetch anew", path.display())]
    Register {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error("{} is not what was put there: remove it and run `pec-milter directory refresh`", .0.display())]
    Altered(PathBuf),
    #[error("{} may be written by others than its owner: run chmod 700 on it, then fetch anew", .0.display())]
    OpenToOthers(PathBuf),
}

/// Tells one state of the register from another without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    inode: u64,
    modified: (i64, i64),
    size: u64,
}

/// What stands in the register.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Register {
    current: Option<Entry>,
    previous: Option<Entry>,
    confirmed: Option<i64>,
    failure: Option<(i64, String)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    /// SHA-256, a dot, and the form.
    file: String,
    fetched: i64,
}

impl CopiesOnDisk {
    /// The store in this folder, which is made when something is put there.
    pub fn at(folder: &Path) -> Self {
        CopiesOnDisk { folder: folder.to_owned() }
    }

    /// Differs after every change; none while there is no register.
    pub fn stamp(&self) -> Option<Stamp> {
        let metadata = fs::metadata(self.folder.join(REGISTER)).ok()?;
        let modified = (metadata.mtime(), metadata.mtime_nsec());
        Some(Stamp { inode: metadata.ino(), modified, size: metadata.size() })
    }

    fn register(&self) -> Result<Register, StoreError> {
        let path = self.folder.join(REGISTER);
        match fs::read(&path) {
            Ok(text) => {
                self.check_folder()?;
                serde_json::from_slice(&text).map_err(|source| StoreError::Register { path, source })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Register::default()),
            Err(error) => Err(failed("read", &path)(error)),
        }
    }

    /// Whoever can write here decides who is certified (§7).
    fn check_folder(&self) -> Result<(), StoreError> {
        let metadata = fs::metadata(&self.folder).map_err(failed("look at", &self.folder))?;
        match metadata.permissions().mode() & WRITABLE_BY_OTHERS {
            0 => Ok(()),
            _ => Err(StoreError::OpenToOthers(self.folder.clone())),
        }
    }

    fn make_folder(&self) -> Result<(), StoreError> {
        match DirBuilder::new().mode(OWNER_ONLY_FOLDER).create(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && self.folder.is_dir() => {}
            other => {
                other.map_err(failed("make", &self.folder))?;
                let parent = self.folder.parent().unwrap_or(&self.folder);
                let owner = fs::metadata(parent).map_err(failed("look at", parent))?;
                if is_root() {
                    chown(&self.folder, Some(owner.uid()), Some(owner.gid())).map_err(failed("chown", &self.folder))?;
                }
                sync(parent)?;
            }
        }
        self.check_folder()
    }

    /// A whole file, durable.
    fn write(&self, name: &str, octets: &[u8]) -> Result<(), StoreError> {
        let path = self.folder.join(name);
        let owner = fs::metadata(&self.folder).map_err(failed("look at", &self.folder))?;
        let fill = || -> io::Result<()> {
            let mut options = OpenOptions::new();
            let mut file = options.write(true).create(true).truncate(true).mode(OWNER_ONLY_FILE).open(&path)?;
            if is_root() {
                fchown(&file, Some(owner.uid()), Some(owner.gid()))?;
            }
            file.write_all(octets)?;
            file.sync_all()
        };
        fill().map_err(failed("write", &path))
    }

    /// The instant of every change.
    fn put(&self, register: &Register) -> Result<(), StoreError> {
        let path = self.folder.join(REGISTER);
        let text = serde_json::to_vec_pretty(register)
            .map_err(|source| StoreError::Register { path: path.clone(), source })?;
        self.write(NEW_REGISTER, &text)?;
        fs::rename(self.folder.join(NEW_REGISTER), &path).map_err(failed("rename", &path))?;
        sync(&self.folder)
    }

    /// Removes copies that the register does not name.
    fn tidy(&self, register: &Register) -> Result<(), StoreError> {
        let is_named = |name: &str| {
            name == REGISTER
                || [&register.current, &register.previous].into_iter().flatten().any(|one| one.file == name)
        };
        for entry in fs::read_dir(&self.folder).map_err(failed("read", &self.folder))? {
            let path = entry.map_err(failed("read", &self.folder))?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if !is_named(name) && form_of(name).is_some() {
                fs::remove_file(&path).map_err(failed("remove", &path))?;
            }
        }
        Ok(())
    }

    fn replace(&self, fetched: &Fetched, at: TemporalReference) -> Result<(), StoreError> {
        let old = self.register()?;
        let file = name_of(&digest(&fetched.octets), fetched.form);
        self.write(&file, &fetched.octets)?;
        crash::point("directory-written");
        let previous = old.current.filter(|current| current.file != file).or(old.previous);
        let current = Some(Entry { file, fetched: at.unix() });
        let register = Register { current, previous, confirmed: Some(at.unix()), failure: None };
        self.put(&register)?;
        crash::point("directory-replaced");
        self.tidy(&register)
    }
}

impl DirectoryStore for CopiesOnDisk {
    fn copies(&self) -> Result<Copies, OutsideFault> {
        let Register { current, previous, confirmed, failure } = self.register()?;
        let instant = TemporalReference::from_unix;
        Ok(Copies {
            current: current.and_then(copy),
            previous: previous.and_then(copy),
            confirmed: confirmed.map(instant),
            failure: failure.map(|(at, cause)| (instant(at), cause)),
        })
    }

    fn octets(&self, copy: &DirectoryCopy) -> Result<Vec<u8>, OutsideFault> {
        let path = self.folder.join(name_of(&copy.sha256, copy.form));
        let octets = fs::read(&path).map_err(failed("read", &path))?;
        if digest(&octets) == copy.sha256 { Ok(octets) } else { Err(StoreError::Altered(path).into()) }
    }

    fn exclusively<T>(&self, work: impl FnOnce() -> T) -> Result<T, OutsideFault> {
        self.make_folder()?;
        let folder = File::open(&self.folder).map_err(failed("open", &self.folder))?;
        let lock = Flock::lock(folder, FlockArg::LockExclusive)
            .map_err(|(_, errno)| failed("lock", &self.folder)(errno.into()))?;
        let done = work();
        drop(lock);
        Ok(done)
    }

    fn replace(&self, fetched: &Fetched, at: TemporalReference) -> Result<(), OutsideFault> {
        Ok(CopiesOnDisk::replace(self, fetched, at)?)
    }

    fn confirm(&self, at: TemporalReference) -> Result<(), OutsideFault> {
        let register = Register { confirmed: Some(at.unix()), failure: None, ..self.register()? };
        Ok(self.put(&register)?)
    }

    fn note_failure(&self, at: TemporalReference, cause: &str) -> Result<(), OutsideFault> {
        let register = Register { failure: Some((at.unix(), cause.to_owned())), ..self.register()? };
        Ok(self.put(&register)?)
    }
}

fn copy(entry: Entry) -> Option<DirectoryCopy> {
    let (sha256, form) = form_of(&entry.file)?;
    Some(DirectoryCopy { form, sha256: sha256.to_owned(), fetched: TemporalReference::from_unix(entry.fetched) })
}

fn name_of(sha256: &str, form: Form) -> String {
    match form {
        Form::P7m => format!("{sha256}.p7m"),
        Form::Ldif => format!("{sha256}.ldif"),
    }
}

/// None for a name that no copy has; what stands in the register names no file elsewhere.
fn form_of(name: &str) -> Option<(&str, Form)> {
    let (sha256, extension) = name.split_once('.')?;
    let form = match extension {
        "p7m" => Form::P7m,
        "ldif" => Form::Ldif,
        _ => return None,
    };
    (sha256.len() == 64 && sha256.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some((sha256, form))
}

fn digest(octets: &[u8]) -> String {
    Sha256::digest(octets).iter().map(|octet| format!("{octet:02x}")).collect()
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

fn sync(folder: &Path) -> Result<(), StoreError> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed("sync", folder))
}

fn failed(call: &'static str, path: &Path) -> impl Fn(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::File { call, path: path.clone(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> TemporalReference {
        TemporalReference::from_unix(1_721_032_245 + seconds)
    }

    fn fetched(text: &str) -> Fetched {
        Fetched { form: Form::Ldif, octets: text.as_bytes().to_vec() }
    }

    fn store() -> (tempfile::TempDir, CopiesOnDisk) {
        let folder = tempfile::tempdir().unwrap();
        let store = CopiesOnDisk::at(&folder.path().join("directory"));
        store.exclusively(|| ()).unwrap();
        (folder, store)
    }

    fn files(store: &CopiesOnDisk) -> usize {
        fs::read_dir(&store.folder).unwrap().count()
    }

    #[test]
    fn the_current_and_the_previous_copy_are_kept_and_no_other() {
        let (_folder, store) = store();
        assert_eq!((store.copies().unwrap(), store.stamp()), (Copies::default(), None));
        let mut stamps = vec![];
        for (number, text) in ["one", "two", "three", "three", "two"].into_iter().enumerate() {
            store.replace(&fetched(text), at(number as i64)).unwrap();
            assert!(!stamps.contains(&store.stamp()), "each change shows");
            stamps.push(store.stamp());
        }
        let copies = store.copies().unwrap();
        let read = |copy: &Option<DirectoryCopy>| store.octets(copy.as_ref().unwrap()).unwrap();
        assert_eq!((read(&copies.current), read(&copies.previous)), (b"two".to_vec(), b"three".to_vec()));
        assert_eq!((copies.confirmed, copies.failure), (Some(at(4)), None));
        assert_eq!(files(&store), 3);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&store.folder), mode(&store.folder.join(REGISTER))), (0o700, 0o600));
    }

    #[test]
    fn failures_and_confirmations_leave_the_copies() {
        let (_folder, store) = store();
        store.note_failure(at(0), "no route").unwrap();
        assert_eq!(store.copies().unwrap().failure, Some((at(0), "no route".into())));
        store.replace(&fetched("one"), at(1)).unwrap();
        store.note_failure(at(2), "no route").unwrap();
        let copies = store.copies().unwrap();
        assert_eq!((copies.confirmed, copies.failure), (Some(at(1)), Some((at(2), "no route".into()))));
        store.confirm(at(3)).unwrap();
        let copies = store.copies().unwrap();
        assert_eq!((copies.confirmed, copies.failure, copies.current.unwrap().fetched), (Some(at(3)), None, at(1)));
    }

    #[test]
    fn what_was_altered_on_disk_is_refused() {
        let (_folder, store) = store();
        store.replace(&fetched("one"), at(0)).unwrap();
        let copy = store.copies().unwrap().current.unwrap();
        fs::write(store.folder.join(name_of(&copy.sha256, copy.form)), "other").unwrap();
        assert!(store.octets(&copy).unwrap_err().to_string().contains("not what was put there"));
        fs::set_permissions(&store.folder, fs::Permissions::from_mode(0o770)).unwrap();
        assert!(store.copies().unwrap_err().to_string().contains("chmod 700"));
        fs::set_permissions(&store.folder, fs::Permissions::from_mode(0o700)).unwrap();
        fs::write(store.folder.join(REGISTER), "{\"current\": 3}").unwrap();
        assert!(store.copies().unwrap_err().to_string().contains("not a register"));
    }

    #[test]
    fn a_register_names_no_file_elsewhere() {
        for name in ["../../etc/passwd", "a.p7m", &format!("{}/x.p7m", "0".repeat(62)), &"0".repeat(64)] {
            assert_eq!(form_of(name), None, "{name}");
        }
    }
}
