//! Whether clamd can be relied on: looked at when the daemon starts, after each reload, and every minute while it cannot.
//!
//! Nothing hangs on it but what an administrator reads: without it, too, a message is put off until its verdict counts.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;
use tracing::{error, info};

use crate::adapters::clamd::Clamd;
use crate::config::Config;
use crate::operations::causes;

/// How soon it is looked at again while it cannot be relied on.
const AGAIN: Duration = Duration::from_secs(60);

/// Looks for as long as the process lives.
pub(super) async fn watch(clamd: Arc<Clamd>, mut reloads: watch::Receiver<Arc<Config>>) {
    loop {
        let changed = match clamd.check().await {
            Ok(()) => {
                info!("clamd scans, and tells where it did not look at everything");
                reloads.changed().await
            }
            Err(fault) => {
                error!(cause = %causes(&fault), "mail waits, for there is no virus scanner to be relied on");
                timeout(AGAIN, reloads.changed()).await.unwrap_or(Ok(()))
            }
        };
        if changed.is_err() {
            return;
        }
    }
}
