//! A configuration as a file again, defaults written out and marked, as `check-config` prints it.
//!
//! What is printed reads as the same configuration.

use std::fmt;

use crate::config::Config;
use crate::config::params::Value;
use crate::config::section::Section;

impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut print = Printer { config: self, f, section: "" };
        self.provider.print(&mut print)?;
        self.key.print(&mut print)?;
        self.next_key.print(&mut print)?;
        self.trust.print(&mut print)?;
        self.directory.print(&mut print)?;
        self.senders.print(&mut print)?;
        self.tls.print(&mut print)?;
        self.limits.print(&mut print)?;
        self.receipts.print(&mut print)?;
        self.ordinary.print(&mut print)?;
        self.timeouts.print(&mut print)?;
        self.listen.print(&mut print)?;
        self.postfix.print(&mut print)?;
        self.dovecot.print(&mut print)?;
        self.log.print(&mut print)?;
        self.virus.print(&mut print)?;
        self.metrics.print(&mut print)
    }
}

/// Writes keys one after the other, with the heads of their sections.
pub(super) struct Printer<'c, 'f, 'b> {
    config: &'c Config,
    f: &'f mut fmt::Formatter<'b>,
    section: &'static str,
}

impl Printer<'_, '_, '_> {
    pub(super) fn value<T: Value>(&mut self, key: &'static str, value: &T) -> fmt::Result {
        let name = self.name(key)?;
        let mark = if self.config.origin.is_set(key) { "" } else { "  # default" };
        writeln!(self.f, "{name} = {}{mark}", value.write())
    }

    pub(super) fn optional<T: Value>(&mut self, key: &'static str, value: Option<&T>) -> fmt::Result {
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
