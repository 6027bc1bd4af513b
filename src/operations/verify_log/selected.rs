//! Some of the seals of a folder, as evidence of their own.

use std::collections::BTreeSet;
use std::io::BufRead;

use crate::operations::ports::{EvidenceError, SealEvidence, SealFiles};

/// The seals of these names.
#[derive(Debug)]
pub struct Selected<'a, S> {
    pub seals: &'a S,
    pub names: BTreeSet<String>,
}

impl<S: SealEvidence> SealEvidence for Selected<'_, S> {
    fn names(&self) -> Result<Vec<(u64, String)>, EvidenceError> {
        let mut names = self.seals.names()?;
        names.retain(|(_, name)| self.names.contains(name));
        Ok(names)
    }

    fn files(&self, name: &str) -> Result<SealFiles, EvidenceError> {
        self.seals.files(name)
    }

    fn rows(&self, name: &str) -> Result<Option<impl BufRead + '_>, EvidenceError> {
        self.seals.rows(name)
    }
}
