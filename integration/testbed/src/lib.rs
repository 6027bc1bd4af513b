//! Certified mail providers and ordinary mail hosts on the real Postfix and Dovecot of this machine.
//!
//! A [`Testbed`] is a small mail network: every [`Host`] has its own loopback address, its own Postfix and Dovecot on
//! the shipped `postfix-conf/` and `dovecot-conf/`, and, when it is a provider, its own pec-milter. All files lie below
//! one scratch folder, which [`scratch`] removes with every process in it, also on a panic or on Ctrl-C.
//! Needs root, for that is what Postfix and Dovecot start as. Every fault is an error that names what failed; nothing
//! waits for time to pass, only for a condition ([`wait`]).
#![forbid(unsafe_code)]

pub mod clamd;
mod daemon;
pub mod disk;
mod dovecot;
pub mod faketime;
pub mod foreign;
mod host;
mod judgement;
mod key_stock;
pub mod ldif;
pub mod mailbox;
pub mod metrics;
mod network;
pub mod pki;
mod postfix;
mod process;
pub mod publisher;
mod received;
pub mod referee;
pub mod sample;
mod scratch;
pub mod smtp;
mod testbed;
pub mod timeline;
pub mod token;
pub mod tsa;
mod wait;
mod web;
mod wire;

pub use daemon::{Daemon, KeyForm};
pub use host::{Host, Site, User};
pub use received::Received;
pub use smtp::{Dialogue, Port};
pub use testbed::{Plan, Testbed, USERS_CA};
pub use timeline::Event;
pub use wait::{PATIENCE, wait_until};
pub use web::Web;

use std::path::{Path, PathBuf};

/// The top of the repository, where the shipped configuration lies.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).map(Path::to_path_buf).unwrap_or_default()
}
