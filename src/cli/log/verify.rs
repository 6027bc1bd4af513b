//! `log verify`: everything that the log and its seals claim, computed anew; offline, from the database and the folder of the
//! seals, or from exported days alone.
//!
//! One line per finding, the first row that is not as it was written in each of its places; then what was verified, and how
//! fast. Violations make the answer no, warnings do not.

use std::fs;
use std::io::{Write, stdout};
use std::path::Path;
use std::time::Instant;

use crate::adapters::instruments::SystemInstruments;
use crate::adapters::seal_store::SealFolder;
use crate::adapters::sqlite::LogWalk;
use crate::cli::Failure;
use crate::cli::load;
use crate::config::Config;
use crate::model::TemporalReference;
use crate::operations::causes;
use crate::operations::ports::{Instruments, SealEvidence};
use crate::operations::verify_log::{Finding, Own, Period, Standards, Summary, verify};
use crate::smime::{SignerCertificate, Trust};

/// Why nothing was verified.
#[derive(Debug, thiserror::Error)]
enum NotVerified {
    #[error("cannot read {file}")]
    Unreadable {
        file: String,
        #[source]
        source: std::io::Error,
    },
    #[error("{file} holds no CA certificates to verify with")]
    NoAuthorities {
        file: String,
        #[source]
        source: crate::smime::TrustError,
    },
    #[error("{place}: there is no database {file}; to verify exported days alone, give --exported FOLDER --ca FILE")]
    NoDatabase { place: String, file: String },
    #[error("{0} holds no seals: expected files such as 000001-2026-07-15.seal")]
    NoSeals(String),
}

fn clock() -> TemporalReference {
    SystemInstruments.now()
}

/// The database and the seals of this installation.
pub fn all(path: &Path, period: Period) -> Result<bool, Failure> {
    let (config, now) = (Config::read(path)?, clock());
    if !config.log.database.exists() {
        let (place, file) = (config.location("log.database"), config.log.database.display().to_string());
        return Err(NotVerified::NoDatabase { place, file }.into());
    }
    let (seals, own) = (SealFolder::at(&config.log.seals), OwnStandards::load(&config, now)?);
    let (log, damage) = match LogWalk::open(&config.log.database) {
        Ok(log) => (Some(log), None),
        // Then the seals can still be verified.
        Err(error) if error.is_damage() => (None, Some(error)),
        Err(error) => return Err(error.into()),
    };
    told(|tell| {
        let what = damage.as_ref().map(|error| causes(error));
        what.iter()
            .for_each(|what| tell(&Finding { is_violation: true, place: "database".into(), what: what.clone() }));
        let summary = verify(log.as_ref(), &seals, &own.standards(&config, true), period, tell)?;
        Ok::<_, Failure>(Summary { violations: summary.violations + u64::from(what.is_some()), ..summary })
    })
}

/// What is wrong with seals of this installation, whatever they lack in stamps; warnings are not told.
pub fn violations(config: &Config, seals: &impl SealEvidence) -> Result<Vec<String>, Failure> {
    // A revocation is no violation, so no lists are read.
    let own = OwnStandards::with(config, authorities(&config.trust.ca_file)?)?;
    let mut violations = Vec::new();
    let tell = &mut |finding: &Finding| violations.extend(finding.is_violation.then(|| finding.to_string()));
    verify(None::<&LogWalk>, seals, &own.standards(config, false), Period::default(), tell)?;
    Ok(violations)
}

/// What the seals of this installation are held against.
struct OwnStandards {
    trust: Trust,
    stampers: Option<Trust>,
    certificates: Vec<SignerCertificate>,
}

impl OwnStandards {
    fn load(config: &Config, now: TemporalReference) -> Result<Self, Failure> {
        let trust = match load::trust(config, &[], now) {
            Ok((trust, _)) => trust,
            // Revocation lists are not needed for a seal to hold; the CAs are.
            Err(problem) => {
                let trust = authorities(&config.trust.ca_file)?;
                writeln!(stdout(), "warning {problem}: revoked certificates are not told")?;
                trust
            }
        };
        Ok(Self::with(config, trust)?)
    }

    fn with(config: &Config, trust: Trust) -> Result<Self, NotVerified> {
        let stampers = config.log.tsa.as_ref().map(|tsa| authorities(&tsa.ca_file)).transpose()?;
        Ok(OwnStandards { trust, stampers, certificates: load::own_certificates(config) })
    }

    fn standards<'a>(&'a self, config: &'a Config, needs_stamps: bool) -> Standards<'a> {
        let own = Own { provider: &config.provider, certificates: &self.certificates };
        let stampers = self.stampers.as_ref();
        Standards { trust: &self.trust, stampers, own: Some(own), needs_stamps, now: &clock }
    }
}

/// Exported days, wherever they lie, without a database or a configuration.
pub fn exported(folder: &Path, ca: &Path, tsa_ca: Option<&Path>, period: Period) -> Result<bool, Failure> {
    let trust = authorities(ca)?;
    let stampers = tsa_ca.map(authorities).transpose()?;
    let standards =
        Standards { trust: &trust, stampers: stampers.as_ref(), own: None, needs_stamps: true, now: &clock };
    let file = || folder.display().to_string();
    fs::read_dir(folder).map_err(|source| NotVerified::Unreadable { file: file(), source })?;
    let seals = SealFolder::at(folder);
    if seals.list()?.is_empty() {
        return Err(NotVerified::NoSeals(file()).into());
    }
    told(|tell| verify(None::<&LogWalk>, &seals, &standards, period, tell))
}

fn authorities(path: &Path) -> Result<Trust, NotVerified> {
    let file = || path.display().to_string();
    let text = fs::read(path).map_err(|source| NotVerified::Unreadable { file: file(), source })?;
    Trust::from_pem(&text).map_err(|source| NotVerified::NoAuthorities { file: file(), source })
}

/// Prints the findings while they come up, and the summary.
fn told<E: Into<Failure>>(
    verification: impl FnOnce(&mut dyn FnMut(&Finding)) -> Result<Summary, E>,
) -> Result<bool, Failure> {
    let start = Instant::now();
    // A reader that went away gets no further line; the answer stays the same.
    let summary = verification(&mut |finding| _ = writeln!(stdout(), "{finding}")).map_err(Into::into)?;
    let seconds = start.elapsed().as_secs_f64();
    let Summary { rows, exported, seals, stamped, purged, violations, warnings, provider } = summary;
    let of = provider.map(|provider| format!(" of {provider}")).unwrap_or_default();
    // Rows are counted in billions at most.
    let speed = (rows + exported) as f64 / seconds.max(0.001);
    writeln!(
        stdout(),
        "{rows} rows of the database and {exported} exported rows in {seconds:.1} s ({speed:.0} rows/s); \
         {seals} seals{of}, {stamped} stamped, {purged} with their rows purged: {violations} violations, {warnings} warnings"
    )?;
    Ok(violations == 0)
}
