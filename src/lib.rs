//! pec-milter turns Postfix and Dovecot into a provider of PEC, Italy's certified e-mail (RFC 6109). This page is the map.
//!
//! A bare § is a section of RFC 6109; other standards are named. Where the Italian network differs from the RFC's
//! translation, the network wins: `testdata/rfc6109/deviations.txt` lists these places.
//!
//! # The way of one message
//!
//! ```text
//! user ──submission──▶ Postfix ◀─ access milter ─── access_point: checks, wraps   │ decide and
//! provider ──port 25─▶ Postfix ◀─ incoming milter ─ incoming_point: verifies      │ transform in place
//! its own bounces ────▶ Postfix ◀─ bounces milter ── operations::report: to the hop
//!                         │ queue, durable; smtp(8) asks how to reach other providers ──▶ directory::tls_policy
//!                         ▼
//!                  LMTP hop (operations::deliver) ──▶ Dovecot ── delivery_point: outcome, receipt type
//!                         ├── legal_log: what happened, committed before it is told; operations::seal_log signs it every
//!                         │   day, purge_log removes it after its retention, verify_log and reproduce read it
//!                         └── message::notification: the receipts, to Dovecot or back into Postfix
//! ```
//!
//! Postfix's queue is the only queue. A milter answers before a message is durable, so milters certify nothing: they
//! replace the message by its envelope and add *triggers*, recipients of the internal domain that stay queued until the
//! hop has done what they stand for. The hop commits a fact, then tells it, then answers Postfix; killed in between, it is
//! offered the same queue file again and tells the same in the same octets.
//!
//! # The rooms, from the top
//!
//! | room | decides | section |
//! | --- | --- | --- |
//! | [`cli`] | which command runs; what is loaded; the daemon's life | |
//! | [`config`] | what the one TOML file means | |
//! | [`adapters`] | nothing: network, disk, clock, key files | |
//! | [`operations`] | the order of effects; what the outside must supply (`ports`) | |
//! | [`access_point`] | what is accepted from users | §3.1 |
//! | [`incoming_point`] | what a message from elsewhere is | §2.2.2 |
//! | [`delivery_point`] | what a mailbox's answer means | §3.3 |
//! | [`transaction`] | what is known of a recipient, and which timeout notice is owed | §3.1.6 |
//! | [`legal_log`] | what an entry is and when two are the same fact; chain, seals, holds, purges; what an auditor finds | §2.3 |
//! | [`message`] | how everything that travels is read and written | §4 |
//! | [`directory`] | whose certificate and domain; which edition is believed; which TLS a next hop must have | §4.5, §5.3 |
//! | [`smime`] | whether a signature and its signer hold | §2.1, §5.5 |
//! | [`identity`] | which login and which certificate owns which address | §5.2 |
//! | [`virus`] | what a scanner's finding forces, how long an infected message is kept | §2.2.4 |
//! | [`model`] | which values exist | |
//! | [`crash`] | nothing: where a test may end the daemon | |
//!
//! Dependencies point downwards only. From `access_point` down everything is pure: no clock, no file, no socket, no
//! chance; these come in as arguments. `integration/rooms.rs` fails on a forbidden import.
//!
//! # Three kinds of no
//!
//! A *refusal* is a decision and is told to whoever it concerns. A *fault* is ours: Tempfail to the milter, 4xx in the
//! hop, and the mail stays queued. A *bug* is fixed. Nothing is ever accepted on a fault.
//!
//! # Logging
//!
//! `tracing`, queue id first, one line per outcome of a recipient. `error`: something an administrator must mend;
//! `warn`: something he should look at, refusals included; `info`: what happened to each message. Never bodies,
//! passwords or keys. The event log is not `tracing`: it has legal value and lies in the database.

#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

pub mod access_point;
pub mod adapters;
pub mod cli;
pub mod config;
pub mod crash;
pub mod delivery_point;
pub mod directory;
pub mod identity;
pub mod incoming_point;
pub mod legal_log;
pub mod message;
pub mod model;
pub mod operations;
pub mod smime;
pub mod transaction;
pub mod virus;
