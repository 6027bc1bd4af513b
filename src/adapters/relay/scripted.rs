//! A server for the tests of this room that follows a script.
//!
//! One script per connection, in order of arrival. `> text` is said, `< text` is a line that must come, `message` reads
//! up to the final dot, `end` waits for the client to close; at the end of a script the server closes.

use std::path::Path;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;

use super::Endpoint;

pub(super) struct Scripted {
    pub endpoint: Endpoint,
    _folder: tempfile::TempDir,
    served: JoinHandle<()>,
}

impl Scripted {
    pub(super) fn new<const N: usize>(scripts: [String; N]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("server");
        let listener = listen(&path);
        let served = tokio::spawn(async move {
            for script in scripts {
                let (stream, _) = listener.accept().await.unwrap();
                follow(&script, stream).await;
            }
        });
        Scripted { endpoint: Endpoint::Unix(path), _folder: folder, served }
    }

    /// Every script was followed to its end.
    pub(super) async fn done(self) {
        self.served.await.unwrap();
    }
}

fn listen(path: &Path) -> UnixListener {
    UnixListener::bind(path).unwrap()
}

async fn follow(script: &str, stream: UnixStream) {
    let mut stream = BufReader::new(stream);
    for step in script.lines() {
        if let Some(text) = step.strip_prefix("> ") {
            stream.write_all(format!("{text}\r\n").as_bytes()).await.unwrap();
        } else if let Some(expected) = step.strip_prefix("< ") {
            assert_eq!(line(&mut stream).await, format!("{expected}\r\n"));
        } else if step == "message" {
            while line(&mut stream).await != ".\r\n" {}
        } else if step == "end" {
            assert_eq!(stream.read_line(&mut String::new()).await.unwrap(), 0);
        } else {
            panic!("{step:?} is not a step");
        }
    }
}

async fn line(stream: &mut BufReader<UnixStream>) -> String {
    let mut line = String::new();
    assert_ne!(stream.read_line(&mut line).await.unwrap(), 0, "the client closed too early");
    line
}
