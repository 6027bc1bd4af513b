//! The verbs: decide, record, then act.
//!
//! `submit` and `receive` are what the milters do while Postfix holds the message: they transform it in place and
//! certify nothing. `deliver` is what the LMTP hop does once the message is durable in Postfix's queue: it records each
//! fact, then tells it, and every step can run twice. `watch_timeouts` does the same for silence, `refresh_directory`
//! keeps the providers directory current, `seal_log` signs and time-stamps what was recorded, `purge_log` removes it after
//! its retention, `verify_log` holds it against its seals, `restore_log` brings sealed rows back to a copy, and `reproduce`
//! tells again, after years, what was told. Time and chance come in through [`ports::Instruments`].

pub mod current;
pub mod deliver;
pub mod ports;
pub mod purge_log;
pub mod receive;
pub mod refresh_directory;
pub mod refusal;
pub mod report;
pub mod reproduce;
pub mod restore_log;
pub mod seal_log;
pub mod signed_seals;
pub mod submit;
pub mod telling;
#[cfg(test)]
pub(crate) mod testing;
pub mod triggers;
pub mod update_lists;
pub mod verify_log;
pub mod virus_guard;
pub mod watch_timeouts;

use crate::message::body::Signed;
use crate::model::Address;

/// What a milter puts in the place of a message.
#[derive(Debug)]
pub struct Replacement {
    pub message: Signed,
    /// The fields of the message that stay where they are.
    pub inherited: &'static [&'static str],
    /// Where it goes, if not where the message went.
    pub envelope: Option<NewEnvelope>,
    pub triggers: Vec<triggers::Trigger>,
    /// One line for the administrator's log.
    pub summary: String,
}

/// The SMTP envelope that takes the place of a message's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEnvelope {
    /// The reverse path; none where it stays.
    pub sender: Option<Address>,
    /// All forward paths without angle brackets, but for the triggers.
    pub recipients: Vec<String>,
}

/// An error with all its causes on one line, for the log.
pub fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Some errors already tell their cause.
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
