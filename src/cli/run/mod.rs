//! `run`: the daemon. Everything is checked before the first socket opens; a reload keeps the old state on any error.

mod background;
mod certificates;
mod directory;
mod reload;
mod scanner;
mod services;

use std::path::Path;

use nix::unistd::{Gid, Group};
use tracing::warn;

use super::Failure;
use super::load::load;
use crate::adapters::instruments::SystemInstruments;
use crate::config::Config;
use crate::operations::ports::Instruments;

pub fn run(path: &Path) -> Result<bool, Failure> {
    start_logging();
    let config = Config::read(path)?;
    let loaded = load(&config, SystemInstruments.now())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(services::serve(path, config, loaded))?;
    Ok(true)
}

/// Standard error, one line an event; the time is the journal's where that reads it.
fn start_logging() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false);
    match std::env::var_os("JOURNAL_STREAM") {
        Some(_) => builder.without_time().with_target(false).init(),
        None => builder.with_target(false).init(),
    }
}

fn report(warnings: &[String]) {
    for warning in warnings {
        warn!("{warning}");
    }
}

pub(super) fn group_of(config: &Config) -> Result<Option<u32>, Failure> {
    let name = &config.listen.socket_group;
    let group = Group::from_name(name)?.ok_or_else(|| {
        format!(
            "{}: there is no group {name}; it must be the one Postfix runs with",
            config.location("listen.socket_group")
        )
    })?;
    Ok(Some(Gid::as_raw(group.gid)))
}
