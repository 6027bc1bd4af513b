//! `[provider]`: who this provider is (§4.5).

use std::collections::HashSet;
use std::fmt;

use super::{Found, Section};
use crate::config::Problem;
use crate::config::effective::Printer;
use crate::config::format::Document;
use crate::model::Provider;

/// The local part that every provider's own messages come from (§2.2.6, §3.1.4).
const SENDING_LOCAL_PART: &str = "posta-certificata";

impl Section for Provider {
    fn read(document: &mut Document) -> Option<Self> {
        let name = document.required("provider.name");
        let sending_address = document.required("provider.sending_address");
        let service_mailbox = document.required("provider.service_mailbox");
        let mail_domains = document.required("provider.mail_domains");
        let provider = Provider {
            name: name?,
            sending_address: sending_address?,
            service_mailbox: service_mailbox?,
            mail_domains: mail_domains?,
        };
        document.note(rules(&provider));
        Some(provider)
    }

    fn print(&self, print: &mut Printer) -> fmt::Result {
        print.value("provider.name", &self.name)?;
        print.value("provider.sending_address", &self.sending_address)?;
        print.value("provider.service_mailbox", &self.service_mailbox)?;
        print.value("provider.mail_domains", &self.mail_domains)
    }
}

fn rules(provider: &Provider) -> Vec<Found> {
    let mut found = Vec::new();
    let sending = &provider.sending_address;
    if !sending.local_part().eq_ignore_ascii_case(SENDING_LOCAL_PART) {
        found.push(("provider.sending_address", Problem::SendingLocalPart(sending.clone())));
    }
    for (key, address) in
        [("provider.sending_address", sending), ("provider.service_mailbox", &provider.service_mailbox)]
    {
        if !provider.manages(address) {
            found.push((key, Problem::OutsideMailDomains(address.clone())));
        }
    }
    let mut seen = HashSet::new();
    for domain in provider.mail_domains.iter().filter(|domain| !seen.insert(*domain)) {
        found.push(("provider.mail_domains", Problem::RepeatedDomain(domain.to_string())));
    }
    found
}
