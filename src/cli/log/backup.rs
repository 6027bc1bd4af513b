//! `log backup`: a copy of the event log while mail flows (§2.3).

use std::io::{Write, stdout};
use std::path::Path;

use crate::adapters::sqlite::SqliteLog;
use crate::cli::Failure;
use crate::config::Config;

/// Writes the log as it is in this moment into a new file, and looks at the copy before it gets its name.
pub fn backup(config: &Path, to: &Path) -> Result<bool, Failure> {
    let config = Config::read(config)?;
    let last = SqliteLog::backup(&config.log.database, to)?;
    writeln!(stdout(), "{} holds the log up to row {}", to.display(), last.sequence)?;
    Ok(true)
}
