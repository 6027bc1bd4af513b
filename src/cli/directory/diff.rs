//! `directory diff`: what another directory would change, and whether it would be taken.

use std::fs;
use std::io::{Write, stdout};
use std::path::Path;

use super::{remote, terms, unusable};
use crate::adapters::directory_store::CopiesOnDisk;
use crate::cli::Failure;
use crate::cli::load;
use crate::config::Config;
use crate::directory::{Comparison, Edition, Form, Refusal, judge, read};
use crate::operations::causes;
use crate::operations::ports::{DirectoryCopy, DirectorySource, DirectoryStore, Fetched};
use crate::operations::refresh_directory::preview;

/// Compares what the server gives now, or a file, with the directory in force; yes if a refresh would take it.
pub fn candidate(config: &Path, file: Option<&Path>) -> Result<bool, Failure> {
    let config = Config::read(config)?;
    let fetched = file.map(from_file).transpose()?;
    if let (None, Some(fetched)) = (config.directory.remote(), &fetched) {
        return against_local_file(&config, fetched);
    }
    let remote = remote(&config)?;
    let pin = load::pin(&config, remote).map_err(unusable)?;
    let fetched = match fetched {
        Some(fetched) => fetched,
        None => load::refresher(&config, remote).map_err(unusable)?.server.fetch()?,
    };
    let store = CopiesOnDisk::at(&config.directory.store);
    match preview(&store, &fetched, pin.as_ref(), terms(&config)) {
        Ok((comparison, refusal)) => print(&comparison, refusal.as_ref()),
        Err(refused) if refused.is_refusal() => {
            writeln!(stdout(), "it would be REFUSED: {}", causes(&refused))?;
            Ok(false)
        }
        Err(failure) => Err(failure.into()),
    }
}

/// Compares the copy in force with the one before.
pub fn last(config: &Path) -> Result<bool, Failure> {
    let config = Config::read(config)?;
    remote(&config)?;
    let store = CopiesOnDisk::at(&config.directory.store);
    let copies = store.copies()?;
    let (Some(previous), Some(current)) = (&copies.previous, &copies.current) else {
        return Err("there are no two copies yet to compare".into());
    };
    // Both were verified when they came.
    let edition = |copy: &DirectoryCopy| -> Result<Edition, Failure> {
        Ok(read(copy.form, &store.octets(copy)?, None, copy.fetched)?)
    };
    print(&Comparison::between(&edition(previous)?.directory, &edition(current)?.directory), None)
}

fn against_local_file(config: &Config, fetched: &Fetched) -> Result<bool, Failure> {
    let terms = terms(config);
    let in_force = Edition { directory: load::directory(config).map_err(unusable)?, signed_at: None };
    let candidate = Edition { signed_at: None, ..read(fetched.form, &fetched.octets, None, terms.now)? };
    let comparison = Comparison::between(&in_force.directory, &candidate.directory);
    print(&comparison, judge(Some(&in_force), &candidate, terms).err().as_ref())
}

/// LDIF is text; what is not is taken for signed data.
fn from_file(file: &Path) -> Result<Fetched, Failure> {
    let octets = fs::read(file).map_err(|error| format!("cannot read {}: {error}", file.display()))?;
    let form = if octets.first() == Some(&0x30) { Form::P7m } else { Form::Ldif };
    Ok(Fetched { form, octets })
}

fn print(comparison: &Comparison, refusal: Option<&Refusal>) -> Result<bool, Failure> {
    let mut out = stdout().lock();
    for change in &comparison.changes {
        writeln!(out, "{change}")?;
    }
    writeln!(out, "{}", comparison.summary())?;
    if let Some(refusal) = refusal {
        writeln!(out, "it would be REFUSED: {refusal}")?;
    }
    Ok(refusal.is_none())
}
