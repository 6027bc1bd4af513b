//! A configuration as a file again, defaults written out and marked, as `check-config` prints it.
//!
//! What is printed reads as the same configuration.

use std::fmt;

use crate::config::params::Value;
use crate::config::{Config, KeySource};

impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut print = Printer { config: self, f, section: "" };
        print.value("provider.name", &self.provider.name)?;
        print.value("provider.sending_address", &self.provider.sending_address)?;
        print.value("provider.service_mailbox", &self.provider.service_mailbox)?;
        print.value("provider.mail_domains", &self.provider.mail_domains)?;
        match &self.key.source {
            KeySource::Pem { private_key, certificate } => {
                print.value("key.private_key", private_key)?;
                print.value("key.certificate", certificate)?;
            }
            KeySource::Pkcs12(file) => print.value("key.pkcs12", file)?,
        }
        print.optional("key.passphrase_file", self.key.passphrase_file.as_ref())?;
        print.value("key.engine", &self.key.engine)?;
        print.value("trust.ca_file", &self.trust.ca_file)?;
        print.value("trust.accept_sha1", &self.trust.accept_sha1)?;
        print.optional("directory.ldif", self.directory.ldif.as_ref())?;
        print.optional("senders.map", self.senders.map.as_ref())?;
        print.value("limits.message_bytes", &self.limits.message_bytes)?;
        print.value("limits.product_bytes", &self.limits.product_bytes)?;
        print.value("limits.recipients", &self.limits.recipients)?;
        print.value("timeouts.first_seconds", &self.timeouts.first_seconds)?;
        print.value("timeouts.final_seconds", &self.timeouts.final_seconds)?;
        print.value("listen.access", &self.listen.access)?;
        print.value("listen.incoming", &self.listen.incoming)?;
        print.value("listen.bounces", &self.listen.bounces)?;
        print.value("listen.lmtp", &self.listen.lmtp)?;
        print.value("listen.socket_group", &self.listen.socket_group)?;
        print.value("postfix.inject", &self.postfix.inject)?;
        print.value("dovecot.lmtp", &self.dovecot.lmtp)?;
        print.value("log.database", &self.log.database)
    }
}

struct Printer<'c, 'f, 'b> {
    config: &'c Config,
    f: &'f mut fmt::Formatter<'b>,
    section: &'static str,
}

impl Printer<'_, '_, '_> {
    fn value<T: Value>(&mut self, key: &'static str, value: &T) -> fmt::Result {
        let name = self.name(key)?;
        let mark = if self.config.origin.is_set(key) { "" } else { "  # default" };
        writeln!(self.f, "{name} = {}{mark}", value.write())
    }

    fn optional<T: Value>(&mut self, key: &'static str, value: Option<&T>) -> fmt::Result {
        match value {
            Some(value) => self.value(key, value),
            None => {
                let name = self.name(key)?;
                writeln!(self.f, "# {name} is not set")
            }
        }
    }

    /// The name of a key within its section, whose head is written when it begins.
    fn name(&mut self, key: &'static str) -> Result<&'static str, fmt::Error> {
        let (section, name) = key.split_once('.').unwrap_or(("", key));
        if section != self.section {
            let gap = if self.section.is_empty() { "" } else { "\n" };
            writeln!(self.f, "{gap}[{section}]")?;
            self.section = section;
        }
        Ok(name)
    }
}
