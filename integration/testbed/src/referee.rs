//! What others say about a message: OpenSSL on its signature, xmllint on its data, and pec-check on all of it.
//!
//! pec-check is a separate program (`$PEC_CHECK`, or `../shared/pec-check/pec_check.py` beside the repository). Without
//! it the first two remain, and one line says so. A finding is an answer; errors are programs that do not run.

use std::collections::BTreeSet;
use std::env;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result, ensure};

use crate::process::run;
use crate::repository;

/// pec-check, where it is installed.
pub struct Referee {
    program: PathBuf,
}

/// Who made a message: pec-check is stricter with our own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MadeBy {
    Us,
    OtherProviders,
}

impl Referee {
    /// `None`, after a line that says so, where pec-check is absent.
    pub fn find() -> Option<Self> {
        let beside = repository().parent().map(|folder| folder.join("shared/pec-check/pec_check.py"));
        let program = env::var_os("PEC_CHECK").map(PathBuf::from).or(beside).filter(|program| program.is_file());
        if program.is_none() {
            say_once("pec-check is absent (PEC_CHECK): only openssl and xmllint check the messages");
        }
        program.map(|program| Referee { program })
    }

    /// The findings about each file, one a line; `ERROR` in a line is a broken rule.
    pub fn check(&self, files: &[PathBuf], ca: &Path, made_by: MadeBy) -> Result<Vec<String>> {
        let mut command = self.command(ca);
        if made_by == MadeBy::OtherProviders {
            command.arg("--received");
        }
        command.args(files);
        findings(command)
    }

    /// The findings about all messages of one certified transaction, each and together.
    pub fn check_transaction(&self, folder: &Path, ca: &Path) -> Result<Vec<String>> {
        let mut command = self.command(ca);
        command.arg("--transaction").arg(folder);
        findings(command)
    }

    /// The findings about a brief receipt beside the original that it is about, or beside its envelope.
    pub fn compare_brief(&self, original: &Path, receipt: &Path) -> Result<Vec<String>> {
        let mut command = Command::new("python3");
        command.arg(&self.program).arg("--compare-brief").arg(original).arg(receipt);
        findings(command)
    }

    fn command(&self, ca: &Path) -> Command {
        let mut command = Command::new("python3");
        command.arg(&self.program).arg("--ca").arg(ca);
        command
    }
}

/// Whether OpenSSL accepts the signature and the signer's path to the CA; its words otherwise.
pub fn openssl_cms_verify(message: &Path, ca: &Path) -> Result<()> {
    let mut command = Command::new("openssl");
    command
        .args(["cms", "-verify", "-inform", "SMIME", "-out", "/dev/null", "-in"])
        .arg(message)
        .arg("-CAfile")
        .arg(ca);
    run(&mut command, b"").map(drop)
}

/// Whether daticert.xml keeps to the DTD; xmllint's words otherwise.
pub fn xmllint_daticert(xml: &[u8]) -> Result<()> {
    let dtd = repository().join("testdata/daticert.dtd");
    run(Command::new("xmllint").args(["--noout", "--nonet", "--dtdvalid"]).arg(dtd).arg("-"), xml).map(drop)
}

/// Says on the standard error, which a test that passes does not hide, what it did not check; of each test once.
pub fn say_once(words: &str) {
    static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let test = thread::current().name().unwrap_or_default().to_owned();
    let line = format!("{test}: {words}");
    if SAID.lock().unwrap_or_else(PoisonError::into_inner).insert(line.clone()) {
        // Nobody can be told that the standard error is closed.
        let _ = writeln!(io::stderr(), "{line}");
    }
}

fn findings(mut command: Command) -> Result<Vec<String>> {
    let output = command.output().context("cannot run pec-check")?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    // 0: no error, 1: errors, 2: wrong usage.
    ensure!(
        matches!(output.status.code(), Some(0 | 1)),
        "pec-check ended with {}:\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(said.lines().map(str::to_owned).collect())
}
