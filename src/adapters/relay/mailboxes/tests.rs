use std::sync::{Arc, Mutex};

use tokio::sync::oneshot;

use super::*;
use crate::adapters::lmtp::{self, Handler, Settings, Transaction};
use crate::adapters::relay::scripted::Scripted;
use crate::adapters::socket;
use crate::message::Pieces;
use crate::operations::ports::MailRecipient;

const HELLO: &str = "> 220 mail\n< LHLO hop\n> 250-mail\n> 250-PIPELINING\n> 250-8BITMIME\n> 250 DSN\n";
const COMMANDS: &str = "< MAIL FROM:<a@x>\n< RCPT TO:<b@x>\n< RCPT TO:<c@x> ORCPT=rfc822;d@x\n< DATA\n";
const ACCEPTED: &str = "> 250 2.1.0 a\n> 250 2.1.5 b\n> 250 2.1.5 c\n> 354 go\n";
const STORED: &str = "message\n> 250 2.0.0 b stored\n> 250 2.0.0 c stored\n";

fn mail() -> Mail {
    let to =
        |address: &str, orcpt: Option<&str>| MailRecipient { address: address.into(), orcpt: orcpt.map(Into::into) };
    Mail {
        sender: "a@x".into(),
        recipients: vec![to("b@x", None), to("c@x", Some("rfc822;d@x"))],
        eight_bit: false,
        message: "Subject: a\r\n\r\n.b\r\n".into(),
    }
}

fn client(server: &Scripted) -> DovecotLmtp {
    DovecotLmtp::new(server.endpoint.clone(), "hop")
}

/// The replies to one delivery, of a server that follows this script on its only connection.
async fn outcomes(script: String) -> Vec<String> {
    let server = Scripted::new([script]);
    let replies = client(&server).deliver(&mail()).await;
    server.done().await;
    replies.iter().map(|reply| reply.to_string()).collect()
}

/// Codes and status of a delivery; the rest of the text names the socket.
async fn codes(script: String) -> Vec<String> {
    let words = |text: String| text.split(' ').take(2).collect::<Vec<_>>().join(" ");
    outcomes(script).await.into_iter().map(words).collect()
}

#[tokio::test]
async fn each_recipient_gets_its_own_reply() {
    let both = outcomes(format!("{HELLO}{COMMANDS}{ACCEPTED}{STORED}")).await;
    assert_eq!(both, ["250 2.0.0 b stored", "250 2.0.0 c stored"]);

    let refused = "> 250 a\n> 550-5.1.1 nobody\n> 550 5.1.1 here\n> 250 c\n> 354 go\nmessage\n> 452 4.2.2 full\n";
    let one = outcomes(format!("{HELLO}{COMMANDS}{refused}end")).await;
    assert_eq!(one, ["550 5.1.1 nobody\n5.1.1 here", "452 4.2.2 full"]);
}

#[tokio::test]
async fn a_connection_is_kept_for_the_next_message() {
    let once = format!("{COMMANDS}{ACCEPTED}{STORED}");
    let nobody = format!("{COMMANDS}> 250 a\n> 550 b\n> 550 c\n> 554 nobody\n< RSET\n> 250 forgotten\n");
    let server = Scripted::new([format!("{HELLO}{once}{nobody}{once}")]);
    let client = client(&server);
    assert!(client.deliver(&mail()).await.iter().all(Reply::is_positive));
    assert!(client.deliver(&mail()).await.iter().all(Reply::is_permanent_failure));
    assert!(client.deliver(&mail()).await.iter().all(Reply::is_positive));
    server.done().await;
}

#[tokio::test]
async fn a_question_hands_nothing_over_and_keeps_the_connection() {
    let asked = "< MAIL FROM:<a@x>\n< RCPT TO:<b@x>\n< RCPT TO:<c@x> ORCPT=rfc822;d@x\n";
    let answered = "> 250 a\n> 550 5.1.1 nobody\n> 250 c\n< RSET\n> 250 forgotten\n";
    let not_now = "> 451 4.3.0 later\n> 503 no\n> 503 no\n< RSET\n> 250 forgotten\n";
    let server = Scripted::new([format!("{HELLO}{asked}{answered}{asked}{not_now}{asked}> 250 a\n")]);
    let client = client(&server);
    let texts = |replies: Vec<Reply>| replies.iter().map(Reply::to_string).collect::<Vec<_>>();
    assert_eq!(texts(client.would_take(&mail()).await), ["550 5.1.1 nobody", "250 c"]);
    assert_eq!(texts(client.would_take(&mail()).await), ["451 4.3.0 later", "451 4.3.0 later"]);
    assert!(client.would_take(&mail()).await.iter().all(|reply| reply.code == 451), "the connection was lost");
    server.done().await;
}

#[tokio::test]
async fn a_kept_connection_that_the_server_closed_is_replaced() {
    let once = format!("{COMMANDS}{ACCEPTED}{STORED}");
    for last_words in ["", "> 421 4.4.2 idle\n", "< MAIL FROM:<a@x>\n", "< MAIL FROM:<a@x>\n> 421 4.3.2 stopping\n"] {
        let server = Scripted::new([format!("{HELLO}{once}{last_words}"), format!("{HELLO}{once}")]);
        let client = client(&server);
        for _ in 0..2 {
            let replies = client.deliver(&mail()).await;
            assert!(replies.iter().all(Reply::is_positive), "after {last_words:?}: {replies:?}");
        }
        server.done().await;
    }
}

#[tokio::test]
async fn a_connection_long_unused_is_closed_politely() {
    let server = Scripted::new([format!("{HELLO}{COMMANDS}{ACCEPTED}{STORED}< QUIT\nend")]);
    let client = client(&server);
    assert!(client.deliver(&mail()).await.iter().all(Reply::is_positive));
    tokio::time::pause();
    server.done().await;
}

#[tokio::test]
async fn a_message_whose_outcome_is_unknown_is_not_sent_again() {
    let once = format!("{COMMANDS}{ACCEPTED}{STORED}");
    let server = Scripted::new([format!("{HELLO}{once}{COMMANDS}{ACCEPTED}message\n")]);
    let client = client(&server);
    client.deliver(&mail()).await;
    let replies = client.deliver(&mail()).await;
    let expected =
        format!("451 4.4.2 {}: the outcome of the message is unknown: the connection was lost", server.endpoint);
    assert!(replies.iter().all(|reply| reply.to_string().starts_with(&expected)), "{replies:?}");
    server.done().await;
}

#[tokio::test]
async fn a_lost_connection_leaves_the_recipients_without_outcome_to_another_try() {
    let lost = ["451 4.4.2", "451 4.4.2"];
    assert_eq!(codes(String::new()).await, lost);
    assert_eq!(codes("> 220 mail\n".into()).await, lost);
    assert_eq!(codes(HELLO.into()).await, lost);
    assert_eq!(codes(format!("{HELLO}{COMMANDS}> 250 a\n")).await, lost);
    assert_eq!(codes(format!("{HELLO}{COMMANDS}> 250 a\n> 550 5.1.1 b\n")).await, ["550 5.1.1", "451 4.4.2"]);
    assert_eq!(codes(format!("{HELLO}{COMMANDS}> 250 a\n> 250 b\n> 250 c\n")).await, lost);
    assert_eq!(codes(format!("{HELLO}{COMMANDS}{ACCEPTED}message\n")).await, lost);
    let half = codes(format!("{HELLO}{COMMANDS}{ACCEPTED}message\n> 250 2.0.0 stored\n")).await;
    assert_eq!(half, ["250 2.0.0", "451 4.4.2"]);
}

#[tokio::test]
async fn a_server_that_takes_no_mail_is_a_temporary_failure() {
    let unwilling = ["451 4.3.2", "451 4.3.2"];
    assert_eq!(codes("> 421 4.3.2 busy\n".into()).await, unwilling);
    assert_eq!(codes("> 554 5.7.1 go away\n".into()).await, unwilling);
    assert_eq!(codes("> 220 mail\n< LHLO hop\n> 502 5.5.1 what\n".into()).await, unwilling);
    let nobody = DovecotLmtp::new(Endpoint::Unix("/nowhere/lmtp".into()), "hop");
    let replies = nobody.deliver(&mail()).await;
    assert!(replies[0].text.starts_with("4.4.1 unix:/nowhere/lmtp: no connection: No such file"), "{replies:?}");
}

#[tokio::test]
async fn a_refusal_at_any_stage_is_passed_on() {
    let mail_refused = "> 552 5.3.4 big\n> 503 no\n> 503 no\n> 503 no\n< RSET\n> 250 ok\n";
    assert_eq!(codes(format!("{HELLO}{COMMANDS}{mail_refused}")).await, ["552 5.3.4", "552 5.3.4"]);
    let data_refused = "> 250 a\n> 450 4.2.1 b\n> 250 c\n> 451 4.3.0 disk\n< RSET\n> 250 ok\n";
    assert_eq!(codes(format!("{HELLO}{COMMANDS}{data_refused}")).await, ["450 4.2.1", "451 4.3.0"]);
    let stopping = "> 250 a\n> 250 b\n> 421 4.3.2 stopping\n";
    assert_eq!(codes(format!("{HELLO}{COMMANDS}{stopping}")).await, ["451 4.4.2", "421 4.3.2"]);
    let early = "> 552 5.3.4 b is full\n> 552 5.3.4 c is full\nmessage\n";
    assert_eq!(codes(format!("{HELLO}{COMMANDS}{ACCEPTED}{early}")).await, ["552 5.3.4", "552 5.3.4"]);
}

#[tokio::test]
async fn replies_that_make_no_sense_certify_nothing() {
    let confused = ["451 4.5.0", "451 4.5.0"];
    assert_eq!(codes("> hello\n".into()).await, confused);
    assert_eq!(codes(format!("{HELLO}{COMMANDS}> 250-a\n> 350 b\n")).await, confused);
    assert_eq!(codes(format!("{HELLO}{COMMANDS}> 250 a\n> 250 b\n> 250 c\n> 250 stored\nend")).await, confused);
    let odd = codes(format!("{HELLO}{COMMANDS}> 250 a\n> 354 b\n> 250 c\n> 354 go\nmessage\n> 399 what\n")).await;
    assert_eq!(odd, confused);
}

#[tokio::test]
async fn no_message_begins_when_nobody_was_accepted() {
    let go_ahead = "> 250 a\n> 550 5.1.1 b\n> 550 5.1.1 c\n> 354 go\nend";
    assert_eq!(codes(format!("{HELLO}{COMMANDS}{go_ahead}")).await, ["550 5.1.1", "550 5.1.1"]);
}

#[tokio::test]
async fn a_server_without_pipelining_is_asked_one_thing_at_a_time() {
    let hello = "> 220 mail\n< LHLO hop\n> 250 mail\n";
    let server = Scripted::new([format!(
        "{hello}< MAIL FROM:<a@x>\n> 250 a\n< RCPT TO:<b@x>\n> 250 b\n< RCPT TO:<c@x>\n> 250 c\n< DATA\n> 354 go\n{STORED}"
    )]);
    let client = client(&server);
    assert!(client.deliver(&mail()).await.iter().all(Reply::is_positive));
    server.done().await;
}

#[tokio::test]
async fn unwritable_mail_is_refused_without_a_connection() {
    let nobody = DovecotLmtp::new(Endpoint::Unix("/nowhere/lmtp".into()), "hop");
    let replies = nobody.deliver(&Mail { message: "a\nb".into(), ..mail() }).await;
    assert_eq!(replies.iter().map(|reply| reply.code).collect::<Vec<_>>(), [554, 554]);
}

/// Keeps what it gets, with a long reply for everybody.
#[derive(Default)]
struct Shelf(Mutex<Vec<Transaction>>);

impl Handler for Shelf {
    async fn handle(&self, transaction: Transaction) -> Vec<Reply> {
        let replies = vec![Reply::new(250, format!("2.0.0 {}", "x".repeat(400))); transaction.recipients.len()];
        self.0.lock().unwrap().push(transaction);
        replies
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_own_server_reads_thousands_of_recipients_and_a_large_message_in_pieces() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lmtp");
    let listener = socket::listen(&path, None).await.unwrap();
    let shelf = Arc::new(Shelf::default());
    let settings = Settings { hostname: "hop".into(), message_limit: 20_000_000 };
    let (stop, stopped) = oneshot::channel::<()>();
    let server = tokio::spawn(lmtp::serve(listener, shelf.clone(), settings, async { stopped.await.unwrap() }));

    let mut message = Pieces::default();
    for number in 0..100_000 {
        message.push(format!(".{number}\r\n.\r\nperché\r"));
        message.push("\n..\r\n");
    }
    message.push(vec![b'x'; 10_000_000]);
    message.push("\r\n");
    let recipient = |number| MailRecipient {
        address: format!("{number}@beta.example"),
        orcpt: Some(format!("rfc822;{number}@alfa.example")),
    };
    let mail = Mail { recipients: (0..20_000).map(recipient).collect(), eight_bit: true, message, ..mail() };
    let client = DovecotLmtp::new(Endpoint::Unix(path), "hop");
    for _ in 0..2 {
        let replies = client.deliver(&mail).await;
        assert_eq!(replies.len(), mail.recipients.len());
        assert!(replies.iter().all(Reply::is_positive));
    }
    stop.send(()).unwrap();
    server.await.unwrap();
    let transactions = std::mem::take(&mut *shelf.0.lock().unwrap());
    for transaction in transactions {
        assert_eq!(transaction.recipients, mail.recipients);
        assert!(transaction.eight_bit);
        assert!(transaction.message == mail.message.to_vec());
    }
}
