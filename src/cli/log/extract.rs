//! `log extract`: what a mailbox's holder may ask of the log, as a signed package for him.

use std::fs;
use std::io::{self, Cursor, Write, stdout};
use std::ops::RangeInclusive;
use std::path::Path;

use jiff::civil::Date;
use zip::write::{SimpleFileOptions, ZipWriter};

use super::period;
use crate::adapters::durable;
use crate::adapters::instruments::SystemInstruments;
use crate::adapters::sqlite::SqliteLog;
use crate::cli::Failure;
use crate::cli::load::load;
use crate::cli::seals;
use crate::config::Config;
use crate::legal_log::extract::{Extract, SealOf, notes, readable};
use crate::model::Address;
use crate::operations::ports::Instruments;

/// The files of a seal that say nothing of anybody.
const SEAL_FILES: [&str; 3] = ["seal", "p7s", "tsr"];

/// Writes the package; no if there is nothing of the mailbox, which is then told by the package as well.
pub fn extract(config: &Path, mailbox: &Address, days: RangeInclusive<Date>, out: &Path) -> Result<bool, Failure> {
    let config = Config::read(config)?;
    if !config.provider.manages(mailbox) {
        let place = config.location("provider.mail_domains");
        return Err(format!("{mailbox} is no mailbox of this provider, see {place}").into());
    }
    if days.is_empty() {
        return Err(format!("--from {} is after --to {}", days.start(), days.end()).into());
    }
    let now = SystemInstruments.now();
    // Before the log is read: without a key there is nothing to give out.
    let current = load(&config, now)?.current;
    let signer = current.keyring.signer(now, now)?;

    let log = SqliteLog::open_read_only(&config.log.database)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let of_days = (*days.start(), *days.end());
    let signed = runtime.block_on(seals::signed(&config, &log))?;
    let transactions = runtime.block_on(log.concerning(mailbox.as_str(), period::of(days), signed))?;
    let seals = runtime.block_on(log.seals())?;
    let seals: Vec<SealOf> = seals.iter().filter_map(|one| SealOf::of(&one.entry)).collect();

    let extract = Extract::of(mailbox, &config.provider.name, of_days, now, &transactions, &seals);
    let name = out.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let package = package(&extract, &name, &config.log.seals)?;
    let signed = signer.attached(&package, now)?;
    durable::write_new(out, |file| file.write_all(&signed))
        .map_err(|error| format!("cannot write {}: {error}", out.display()))?;
    let (sent, received) = (extract.sent.len(), extract.received.len());
    writeln!(stdout(), "{sent} messages sent and {received} received: {}", out.display())?;
    Ok(sent + received > 0)
}

fn package(extract: &Extract, name: &str, seals: &Path) -> Result<Vec<u8>, Failure> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    let mut add = |name: &str, content: &[u8]| -> Result<(), Failure> {
        archive.start_file(name, SimpleFileOptions::default())?;
        Ok(archive.write_all(content)?)
    };
    add("LEGGIMI.txt", notes(extract, name).as_bytes())?;
    add("estratto.txt", readable(extract).as_bytes())?;
    add("estratto.json", extract.to_json()?.as_bytes())?;
    for seal in &extract.seals {
        for ending in SEAL_FILES {
            let file = format!("{}.{ending}", seal.name);
            match fs::read(seals.join(&file)) {
                Ok(content) => add(&format!("sigilli/{file}"), &content)?,
                // A stamp may be owed still.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(format!("cannot read {}: {error}", seals.join(&file).display()).into()),
            }
        }
    }
    Ok(archive.finish()?.into_inner())
}
