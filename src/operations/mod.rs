//! The verbs: decide, record, then act.
//!
//! `submit` and `receive` are what the milters do while Postfix holds the message: they transform it in place and
//! certify nothing. `deliver` is what the LMTP hop does once the message is durable in Postfix's queue: it records each
//! fact, then tells it, and every step can run twice. `watch_timeouts`
//! does the same for silence. Time and chance come in through [`ports::Instruments`].

pub mod current;
pub mod deliver;
pub mod ports;
pub mod receive;
pub mod report;
pub mod submit;
pub mod telling;
pub mod triggers;
pub mod watch_timeouts;

use crate::message::body::Signed;

/// What a milter puts in the place of a message.
#[derive(Debug)]
pub struct Replacement {
    pub message: Signed,
    /// The fields of the message that stay where they are.
    pub inherited: &'static [&'static str],
    pub triggers: Vec<triggers::Trigger>,
    /// One line for the administrator's log.
    pub summary: String,
}
