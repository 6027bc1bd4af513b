//! What seals and stamps the log: the folder of the seals, and the authority with the CA that certifies it.

use std::sync::Arc;

use super::{collect, read, told};
use crate::adapters::instruments::SystemInstruments;
use crate::adapters::key_file;
use crate::adapters::seal_store::SealFolder;
use crate::adapters::sqlite::SqliteLog;
use crate::adapters::tsa::Tsa;
use crate::config::Config;
use crate::operations::current::Handle;
use crate::operations::seal_log::{Authority, SealLog};
use crate::smime::Trust;

/// The work of sealing, with everything it talks to.
pub type Sealing = SealLog<SqliteLog, SealFolder, Tsa, SystemInstruments>;

/// Makes the folder if it is not there.
pub fn sealing(config: &Config, current: &Handle, log: &Arc<SqliteLog>) -> Result<Sealing, String> {
    let folder = SealFolder::open(&config.log.seals).map_err(|error| told(&config.location("log.seals"), &error))?;
    Ok(SealLog {
        current: current.clone(),
        log: log.clone(),
        folder,
        authority: authority(config)?,
        instruments: SystemInstruments,
    })
}

/// The authority of the configuration, if there is one; problems are told all at once.
pub(super) fn authority(config: &Config) -> Result<Option<Authority<Tsa>>, String> {
    let Some(tsa) = &config.log.tsa else { return Ok(None) };
    let mut problems = Vec::new();
    let place = config.location("log.tsa_ca_file");
    let trust = read(&tsa.ca_file, &place).and_then(|text| {
        Trust::from_pem(&text).map_err(|error| told(&format!("{place}: {}", tsa.ca_file.display()), &error))
    });
    let trust = collect(&mut problems, trust);
    let user = tsa.user.as_ref().map(|(name, file)| {
        let password = key_file::read_passphrase(file);
        let password = password.map_err(|error| told(&config.location("log.tsa_password_file"), &error));
        password.map(|password| (name.clone(), password))
    });
    let user = collect(&mut problems, user.transpose());
    match (trust, user) {
        (Some(trust), Some(user)) => {
            let server = Tsa { url: tsa.url.as_str().to_owned(), user };
            Ok(Some(Authority { server: Arc::new(server), trust: Arc::new(trust) }))
        }
        _ => Err(problems.join("\n")),
    }
}

/// Signed seals prove who sealed; only a stamp proves when.
pub(super) fn warning(config: &Config) -> Option<String> {
    config.log.tsa.is_none().then(|| {
        let place = config.location("log.tsa_url");
        format!(
            "{place}: NO TIME STAMPING AUTHORITY, the seals of the log are signed but not stamped (§2.3): set it and log.tsa_ca_file"
        )
    })
}
