//! Waiting for a condition, never for time to pass.
//!
//! A condition answers with a value, or says why it is not met yet; the last such answer stands in the failure.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How long a machine under load may take for something that usually takes well under a second.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How often a condition is looked at.
const INTERVAL: Duration = Duration::from_millis(50);

/// Looks at the condition until it gives a value. `what` completes "waited in vain for …".
pub fn wait_until<T>(what: &str, patience: Duration, mut condition: impl FnMut() -> Result<T>) -> Result<T> {
    let deadline = Instant::now() + patience;
    loop {
        match condition() {
            Ok(value) => return Ok(value),
            Err(last) if Instant::now() >= deadline => {
                bail!("waited {} s in vain for {what}; last state: {last:#}", patience.as_secs())
            }
            Err(_) => thread::sleep(INTERVAL),
        }
    }
}
