//! What a provider and its mailboxes make of ordinary mail, which needs no anomaly envelope where nobody wants it (§3.2.2
//! leaves that to the provider).
//!
//! The administrator's table: one line per mailbox that differs, `address anomaly`, `address refuse` or `address forward
//! ADDRESS`. Decided here is where each recipient's copy goes; that a queue file holds only one message is the
//! operation's affair. Messages from a provider that are not correct are not ordinary mail and never come here.

use crate::model::{Address, MailboxTable, MailboxTableError, OrdinaryPolicy};

/// What a line of the table looks like.
const FORM: &str = "address anomaly|refuse|forward ADDRESS";

/// The policy of the provider and of its mailboxes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OrdinaryMail {
    /// For mailboxes without a line.
    pub policy: OrdinaryPolicy,
    pub mailboxes: MailboxTable<OrdinaryPolicy>,
    /// Whether the mailbox server is asked before ordinary mail is accepted.
    pub asks_mailboxes: bool,
}

/// Where the copies of an ordinary message go: forward paths, as the client wrote them, and whose go on elsewhere.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Routes {
    pub enveloped: Vec<String>,
    pub refused: Vec<String>,
    pub forwarded: Vec<Forwarded>,
}

/// A recipient whose copy goes on to another address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forwarded {
    /// The forward path, as the client wrote it.
    pub mailbox: String,
    pub to: Address,
}

impl OrdinaryMail {
    /// Reads the table, or says everything that is wrong with it.
    pub fn parse_mailboxes(text: &str) -> Result<MailboxTable<OrdinaryPolicy>, Vec<MailboxTableError>> {
        MailboxTable::parse(text, FORM, |words| match words {
            ["anomaly"] => Some(OrdinaryPolicy::Anomaly),
            ["refuse"] => Some(OrdinaryPolicy::Refuse),
            ["forward", address] => address.parse().ok().map(OrdinaryPolicy::Forward),
            _ => None,
        })
    }

    /// Where each recipient's copy goes; what is no address for us has the provider's policy.
    pub fn routes(&self, recipients: &[String]) -> Routes {
        let mut routes = Routes::default();
        for recipient in recipients {
            let of_mailbox = recipient.parse().ok().and_then(|address| self.mailboxes.value_of(&address));
            match of_mailbox.unwrap_or(&self.policy) {
                OrdinaryPolicy::Anomaly => routes.enveloped.push(recipient.clone()),
                OrdinaryPolicy::Refuse => routes.refused.push(recipient.clone()),
                OrdinaryPolicy::Forward(to) => {
                    routes.forwarded.push(Forwarded { mailbox: recipient.clone(), to: to.clone() });
                }
            }
        }
        routes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mailbox_decides_before_its_provider() {
        let table = "anna@alfa.example anomaly\nbruno@alfa.example forward Ordinaria@gamma.example\n";
        let mailboxes = OrdinaryMail::parse_mailboxes(table).unwrap();
        let ordinary = OrdinaryMail { policy: OrdinaryPolicy::Refuse, mailboxes, asks_mailboxes: true };
        let to = ["Anna@ALFA.example", "bruno@alfa.example", "carla@alfa.example", "odd", "\"bruno\"@alfa.example"];
        let routes = ordinary.routes(&to.map(str::to_owned));
        assert_eq!(routes.enveloped, ["Anna@ALFA.example"]);
        assert_eq!(routes.refused, ["carla@alfa.example", "odd"]);
        let to: Address = "ordinaria@gamma.example".parse().unwrap();
        let of = |mailbox: &str| Forwarded { mailbox: mailbox.into(), to: to.clone() };
        assert_eq!(routes.forwarded, ["bruno@alfa.example", "\"bruno\"@alfa.example"].map(of));
    }

    #[test]
    fn a_line_names_a_policy_and_where_to_forward() {
        let errors = OrdinaryMail::parse_mailboxes("a@x.example forward\nb@x.example reject\nc@x.example forward no\n");
        let texts: Vec<String> = errors.unwrap_err().iter().map(ToString::to_string).collect();
        assert_eq!(texts.len(), 3);
        assert_eq!(
            texts[0],
            "line 1: found \"forward\" for a@x.example; expected `address anomaly|refuse|forward ADDRESS`"
        );
    }
}
