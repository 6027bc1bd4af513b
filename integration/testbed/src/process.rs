//! Commands run to their end, and daemons ended by the process id in their pid file.
//!
//! A pid file may be older than its process. Only a process that runs one of the programs started here is ended.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Group, Pid, User};

/// Names in `/proc/PID/comm` of the daemons that a testbed starts: Postfix, Dovecot, pec-milter, ClamAV, nginx,
/// OpenLDAP and Python.
const DAEMONS: [&str; 7] = ["master", "dovecot", "pec-milter", "clamd", "nginx", "slapd", "python3"];

/// How long a daemon may take to end by itself.
const GRACE: Duration = Duration::from_secs(10);

/// Runs a command to its end with this standard input and returns its standard output.
pub fn run(command: &mut Command, input: &[u8]) -> Result<Vec<u8>> {
    let line = describe(command);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {line}"))?;
    // Every command run here reads all its input before it writes much, so there is no deadlock to avoid.
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input).with_context(|| format!("cannot write to {line}"))?;
    }
    let output = child.wait_with_output().with_context(|| format!("lost {line}"))?;
    if !output.status.success() {
        let said = [output.stdout, output.stderr].concat();
        bail!("{line} ended with {}:\n{}", output.status, String::from_utf8_lossy(&said).trim_end());
    }
    Ok(output.stdout)
}

/// Runs a command that leaves a daemon behind. Its output goes to a file, since the daemon keeps it open.
pub fn launch(command: &mut Command, log: &Path) -> Result<()> {
    let line = describe(command);
    let file = File::options().create(true).append(true).open(log)?;
    let status = command
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        .status()
        .with_context(|| format!("cannot run {line}"))?;
    ensure!(status.success(), "{line} ended with {status}:\n{}", fs::read_to_string(log).unwrap_or_default());
    Ok(())
}

/// Ends the daemon of this pid file, if it runs, and waits until it is gone.
pub fn end(pid_file: &Path) -> Result<()> {
    let Some(pid) = running(pid_file) else { return Ok(()) };
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        // An error means that the process ended meanwhile.
        let _ = kill(pid, signal);
        let deadline = Instant::now() + GRACE;
        while Instant::now() < deadline {
            if running(pid_file) != Some(pid) {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
    bail!("process {pid} of {} does not end", pid_file.display())
}

/// The process of a pid file, when it runs and is one of ours.
pub fn running(pid_file: &Path) -> Option<Pid> {
    let pid: i32 = fs::read_to_string(pid_file).ok()?.trim().parse().ok()?;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim();
    // A zombie has ended; it waits only for its parent to look.
    let alive = DAEMONS.contains(&field("Name:")) && !field("State:").starts_with('Z');
    alive.then(|| Pid::from_raw(pid))
}

/// An account of this machine that Debian or a package made.
pub fn account(name: &str) -> Result<User> {
    User::from_name(name)?.with_context(|| format!("this machine has no account {name}"))
}

/// A group of this machine.
pub fn group(name: &str) -> Result<Group> {
    Group::from_name(name)?.with_context(|| format!("this machine has no group {name}"))
}

fn describe(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}
