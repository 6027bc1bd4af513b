//! A file that lies in memory and has no name: what is written once into it can be opened by a path until it is dropped,
//! and nobody else can change it. For a library that reads from files only.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::smime::{ListFile, RevocationList, RevocationLists};

/// The file, open for as long as this lives.
pub struct MemoryFile {
    path: PathBuf,
    _file: File,
}

impl MemoryFile {
    pub fn new(content: &[u8]) -> io::Result<Self> {
        let mut file = File::from(memfd_create(c"pec-milter", MFdFlags::MFD_CLOEXEC)?);
        file.write_all(content)?;
        Ok(MemoryFile { path: PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd())), _file: file })
    }
}

impl ListFile for MemoryFile {
    fn path(&self) -> &Path {
        &self.path
    }
}

/// The set of these revocation lists, as path validation takes it.
pub fn revocation_lists(lists: Vec<RevocationList>) -> io::Result<RevocationLists> {
    if lists.is_empty() {
        return Ok(RevocationLists::default());
    }
    let content: Vec<Vec<u8>> = lists.iter().map(RevocationList::to_pem).collect::<Result<_, _>>()?;
    let file = MemoryFile::new(&content.concat())?;
    Ok(RevocationLists::new(lists, Some(Box::new(file))))
}
