//! `log hold`: what must stay beyond its retention, because a judge or a dispute needs it (§2.3).

use std::io::{Write, stdout};
use std::path::Path;

use crate::adapters::instruments::SystemInstruments;
use crate::adapters::sqlite::SqliteLog;
use crate::cli::Failure;
use crate::config::Config;
use crate::legal_log::Entry;
use crate::legal_log::hold::{Held, Hold};
use crate::operations::ports::{EventLog, Instruments};

/// Records a hold and tells its number.
pub fn add(config: &Path, held: &Held, reason: &str) -> Result<bool, Failure> {
    let config = Config::read(config)?;
    let (held, is_known) = resolved(&config, held)?;
    let number = record(&config, Hold::entry(&held, reason, SystemInstruments.now()))?;
    writeln!(stdout(), "hold {number}: nothing of {} is removed until its release", named(&held))?;
    if !is_known {
        writeln!(stdout(), "the log has no row about it yet: is it written as `log show` has it?")?;
    }
    Ok(true)
}

/// One line for each hold that stands; no if there is none.
pub fn list(config: &Path) -> Result<bool, Failure> {
    let holds = standing(&Config::read(config)?)?;
    let mut out = stdout().lock();
    for Hold { number, since, held, reason } in &holds {
        writeln!(out, "hold {number} since {} {}: {} ({reason})", since.day(), since.time(), named(held))?;
    }
    if holds.is_empty() {
        writeln!(out, "no hold stands")?;
    }
    Ok(!holds.is_empty())
}

/// Ends a hold; no if none of this number stands.
pub fn release(config: &Path, number: i64, reason: &str) -> Result<bool, Failure> {
    let config = Config::read(config)?;
    let holds = standing(&config)?;
    let Some(hold) = holds.iter().find(|hold| hold.number == number) else {
        writeln!(stdout(), "no hold {number} stands; log hold list tells those that do")?;
        return Ok(false);
    };
    record(&config, hold.release(reason, SystemInstruments.now()))?;
    writeln!(stdout(), "hold {number} is released: {} is removed when its retention is over", named(&hold.held))?;
    Ok(true)
}

/// The transaction that any of its Message-IDs means, also a receipt's; and whether the log knows it.
fn resolved(config: &Config, held: &Held) -> Result<(Held, bool), Failure> {
    let Held::Msgid(id) = held else { return Ok((held.clone(), true)) };
    let log = SqliteLog::open_read_only(&config.log.database)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let found = runtime.block_on(log.of_msgid(id))?.entries;
    let is_direct = found.iter().any(|one| held.concerns(&one.entry));
    let transaction = found.iter().find_map(|one| one.entry.pec_msgid.as_ref());
    Ok(match transaction {
        Some(transaction) if !is_direct => (Held::msgid(transaction.as_str()), true),
        _ => (held.clone(), is_direct),
    })
}

fn standing(config: &Config) -> Result<Vec<Hold>, Failure> {
    let log = SqliteLog::open_read_only(&config.log.database)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(log.holds())?)
}

/// Makes an entry durable; returns its place in the log.
fn record(config: &Config, entry: Entry) -> Result<i64, Failure> {
    drop(SqliteLog::open_read_only(&config.log.database)?);
    let log = SqliteLog::open(&config.log.database)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let recorded = runtime.block_on(log.record(vec![entry]))?;
    runtime.block_on(log.close())?;
    let number = recorded.first().map(|one| one.sequence);
    number.ok_or_else(|| "the log gave no place for the entry".into())
}

fn named(held: &Held) -> String {
    match held {
        Held::Msgid(id) => format!("the transaction {id}"),
        Held::Mailbox(mailbox) => format!("the mailbox {mailbox}"),
    }
}
