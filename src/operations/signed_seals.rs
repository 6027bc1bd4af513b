//! The seals that rows are held against before they are given out as evidence (§2.3).
//!
//! Whoever can write the database can make its chain anew, but not the hashes in signed seals. A seal is only believed when
//! it holds itself; whether it does is asked for those that are needed, since it takes reading their exports.

use crate::legal_log::Link;
use crate::legal_log::seal::Seal;
use crate::operations::ports::{OutsideFault, SealJudge};

/// The finished seals of a log.
pub struct SignedSeals {
    /// In the order of their rows.
    seals: Vec<Seal>,
    judge: Box<dyn SealJudge>,
}

/// A row of which a seal knows the hash.
#[derive(Debug, Clone, Copy)]
pub struct Border<'a> {
    pub link: Link,
    pub seal: &'a Seal,
}

impl SignedSeals {
    /// Of these seals, which nobody has verified yet.
    pub fn new(mut seals: Vec<Seal>, judge: impl SealJudge) -> Self {
        seals.sort_by_key(|seal| seal.last.sequence);
        SignedSeals { seals, judge: Box::new(judge) }
    }

    /// The first row at or after a number of which a seal knows the hash: the last of its range, or, where that seal is
    /// missing, the one before the next. None for a row that is not sealed yet.
    pub fn border(&self, sequence: i64) -> Option<Border<'_>> {
        let seal = self.seals.iter().find(|seal| seal.last.sequence >= sequence)?;
        let link = if seal.before.sequence >= sequence { seal.before } else { seal.last };
        Some(Border { link, seal })
    }

    /// Fails if a seal does not hold, or cannot be verified. It blocks: never called on an async thread.
    pub fn vouch(&self, seal: &Seal) -> Result<(), OutsideFault> {
        let violations = self.judge.violations(&seal.name())?;
        if violations.is_empty() { Ok(()) } else { Err(violations.join("; ").into()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::TemporalReference;

    struct Nobody;

    impl SealJudge for Nobody {
        fn violations(&self, name: &str) -> Result<Vec<String>, OutsideFault> {
            Ok(vec![format!("{name} is not signed")])
        }
    }

    fn seal(number: u64, before: i64, last: i64) -> Seal {
        let link = |sequence| Link { sequence, hash: [u8::try_from(number).unwrap(); 32] };
        let newest = TemporalReference::from_unix(1_700_000_000);
        let provider = "Alfa".to_owned();
        let (before, last) = (link(before), link(last));
        Seal { number, provider, sealed: newest, before, last, newest, previous: [0; 32], rows: [0; 32] }
    }

    #[test]
    fn each_row_has_the_next_row_that_a_seal_knows() {
        // The second of three is missing.
        let seals = SignedSeals::new(vec![seal(3, 20, 30), seal(1, 0, 10)], Nobody);
        let border = |sequence| seals.border(sequence).map(|border| (border.link.sequence, border.seal.number));
        for (row, expected) in [
            (1, Some((10, 1))),
            (10, Some((10, 1))),
            (11, Some((20, 3))),
            (20, Some((20, 3))),
            (21, Some((30, 3))),
            (30, Some((30, 3))),
            (31, None),
        ] {
            assert_eq!(border(row), expected, "{row}");
        }
        let error = seals.vouch(&seal(1, 0, 10)).unwrap_err().to_string();
        assert_eq!(error, "000001-2023-11-14 is not signed");
    }
}
