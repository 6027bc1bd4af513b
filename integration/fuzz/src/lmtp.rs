//! The LMTP session: how its octets are sliced changes nothing, replies have their form, and a message comes out as its
//! client framed it.

use bytes::{Bytes, BytesMut};
use pec_milter::adapters::lmtp::{Session, Step, Transaction};
use pec_milter::operations::ports::{MailRecipient, Reply};

/// Small, so that messages above it occur.
const LIMIT: usize = 1_000;
/// Time is better spent on many short conversations than on a long one in slices of one octet.
const MOST_SLICES: usize = 1_000;
/// RFC 5321 §4.5.3.1.5.
const LONGEST_REPLY_LINE: usize = 512;

pub fn lmtp(octets: &[u8]) {
    let whole = converse(octets, octets.len());
    for slice in [1, 2, 3, 61].into_iter().filter(|slice| octets.len() / slice <= MOST_SLICES) {
        assert_eq!(converse(octets, slice), whole, "in slices of {slice}");
    }
    for line in whole.output.split_inclusive(|octet| *octet == b'\n') {
        is_reply_line(line);
    }
    for transaction in &whole.transactions {
        assert!(!transaction.recipients.is_empty() && transaction.message.len() <= LIMIT);
    }
    a_framed_message_comes_out(octets);
}

#[derive(Debug, PartialEq, Eq)]
struct Course {
    output: Vec<u8>,
    transactions: Vec<Transaction>,
    closed: bool,
}

/// Every transaction is answered by its recipients' addresses.
fn converse(wire: &[u8], slice: usize) -> Course {
    let mut session = Session::new("mail.alfa.example", LIMIT);
    let mut input = BytesMut::new();
    let mut course = Course { output: Vec::new(), transactions: Vec::new(), closed: false };
    for part in wire.chunks(slice.max(1)) {
        input.extend_from_slice(part);
        loop {
            match session.receive(&mut input) {
                Step::Read => break,
                Step::Close => {
                    course.closed = true;
                    break;
                }
                Step::Answer(transaction) => {
                    let reply = |to: &MailRecipient| Reply::new(250, to.address.clone());
                    session.answer(transaction.recipients.iter().map(reply));
                    course.transactions.push(transaction);
                }
            }
        }
        course.output.extend_from_slice(&session.take_output());
        if course.closed {
            break;
        }
    }
    course
}

fn is_reply_line(line: &[u8]) {
    let text = line.strip_suffix(b"\r\n").expect("a reply ends with CRLF");
    assert!(line.len() <= LONGEST_REPLY_LINE);
    assert!(text.iter().all(|octet| (b' '..=b'~').contains(octet)), "{}", text.escape_ascii());
    assert!(matches!(text, [b'2'..=b'5', b'0'..=b'9', b'0'..=b'9', b' ' | b'-', ..]), "{}", text.escape_ascii());
}

/// The other direction: these octets as a message, framed by the rules of RFC 5321 §4.5.2.
fn a_framed_message_comes_out(octets: &[u8]) {
    let message = [octets.get(..LIMIT - 2).unwrap_or(octets), b"\r\n"].concat();
    let mut wire = b"LHLO x\r\nMAIL FROM:<a@alfa.example>\r\nRCPT TO:<b@alfa.example>\r\nDATA\r\n".to_vec();
    for (at, octet) in message.iter().enumerate() {
        if *octet == b'.' && (at == 0 || message[..at].ends_with(b"\r\n")) {
            wire.push(b'.');
        }
        wire.push(*octet);
    }
    wire.extend_from_slice(b".\r\nQUIT\r\n");
    let course = converse(&wire, 64);
    let messages: Vec<Bytes> = course.transactions.into_iter().map(|transaction| transaction.message).collect();
    assert_eq!(messages, [message]);
    assert!(course.closed && course.output.ends_with(b"221 2.0.0 bye\r\n"));
}
