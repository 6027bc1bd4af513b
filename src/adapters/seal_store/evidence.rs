//! The folder of the seals for whoever verifies it.

use std::io::BufRead;

use super::{Part, SealFolder, SealFolderError};
use crate::operations::ports::{EvidenceError, SealEvidence, SealFiles};

impl SealEvidence for SealFolder {
    fn names(&self) -> Result<Vec<(u64, String)>, EvidenceError> {
        Ok(self.list()?.into_iter().map(|found| (found.number, found.name)).collect())
    }

    fn files(&self, name: &str) -> Result<SealFiles, EvidenceError> {
        Ok(SealFiles {
            seal: self.read(name, Part::Seal)?,
            signature: self.read(name, Part::Signature)?,
            stamp: self.read(name, Part::Stamp)?,
        })
    }

    fn rows(&self, name: &str) -> Result<Option<impl BufRead + '_>, EvidenceError> {
        Ok(SealFolder::rows(self, name)?)
    }
}

impl From<SealFolderError> for EvidenceError {
    fn from(error: SealFolderError) -> Self {
        let is_damage = matches!(error, SealFolderError::TooLarge(_) | SealFolderError::NoSeal { .. });
        EvidenceError { is_damage, source: Box::new(error) }
    }
}
