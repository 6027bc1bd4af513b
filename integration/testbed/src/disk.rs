//! A small file system of its own in the place of a folder, so that a test can fill it.
//!
//! A daemon may look into the folder at any moment, so the file system is filled elsewhere and comes into its place whole.

use std::fs::{self, File, Metadata};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};

/// It has what the folder held, and is gone when dropped.
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `size` is as tmpfs(5) has it.
    pub fn under(folder: &Path, size: &str) -> Result<Self> {
        let owner = fs::metadata(folder)?;
        let aside = tempfile::Builder::new().prefix("small-disk").tempdir()?;
        mount(&["-t", "tmpfs", "-o", &format!("size={size},mode=0700"), "tmpfs"], aside.path())?;
        let filled = SmallDisk(aside.path().to_owned());
        for Kept { path, metadata, content } in Kept::below(folder)? {
            let path = aside.path().join(path.strip_prefix(folder)?);
            match content {
                Some(content) => fs::write(&path, content)?,
                None => fs::create_dir(&path)?,
            }
            fs::set_permissions(&path, metadata.permissions())?;
            chown(&path, Some(metadata.uid()), Some(metadata.gid()))?;
        }
        chown(aside.path(), Some(owner.uid()), Some(owner.gid()))?;
        mount(&["--bind", &aside.path().display().to_string()], folder)?;
        let disk = SmallDisk(folder.to_owned());
        drop(filled);
        Ok(disk)
    }

    /// Fills it page by page, until not a single one is left; returns the file to remove.
    pub fn fill(&self) -> Result<PathBuf> {
        let ballast = self.0.join("ballast");
        let mut file = File::create(&ballast)?;
        while file.write_all(&[0; 4096]).is_ok() {}
        Ok(ballast)
    }
}

fn mount(what: &[&str], on: &Path) -> Result<()> {
    let status = Command::new("mount").args(what).arg(on).status()?;
    ensure!(status.success(), "cannot mount a file system on {}", on.display());
    Ok(())
}

/// A file or folder that the new file system gets, too.
struct Kept {
    path: PathBuf,
    metadata: Metadata,
    /// None of a folder.
    content: Option<Vec<u8>>,
}

impl Kept {
    /// Everything below a folder, folders before what is in them.
    fn below(folder: &Path) -> Result<Vec<Self>> {
        let mut kept = Vec::new();
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let metadata = fs::metadata(&path)?;
            if metadata.is_dir() {
                let inner = Kept::below(&path)?;
                kept.push(Kept { path, metadata, content: None });
                kept.extend(inner);
            } else {
                let content = Some(fs::read(&path)?);
                kept.push(Kept { path, metadata, content });
            }
        }
        Ok(kept)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: the daemon ends later. What is left of a failure is a busy folder, which the testbed reports.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}
