//! `check-config`: the way of `run` up to the sockets, and the effective configuration on standard output.

use std::io::{Write, stderr, stdout};
use std::path::Path;
use std::time::Duration;

use super::Failure;
use super::load::{load, told};
use super::run::group_of;
use super::servers;
use crate::adapters::instruments::SystemInstruments;
use crate::config::Config;
use crate::operations::ports::Instruments;

pub fn check_config(path: &Path) -> Result<bool, Failure> {
    let report = |line: &str| writeln!(stderr(), "{line}");
    let config = match Config::read(path) {
        Ok(config) => config,
        Err(errors) => {
            report(&errors.to_string())?;
            return Ok(false);
        }
    };
    write!(stdout(), "{config}")?;
    if let Err(failure) = group_of(&config) {
        report(&failure.to_string())?;
        return Ok(false);
    }
    let now = SystemInstruments.now();
    match load(&config, now) {
        Ok(loaded) => {
            for (certificate, expiry) in loaded.current.keyring.expiring(now) {
                report(&format!(
                    "warning: the certificate {}, serial {}, {expiry}",
                    certificate.subject(),
                    certificate.serial()
                ))?;
            }
            for warning in &loaded.warnings {
                report(&format!("warning: {warning}"))?;
            }
            if let Some(warning) = scanner_warning(&config)? {
                report(&format!("warning: {warning}"))?;
            }
            let (providers, domains) = (loaded.current.directory.providers(), loaded.current.directory.domains());
            report(&format!("configuration is good; {providers} providers with {domains} domains are known"))?;
            Ok(true)
        }
        Err(unusable) => {
            report(&unusable.to_string())?;
            Ok(false)
        }
    }
}

/// Enough for a scanner that answers at all.
const PATIENCE: Duration = Duration::from_secs(10);

/// What keeps the scanner from being relied on. No reason against a start: it may be mended while mail waits.
fn scanner_warning(config: &Config) -> Result<Option<String>, Failure> {
    let Some(clamd) = servers::clamd(config, PATIENCE) else { return Ok(None) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let fault = runtime.block_on(clamd.check()).err();
    Ok(fault.map(|fault| told(&config.location("virus.clamd"), &fault)))
}
