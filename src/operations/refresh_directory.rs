//! The providers directory is kept current (§4.5, §5.6): fetched, verified, compared, and only then put in the place of
//! the copy in use.
//!
//! Whatever fails leaves the copy in use where it is; the reason is kept beside it and told. Where the copy cannot be read,
//! what comes is compared with the one before it, or else an administrator decides. The copies on disk are the
//! only way from a fetch to the operations: whoever fetched, the daemon takes over what lies there and verifies it again.
//! When to fetch is decided here from an instant and a chance; nothing here waits.

use std::time::Duration;

use super::causes;
use super::ports::{Copies, DirectoryCopy, DirectorySource, DirectoryStore, Fetched, OutsideFault};
use crate::crash;
use crate::directory::{Comparison, Edition, Form, Pin, Refusal, Terms, Unacceptable, judge, read};

const HOUR: u64 = 3600;

/// A day at most lies between two fetches (§4.5), and providers do not all come in the same minute.
const LONGEST_PAUSE: Duration = Duration::from_secs(24 * HOUR);
const JITTER_SECONDS: u128 = 4 * HOUR as u128;

/// After a failure: this long, then twice as long each time, up to an hour.
const FIRST_RETRY: Duration = Duration::from_secs(60);
const LONGEST_RETRY: Duration = Duration::from_secs(HOUR);

/// Without any directory no mail moves: sooner, and never long.
const FIRST_RETRY_WITHOUT: Duration = Duration::from_secs(5);
const LONGEST_RETRY_WITHOUT: Duration = Duration::from_secs(300);

/// Why the copy in use stays.
#[derive(Debug, thiserror::Error)]
pub enum NotRefreshed {
    #[error("the providers directory could not be fetched")]
    Fetch(#[source] OutsideFault),
    #[error("the providers directory is refused")]
    Unacceptable(#[from] Unacceptable),
    #[error("the providers directory is refused")]
    Refused(#[from] Refusal),
    #[error(
        "the providers directory is refused: neither the copy in use nor the one before it can be read, so nothing says \
         whether what came is older or has shrunken; look at `pec-milter directory show`, and if the server is to be \
         believed run `pec-milter directory refresh --accept-shrunken`"
    )]
    Incomparable(#[source] OutsideFault),
    #[error("the copies of the providers directory could not be worked with")]
    Store(#[source] OutsideFault),
}

impl NotRefreshed {
    /// Whether something came that is no good, rather than nothing.
    pub fn is_refusal(&self) -> bool {
        matches!(self, NotRefreshed::Unacceptable(_) | NotRefreshed::Refused(_) | NotRefreshed::Incomparable(_))
    }
}

/// What a fetch changed.
#[derive(Debug)]
pub enum Refreshed {
    Unchanged(Edition),
    Replaced { edition: Edition, comparison: Comparison },
}

/// Fetches once, and puts what came in force if it may be.
pub fn refresh(
    store: &impl DirectoryStore,
    source: &dyn DirectorySource,
    pin: Option<&Pin>,
    terms: Terms,
) -> Result<Refreshed, NotRefreshed> {
    let fetched = source.fetch().map_err(NotRefreshed::Fetch);
    let result = fetched
        .and_then(|fetched| store.exclusively(|| take(store, &fetched, pin, terms)).map_err(NotRefreshed::Store)?);
    if let Err(failure) = &result {
        store
            .exclusively(|| store.note_failure(terms.now, &causes(failure)))
            .and_then(|noted| noted)
            .map_err(|fault| NotRefreshed::Store(format!("{}; and {}", causes(failure), causes(&*fault)).into()))?;
    }
    result
}

fn take(
    store: &impl DirectoryStore,
    fetched: &Fetched,
    pin: Option<&Pin>,
    terms: Terms,
) -> Result<Refreshed, NotRefreshed> {
    let candidate = read(fetched.form, &fetched.octets, pin, terms.now)?;
    let before = to_compare_with(store, fetched, terms)?;
    if matches!(&before, Before::Current { octets, .. } if *octets == fetched.octets) {
        store.confirm(terms.now).map_err(NotRefreshed::Store)?;
        return Ok(Refreshed::Unchanged(candidate));
    }
    let comparison = judge(before.edition(), &candidate, terms)?;
    crash::point("directory-judged");
    store.replace(fetched, terms.now).map_err(NotRefreshed::Store)?;
    Ok(Refreshed::Replaced { edition: candidate, comparison })
}

/// What a fetched file would change, and whether it would be taken; nothing is.
pub fn preview(
    store: &impl DirectoryStore,
    fetched: &Fetched,
    pin: Option<&Pin>,
    terms: Terms,
) -> Result<(Comparison, Option<Refusal>), NotRefreshed> {
    let candidate = read(fetched.form, &fetched.octets, pin, terms.now)?;
    let before = to_compare_with(store, fetched, terms)?;
    let refusal = judge(before.edition(), &candidate, terms).err();
    let accepting = Terms { most_lost_percent: 100, accept_shrunken: true, ..terms };
    let undated = Edition { signed_at: None, ..candidate };
    let before = before.edition().map(|edition| Edition { signed_at: None, ..edition.clone() });
    Ok((judge(before.as_ref(), &undated, accepting)?, refusal))
}

/// What an edition that came is compared with.
enum Before {
    /// Nothing was ever there, or what comes is the copy in use that was damaged here, or nothing can be read and the
    /// administrator believes the server.
    Nothing,
    Current {
        octets: Vec<u8>,
        edition: Edition,
    },
    Previous(Edition),
}

impl Before {
    fn edition(&self) -> Option<&Edition> {
        match self {
            Before::Nothing => None,
            Before::Current { edition, .. } | Before::Previous(edition) => Some(edition),
        }
    }
}

/// The copy in use, or the one before it where that cannot be read: the daemon may hold a good one still, which an old or
/// shrunken one must not replace.
fn to_compare_with(store: &impl DirectoryStore, fetched: &Fetched, terms: Terms) -> Result<Before, NotRefreshed> {
    let copies = store.copies().map_err(NotRefreshed::Store)?;
    let Some(current) = copies.current else { return Ok(Before::Nothing) };
    let unreadable = match stored(store, &current, fetched.form) {
        Ok((octets, edition)) => return Ok(Before::Current { octets, edition }),
        Err(unreadable) => unreadable,
    };
    if current.is_of(fetched) {
        return Ok(Before::Nothing);
    }
    match copies.previous.and_then(|previous| stored(store, &previous, fetched.form).ok()) {
        Some((_, edition)) => Ok(Before::Previous(edition)),
        None if terms.accept_shrunken => Ok(Before::Nothing),
        None => Err(NotRefreshed::Incomparable(unreadable)),
    }
}

/// A copy with its octets. Who signed it was asked when it came; that another signer is configured since then must not
/// switch off the comparison.
fn stored(store: &impl DirectoryStore, copy: &DirectoryCopy, form: Form) -> Result<(Vec<u8>, Edition), OutsideFault> {
    let octets = store.octets(copy)?;
    let mut edition = read(copy.form, &octets, None, copy.fetched)?;
    if copy.form != form {
        // LDAP has no signing time: the administrator has changed from one to the other.
        edition.signed_at = None;
    }
    Ok((octets, edition))
}

/// The current copy, verified again as of the instant when it was last found to be the server's.
pub fn load(store: &impl DirectoryStore, pin: Option<&Pin>) -> Result<Option<(Edition, Copies)>, NotRefreshed> {
    let copies = store.copies().map_err(NotRefreshed::Store)?;
    let Some(copy) = &copies.current else { return Ok(None) };
    let octets = store.octets(copy).map_err(NotRefreshed::Store)?;
    let edition = read(copy.form, &octets, pin, copies.confirmed.unwrap_or(copy.fetched))?;
    Ok(Some((edition, copies)))
}

/// How long to wait for the next fetch after a success that is this old.
pub fn pause_after_success(age_seconds: i64, chance: u128) -> Duration {
    let jitter = u64::try_from(chance % JITTER_SECONDS).unwrap_or_default();
    let pause = LONGEST_PAUSE.saturating_sub(Duration::from_secs(jitter));
    // A clock that was set back makes it seem to come from the future.
    let age = Duration::from_secs(u64::try_from(age_seconds).unwrap_or_default());
    pause.saturating_sub(age)
}

/// How long to wait after this many failures one after the other.
pub fn pause_after_failure(failures: u32, has_directory: bool) -> Duration {
    let (first, longest) = match has_directory {
        true => (FIRST_RETRY, LONGEST_RETRY),
        false => (FIRST_RETRY_WITHOUT, LONGEST_RETRY_WITHOUT),
    };
    let doublings = failures.saturating_sub(1).min(16);
    first.saturating_mul(1 << doublings).min(longest)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::adapters::directory_store::CopiesOnDisk;
    use crate::directory::{ProviderRecord, own_record};
    use crate::model::TemporalReference;

    /// A server whose directory has so many providers.
    struct Serving(usize);

    impl DirectorySource for Serving {
        fn fetch(&self) -> Result<Fetched, OutsideFault> {
            let records = (0..self.0).map(|number| ProviderRecord {
                name: format!("Gestore {number}"),
                unit: None,
                mail_receipt: "ricevute@beta.example".parse().unwrap(),
                domains: [format!("p{number}.example").parse().unwrap()].into(),
                certificates: vec![format!("c{number}").into_bytes()],
            });
            let text: String = records.map(|record| own_record(&record, None)).collect();
            Ok(Fetched { form: Form::Ldif, octets: text.into_bytes() })
        }
    }

    #[test]
    fn a_damaged_copy_does_not_switch_off_the_comparison() {
        let folder = tempfile::tempdir().unwrap();
        let store = CopiesOnDisk::at(&folder.path().join("directory"));
        let now = TemporalReference::from_unix(1_721_032_245);
        let fetch = |providers, accept_shrunken| {
            refresh(&store, &Serving(providers), None, Terms { most_lost_percent: 5, accept_shrunken, now })
        };
        let damage = |all: bool| {
            let copies = store.copies().unwrap();
            for copy in [copies.current, copies.previous.filter(|_| all)].into_iter().flatten() {
                fs::write(folder.path().join("directory").join(format!("{}.ldif", copy.sha256)), "damaged").unwrap();
            }
        };
        let in_use = || load(&store, None).map(|loaded| loaded.unwrap().0.directory.providers());

        // The first one ever is compared with nothing.
        fetch(100, false).unwrap();
        damage(false);
        assert!(matches!(fetch(200, false), Err(NotRefreshed::Incomparable(_))));
        assert!(matches!(fetch(1, false), Err(NotRefreshed::Incomparable(_))));
        assert!(store.copies().unwrap().failure.unwrap().1.contains("directory refresh --accept-shrunken"));
        assert!(in_use().is_err());
        // The same octets mend it.
        fetch(100, false).unwrap();
        assert_eq!(in_use().unwrap(), 100);

        // With the one before it something can be compared.
        fetch(101, false).unwrap();
        damage(false);
        assert!(matches!(fetch(90, false), Err(NotRefreshed::Refused(Refusal::Shrunken { .. }))));
        fetch(102, false).unwrap();
        assert_eq!(in_use().unwrap(), 102);

        // The administrator decides where nothing else does.
        damage(true);
        assert!(matches!(fetch(103, false), Err(NotRefreshed::Incomparable(_))));
        fetch(103, true).unwrap();
        assert_eq!(in_use().unwrap(), 103);
    }

    #[test]
    fn fetches_lie_a_day_apart_at_most_and_four_hours_less_at_most() {
        let pauses = [0, 1, JITTER_SECONDS - 1, JITTER_SECONDS, u128::MAX].map(|chance| pause_after_success(0, chance));
        assert!(pauses.iter().all(|pause| (20 * HOUR..=24 * HOUR).contains(&pause.as_secs())), "{pauses:?}");
        assert_eq!((pauses[0].as_secs(), pauses[1].as_secs()), (24 * HOUR, 24 * HOUR - 1));
        assert_eq!(pause_after_success(23 * HOUR as i64, 0).as_secs(), HOUR);
        assert_eq!(pause_after_success(100 * HOUR as i64, 0), Duration::ZERO);
        assert_eq!(pause_after_success(-5, 0).as_secs(), 24 * HOUR);
    }

    #[test]
    fn failures_are_tried_again_at_growing_intervals_and_sooner_without_a_directory() {
        let seconds = |failures, has| pause_after_failure(failures, has).as_secs();
        assert_eq!([1, 2, 3, 7, 40].map(|failures| seconds(failures, true)), [60, 120, 240, 3600, 3600]);
        assert_eq!([1, 2, 3, 7, u32::MAX].map(|failures| seconds(failures, false)), [5, 10, 20, 300, 300]);
    }
}
