//! The sockets, tasks and timeouts around [`Session`].
//!
//! One task per connection; the transaction itself runs in a task of its own, so that a client that goes away does not
//! cut it short and a bug in it costs its recipients a 4xx reply, not the server. When told to stop, the server takes
//! no new connections, closes idle ones with 421, and returns once every running transaction is answered.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::{debug, error, warn};

use super::session::{Session, Step, Transaction};
use crate::operations::ports::Reply;

/// RFC 5321 §4.5.3.2.7.
const PATIENCE: Duration = Duration::from_secs(300);

/// How long a client may pause inside a transaction when the server is to stop: Postfix on the same host never does.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// When the system is out of file descriptors, `accept` fails at once again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Large enough that a 30 MB message is not 10 000 system calls.
const READ_SIZE: usize = 64 * 1024;

/// Decides what becomes of a transaction.
pub trait Handler: Send + Sync + 'static {
    /// One reply per recipient, in their order. Runs to its end even when the client is gone.
    fn handle(&self, transaction: Transaction) -> impl Future<Output = Vec<Reply>> + Send;
}

/// How the server presents itself.
#[derive(Debug, Clone)]
pub struct Settings {
    pub hostname: String,
    /// The largest message in octets.
    pub message_limit: usize,
}

/// Serves until `shutdown` is ready and the running transactions are answered.
pub async fn serve<H: Handler>(
    listener: UnixListener,
    handler: Arc<H>,
    settings: Settings,
    shutdown: impl Future<Output = ()>,
) {
    let settings = Arc::new(settings);
    let (stop, stopping) = watch::channel(false);
    let mut connections = JoinSet::new();
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(converse(stream, handler.clone(), settings.clone(), stopping.clone()));
                }
                Err(error) => {
                    error!(%error, "cannot accept an LMTP connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
    drop(listener);
    stop.send_replace(true);
    while connections.join_next().await.is_some() {}
}

/// One connection from greeting to end.
async fn converse<S: AsyncRead + AsyncWrite + Unpin, H: Handler>(
    mut stream: S,
    handler: Arc<H>,
    settings: Arc<Settings>,
    mut stopping: watch::Receiver<bool>,
) {
    let mut session = Session::new(&settings.hostname, settings.message_limit);
    if let Err(error) = run(&mut stream, &mut session, &handler, &mut stopping).await {
        debug!(%error, "LMTP connection lost");
    }
}

async fn run<S: AsyncRead + AsyncWrite + Unpin, H: Handler>(
    stream: &mut S,
    session: &mut Session,
    handler: &Arc<H>,
    stopping: &mut watch::Receiver<bool>,
) -> io::Result<()> {
    let mut input = BytesMut::new();
    loop {
        match session.receive(&mut input) {
            Step::Answer(transaction) => session.answer(outcome(handler, transaction).await),
            Step::Close => return write(stream, session).await,
            Step::Read => {
                write(stream, session).await?;
                input.reserve(READ_SIZE);
                let pause = if session.is_idle() { Duration::ZERO } else { STOP_PATIENCE };
                tokio::select! {
                    read = timeout(PATIENCE, stream.read_buf(&mut input)) => match read {
                        Ok(Ok(0)) => return Ok(()),
                        Ok(Ok(_)) => {}
                        Ok(Err(error)) => return Err(error),
                        Err(_) => session.close(&Reply::new(421, "4.4.2 idle for too long")),
                    },
                    () = stopped(stopping, pause) => session.close(&Reply::new(421, "4.3.2 the server stops")),
                }
            }
        }
    }
}

async fn write<S: AsyncWrite + Unpin>(stream: &mut S, session: &mut Session) -> io::Result<()> {
    let output = session.take_output();
    timeout(PATIENCE, stream.write_all(&output)).await??;
    timeout(PATIENCE, stream.flush()).await?
}

/// Ready this long after the server was told to stop.
async fn stopped(stopping: &mut watch::Receiver<bool>, pause: Duration) {
    // An error means that the server is gone, which is a stop too.
    drop(stopping.wait_for(|stop| *stop).await);
    sleep(pause).await;
}

async fn outcome<H: Handler>(handler: &Arc<H>, transaction: Transaction) -> Vec<Reply> {
    let count = transaction.recipients.len();
    let queue_id = transaction.queue_id.clone().unwrap_or_default();
    let handler = handler.clone();
    match tokio::spawn(async move { handler.handle(transaction).await }).await {
        Ok(replies) => {
            if replies.len() != count {
                warn!(queue_id, recipients = count, replies = replies.len(), "each recipient needs one reply");
            }
            replies
        }
        Err(error) => {
            error!(queue_id, %error, "the transaction ended in a bug");
            vec![Reply::new(451, "4.3.0 internal error"); count]
        }
    }
}

#[cfg(test)]
mod tests;
