//! Everything that runs side by side: three milters, the hop, the table of TLS policies, the watch for timeouts, the seals
//! of the log, the work in the background.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tracing::{debug, info};

use super::background;
use super::directory;
use super::reload::until_terminated;
use super::scanner;
use super::{group_of, report};
use crate::adapters::clamd::Clamd;
use crate::adapters::hop_server::HopServer;
use crate::adapters::instruments::SystemInstruments;
use crate::adapters::milter::{self, Milter, Role};
use crate::adapters::originals::{Originals, OriginalsKey};
use crate::adapters::seal_store::SealFolder;
use crate::adapters::socketmap::{self, Answer};
use crate::adapters::sqlite::{SqliteLog, StoreError};
use crate::adapters::virus_storage::VirusStorage;
use crate::adapters::{lmtp, prometheus, socket};
use crate::cli::Failure;
use crate::cli::load::{self, Loaded, Unusable, told};
use crate::cli::servers;
use crate::config::Config;
use crate::legal_log::Link;
use crate::operations::current::Handle;
use crate::operations::deliver::{Hop, WaitingReports};
use crate::operations::ports::OriginalStore;
use crate::operations::virus_guard::VirusGuard;
use crate::operations::watch_timeouts::TimeoutWatch;

/// A log that is begun anew where another one was sealed would be a second truth.
async fn refuse_new_log(config: &Config) -> Result<(), Failure> {
    let is_sealed = !SealFolder::at(&config.log.seals).list()?.is_empty();
    let has_rows = match SqliteLog::open_read_only(&config.log.database) {
        Ok(log) => log.last_link().await? != Link::BEFORE_FIRST,
        Err(StoreError::Empty { .. }) => false,
        // What else is wrong with it is told when it is opened.
        Err(_) => config.log.database.exists(),
    };
    if has_rows || !is_sealed {
        return Ok(());
    }
    let (place, database) = (config.location("log.database"), config.log.database.display());
    let folder = config.log.seals.display();
    Err(format!(
        "{place}: there is no log in {database}, and {folder} has the seals of one: put a backup back and run `pec-milter log \
         restore`, or move the seals to another place"
    )
    .into())
}

/// Opens everything, serves until a signal ends it, and lets the messages in work be finished.
pub(super) async fn serve(path: &Path, config: Config, loaded: Loaded) -> Result<(), Failure> {
    let group = group_of(&config)?;
    if let Some(listen) = config.metrics.listen {
        prometheus::serve(listen).map_err(|error| told(&config.location("metrics.listen"), &error))?;
    }
    report(&loaded.warnings);
    let current = Handle::new(loaded.current);
    refuse_new_log(&config).await?;
    let log = Arc::new(SqliteLog::open(&config.log.database)?);
    let clamd = servers::clamd(&config, Duration::from_secs(config.virus.timeout_seconds)).map(Arc::new);
    let viruses = virus_guard(&config, clamd.clone())?;
    let sealing = load::sealing(&config, &current, &log).map_err(|problem| Unusable(vec![problem]))?;
    let access = socket::listen(config.listen.access.path(), group).await?;
    let incoming = socket::listen(config.listen.incoming.path(), group).await?;
    let bounces = socket::listen(config.listen.bounces.path(), group).await?;
    let lmtp_listener = socket::listen(config.listen.lmtp.path(), group).await?;
    let tls_policy = socket::listen(config.listen.tls_policy.path(), group).await?;

    let hostname = servers::hostname(&config);
    let message_limit = usize::try_from(config.limits.message_bytes)?;
    // An envelope is larger than the message it carries, by its texts, certification data and signature; a report of Postfix
    // carries the envelope.
    let report_limit = message_limit.saturating_add(ENVELOPE_ROOM + REPORT_ROOM);
    let mailboxes = Arc::new(servers::mailboxes(&config));
    let hop = Hop {
        viruses: viruses.clone(),
        originals: originals(&config, loaded.originals)?,
        current: current.clone(),
        log: log.clone(),
        mailboxes: mailboxes.clone(),
        injection: servers::injection(&config),
        instruments: SystemInstruments,
        waiting_reports: WaitingReports::default(),
    };
    let timeouts = TimeoutWatch {
        current: current.clone(),
        log: log.clone(),
        mailboxes: mailboxes.clone(),
        injection: servers::injection(&config),
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
        log: log.clone(),
        mailboxes: mailboxes.clone(),
        instruments: SystemInstruments,
        message_limit: match role {
            Role::Access | Role::Incoming => message_limit,
            Role::Bounces => report_limit,
        },
        viruses: viruses.clone(),
    };
    let access = tokio::spawn(milter::serve(access, milter_of(Role::Access), stopped()));
    let incoming = tokio::spawn(milter::serve(incoming, milter_of(Role::Incoming), stopped()));
    let bounces = tokio::spawn(milter::serve(bounces, milter_of(Role::Bounces), stopped()));
    let settings = lmtp::Settings { hostname, message_limit: report_limit };
    let hop = tokio::spawn(lmtp::serve(lmtp_listener, Arc::new(HopServer(hop)), settings, stopped()));
    let tls_policy = tokio::spawn(socketmap::serve(tls_policy, tls_policies(current.clone()), stopped()));
    let (configs, config_of_now) = watch::channel(Arc::new(config));
    let background = background::start(&config_of_now, &current, &log, &stopping)?;
    if let Some(clamd) = clamd {
        tokio::spawn(scanner::watch(clamd, config_of_now.clone()));
    }
    directory::start(config_of_now, &current);
    let watching = stopping.clone();
    let timeouts = tokio::spawn(async move { timeouts.run(watching).await });
    let sealing = tokio::spawn(sealing.run(stopping.clone()));
    info!(provider = %current.now().provider.name, "serving");
    sd_notify::notify(&[sd_notify::NotifyState::Ready])?;

    until_terminated(path, &configs, &current).await?;
    info!("stopping: messages in work are finished, Postfix keeps the rest");
    // Without receivers there is nothing left to stop.
    _ = stop.send(true);
    access.await??;
    incoming.await??;
    bounces.await??;
    hop.await?;
    tls_policy.await?;
    timeouts.await?;
    background.await?;
    sealing.await?;
    if let Some(log) = Arc::into_inner(log) {
        log.close().await?;
    }
    Ok(())
}

/// Room for what an envelope adds: certification data and texts of 500 recipients, certificates, inherited headers.
const ENVELOPE_ROOM: usize = 2 * 1024 * 1024;

/// What Postfix reports of some thousand recipients.
const REPORT_ROOM: usize = 4 * 1024 * 1024;

/// The table `tls` for Postfix's `smtp_tls_policy_maps`, out of the directory in force (§5.3).
fn tls_policies(current: Handle) -> impl Fn(&str, &str) -> Answer {
    move |table, next_hop| match table {
        "tls" => {
            let policy = current.now().tls_policy(next_hop);
            debug!(next_hop, ?policy, "TLS policy");
            match policy {
                Ok(Some(policy)) => Answer::Found(policy.to_string()),
                Ok(None) => Answer::NotFound,
                Err(unknown) => Answer::Temporary(unknown.to_string()),
            }
        }
        _ => Answer::Permanent("the only table is tls: end smtp_tls_policy_maps with :tls"),
    }
}

/// The store of originals, made before anything could have to be kept there.
fn originals(config: &Config, key: Option<OriginalsKey>) -> Result<Option<Arc<dyn OriginalStore>>, Failure> {
    let wanted = &config.log.originals;
    let Some(key) = key.filter(|_| wanted.are_kept) else { return Ok(None) };
    let store = Originals::open(&wanted.store, key).map_err(|error| told(&config.location("log.originals"), &error))?;
    Ok(Some(Arc::new(store)))
}

/// Scanner and store; the store is made before anything could have to be put there.
fn virus_guard(config: &Config, clamd: Option<Arc<Clamd>>) -> Result<VirusGuard, Failure> {
    let Some(clamd) = clamd else { return Ok(VirusGuard::off()) };
    let store =
        VirusStorage::open(&config.virus.store).map_err(|error| told(&config.location("virus.store"), &error))?;
    Ok(VirusGuard::new(clamd, store))
}
