//! `virus`: the store of infected messages, for administrators and for whoever asks the provider about them (§2.2.4).

use std::io::{Write, stdout};
use std::path::Path;

use jiff::civil::Date;

use super::Failure;
use crate::adapters::virus_storage::{Record, StorageError, VirusStorage};
use crate::config::Config;

/// One line for each message; no if there is none.
pub fn list(config: &Path, from: Option<Date>, to: Option<Date>) -> Result<bool, Failure> {
    let records = store(config)?.list(from, to)?;
    let mut out = stdout().lock();
    for record in &records {
        let Record { name, virus, found, sender, recipients, .. } = record;
        let at = record.instant();
        writeln!(out, "{} {} {}  {found:<14} {virus}", at.day(), at.time(), at.zone())?;
        writeln!(out, "    {sender} to {}", recipients.join(", "))?;
        writeln!(out, "    {name}")?;
    }
    if records.is_empty() {
        writeln!(out, "no infected message")?;
    }
    Ok(!records.is_empty())
}

/// Everything that is known of one message; no if it is not there.
pub fn show(config: &Path, name: &str) -> Result<bool, Failure> {
    let Some(record) = known(store(config)?.show(name))? else { return Ok(false) };
    let mut out = stdout().lock();
    let at = record.instant();
    writeln!(out, "name        {}", record.name)?;
    writeln!(out, "instant     {} {} ({})", at.day(), at.time(), at.zone())?;
    writeln!(out, "virus       {}", record.virus)?;
    writeln!(out, "found       {}", record.found)?;
    writeln!(out, "transaction {}", record.pec_msgid)?;
    writeln!(out, "queue       {}", record.queue_id)?;
    writeln!(out, "sender      {}", record.sender)?;
    for recipient in &record.recipients {
        writeln!(out, "recipient   {recipient}")?;
    }
    writeln!(out, "octets      {}", record.octets)?;
    writeln!(out, "sha256      {}", record.sha256)?;
    Ok(true)
}

/// Copies one message out; no if it is not there.
pub fn export(config: &Path, name: &str, to: &Path) -> Result<bool, Failure> {
    let Some(record) = known(store(config)?.export(name, to))? else { return Ok(false) };
    let (octets, virus) = (record.octets, record.virus);
    writeln!(stdout(), "{octets} octets written to {}; they are infected: {virus}", to.display())?;
    Ok(true)
}

fn store(config: &Path) -> Result<VirusStorage, Failure> {
    Ok(VirusStorage::at(&Config::read(config)?.virus.store))
}

/// A name that the store does not know is an answer, not a failure.
fn known(found: Result<Record, StorageError>) -> Result<Option<Record>, Failure> {
    match found {
        Ok(record) => Ok(Some(record)),
        Err(unknown @ StorageError::Unknown(_)) => {
            writeln!(stdout(), "{unknown}")?;
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}
