//! How long mail waits while a sealed day is removed, on this disk: rows per second against those of appending them.
//!
//! The database lies in the build folder, because `/tmp` is often no disk.

use std::error::Error;
use std::time::Instant;

use pec_milter::adapters::sqlite::SqliteLog;
use pec_milter::legal_log::seal::Seal;
use pec_milter::legal_log::{Entry, EventKind, Link, Slot};
use pec_milter::model::TemporalReference;
use pec_milter::operations::ports::{EventLog, Purging};

const ROWS: usize = 200_000;
const ROWS_PER_BATCH: usize = 1000;
const AT: i64 = 1_700_000_000;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let log = SqliteLog::open(&folder.path().join("log.db"))?;
    let mut last = Link::BEFORE_FIRST;
    let start = Instant::now();
    for batch in 0..ROWS / ROWS_PER_BATCH {
        let entries: Vec<Entry> = (0..ROWS_PER_BATCH).map(|n| entry(batch * ROWS_PER_BATCH + n)).collect();
        last = entries.iter().fold(last, |link, entry| link.next(entry));
        log.record(entries).await?;
    }
    let appended = ROWS as f64 / start.elapsed().as_secs_f64();
    let at = TemporalReference::from_unix(AT);
    let seal = Seal {
        number: 1,
        provider: "Alfa PEC S.p.A.".to_owned(),
        sealed: at,
        before: Link::BEFORE_FIRST,
        last,
        newest: at,
        previous: [0; 32],
        rows: [0; 32],
    };
    let start = Instant::now();
    log.purge(seal, at, None).await?;
    let purged = ROWS as f64 / start.elapsed().as_secs_f64();
    println!("appended {appended:.0} rows/s; removed {purged:.0} rows/s; ratio {:.1}", purged / appended);
    Ok(())
}

fn entry(n: usize) -> Entry {
    let queue_id = format!("4Sxy{n:08}z");
    Entry {
        queue_id: Some(queue_id.clone()),
        pec_msgid: format!("pec.{n}@alfa.example").parse().ok(),
        client_msgid: format!("<{n}@client.example>").parse().ok(),
        sender: Some(format!("user{}@alfa.example", n % 5000)),
        recipient: Some(format!("user{}@beta.example", n % 7000)),
        subject: Some("a subject of usual length, as people write them".to_owned()),
        notification: format!("<n.{n}@alfa.example>").parse().ok(),
        details: Some(r#"{"mailbox":"bruno@beta.example","issued":"completa"}"#.to_owned()),
        slot: Some(Slot::arrival(&queue_id)),
        ..Entry::new(EventKind::Delivery, TemporalReference::from_unix(AT))
    }
}
