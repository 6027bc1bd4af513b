//! One connection to a server: commands out, replies in (RFC 5321 §4.2).
//!
//! Decided here: what a reply is, how long to wait for one, and that reading and writing go on side by side, so that a
//! long pipelined batch cannot lock both ends up. What a reply means is left to the callers. After a fault nothing more
//! can be said on the connection: it must be dropped.

use std::error::Error;
use std::io;
use std::time::Duration;

use tokio::io::{
    AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, BufWriter,
};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::Endpoint;
use crate::operations::ports::Reply;

/// A server on the same host or network takes a connection at once or not at all.
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);

/// RFC 5321 §4.5.3.2 says five minutes, with the Internet in mind. Together with [`MESSAGE_PATIENCE`] this has to stay
/// below the ten minutes after which Postfix gives up on the hop (`lmtp_data_done_timeout`).
const COMMAND_PATIENCE: Duration = Duration::from_secs(60);

/// RFC 5321 §4.5.3.2.6 says ten minutes: see [`COMMAND_PATIENCE`]. It covers the writing of the message too.
const MESSAGE_PATIENCE: Duration = Duration::from_secs(300);

/// RFC 5321 §4.5.3.1.5 says 512; some servers write longer ones.
const LONGEST_REPLY_LINE: u64 = 2048;

/// An extension list, the longest reply there is, has about 20 lines.
const MOST_REPLY_LINES: usize = 100;

/// Why a connection is of no more use.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error("no connection")]
    Connect(#[source] io::Error),
    #[error("the connection was lost")]
    Lost(#[from] io::Error),
    #[error("no reply within {} s", .0.as_secs())]
    Silent(Duration),
    #[error("{0:?} is not a reply")]
    NotAReply(String),
    #[error("the reply \"{0}\" is out of place")]
    OutOfPlace(Reply),
    #[error("the server takes no mail: {0}")]
    Unwilling(Reply),
    #[error("all connections are busy")]
    Busy,
    /// It may have been stored nevertheless, so it is never sent again from here.
    #[error("the outcome of the message is unknown")]
    OutcomeUnknown(#[source] Box<Fault>),
}

impl Fault {
    /// What the recipients are told: everything that goes wrong between us and our own servers is worth another try.
    pub(super) fn reply(&self, endpoint: &Endpoint) -> Reply {
        let status = match self {
            Fault::Connect(_) => "4.4.1",
            Fault::Lost(_) | Fault::Silent(_) | Fault::OutcomeUnknown(_) => "4.4.2",
            Fault::Unwilling(_) | Fault::Busy => "4.3.2",
            Fault::NotAReply(_) | Fault::OutOfPlace(_) => "4.5.0",
        };
        let mut text = format!("{status} {endpoint}: {self}");
        let mut cause = self.source();
        while let Some(error) = cause {
            text.push_str(&format!(": {error}"));
            cause = error.source();
        }
        Reply::new(451, text)
    }

    /// The connection ended where a reply was due.
    pub(super) fn lost() -> Fault {
        Fault::Lost(io::ErrorKind::UnexpectedEof.into())
    }
}

/// The replies to a batch, up to the fault that cut it short.
#[derive(Debug)]
pub(super) struct Answers {
    pub replies: Vec<Reply>,
    pub fault: Option<Fault>,
}

/// A reply as the outcome of a recipient: what is neither success nor failure is worth another try.
pub(super) fn outcome(reply: Reply) -> Reply {
    match reply.code {
        200..300 | 400..600 => reply,
        _ => Reply::new(451, format!("4.5.0 {}", Fault::OutOfPlace(reply))),
    }
}

/// The announced extensions that matter here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Extensions {
    pub pipelining: bool,
    pub eight_bit: bool,
    pub dsn: bool,
    pub size: bool,
}

/// An open connection whose server has said hello.
pub(super) struct Dialogue {
    reader: BufReader<Box<dyn AsyncRead + Send + Unpin>>,
    writer: BufWriter<Box<dyn AsyncWrite + Send + Unpin>>,
    extensions: Extensions,
}

impl Dialogue {
    /// Connects and says hello: `LHLO name` or `EHLO name`.
    pub(super) async fn connect(endpoint: &Endpoint, hello: &str) -> Result<Dialogue, Fault> {
        let connecting = async {
            match endpoint {
                Endpoint::Unix(path) => Ok(Dialogue::over(UnixStream::connect(path).await?.into_split())),
                Endpoint::Tcp(address) => {
                    let stream = TcpStream::connect(address).await?;
                    // Else the last part of a message waits for the acknowledgement of the one before.
                    stream.set_nodelay(true)?;
                    Ok(Dialogue::over(stream.into_split()))
                }
            }
        };
        let connected = timeout(CONNECT_PATIENCE, connecting).await;
        let mut dialogue = connected.map_err(|_| Fault::Silent(CONNECT_PATIENCE))?.map_err(Fault::Connect)?;
        dialogue.greet(hello).await?;
        Ok(dialogue)
    }

    /// Sends command lines, in one batch where the server allows it, and reads a reply to each.
    pub(super) async fn commands(&mut self, lines: &[String]) -> Answers {
        let batch = if self.extensions.pipelining { lines.len().max(1) } else { 1 };
        let mut answers = Answers { replies: Vec::with_capacity(lines.len()), fault: None };
        for batch in lines.chunks(batch) {
            let octets = batch.iter().flat_map(|line| [line.as_bytes(), b"\r\n"]);
            let more = self.exchange(octets, batch.len(), COMMAND_PATIENCE).await;
            answers.replies.extend(more.replies);
            answers.fault = more.fault;
            if answers.fault.is_some() {
                break;
            }
        }
        answers
    }

    /// Sends a framed message and reads that many replies.
    pub(super) async fn message<'a>(
        &mut self,
        framed: impl Iterator<Item = &'a [u8]> + Send,
        replies: usize,
    ) -> Answers {
        let Answers { replies, fault } = self.exchange(framed, replies, MESSAGE_PATIENCE).await;
        Answers { replies, fault: fault.map(|fault| Fault::OutcomeUnknown(Box::new(fault))) }
    }

    /// Whether the server neither closed the connection nor said something unasked, as it does before it closes.
    pub(super) async fn is_quiet(&mut self) -> bool {
        std::future::poll_fn(|context| {
            let unasked = std::pin::Pin::new(&mut self.reader).poll_fill_buf(context);
            std::task::Poll::Ready(unasked.is_pending())
        })
        .await
    }

    /// Says goodbye, without waiting for more than the write.
    pub(super) async fn quit(mut self) {
        let goodbye = async {
            self.writer.write_all(b"QUIT\r\n").await?;
            self.writer.flush().await
        };
        if !matches!(timeout(CONNECT_PATIENCE, goodbye).await, Ok(Ok(()))) {
            tracing::debug!("a server closed an unused connection first");
        }
    }

    pub(super) fn extensions(&self) -> Extensions {
        self.extensions
    }

    fn over<R, W>((reader, writer): (R, W)) -> Dialogue
    where
        R: AsyncRead + Send + Unpin + 'static,
        W: AsyncWrite + Send + Unpin + 'static,
    {
        Dialogue {
            reader: BufReader::new(Box::new(reader)),
            writer: BufWriter::new(Box::new(writer)),
            extensions: Extensions::default(),
        }
    }

    async fn greet(&mut self, hello: &str) -> Result<(), Fault> {
        let greeting = reply_within(&mut self.reader, COMMAND_PATIENCE).await?;
        if !greeting.is_positive() {
            return Err(Fault::Unwilling(greeting));
        }
        let Answers { mut replies, fault } = self.commands(&[hello.to_owned()]).await;
        match (fault, replies.pop()) {
            (None, Some(reply)) if reply.is_positive() => self.extensions = extensions(&reply),
            (None, Some(reply)) => return Err(Fault::Unwilling(reply)),
            (fault, _) => return Err(fault.unwrap_or_else(Fault::lost)),
        }
        Ok(())
    }

    async fn exchange<'a>(
        &mut self,
        octets: impl Iterator<Item = &'a [u8]> + Send,
        expected: usize,
        patience: Duration,
    ) -> Answers {
        let Dialogue { reader, writer, .. } = self;
        let mut replies = Vec::with_capacity(expected);
        let writing = timeout(patience, async {
            for chunk in octets {
                writer.write_all(chunk).await?;
            }
            writer.flush().await
        });
        let reading = async {
            while replies.len() < expected {
                replies.push(reply_within(reader, patience).await?);
            }
            Ok::<_, Fault>(())
        };
        // Reading goes on when writing failed: the server may have said why.
        let outcome = tokio::try_join!(async { Ok(writing.await) }, reading);
        let unwritten = match outcome {
            Ok((Ok(Ok(())), ())) => return Answers { replies, fault: None },
            Err(fault) => return Answers { replies, fault: Some(fault) },
            Ok((Ok(Err(error)), ())) => Fault::Lost(error),
            Ok((Err(_), ())) => Fault::Silent(patience),
        };
        // To accept what was not sent in whole means nothing.
        let refusals = replies.into_iter().take_while(|reply| !reply.is_positive()).collect();
        Answers { replies: refusals, fault: Some(unwritten) }
    }
}

async fn reply_within(reader: &mut (impl AsyncBufRead + Unpin), patience: Duration) -> Result<Reply, Fault> {
    timeout(patience, read_reply(reader)).await.map_err(|_| Fault::Silent(patience))?
}

async fn read_reply(reader: &mut (impl AsyncBufRead + Unpin)) -> Result<Reply, Fault> {
    let mut reply: Option<Reply> = None;
    for _ in 0..MOST_REPLY_LINES {
        let mut octets = Vec::new();
        reader.take(LONGEST_REPLY_LINE).read_until(b'\n', &mut octets).await?;
        if !octets.ends_with(b"\n") && (octets.len() as u64) < LONGEST_REPLY_LINE {
            return Err(Fault::lost());
        }
        let line = String::from_utf8_lossy(&octets);
        let (code, is_last, text) = reply_line(&line).ok_or_else(|| Fault::NotAReply(line.clone().into_owned()))?;
        match &mut reply {
            None => reply = Some(Reply::new(code, text)),
            Some(reply) if reply.code == code => {
                reply.text.push('\n');
                reply.text.push_str(text);
            }
            Some(_) => return Err(Fault::NotAReply(line.into_owned())),
        }
        if is_last {
            return reply.ok_or_else(Fault::lost);
        }
    }
    Err(Fault::NotAReply(format!("more than {MOST_REPLY_LINES} lines")))
}

/// Code, whether the line is the reply's last, and text (RFC 5321 §4.2.1).
fn reply_line(line: &str) -> Option<(u16, bool, &str)> {
    let line = line.strip_suffix('\n')?;
    let line = line.strip_suffix('\r').unwrap_or(line);
    let (code, rest) = line.split_at_checked(3)?;
    let code = code.bytes().all(|octet| octet.is_ascii_digit()).then(|| code.parse().ok())??;
    if !(200..600).contains(&code) {
        return None;
    }
    match rest.strip_prefix('-') {
        Some(text) => Some((code, false, text)),
        None if rest.is_empty() => Some((code, true, "")),
        None => Some((code, true, rest.strip_prefix(' ')?)),
    }
}

fn extensions(hello: &Reply) -> Extensions {
    let mut extensions = Extensions::default();
    for line in hello.text.lines().skip(1) {
        let keyword = line.split(' ').next().unwrap_or_default();
        match keyword.to_ascii_uppercase().as_str() {
            "PIPELINING" => extensions.pipelining = true,
            "8BITMIME" => extensions.eight_bit = true,
            "DSN" => extensions.dsn = true,
            "SIZE" => extensions.size = true,
            _ => {}
        }
    }
    extensions
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(wire: &str) -> Result<Reply, Fault> {
        read_reply(&mut wire.as_bytes()).await
    }

    #[tokio::test]
    async fn a_reply_may_have_several_lines() {
        assert_eq!(read("250 2.0.0 ok\r\n").await.unwrap(), Reply::new(250, "2.0.0 ok"));
        assert_eq!(read("250-a\r\n250-\r\n250 b\r\n421 c\r\n").await.unwrap(), Reply::new(250, "a\n\nb"));
        assert_eq!(read("354\n").await.unwrap(), Reply::new(354, ""));
    }

    #[tokio::test]
    async fn what_is_not_a_reply_is_a_fault() {
        for wire in
            ["\r\n", "ok\r\n", "25 ok\r\n", "+25 ok\r\n", "250ok\r\n", "150 ok\r\n", "600 ok\r\n", "250-a\r\n550 b\r\n"]
        {
            assert!(matches!(read(wire).await, Err(Fault::NotAReply(_))), "{wire:?}");
        }
        let long = format!("250 {}\r\n", "x".repeat(LONGEST_REPLY_LINE as usize));
        assert!(matches!(read(&long).await, Err(Fault::NotAReply(_))));
        assert!(matches!(read(&"250-a\r\n".repeat(MOST_REPLY_LINES + 1)).await, Err(Fault::NotAReply(_))));
    }

    #[tokio::test]
    async fn a_reply_cut_short_is_a_lost_connection() {
        for wire in ["", "250", "250 ok", "250-a\r\n"] {
            assert!(matches!(read(wire).await, Err(Fault::Lost(_))), "{wire:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_server_is_left() {
        let (stream, _server) = tokio::io::duplex(100);
        let outcome = Dialogue::over(tokio::io::split(stream)).greet("LHLO hop").await;
        assert!(matches!(outcome, Err(Fault::Silent(COMMAND_PATIENCE))));
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_stops_reading_is_left() {
        let (stream, mut server) = tokio::io::duplex(100);
        let mut dialogue = Dialogue::over(tokio::io::split(stream));
        server.write_all(b"250 stored\r\n").await.unwrap();
        let answers = dialogue.message([&[b'x'; 10_000][..]].into_iter(), 1).await;
        // The acceptance came before the message was sent in whole.
        assert!(answers.replies.is_empty());
        assert!(matches!(answers.fault, Some(Fault::OutcomeUnknown(cause)) if matches!(*cause, Fault::Silent(_))));
    }

    #[test]
    fn extensions_are_read_from_the_second_line_on() {
        let hello = Reply::new(250, "pipelining\nDSN\nsize 1000\nX8BITMIME");
        assert_eq!(extensions(&hello), Extensions { dsn: true, size: true, ..Extensions::default() });
    }
}
