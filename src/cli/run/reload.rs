//! The signals of the daemon: SIGHUP reloads, SIGTERM and SIGINT end it.

use std::path::Path;
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing::{error, info, warn};

use super::report;
use crate::adapters::instruments::SystemInstruments;
use crate::cli::Failure;
use crate::cli::load::{Loaded, load};
use crate::config::Config;
use crate::operations::current::Handle;
use crate::operations::ports::Instruments;

/// Reloads on SIGHUP, and tells the new configuration; returns on SIGTERM or SIGINT.
pub(super) async fn until_terminated(
    path: &Path,
    configs: &watch::Sender<Arc<Config>>,
    current: &Handle,
) -> Result<(), Failure> {
    let started_with = configs.borrow().clone();
    let mut hangup = signal(SignalKind::hangup())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    loop {
        tokio::select! {
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            _ = hangup.recv() => reload(path, &started_with, configs, current).await,
        }
    }
}

/// Reads everything again; what is wrong leaves all as it was.
async fn reload(path: &Path, started_with: &Config, configs: &watch::Sender<Arc<Config>>, current: &Handle) {
    let path_owned = path.to_owned();
    let loading = tokio::task::spawn_blocking(move || -> Result<(Config, Loaded), Failure> {
        let config = Config::read(&path_owned)?;
        let loaded = load(&config, SystemInstruments.now())?;
        Ok((config, loaded))
    });
    let had_directory = current.now().directory.is_known();
    match loading.await.map_err(Failure::from).and_then(|result| result) {
        Ok((_, loaded)) if had_directory && !loaded.current.directory.is_known() => {
            report(&loaded.warnings);
            error!("not reloaded, the state before stays in force: run `pec-milter directory refresh` first");
        }
        Ok((config, loaded)) => {
            report(&loaded.warnings);
            if config.needs_restart_after(started_with) {
                warn!(
                    "listen, postfix, dovecot, log, virus, metrics, limits.message_bytes and trust.crl_* (but crl_missing) change with a restart only"
                );
            }
            let domains = loaded.current.directory.domains();
            // Together: whoever sees the new value and then asks for the configuration gets the new one.
            configs.send_modify(|in_force| {
                *in_force = Arc::new(config);
                current.replace(loaded.current.after(&current.now()));
            });
            info!(domains, "reloaded");
        }
        Err(failure) => error!(%failure, "not reloaded, the state before stays in force"),
    }
}
