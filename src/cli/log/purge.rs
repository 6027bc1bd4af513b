//! `log purge`: what is past its retention goes now, as `run` has it go every hour (§2.2.4, §2.3).

use std::io::{Write, stdout};
use std::path::Path;
use std::sync::Arc;

use tokio::sync::watch;

use crate::adapters::instruments::SystemInstruments;
use crate::adapters::originals::Shelves;
use crate::adapters::seal_store::SealFolder;
use crate::adapters::sqlite::SqliteLog;
use crate::adapters::virus_storage::VirusStorage;
use crate::cli::Failure;
use crate::cli::log::verify;
use crate::config::Config;
use crate::operations::ports::{DayStore, OutsideFault, SealJudge};
use crate::operations::purge_log::LogPurge;
use crate::operations::verify_log::Selected;

/// What removes what is past its retention from the places that the configuration names.
///
/// With `is_clock_right` somebody vouches for the clock, however long the log was silent.
pub fn of(
    configs: &watch::Receiver<Arc<Config>>,
    log: Arc<SqliteLog>,
    is_clock_right: bool,
) -> LogPurge<SqliteLog, SealFolder, SystemInstruments> {
    let config = configs.borrow().clone();
    let viruses: Arc<dyn DayStore> = Arc::new(VirusStorage::at(&config.virus.store));
    // Also where none are kept any more.
    let originals: Arc<dyn DayStore> = Arc::new(Shelves::at(&config.log.originals.store));
    LogPurge {
        log,
        seals: SealFolder::at(&config.log.seals),
        stores: vec![viruses, originals],
        instruments: SystemInstruments,
        retention: config.log.retention,
        needs_stamp: config.log.tsa.is_some(),
        judge: Arc::new(Judge { seals: SealFolder::at(&config.log.seals), configs: configs.clone() }),
        is_clock_right,
    }
}

/// Holds a seal against the CAs and certificates that the configuration names now.
pub struct Judge {
    pub seals: SealFolder,
    pub configs: watch::Receiver<Arc<Config>>,
}

impl SealJudge for Judge {
    fn violations(&self, name: &str) -> Result<Vec<String>, OutsideFault> {
        let config = self.configs.borrow().clone();
        verify::violations(&config, &Selected { seals: &self.seals, names: [name.to_owned()].into() })
    }
}

/// One line for each thing removed, and for each that stays; no if something stays that no hold keeps.
pub fn purge(config: &Path, is_clock_right: bool) -> Result<bool, Failure> {
    let config = Arc::new(Config::read(config)?);
    // Made by nobody but the daemon: an empty one would hold nothing against what lies beside it.
    drop(SqliteLog::open_read_only(&config.log.database)?);
    let log = Arc::new(SqliteLog::open(&config.log.database)?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let pass = runtime.block_on(of(&watch::channel(config.clone()).1, log.clone(), is_clock_right).pass())?;
    let mut out = stdout().lock();
    for seal in &pass.purged {
        writeln!(out, "removed: rows {} to {} ({})", seal.first(), seal.last.sequence, seal.name())?;
    }
    for (seal, kept) in &pass.kept {
        writeln!(out, "kept: rows {} to {} ({}): {kept}", seal.first(), seal.last.sequence, seal.name())?;
    }
    for (what, day) in &pass.days {
        writeln!(out, "removed: {what} of {day}")?;
    }
    if pass.purged.is_empty() && pass.kept.is_empty() && pass.days.is_empty() {
        writeln!(out, "nothing is past its retention of {} months", config.log.retention.number())?;
    }
    if let Some(log) = Arc::into_inner(log) {
        runtime.block_on(log.close())?;
    }
    Ok(pass.kept.iter().all(|(_, kept)| kept.is_by_hold()))
}
