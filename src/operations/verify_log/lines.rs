//! An export, line by line, with the digest of all that was read.

use std::io::{BufRead, Read};

use sha2::{Digest, Sha256};

use crate::legal_log::verification::{FoundRow, Row, Unreadable};
use crate::operations::ports::EvidenceError;

/// A row has the recipients of one message and texts of some kilobytes: what is longer was not written by the log.
const LONGEST_LINE: u64 = 16 * 1024 * 1024;

pub(in crate::operations) struct Lines<R> {
    reader: R,
    digest: Sha256,
    /// The number that belongs on the next line.
    next: i64,
    line: Vec<u8>,
}

impl<R: BufRead> Lines<R> {
    /// From the row with this number on.
    pub fn new(reader: R, first: i64) -> Self {
        Lines { reader, digest: Sha256::new(), next: first, line: Vec::new() }
    }

    /// The digest of all lines that were read.
    pub fn digest(self) -> [u8; 32] {
        self.digest.finalize().into()
    }

    fn found(&self) -> FoundRow {
        let unreadable = |part| Unreadable { sequence: self.next, part };
        let line = self.line.strip_suffix(b"\n").ok_or(unreadable("line end"))?;
        let text = std::str::from_utf8(line).map_err(|_| unreadable("text"))?;
        Row::from_export(text).map_err(unreadable)
    }
}

impl<R: BufRead> Iterator for Lines<R> {
    type Item = Result<FoundRow, EvidenceError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.line.clear();
        match self.reader.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut self.line) {
            Ok(0) => None,
            Ok(_) => {
                self.digest.update(&self.line);
                let found = self.found();
                self.next = self.next.saturating_add(1);
                Some(Ok(found))
            }
            Err(error) => Some(Err(EvidenceError { is_damage: false, source: Box::new(error) })),
        }
    }
}
