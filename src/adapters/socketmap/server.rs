//! The socket, the connections and their time limits.
//!
//! A task per connection, with a buffer of one request. When told to stop, the server closes its connections: a question
//! without an answer is asked again.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tracing::{debug, error, warn};

use super::Answer;
use super::netstring::{LONGEST, NetstringError, take, write};

/// One per smtp process; Postfix's default_process_limit is 100, tuned hosts have more. Others wait to be accepted.
const MOST_CONNECTIONS: usize = 1000;

/// Postfix keeps a connection for 100 seconds, and closes it after 10 without a question.
const IDLE: Duration = Duration::from_secs(120);

/// For a whole request from its first octet, and for taking an answer: Postfix writes and reads at once.
const PATIENCE: Duration = Duration::from_secs(10);

/// When the system is out of file descriptors, `accept` fails at once again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why a connection is closed from here.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error(transparent)]
    Netstring(#[from] NetstringError),
    #[error("a request is the name of a table, a blank and a key in UTF-8")]
    Request,
    #[error("the client was too slow")]
    Slow,
    #[error(transparent)]
    Lost(#[from] io::Error),
}

/// Answers `lookup(table, key)` until `shutdown`.
pub async fn serve(
    listener: UnixListener,
    lookup: impl Fn(&str, &str) -> Answer + Send + Sync + 'static,
    shutdown: impl Future<Output = ()>,
) {
    let lookup = Arc::new(lookup);
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let mut connections = JoinSet::new();
    tokio::pin!(shutdown);
    loop {
        let accepting = async {
            // The semaphore is never closed, so there is always a place at last.
            let place = places.clone().acquire_owned().await.ok();
            (place, listener.accept().await)
        };
        tokio::select! {
            () = &mut shutdown => return,
            (place, accepted) = accepting => match accepted {
                Ok((stream, _)) => {
                    let lookup = lookup.clone();
                    connections.spawn(async move {
                        converse(stream, &*lookup).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    error!(%error, "cannot accept a socketmap connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn converse<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, lookup: &impl Fn(&str, &str) -> Answer) {
    match run(&mut stream, lookup).await {
        Ok(()) => {}
        Err(Broken::Lost(error)) => debug!(%error, "socketmap connection lost"),
        Err(error) => warn!(%error, "socketmap connection closed"),
    }
}

async fn run<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    lookup: &impl Fn(&str, &str) -> Answer,
) -> Result<(), Broken> {
    let mut input = BytesMut::with_capacity(LONGEST);
    loop {
        let read = timeout(IDLE, stream.read_buf(&mut input)).await;
        // Idle for so long, nobody waits for an answer.
        let Ok(read) = read else { return Ok(()) };
        if read? == 0 {
            return Ok(());
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(request) = take(&mut input)? {
                let answer = write(&answer(&request, lookup)?.text());
                timeout(PATIENCE, stream.write_all(answer.as_bytes())).await.map_err(|_| Broken::Slow)??;
            } else if input.is_empty() {
                break;
            } else if timeout_at(deadline, stream.read_buf(&mut input)).await.map_err(|_| Broken::Slow)?? == 0 {
                return Ok(());
            }
        }
    }
}

fn answer(request: &[u8], lookup: &impl Fn(&str, &str) -> Answer) -> Result<Answer, Broken> {
    let (table, key) =
        std::str::from_utf8(request).ok().and_then(|text| text.split_once(' ')).ok_or(Broken::Request)?;
    Ok(lookup(table, key))
}

#[cfg(test)]
mod tests {
    use tokio::io::{DuplexStream, duplex};

    use super::*;

    fn lookup(table: &str, key: &str) -> Answer {
        match (table, key) {
            ("tls", "beta.example") => Answer::Found("encrypt".into()),
            ("tls", "unknown") => Answer::Temporary("later".into()),
            ("tls", _) => Answer::NotFound,
            _ => Answer::Permanent("no such table"),
        }
    }

    fn connect() -> (DuplexStream, tokio::task::JoinHandle<Result<(), Broken>>) {
        let (client, mut server) = duplex(64);
        (client, tokio::spawn(async move { run(&mut server, &lookup).await }))
    }

    /// All that comes back until the server closes.
    async fn said(mut client: DuplexStream, octets: &[u8]) -> String {
        let mut said = String::new();
        let (mut read, mut write) = tokio::io::split(&mut client);
        let writing = async {
            // A server that has heard enough closes.
            _ = write.write_all(octets).await;
            _ = write.shutdown().await;
        };
        tokio::join!(writing, read.read_to_string(&mut said)).1.unwrap();
        said
    }

    #[tokio::test]
    async fn each_request_has_its_answer() {
        let (client, server) = connect();
        let said = said(client, b"16:tls beta.example,17:tls gamma.example,11:tls unknown,3:x y,").await;
        assert_eq!(said, "10:OK encrypt,9:NOTFOUND ,10:TEMP later,18:PERM no such table,");
        assert!(server.await.unwrap().is_ok());
    }

    #[tokio::test]
    async fn what_is_no_request_ends_the_connection_alone() {
        for octets in [&b"EHLO x\r\n"[..], b"9999:", b"3:tls,", b"5:tls \xFF,", b"16:tls beta.example;"] {
            let (client, server) = connect();
            assert_eq!(said(client, octets).await, "");
            assert!(server.await.unwrap().is_err(), "{octets:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_client_is_not_waited_for() {
        let (mut client, server) = connect();
        for octet in b"16:tls beta" {
            _ = client.write_all(&[*octet]).await;
            sleep(Duration::from_secs(1)).await;
        }
        assert!(matches!(server.await.unwrap(), Err(Broken::Slow)));

        // One that asks and never reads.
        let (mut client, server) = connect();
        for _ in 0..20 {
            if timeout(PATIENCE * 2, client.write_all(b"16:tls beta.example,")).await.is_err() {
                break;
            }
        }
        assert!(matches!(server.await.unwrap(), Err(Broken::Slow)));

        let (client, server) = connect();
        assert!(server.await.unwrap().is_ok(), "one that is idle");
        drop(client);
    }

    #[tokio::test]
    async fn many_clients_are_served_beside_those_that_say_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tls-policy");
        let listener = UnixListener::bind(&path).unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let server = tokio::spawn(serve(listener, lookup, async move { _ = stopped.await }));
        let mut silent = Vec::new();
        for _ in 0..200 {
            silent.push(tokio::net::UnixStream::connect(&path).await.unwrap());
        }
        for _ in 0..200 {
            let mut client = tokio::net::UnixStream::connect(&path).await.unwrap();
            client.write_all(b"16:tls beta.example,").await.unwrap();
            let mut answer = [0; 14];
            client.read_exact(&mut answer).await.unwrap();
            assert_eq!(&answer, b"10:OK encrypt,");
        }
        drop(stop);
        server.await.unwrap();
        let mut rest = Vec::new();
        assert_eq!(silent.remove(0).read_to_end(&mut rest).await.unwrap(), 0);
    }
}
