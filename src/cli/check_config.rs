//! `check-config`: the way of `run` up to the sockets, and the effective configuration on standard output.

use std::io::{Write, stderr, stdout};
use std::path::Path;

use super::Failure;
use super::load::load;
use super::run::group_of;
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
