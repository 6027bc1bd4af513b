//! `log seal`: seals and stamps now, beside a running daemon or without one.

use std::io::{Write, stdout};
use std::path::Path;
use std::sync::Arc;

use crate::adapters::instruments::SystemInstruments;
use crate::adapters::sqlite::SqliteLog;
use crate::cli::Failure;
use crate::cli::load::{Loaded, Unusable, load, sealing};
use crate::config::Config;
use crate::legal_log::hexadecimal;
use crate::operations::causes;
use crate::operations::current::Handle;
use crate::operations::ports::Instruments;
use crate::operations::seal_log::{Made, Stamping};

/// Yes if something was sealed or stamped and every seal has its stamp now.
pub fn seal(config: &Path) -> Result<bool, Failure> {
    let config = Config::read(config)?;
    // Only a database that is there is sealed: a mistyped path must not become an empty log.
    SqliteLog::open_read_only(&config.log.database)?;
    let Loaded { current, .. } = load(&config, SystemInstruments.now())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(async {
        let log = Arc::new(SqliteLog::open(&config.log.database)?);
        let sealing = sealing(&config, &Handle::new(current), &log).map_err(|problem| Unusable(vec![problem]))?;
        let mut out = stdout().lock();
        let (mut is_sealed, mut is_over) = (false, false);
        while !is_over {
            let Some(Made { seal, was_left }) = sealing.seal().await? else { break };
            // What a crash left half made comes first, then what was recorded since.
            is_over = !was_left;
            let (first, last) = (seal.first(), seal.last.sequence);
            writeln!(out, "sealed   {}  rows {first} to {last}  SHA-256 {}", seal.name(), hexadecimal(&seal.digest()))?;
            is_sealed = true;
        }
        if !is_sealed {
            writeln!(out, "nothing to seal: nothing but seals and stamps was recorded since the last seal")?;
        }
        let Stamping { stamped, waiting, failure } = sealing.stamp().await?;
        for (name, stamp) in &stamped {
            writeln!(out, "stamped  {name}  {}  by {}, serial {}", stamp.at.rfc3339(), stamp.authority, stamp.serial)?;
        }
        for name in &waiting {
            writeln!(out, "WAITING  {name} has no time stamp")?;
        }
        if let Some(failure) = failure {
            writeln!(out, "not stamped: {}", causes(&failure))?;
        }
        drop(sealing);
        if let Some(log) = Arc::into_inner(log) {
            log.close().await?;
        }
        Ok((is_sealed || !stamped.is_empty()) && waiting.is_empty())
    })
}
