//! Work that nobody waits for and that ends with the process; what fails is told and tried again.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::certificates;
use crate::adapters::instruments::SystemInstruments;
use crate::adapters::revocation::{Depot, ListServers, ListStore};
use crate::adapters::sqlite::SqliteLog;
use crate::cli::Failure;
use crate::cli::load::told;
use crate::cli::log::purge;
use crate::config::Config;
use crate::operations::current::Handle;
use crate::operations::update_lists::ListUpdate;

/// Starts all of it; an error where it could never do its work. What is returned still writes to the log when it is told to
/// stop, and must be waited for.
pub(super) fn start(
    configs: &watch::Receiver<Arc<Config>>,
    current: &Handle,
    log: &Arc<SqliteLog>,
    stopping: &watch::Receiver<bool>,
) -> Result<JoinHandle<()>, Failure> {
    tokio::spawn(certificates::watch(current.clone()));
    let config = configs.borrow().clone();
    let purging = purge::of(configs, log.clone(), false);
    let until = stopping.clone();
    let purging = tokio::spawn(async move { purging.run(until).await });
    tokio::spawn(list_update(&config, current)?.run(stopping.clone()));
    Ok(purging)
}

/// What keeps the revocation lists up to date (§2.2.2).
fn list_update(config: &Config, current: &Handle) -> Result<ListUpdate<Depot, SystemInstruments>, Failure> {
    let store =
        ListStore::open(&config.trust.crl_store).map_err(|error| told(&config.location("trust.crl_store"), &error))?;
    let depot = Depot { servers: ListServers::default(), files: config.trust.crl_files.clone(), store };
    Ok(ListUpdate {
        current: current.clone(),
        depot: Arc::new(depot),
        instruments: SystemInstruments,
        fetches: config.trust.crl_fetch,
        interval_seconds: config.trust.crl_update_seconds,
    })
}
