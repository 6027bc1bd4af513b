//! Private keys that tests use again, because making them costs more than all else that a test does.
//!
//! They lie in the build folder. Within a test no two are the same: each PKI of a test has a series of its own.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, ensure};
use tempfile::NamedTempFile;

use crate::process::run;

thread_local! {
    /// The series that the next PKI of this thread gets; every test has a thread of its own.
    static NEXT: Cell<u32> = const { Cell::new(0) };
}

/// The keys of one PKI, each given out once.
pub struct KeySeries {
    series: u32,
    next: AtomicU32,
}

impl KeySeries {
    /// The next one of this thread.
    pub fn begin() -> Self {
        let series = NEXT.get();
        NEXT.set(series + 1);
        KeySeries { series, next: AtomicU32::new(0) }
    }

    /// Writes the next key of this kind, as `openssl genpkey` names algorithm and parameter.
    pub fn write(&self, algorithm: &str, parameter: &str, to: &Path) -> Result<()> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let kind = format!("{algorithm}-{parameter}").replace(|c: char| !c.is_ascii_alphanumeric(), "-");
        let stock = folder()?;
        let key = stock.join(format!("{kind}-{}-{number}.key", self.series));
        if !key.exists() {
            fs::create_dir_all(&stock)?;
            let file = NamedTempFile::new_in(&stock)?;
            let path = file.path().to_str().context("the build folder is not UTF-8")?;
            let arguments = ["genpkey", "-algorithm", algorithm, "-pkeyopt", parameter, "-out", path];
            run(Command::new("openssl").args(arguments), b"")?;
            // Another test may have made it meanwhile; then that one is used.
            if let Err(error) = file.persist_noclobber(&key) {
                ensure!(key.exists(), "cannot keep {}: {error}", key.display());
            }
        }
        fs::copy(&key, to).with_context(|| format!("cannot write {}", to.display())).map(drop)
    }
}

/// Beside the program that runs.
fn folder() -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    let folder = program.parent().context("no folder")?;
    let profile = if folder.ends_with("deps") { folder.parent().context("no folder")? } else { folder };
    Ok(profile.join("testbed-keys"))
}
