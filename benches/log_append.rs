//! What group commit gains on this disk: the same rows recorded by one caller after the other, and by many at a time.
//!
//! The database lies in the build folder, because `/tmp` is often no disk.

use std::error::Error;
use std::sync::Arc;
use std::time::Instant;

use pec_milter::adapters::sqlite::SqliteLog;
use pec_milter::legal_log::{Entry, EventKind, Slot};
use pec_milter::model::TemporalReference;
use pec_milter::operations::ports::EventLog;
use tokio::task::JoinSet;

/// As many connections as a busy Postfix keeps open to the hop.
const CALLERS: usize = 100;
const ROWS: usize = 4000;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let one_by_one = rows_per_second(1, ROWS / 4).await?;
    let together = rows_per_second(CALLERS, ROWS).await?;
    println!("one caller: {one_by_one:.0} rows/s; {CALLERS} callers: {together:.0} rows/s");
    println!("ratio: {:.1}", together / one_by_one);
    Ok(())
}

async fn rows_per_second(callers: usize, rows: usize) -> Result<f64, Box<dyn Error>> {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let log = Arc::new(SqliteLog::open(&folder.path().join("log.db"))?);
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for caller in 0..callers {
        let log = log.clone();
        tasks.spawn(async move {
            for n in 0..rows / callers {
                log.record(vec![entry(&format!("{caller}-{n}"))]).await?;
            }
            Ok::<(), Box<dyn Error + Send + Sync>>(())
        });
    }
    while let Some(finished) = tasks.join_next().await {
        finished?.map_err(|error| error as Box<dyn Error>)?;
    }
    Ok(rows as f64 / start.elapsed().as_secs_f64())
}

fn entry(queue_id: &str) -> Entry {
    Entry {
        kind: EventKind::Delivery,
        at: TemporalReference::from_unix(1_700_000_000),
        queue_id: Some(queue_id.to_owned()),
        pec_msgid: format!("pec.{queue_id}@alfa.example").parse().ok(),
        client_msgid: format!("<{queue_id}@client.example>").parse().ok(),
        sender: Some("anna@alfa.example".to_owned()),
        recipient: Some("bruno@beta.example".to_owned()),
        subject: Some("a subject of usual length, as people write them".to_owned()),
        notification: format!("<n.{queue_id}@alfa.example>").parse().ok(),
        provider: None,
        issuer: None,
        details: Some("x".repeat(1000)),
        slot: Some(Slot::arrival(queue_id)),
    }
}
