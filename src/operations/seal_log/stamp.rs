//! The time stamps of the seals: every seal that has none gets one, the earliest first.
//!
//! An answer is kept only when it proves something; then it enters the log. Killed between, the next attempt finds the
//! file and makes the entry, unless the file proves nothing any more: then somebody has to look.

use sha2::{Digest, Sha256};
use tokio::task::spawn_blocking;

use super::{Authority, Known, NotSealed, SealLog};
use crate::crash;
use crate::legal_log::seal::{Found, Part, Stamped};
use crate::model::TemporalReference;
use crate::operations::ports::{Instruments, OutsideFault, SealStore, SealedLog, StampServer};
use crate::smime::Trust;
use crate::smime::timestamp::{TimeStamp, TimestampError, check, request};

/// How many seconds a fresh stamp may be away from our own clock: what two clocks may differ that are set by a time server,
/// and the wait for the answer. Beyond that one of the two is wrong, and the stamp would say so for ever.
const CLOCKS: u64 = 300;

/// What came of an attempt to stamp.
#[derive(Debug, Default)]
pub struct Stamping {
    /// The names of the seals that were stamped now, with their stamps.
    pub stamped: Vec<(String, TimeStamp)>,
    /// The names of those that have none yet.
    pub waiting: Vec<String>,
    /// Why the first of these has none.
    pub failure: Option<NotStamped>,
}

/// Why a seal has no time stamp.
#[derive(Debug, thiserror::Error)]
pub enum NotStamped {
    #[error("no time stamping authority is configured: set log.tsa_url and log.tsa_ca_file")]
    NoAuthority,
    #[error("the time stamping authority gave no answer: look at log.tsa_url, at the network and at log.tsa_user")]
    NoAnswer(#[source] OutsideFault),
    #[error("the answer of the time stamping authority is no time stamp: is log.tsa_url the right one?")]
    NoStamp(#[source] TimestampError),
    #[error("the time stamp is refused: is log.tsa_ca_file the CA of this authority?")]
    Untrusted(#[source] TimestampError),
    #[error(
        "the authority stamped {stamped} at {now} by our own clock: set this machine's clock, or tell the authority about its own",
        stamped = stamped.rfc3339(),
        now = now.rfc3339()
    )]
    Clock { stamped: TemporalReference, now: TemporalReference },
    #[error("{0} has no signature any more: bring it back from a backup")]
    NoSignature(String),
    #[error(
        "{name}.tsr is there and does not hold: add the former authority's CA to log.tsa_ca_file, or move {name}.tsr away"
    )]
    KeptFails {
        name: String,
        #[source]
        source: TimestampError,
    },
    #[error("the request could not be written")]
    Request(#[source] der::Error),
    #[error("the time stamp could not be kept")]
    Kept(#[from] NotSealed),
}

impl NotStamped {
    /// Whether another seal would fare no better now.
    fn is_about_authority(&self) -> bool {
        !matches!(self, NotStamped::NoSignature(_) | NotStamped::KeptFails { .. })
    }
}

impl From<TimestampError> for NotStamped {
    fn from(error: TimestampError) -> Self {
        match error {
            TimestampError::Path(_) => NotStamped::Untrusted(error),
            _ => NotStamped::NoStamp(error),
        }
    }
}

impl<L, F, A, T> SealLog<L, F, A, T>
where
    L: SealedLog,
    F: SealStore,
    A: StampServer,
    T: Instruments,
{
    /// Stamps what has no stamp, until the authority fails.
    pub async fn stamp(&self) -> Result<Stamping, NotSealed> {
        let mut stamping = Stamping::default();
        for found in self.unstamped(&self.known().await?).await? {
            if stamping.failure.as_ref().is_some_and(NotStamped::is_about_authority) {
                stamping.waiting.push(found.name);
                continue;
            }
            let name = found.name.clone();
            match self.stamp_one(found).await {
                Ok(Some(stamp)) => stamping.stamped.push((name, stamp)),
                // Another process was faster.
                Ok(None) => {}
                Err(failure) => {
                    stamping.waiting.push(name);
                    stamping.failure.get_or_insert(failure);
                }
            }
        }
        Ok(stamping)
    }

    /// The seals that the log knows and that have no stamp, the earliest first. Of a seal whose own row was purged the
    /// row of the stamp may have gone, too: there the file counts.
    pub(super) async fn unstamped(&self, known: &Known) -> Result<Vec<Found>, NotSealed> {
        let found = self.in_folder(|folder| folder.list()).await?;
        let is_known = |found: &Found| found.has(Part::Seal) && found.number < known.next();
        let has_stamp = |found: &Found| match known.stamped.contains(&found.number) {
            true => true,
            false => found.has(Part::Stamp) && !known.sealed.contains(&found.number),
        };
        Ok(found.into_iter().filter(|found| is_known(found) && !has_stamp(found)).collect())
    }

    /// Stamps one seal, with the folder locked; none where that was done meanwhile.
    async fn stamp_one(&self, found: Found) -> Result<Option<TimeStamp>, NotStamped> {
        let Authority { server, trust } = self.authority.as_ref().ok_or(NotStamped::NoAuthority)?;
        let _lock = self.lock().await?;
        if self.known().await?.stamped.contains(&found.number) {
            return Ok(None);
        }
        let name = found.name.clone();
        let read = move |folder: &F| Ok((folder.read(&name, Part::Signature)?, folder.read(&name, Part::Stamp)?));
        let (signature, kept) = self.in_folder(read).await?;
        let digest: [u8; 32] = match signature {
            Some(signature) => Sha256::digest(&signature).into(),
            None => return Err(NotStamped::NoSignature(found.name)),
        };
        let (answer, stamp) = match kept {
            // It may prove an earlier instant than a new one would, to whoever knows its authority: never written over.
            Some(kept) => match check(&kept, &digest, None, trust) {
                Ok(stamp) => (kept, stamp),
                Err(source) => return Err(NotStamped::KeptFails { name: found.name, source }),
            },
            None => {
                let nonce = u64::try_from(self.instruments.chance() >> 64).unwrap_or_default();
                let (server, trust) = (server.clone(), trust.clone());
                let asking = spawn_blocking(move || ask(&*server, &digest, nonce, &trust));
                let (answer, stamp) = asking.await.map_err(NotSealed::Thread)??;
                check_clock(stamp.at, self.instruments.now())?;
                let (name, octets) = (found.name.clone(), answer.clone());
                self.in_folder(move |folder| folder.write(&name, Part::Stamp, &octets)).await?;
                (answer, stamp)
            }
        };
        crash::point("seal-stamp-written");
        let stamped = Stamped {
            number: found.number,
            sha256: Sha256::digest(&answer).into(),
            at: stamp.at,
            serial: stamp.serial.clone(),
            authority: stamp.authority.clone(),
        };
        let entry = stamped.entry(self.instruments.now());
        self.log.record(vec![entry]).await.map_err(NotSealed::Log)?;
        crash::point("seal-stamp-recorded");
        Ok(Some(stamp))
    }
}

/// Asks once, and looks at the answer.
fn ask(
    server: &impl StampServer,
    digest: &[u8; 32],
    nonce: u64,
    trust: &Trust,
) -> Result<(Vec<u8>, TimeStamp), NotStamped> {
    let request = request(digest, nonce).map_err(NotStamped::Request)?;
    let answer = server.ask(&request).map_err(NotStamped::NoAnswer)?;
    let stamp = check(&answer, digest, Some(nonce), trust)?;
    Ok((answer, stamp))
}

/// Whether a stamp was made now.
fn check_clock(stamped: TemporalReference, now: TemporalReference) -> Result<(), NotStamped> {
    match stamped.unix().abs_diff(now.unix()) > CLOCKS {
        true => Err(NotStamped::Clock { stamped, now }),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_of_now() {
        let at = TemporalReference::from_unix;
        for stamped in [700, 1000, 1300] {
            check_clock(at(stamped), at(1000)).unwrap();
        }
        for stamped in [i64::MIN, 699, 1301, i64::MAX] {
            assert!(matches!(check_clock(at(stamped), at(1000)), Err(NotStamped::Clock { .. })), "{stamped}");
        }
    }
}
