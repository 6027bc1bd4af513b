//! `log audit`: the auditor's properties over the log, for an administrator any day.
//!
//! Without days the chain of the rows is verified first, from the first row to the last. Then one line per finding, with
//! the transaction and the row that shows it. Violations make the answer no; what other providers said against the log is
//! told as a remark and does not.

use std::io::{Write, stdout};
use std::path::Path;

use jiff::civil::Date;

use crate::adapters::instruments::SystemInstruments;
use crate::adapters::sqlite::{LogReader, SqliteLog, StoreError};
use crate::cli::Failure;
use crate::config::Config;
use crate::legal_log::Recorded;
use crate::legal_log::audit::{Finding, Gap, Standards, findings};
use crate::model::{PecMsgid, TemporalReference};
use crate::operations::causes;
use crate::operations::ports::Instruments;
use crate::transaction::EARLIEST_FINAL;

/// Judges every transaction that has an entry from the first to the last day.
pub fn audit(config: &Path, from: Option<Date>, to: Option<Date>) -> Result<bool, Failure> {
    let config = Config::read(config)?;
    let log = SqliteLog::open_read_only(&config.log.database)?;
    let start = from.map_or(TemporalReference::from_unix(i64::MIN), TemporalReference::beginning);
    // A last day without a next one is the last there is.
    let end = to.and_then(|day| day.tomorrow().ok());
    let end = end.map_or(TemporalReference::from_unix(i64::MAX), TemporalReference::beginning);

    let (provider, timeouts, now) = (config.provider.clone(), config.timeouts, SystemInstruments.now());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let gaps = runtime.block_on(gaps(&log))?;
    let judge = move |count: &mut Count, id: &PecMsgid, entries: &[Recorded]| {
        let standards = Standards {
            provider: &provider,
            first_notice: seconds(timeouts.first_seconds),
            final_notice: seconds(timeouts.final_seconds.min(EARLIEST_FINAL)),
            gaps: &gaps,
            now,
        };
        count.transactions += 1;
        // Told while the log is read: there may be as many findings as rows.
        for finding in findings(id, entries, &standards) {
            *(if finding.said_by.is_some() { &mut count.remarks } else { &mut count.violations }) += 1;
            // A reader that went away gets no further line; the answer stays the same.
            _ = writeln!(stdout(), "{}", line(&finding));
        }
    };
    if from.is_none() && to.is_none() {
        match runtime.block_on(log.verify_chain()) {
            Ok(link) => writeln!(stdout(), "the chain of {} rows holds", link.sequence)?,
            Err(error @ StoreError::Chain { .. }) => {
                writeln!(stdout(), "VIOLATION {}", causes(&error))?;
                return Ok(false);
            }
            Err(error) => return Err(error.into()),
        }
    }
    let count = runtime.block_on(log.fold_transactions(start..end, Count::default(), judge))?;
    let Count { transactions, violations, remarks } = count;
    writeln!(stdout(), "{transactions} transactions: {violations} violations, {remarks} remarks on other providers")?;
    Ok(violations == 0)
}

/// What is gone after its retention. No rows stand behind a purge but its own, at least.
async fn gaps(log: &LogReader) -> Result<Vec<Gap>, StoreError> {
    let mut gaps = Vec::new();
    for purged in log.purged().await? {
        let next = log.rows_after(purged.last.sequence).await?.into_iter().next();
        gaps.extend(next.map(|(_, entry)| Gap { first: purged.first, ended: entry.at }));
    }
    Ok(gaps)
}

#[derive(Default)]
struct Count {
    transactions: u64,
    violations: u64,
    remarks: u64,
}

fn line(finding: &Finding) -> String {
    let Finding { id, sequence, breach, said_by } = finding;
    match said_by {
        None => format!("VIOLATION {id} #{sequence}: {breach}"),
        Some(provider) => format!("remark {id} #{sequence}: {breach} (said by {provider})"),
    }
}

fn seconds(seconds: u64) -> i64 {
    i64::try_from(seconds).unwrap_or(i64::MAX)
}
