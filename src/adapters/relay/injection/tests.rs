use super::*;
use crate::adapters::relay::scripted::Scripted;
use crate::operations::ports::MailRecipient;

const HELLO: &str = "> 220 mail\n< EHLO hop\n> 250-mail\n> 250-PIPELINING\n> 250-SIZE\n> 250 8BITMIME\n";
const COMMANDS: &str = "< MAIL FROM:<> SIZE=10 BODY=8BITMIME\n< RCPT TO:<b@x>\n< RCPT TO:<c@x>\n";
const QUEUED: &str = "> 250 a\n> 250 b\n> 250 c\n< DATA\n> 354 go\n< perché\n< ..\n< .\n> 250 2.0.0 queued\n";

fn mail() -> Mail {
    let to = |address: &str| MailRecipient { address: address.into(), orcpt: None };
    Mail {
        sender: String::new(),
        recipients: vec![to("b@x"), to("c@x")],
        eight_bit: true,
        message: "perché\r\n.".into(),
    }
}

/// The outcomes of some messages, of a server that follows these scripts.
async fn outcomes<const N: usize>(scripts: [String; N], messages: usize) -> Vec<String> {
    let server = Scripted::new(scripts);
    let client = PostfixInjection::new(server.endpoint.clone(), "hop");
    let mut outcomes = Vec::new();
    for _ in 0..messages {
        outcomes.push(client.inject(&mail()).await.to_string());
    }
    server.done().await;
    outcomes
}

#[tokio::test]
async fn messages_are_queued_over_one_connection() {
    let outcomes = outcomes([format!("{HELLO}{COMMANDS}{QUEUED}{COMMANDS}{QUEUED}")], 2).await;
    assert_eq!(outcomes, ["250 2.0.0 queued", "250 2.0.0 queued"]);
}

#[tokio::test]
async fn a_refused_recipient_is_the_outcome_and_the_connection_goes_on() {
    let refused = "> 250 a\n> 250 b\n> 554 5.7.1 c\n< RSET\n> 250 ok\n";
    let outcomes = outcomes([format!("{HELLO}{COMMANDS}{refused}{COMMANDS}{QUEUED}")], 2).await;
    assert_eq!(outcomes, ["554 5.7.1 c", "250 2.0.0 queued"]);
}

#[tokio::test]
async fn a_refused_message_is_the_outcome() {
    let data = "> 250 a\n> 250 b\n> 250 c\n< DATA\n> 451 4.3.0 no queue\n< RSET\n> 250 ok\n";
    assert_eq!(outcomes([format!("{HELLO}{COMMANDS}{data}")], 1).await, ["451 4.3.0 no queue"]);
    let end = "> 250 a\n> 250 b\n> 250 c\n< DATA\n> 354 go\nmessage\n> 552 5.3.4 big\n";
    assert_eq!(outcomes([format!("{HELLO}{COMMANDS}{end}")], 1).await, ["552 5.3.4 big"]);
}

#[tokio::test]
async fn a_closed_connection_is_replaced_before_the_message_and_not_after() {
    let stale = [format!("{HELLO}{COMMANDS}{QUEUED}> 421 idle\n"), format!("{HELLO}{COMMANDS}{QUEUED}")];
    assert_eq!(outcomes(stale, 2).await, ["250 2.0.0 queued", "250 2.0.0 queued"]);
    let unknown = "> 250 a\n> 250 b\n> 250 c\n< DATA\n> 354 go\nmessage\n";
    let outcomes = outcomes([format!("{HELLO}{COMMANDS}{unknown}")], 1).await;
    assert!(outcomes[0].contains("the outcome of the message is unknown"), "{outcomes:?}");
}

#[tokio::test]
async fn a_lost_connection_is_a_temporary_failure() {
    for script in [
        "",
        "> 220 mail\n",
        HELLO,
        &format!("{HELLO}{COMMANDS}> 250 a\n"),
        &format!("{HELLO}{COMMANDS}{}", "> 250 a\n> 250 b\n> 250 c\n"),
    ] {
        let outcomes = outcomes([script.to_owned()], 1).await;
        assert!(outcomes[0].starts_with("451 4.4.2"), "{outcomes:?} after {script:?}");
    }
}
