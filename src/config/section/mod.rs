//! One file per section: its keys with their defaults, the rules between them, and how it is printed again.

mod directory;
mod key;
mod limits;
mod listen;
mod log;
mod metrics;
mod ordinary;
mod provider;
mod receipts;
mod senders;
mod servers;
mod timeouts;
mod tls;
mod trust;
mod virus;

use std::fmt;

pub use directory::{Directory, DirectorySource, Remote, SignerPin};
pub use key::{Key, KeyMaterial, KeySource, NextKey, TokenKey};
pub use limits::Limits;
pub use listen::Listen;
pub use log::{Log, Originals, Tsa};
pub use metrics::Metrics;
pub use ordinary::Ordinary;
pub use receipts::Receipts;
pub use senders::{LoginMap, Senders};
pub use servers::{Dovecot, Postfix};
pub use tls::Tls;
pub use trust::Trust;
pub use virus::Virus;

use crate::config::Problem;
use crate::config::effective::Printer;
use crate::config::format::Document;

/// A key, and what a rule between the keys of its section finds wrong with it.
pub(super) type Found = (&'static str, Problem);

/// A part of the configuration that begins with `[NAME]`.
pub(super) trait Section: Sized {
    /// Reads it, defaults filled in; none only where the document noted why.
    fn read(document: &mut Document) -> Option<Self>;

    /// Prints every key, so that it reads as the same again.
    fn print(&self, print: &mut Printer) -> fmt::Result;
}

/// Two keys that go together.
fn pair<A, B>(
    (first_key, first): (&'static str, Option<A>),
    (second_key, second): (&'static str, Option<B>),
) -> Result<Option<(A, B)>, Found> {
    match (first, second) {
        (Some(first), Some(second)) => Ok(Some((first, second))),
        (None, None) => Ok(None),
        (Some(_), None) => Err((first_key, Problem::OnlyBeside(second_key))),
        (None, Some(_)) => Err((second_key, Problem::OnlyBeside(first_key))),
    }
}
