//! The daemon's part in keeping the providers directory current: fetching it every day, and taking over what lies in the
//! store, whoever put it there.
//!
//! The two know nothing of each other. So `pec-milter directory refresh`, run by hand, reaches the running daemon the same
//! way as the daemon's own fetch: by the register in the store, which is looked at every two seconds.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tracing::{error, info, warn};

use crate::adapters::directory_store::{CopiesOnDisk, Stamp};
use crate::adapters::instruments::SystemInstruments;
use crate::cli::load::{self, Refresher};
use crate::config::Config;
use crate::directory::{Edition, Terms};
use crate::model::TemporalReference;
use crate::operations::causes;
use crate::operations::current::{Current, Handle};
use crate::operations::ports::{Copies, DirectoryStore, Instruments};
use crate::operations::refresh_directory::{Refreshed, pause_after_failure, pause_after_success, refresh};

/// How soon a new copy is taken over.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Starts both; the configuration is that of the moment, so that a reload changes what is fetched next.
pub(super) fn start(configs: watch::Receiver<Arc<Config>>, current: &Handle) {
    tokio::spawn(keep_current(configs.clone(), current.clone()));
    tokio::spawn(follow_store(configs, current.clone()));
}

/// Fetches a day after the last success, and again and again after a failure.
async fn keep_current(mut configs: watch::Receiver<Arc<Config>>, current: Handle) {
    let mut failures = 0;
    let mut confirmed = None;
    loop {
        let config = configs.borrow_and_update().clone();
        let pause = match failures {
            0 => first_pause(&config).await,
            failures => pause_after_failure(failures, current.now().directory.is_known()),
        };
        if failures == 0 && config.directory.remote().is_some() && !pause.is_zero() {
            let at = SystemInstruments.now().unix().saturating_add(i64::try_from(pause.as_secs()).unwrap_or(i64::MAX));
            info!(at = TemporalReference::from_unix(at).rfc3339(), "the providers directory is fetched next");
        }
        tokio::select! {
            () = sleep(pause) => {}
            changed = configs.changed() => match changed {
                Ok(()) => {
                    failures = 0;
                    continue;
                }
                Err(_) => return,
            },
        }
        if config.directory.remote().is_none() {
            continue;
        }
        let before = confirmed;
        let fetching = spawn_blocking(move || {
            let store = CopiesOnDisk::at(&config.directory.store);
            let confirmed = || store.copies().ok().and_then(|copies| copies.confirmed);
            // A command may have done meanwhile what failed before.
            let is_done = (failures > 0 && confirmed() != before) || fetch(&config);
            (is_done, confirmed())
        });
        let is_done = match fetching.await {
            Ok((is_done, now)) => {
                confirmed = now;
                is_done
            }
            Err(error) => {
                error!(%error, "the fetch of the providers directory ended before its work was done");
                false
            }
        };
        failures = if is_done { 0 } else { failures.saturating_add(1) };
    }
}

/// Until a day after the last success, be it of an earlier process or of a command.
async fn first_pause(config: &Arc<Config>) -> Duration {
    const NEVER: Duration = Duration::from_secs(86_400);
    let Some(_) = config.directory.remote() else { return NEVER };
    let config = config.clone();
    let pause = spawn_blocking(move || {
        let remote = config.directory.remote()?;
        let (_, copies) = load::stored(&config, remote).ok()?;
        let age = SystemInstruments.now().unix() - copies.confirmed?.unix();
        Some(pause_after_success(age, SystemInstruments.chance()))
    });
    // Without a copy that can be used: at once.
    pause.await.ok().flatten().unwrap_or_default()
}

/// Whether the directory is current now; tells what came of it.
fn fetch(config: &Config) -> bool {
    let Some(remote) = config.directory.remote() else { return true };
    let now = SystemInstruments.now();
    let terms = Terms { most_lost_percent: config.directory.most_lost_percent, accept_shrunken: false, now };
    let store = CopiesOnDisk::at(&config.directory.store);
    let refreshed = load::refresher(config, remote).and_then(|Refresher { server, pin, store }| {
        refresh(&store, &server, pin.as_ref(), terms).map_err(|failure| causes(&failure))
    });
    match refreshed {
        Ok(Refreshed::Unchanged(_)) => {
            info!("the providers directory was fetched, it is the one in force");
            true
        }
        Ok(Refreshed::Replaced { comparison, .. }) => {
            info!(changes = %comparison.summary(), "the providers directory was fetched and replaces the one in force");
            true
        }
        Err(cause) => {
            metrics::counter!("pec_milter_directory_refresh_failures_total").increment(1);
            error!(%cause, "the providers directory was not refreshed, the one in force stays; it will be tried again");
            if let Some(stale) = store.copies().ok().and_then(|copies| load::staleness(config, &copies, now)) {
                warn!("{stale}");
            }
            false
        }
    }
}

/// Takes over every new copy; what cannot be used is told and leaves the directory in force.
async fn follow_store(mut configs: watch::Receiver<Arc<Config>>, current: Handle) {
    let mut seen: Option<Stamp> = None;
    let mut in_force = None;
    let mut last = current.now();
    while configs.has_changed().is_ok() {
        // Before the configuration: it is never older than the value.
        let now = current.now();
        if now.is_of_another_load(&last) {
            // A reload has put in force what lay in the store when it looked, which may be older than what was taken over
            // here meanwhile.
            (seen, in_force) = (None, None);
        }
        last = now;
        let config = configs.borrow_and_update().clone();
        if config.directory.remote().is_some() {
            match spawn_blocking(move || look(&config, seen)).await {
                Ok(Look { stamp, age, new }) => {
                    seen = stamp;
                    if let Some(age) = age {
                        metrics::gauge!("pec_milter_directory_age_seconds").set(age);
                    }
                    match new {
                        Some(Ok((edition, copies))) => {
                            let is_taken = take_over(edition, &copies, &mut in_force, &last, &current);
                            // What a reload has changed is looked at at once.
                            if !is_taken {
                                continue;
                            }
                        }
                        Some(Err(cause)) => error!(%cause, "the stored providers directory is not taken over"),
                        None => {}
                    }
                }
                Err(error) => error!(%error, "the store of the providers directory could not be looked at"),
            }
        }
        sleep(LOOK_EVERY).await;
    }
}

/// What the store holds now.
struct Look {
    stamp: Option<Stamp>,
    /// Since the copy was last found to be the server's.
    age: Option<f64>,
    /// None where nothing has changed.
    new: Option<Result<(Edition, Copies), String>>,
}

fn look(config: &Config, before: Option<Stamp>) -> Look {
    let store = CopiesOnDisk::at(&config.directory.store);
    let stamp = store.stamp();
    let copies = store.copies().ok();
    let confirmed = copies.as_ref().and_then(|copies| copies.confirmed);
    let age = confirmed.map(|confirmed| (SystemInstruments.now().unix() - confirmed.unix()) as f64);
    // A register that only tells of failures holds nothing to take over.
    let has_copy = copies.is_none_or(|copies| copies.current.is_some());
    let new = (stamp != before && stamp.is_some() && has_copy)
        .then(|| config.directory.remote().map(|remote| load::stored(config, remote)))
        .flatten();
    Look { stamp, age, new }
}

/// Puts a copy in force that was looked at while this value was; false where a reload has replaced the value since, for
/// then its configuration may name another directory.
fn take_over(
    edition: Edition,
    copies: &Copies,
    in_force: &mut Option<String>,
    looked: &Current,
    current: &Handle,
) -> bool {
    let name = copies.current.as_ref().map(|copy| copy.sha256.clone());
    if *in_force == name && looked.directory.is_known() {
        // Only what is known of it has changed: it was confirmed, or a fetch has failed.
        return true;
    }
    let remarks: Vec<String> = edition.directory.remarks().iter().map(ToString::to_string).collect();
    let (providers, domains) = (edition.directory.providers(), edition.directory.domains());
    // Made before, so that nobody waits for it.
    let directory = Arc::new(edition.directory.with_own(looked.own_record()));
    let mut is_taken = false;
    current.update(|current| {
        if !current.is_of_another_load(looked) {
            current.directory = directory;
            is_taken = true;
        }
    });
    if is_taken {
        *in_force = name;
        for remark in remarks {
            warn!("providers directory: {remark}");
        }
        info!(providers, domains, "providers directory in force");
    }
    is_taken
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::Directory;
    use crate::operations::testing::{alfa, beta};

    #[test]
    fn what_was_looked_at_before_a_reload_does_not_replace_its_directory() {
        let empty = || Edition { directory: Directory::empty(), signed_at: None };
        let (handle, mut in_force) = (Handle::new(alfa()), Some("another".to_owned()));
        let looked = handle.now();
        let providers = || handle.now().directory.providers();
        handle.replace(beta());
        let reloaded = providers();
        assert!(!take_over(empty(), &Copies::default(), &mut in_force, &looked, &handle));
        assert_eq!(providers(), reloaded);

        // Another part of the value may change meanwhile.
        let looked = handle.now();
        handle.update(|current| current.trust = alfa().trust);
        assert!(take_over(empty(), &Copies::default(), &mut in_force, &looked, &handle));
        assert_ne!(providers(), reloaded);
    }
}
