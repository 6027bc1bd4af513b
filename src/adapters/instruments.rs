//! The only reader of the clock and of the system's random numbers.

use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand;

use crate::model::TemporalReference;
use crate::operations::ports::Instruments;

/// The machine's clock and random numbers.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemInstruments;

impl Instruments for SystemInstruments {
    fn now(&self) -> TemporalReference {
        // A clock before 1970 is a machine that was never set: it certifies the earliest instant, visibly wrong.
        let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        TemporalReference::from_unix(i64::try_from(elapsed.as_secs()).unwrap_or(i64::MAX))
    }

    fn chance(&self) -> u128 {
        let mut octets = [0; 16];
        // The generator of aws-lc-rs ends the process rather than give foreseeable numbers, so no error is to be handled.
        rand::fill(&mut octets).unwrap_or_else(|_| std::process::abort());
        u128::from_be_bytes(octets)
    }
}
