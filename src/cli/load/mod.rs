//! From the configuration to what the operations work with; every file that cannot be used is told with the key that
//! names it, all of them at once. `run` and `check-config` go the same way.

mod directory;
mod key;
mod sealing;
mod tables;
mod trust;

use std::error::Error;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use crate::access_point::Limits;
use crate::adapters::originals::OriginalsKey;
use crate::adapters::pkcs11;
use crate::config::Config;
use crate::model::TemporalReference;
use crate::operations::causes;
use crate::operations::current::Current;
use crate::smime::Sha1Policy;
use crate::transaction::EARLIEST_FINAL;

pub use directory::{Refresher, directory, pin, refresher, staleness, stored};
pub use key::own_certificates;
pub use sealing::sealing;
pub use trust::trust;

/// What was loaded, and what an administrator should know of it.
pub struct Loaded {
    pub current: Current,
    /// The key of the store of originals, where one is named.
    pub originals: Option<OriginalsKey>,
    pub warnings: Vec<String>,
}

/// Everything that stands in the way of a start, one line each.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct Unusable(pub Vec<String>);

/// Why nothing was loaded.
#[derive(Debug, thiserror::Error)]
pub enum NotLoaded {
    #[error(transparent)]
    Unusable(Unusable),
    /// Among other things a token refused its PIN: nobody but a person may try again.
    #[error(transparent)]
    PinRefused(Unusable),
}

/// Loads keys, trust, directory and the tables of senders, receipts and ordinary mail.
pub fn load(config: &Config, at: TemporalReference) -> Result<Loaded, NotLoaded> {
    // Whoever starts or reloads has had the chance to correct the file, or the token.
    pkcs11::forget_refused_pins();
    let mut findings = key::Findings::default();
    let trust = collect(&mut findings.problems, trust::trust(config, &key::chains(config), at)).map(|(trust, told)| {
        findings.warnings.extend(told);
        trust
    });
    let keyring = key::keyring(config, trust.as_ref(), at, &mut findings);
    let key::Findings { mut problems, mut warnings, is_pin_refused } = findings;
    let former = collect(&mut problems, key::former(config));
    let directory = collect(&mut problems, directory::at_start(config, at, &mut warnings));
    collect(&mut problems, sealing::authority(config));
    let senders = collect(&mut problems, tables::senders(config));
    let receipts = collect(&mut problems, tables::receipts(config));
    let ordinary = collect(&mut problems, tables::ordinary(config));
    let originals = collect(&mut problems, originals_key(config));
    let (
        Some(keyring),
        Some(former),
        Some(trust),
        Some(directory),
        Some(senders),
        Some(receipts),
        Some(ordinary),
        Some(originals),
        true,
    ) = (keyring, former, trust, directory, senders, receipts, ordinary, originals, problems.is_empty())
    else {
        let unusable = Unusable(problems);
        return Err(if is_pin_refused { NotLoaded::PinRefused(unusable) } else { NotLoaded::Unusable(unusable) });
    };
    if config.timeouts.is_for_tests() {
        let place = config.location("timeouts.final_seconds");
        warnings.push(format!(
            "{place}: final notices come before {} hours, for tests only (§3.1.6)",
            EARLIEST_FINAL / 3600
        ));
    }
    warnings.extend(directory::warnings(config, &directory, &keyring));
    warnings.extend(virus_warning(config));
    warnings.extend(sealing::warning(config));
    let mut current = Current {
        provider: Arc::new(config.provider.clone()),
        keyring: Arc::new(keyring),
        former: former.into(),
        trust: Arc::new(trust),
        sha1: if config.trust.accept_sha1 { Sha1Policy::Accept } else { Sha1Policy::Refuse },
        directory: Arc::default(),
        senders: Arc::new(senders),
        verified_domains: config.tls.verify.clone().into(),
        limits: Limits {
            recipients: usize::try_from(config.limits.recipients).unwrap_or(usize::MAX),
            product: config.limits.product_bytes,
        },
        receipts,
        ordinary,
        timeouts: config.timeouts,
    };
    current.directory = Arc::new(directory.with_own(current.own_record()));
    Ok(Loaded { current, originals, warnings })
}

/// The key of the originals; none where none is named.
fn originals_key(config: &Config) -> Result<Option<OriginalsKey>, String> {
    let key = config.log.originals.key_file.as_deref().map(OriginalsKey::read);
    key.transpose().map_err(|error| told(&config.location("log.originals_key_file"), &error))
}

/// Without a scanner the daemon runs, for a trial; a provider may not.
fn virus_warning(config: &Config) -> Option<String> {
    config.virus.clamd.is_none().then(|| {
        let place = config.location("virus.clamd");
        format!(
            "{place}: NO VIRUS SCANNER, messages pass unseen; a provider must scan (§3.1.3): set it to clamd's socket"
        )
    })
}

fn collect<T>(problems: &mut Vec<String>, result: Result<T, String>) -> Option<T> {
    result.map_err(|problem| problems.push(problem)).ok()
}

fn read(path: &Path, place: &str) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("{place}: cannot read {}: {error}", path.display()))
}

/// An error with its causes behind the place it belongs to.
pub fn told(place: &str, error: &dyn Error) -> String {
    format!("{place}: {}", causes(error))
}
