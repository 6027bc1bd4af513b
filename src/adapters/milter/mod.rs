//! The three milters: `access` on the submission services (§3.1), `incoming` on port 25 (§3.2), `bounces` for what Postfix
//! itself reports (§3.3.3).
//!
//! `callbacks` translates milter words into the model's, `conversation` collects one message, `apply` turns a decision
//! into edits, `answer` a refusal into a reply. Whatever goes wrong is Tempfail: Postfix answers 4xx and keeps nothing. The
//! milters certify nothing, because at end of message the mail is not durable yet. They record what they refuse, for no
//! queue file will tell it.

mod answer;
mod apply;
mod callbacks;
mod conversation;

use std::future::Future;
use std::io;
use std::sync::Arc;

use indymilter::Config;
use tokio::net::UnixListener;

use crate::operations::current::Handle;
use crate::operations::ports::{EventLog, Instruments, Mailboxes};
use crate::operations::virus_guard::VirusGuard;

/// Which of the three milters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Submission by authenticated users.
    Access,
    /// Mail from other hosts.
    Incoming,
    /// Postfix's own reports about mail it could not deliver.
    Bounces,
}

/// What a milter works with.
pub struct Milter<L, M, T> {
    pub role: Role,
    pub current: Handle,
    pub log: Arc<L>,
    /// Asked about what is not certified, so the incoming milter's alone.
    pub mailboxes: M,
    pub instruments: T,
    pub viruses: VirusGuard,
    /// The largest message, in octets; Postfix's `message_size_limit` should be larger by the envelope.
    pub message_limit: usize,
}

/// One connection per smtpd process; Postfix's default_process_limit is 100, tuned hosts have more.
const MOST_CONNECTIONS: usize = 1000;

/// Serves Postfix's smtpd processes until `shutdown`; messages in work are finished.
pub async fn serve<L: EventLog, M: Mailboxes, T: Instruments + Clone>(
    listener: UnixListener,
    milter: Milter<L, M, T>,
    shutdown: impl Future<Output = ()> + Send,
) -> io::Result<()> {
    let config = Config { max_connections: MOST_CONNECTIONS, ..Default::default() };
    indymilter::run(listener, callbacks::callbacks(Arc::new(milter)), config, shutdown).await
}
