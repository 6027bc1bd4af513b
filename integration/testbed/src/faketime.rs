//! Another clock for one process: Debian's libfaketime, loaded before the C library.
//!
//! The library alone, because the program faketime hides how a command ends.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use jiff::Zoned;
use jiff::tz::TimeZone;

const LIBRARY: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";

/// The environment of a process that begins at this instant of legal Italian time, such as `2029-05-28 12:00:00`, and whose
/// clock then goes on; pauses are as long as they are.
pub fn beginning_at(instant: &str) -> Result<[(&'static str, String); 4]> {
    ensure!(Path::new(LIBRARY).exists(), "{LIBRARY} is not installed");
    Ok([
        ("LD_PRELOAD", LIBRARY.to_owned()),
        ("FAKETIME", format!("@{instant}")),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ("TZ", "Europe/Rome".to_owned()),
    ])
}

/// The same from now on, but so much later.
pub fn beginning_in(time: Duration) -> Result<[(&'static str, String); 4]> {
    let later = Zoned::now().with_time_zone(TimeZone::get("Europe/Rome")?).checked_add(time)?;
    beginning_at(&later.strftime("%Y-%m-%d %H:%M:%S").to_string())
}
