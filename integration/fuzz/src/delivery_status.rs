//! Delivery status notifications: what is read is bounded and fit for a notice, and line ends do not matter.

use bytes::Bytes;
use pec_milter::message::delivery_status::{Action, DeliveryStatus};

const MOST_RECIPIENTS: usize = 20_000;
const LONGEST_TEXT: usize = 1_000;

pub fn delivery_status(octets: &[u8]) {
    let report = DeliveryStatus::read(Bytes::copy_from_slice(octets));
    if let Some(report) = &report {
        assert!(report.recipients.len() <= MOST_RECIPIENTS);
        for recipient in &report.recipients {
            assert!(recipient.original.is_some() || recipient.last.is_some());
            assert!(!recipient.status.contains(char::is_whitespace));
            for text in [&recipient.diagnostic, &recipient.remote].into_iter().flatten() {
                let is_fit = !text.is_empty() && !text.chars().any(char::is_control);
                assert!(is_fit && text.chars().count() <= LONGEST_TEXT, "{text:?}");
            }
        }
        let is_failed = report.recipients.iter().any(|recipient| recipient.action == Action::Failed);
        assert_eq!(report.tells_a_failure(), is_failed);
    }
    if let Some(with_lf) = with_lf(octets) {
        let other = DeliveryStatus::read(Bytes::from(with_lf));
        assert_eq!(facts(&other), facts(&report), "with LF in place of CRLF");
    }
}

fn facts(report: &Option<DeliveryStatus>) -> Option<impl PartialEq + std::fmt::Debug> {
    report.as_ref().map(|report| (report.queue_id.clone(), report.recipients.clone(), report.envelope()))
}

/// The message as a mailbox on disk has it; `None` where CR and LF do not always stand together.
fn with_lf(octets: &[u8]) -> Option<Vec<u8>> {
    let text: Vec<u8> = octets.iter().copied().filter(|octet| *octet != b'\r').collect();
    let lines: Vec<&[u8]> = text.split(|octet| *octet == b'\n').collect();
    (lines.join(&b"\r\n"[..]) == octets).then_some(text)
}
