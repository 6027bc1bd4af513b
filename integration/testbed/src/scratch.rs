//! The scratch folder of one testbed, and the end of everything in it.
//!
//! The end goes by the pid files below the folder, so that Drop, a panic and a signal all do the same.
//! `PEC_KEEP=1` keeps the folder of a failed test and says where it is.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, Once, PoisonError};
use std::{env, process, thread};

use anyhow::{Context, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::process::end;

/// Where a host's daemons write their process ids, relative to the host's folder.
pub const PID_FILES: [&str; 8] = [
    "pec-milter.pid",
    "spool/pid/master.pid",
    "run/master.pid",
    "clamd.pid",
    "nginx.pid",
    "slapd.pid",
    "web.pid",
    "tsa.pid",
];

/// The folders that a signal must clean up.
static LIVE: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// A folder that goes away with every process in it.
pub struct Scratch {
    root: PathBuf,
    /// What goes away before it is complete has failed.
    complete: bool,
}

impl Scratch {
    pub fn new() -> Result<Self> {
        clean_up_on_signals()?;
        // A short name: the path of a unix socket has at most 107 bytes.
        let root = tempfile::Builder::new().prefix("pec").tempdir().context("no scratch folder")?.keep();
        // Postfix, Dovecot and pec-milter work in it under their own accounts.
        fs::set_permissions(&root, Permissions::from_mode(0o755))?;
        live().push(root.clone());
        Ok(Scratch { root, complete: false })
    }

    /// All hosts run.
    pub fn started(&mut self) {
        self.complete = true;
    }

    pub fn path(&self) -> &Path {
        &self.root
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let failed = thread::panicking() || !self.complete;
        let keep = failed && env::var_os("PEC_KEEP").is_some_and(|value| value == "1");
        clear(&self.root, keep);
        live().retain(|root| *root != self.root);
    }
}

/// Ends every daemon below the folder, then removes it.
fn clear(root: &Path, keep: bool) {
    let hosts = fs::read_dir(root).into_iter().flatten().flatten();
    for host in hosts {
        for pid_file in PID_FILES {
            if let Err(error) = end(&host.path().join(pid_file)) {
                eprintln!("{error:#}");
            }
        }
    }
    if keep {
        eprintln!("kept: {}", root.display());
    } else if let Err(error) = fs::remove_dir_all(root) {
        eprintln!("cannot remove {}: {error}", root.display());
    }
}

/// Ctrl-C must not leave a Postfix behind, and Drop does not run then.
fn clean_up_on_signals() -> Result<()> {
    static ONCE: Once = Once::new();
    if ONCE.is_completed() {
        return Ok(());
    }
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("cannot watch signals")?;
    ONCE.call_once(move || {
        thread::spawn(move || {
            if let Some(signal) = signals.forever().next() {
                // The lock stays held, so that no testbed starts while this process ends.
                let roots = live();
                roots.iter().for_each(|root| clear(root, false));
                process::exit(128 + signal);
            }
        });
    });
    Ok(())
}

fn live() -> std::sync::MutexGuard<'static, Vec<PathBuf>> {
    LIVE.lock().unwrap_or_else(PoisonError::into_inner)
}
