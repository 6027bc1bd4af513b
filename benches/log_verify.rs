//! How fast the log is verified: its chain alone, the database as `log verify` goes through it, and exported days alone, with
//! the memory that takes; and how the log grows, by event and by transaction.
//!
//! `PEC_BENCH_EVENTS` as for `log_search`, whose first database this is. The exports are thirty days of the same rows, signed.
//! The growth is measured with the daemon's own way of writing: transactions between two providers as they are recorded on
//! the side of each.

#[path = "support/generated.rs"]
mod generated;

use std::fs;
use std::path::Path;
use std::time::Instant;

use generated::{Answer, START, log, transaction};
use pec_milter::adapters::key_file::certificates;
use pec_milter::adapters::seal_store::{Part, SealFolder};
use pec_milter::adapters::sqlite::{LogReader, LogWalk, SqliteLog};
use pec_milter::legal_log::seal::{Seal, exported};
use pec_milter::legal_log::{Entry, Link};
use pec_milter::model::TemporalReference;
use pec_milter::operations::ports::{EventLog, SealStore};
use pec_milter::operations::verify_log::{Period, Standards, verify};
use pec_milter::smime::{Engine, Signer, Trust, software_key};
use pec_testbed::pki::{Pki, Request};
use sha2::{Digest, Sha256};

/// The seals that the rows are exported under.
const SEALS: usize = 30;
/// Transactions for the growth.
const TRANSACTIONS: u64 = 20_000;

#[tokio::main]
async fn main() -> Answer<()> {
    let sizes = std::env::var("PEC_BENCH_EVENTS").unwrap_or_else(|_| "1000000".to_owned());
    let events: usize = sizes.split(',').next().unwrap_or_default().trim().parse()?;
    let path = log(events)?;
    let octets = fs::metadata(&path)?.len();
    let reader = SqliteLog::open_read_only(&path)?;
    let start = Instant::now();
    let last = reader.verify_chain().await?;
    tell("the chain alone", last.sequence as u64, octets, start);

    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let (signer, trust) = provider(&folder.path().join("pki"))?;
    let now = || TemporalReference::from_unix(i64::from(u32::MAX));
    let standards = Standards { trust: &trust, stampers: None, own: None, needs_stamps: true, now: &now };
    let told = &mut |_: &_| {};
    let none = SealFolder::open(&folder.path().join("none"))?;
    let start = Instant::now();
    let found = verify(Some(&LogWalk::open(&path)?), &none, &standards, Period::default(), told)?;
    tell("the database with pages, indexes and tables", found.rows, octets, start);
    if found.violations > 0 {
        return Err("the generated log does not verify".into());
    }

    let seals = SealFolder::open(&folder.path().join("seals"))?;
    let octets = export(&reader, &seals, &signer, events.div_ceil(SEALS)).await?;
    let start = Instant::now();
    let found = verify(None::<&LogWalk>, &seals, &standards, Period::default(), told)?;
    tell("exported days alone", found.exported, octets, start);
    if found.violations > 0 {
        return Err("the exports do not verify".into());
    }
    grow().await
}

fn tell(what: &str, rows: u64, octets: u64, start: Instant) {
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{what}: {rows} rows in {seconds:.1} s: {:.0} rows/s, {:.0} MB/s; at most {} MB in memory",
        rows as f64 / seconds,
        octets as f64 / 1e6 / seconds,
        peak().unwrap_or_default() / 1000
    );
}

/// Of this process until now, in kilobytes.
fn peak() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// A provider that signs, and who certified it.
fn provider(folder: &Path) -> Answer<(Signer, Trust)> {
    let pki = Pki::new(folder.to_owned(), &["alfa.example"]).map_err(|error| error.to_string())?;
    let request = Request::provider("bench", "Alfa PEC S.p.A.", "posta-certificata@alfa.example");
    let identity = pki.issue(&request).map_err(|error| error.to_string())?;
    let key = openssl::pkey::PKey::private_key_from_pem(&fs::read(&identity.key)?)?;
    let (certificate, chain) = certificates(&identity.chain)?;
    let signer = Signer::new(software_key(&key.private_key_to_pkcs8()?, Engine::AwsLc)?, certificate, &chain)?;
    Ok((signer, Trust::from_pem(&fs::read(pki.root())?)?))
}

/// Exports all rows under seals of so many rows; returns how many octets that is.
async fn export(reader: &LogReader, seals: &SealFolder, signer: &Signer, rows: usize) -> Answer<u64> {
    let (mut before, mut previous, mut octets) = (Link::BEFORE_FIRST, [0; 32], 0);
    let mut waiting: Vec<(Link, Entry)> = Vec::new();
    for number in 1.. {
        while waiting.len() < rows {
            let after = waiting.last().map_or(before, |(link, _)| *link);
            let more = reader.rows_after(after.sequence).await?;
            if more.is_empty() {
                break;
            }
            waiting.extend(more);
        }
        let day: Vec<_> = waiting.drain(..rows.min(waiting.len())).collect();
        let Some((last, _)) = day.last() else { break };
        let newest = day.iter().map(|(_, entry)| entry.at).max().unwrap_or(TemporalReference::EPOCH);
        let mut digest = Sha256::new();
        let mut file = seals.new_rows()?;
        for (link, entry) in &day {
            let line = exported(link, entry);
            octets += line.len() as u64;
            digest.update(&line);
            seals.append(&mut file, line.as_bytes()).map_err(|fault| fault.to_string())?;
        }
        let (provider, sealed) = ("Alfa PEC S.p.A.".to_owned(), TemporalReference::from_unix(now()?));
        let rows = digest.finalize().into();
        let seal = Seal { number, provider, sealed, before, last: *last, newest, previous, rows };
        seals.finish(file, &seal.name()).map_err(|fault| fault.to_string())?;
        seals.write(&seal.name(), Part::Seal, seal.to_text().as_bytes())?;
        let signed = signer.detached(seal.digest(), sealed)?;
        seals.write(&seal.name(), Part::Signature, &signed)?;
        (before, previous) = (*last, seal.digest());
    }
    Ok(octets)
}

fn now() -> Answer<i64> {
    Ok(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs().try_into()?)
}

async fn grow() -> Answer<()> {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let path = folder.path().join("log.db");
    let log = SqliteLog::open(&path)?;
    let mut rows = 0;
    // Many at a time, as under load; the file is the same.
    let mut batch = Vec::new();
    for n in 0..TRANSACTIONS {
        batch.extend(transaction(n, START + n as i64));
        if batch.len() > 500 {
            rows += log.record(std::mem::take(&mut batch)).await?.len();
        }
    }
    rows += log.record(batch).await?.len();
    let (mut exports, mut last) = (0, 0);
    loop {
        let step = log.reader().rows_after(last).await?;
        let Some((link, _)) = step.last() else { break };
        last = link.sequence;
        exports += step.iter().map(|(link, entry)| exported(link, entry).len()).sum::<usize>();
    }
    log.close().await?;
    println!(
        "growth of the exported rows: {} octets per event, {:.2} kB per transaction",
        exports / rows,
        exports as f64 / 1e3 / TRANSACTIONS as f64
    );
    let octets = fs::metadata(&path)?.len();
    println!(
        "growth: {} octets per event; {:.1} events and {:.2} kB per transaction, {:.1} GB per million transactions",
        octets / rows as u64,
        rows as f64 / TRANSACTIONS as f64,
        octets as f64 / 1e3 / TRANSACTIONS as f64,
        octets as f64 / 1e3 / TRANSACTIONS as f64
    );
    Ok(())
}
