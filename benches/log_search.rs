//! How long a search takes on one and on ten million events, for every combination of keys, and how that grows.
//!
//! `PEC_BENCH_EVENTS=100000,1000000 cargo bench --bench log_search` takes other sizes. The databases stay in the build folder
//! and are used again; a change of the schema or of the generated entries wants them removed. A page has 50 entries. The
//! keys are a heavy sender, recipient and provider and usual or rare ones, common and rare kinds and outcomes, and a
//! period; each line is one set of keys over all their values.

#[path = "support/generated.rs"]
mod generated;

use std::collections::BTreeMap;
use std::time::Instant;

use generated::{Answer, DAYS, HEAVY_RECIPIENT, HEAVY_SENDER, OWN, START, log, provider_name, transaction};
use pec_milter::adapters::sqlite::{LogReader, SqliteLog};
use pec_milter::legal_log::{EventKind, Outcome, Query};
use pec_milter::model::TemporalReference;

const PAGE: usize = 50;
/// Each question is asked so often; the first time counts by itself, because nothing of it lies in memory yet.
const TIMES: usize = 6;
const LIMIT: f64 = 50.0;

/// Milliseconds of one set of keys.
#[derive(Default)]
struct Times {
    first: Vec<f64>,
    later: Vec<f64>,
    found: usize,
}

#[tokio::main]
async fn main() -> Answer<()> {
    let sizes = std::env::var("PEC_BENCH_EVENTS").unwrap_or_else(|_| "1000000,10000000".to_owned());
    let mut before: Option<BTreeMap<String, Times>> = None;
    let mut is_slow = false;
    for size in sizes.split(',') {
        let events: usize = size.trim().parse()?;
        let reader = SqliteLog::open_read_only(&log(events)?)?;
        let times = measured(&reader, events).await?;
        is_slow |= !report(events, &times, before.as_ref());
        before = Some(times);
    }
    if is_slow { Err(format!("a question took longer than {LIMIT} ms").into()) } else { Ok(()) }
}

async fn measured(reader: &LogReader, events: usize) -> Answer<BTreeMap<String, Times>> {
    let mut all: BTreeMap<String, Times> = BTreeMap::new();
    for (keys, query) in questions(events) {
        let times = all.entry(keys).or_default();
        let mut later = Vec::new();
        for time in 0..TIMES {
            let query = query.clone();
            let start = Instant::now();
            let page = reader.search(query, None, PAGE).await?;
            let milliseconds = start.elapsed().as_secs_f64() * 1e3;
            match time {
                0 => times.first.push(milliseconds),
                _ => later.push(milliseconds),
            }
            times.found = times.found.max(page.found.len());
        }
        // The fastest: what is slower than that is what else the machine does meanwhile.
        times.later.push(later.into_iter().fold(f64::INFINITY, f64::min));
    }
    Ok(all)
}

fn questions(events: usize) -> Vec<(String, Query)> {
    let day = |n: i64| TemporalReference::from_unix(START + n * 86_400);
    let whole = day(-1)..day(DAYS + 2);
    // Of the middle of the log, and somebody who has written little.
    let some = transaction(events.min(1_000_000) as u64 / 7, START);
    let usual_sender = some[0].sender.clone().unwrap_or_default();
    let usual_recipient = some.iter().find_map(|entry| entry.recipient.clone()).unwrap_or_default();
    let text = |text: &str| Some(text.to_owned());
    let mut questions = Vec::new();
    for sender in [None, text(HEAVY_SENDER), Some(usual_sender)] {
        for recipient in [None, text(HEAVY_RECIPIENT), text("comune@ente3.example"), Some(usual_recipient.clone())] {
            for provider in [None, text(OWN), text(&provider_name(0)), text(&provider_name(24))] {
                for kind in [None, Some(EventKind::Delivery), Some(EventKind::VirusDetection)] {
                    for outcome in [None, Some(Outcome::Delivered), Some(Outcome::Timeout)] {
                        for period in [None, Some(day(600)..day(601)), Some(day(100)..day(800))] {
                            let given = [
                                ("sender", sender.is_some()),
                                ("recipient", recipient.is_some()),
                                ("provider", provider.is_some()),
                                ("kind", kind.is_some()),
                                ("outcome", outcome.is_some()),
                                ("period", period.is_some()),
                            ];
                            let given: Vec<&str> = given.iter().filter(|(_, is)| *is).map(|(name, _)| *name).collect();
                            let (sender, recipient, provider) = (sender.clone(), recipient.clone(), provider.clone());
                            let period = period.unwrap_or(whole.clone());
                            let query = Query { sender, recipient, provider, kind, outcome, ..Query::of(period) };
                            questions.push((given.join(" + "), query));
                        }
                    }
                }
            }
        }
    }
    let ids = [
        some[0].pec_msgid.as_ref().map(|id| id.to_string()),
        some[0].client_msgid.as_ref().map(|id| id.to_string()),
        some[1].notification.as_ref().map(|id| id.to_string()),
    ];
    for id in ids.into_iter().flatten() {
        questions.push(("msgid".to_owned(), Query { msgid: Some(id.clone()), ..Query::of(whole.clone()) }));
        let combined = Query { msgid: Some(id), kind: Some(EventKind::Arrival), ..Query::of(whole.clone()) };
        questions.push(("msgid + kind".to_owned(), combined));
    }
    questions
}

/// Prints the figures; whether every question is quick enough.
fn report(events: usize, times: &BTreeMap<String, Times>, before: Option<&BTreeMap<String, Times>>) -> bool {
    println!(
        "{events} events: milliseconds for a page of {PAGE}, median and worst, worst when first asked; entries found"
    );
    let mut all = Times::default();
    for (keys, Times { first, later, found }) in times {
        let growth = before.and_then(|before| before.get(keys)).map(|before| median(later) / median(&before.later));
        let growth = growth.map_or(String::new(), |growth| format!("  median x {growth:.1}"));
        let keys = if keys.is_empty() { "nothing" } else { keys };
        println!("  {:>7.2} {:>7.2} {:>7.2}  {found:>3}  {keys}{growth}", median(later), worst(later), worst(first));
        all.first.extend(first);
        all.later.extend(later);
    }
    println!("  {:>7.2} {:>7.2} {:>7.2}       all", median(&all.later), worst(&all.later), worst(&all.first));
    let is_quick = worst(&all.later) <= LIMIT;
    match is_quick {
        true => println!("  every combination is below {LIMIT} ms"),
        false => println!("  SLOWER than {LIMIT} ms"),
    }
    is_quick
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

fn worst(values: &[f64]) -> f64 {
    values.iter().copied().fold(0.0, f64::max)
}
