//! `log rebuild`: what is derived from the log, made anew.

use std::io::{Write, stdout};
use std::path::Path;

use crate::adapters::sqlite::SqliteLog;
use crate::cli::Failure;
use crate::config::Config;

/// Makes the watch and the search tables anew from the events.
pub fn rebuild(config: &Path) -> Result<bool, Failure> {
    let config = Config::read(config)?;
    // Made by nobody but the daemon.
    drop(SqliteLog::open_read_only(&config.log.database)?);
    let (watched, events) = SqliteLog::rebuild(&config.log.database)?;
    writeln!(stdout(), "{watched} recipients are watched")?;
    writeln!(stdout(), "{events} events can be searched")?;
    Ok(true)
}
