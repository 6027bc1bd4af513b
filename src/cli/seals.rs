//! The seals of this installation, for commands that give out rows of the log as evidence (§2.3).

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::watch;

use super::Failure;
use super::log::purge::Judge;
use crate::adapters::seal_store::SealFolder;
use crate::adapters::sqlite::LogReader;
use crate::config::Config;
use crate::legal_log::seal::{Seal, Sealed};
use crate::operations::ports::SealEvidence;
use crate::operations::signed_seals::SignedSeals;

/// All finished seals. Fails if one cannot be read, or if the log tells of one that is not there.
pub async fn signed(config: &Config, log: &LogReader) -> Result<Arc<SignedSeals>, Failure> {
    let folder = SealFolder::at(&config.log.seals);
    let place = config.log.seals.display();
    let known = log.seals().await?;
    let names = folder.names()?;
    let (mut seals, mut numbers) = (Vec::new(), BTreeSet::new());
    for (index, (number, name)) in names.iter().enumerate() {
        let files = folder.files(name)?;
        // Its sealing was not finished, or goes on just now.
        if index + 1 == names.len() && files.signature.is_none() && files.stamp.is_none() {
            continue;
        }
        let seal = files.seal.and_then(|octets| Seal::from_text(&String::from_utf8_lossy(&octets)).ok());
        let unreadable = || format!("{place}/{name}.seal cannot be read as a seal; bring the file from a backup");
        seals.push(seal.ok_or_else(unreadable)?);
        numbers.insert(*number);
    }
    let lost = known.iter().find_map(|one| {
        let sealed = Sealed::of(&one.entry)?;
        (!numbers.contains(&sealed.number)).then_some((sealed.number, one.sequence))
    });
    if let Some((number, row)) = lost {
        return Err(format!(
            "{place} lacks seal {number}, of which row {row} of the log tells: without it nothing is given out as \
             evidence; bring its files from a backup"
        )
        .into());
    }
    let judge = Judge { seals: folder, configs: watch::channel(Arc::new(config.clone())).1 };
    Ok(Arc::new(SignedSeals::new(seals, judge)))
}
