//! Seals the log (§2.3): the rows since the last seal are exported, bound by a text, signed, and the seal enters the chain
//! itself; then an authority stamps it (`stamp`).
//!
//! The order is rows, text, signature, each durable, then the entry: a seal that the log knows is whole. Killed before
//! the entry, the next attempt goes on with what lies there, once it is found to agree with the log (`leftover`); files
//! that say something else than the log are evidence of what happened to it, and are never written over. Rows are read
//! page by page, and each is held against the chain before it is exported: a log that is not as it was written is not
//! signed. Several processes may seal, one at a time. Whatever fails is tried again; no mail waits for it (`daily`).

mod daily;
mod leftover;
mod stamp;

use std::collections::BTreeSet;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use tokio::task::{JoinError, spawn_blocking};

use super::current::Handle;
use super::ports::{Instruments, LogError, OutsideFault, SealStore, SealedLog, StampServer};
use crate::crash;
use crate::legal_log::seal::{Found, Part, Seal, Sealed, Stamped, exported, in_one_line};
use crate::legal_log::{ChainBreak, Entry, EventKind, Link};
use crate::model::TemporalReference;
use crate::smime::{Sha1Policy, SigningError, Trust, verify};

pub use stamp::{NotStamped, Stamping};

/// What seals and stamps, with everything it talks to.
pub struct SealLog<L, F, A, T> {
    pub current: Handle,
    pub log: Arc<L>,
    pub folder: F,
    /// Without one seals are not stamped.
    pub authority: Option<Authority<A>>,
    pub instruments: T,
}

/// A time stamping authority, and who must have certified it.
pub struct Authority<A> {
    pub server: Arc<A>,
    pub trust: Arc<Trust>,
}

/// A seal that is in the log now.
#[derive(Debug)]
pub struct Made {
    pub seal: Seal,
    /// Whether it was begun before: then there may be more to seal.
    pub was_left: bool,
}

/// Why nothing was sealed. Nothing is lost by that: the rows are sealed with the next seal.
#[derive(Debug, thiserror::Error)]
pub enum NotSealed {
    #[error("the log could not be worked with")]
    Log(#[from] LogError),
    #[error("the folder of the seals could not be worked with")]
    Folder(#[source] OutsideFault),
    #[error("the log is not as it was written, so it is not signed; `pec-milter log verify` tells more")]
    Altered(#[from] ChainBreak),
    #[error("the seal in row {0} of the log is not as it was written; `pec-milter log verify` tells more")]
    Unreadable(i64),
    #[error(
        "{name} in the folder of the seals was not made from this log: {why}. Was an older copy of the database put back? \
         `pec-milter log restore` brings back what was sealed after it, if nothing was recorded since; otherwise keep the \
         files from number {number:06} on as evidence and move them out of the folder"
    )]
    Foreign { name: String, number: u64, why: &'static str },
    #[error(
        "neither row {row} nor the seal {name} is there any more, which say what the next seal follows: bring the seal back \
         from a backup"
    )]
    NoPredecessor { row: i64, name: String },
    #[error(
        "{name}.p7s is not made by any certificate that the configuration names: add the one that signed it to \
         key.previous_certificates, or, if the file was changed, bring it back from a backup; where there is none, keep the \
         files of this seal as evidence and move them out of the folder"
    )]
    OtherSigner { name: String },
    #[error("the seal could not be signed, so it waits")]
    Signing(#[from] SigningError),
    #[error("a thread ended before its work was done")]
    Thread(#[from] JoinError),
}

/// What the log knows of its seals.
#[derive(Debug, Default)]
struct Known {
    last: Option<Sealed>,
    sealed: BTreeSet<u64>,
    stamped: BTreeSet<u64>,
}

impl Known {
    /// The number of the next seal.
    fn next(&self) -> u64 {
        self.last.as_ref().map_or(1, |last| last.number.saturating_add(1))
    }

    /// What the next seal names as the one before it.
    fn digest(&self) -> [u8; 32] {
        self.last.as_ref().map_or([0; 32], |last| last.sha256)
    }
}

/// Rows that were written to a file.
struct Exported<R> {
    last: Link,
    newest: TemporalReference,
    digest: [u8; 32],
    file: R,
}

impl<L, F, A, T> SealLog<L, F, A, T>
where
    L: SealedLog,
    F: SealStore,
    A: StampServer,
    T: Instruments,
{
    /// Seals the rows since the last seal; none where there is nothing but seals and stamps themselves. A seal that a
    /// crash left half made is finished first, and then is what was made.
    pub async fn seal(&self) -> Result<Option<Made>, NotSealed> {
        let _lock = self.lock().await?;
        let known = self.known().await?;
        let before = self.before(&known).await?;
        let leftover = self.leftover(&known, before).await?;
        let was_left = leftover.is_some();
        let (seal, is_signed) = match leftover {
            Some(left) => left,
            None => match self.make(&known, before).await? {
                Some(made) => (made, false),
                None => return Ok(None),
            },
        };
        crash::point("seal-text-written");
        if !is_signed {
            self.sign(&seal).await?;
        }
        crash::point("seal-signed");
        let recorded = self.log.record(vec![seal.entry()]).await?;
        // Nobody else takes this number while the lock is held.
        let stands = recorded.first().and_then(|one| Sealed::of(&one.entry));
        if stands.is_none_or(|stands| stands.sha256 != seal.digest()) {
            return Err(foreign(seal.name(), seal.number, "the log has another seal of this number"));
        }
        crash::point("seal-recorded");
        Ok(Some(Made { seal, was_left }))
    }

    /// Exports and binds what is to be sealed, if anything is.
    async fn make(&self, known: &Known, before: Link) -> Result<Option<Seal>, NotSealed> {
        if self.first_to_seal(before.sequence).await?.is_none() {
            return Ok(None);
        }
        let end = self.log.last().await?;
        let Exported { last, newest, digest, file } = self.export(before, end.sequence).await?;
        let seal = Seal {
            number: known.next(),
            provider: self.provider_in_seals(),
            sealed: self.instruments.now(),
            before,
            last,
            newest,
            previous: known.digest(),
            rows: digest,
        };
        let name = seal.name();
        self.in_folder(move |folder| folder.finish(file, &name)).await?;
        crash::point("seal-rows-written");
        self.write_text(&seal).await?;
        Ok(Some(seal))
    }

    async fn write_text(&self, seal: &Seal) -> Result<(), NotSealed> {
        let (name, text) = (seal.name(), seal.to_text());
        self.in_folder(move |folder| folder.write(&name, Part::Seal, text.as_bytes())).await
    }

    /// The provider's name as a seal tells it.
    fn provider_in_seals(&self) -> String {
        in_one_line(&self.current.now().provider.name)
    }

    /// Writes rows to a file that has no name yet, those after a place up to another.
    async fn export(&self, before: Link, end: i64) -> Result<Exported<F::Rows>, NotSealed> {
        let mut file = self.in_folder(|folder| folder.new_rows()).await?;
        let (mut last, mut newest, mut digest) = (before, None, Sha256::new());
        while last.sequence < end {
            let rows = self.log.rows_after(last.sequence).await?;
            if rows.is_empty() {
                return Err(ChainBreak::Gap { expected: last.sequence.saturating_add(1), found: end }.into());
            }
            let mut page = String::new();
            for (link, entry) in rows.iter().take_while(|(link, _)| link.sequence <= end) {
                last.check_next(link, entry)?;
                last = *link;
                newest = newest.max(Some(entry.at));
                page.push_str(&exported(link, entry));
            }
            // A page without a row up to the end is one with a gap.
            if page.is_empty() {
                return Err(ChainBreak::Gap { expected: last.sequence.saturating_add(1), found: end }.into());
            }
            digest.update(&page);
            file = self.in_folder(move |folder| folder.append(&mut file, page.as_bytes()).map(|()| file)).await?;
        }
        let newest = newest.unwrap_or_else(|| self.instruments.now());
        Ok(Exported { last, newest, digest: digest.finalize().into(), file })
    }

    /// The first row after a place that is no seal and no stamp: these alone make no seal.
    async fn first_to_seal(&self, mut after: i64) -> Result<Option<Entry>, NotSealed> {
        loop {
            let rows = self.log.rows_after(after).await?;
            let Some((last, _)) = rows.last() else { return Ok(None) };
            after = last.sequence;
            let is_own = |kind| matches!(kind, EventKind::Seal | EventKind::Stamp);
            if let Some((_, entry)) = rows.into_iter().find(|(_, entry)| !is_own(entry.kind)) {
                return Ok(Some(entry));
            }
        }
    }

    /// What the log says of its seals.
    async fn known(&self) -> Result<Known, NotSealed> {
        let mut known = Known::default();
        for one in self.log.seals().await? {
            if one.entry.kind == EventKind::Seal {
                let sealed = Sealed::of(&one.entry).ok_or(NotSealed::Unreadable(one.sequence))?;
                known.sealed.insert(sealed.number);
                known.last = Some(sealed);
            } else if let Some(stamped) = Stamped::of(&one.entry) {
                known.stamped.insert(stamped.number);
            }
        }
        Ok(known)
    }

    /// The row that the next seal follows. Once purged it stands in the text of the seal before.
    async fn before(&self, known: &Known) -> Result<Link, NotSealed> {
        let Some(last) = &known.last else { return Ok(Link::BEFORE_FIRST) };
        if let Some(link) = self.log.link(last.last).await? {
            return Ok(link);
        }
        let name = last.name.clone();
        let text = self.in_folder(move |folder| folder.read(&name, Part::Seal)).await?;
        let seal = text.and_then(|text| Seal::from_text(std::str::from_utf8(&text).ok()?).ok());
        match seal.filter(|seal| seal.digest() == last.sha256) {
            Some(seal) => Ok(seal.last),
            None => Err(NotSealed::NoPredecessor { row: last.last, name: last.name.clone() }),
        }
    }

    /// Whether a signature that was found is this provider's over the seal.
    async fn is_own_signature(&self, seal: &Seal, signature: Vec<u8>) -> Result<bool, NotSealed> {
        let (current, text) = (self.current.now(), seal.to_text());
        let is_own = move || {
            let verified = verify(&signature, text.as_bytes(), Sha1Policy::Refuse);
            verified.is_ok_and(|verified| current.is_own(&verified.signer.sha256()))
        };
        Ok(spawn_blocking(is_own).await?)
    }

    async fn sign(&self, seal: &Seal) -> Result<(), NotSealed> {
        let (current, now) = (self.current.now(), self.instruments.now());
        let (digest, sealed) = (seal.digest(), seal.sealed);
        let signature = spawn_blocking(move || current.detached(digest, sealed, now)).await??;
        let name = seal.name();
        self.in_folder(move |folder| folder.write(&name, Part::Signature, &signature)).await
    }

    async fn lock(&self) -> Result<F::Lock, NotSealed> {
        self.in_folder(|folder| folder.lock()).await
    }

    /// Works with the folder on a thread that may wait.
    async fn in_folder<R: Send + 'static>(
        &self,
        work: impl FnOnce(&F) -> Result<R, OutsideFault> + Send + 'static,
    ) -> Result<R, NotSealed> {
        let folder = self.folder.clone();
        spawn_blocking(move || work(&folder)).await?.map_err(NotSealed::Folder)
    }
}

fn foreign(name: String, number: u64, why: &'static str) -> NotSealed {
    NotSealed::Foreign { name, number, why }
}

#[cfg(test)]
mod tests;
