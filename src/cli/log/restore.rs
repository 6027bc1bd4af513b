//! `log restore`: after a copy of the log was put back, the rows that were sealed after it was taken (§2.3).

use std::io::{self, Write, stdout};
use std::path::Path;

use crate::adapters::seal_store::SealFolder;
use crate::adapters::sqlite::Restoration;
use crate::cli::Failure;
use crate::cli::log::verify;
use crate::config::Config;
use crate::operations::ports::Watched;
use crate::operations::restore_log::{beyond, restore as append};

/// Appends what the folder of the seals has beyond the last row, once that is verified; no if anything of it did not come
/// back.
pub fn restore(config: &Path) -> Result<bool, Failure> {
    let config = Config::read(config)?;
    let mut log = Restoration::open(&config.log.database)?;
    let seals = SealFolder::at(&config.log.seals);
    // Nobody seals, purges or restores meanwhile.
    let lock = seals.lock()?;
    let beyond = beyond(&log, &seals)?;
    let before = beyond.last.sequence;
    let mut out = stdout().lock();
    if let Some(name) = &beyond.unfinished {
        writeln!(
            out,
            "{name} has no signature, so its rows do not come back: bring {name}.p7s from a backup and restore again, or, if it \
             never had one, move its files out of the folder"
        )?;
    }
    let violations = verify::violations(&config, &beyond.seals)?;
    if !violations.is_empty() {
        violations.iter().try_for_each(|violation| writeln!(out, "{violation}"))?;
        writeln!(
            out,
            "nothing is restored. If a certificate, CA or authority of former times made them, name that in \
             key.previous_certificates, trust.ca_file or log.tsa_ca_file. Else bring the files from a backup. Where there is \
             none, move those of the first seal that does not hold, and of all after it, out of the folder as evidence"
        )?;
        return Ok(false);
    }
    let last = append(&mut log, &beyond)?.sequence;
    drop(lock);
    match last > before {
        true => writeln!(out, "restored: rows {} to {last}", before.saturating_add(1))?,
        false => writeln!(out, "nothing was sealed after row {before}, the last one")?,
    }
    tell_watched(&mut out, last, &log.watched()?)?;
    Ok(beyond.unfinished.is_none())
}

/// Who is waited for though his receipt may have come: the sender would be told that nothing was heard of him.
fn tell_watched(out: &mut impl Write, last: i64, watched: &[Watched]) -> io::Result<()> {
    if watched.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "{} recipients are waited for. Where the delivery was recorded after row {last} and is lost, the sender has the receipt \
         and gets a timeout notice that is not true; README, \"Backup\", says what to do. They are:",
        watched.len()
    )?;
    for Watched { id, recipient, accepted, .. } in watched {
        writeln!(
            out,
            "waited for: {id} {recipient}, accepted {} {} {}",
            accepted.day(),
            accepted.time(),
            accepted.zone()
        )?;
    }
    Ok(())
}
