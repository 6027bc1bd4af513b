//! The Delivery Point (§2.2.3, §3.3): what the mailbox server's answer means, what the MTA's report of a failure means,
//! and which receipt a recipient gives.

mod brief;

pub use brief::brief;

use crate::message::address_list::addresses;
use crate::message::header::Header;
use crate::message::notification::Failure;
use crate::model::{Address, ReceiptType};

/// What became of an envelope for one recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The mailbox holds it.
    Stored,
    /// It never will.
    Refused(Failure),
    /// Not known yet: the MTA tries again.
    Open,
}

/// The outcome that a mailbox server's reply means.
pub fn outcome(code: u16, text: &str) -> Outcome {
    match code {
        200..=299 => Outcome::Stored,
        500..=599 => Outcome::Refused(Failure::from_status(permanent_status(text))),
        _ => Outcome::Open,
    }
}

/// What one recipient's outcome is when several mailboxes stand behind it: stored as soon as one holds the message,
/// refused when all refuse it, as the first of them did. Nothing where there is no mailbox.
pub fn combined<'a>(outcomes: impl IntoIterator<Item = &'a Outcome>) -> Option<&'a Outcome> {
    outcomes.into_iter().min_by_key(|outcome| match outcome {
        Outcome::Stored => 0,
        Outcome::Open => 1,
        Outcome::Refused(_) => 2,
    })
}

/// The failure that the MTA reports of one recipient, by the status code of its report (§3.3.3).
///
/// A temporary status means that it gave up after the queue lifetime (§2.2.2): whatever kept the message waiting, the
/// sender is told that the time is over (RFC 3463 §3.5, 5.4.7). A domain that nothing routes to is told as unknown, which is
/// what it is in most cases and what 5.1.2 stands for.
pub fn reported_failure(status: &str) -> Failure {
    match status {
        "5.4.4" => Failure::from_status("5.1.2"),
        _ if status.starts_with("4.") => Failure::from_status("5.4.7"),
        _ => Failure::from_status(permanent_status(status)),
    }
}

/// The enhanced status code a reply begins with (RFC 3463); `5.0.0` where it has none.
fn permanent_status(text: &str) -> &str {
    let word = text.split_whitespace().next().unwrap_or_default();
    let mut numbers = word.split('.');
    let class = numbers.next() == Some("5");
    let is_number = |number: Option<&str>| {
        number.is_some_and(|digits| (1..=3).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let has_form = is_number(numbers.next()) && is_number(numbers.next()) && numbers.next().is_none();
    if class && has_form { word } else { "5.0.0" }
}

/// The receipt type that one recipient gives (§3.3.2): what was requested to primary recipients, and to those whom `To`
/// and `Cc` leave in doubt; a concise one to copied recipients. The signed original tells them apart.
pub fn issued_receipt(requested: ReceiptType, recipient: &Address, original: &[u8]) -> ReceiptType {
    let header = Header::read(original);
    let names =
        |field| header.all(field).any(|field| addresses(field.raw_value()).is_ok_and(|all| all.contains(recipient)));
    let to_is_readable = header.all("To").all(|field| addresses(field.raw_value()).is_ok());
    if to_is_readable && !names("To") && names("Cc") { ReceiptType::Concise } else { requested }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_tells_the_outcome() {
        assert_eq!(outcome(250, "2.0.0 saved"), Outcome::Stored);
        assert_eq!(outcome(451, "4.2.2 later"), Outcome::Open);
        let status = |text| match outcome(550, text) {
            Outcome::Refused(failure) => failure.reason("ACME"),
            other => panic!("{other:?}"),
        };
        assert_eq!(status("5.1.1 <x> User doesn't exist"), "5.1.1 - ACME - indirizzo non valido");
        assert_eq!(status("5.2.2 full"), "5.2.2 - ACME - casella piena");
        assert_eq!(status("no code"), "5.0.0 - ACME - messaggio rifiutato dal sistema di destinazione");
        assert_eq!(status("4.1.1 odd"), "5.0.0 - ACME - messaggio rifiutato dal sistema di destinazione");
    }

    #[test]
    fn one_stored_copy_is_enough_and_one_open_mailbox_keeps_it_open() {
        let refused = |status| Outcome::Refused(Failure::from_status(status));
        let (unknown, full) = (refused("5.1.1"), refused("5.2.2"));
        assert_eq!(combined([&unknown, &Outcome::Open, &Outcome::Stored]), Some(&Outcome::Stored));
        assert_eq!(combined([&unknown, &Outcome::Open]), Some(&Outcome::Open));
        assert_eq!(combined([&full, &unknown]), Some(&full));
        assert_eq!(combined([]), None);
    }

    #[test]
    fn a_report_tells_the_failure() {
        let reason = |status| reported_failure(status).reason("ACME");
        assert_eq!(reason("5.1.1"), "5.1.1 - ACME - indirizzo non valido");
        assert_eq!(reason("5.1.2"), "5.1.2 - ACME - dominio non valido");
        assert_eq!(reason("5.4.4"), "5.1.2 - ACME - dominio non valido");
        assert_eq!(reason("5.2.1"), "5.2.1 - ACME - casella inibita alla ricezione");
        assert_eq!(reason("4.4.1"), "5.4.7 - ACME - tempo massimo superato");
        assert_eq!(reason("4.2.2"), "5.4.7 - ACME - tempo massimo superato");
        for odd in ["", "5", "5.x.1", "2.0.0", "5.1.1.1"] {
            assert_eq!(reason(odd), "5.0.0 - ACME - messaggio rifiutato dal sistema di destinazione", "{odd}");
        }
    }

    #[test]
    fn a_copied_recipient_gives_a_concise_receipt() {
        let issued = |header: &str| {
            let original = format!("{header}\r\n\r\n");
            issued_receipt(ReceiptType::Complete, &"bruno@beta.example".parse().unwrap(), original.as_bytes())
        };
        assert_eq!(issued("To: Bruno@beta.example\r\nCc: c@x.example"), ReceiptType::Complete);
        assert_eq!(issued("To: a@x.example\r\nCc: B <bruno@BETA.example>"), ReceiptType::Concise);
        assert_eq!(issued("To: bruno@beta.example\r\nCc: bruno@beta.example"), ReceiptType::Complete);
        assert_eq!(issued("To: a@x.example"), ReceiptType::Complete);
        assert_eq!(issued("To: garbage,\r\nCc: bruno@beta.example"), ReceiptType::Complete);
    }
}
