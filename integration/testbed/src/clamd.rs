//! One host's own clamd, with a signature database of one entry: the EICAR pattern, which every scanner knows and which
//! harms nobody. Nothing is downloaded.
//!
//! It runs in the host's folder and answers on a socket there. A test can end, pause and start it.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};

use crate::process::{end, running};
use crate::wait::{PATIENCE, wait_until};

/// What clamd calls the pattern; to names of databases that ClamAV did not sign it adds a suffix.
pub const EICAR_NAME: &str = "Pec.Test.Eicar.UNOFFICIAL";

/// The EICAR test file, in two halves so that no scanner takes this source for it.
pub fn eicar() -> String {
    [r"X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR-STANDARD-", "ANTIVIRUS-TEST-FILE!$H+H*"].concat()
}

/// A clamd that runs or can be started.
pub struct Clamd {
    folder: PathBuf,
    configuration: PathBuf,
    socket: PathBuf,
    pid_file: PathBuf,
    start_log: PathBuf,
}

impl Clamd {
    /// Writes its configuration below `folder`; `extra` lines come last.
    pub fn configure(folder: &Path, extra: &str) -> Result<Self> {
        let database = folder.join("clamd-database");
        fs::create_dir_all(&database)?;
        let pattern: String = eicar().bytes().map(|byte| format!("{byte:02x}")).collect();
        fs::write(database.join("test.ndb"), format!("Pec.Test.Eicar:0:*:{pattern}\n"))?;
        let clamd = Clamd {
            folder: folder.to_owned(),
            configuration: folder.join("clamd.conf"),
            socket: folder.join("clamd.sock"),
            pid_file: folder.join("clamd.pid"),
            start_log: folder.join("clamd-start.log"),
        };
        clamd.write(extra)?;
        Ok(clamd)
    }

    fn write(&self, extra: &str) -> Result<()> {
        // Of a setting that stands twice clamd takes the first.
        let alert = if extra.contains("AlertExceedsMax") { "" } else { "AlertExceedsMax yes\n" };
        let lines = format!(
            "Foreground yes\nLocalSocket {}\nLocalSocketMode 666\nFixStaleSocket yes\nDatabaseDirectory {}\nLogFile {}\n\
             {alert}SelfCheck 0\nMaxThreads 4\n{extra}",
            self.socket.display(),
            self.folder.join("clamd-database").display(),
            self.folder.join("clamd.log").display(),
        );
        fs::write(&self.configuration, lines).with_context(|| format!("cannot write {}", self.configuration.display()))
    }

    /// The lines for the pec-milter that asks it.
    pub fn settings(&self) -> String {
        format!("clamd = \"unix:{}\"\n", self.socket.display())
    }

    /// Starts it and waits until it answers.
    pub fn start(&self) -> Result<()> {
        let log = File::options().create(true).append(true).open(&self.start_log)?;
        // In the background clamd tells its own parent by SIGINT that it is ready, which may come too early for it.
        let child = Command::new("clamd")
            .arg("--config-file")
            .arg(&self.configuration)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // Ctrl-C is for the testbed, which ends its daemons itself.
            .process_group(0)
            .spawn()
            .context("cannot run clamd")?;
        fs::write(&self.pid_file, child.id().to_string())?;
        wait_until("clamd to answer", PATIENCE, || self.ping())
    }

    /// Starts it anew with these lines at the end of its configuration, in place of earlier ones.
    pub fn restart_with(&self, extra: &str) -> Result<()> {
        self.stop()?;
        self.write(extra)?;
        self.start()
    }

    pub fn stop(&self) -> Result<()> {
        end(&self.pid_file)
    }

    /// `kill -9`.
    pub fn kill(&self) -> Result<()> {
        self.signal(Signal::SIGKILL)?;
        wait_until("clamd to end", PATIENCE, || match running(&self.pid_file) {
            None => Ok(()),
            Some(_) => bail!("it runs"),
        })
    }

    /// It keeps its connections and answers nothing until it is resumed.
    pub fn pause(&self) -> Result<()> {
        self.signal(Signal::SIGSTOP)
    }

    pub fn resume(&self) -> Result<()> {
        self.signal(Signal::SIGCONT)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = running(&self.pid_file).context("clamd does not run")?;
        kill(pid, signal).context("cannot signal clamd")
    }

    fn ping(&self) -> Result<()> {
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.write_all(b"zPING\0")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        ensure!(answer == "PONG\0", "it said {answer:?}");
        Ok(())
    }
}
