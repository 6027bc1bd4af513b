//! `directory`: the providers directory fetched by hand, read, compared, and this provider's own record of it (§4.5).

pub mod diff;
pub mod show;

use std::fs;
use std::io::{Write, stdout};
use std::path::Path;

use super::Failure;
use super::load::{self, Refresher, Unusable, load};
use crate::adapters::instruments::SystemInstruments;
use crate::config::{Config, Remote};
use crate::directory::{self, Terms};
use crate::operations::causes;
use crate::operations::ports::Instruments;
use crate::operations::refresh_directory::{Refreshed, refresh as refresh_once};

/// Fetches now; yes if the directory is current then, no if what came is refused.
pub fn refresh(config: &Path, accept_shrunken: bool) -> Result<bool, Failure> {
    let config = Config::read(config)?;
    let Refresher { server, pin, store } = load::refresher(&config, remote(&config)?).map_err(unusable)?;
    let terms = Terms { accept_shrunken, ..terms(&config) };
    let mut out = stdout().lock();
    match refresh_once(&store, &server, pin.as_ref(), terms) {
        Ok(Refreshed::Unchanged(edition)) => {
            let (providers, domains) = (edition.directory.providers(), edition.directory.domains());
            writeln!(out, "unchanged: {providers} providers with {domains} domains")?;
            Ok(true)
        }
        Ok(Refreshed::Replaced { edition, comparison }) => {
            for remark in edition.directory.remarks() {
                writeln!(out, "remark: {remark}")?;
            }
            let (providers, domains) = (edition.directory.providers(), edition.directory.domains());
            writeln!(out, "in force: {providers} providers with {domains} domains; {}", comparison.summary())?;
            writeln!(out, "a running daemon takes it over within seconds")?;
            Ok(true)
        }
        Err(refused) if refused.is_refusal() => {
            writeln!(out, "REFUSED, the directory in force stays: {}", causes(&refused))?;
            Ok(false)
        }
        Err(failure) => Err(failure.into()),
    }
}

/// Writes this provider's record as LDIF, or signs it into a file.
pub fn own_record(config: &Path, location: Option<&str>, p7m: Option<&Path>) -> Result<bool, Failure> {
    let config = Config::read(config)?;
    let now = SystemInstruments.now();
    let current = load(&config, now)?.current;
    let ldif = directory::own_record(&current.own_record(), location);
    match p7m {
        None => stdout().lock().write_all(ldif.as_bytes())?,
        Some(file) => {
            let signed = current.keyring.signer(now, now)?.attached(ldif.as_bytes(), now)?;
            fs::write(file, signed).map_err(|error| format!("cannot write {}: {error}", file.display()))?;
        }
    }
    Ok(true)
}

fn terms(config: &Config) -> Terms {
    let most_lost_percent = config.directory.most_lost_percent;
    Terms { most_lost_percent, accept_shrunken: false, now: SystemInstruments.now() }
}

fn remote(config: &Config) -> Result<&Remote, Failure> {
    config.directory.remote().ok_or_else(|| {
        let place = config.location("directory.url");
        format!("{place}: not set, so there is nothing to fetch; directory.ldif is read again on SIGHUP").into()
    })
}

fn unusable(problem: String) -> Failure {
    Unusable(vec![problem]).into()
}
