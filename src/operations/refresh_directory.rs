//! The providers directory is kept current (§4.5, §5.6): fetched, verified, compared, and only then put in the place of
//! the copy in use.
//!
//! Whatever fails leaves the copy in use where it is; the reason is kept beside it and told. The copies on disk are the
//! only way from a fetch to the operations: whoever fetched, the daemon takes over what lies there and verifies it again.
//! When to fetch is decided here from an instant and a chance; nothing here waits.

use std::time::Duration;

use super::causes;
use super::ports::{Copies, DirectorySource, DirectoryStore, Fetched, OutsideFault};
use crate::crash;
use crate::directory::{Comparison, Edition, Pin, Refusal, Terms, Unacceptable, judge, read};

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
    #[error("the copies of the providers directory could not be worked with")]
    Store(#[source] OutsideFault),
}

impl NotRefreshed {
    /// Whether something came that is no good, rather than nothing.
    pub fn is_refusal(&self) -> bool {
        matches!(self, NotRefreshed::Unacceptable(_) | NotRefreshed::Refused(_))
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
    let in_force = in_use(store, fetched)?;
    if in_force.as_ref().is_some_and(|(octets, _)| *octets == fetched.octets) {
        store.confirm(terms.now).map_err(NotRefreshed::Store)?;
        return Ok(Refreshed::Unchanged(candidate));
    }
    let comparison = judge(in_force.as_ref().map(|(_, edition)| edition), &candidate, terms)?;
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
    let in_force = in_use(store, fetched)?.map(|(_, edition)| edition);
    let refusal = judge(in_force.as_ref(), &candidate, terms).err();
    let accepting = Terms { most_lost_percent: 100, accept_shrunken: true, ..terms };
    let undated = Edition { signed_at: None, ..candidate };
    let before = in_force.map(|edition| Edition { signed_at: None, ..edition });
    Ok((judge(before.as_ref(), &undated, accepting)?, refusal))
}

/// The copy in use, to compare with. Who signed it was asked when it came; that another signer is configured since then
/// must not switch off the comparison. One that cannot be read is none: it is not in force either.
fn in_use(store: &impl DirectoryStore, fetched: &Fetched) -> Result<Option<(Vec<u8>, Edition)>, NotRefreshed> {
    let Some(copy) = store.copies().map_err(NotRefreshed::Store)?.current else { return Ok(None) };
    let Ok(octets) = store.octets(&copy) else { return Ok(None) };
    let Ok(mut edition) = read(copy.form, &octets, None, copy.fetched) else { return Ok(None) };
    if copy.form != fetched.form {
        // LDAP has no signing time: the administrator has changed from one to the other.
        edition.signed_at = None;
    }
    Ok(Some((octets, edition)))
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
    use super::*;

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
