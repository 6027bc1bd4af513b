//! `run`: the daemon. Everything is checked before the first socket opens; a reload keeps the old state on any error.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nix::unistd::{Gid, Group};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing::{error, info, warn};

use super::Failure;
use super::load::{Loaded, load, told};
use crate::adapters::clamd::Clamd;
use crate::adapters::hop_server::HopServer;
use crate::adapters::instruments::SystemInstruments;
use crate::adapters::milter::{self, Milter, Role};
use crate::adapters::relay::{self, DovecotLmtp, PostfixInjection};
use crate::adapters::sqlite::SqliteLog;
use crate::adapters::virus_storage::VirusStorage;
use crate::adapters::{lmtp, socket};
use crate::config::{Config, Endpoint, LocalEndpoint};
use crate::operations::current::Handle;
use crate::operations::deliver::Hop;
use crate::operations::ports::Instruments;
use crate::operations::virus_guard::VirusGuard;
use crate::operations::watch_timeouts::TimeoutWatch;

pub fn run(path: &Path) -> Result<bool, Failure> {
    start_logging();
    let config = Config::read(path)?;
    let loaded = load(&config, SystemInstruments.now())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(serve(path, config, loaded))?;
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

async fn serve(path: &Path, config: Config, loaded: Loaded) -> Result<(), Failure> {
    report(&loaded.warnings);
    let current = Handle::new(loaded.current);
    let log = Arc::new(SqliteLog::open(&config.log.database)?);
    let group = group_of(&config)?;
    let viruses = virus_guard(&config)?;
    let access = socket::listen(config.listen.access.path(), group).await?;
    let incoming = socket::listen(config.listen.incoming.path(), group).await?;
    let bounces = socket::listen(config.listen.bounces.path(), group).await?;
    let lmtp_listener = socket::listen(config.listen.lmtp.path(), group).await?;

    let hostname = config.provider.sending_address.domain().to_string();
    let message_limit = usize::try_from(config.limits.message_bytes)?;
    let mailboxes = match &config.dovecot.lmtp {
        Endpoint::Unix(socket) => relay::Endpoint::Unix(socket.path().to_owned()),
        Endpoint::Tcp(address) => relay::Endpoint::Tcp(*address),
    };
    let mailboxes = Arc::new(DovecotLmtp::new(mailboxes, &hostname));
    let injection = relay::Endpoint::Tcp(config.postfix.inject.socket_addr());
    let hop = Hop {
        viruses: viruses.clone(),
        current: current.clone(),
        log: log.clone(),
        mailboxes: mailboxes.clone(),
        injection: PostfixInjection::new(injection.clone(), &hostname),
        instruments: SystemInstruments,
    };
    let timeouts = TimeoutWatch {
        current: current.clone(),
        log: log.clone(),
        mailboxes: mailboxes.clone(),
        injection: PostfixInjection::new(injection, &hostname),
        instruments: SystemInstruments,
    };
    let (stop, stopping) = watch::channel(false);
    let stopped = || {
        let mut stopping = stopping.clone();
        async move { _ = stopping.wait_for(|stop| *stop).await }
    };
    let milter_of = |role| Milter {
        role,
        current: current.clone(),
        mailboxes: mailboxes.clone(),
        instruments: SystemInstruments,
        message_limit,
        viruses: viruses.clone(),
    };
    let access = tokio::spawn(milter::serve(access, milter_of(Role::Access), stopped()));
    let incoming = tokio::spawn(milter::serve(incoming, milter_of(Role::Incoming), stopped()));
    let bounces = tokio::spawn(milter::serve(bounces, milter_of(Role::Bounces), stopped()));
    // An envelope is larger than the message it carries, by its texts, certification data and signature.
    let settings = lmtp::Settings { hostname, message_limit: message_limit.saturating_add(ENVELOPE_ROOM) };
    let hop = tokio::spawn(lmtp::serve(lmtp_listener, Arc::new(HopServer(hop)), settings, stopped()));
    tokio::spawn(purge_daily(VirusStorage::at(&config.virus.store)));
    let watching = stopping.clone();
    let timeouts = tokio::spawn(async move { timeouts.run(watching).await });
    info!(provider = %config.provider.name, "serving");
    sd_notify::notify(&[sd_notify::NotifyState::Ready])?;

    until_terminated(path, &config, &current).await?;
    info!("stopping: messages in work are finished, Postfix keeps the rest");
    // Without receivers there is nothing left to stop.
    _ = stop.send(true);
    access.await??;
    incoming.await??;
    bounces.await??;
    hop.await?;
    timeouts.await?;
    if let Some(log) = Arc::into_inner(log) {
        log.close().await?;
    }
    Ok(())
}

/// Room for what an envelope adds: certification data and texts of 500 recipients, certificates, inherited headers.
const ENVELOPE_ROOM: usize = 2 * 1024 * 1024;

/// Scanner and store; the store is made before anything could have to be put there.
fn virus_guard(config: &Config) -> Result<VirusGuard, Failure> {
    let endpoint = match &config.virus.clamd {
        None => return Ok(VirusGuard::off()),
        Some(LocalEndpoint::Unix(socket)) => relay::Endpoint::Unix(socket.path().to_owned()),
        Some(LocalEndpoint::Tcp(address)) => relay::Endpoint::Tcp(address.socket_addr()),
    };
    let store =
        VirusStorage::open(&config.virus.store).map_err(|error| told(&config.location("virus.store"), &error))?;
    Ok(VirusGuard::new(Clamd::new(endpoint, Duration::from_secs(config.virus.timeout_seconds)), store))
}

/// Removes infected messages that are past their retention (§2.2.4), now and once a day.
async fn purge_daily(store: VirusStorage) {
    const DAY: Duration = Duration::from_secs(86_400);
    let mut days = tokio::time::interval(DAY);
    loop {
        days.tick().await;
        let (store, today) = (store.clone(), SystemInstruments.now().date());
        match tokio::task::spawn_blocking(move || store.purge(today)).await {
            Ok(Ok(removed)) => {
                removed.iter().for_each(|day| info!(%day, "infected messages removed after 30 months"));
            }
            Ok(Err(error)) => error!(%error, "infected messages could not be removed after 30 months"),
            Err(error) => error!(%error, "infected messages could not be removed after 30 months"),
        }
    }
}

/// Reloads on SIGHUP; returns on SIGTERM or SIGINT.
async fn until_terminated(path: &Path, started_with: &Config, current: &Handle) -> Result<(), Failure> {
    let mut hangup = signal(SignalKind::hangup())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    loop {
        tokio::select! {
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            _ = hangup.recv() => reload(path, started_with, current).await,
        }
    }
}

/// Reads everything again; what is wrong leaves all as it was.
async fn reload(path: &Path, started_with: &Config, current: &Handle) {
    let path_owned = path.to_owned();
    let loading = tokio::task::spawn_blocking(move || -> Result<(Config, Loaded), Failure> {
        let config = Config::read(&path_owned)?;
        let loaded = load(&config, SystemInstruments.now())?;
        Ok((config, loaded))
    });
    match loading.await.map_err(Failure::from).and_then(|result| result) {
        Ok((config, loaded)) => {
            report(&loaded.warnings);
            if config.needs_restart_after(started_with) {
                warn!("listen, postfix, dovecot, log, virus and limits.message_bytes change with a restart only");
            }
            let domains = loaded.current.directory.domains();
            current.replace(loaded.current);
            info!(domains, "reloaded");
        }
        Err(failure) => error!(%failure, "not reloaded, the state before stays in force"),
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
