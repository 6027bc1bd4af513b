//! The framing of a message between `354` and the reply (RFC 5321 §4.5.2), without copying it.
//!
//! A dot at the start of a line is doubled, and `<CRLF>.<CRLF>` follows. Only CRLF ends a line, also where two pieces
//! meet. A message with a bare LF must not be sent: Dovecot 2.3 ends a message at `<LF>.<CRLF>` and takes the rest for
//! commands.

use bytes::Bytes;
use memchr::{memchr_iter, memmem};

use crate::message::Pieces;

/// Whether a LF stands without its CR (RFC 5321 §2.3.8 forbids it).
pub(super) fn has_bare_line_feed(message: &Pieces) -> bool {
    let mut last = None;
    for piece in message.iter() {
        let before = |at: usize| if at == 0 { last } else { piece.get(at - 1) };
        if memchr_iter(b'\n', piece).any(|at| before(at) != Some(&b'\r')) {
            return true;
        }
        last = piece.last();
    }
    false
}

/// The octets to write, in order.
pub(super) fn framed(message: &Pieces) -> impl Iterator<Item = &[u8]> + Send {
    Framed { pieces: message.iter(), rest: &[], place: Place::LineStart }
}

struct Framed<'a, I> {
    pieces: I,
    rest: &'a [u8],
    place: Place,
}

/// Where in its line the next octet stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    LineStart,
    AfterCr,
    Inside,
    /// Behind the end.
    End,
}

impl<'a, I: Iterator<Item = &'a Bytes>> Iterator for Framed<'a, I> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.rest.is_empty() {
            match self.pieces.next() {
                Some(piece) => self.rest = piece,
                None => return self.end(),
            }
        }
        if self.place == Place::LineStart && self.rest.starts_with(b".") {
            self.place = Place::Inside;
            return Some(b".");
        }
        let (chunk, rest) = self.rest.split_at_checked(self.cut())?;
        self.place = match chunk {
            [.., b'\r', b'\n'] => Place::LineStart,
            [b'\n'] if self.place == Place::AfterCr => Place::LineStart,
            [.., b'\r'] => Place::AfterCr,
            _ => Place::Inside,
        };
        self.rest = rest;
        Some(chunk)
    }
}

impl<I> Framed<'_, I> {
    /// How much can go out before the next dot to double.
    fn cut(&self) -> usize {
        if self.place == Place::AfterCr && self.rest.starts_with(b"\n") {
            return 1;
        }
        memmem::find(self.rest, b"\r\n.").map_or(self.rest.len(), |at| at + 2)
    }

    fn end(&mut self) -> Option<&'static [u8]> {
        match std::mem::replace(&mut self.place, Place::End) {
            Place::LineStart => Some(b".\r\n"),
            Place::AfterCr | Place::Inside => Some(b"\r\n.\r\n"),
            Place::End => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;
    use crate::adapters::lmtp::{Session, Step};

    fn wire(message: &Pieces) -> Vec<u8> {
        framed(message).collect::<Vec<_>>().concat()
    }

    /// The message as our own server reads it.
    fn read_back(wire: &[u8]) -> Bytes {
        let mut session = Session::new("x", 1000);
        let mut input = BytesMut::from(&b"LHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<b@x>\r\nDATA\r\n"[..]);
        input.extend_from_slice(wire);
        let Step::Answer(transaction) = session.receive(&mut input) else { panic!("no end in {wire:?}") };
        assert!(input.is_empty(), "the message {wire:?} ended too early");
        transaction.message
    }

    fn pieces(parts: &[&[u8]]) -> Pieces {
        let mut pieces = Pieces::default();
        parts.iter().for_each(|part| pieces.push(part.to_vec()));
        pieces
    }

    /// Every sequence of up to `length` of these words.
    fn messages(words: &[&str], length: usize) -> Vec<String> {
        let mut all = vec![String::new()];
        let mut longest = all.clone();
        for _ in 0..length {
            longest = longest.iter().flat_map(|head| words.iter().map(move |word| format!("{head}{word}"))).collect();
            all.extend_from_slice(&longest);
        }
        all
    }

    #[test]
    fn what_is_written_is_read_back_octet_for_octet_wherever_pieces_meet() {
        for message in messages(&[".", "\r\n", "\r", "a"], 6) {
            let message = message.as_bytes();
            let ends_line = message.is_empty() || message.ends_with(b"\r\n");
            let expected = if ends_line { message.to_vec() } else { [message, b"\r\n"].concat() };
            let whole = wire(&pieces(&[message]));
            assert_eq!(read_back(&whole), expected);
            for (first, last) in
                (0..=message.len()).flat_map(|first| (first..=message.len()).map(move |last| (first, last)))
            {
                let split = pieces(&[&message[..first], &message[first..last], &message[last..]]);
                assert_eq!(wire(&split), whole, "{message:?} split at {first} and {last}");
            }
        }
    }

    #[test]
    fn the_framing_is_the_least_there_can_be() {
        assert_eq!(wire(&Pieces::default()), b".\r\n");
        assert_eq!(wire(&pieces(&[b"a"])), b"a\r\n.\r\n");
        assert_eq!(wire(&pieces(&[b"a\r\n"])), b"a\r\n.\r\n");
        assert_eq!(wire(&pieces(&[b".a.\r", b"\n", b".b\r\n"])), b"..a.\r\n..b\r\n.\r\n");
    }

    #[test]
    fn a_long_message_is_not_cut_into_lines() {
        let message = pieces(&[b"a\r\nb\r\nc\r\n", b"d\r\n"]);
        assert_eq!(framed(&message).count(), 3);
    }

    #[test]
    fn a_bare_line_feed_is_seen_wherever_pieces_meet() {
        assert!(!has_bare_line_feed(&pieces(&[b"a\r", b"\n", b"\r\nb\rc"])));
        assert!(has_bare_line_feed(&pieces(&[b"\na"])));
        assert!(has_bare_line_feed(&pieces(&[b"a\r\n", b"\n.\r\n"])));
        assert!(has_bare_line_feed(&pieces(&[b"a\n.\r\n"])));
    }
}
