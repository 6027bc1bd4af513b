//! The file taken apart: values are asked for by key, and what is wrong is gathered, not returned one by one.
//!
//! A key that was never asked for is unknown. Nothing is decided about values here (`params`) or between them (`section`).
//! The tree of the TOML parser is walked directly, not through serde, which stops at the first error.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use crate::config::params::Value;
use crate::model::Address;

/// How much of an odd value its error shows.
const EXCERPT: usize = 60;

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigErrors {
    #[error("{}: the configuration cannot be read", file.display())]
    Unreadable {
        file: PathBuf,
        #[source]
        source: io::Error,
    },
    /// Everything that is wrong, in the order of the file.
    #[error("{}", .0.iter().map(ConfigError::to_string).collect::<Vec<_>>().join("\n"))]
    Invalid(Vec<ConfigError>),
}

/// One thing that is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {problem}", place(file, *line, key.as_deref()))]
pub struct ConfigError {
    pub file: PathBuf,
    /// None for what is nowhere in the file.
    pub line: Option<usize>,
    /// `section.key`, `section`, or none for a file that is not TOML.
    pub key: Option<String>,
    pub problem: Problem,
}

/// What is wrong, with the accepted form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    #[error("not TOML: {0}")]
    Syntax(String),
    #[error("unknown section; the sections are {}", .0.join(", "))]
    UnknownSection(Vec<&'static str>),
    #[error("unknown key; known keys here are {}", .0.join(", "))]
    UnknownKey(Vec<&'static str>),
    #[error("not a section; write [{0}] on a line of its own and its keys below")]
    NotASection(String),
    #[error("missing; expected {0}")]
    Missing(&'static str),
    #[error("found {found}, expected {form}")]
    Form { found: String, form: &'static str },
    #[error("{0} lies in none of provider.mail_domains; add its domain there or choose another address")]
    OutsideMailDomains(Address),
    #[error("found {0}, expected posta-certificata@ and the provider's own domain")]
    SendingLocalPart(Address),
    #[error("{0} stands there twice; write each domain once")]
    RepeatedDomain(String),
    #[error("no key; expected private_key and certificate, or pkcs12, or pkcs11_module and its companions")]
    NoKey,
    #[error("more than one form of the key; keep one of private_key, pkcs12 and pkcs11_module with what belongs to it")]
    TwoKeys,
    #[error("both forms of the logins' map; keep either map, or sqlite and query")]
    TwoLoginMaps,
    #[error("nobody could send: name the map that lists the senders (map, sqlite or certificates), or take this out")]
    NobodyListed,
    #[error("only for a key in files; take this out, the token has its own")]
    OnlyForFiles,
    #[error("only for a key in a token; set {0}, or take this out")]
    OnlyForToken(&'static str),
    #[error("only for policy = \"forward\"; set ordinary.policy to that or take this out")]
    UnusedForward,
    #[error("only beside {0}; set that too or take this out")]
    OnlyBeside(&'static str),
    #[error("not beside {0}; keep one of the two")]
    NotBeside(&'static str),
    #[error("the same socket as {0}; each needs its own path")]
    SameSocket(&'static str),
    #[error("found {found}, expected {least} to {most} (§3.1.6)")]
    OutsideTimeout { found: u64, least: u64, most: u64 },
    #[error("found {found}, expected more than timeouts.first_seconds, which is {first}")]
    FinalBeforeFirst { found: u64, first: u64 },
    #[error("found {found}, expected at least {least} (DM 2-11-2005 art. 12)")]
    BelowDecree { found: u64, least: u64 },
    #[error("found {found}, expected {least} to {most}")]
    Outside { found: u64, least: u64, most: u64 },
}

/// Where the keys of a configuration were set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Origin {
    file: PathBuf,
    /// By `section.key`.
    lines: BTreeMap<String, usize>,
}

impl Origin {
    pub(super) fn is_set(&self, key: &str) -> bool {
        self.lines.contains_key(key)
    }

    pub(super) fn location(&self, key: &str) -> String {
        place(&self.file, self.lines.get(key).copied(), Some(key))
    }
}

/// A file that is TOML.
pub(super) struct Document<'i> {
    text: &'i str,
    root: DeTable<'i>,
    origin: Origin,
    /// Every `section.key` asked for.
    known: Vec<&'static str>,
    errors: Vec<ConfigError>,
}

impl<'i> Document<'i> {
    pub(super) fn parse(file: &Path, text: &'i str) -> Result<Self, ConfigErrors> {
        let (root, errors) = DeTable::parse_recoverable(text);
        if !errors.is_empty() {
            let error = |error: &toml::de::Error| ConfigError {
                file: file.to_owned(),
                line: error.span().map(|span| line_of(text, &span)),
                key: None,
                problem: Problem::Syntax(error.message().to_owned()),
            };
            return Err(ConfigErrors::Invalid(errors.iter().map(error).collect()));
        }
        let root = root.into_inner();
        let origin = Origin { file: file.to_owned(), lines: lines(text, &root) };
        Ok(Document { text, root, origin, known: Vec::new(), errors: Vec::new() })
    }

    pub(super) fn origin(&self) -> Origin {
        self.origin.clone()
    }

    /// A value that may be left out.
    pub(super) fn optional<T: Value>(&mut self, key: &'static str) -> Option<T> {
        self.known.push(key);
        let (section, name) = split(key);
        let value = self.root.get(section)?.get_ref().get(name)?;
        match T::read(value) {
            Ok(value) => Some(value),
            Err(span) => {
                let found = excerpt(self.text, &span);
                let line = line_of(self.text, &span);
                self.errors.push(self.error(Some(line), key, Problem::Form { found, form: T::FORM }));
                None
            }
        }
    }

    /// A value with a default.
    pub(super) fn or<T: Value>(&mut self, key: &'static str, default: T) -> T {
        self.optional(key).unwrap_or(default)
    }

    /// A value that must be there; none is noted as an error.
    pub(super) fn required<T: Value>(&mut self, key: &'static str) -> Option<T> {
        let value = self.optional(key);
        if !self.origin.is_set(key) {
            let line = self.origin.lines.get(split(key).0).copied();
            self.errors.push(self.error(line, key, Problem::Missing(T::FORM)));
        }
        value
    }

    /// Notes what a rule across the keys of one section found, unless the keys themselves are wrong already.
    pub(super) fn note(&mut self, found: impl IntoIterator<Item = (&'static str, Problem)>) {
        let wrong: Vec<String> =
            self.errors.iter().filter_map(|error| Some(split(error.key.as_deref()?).0.to_owned())).collect();
        for (key, problem) in found {
            if !wrong.iter().any(|section| section == split(key).0) {
                let line = self.origin.lines.get(key).copied();
                self.errors.push(self.error(line, key, problem));
            }
        }
    }

    /// Gives back what was read, if nothing was wrong and every key of the file was asked for.
    ///
    /// A caller that read nothing (none) has an error noted for it.
    pub(super) fn finish<T>(mut self, read: Option<T>) -> Result<T, ConfigErrors> {
        let unknown = self.unknown();
        self.errors.extend(unknown);
        match read {
            Some(value) if self.errors.is_empty() => Ok(value),
            _ => {
                self.errors.sort_by_key(|error| error.line.unwrap_or(usize::MAX));
                Err(ConfigErrors::Invalid(self.errors))
            }
        }
    }

    fn unknown(&self) -> Vec<ConfigError> {
        let mut sections: Vec<&'static str> = self.known.iter().map(|key| split(key).0).collect();
        sections.dedup();
        let mut errors = Vec::new();
        for (section, content) in &self.root {
            let (name, line) = (section.get_ref().as_ref(), Some(line_of(self.text, &section.span())));
            if !sections.contains(&name) {
                errors.push(self.error(line, name, Problem::UnknownSection(sections.clone())));
                continue;
            }
            let DeValue::Table(table) = content.get_ref() else {
                errors.push(self.error(line, name, Problem::NotASection(name.to_owned())));
                continue;
            };
            let here: Vec<&'static str> =
                self.known.iter().map(|key| split(key)).filter(|key| key.0 == name).map(|key| key.1).collect();
            for key in table.keys().filter(|key| !here.contains(&key.get_ref().as_ref())) {
                let line = Some(line_of(self.text, &key.span()));
                let full = format!("{name}.{}", key.get_ref());
                errors.push(self.error(line, &full, Problem::UnknownKey(here.clone())));
            }
        }
        errors
    }

    fn error(&self, line: Option<usize>, key: &str, problem: Problem) -> ConfigError {
        ConfigError { file: self.origin.file.clone(), line, key: Some(key.to_owned()), problem }
    }
}

/// The lines of all sections and keys, known or not.
fn lines(text: &str, root: &DeTable) -> BTreeMap<String, usize> {
    let mut lines = BTreeMap::new();
    for (section, content) in root {
        lines.insert(section.get_ref().to_string(), line_of(text, &section.span()));
        for key in content.get_ref().as_table().into_iter().flat_map(|table| table.keys()) {
            lines.insert(format!("{}.{}", section.get_ref(), key.get_ref()), line_of(text, &key.span()));
        }
    }
    lines
}

fn split(key: &str) -> (&str, &str) {
    key.split_once('.').unwrap_or((key, ""))
}

fn line_of(text: &str, span: &Range<usize>) -> usize {
    1 + text.bytes().take(span.start).filter(|byte| *byte == b'\n').count()
}

fn excerpt(text: &str, span: &Range<usize>) -> String {
    let value = text.get(span.clone()).unwrap_or_default();
    value.chars().map(|c| if c.is_control() { ' ' } else { c }).take(EXCERPT).collect()
}

fn place(file: &Path, line: Option<usize>, key: Option<&str>) -> String {
    let mut place = file.display().to_string();
    if let Some(line) = line {
        place += &format!(":{line}");
    }
    if let Some(key) = key {
        place += &format!(": {key}");
    }
    place
}
