//! What becomes of a report that Postfix itself wrote about mail it could not deliver (§3.3.3, §2.2.2).
//!
//! A user of certified mail is told by a certified notice, never by Postfix. So a report about a transport envelope goes
//! to the hop, which knows the transaction; one that tells no failure tells nothing that a receipt would not tell, and
//! is dropped. Reports about anything else are not touched. That the report is Postfix's own is the caller's promise:
//! only what bounce(8) writes passes the bounces milter.

use bytes::Bytes;

use crate::message::delivery_status::DeliveryStatus;
use crate::model::PecMsgid;

/// What is done with a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Redirection {
    /// It is about no certified message: it goes to whom it is addressed.
    None,
    /// It tells of a delay or a success: nobody gets it.
    Drop(PecMsgid),
    /// The trigger takes the place of its recipients.
    ToHop(PecMsgid),
}

/// Decides on one message that Postfix wrote; `sender` is its reverse path, empty in a report (RFC 3464 §2).
pub fn redirect(sender: &str, message: Bytes) -> Redirection {
    let report = sender.is_empty().then(|| DeliveryStatus::read(message)).flatten();
    let Some((report, id)) = report.and_then(|report| report.envelope().map(|id| (report, id))) else {
        return Redirection::None;
    };
    if report.tells_a_failure() { Redirection::ToHop(id) } else { Redirection::Drop(id) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(action: &str, announced: &str) -> Bytes {
        Bytes::from(format!(
            "Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n\
             --b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx\r\n\r\n\
             Final-Recipient: rfc822; bruno@beta.example\r\nAction: {action}\r\nStatus: 5.1.1\r\n\r\n\
             --b\r\nContent-Type: text/rfc822-headers\r\n\r\n{announced}\r\nMessage-ID: <pec.1@alfa.example>\r\n\r\n\
             --b--\r\n"
        ))
    }

    #[test]
    fn a_failure_of_an_envelope_goes_to_the_hop_and_other_news_of_it_to_nobody() {
        let id: PecMsgid = "pec.1@alfa.example".parse().unwrap();
        let of_envelope = |action| redirect("", report(action, "X-Trasporto: posta-certificata"));
        assert_eq!(of_envelope("failed"), Redirection::ToHop(id.clone()));
        for action in ["delayed", "delivered", "relayed", "expanded"] {
            assert_eq!(of_envelope(action), Redirection::Drop(id.clone()), "{action}");
        }
    }

    #[test]
    fn reports_about_other_messages_and_other_messages_are_not_touched() {
        assert_eq!(redirect("", report("failed", "X-Ricevuta: presa-in-carico")), Redirection::None);
        assert_eq!(redirect("", report("failed", "X-Trasporto: errore")), Redirection::None);
        assert_eq!(redirect("", Bytes::from_static(b"Subject: s\r\n\r\ntext")), Redirection::None);
        let from_somebody = redirect("anna@alfa.example", report("failed", "X-Trasporto: posta-certificata"));
        assert_eq!(from_somebody, Redirection::None);
    }
}
