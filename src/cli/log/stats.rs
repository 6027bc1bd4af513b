//! `log stats`: the figures that providers report every two months, with a plot of the days.

use std::io::{Write, stdout};
use std::path::Path;

use jiff::ToSpan;
use jiff::civil::Date;
use serde_json::{Value, json};
use textplots::{Chart, LabelBuilder, LabelFormat, Plot, Shape};

use super::period;
use crate::adapters::instruments::SystemInstruments;
use crate::adapters::sqlite::SqliteLog;
use crate::cli::Failure;
use crate::config::Config;
use crate::legal_log::stats::{Messages, Stats};
use crate::operations::ports::Instruments;

/// The plot in points, two by four of which are a character.
const PLOT: (u32, u32) = (150, 40);

/// Prints the figures of these days, or of the last two whole months.
pub fn stats(config: &Path, days: Option<(Date, Date)>, json: bool) -> Result<bool, Failure> {
    let config = Config::read(config)?;
    let (first, last) = match days {
        Some(days) => days,
        None => two_months_before(SystemInstruments.now().date())?,
    };
    if last < first {
        return Err(format!("--from {first} is after --to {last}").into());
    }
    let log = SqliteLog::open_read_only(&config.log.database)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let provider = config.provider.clone();
    let count = move |stats: &mut Stats, entry: &_| stats.count(entry, &provider);
    let stats = runtime.block_on(log.fold(period::of(first..=last), Stats::default(), count))?;
    let mut out = stdout().lock();
    match json {
        true => writeln!(out, "{:#}", in_json(first, last, &stats))?,
        false => write!(out, "{}", tables(first, last, &stats)?)?,
    }
    Ok(true)
}

/// The two whole months that lie before a day.
fn two_months_before(today: Date) -> Result<(Date, Date), Failure> {
    let this_month = today.first_of_month();
    Ok((this_month.checked_sub(2.months())?, this_month.yesterday()?))
}

fn in_json(first: Date, last: Date, stats: &Stats) -> Value {
    let messages = stats.days.iter().flat_map(|(day, domains)| {
        domains.iter().map(move |(domain, Messages { sent, received })| {
            json!({ "day": day.to_string(), "domain": domain.as_str(), "sent": sent, "received": received })
        })
    });
    let mailboxes = stats.mailboxes.iter().map(|(domain, seen)| (domain.as_str().to_owned(), json!(seen.len())));
    json!({
        "from": first.to_string(),
        "to": last.to_string(),
        "mailboxes": mailboxes.collect::<serde_json::Map<_, _>>(),
        "messages": messages.collect::<Vec<_>>(),
        "notices": stats.notices,
        "notifications_received": stats.received,
        "viruses": {
            "submitted": stats.viruses_submitted,
            "received": stats.viruses_received,
            "told_by_others": stats.viruses_told,
        },
        "timeouts": { "first": stats.first_timeouts, "final": stats.final_timeouts },
        "refusals": stats.refusals,
        "anomalies": stats.anomalies,
    })
}

fn tables(first: Date, last: Date, stats: &Stats) -> Result<String, Failure> {
    let mut text = format!("from {first} to {last}\n\nMAILBOXES SEEN\n");
    for (domain, seen) in &stats.mailboxes {
        text.push_str(&figure(domain.as_str(), seen.len()));
    }
    text.push_str("\nMESSAGES          SENT  RECEIVED\n");
    let mut sum = Messages::default();
    for (day, domains) in &stats.days {
        for (domain, Messages { sent, received }) in domains {
            text.push_str(&format!("  {day}  {sent:>8}  {received:>8}  {domain}\n"));
            sum = Messages { sent: sum.sent + sent, received: sum.received + received };
        }
    }
    text.push_str(&format!("  all         {:>8}  {:>8}\n", sum.sent, sum.received));
    let days: Vec<Date> = first.series(1.day()).take_while(|day| *day <= last).collect();
    for (what, of) in [("SENT", (|one| one.sent) as fn(Messages) -> u64), ("RECEIVED", |one| one.received)] {
        text.push_str(&format!("\n{what} BY DAY\n{}", plot(&days, |day| of(stats.of_day(day)))));
    }
    text.push_str("\nNOTICES\n");
    for (kind, count) in &stats.notices {
        text.push_str(&figure(kind, count));
    }
    text.push_str("\nNOTIFICATIONS OF OTHER PROVIDERS\n");
    for (kind, count) in &stats.received {
        text.push_str(&figure(kind, count));
    }
    text.push_str("\nVIRUSES, TIMEOUTS, REFUSALS\n");
    for (what, count) in [
        ("viruses in submissions", stats.viruses_submitted),
        ("viruses in received envelopes", stats.viruses_received),
        ("viruses told by other providers", stats.viruses_told),
        ("timeouts after 12 hours", stats.first_timeouts),
        ("timeouts after 24 hours", stats.final_timeouts),
        ("refused in the dialogue", stats.refusals),
        ("delivered as anomalies", stats.anomalies),
    ] {
        text.push_str(&figure(what, count));
    }
    Ok(text)
}

fn figure(what: &str, count: impl std::fmt::Display) -> String {
    format!("  {what:<32}{count:>10}\n")
}

/// The days one beside the other, each as wide as it is long, on a scale from nothing to the most.
fn plot(days: &[Date], count: impl Fn(Date) -> u64) -> String {
    let numbered = (0_u16..).map(f32::from).zip(days);
    let points: Vec<(f32, f32)> =
        numbered.map(|(x, &day)| (x, count(day) as f32)).flat_map(|(x, y)| [(x, y), (x + 1.0, y)]).collect();
    let most = points.iter().map(|(_, y)| *y).fold(1.0, f32::max);
    let end = points.last().map_or(1.0, |(x, _)| *x);
    let (first_day, last_day) = (days.first().copied(), days.last().copied());
    let label = move |x: f32| {
        let day = if x > 0.0 { last_day } else { first_day };
        day.map(|day| day.to_string()).unwrap_or_default()
    };
    let outline = Shape::Lines(&points);
    let mut chart = Chart::new_with_y_range(PLOT.0, PLOT.1, 0.0, end, 0.0, most);
    let chart = chart.lineplot(&outline).x_label_format(LabelFormat::Custom(Box::new(label)));
    chart.axis();
    chart.figures();
    chart.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_days_the_last_two_whole_months_are_meant() {
        for (today, expected) in
            [("2026-11-27", ("2026-09-01", "2026-10-31")), ("2026-01-01", ("2025-11-01", "2025-12-31"))]
        {
            let (first, last) = two_months_before(today.parse().unwrap()).unwrap();
            assert_eq!((first.to_string().as_str(), last.to_string().as_str()), expected);
        }
    }

    #[test]
    fn a_plot_has_its_days_and_its_most_at_its_edges() {
        let days: Vec<Date> = "2026-09-01".parse::<Date>().unwrap().series(1.day()).take(61).collect();
        let text = plot(&days, |day| u64::from(day.day().unsigned_abs()));
        for word in ["2026-09-01", "2026-10-31", "31.0", "0.0"] {
            assert!(text.contains(word), "{word}: {text}");
        }
        assert!(text.lines().count() >= 10, "{text}");
        // The last day is as wide as the others: its line ends at the right edge, where no other day is.
        let last_alone = plot(&days, |day| u64::from(day == days[60]));
        let top = last_alone.lines().next().unwrap_or_default();
        let dots = top.chars().filter(|c| ('\u{2801}'..='\u{28ff}').contains(c)).count();
        assert!((2..=3).contains(&dots), "{last_alone}");
        assert!(plot(&days[..1], |_| 0).contains("2026-09-01"), "a day without anything");
    }
}
