//! `[ordinary]`: what becomes of ordinary mail.

use std::fmt;
use std::path::PathBuf;

use super::{Found, Section};
use crate::config::Problem;
use crate::config::effective::Printer;
use crate::config::format::Document;
use crate::config::params::{OrdinaryPolicyName, Value};
use crate::model::{Address, OrdinaryPolicy};

/// What becomes of ordinary mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ordinary {
    /// For mailboxes that the map does not name.
    pub policy: OrdinaryPolicy,
    pub map: Option<PathBuf>,
    /// Whether Dovecot is asked before ordinary mail is accepted, so that what it refuses is not bounced.
    pub ask_mailboxes: bool,
}

impl Section for Ordinary {
    fn read(document: &mut Document) -> Option<Self> {
        let policy = document.or("ordinary.policy", OrdinaryPolicyName::Anomaly);
        let forward_to = document.optional("ordinary.forward_to");
        let map = document.optional("ordinary.map");
        let ask_mailboxes = document.or("ordinary.ask_mailboxes", true);
        match policy_of(policy, forward_to) {
            Ok(policy) => Some(Ordinary { policy, map, ask_mailboxes }),
            Err(error) => {
                document.note([error]);
                None
            }
        }
    }

    fn print(&self, print: &mut Printer) -> fmt::Result {
        let (policy, forward_to) = match &self.policy {
            OrdinaryPolicy::Anomaly => (OrdinaryPolicyName::Anomaly, None),
            OrdinaryPolicy::Refuse => (OrdinaryPolicyName::Refuse, None),
            OrdinaryPolicy::Forward(address) => (OrdinaryPolicyName::Forward, Some(address)),
        };
        print.value("ordinary.policy", &policy)?;
        print.optional("ordinary.forward_to", forward_to)?;
        print.optional("ordinary.map", self.map.as_ref())?;
        print.value("ordinary.ask_mailboxes", &self.ask_mailboxes)
    }
}

fn policy_of(policy: OrdinaryPolicyName, forward_to: Option<Address>) -> Result<OrdinaryPolicy, Found> {
    match (policy, forward_to) {
        (OrdinaryPolicyName::Anomaly, None) => Ok(OrdinaryPolicy::Anomaly),
        (OrdinaryPolicyName::Refuse, None) => Ok(OrdinaryPolicy::Refuse),
        (OrdinaryPolicyName::Forward, Some(address)) => Ok(OrdinaryPolicy::Forward(address)),
        (OrdinaryPolicyName::Forward, None) => Err(("ordinary.forward_to", Problem::Missing(Address::FORM))),
        (_, Some(_)) => Err(("ordinary.forward_to", Problem::UnusedForward)),
    }
}
