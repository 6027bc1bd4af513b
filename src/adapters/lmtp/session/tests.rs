use super::*;

const LIMIT: usize = 10_000;

/// What one conversation led to, with every transaction answered `250 2.0.0 <address>` per recipient.
#[derive(Debug, PartialEq, Eq)]
struct Course {
    output: String,
    transactions: Vec<Transaction>,
    closed: bool,
}

fn converse_in(wire: &[u8], slice: usize) -> Course {
    let mut session = Session::new("hop.alfa.example", LIMIT);
    let mut input = BytesMut::new();
    let mut course = Course { output: String::new(), transactions: Vec::new(), closed: false };
    for part in wire.chunks(slice) {
        input.extend_from_slice(part);
        loop {
            match session.receive(&mut input) {
                Step::Read => break,
                Step::Close => {
                    course.closed = true;
                    break;
                }
                Step::Answer(transaction) => {
                    let reply = |to: &MailRecipient| Reply::new(250, format!("2.0.0 {}", to.address));
                    session.answer(transaction.recipients.iter().map(reply));
                    course.transactions.push(transaction);
                }
            }
        }
        course.output.push_str(std::str::from_utf8(&session.take_output()).unwrap());
    }
    course
}

/// The course of a conversation, which must not depend on how its octets arrive.
fn converse(wire: impl AsRef<[u8]>) -> Course {
    let wire = wire.as_ref();
    let whole = converse_in(wire, wire.len());
    for slice in [1, 2, 3, 5, 64, 4099] {
        assert_eq!(converse_in(wire, slice), whole, "in slices of {slice}");
    }
    whole
}

/// The reply codes after greeting and LHLO, one per command.
fn codes(commands: &str) -> Vec<u16> {
    let course = converse(format!("LHLO mail.alfa.example\r\n{commands}"));
    let last_lines = course.output.lines().filter(|line| line.as_bytes()[3] == b' ');
    last_lines.skip(2).map(|line| line[..3].parse().unwrap()).collect()
}

#[test]
fn postfix_hands_over_two_messages_on_one_connection() {
    let course = converse(
        "LHLO mail.alfa.example\r\n\
         XFORWARD NAME=[UNAVAILABLE] ADDR=10.0.0.1 PORT=4711\r\n\
         XFORWARD PROTO=ESMTP HELO=client IDENT=4YbQ2k1hXzz9 SOURCE=LOCAL\r\n\
         MAIL FROM:<anna@alfa.example> SIZE=12 BODY=8BITMIME\r\n\
         RCPT TO:<bruno@alfa.example> ORCPT=rfc822;info@alfa.example\r\n\
         RCPT TO:<accettazione@pec-milter.invalid>\r\n\
         DATA\r\n\
         Subject: a\r\n\r\n..b\r\n.\r\n\
         MAIL FROM:<>\r\nRCPT TO:<bruno@alfa.example>\r\nDATA\r\n.\r\nQUIT\r\n",
    );
    let to =
        |address: &str, orcpt: Option<&str>| MailRecipient { address: address.into(), orcpt: orcpt.map(Into::into) };
    let first = Transaction {
        queue_id: Some("4YbQ2k1hXzz9".into()),
        sender: "anna@alfa.example".into(),
        recipients: vec![
            to("bruno@alfa.example", Some("rfc822;info@alfa.example")),
            to("accettazione@pec-milter.invalid", None),
        ],
        eight_bit: true,
        message: Bytes::from_static(b"Subject: a\r\n\r\n.b\r\n"),
    };
    // The queue id of the first message is not the second one's.
    let second = Transaction {
        queue_id: None,
        sender: String::new(),
        recipients: vec![to("bruno@alfa.example", None)],
        eight_bit: false,
        message: Bytes::new(),
    };
    assert_eq!(course.transactions, [first, second]);
    assert!(course.closed);
    assert_eq!(
        course.output,
        "220 hop.alfa.example LMTP\r\n\
         250-hop.alfa.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-ENHANCEDSTATUSCODES\r\n250-DSN\r\n\
         250-SIZE 10000\r\n250 XFORWARD NAME ADDR PROTO HELO SOURCE PORT IDENT\r\n\
         250 2.0.0 ok\r\n250 2.0.0 ok\r\n250 2.1.0 ok\r\n250 2.1.5 ok\r\n250 2.1.5 ok\r\n354 end with <CRLF>.<CRLF>\r\n\
         250 2.0.0 bruno@alfa.example\r\n250 2.0.0 accettazione@pec-milter.invalid\r\n\
         250 2.1.0 ok\r\n250 2.1.5 ok\r\n354 end with <CRLF>.<CRLF>\r\n250 2.0.0 bruno@alfa.example\r\n221 2.0.0 bye\r\n"
    );
}

#[test]
fn commands_out_of_order_are_refused() {
    assert_eq!(codes("RCPT TO:<b@x>\r\nDATA\r\n"), [503, 503]);
    assert_eq!(codes("MAIL FROM:<a@x>\r\nDATA\r\nMAIL FROM:<a@x>\r\nXFORWARD IDENT=1\r\n"), [250, 503, 503, 503]);
    assert_eq!(codes("MAIL FROM:<a@x>\r\nRSET\r\nRCPT TO:<b@x>\r\nVRFY b\r\nNOOP\r\n"), [250, 250, 503, 252, 250]);
    let unannounced = converse("MAIL FROM:<a@x>\r\nXFORWARD IDENT=1\r\nEHLO x\r\n");
    let texts: Vec<&str> = unannounced.output.lines().skip(1).collect();
    assert_eq!(texts, ["503 5.5.1 say LHLO first", "503 5.5.1 say LHLO first", "500 5.5.1 this is LMTP: say LHLO"]);
}

#[test]
fn rset_forgets_the_queue_id() {
    let course = converse("LHLO x\r\nXFORWARD IDENT=4Yb\r\nRSET\r\nMAIL FROM:<a@x>\r\nRCPT TO:<b@x>\r\nDATA\r\n.\r\n");
    assert_eq!(course.transactions[0].queue_id, None);
}

#[test]
fn a_refused_recipient_gets_no_reply_after_the_message() {
    let course = converse("LHLO x\r\nMAIL FROM:<a@x>\r\nRCPT TO:<>\r\nRCPT TO:<b@x>\r\nDATA\r\n.\r\n");
    let texts: Vec<&str> = course.output.lines().skip(9).collect();
    assert_eq!(texts[0], "501 5.1.3 this is not a path a message can go to");
    assert_eq!(texts[1..], ["250 2.1.5 ok", "354 end with <CRLF>.<CRLF>", "250 2.0.0 b@x"]);
}

#[test]
fn an_overlong_line_is_skipped_to_its_end() {
    let long = "x".repeat(3 * LONGEST_LINE);
    assert_eq!(codes(&format!("NOOP {long}\r\nNOOP\r\n")), [500, 250]);
    let fitting = "x".repeat(LONGEST_LINE - "NOOP \r".len());
    assert_eq!(codes(&format!("NOOP {fitting}\r\nNOOP {fitting}x\r\nNOOP\r\n")), [250, 500, 250]);
}

#[test]
fn a_bare_line_feed_does_not_end_a_command() {
    assert_eq!(codes("NOOP\nNOOP\r\nNOOP\r\n"), [500, 250, 250]);
    assert_eq!(codes("NOOP\rNOOP\r\n"), [500]);
}

#[test]
fn a_message_cannot_smuggle_a_second_one() {
    for end in ["\n.\n", "\n.\r\n", "\r\n.\n", "\r.\r\n"] {
        let smuggled = format!("a{end}MAIL FROM:<eve@x>\r\nRCPT TO:<b@x>\r\nDATA\r\nb");
        let course = converse(format!("LHLO x\r\nMAIL FROM:<a@x>\r\nRCPT TO:<b@x>\r\nDATA\r\n{smuggled}\r\n.\r\n"));
        assert_eq!(course.transactions.len(), 1, "{end:?}");
        assert_eq!(course.transactions[0].sender, "a@x");
    }
}

#[test]
fn a_message_above_the_limit_is_refused_for_each_recipient_and_the_session_goes_on() {
    assert_eq!(codes(&format!("MAIL FROM:<a@x> SIZE={}\r\nRCPT TO:<b@x>\r\n", LIMIT + 1)), [552, 503]);
    let long = "x".repeat(LIMIT);
    let two =
        format!("MAIL FROM:<a@x>\r\nRCPT TO:<b@x>\r\nRCPT TO:<c@x>\r\nDATA\r\n{long}\r\n.\r\nMAIL FROM:<a@x>\r\n");
    assert_eq!(codes(&two), [250, 250, 250, 354, 552, 552, 250]);
}

#[test]
fn recipients_above_the_limit_wait_for_the_next_transaction() {
    let mut session = Session::new("x", LIMIT);
    let mut input = BytesMut::from(&b"LHLO x\r\nMAIL FROM:<a@x>\r\n"[..]);
    input.extend_from_slice("RCPT TO:<b@x>\r\n".repeat(MOST_RECIPIENTS + 1).as_bytes());
    assert_eq!(session.receive(&mut input), Step::Read);
    let output = session.take_output();
    assert!(output.ends_with(b"250 2.1.5 ok\r\n452 4.5.3 too many recipients\r\n"));
}

#[test]
fn answers_are_made_fit_for_the_wire() {
    let mut session = Session::new("x", LIMIT);
    let commands = format!("LHLO x\r\nMAIL FROM:<a@x>\r\n{}DATA\r\n.\r\n", "RCPT TO:<b@x>\r\n".repeat(5));
    let mut input = BytesMut::from(commands.as_bytes());
    assert!(matches!(session.receive(&mut input), Step::Answer(_)));
    assert!(!session.is_idle());
    session.take_output();
    session.answer([
        Reply::new(250, "stored"),
        Reply::new(550, "5.1.1 first\nsecond"),
        Reply::new(354, "go on"),
        Reply::new(550, "5.7.1 perché\r\n250 no"),
    ]);
    assert_eq!(
        session.take_output(),
        "250 2.0.0 stored\r\n\
         550-5.1.1 first\r\n550 5.0.0 second\r\n\
         451 4.3.0 no outcome for this recipient\r\n\
         550-5.7.1 perch??\r\n550 5.0.0 250 no\r\n\
         451 4.3.0 no outcome for this recipient\r\n"
    );
    assert!(session.is_idle());
}
