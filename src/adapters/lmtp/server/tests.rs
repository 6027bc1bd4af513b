use std::sync::Mutex;

use tokio::io::DuplexStream;
use tokio::net::UnixStream;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;

use super::*;

const OPENING: &[u8] = b"LHLO x\r\nXFORWARD IDENT=4Yb\r\nMAIL FROM:<a@x>\r\nRCPT TO:<b@x>\r\nRCPT TO:<c@x>\r\nDATA\r\n";
const GREETING: &str = "220 hop.alfa.example LMTP\r\n";

/// Says 250 to everybody, or panics when the message asks for it; waits for `permission` where there is one.
#[derive(Default)]
struct Postman {
    permission: Option<Notify>,
    handled: Mutex<Vec<Transaction>>,
}

impl Handler for Postman {
    async fn handle(&self, transaction: Transaction) -> Vec<Reply> {
        if let Some(permission) = &self.permission {
            permission.notified().await;
        }
        assert_ne!(transaction.message, "panic\r\n");
        let replies = vec![Reply::new(250, "2.0.0 stored"); transaction.recipients.len()];
        self.handled.lock().unwrap().push(transaction);
        replies
    }
}

fn settings() -> Settings {
    Settings { hostname: "hop.alfa.example".into(), message_limit: 1000 }
}

fn connect(handler: &Arc<Postman>, stopping: watch::Receiver<bool>) -> (DuplexStream, JoinHandle<()>) {
    let (client, server) = tokio::io::duplex(READ_SIZE);
    (client, tokio::spawn(converse(server, handler.clone(), Arc::new(settings()), stopping)))
}

async fn read_until(client: &mut (impl AsyncRead + Unpin), end: &str) -> String {
    let mut text = Vec::new();
    while !text.ends_with(end.as_bytes()) {
        assert_ne!(client.read_buf(&mut text).await.unwrap(), 0, "{end:?} after {:?}", String::from_utf8_lossy(&text));
    }
    String::from_utf8(text).unwrap()
}

async fn rest(client: &mut (impl AsyncRead + Unpin)) -> String {
    let mut text = String::new();
    client.read_to_string(&mut text).await.unwrap();
    text
}

#[tokio::test]
async fn a_panic_costs_its_recipients_a_temporary_failure_and_nobody_else() {
    let (_stop, stopping) = watch::channel(false);
    let handler = Arc::new(Postman::default());
    let (mut client, _task) = connect(&handler, stopping);
    client.write_all(&[OPENING, b"panic\r\n.\r\n"].concat()).await.unwrap();
    read_until(&mut client, "451 4.3.0 internal error\r\n451 4.3.0 internal error\r\n").await;
    client.write_all(&[OPENING, b"calm\r\n.\r\nQUIT\r\n"].concat()).await.unwrap();
    assert!(rest(&mut client).await.ends_with("250 2.0.0 stored\r\n250 2.0.0 stored\r\n221 2.0.0 bye\r\n"));
    assert_eq!(handler.handled.lock().unwrap()[0].queue_id.as_deref(), Some("4Yb"));
}

#[tokio::test]
async fn a_transaction_runs_to_its_end_when_the_client_is_gone() {
    let (_stop, stopping) = watch::channel(false);
    let handler = Arc::new(Postman { permission: Some(Notify::new()), ..Postman::default() });
    let (mut client, task) = connect(&handler, stopping);
    client.write_all(&[OPENING, b"calm\r\n.\r\n"].concat()).await.unwrap();
    read_until(&mut client, GREETING).await;
    drop(client);
    handler.permission.as_ref().unwrap().notify_one();
    task.await.unwrap();
    assert_eq!(handler.handled.lock().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_silent_client_is_told_and_left() {
    let (_stop, stopping) = watch::channel(false);
    let (mut client, _task) = connect(&Arc::default(), stopping);
    assert_eq!(rest(&mut client).await, format!("{GREETING}421 4.4.2 idle for too long\r\n"));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_pauses_inside_a_message_does_not_hold_up_the_stop() {
    let (stop, stopping) = watch::channel(false);
    let (mut client, _task) = connect(&Arc::default(), stopping);
    client.write_all(OPENING).await.unwrap();
    read_until(&mut client, "<CRLF>.<CRLF>\r\n").await;
    stop.send_replace(true);
    assert_eq!(rest(&mut client).await, "421 4.3.2 the server stops\r\n");
}

#[tokio::test]
async fn a_stop_closes_idle_connections_and_lets_transactions_finish() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lmtp");
    let listener = UnixListener::bind(&path).unwrap();
    let handler = Arc::new(Postman { permission: Some(Notify::new()), ..Postman::default() });
    let (stop, stopped) = oneshot::channel::<()>();
    let server = tokio::spawn(serve(listener, handler.clone(), settings(), async { stopped.await.unwrap() }));

    let mut idle = UnixStream::connect(&path).await.unwrap();
    read_until(&mut idle, GREETING).await;
    let mut busy = UnixStream::connect(&path).await.unwrap();
    busy.write_all(OPENING).await.unwrap();
    read_until(&mut busy, "<CRLF>.<CRLF>\r\n").await;
    busy.write_all(b"calm\r\n.\r\n").await.unwrap();

    stop.send(()).unwrap();
    assert_eq!(rest(&mut idle).await, "421 4.3.2 the server stops\r\n");
    assert!(UnixStream::connect(&path).await.is_err());
    assert!(!server.is_finished());
    handler.permission.as_ref().unwrap().notify_one();
    let answers = "250 2.0.0 stored\r\n250 2.0.0 stored\r\n421 4.3.2 the server stops\r\n";
    assert_eq!(rest(&mut busy).await, answers);
    server.await.unwrap();
}
