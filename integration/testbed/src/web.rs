//! The web server of the CAs: Python's, with the folder of published revocation lists. A test can end and start it.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::network::WEB;
use crate::process::end;
use crate::wait::{PATIENCE, wait_until};

/// A web server that runs or can be started.
pub struct Web {
    address: Ipv4Addr,
    shown: PathBuf,
    pid_file: PathBuf,
    log: PathBuf,
}

impl Web {
    /// Its process id and log lie in `folder`, below the scratch folder.
    pub fn new(address: Ipv4Addr, shown: &Path, folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder)?;
        let (pid_file, log) = (folder.join("web.pid"), folder.join("web.log"));
        Ok(Web { address, shown: shown.to_owned(), pid_file, log })
    }

    /// Where it will be.
    pub fn origin(address: Ipv4Addr) -> String {
        format!("http://{address}:{WEB}")
    }

    /// Starts it and waits until it accepts.
    pub fn start(&self) -> Result<()> {
        let log = File::options().create(true).append(true).open(&self.log)?;
        let child = Command::new("python3")
            .args(["-u", "-m", "http.server", &WEB.to_string(), "--bind", &self.address.to_string(), "--directory"])
            .arg(&self.shown)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // Ctrl-C is for the testbed, which ends its daemons itself.
            .process_group(0)
            .spawn()
            .context("cannot run python3")?;
        fs::write(&self.pid_file, child.id().to_string())?;
        wait_until("the web server to accept", PATIENCE, || Ok(TcpStream::connect((self.address, WEB)).map(drop)?))
    }

    pub fn stop(&self) -> Result<()> {
        end(&self.pid_file)
    }

    /// Everything that it was asked for.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}
