//! ClamAV's daemon, asked by `INSTREAM` over a local socket: one connection per message, the message in its own pieces.
//!
//! Decided here: which answers of clamd are verdicts. Only `stream: OK` after the whole message is clean. A refused or
//! lost connection, silence, an `ERROR`, a size limit, a limit inside an archive (`Heuristics.Limits.Exceeded`) are
//! faults that say what an administrator must mend. A clamd without `AlertExceedsMax yes`, which is how it comes, calls
//! clean what it left out. So a clean answer counts only of one that was seen to tell: it is shown a `canary`, an archive
//! beyond its limits, again and again.

mod canary;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufWriter};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{Mutex, Semaphore};
use tokio::time::{Instant, timeout};

use super::instruments::SystemInstruments;
use super::relay::Endpoint;
use crate::message::Pieces;
use crate::operations::ports::{Instruments, Pending, ScanFault, Scanner};
use crate::virus::{Verdict, VirusName};

/// Ends with NUL and wants answers that do: the form that clamd(8) recommends.
const COMMAND: &[u8] = b"zINSTREAM\0";

/// One chunk of the stream; clamd takes any length below StreamMaxLength, and 256 kB is what its own client sends at most.
const CHUNK: usize = 256 * 1024;

/// An answer is one short line.
const LONGEST_ANSWER: u64 = 4096;

/// Three times clamd's default MaxThreads: more connections would only wait inside clamd.
const MOST_SCANS: usize = 30;

/// What clamd says where it did not look at everything, with `AlertExceedsMax yes`.
const LIMITS_EXCEEDED: &str = "Heuristics.Limits.Exceeded";

/// How long clamd is believed to tell of its limits. It reads clamd.conf only when it starts, which takes as long.
const TRUSTED_FOR: Duration = Duration::from_secs(10);

/// A clamd of this machine.
pub struct Clamd {
    endpoint: Endpoint,
    patience: Duration,
    turns: Semaphore,
    /// When it last told of its limits; held while it is asked, so that one asks for all.
    told: Mutex<Option<Instant>>,
}

/// Why there is no verdict.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    #[error("no connection to clamd at {0}; does it run, and may pec-milter reach its socket?")]
    Connect(Endpoint, #[source] io::Error),
    #[error("clamd at {0} closed the connection before it answered")]
    Lost(Endpoint, #[source] io::Error),
    #[error("clamd at {endpoint} gave no verdict within {} s", patience.as_secs())]
    Slow { endpoint: Endpoint, patience: Duration },
    #[error("{octets} octets are above clamd's size limit; raise StreamMaxLength in clamd.conf ({endpoint})")]
    TooLarge { endpoint: Endpoint, octets: usize },
    #[error("clamd at {endpoint} did not look at everything: {name}; raise its limits in clamd.conf")]
    NotWhole { endpoint: Endpoint, name: String },
    #[error(
        "what exceeds the limits of clamd at {0} would pass unseen: set AlertExceedsMax yes and ScanArchive yes in clamd.conf, \
         MaxRecursion below {levels}, and restart clamd", levels = canary::LEVELS
    )]
    Silent(Endpoint),
    #[error("clamd at {endpoint} answered: {answer}")]
    Refused { endpoint: Endpoint, answer: String },
}

impl Clamd {
    /// `patience` is for one message from its turn to its verdict.
    pub fn new(endpoint: Endpoint, patience: Duration) -> Self {
        Clamd { endpoint, patience, turns: Semaphore::new(MOST_SCANS), told: Mutex::default() }
    }

    /// Asks now whether it tells where it did not look at everything; while it does not, no message is clean.
    pub async fn check(&self) -> Result<(), Fault> {
        self.in_time(async { self.see_it_tell(&mut *self.told.lock().await).await }).await
    }

    /// A verdict that can be relied on. The patience for the canary begins anew: a message that took long is not scanned in
    /// vain.
    async fn inspect(&self, message: &Pieces) -> Result<Verdict, Fault> {
        match self.in_time(self.ask(message)).await {
            Ok(Verdict::Clean) => {
                self.in_time(async {
                    let mut told = self.told.lock().await;
                    match told.is_none_or(|at| at.elapsed() > TRUSTED_FOR) {
                        true => self.see_it_tell(&mut told).await,
                        false => Ok(()),
                    }
                })
                .await?;
                Ok(Verdict::Clean)
            }
            // Perhaps it is being started with another configuration.
            Err(fault @ (Fault::Connect(..) | Fault::Lost(..))) => {
                *self.told.lock().await = None;
                Err(fault)
            }
            other => other,
        }
    }

    async fn see_it_tell(&self, told: &mut Option<Instant>) -> Result<(), Fault> {
        *told = None;
        let mut archive = Pieces::default();
        archive.push(canary::archive(SystemInstruments.chance()));
        // Without a turn: it is one at a time, and the messages in whose turns it would wait wait for it.
        match self.ask_at_once(&archive).await {
            Err(Fault::NotWhole { .. }) => {
                *told = Some(Instant::now());
                Ok(())
            }
            Ok(_) => Err(Fault::Silent(self.endpoint.clone())),
            Err(fault) => Err(fault),
        }
    }

    async fn in_time<T>(&self, work: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
        timeout(self.patience, work).await.map_err(|_| self.slow())?
    }

    async fn ask(&self, message: &Pieces) -> Result<Verdict, Fault> {
        // The semaphore is never closed; a permit is held for as long as the connection.
        let _turn = self.turns.acquire().await;
        self.ask_at_once(message).await
    }

    async fn ask_at_once(&self, message: &Pieces) -> Result<Verdict, Fault> {
        let connect = |error| Fault::Connect(self.endpoint.clone(), error);
        match &self.endpoint {
            Endpoint::Unix(path) => {
                let (reader, writer) = UnixStream::connect(path).await.map_err(connect)?.into_split();
                self.exchange(reader, writer, message).await
            }
            Endpoint::Tcp(address) => {
                let stream = TcpStream::connect(address).await.map_err(connect)?;
                stream.set_nodelay(true).map_err(connect)?;
                let (reader, writer) = stream.into_split();
                self.exchange(reader, writer, message).await
            }
        }
    }

    fn slow(&self) -> Fault {
        Fault::Slow { endpoint: self.endpoint.clone(), patience: self.patience }
    }

    async fn exchange(
        &self,
        reader: impl AsyncRead + Unpin,
        writer: impl AsyncWrite + Unpin,
        message: &Pieces,
    ) -> Result<Verdict, Fault> {
        let lost = |error| Fault::Lost(self.endpoint.clone(), error);
        let mut answer = Vec::new();
        // Reading goes on beside writing and after it failed: over its limit clamd answers at once and hangs up.
        let reading = async {
            let read = reader.take(LONGEST_ANSWER).read_to_end(&mut answer).await;
            // clamd that closes with octets of ours unread makes the last read fail; what it said before counts.
            read.map(drop)
        };
        let (written, read) = tokio::join!(stream(writer, message), reading);
        let text = String::from_utf8_lossy(&answer);
        let Some((text, _)) = text.split_once('\0') else {
            read.map_err(lost)?;
            written.map_err(lost)?;
            return Err(lost(io::ErrorKind::UnexpectedEof.into()));
        };
        let verdict = self.verdict(text.trim(), message)?;
        // A verdict about half a message is none.
        written.map_err(lost)?;
        Ok(verdict)
    }

    fn verdict(&self, answer: &str, message: &Pieces) -> Result<Verdict, Fault> {
        let endpoint = || self.endpoint.clone();
        let refused = || Fault::Refused { endpoint: endpoint(), answer: answer.escape_default().to_string() };
        if answer.starts_with("INSTREAM size limit exceeded") {
            return Err(Fault::TooLarge { endpoint: endpoint(), octets: message.len() });
        }
        match answer.strip_prefix("stream: ").ok_or_else(refused)? {
            "OK" => Ok(Verdict::Clean),
            found => {
                let name = found.strip_suffix(" FOUND").ok_or_else(refused)?;
                if name.starts_with(LIMITS_EXCEEDED) {
                    return Err(Fault::NotWhole { endpoint: endpoint(), name: name.to_owned() });
                }
                Ok(Verdict::Infected(VirusName::new(name)))
            }
        }
    }
}

impl Scanner for Arc<Clamd> {
    fn scan<'a>(&'a self, message: &'a Pieces) -> Pending<'a, Result<Verdict, ScanFault>> {
        Box::pin(async move { self.inspect(message).await.map_err(|fault| ScanFault(Box::new(fault))) })
    }
}

/// Writes the command and the message, each chunk behind its length; a chunk of no length ends it.
async fn stream(writer: impl AsyncWrite + Unpin, message: &Pieces) -> io::Result<()> {
    let mut writer = BufWriter::new(writer);
    writer.write_all(COMMAND).await?;
    for chunk in message.iter().flat_map(chunks) {
        // A chunk is far shorter than what four octets can count.
        writer.write_u32(u32::try_from(chunk.len()).map_err(io::Error::other)?).await?;
        writer.write_all(&chunk).await?;
    }
    writer.write_u32(0).await?;
    writer.flush().await
}

fn chunks(piece: &Bytes) -> impl Iterator<Item = Bytes> + '_ {
    (0..piece.len()).step_by(CHUNK).map(|begin| piece.slice(begin..piece.len().min(begin + CHUNK)))
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use tokio::net::UnixListener;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(5);

    /// Asks a clamd that reads at most `most` octets, answers this, and hangs up; returns also what it read.
    async fn asked(message: &Pieces, most: usize, answer: &'static [u8]) -> (Result<Verdict, String>, Vec<u8>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ctl");
        let listener = UnixListener::bind(&path).unwrap();
        let server = tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut read = vec![0; most];
            socket.read_exact(&mut read).await.unwrap();
            socket.write_all(answer).await.unwrap();
            read
        });
        let verdict = Clamd::new(Endpoint::Unix(path), PATIENCE).ask(message).await;
        let told = verdict.map_err(|fault| match fault.source() {
            Some(cause) => format!("{fault}: {cause}"),
            None => fault.to_string(),
        });
        (told, server.await.unwrap())
    }

    fn message(pieces: &[usize]) -> Pieces {
        let mut message = Pieces::default();
        pieces.iter().for_each(|length| message.push(vec![b'x'; *length]));
        message
    }

    /// As it goes over the wire.
    fn framed(chunks: &[usize]) -> Vec<u8> {
        let mut wire = COMMAND.to_vec();
        for length in chunks {
            wire.extend(u32::try_from(*length).unwrap().to_be_bytes());
            wire.extend(vec![b'x'; *length]);
        }
        wire.extend([0; 4]);
        wire
    }

    #[tokio::test]
    async fn a_message_goes_in_its_pieces_and_large_ones_in_chunks() {
        let wire = framed(&[3, CHUNK, CHUNK, 1, CHUNK]);
        let (verdict, read) = asked(&message(&[3, 2 * CHUNK + 1, CHUNK]), wire.len(), b"stream: OK\0").await;
        assert_eq!(verdict, Ok(Verdict::Clean));
        assert!(read == wire);
        let wire = framed(&[]);
        let (verdict, read) = asked(&message(&[]), wire.len(), b"stream: OK\0").await;
        assert_eq!((verdict, read), (Ok(Verdict::Clean), wire));
    }

    #[tokio::test]
    async fn only_an_answer_to_the_whole_message_is_a_verdict() {
        let whole = framed(&[10]).len();
        let ask = async |answer| asked(&message(&[10]), whole, answer).await.0;
        assert_eq!(
            ask(b"stream: Win.Test.EICAR_HDB-1 FOUND\0").await,
            Ok(Verdict::Infected(VirusName::new("Win.Test.EICAR_HDB-1")))
        );
        for (answer, told) in [
            (&b""[..], "closed the connection before it answered"),
            (b"stream: OK", "closed the connection before it answered"),
            (b"stream: OK ERROR\0", "answered: stream: OK ERROR"),
            (b"stream: not OK\0", "answered: stream: not OK"),
            (b"OK\0", "answered: OK"),
            (b"stream: Can't allocate memory ERROR\0", "Can\\'t allocate memory ERROR"),
            (b"\0stream: OK\0", "answered: "),
            (b"INSTREAM size limit exceeded. ERROR\0", "10 octets are above clamd's size limit; raise StreamMaxLength"),
            (b"stream: Heuristics.Limits.Exceeded.MaxFileSize FOUND\0", "did not look at everything"),
        ] {
            let error = ask(answer).await.unwrap_err();
            assert!(error.contains(told), "{error}");
        }
    }

    #[tokio::test]
    async fn an_answer_before_the_end_counts_only_where_it_is_no_verdict() {
        let large = message(&[40 * CHUNK]);
        let (answer, _) = asked(&large, 100, b"INSTREAM size limit exceeded. ERROR\0").await;
        assert!(answer.unwrap_err().contains("raise StreamMaxLength"));
        let (answer, _) = asked(&large, 100, b"stream: OK\0").await;
        assert!(answer.unwrap_err().contains("closed the connection"));
    }

    #[tokio::test]
    async fn a_clamd_that_is_away_or_silent_is_a_fault() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ctl");
        let clamd = |patience| Clamd::new(Endpoint::Unix(path.clone()), patience);
        let away = clamd(PATIENCE).inspect(&message(&[1])).await.unwrap_err();
        assert!(away.to_string().contains("does it run"), "{away}");
        let _silent = UnixListener::bind(&path).unwrap();
        let silent = clamd(Duration::from_millis(50)).inspect(&message(&[1])).await.unwrap_err();
        assert!(silent.to_string().contains("no verdict within"), "{silent}");
    }
    /// A clamd that gives these answers, one a connection.
    fn answering(path: &std::path::Path, answers: &'static [&'static str]) -> tokio::task::JoinHandle<()> {
        let listener = UnixListener::bind(path).unwrap();
        tokio::spawn(async move {
            for answer in answers {
                let (mut socket, _) = listener.accept().await.unwrap();
                let mut read = Vec::new();
                while !read.ends_with(&[0; 4]) {
                    socket.read_buf(&mut read).await.unwrap();
                }
                socket.write_all(format!("{answer}\0").as_bytes()).await.unwrap();
            }
        })
    }

    const CLEAN: &str = "stream: OK";
    const BEYOND: &str = "stream: Heuristics.Limits.Exceeded.MaxRecursion FOUND";
    const FOUND: &str = "stream: Eicar FOUND";

    #[tokio::test]
    async fn clean_counts_only_of_a_clamd_that_tells_of_its_limits() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ctl");
        let clamd = Clamd::new(Endpoint::Unix(path.clone()), PATIENCE);
        let scanned = async || clamd.inspect(&message(&[1])).await.map_err(|fault| fault.to_string());

        let server = answering(&path, &[CLEAN, CLEAN, CLEAN, FOUND, FOUND]);
        let silent = scanned().await.unwrap_err();
        assert!(silent.contains("AlertExceedsMax yes"), "{silent}");
        // The archive alone, and found to be something else than beyond the limits.
        let infected = Ok(Verdict::Infected(VirusName::new("Eicar")));
        assert!(scanned().await.is_err());
        assert_eq!(scanned().await, infected, "what is found counts of any clamd");
        server.await.unwrap();

        std::fs::remove_file(&path).unwrap();
        let server = answering(&path, &[CLEAN, BEYOND, CLEAN]);
        assert_eq!(scanned().await, Ok(Verdict::Clean));
        assert_eq!(scanned().await, Ok(Verdict::Clean), "not asked again so soon");
        server.await.unwrap();

        // It was away, so it may have another configuration.
        assert!(scanned().await.is_err());
        std::fs::remove_file(&path).unwrap();
        let server = answering(&path, &[CLEAN, CLEAN]);
        assert!(scanned().await.unwrap_err().contains("AlertExceedsMax"));
        server.await.unwrap();
    }
}
