//! Connections to one server, kept open between transactions.
//!
//! A server may close an unused connection at any moment. So a kept one is looked at before use, and when the server
//! turns out to be gone before it answered the first command, the transaction starts once more on a fresh connection:
//! nothing of the message was sent until then. Later nothing is ever sent twice. A connection dropped without
//! [`Lease::keep`] is closed.

use std::error::Error;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, warn};

use super::Endpoint;
use super::dialogue::{Answers, Dialogue, Extensions, Fault};
use crate::operations::ports::Reply;

/// Half of what Dovecot's and Postfix's default process limits (100) allow: others use these servers too.
const MOST_CONNECTIONS: usize = 50;

/// Between one and two of these an unused connection is closed; Dovecot and Postfix do so after five minutes.
const IDLE_LIMIT: Duration = Duration::from_secs(60);

/// When all connections are in use this long, the server is not keeping up and the mail waits better in the queue.
const TURN_PATIENCE: Duration = Duration::from_secs(60);

/// The connections to one server.
pub(super) struct Pool {
    endpoint: Endpoint,
    hello: String,
    idle: Arc<Mutex<Vec<Idle>>>,
    turns: Semaphore,
}

struct Idle {
    dialogue: Dialogue,
    since: Instant,
}

/// A connection in use.
pub(super) struct Lease<'a> {
    pub dialogue: Dialogue,
    pool: &'a Pool,
    _turn: SemaphorePermit<'a>,
}

impl Pool {
    /// Must be called inside the runtime, which from then on closes unused connections.
    pub(super) fn new(endpoint: Endpoint, hello: String) -> Self {
        let idle = Arc::default();
        tokio::spawn(close_unused(Arc::downgrade(&idle)));
        Pool { endpoint, hello, idle, turns: Semaphore::new(MOST_CONNECTIONS) }
    }

    /// Opens a transaction: sends the commands, which depend on the server's extensions, and reads their replies.
    pub(super) async fn open<F>(&self, commands: F) -> Result<(Lease<'_>, Answers), Fault>
    where
        F: Fn(Extensions) -> Vec<String> + Send,
    {
        let turn = timeout(TURN_PATIENCE, self.turns.acquire()).await;
        // The semaphore is never closed.
        let turn = turn.map_err(|_| Fault::Busy)?.map_err(|_| Fault::Busy)?;
        if let Some(mut dialogue) = self.take_idle().await {
            let answers = dialogue.commands(&commands(dialogue.extensions())).await;
            if !was_stale(&answers) {
                return Ok((Lease { dialogue, pool: self, _turn: turn }, answers));
            }
            debug!(server = %self.endpoint, "a kept connection was closed by the server");
        }
        let mut dialogue = Dialogue::connect(&self.endpoint, &self.hello).await?;
        let answers = dialogue.commands(&commands(dialogue.extensions())).await;
        Ok((Lease { dialogue, pool: self, _turn: turn }, answers))
    }

    /// What the recipients are told of a fault, which also goes to the technical log.
    pub(super) fn report(&self, fault: &Fault) -> Reply {
        warn!(server = %self.endpoint, error = fault as &dyn Error, "a transaction was cut short");
        fault.reply(&self.endpoint)
    }

    async fn take_idle(&self) -> Option<Dialogue> {
        loop {
            let mut idle = lock(&self.idle).pop()?;
            if idle.dialogue.is_quiet().await {
                return Some(idle.dialogue);
            }
        }
    }
}

impl Lease<'_> {
    /// Keeps the connection for the next transaction; no transaction may be under way on it.
    pub(super) fn keep(self) {
        lock(&self.pool.idle).push(Idle { dialogue: self.dialogue, since: Instant::now() });
    }

    /// Keeps the connection if the server forgets the transaction that is under way.
    pub(super) async fn abandon_transaction(mut self) {
        let Answers { replies, fault } = self.dialogue.commands(&["RSET".to_owned()]).await;
        if fault.is_none() && replies.iter().all(|reply| reply.is_positive()) {
            self.keep();
        }
    }
}

/// Whether the server had given up on the connection before it took up the transaction.
fn was_stale(answers: &Answers) -> bool {
    match answers.replies.first() {
        Some(reply) => reply.code == 421,
        None => matches!(answers.fault, Some(Fault::Lost(_))),
    }
}

/// Ends with the pool.
async fn close_unused(idle: Weak<Mutex<Vec<Idle>>>) {
    loop {
        sleep(IDLE_LIMIT).await;
        let Some(idle) = idle.upgrade() else { return };
        let unused = take_unused(&mut lock(&idle));
        for idle in unused {
            idle.dialogue.quit().await;
        }
    }
}

fn take_unused(idle: &mut Vec<Idle>) -> Vec<Idle> {
    let (unused, kept) = std::mem::take(idle).into_iter().partition(|idle| idle.since.elapsed() >= IDLE_LIMIT);
    *idle = kept;
    unused
}

/// A list of connections is whole whatever happened to who held it.
fn lock(idle: &Mutex<Vec<Idle>>) -> MutexGuard<'_, Vec<Idle>> {
    idle.lock().unwrap_or_else(PoisonError::into_inner)
}
