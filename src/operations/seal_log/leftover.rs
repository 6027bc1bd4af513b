//! What an attempt to seal left that did not come to its end: files of a number that the log does not know yet.

use std::io::{BufRead, Read};

use sha2::{Digest, Sha256};

use super::{Exported, Found, Known, NotSealed, SealLog, foreign};
use crate::legal_log::seal::{Part, Seal};
use crate::legal_log::{Link, hexadecimal, line};
use crate::operations::ports::{Instruments, OutsideFault, SealStore, SealedLog, StampServer};

/// One megabyte at a time is hashed.
const PIECE: usize = 1024 * 1024;

const OTHER_ROWS: &str = "the log holds other rows in its place";
const OTHER_SEALS: &str = "the log has no seal before it of which it could be the next";

impl<L, F, A, T> SealLog<L, F, A, T>
where
    L: SealedLog,
    F: SealStore,
    A: StampServer,
    T: Instruments,
{
    /// The seal that lies there half made, and whether it is signed; whole but for that when this returns.
    pub(super) async fn leftover(&self, known: &Known, before: Link) -> Result<Option<(Seal, bool)>, NotSealed> {
        let found = self.in_folder(|folder| folder.list()).await?;
        let mut half_made = None;
        for found in found.into_iter().filter(|found| found.number >= known.next()) {
            let is_next = found.number == known.next();
            if !is_next {
                return Err(foreign(found.name, found.number, OTHER_SEALS));
            }
            if found.has(Part::Seal) {
                half_made = Some(self.resume(known, before, found).await?);
            } else {
                self.discard(found).await?;
            }
        }
        Ok(half_made)
    }

    /// Whether there is anything of the kind.
    pub(super) async fn has_leftover(&self, known: &Known) -> Result<bool, NotSealed> {
        let found = self.in_folder(|folder| folder.list()).await?;
        Ok(found.iter().any(|found| found.number >= known.next()))
    }

    /// A seal whose text lies there: taken over where log and files agree with it.
    async fn resume(&self, known: &Known, before: Link, found: Found) -> Result<(Seal, bool), NotSealed> {
        let name = found.name.clone();
        let text = self.in_folder(move |folder| folder.read(&name, Part::Seal)).await?.unwrap_or_default();
        let seal = std::str::from_utf8(&text).ok().and_then(|text| Seal::from_text(text).ok());
        let Some(seal) = seal.filter(|seal| seal.name() == found.name) else {
            return Err(foreign(found.name, found.number, "it is not the text of a seal of this name"));
        };
        if seal.previous != known.digest() || seal.before != before {
            return Err(foreign(found.name, found.number, OTHER_SEALS));
        }
        if self.log.link(seal.last.sequence).await? != Some(seal.last) {
            return Err(foreign(found.name, found.number, OTHER_ROWS));
        }
        // Whoever can write the folder must not have signed what the log does not hold: nothing of it is taken on trust.
        let Exported { digest, newest, file, .. } = self.export(before, seal.last.sequence).await?;
        if digest != seal.rows || newest != seal.newest {
            return Err(foreign(found.name, found.number, OTHER_ROWS));
        }
        let name = found.name.clone();
        match found.has(Part::Rows) {
            true => {
                let kept = self.in_folder(move |folder| sha256(folder.rows(&name)?)).await?;
                if kept != digest {
                    return Err(foreign(found.name, found.number, "its rows were changed"));
                }
            }
            false => self.in_folder(move |folder| folder.finish(file, &name)).await?,
        }
        let name = found.name.clone();
        let signature = self.in_folder(move |folder| folder.read(&name, Part::Signature)).await?;
        let Some(signature) = signature else {
            return match found.has(Part::Stamp) {
                true => {
                    Err(foreign(found.name, found.number, "there is a time stamp without the signature it is over"))
                }
                false => Ok((self.renewed(seal).await?, false)),
            };
        };
        // Never written over: it is evidence, and somebody may hold a copy of it.
        if !self.is_own_signature(&seal, signature).await? {
            return Err(NotSealed::OtherSigner { name: found.name });
        }
        if seal.provider != self.provider_in_seals() {
            return Err(foreign(found.name, found.number, "it is the seal of a provider of another name"));
        }
        if seal.sealed > self.instruments.now() {
            return Err(foreign(found.name, found.number, "it tells an instant that is still to come"));
        }
        Ok((seal, true))
    }

    /// A seal that nobody signed is made anew, as of now: whoever signs it may not have been valid when it was begun, and
    /// a signature counts at the instant that the seal tells.
    async fn renewed(&self, seal: Seal) -> Result<Seal, NotSealed> {
        let seal = Seal { provider: self.provider_in_seals(), sealed: self.instruments.now(), ..seal };
        self.write_text(&seal).await?;
        Ok(seal)
    }

    /// Rows without a seal: they are exported again, where the log still holds them.
    async fn discard(&self, found: Found) -> Result<(), NotSealed> {
        if found.has(Part::Signature) || found.has(Part::Stamp) {
            return Err(foreign(found.name, found.number, "there is no seal beside its signature"));
        }
        let name = found.name.clone();
        let last = self.in_folder(move |folder| last_line(folder.rows(&name)?)).await?;
        let row =
            last.split_once(' ').and_then(|(hash, row)| Some((hash.to_owned(), line::read(row.trim_end()).ok()?.0)));
        let Some((hash, sequence)) = row else {
            return Err(foreign(found.name, found.number, "its last line is none that was exported"));
        };
        if self.log.link(sequence).await?.is_none_or(|link| hexadecimal(&link.hash) != hash) {
            return Err(foreign(found.name, found.number, OTHER_ROWS));
        }
        self.in_folder(move |folder| folder.remove(&found.name, Part::Rows)).await
    }
}

fn sha256(rows: Option<Box<dyn BufRead>>) -> Result<[u8; 32], OutsideFault> {
    let mut digest = Sha256::new();
    let Some(mut rows) = rows else { return Ok(digest.finalize().into()) };
    let mut piece = vec![0; PIECE];
    loop {
        match rows.read(&mut piece)? {
            0 => return Ok(digest.finalize().into()),
            read => digest.update(piece.get(..read).unwrap_or_default()),
        }
    }
}

fn last_line(rows: Option<Box<dyn BufRead>>) -> Result<String, OutsideFault> {
    let mut last = String::new();
    let Some(mut rows) = rows else { return Ok(last) };
    let mut line = String::new();
    while rows.read_line(&mut line)? > 0 {
        std::mem::swap(&mut last, &mut line);
        line.clear();
    }
    Ok(last)
}
