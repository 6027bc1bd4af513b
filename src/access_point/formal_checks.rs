//! The formal checks on a submission (§3.1.1), one function per bullet, in its order; all defects are named at once.

use std::collections::HashSet;

use bytes::Bytes;
use memchr::{memchr, memchr_iter};

use super::Submission;
use crate::message::address_list::{AddressListError, addresses, mailboxes};
use crate::message::defect::Defect;
use crate::message::encode::carried_subject;
use crate::message::header::Header;
use crate::message::mime::Entity;
use crate::model::Address;

/// Postfix cuts a longer field before a milter sees it, so the original could not be kept whole.
pub const LONGEST_HEADER_FIELD: usize = 60_000;
/// All header fields together, in octets. Of one that is larger the later fields come by name alone.
pub const LARGEST_HEADER: usize = 1024 * 1024;
/// RFC 5322 §2.1.1, without the line end.
const LONGEST_LINE: usize = 998;
/// RFC 5322 §3.6 and RFC 2045 §3.
const SINGLE_FIELDS: [&str; 14] = [
    "Date",
    "From",
    "Sender",
    "Reply-To",
    "To",
    "Cc",
    "Bcc",
    "Message-ID",
    "In-Reply-To",
    "References",
    "Subject",
    "MIME-Version",
    "Content-Type",
    "Content-Transfer-Encoding",
];

/// The limits a provider sets (§3.1.1; at least 30 MB and 50 recipients by law).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub recipients: usize,
    /// Octets of the message times its recipients.
    pub product: u64,
}

/// Every defect of a submission; none when it may become an envelope.
pub fn formal_checks(submission: &Submission, header: &Header, limits: &Limits) -> Vec<Defect> {
    if header.body_start > LARGEST_HEADER {
        // What it lacks may stand in the fields that did not come whole.
        return vec![Defect::LargeHeader];
    }
    let mut defects = Vec::new();
    defects.extend(from_holds_one_address(header, submission.sender));
    let (to, cc) = (named(header, "To", addresses), named(header, "Cc", addresses));
    defects.extend(to_holds_addresses(&to));
    defects.extend(cc.is_err().then_some(Defect::MalformedCc));
    if let (Ok(to), Ok(cc)) = (&to, &cc) {
        defects.extend(recipients_are_named(submission.recipients, to.as_deref(), cc.as_deref()));
    }
    defects.extend(bcc_is_empty(header));
    defects.extend(size_is_within(submission, limits));
    defects.extend(header_is_well_formed(header));
    defects.extend(lines_are_well_formed(submission.message));
    defects.extend(mime_is_well_formed(submission.message));
    defects
}

/// The addresses of all fields of a name, by the grammar of that field; `None` without such a field.
fn named(
    header: &Header,
    name: &str,
    read: fn(&[u8]) -> Result<Vec<Address>, AddressListError>,
) -> Result<Option<Vec<Address>>, ()> {
    let mut found = None;
    for field in header.all(name) {
        found.get_or_insert_with(Vec::new).extend(read(field.raw_value()).map_err(|_| ())?);
    }
    Ok(found)
}

fn from_holds_one_address(header: &Header, sender: &Address) -> Option<Defect> {
    match named(header, "From", mailboxes) {
        Err(()) => Some(Defect::MalformedFrom),
        Ok(None) => Some(Defect::NoFrom),
        Ok(Some(authors)) => match authors.as_slice() {
            [] => Some(Defect::MalformedFrom),
            [author] if author == sender => None,
            [author] => Some(Defect::AuthorMismatch { author: author.clone(), sender: sender.clone() }),
            _ => Some(Defect::SeveralAuthors),
        },
    }
}

fn to_holds_addresses(to: &Result<Option<Vec<Address>>, ()>) -> Option<Defect> {
    match to {
        Ok(None) => Some(Defect::NoTo),
        Ok(Some(addresses)) if !addresses.is_empty() => None,
        Ok(Some(_)) | Err(()) => Some(Defect::MalformedTo),
    }
}

fn recipients_are_named(recipients: &[Address], to: Option<&[Address]>, cc: Option<&[Address]>) -> Vec<Defect> {
    let named: HashSet<&Address> = to.into_iter().chain(cc).flatten().collect();
    let unnamed = recipients.iter().filter(|recipient| !named.contains(recipient));
    unnamed.map(|recipient| Defect::UnnamedRecipient(recipient.clone())).collect()
}

fn bcc_is_empty(header: &Header) -> Option<Defect> {
    header.all("Bcc").any(|field| !field.text().is_empty()).then_some(Defect::BlindCopy)
}

fn size_is_within(submission: &Submission, limits: &Limits) -> Vec<Defect> {
    let count = submission.recipients.len();
    let mut defects = Vec::new();
    if count > limits.recipients {
        defects.push(Defect::TooManyRecipients { count, limit: limits.recipients });
    }
    // The message counts once per recipient. Saturating: both factors come from outside.
    let product = (submission.message.len() as u64).saturating_mul(count as u64);
    if product > limits.product {
        defects.push(Defect::TooLarge { product, limit: limits.product });
    }
    defects
}

fn header_is_well_formed(header: &Header) -> Vec<Defect> {
    let mut defects = Vec::new();
    if header.malformed_lines() > 0 {
        defects.push(Defect::MalformedHeader);
    }
    // The envelope's own subject is encoded and has a prefix, so less fits.
    let is_carried = |text: String| carried_subject(&text).len() == text.len();
    let is_subject_carried = header.first("Subject").is_none_or(|field| is_carried(field.decoded()));
    if !is_subject_carried || header.fields().any(|field| field.line().len() > LONGEST_HEADER_FIELD) {
        defects.push(Defect::LongHeader);
    }
    let repeated = SINGLE_FIELDS.into_iter().filter(|name| header.all(name).nth(1).is_some());
    defects.extend(repeated.map(Defect::RepeatedField));
    defects
}

fn lines_are_well_formed(message: &[u8]) -> Vec<Defect> {
    let mut defects = Vec::new();
    let (mut start, mut has_long, mut has_bare) = (0, false, false);
    for end in memchr_iter(b'\n', message) {
        let line = message.get(start..end).unwrap_or_default();
        let text = line.strip_suffix(b"\r");
        has_bare |= text.is_none();
        has_long |= text.unwrap_or(line).len() > LONGEST_LINE;
        start = end + 1;
    }
    has_long |= message.len() - start > LONGEST_LINE;
    has_bare |= memchr_iter(b'\r', message).any(|at| message.get(at + 1) != Some(&b'\n'));
    if has_long {
        defects.push(Defect::LongLine);
    }
    if has_bare {
        defects.push(Defect::BareLineEnd);
    }
    if memchr(0, message).is_some() {
        defects.push(Defect::Nul);
    }
    defects
}

/// Multipart entities can be taken apart at every depth, and none is encoded (RFC 2045 §6.4).
fn mime_is_well_formed(message: &Bytes) -> Option<Defect> {
    fn is_whole(entity: &Entity) -> bool {
        if !entity.content_type.is_multipart() {
            return true;
        }
        let is_plain = matches!(entity.header().transfer_encoding().as_str(), "7bit" | "8bit" | "binary");
        is_plain && entity.parts().is_ok_and(|parts| !parts.is_empty() && parts.iter().all(is_whole))
    }
    (!is_whole(&Entity::read(message.clone()))).then_some(Defect::BrokenMime)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { recipients: 3, product: 10_000 };
    const GOOD: &str = "From: Anna <anna@alfa.example>\r\nTo: amici: bruno@beta.example;\r\nCc: \"C\" <carla@alfa.example>\r\n\r\nCiao\r\n";

    fn check(message: &str, recipients: &[&str]) -> Vec<Defect> {
        let sender = "anna@alfa.example".parse().unwrap();
        let recipients: Vec<Address> = recipients.iter().map(|text| text.parse().unwrap()).collect();
        let message = Bytes::from(message.to_owned());
        let submission = Submission { sender: &sender, recipients: &recipients, message: &message };
        formal_checks(&submission, &Header::read(&message), &LIMITS)
    }

    fn defect_of(from: &str, to: &str) -> Vec<Defect> {
        assert!(GOOD.contains(from), "{from}");
        check(&GOOD.replacen(from, to, 1), &["bruno@beta.example"])
    }

    #[test]
    fn a_header_that_is_too_large_is_not_looked_at_further() {
        let large = |octets: usize| format!("\r\nX: {}\r\n\r\n", "a\r\n b".repeat(octets / 5));
        assert_eq!(defect_of("From: Anna <anna@alfa.example>\r\n", &large(LARGEST_HEADER)[2..]), [Defect::LargeHeader]);
        assert!(!defect_of("\r\n\r\n", &large(LARGEST_HEADER / 2)).contains(&Defect::LargeHeader));
    }

    #[test]
    fn a_well_formed_submission_has_no_defect() {
        assert_eq!(check(GOOD, &["BRUNO@beta.example", "carla@alfa.example"]), []);
        let mime = "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b--\r\n";
        assert_eq!(defect_of("\r\nCiao\r\n", mime), []);
        assert_eq!(defect_of("Ciao\r\n", ""), []);
        assert_eq!(defect_of("Ciao", &"a".repeat(998)), []);
    }

    #[test]
    fn the_author_is_the_sender_and_nobody_else() {
        let author = "From: Anna <anna@alfa.example>";
        assert_eq!(defect_of(author, "X: y"), [Defect::NoFrom]);
        for from in [
            "",
            "Anna",
            "\"anna@alfa.example\"",
            "(anna@alfa.example)",
            "anna@alfa.example <x@y.example",
            "amici:;",
            "carla: anna@alfa.example;",
        ] {
            assert_eq!(defect_of(author, &format!("From: {from}")), [Defect::MalformedFrom], "{from}");
        }
        for from in ["\"anna@alfa.example\" <carla@alfa.example>", "carla@alfa.example (anna@alfa.example)"] {
            assert!(
                matches!(defect_of(author, &format!("From: {from}"))[..], [Defect::AuthorMismatch { .. }]),
                "{from}"
            );
        }
        assert_eq!(defect_of(author, "From: anna@alfa.example, carla@alfa.example"), [Defect::SeveralAuthors]);
        let two_fields = defect_of(author, "From: anna@alfa.example\r\nFrom: carla@alfa.example");
        assert_eq!(two_fields, [Defect::SeveralAuthors, Defect::RepeatedField("From")]);
    }

    #[test]
    fn every_recipient_is_named() {
        let to = "To: amici: bruno@beta.example;";
        assert_eq!(
            defect_of(to, "X: y"),
            [Defect::NoTo, Defect::UnnamedRecipient("bruno@beta.example".parse().unwrap())]
        );
        assert_eq!(defect_of(to, "To: undisclosed-recipients:;").first(), Some(&Defect::MalformedTo));
        assert_eq!(defect_of(to, "To: Bruno"), [Defect::MalformedTo]);
        assert_eq!(defect_of("\"C\" <carla@alfa.example>", "carla@"), [Defect::MalformedCc]);
        let hidden = check(GOOD, &["mario@gamma.example"]);
        assert_eq!(hidden, [Defect::UnnamedRecipient("mario@gamma.example".parse().unwrap())]);
        assert_eq!(defect_of("\r\n\r\n", "\r\nBcc: x@y.example\r\n\r\n"), [Defect::BlindCopy]);
        assert_eq!(defect_of("\r\n\r\n", "\r\nBcc:\r\n\r\n"), []);
    }

    #[test]
    fn a_message_counts_once_per_recipient() {
        let message = format!("{GOOD}{}", "0123456789\r\n".repeat(400));
        assert_eq!(check(&message, &["bruno@beta.example", "carla@alfa.example"]), []);
        let with_cc = message.replace("Cc: ", "Cc: d@alfa.example, e@alfa.example, ");
        let four = ["bruno@beta.example", "carla@alfa.example", "d@alfa.example", "e@alfa.example"];
        assert!(matches!(
            check(&with_cc, &four)[..],
            [Defect::TooManyRecipients { count: 4, limit: 3 }, Defect::TooLarge { .. }]
        ));
    }

    #[test]
    fn what_is_not_an_internet_message_is_named() {
        for (to, expected) in [
            ("a\rb", Defect::BareLineEnd),
            ("a\nb", Defect::BareLineEnd),
            ("a\0b", Defect::Nul),
            (&"a".repeat(999)[..], Defect::LongLine),
        ] {
            assert_eq!(defect_of("Ciao", to), [expected], "{to:?}");
        }
        assert_eq!(defect_of("\r\n\r\n", "\r\nno field\r\n\r\n"), [Defect::MalformedHeader]);
        assert_eq!(defect_of("\r\n\r\n", "\r\nSubject: a\r\nSUBJECT: b\r\n\r\n"), [Defect::RepeatedField("Subject")]);
        for name in SINGLE_FIELDS {
            let twice = format!("From: anna@alfa.example\r\nTo: bruno@beta.example\r\n{name}: a\r\n{name}: a\r\n\r\n");
            assert!(check(&twice, &[]).contains(&Defect::RepeatedField(name)), "{name}");
        }
        let long = format!("\r\nX: a{}\r\n\r\n", "\r\n aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa".repeat(1500));
        assert!(defect_of("\r\n\r\n", &long).contains(&Defect::LongHeader));
        let long = format!("\r\nSubject: a{}\r\n\r\n", "\r\n aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa".repeat(750));
        assert!(defect_of("\r\n\r\n", &long).contains(&Defect::LongHeader));
        for mime in [
            "Content-Type: multipart/mixed\r\n\r\nx",
            "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nx",
            "Content-Type: multipart/mixed; boundary=b\r\nContent-Transfer-Encoding: base64\r\n\r\n--b\r\n\r\nx\r\n--b--",
        ] {
            assert_eq!(defect_of("\r\nCiao", mime), [Defect::BrokenMime], "{mime}");
        }
    }
}
