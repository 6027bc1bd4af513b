//! A log that was in use for as long as a purge looks back.

use anyhow::Result;
use jiff::Timestamp;
use pec_milter::adapters::sqlite::SqliteLog;
use pec_milter::legal_log::{Entry, EventKind};
use pec_milter::model::TemporalReference;
use pec_milter::operations::ports::EventLog;
use pec_testbed::Host;

const DAY: i64 = 86_400;

/// Gives the log of a host a row of every other month, for more than thirty months until this instant.
pub fn was_in_use(host: &Host, until: Timestamp) -> Result<()> {
    let of = |day: i64| Entry::new(EventKind::Anomaly, TemporalReference::from_unix(until.as_second() - day * DAY));
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let log = SqliteLog::open(&host.daemon()?.event_log())?;
        log.record((0..=16).rev().map(|times| of(times * 60)).collect()).await?;
        Ok(log.close().await?)
    })
}
