//! Commands about the legal trace of a host, also on other days than today.
//!
//! Months pass for one command only: it runs with libfaketime, while servers and daemons go on in the present.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, ensure};
use jiff::Zoned;
use jiff::civil::Date;
use pec_testbed::{Host, Testbed, faketime};

use crate::support::Letter;

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_pec-milter");
pub const ABORTED: i32 = 6;

/// A command of pec-milter at noon of a day.
pub fn on(day: Date, host: &Host, arguments: &[&str], environment: &[(&str, &str)]) -> Result<Output> {
    let mut command = Command::new(PROGRAM);
    command.args(arguments).arg("--config").arg(&host.daemon()?.configuration).envs(environment.iter().copied());
    command.envs(faketime::beginning_at(&format!("{day} 12:00:00"))?).stdin(Stdio::null()).current_dir("/");
    command.output().context("cannot run pec-milter")
}

/// The purged day by its seal, what is left row by row.
pub fn verifies(day: Date, host: &Host) -> Result<()> {
    let output = on(day, host, &["log", "verify"], &[])?;
    ensure!(output.status.success() && !said(&output).contains("VIOLATION"), "{}", said(&output));
    Ok(())
}

/// The files of the seals alone, without database and configuration.
pub fn exports_verify(testbed: &Testbed, host: &Host, further: &[&str]) -> Result<String> {
    let (folder, ca) = (seals(host)?, testbed.pki.root());
    let mut command = Command::new(PROGRAM);
    command.args(["log", "verify", "--exported"]).arg(folder).arg("--ca").arg(ca).args(further);
    let output = command.output()?;
    ensure!(output.status.success() && !said(&output).contains("VIOLATION"), "{}", said(&output));
    Ok(said(&output))
}

/// The number of a hold that now stands.
pub fn hold(day: Date, host: &Host, held: [&str; 2]) -> Result<String> {
    let output = on(day, host, &[&["log", "hold", "add", "--reason", "procura"][..], &held].concat(), &[])?;
    ensure!(output.status.success(), "{}", said(&output));
    said(&output).split([' ', ':']).nth(1).map(str::to_owned).context("no number")
}

pub fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

/// There is no authority here, so the seal waits for its stamp, and the answer is no.
pub fn seal(host: &Host) -> Result<()> {
    let (_, said) = host.daemon()?.command(&["log", "seal"])?;
    ensure!(said.contains("sealed   0"), "{said}");
    Ok(())
}

/// A letter that has come to its end, and the seal over it.
pub fn sealed(testbed: &Testbed, name: &str) -> Result<Letter> {
    let letter = Letter::new(name);
    letter.send(testbed)?;
    let told = letter.conclude(testbed)?;
    told.check()?;
    told.check_single()?;
    seal(testbed.host("alfa")?)?;
    Ok(letter)
}

/// Where the seals of a host lie.
pub fn seals(host: &Host) -> Result<PathBuf> {
    Ok(host.daemon()?.state_folder().join("seals"))
}

/// Today in Rome.
pub fn today() -> Result<Date> {
    Ok(Zoned::now().in_tz("Europe/Rome")?.date())
}

/// What the log has of a letter.
pub fn kinds(host: &Host, letter: &Letter) -> Result<Vec<String>> {
    Ok(host.daemon()?.timeline(&letter.msgid)?.into_iter().map(|event| event.kind).collect())
}
