//! The message between `354` and the final dot, taken out of its framing (RFC 5321 §4.5.2).
//!
//! Only `<CRLF>.<CRLF>` ends a message, and only a dot after `<CRLF>` is framing: a server that also honours a bare LF
//! can be made to see two messages where another saw one. Every other octet is kept as it came. A message above the
//! limit is drained and forgotten.

use bytes::{Buf, Bytes, BytesMut};
use memchr::memmem;

/// The message outgrew the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooLong;

/// A message on its way in.
#[derive(Debug)]
pub(super) struct Body {
    message: BytesMut,
    limit: usize,
    too_long: bool,
    at_line_start: bool,
}

impl Body {
    /// `expected` is the size the client declared: the buffer then grows once.
    pub(super) fn new(expected: usize, limit: usize) -> Self {
        let message = BytesMut::with_capacity(expected.min(limit));
        Body { message, limit, too_long: false, at_line_start: true }
    }

    /// Takes what the input tells for certain, and returns the message once its end was seen.
    ///
    /// Up to two octets stay in the input when only the next ones tell what they are.
    pub(super) fn feed(&mut self, input: &mut BytesMut) -> Option<Result<Bytes, TooLong>> {
        loop {
            if self.at_line_start && input.first() == Some(&b'.') {
                if input.starts_with(b".\r\n") {
                    input.advance(3);
                    return Some(self.finish());
                }
                if b".\r\n".starts_with(input) {
                    return None;
                }
                input.advance(1);
                self.at_line_start = false;
            } else if let Some(at) = memmem::find(input, b"\r\n.") {
                self.take(input, at + 2);
                self.at_line_start = true;
            } else {
                let undecided = usize::from(input.ends_with(b"\r"));
                let certain = input.len() - undecided;
                if certain > 0 {
                    self.at_line_start = input.ends_with(b"\r\n");
                    self.take(input, certain);
                }
                return None;
            }
        }
    }

    fn take(&mut self, input: &mut BytesMut, count: usize) {
        let octets = input.get(..count).unwrap_or_default();
        self.too_long |= self.message.len() + octets.len() > self.limit;
        if self.too_long {
            self.message = BytesMut::new();
        } else {
            self.message.extend_from_slice(octets);
        }
        input.advance(octets.len());
    }

    fn finish(&mut self) -> Result<Bytes, TooLong> {
        if self.too_long { Err(TooLong) } else { Ok(self.message.split().freeze()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 1000;

    /// The message and what was left in the input; `None` while the end was not seen.
    fn read(wire: &[u8], slice: usize) -> Option<(Result<Bytes, TooLong>, Vec<u8>)> {
        let mut body = Body::new(0, LIMIT);
        let mut input = BytesMut::new();
        let mut fed = 0;
        for part in wire.chunks(slice) {
            fed += part.len();
            input.extend_from_slice(part);
            if let Some(end) = body.feed(&mut input) {
                input.extend_from_slice(&wire[fed..]);
                return Some((end, input.to_vec()));
            }
        }
        None
    }

    fn message(wire: &[u8]) -> Vec<u8> {
        let whole = read(wire, wire.len()).expect("the message ends");
        for slice in 1..wire.len() {
            assert_eq!(read(wire, slice).as_ref(), Some(&whole), "in slices of {slice}");
        }
        assert_eq!(whole.1, b"");
        whole.0.expect("the message is within the limit").to_vec()
    }

    #[test]
    fn the_framing_is_taken_off_and_nothing_else() {
        assert_eq!(message(b".\r\n"), b"");
        assert_eq!(message(b"\r\n.\r\n"), b"\r\n");
        assert_eq!(message(b"a\r\n..\r\n.\r\n"), b"a\r\n.\r\n");
        assert_eq!(message(b"...a\r\nb.c\r\n.d\r\n.\r\n"), b"..a\r\nb.c\r\nd\r\n");
        assert_eq!(message(b"a\rb\nc\r\r\n\x00\xff\r\n.\r\n"), b"a\rb\nc\r\r\n\x00\xff\r\n");
    }

    #[test]
    fn only_crlf_dot_crlf_ends_a_message() {
        for smuggled in
            ["\n.\n", "\n.\r\n", "\r.\r", "\r\n.\n", "\r\n.\r", "\r.\r\n", "\n.\r", "\r\n.\r\r\n", "\r\n.\0\r\n"]
        {
            let wire = format!("a{smuggled}MAIL FROM:<x@y>\r\n.\r\n");
            let expected = format!("a{}MAIL FROM:<x@y>\r\n", smuggled.replace("\r\n.", "\r\n"));
            assert_eq!(message(wire.as_bytes()), expected.as_bytes(), "{smuggled:?}");
        }
    }

    #[test]
    fn what_follows_the_end_stays_in_the_input() {
        let (end, rest) = read(b"a\r\n.\r\nQUIT\r\n", 100).unwrap();
        assert_eq!((end.unwrap().as_ref(), rest.as_slice()), (&b"a\r\n"[..], &b"QUIT\r\n"[..]));
    }

    #[test]
    fn a_message_above_the_limit_is_drained() {
        let exact = [vec![b'a'; LIMIT - 2], b"\r\n.\r\n".to_vec()].concat();
        assert_eq!(message(&exact).len(), LIMIT);
        let over = [vec![b'a'; LIMIT - 1], b"\r\n.\r\nQUIT\r\n".to_vec()].concat();
        for slice in [1, 7, LIMIT, over.len()] {
            assert_eq!(read(&over, slice), Some((Err(TooLong), b"QUIT\r\n".to_vec())));
        }
    }
}
