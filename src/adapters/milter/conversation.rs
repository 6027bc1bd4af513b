//! One message while Postfix hands it over: envelope and octets, exactly as they came.

use bytes::Bytes;

use crate::access_point::{LARGEST_HEADER, LONGEST_HEADER_FIELD};
use crate::model::{Address, User};

/// No mail has so many header fields; each costs Postfix a search through all others when it is replaced, so a message with
/// more cannot be replaced by a notice either.
pub(super) const MOST_FIELDS: usize = 2000;
/// What the names of fields may add to a header that is too large.
const ROOM_FOR_NAMES: usize = LARGEST_HEADER;

/// What is known of the message in transfer.
#[derive(Debug, Default)]
pub struct Conversation {
    /// The reverse path without angle brackets.
    pub sender: String,
    /// For a submission: who was identified, and the reverse path, found to belong to that user.
    pub submitter: Option<Submitter>,
    /// The forward paths without angle brackets.
    pub recipients: Vec<String>,
    message: Vec<u8>,
    fields: usize,
    /// Where the body begins, once it has begun.
    body_begins: Option<usize>,
    defect: Option<Untransferable>,
}

/// Who submits a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submitter {
    pub user: User,
    pub address: Address,
}

/// Why a message cannot be taken over whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Untransferable {
    /// Over the hard limit, in octets.
    TooLarge(usize),
    /// A header field that Postfix cut: the message would not pass as it is.
    CutHeader,
    /// More header than a message has, in octets or in fields.
    LargeHeader,
}

impl Conversation {
    pub fn new(sender: String, submitter: Option<Submitter>) -> Self {
        Conversation { sender, submitter, ..Default::default() }
    }

    /// A header field; `value` has its own leading blank and folds with LF (`LEADING_SPACE`). A CR in it is the message's
    /// own, also at the end of a line: what is checked is what stays in Postfix's queue file.
    pub fn header(&mut self, name: &[u8], value: &[u8]) {
        // In a submission the formal checks find what is left of it too long, and its sender gets a notice.
        if value.len() >= LONGEST_HEADER_FIELD && self.submitter.is_none() {
            self.defect = Some(Untransferable::CutHeader);
        }
        self.fields += 1;
        let is_submission = self.submitter.is_some();
        let largest = if is_submission { LARGEST_HEADER + ROOM_FOR_NAMES } else { LARGEST_HEADER };
        // The formal checks find it too large; the notice in its place needs the names, to delete the fields.
        let value = if is_submission && self.message.len() > LARGEST_HEADER { &b""[..] } else { value };
        if self.fields > MOST_FIELDS || self.message.len() + name.len() + value.len() > largest {
            self.defect = Some(Untransferable::LargeHeader);
        }
        if self.defect == Some(Untransferable::LargeHeader) {
            self.message = Vec::new();
            return;
        }
        self.message.extend_from_slice(name);
        self.message.push(b':');
        for (index, line) in value.split(|byte| *byte == b'\n').enumerate() {
            if index > 0 {
                self.message.extend_from_slice(b"\r\n");
            }
            self.message.extend_from_slice(line);
        }
        self.message.extend_from_slice(b"\r\n");
    }

    /// A piece of the body.
    pub fn body(&mut self, piece: &[u8], limit: usize) {
        self.end_header();
        if self.message.len() + piece.len() > limit {
            self.defect = Some(Untransferable::TooLarge(limit));
            // What is refused anyway need not lie in memory, but for what tells which message it was.
            self.message.truncate(self.body_begins.unwrap_or_default());
            self.message.shrink_to_fit();
        }
        if self.defect.is_none() {
            self.message.extend_from_slice(piece);
        }
    }

    /// The whole message, once.
    pub fn take_message(&mut self) -> Result<Bytes, Untransferable> {
        self.end_header();
        match self.defect {
            Some(defect) => Err(defect),
            None => Ok(Bytes::from(std::mem::take(&mut self.message))),
        }
    }

    /// The header of a message that is not taken over; nothing where there was too much of it.
    pub fn head(&self) -> &[u8] {
        self.message.get(..self.body_begins.unwrap_or(self.message.len())).unwrap_or_default()
    }

    fn end_header(&mut self) {
        if self.body_begins.is_none() {
            self.message.extend_from_slice(b"\r\n");
            self.body_begins = Some(self.message.len());
        }
    }
}

/// The address in a MAIL or RCPT argument: what stands between the angle brackets, if there are any.
pub fn path(argument: &[u8]) -> String {
    let text = String::from_utf8_lossy(argument);
    let text = text.trim();
    text.strip_prefix('<').and_then(|rest| rest.strip_suffix('>')).unwrap_or(text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::header::Header;

    #[test]
    fn a_message_is_put_together_as_it_came() {
        let mut conversation = Conversation::new("a@b.example".into(), None);
        conversation.header(b"Subject", b" one\n\ttwo");
        conversation.header(b"X-Empty", b"");
        conversation.body(b"body\r\n", 100);
        conversation.body(b"more", 100);
        assert_eq!(&conversation.take_message().unwrap()[..], b"Subject: one\r\n\ttwo\r\nX-Empty:\r\n\r\nbody\r\nmore");
        assert_eq!(&Conversation::default().take_message().unwrap()[..], b"\r\n");
    }

    #[test]
    fn a_cr_that_postfix_left_at_a_lines_end_stays() {
        let mut conversation = Conversation::default();
        conversation.header(b"X-Mailer", b" Client\r");
        conversation.header(b"To", b" a@x.example,\r\n b@y.example");
        let expected = b"X-Mailer: Client\r\r\nTo: a@x.example,\r\r\n b@y.example\r\n\r\n";
        assert_eq!(&conversation.take_message().unwrap()[..], expected);
    }

    #[test]
    fn what_cannot_be_taken_over_whole_is_said() {
        let mut large = Conversation::default();
        large.header(b"Subject", b" s");
        large.body(&[b'a'; 60], 50);
        large.body(b"b", 50);
        assert_eq!(large.take_message(), Err(Untransferable::TooLarge(50)));
        assert_eq!(large.head(), b"Subject: s\r\n\r\n");
        let mut cut = Conversation::default();
        cut.header(b"To", &vec![b'a'; LONGEST_HEADER_FIELD]);
        assert_eq!(cut.take_message(), Err(Untransferable::CutHeader));
        let submitter = Submitter { user: User::Login("a".into()), address: "a@b.example".parse().unwrap() };
        let mut submission = Conversation::new("a@b.example".into(), Some(submitter));
        submission.header(b"To", &vec![b'a'; LONGEST_HEADER_FIELD]);
        assert!(submission.take_message().is_ok());
    }

    #[test]
    fn a_header_without_end_is_not_kept() {
        let mut many = Conversation::default();
        (0..=MOST_FIELDS).for_each(|_| many.header(b"a", b""));
        assert_eq!(many.take_message(), Err(Untransferable::LargeHeader));
        let mut large = Conversation::default();
        (0..40).for_each(|_| large.header(b"a", &[b'x'; 30_000]));
        assert_eq!(large.take_message(), Err(Untransferable::LargeHeader));
    }

    #[test]
    fn a_submission_with_a_large_header_keeps_the_names_of_its_fields() {
        let submitter = Submitter { user: User::Login("a".into()), address: "a@b.example".parse().unwrap() };
        let submission = || Conversation::new("a@b.example".into(), Some(submitter.clone()));
        let mut large = submission();
        (0..400).for_each(|_| large.header(b"Name", &[b'x'; 50_000]));
        let message = large.take_message().unwrap();
        assert!((LARGEST_HEADER..LARGEST_HEADER + 60_000).contains(&message.len()), "{}", message.len());
        assert_eq!(Header::read(&message).all("Name").count(), 400);

        let mut named = submission();
        (0..100).for_each(|_| named.header(&[b'n'; 50_000], b"x"));
        assert_eq!(named.take_message(), Err(Untransferable::LargeHeader));
        assert_eq!(named.head(), b"\r\n");
        let mut many = submission();
        (0..=MOST_FIELDS).for_each(|_| many.header(b"a", b""));
        assert_eq!(many.take_message(), Err(Untransferable::LargeHeader));
    }

    #[test]
    fn a_path_stands_between_angle_brackets_or_alone() {
        assert_eq!(path(b"<anna@alfa.example>"), "anna@alfa.example");
        assert_eq!(path(b"<>"), "");
        assert_eq!(path(b"anna@alfa.example"), "anna@alfa.example");
    }
}
