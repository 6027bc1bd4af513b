//! `[key]`: the provider's signing key and certificate (§5.5), in files or in a hardware token (§5.1).
//! `[next_key]`: the one that follows, with the instant from which it signs. Both have the same keys.

use std::fmt;
use std::path::PathBuf;

use super::{Found, Section};
use crate::config::Problem;
use crate::config::effective::Printer;
use crate::config::format::Document;
use crate::config::params::{Engine, Value};
use crate::model::TemporalReference;

/// More than a single token is faster with, and what modules allow for.
const SESSIONS: u64 = 4;
const MOST_SESSIONS: u64 = 64;

/// The provider's signing key and certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    pub material: KeyMaterial,
    /// Certificates that signed before: what they signed may still wait in Postfix's queue.
    pub previous_certificates: Vec<PathBuf>,
}

/// The key that follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NextKey {
    pub material: KeyMaterial,
    pub starts: TemporalReference,
}

/// Where a key is, and what works with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyMaterial {
    pub source: KeySource,
    /// The file whose first line opens the key.
    pub passphrase_file: Option<PathBuf>,
    pub engine: Engine,
}

/// Where a signing key and its certificate are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// Two PEM files; the certificate's may hold intermediates after it.
    Pem { private_key: PathBuf, certificate: PathBuf },
    /// Both in one PKCS#12 file.
    Pkcs12(PathBuf),
    /// The key in a token.
    Token(TokenKey),
}

/// A key in a PKCS#11 token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenKey {
    /// The library that speaks to the token.
    pub module: PathBuf,
    /// The token's label.
    pub token: String,
    /// The private key's label.
    pub key: String,
    /// The file whose first line opens the token.
    pub pin_file: PathBuf,
    /// How many signatures are made at a time, at most.
    pub sessions: u64,
    /// PEM; may hold intermediates after it.
    pub certificate: PathBuf,
}

impl Section for Key {
    fn read(document: &mut Document) -> Option<Self> {
        let material = KeyMaterial::read(document, &KEY);
        let previous_certificates = document.or("key.previous_certificates", Vec::new());
        let material = noted(document, material)?;
        Some(Key { material, previous_certificates })
    }

    fn print(&self, print: &mut Printer) -> fmt::Result {
        self.material.print(print, &KEY)?;
        print.value("key.previous_certificates", &self.previous_certificates)
    }
}

impl Section for Option<NextKey> {
    fn read(document: &mut Document) -> Option<Self> {
        let material = KeyMaterial::read(document, &NEXT_KEY);
        let starts = document.optional("next_key.starts");
        match (material, starts) {
            (Err((_, Problem::NoKey)), None) => Some(None),
            (material, None) => {
                let missing = ("next_key.starts", Problem::Missing(TemporalReference::FORM));
                document.note(material.err().into_iter().chain([missing]));
                None
            }
            (material, Some(starts)) => Some(Some(NextKey { material: noted(document, material)?, starts })),
        }
    }

    fn print(&self, print: &mut Printer) -> fmt::Result {
        if let Some(next) = self {
            next.material.print(print, &NEXT_KEY)?;
        }
        print.optional("next_key.starts", self.as_ref().map(|next| &next.starts))
    }
}

fn noted(document: &mut Document, material: Result<KeyMaterial, Found>) -> Option<KeyMaterial> {
    material.map_err(|found| document.note([found])).ok()
}

/// What the keys of a section are called.
struct Names {
    section: &'static str,
    private_key: &'static str,
    certificate: &'static str,
    pkcs12: &'static str,
    passphrase_file: &'static str,
    engine: &'static str,
    module: &'static str,
    token: &'static str,
    key: &'static str,
    pin_file: &'static str,
    sessions: &'static str,
}

macro_rules! names {
    ($section:literal) => {
        Names {
            section: $section,
            private_key: concat!($section, ".private_key"),
            certificate: concat!($section, ".certificate"),
            pkcs12: concat!($section, ".pkcs12"),
            passphrase_file: concat!($section, ".passphrase_file"),
            engine: concat!($section, ".engine"),
            module: concat!($section, ".pkcs11_module"),
            token: concat!($section, ".pkcs11_token"),
            key: concat!($section, ".pkcs11_key"),
            pin_file: concat!($section, ".pin_file"),
            sessions: concat!($section, ".pkcs11_sessions"),
        }
    };
}

const KEY: Names = names!("key");
const NEXT_KEY: Names = names!("next_key");

/// What stands in a section, before it is known which form of key it is.
struct Written {
    private_key: Option<PathBuf>,
    certificate: Option<PathBuf>,
    pkcs12: Option<PathBuf>,
    passphrase_file: Option<PathBuf>,
    engine: Option<Engine>,
    module: Option<PathBuf>,
    token: Option<String>,
    key: Option<String>,
    pin_file: Option<PathBuf>,
    sessions: Option<u64>,
}

impl KeyMaterial {
    fn read(document: &mut Document, names: &Names) -> Result<Self, Found> {
        let written = Written {
            private_key: document.optional(names.private_key),
            certificate: document.optional(names.certificate),
            pkcs12: document.optional(names.pkcs12),
            passphrase_file: document.optional(names.passphrase_file),
            engine: document.optional(names.engine),
            module: document.optional(names.module),
            token: document.optional(names.token),
            key: document.optional(names.key),
            pin_file: document.optional(names.pin_file),
            sessions: document.optional(names.sessions),
        };
        match written.module {
            Some(_) => in_token(written, names),
            None => in_files(written, names),
        }
    }

    fn print(&self, print: &mut Printer, names: &Names) -> fmt::Result {
        match &self.source {
            KeySource::Pem { private_key, certificate } => {
                print.value(names.private_key, private_key)?;
                print.value(names.certificate, certificate)?;
            }
            KeySource::Pkcs12(file) => print.value(names.pkcs12, file)?,
            KeySource::Token(token) => {
                print.value(names.certificate, &token.certificate)?;
                print.value(names.module, &token.module)?;
                print.value(names.token, &token.token)?;
                print.value(names.key, &token.key)?;
                print.value(names.pin_file, &token.pin_file)?;
                return print.value(names.sessions, &token.sessions);
            }
        }
        print.optional(names.passphrase_file, self.passphrase_file.as_ref())?;
        print.value(names.engine, &self.engine)
    }
}

fn in_files(written: Written, names: &Names) -> Result<KeyMaterial, Found> {
    let Written { private_key, certificate, pkcs12, passphrase_file, engine, token, key, pin_file, sessions, .. } =
        written;
    let of_token = [
        token.map(|_| names.token),
        key.map(|_| names.key),
        pin_file.map(|_| names.pin_file),
        sessions.map(|_| names.sessions),
    ];
    if let Some(name) = of_token.into_iter().flatten().next() {
        return Err((name, Problem::OnlyForToken(names.module)));
    }
    let has_more = passphrase_file.is_some() || engine.is_some();
    let source = match (private_key, certificate, pkcs12) {
        (Some(private_key), Some(certificate), None) => KeySource::Pem { private_key, certificate },
        (None, None, Some(file)) => KeySource::Pkcs12(file),
        (_, _, Some(_)) => return Err((names.pkcs12, Problem::TwoKeys)),
        (Some(_), None, None) => {
            return Err((names.certificate, Problem::Missing("the certificate of private_key, PEM")));
        }
        (None, Some(_), None) => {
            return Err((names.private_key, Problem::Missing("the private key of certificate, PEM, or pkcs11_module")));
        }
        (None, None, None) if has_more => {
            return Err((names.private_key, Problem::Missing("the private key, PEM, or pkcs12 in its place")));
        }
        (None, None, None) => return Err((names.section, Problem::NoKey)),
    };
    Ok(KeyMaterial { source, passphrase_file, engine: engine.unwrap_or(Engine::AwsLcRs) })
}

fn in_token(written: Written, names: &Names) -> Result<KeyMaterial, Found> {
    let Written { private_key, certificate, pkcs12, passphrase_file, engine, module, token, key, pin_file, sessions } =
        written;
    let other_forms = [private_key.map(|_| names.private_key), pkcs12.map(|_| names.pkcs12)];
    if let Some(name) = other_forms.into_iter().flatten().next() {
        return Err((name, Problem::TwoKeys));
    }
    let of_files = [passphrase_file.map(|_| names.passphrase_file), engine.map(|_| names.engine)];
    if let Some(name) = of_files.into_iter().flatten().next() {
        return Err((name, Problem::OnlyForFiles));
    }
    let missing = |name, what| (name, Problem::Missing(what));
    let sessions = sessions.unwrap_or(SESSIONS);
    if !(1..=MOST_SESSIONS).contains(&sessions) {
        return Err((names.sessions, Problem::Outside { found: sessions, least: 1, most: MOST_SESSIONS }));
    }
    let source = KeySource::Token(TokenKey {
        module: module.ok_or(missing(names.module, "the PKCS#11 library of the token"))?,
        token: token
            .ok_or(missing(names.token, "the label of the token, as pkcs11-tool --list-token-slots tells it"))?,
        key: key.ok_or(missing(names.key, "the label of the private key in the token"))?,
        pin_file: pin_file.ok_or(missing(names.pin_file, "the file with the user PIN of the token, mode 0600"))?,
        sessions,
        certificate: certificate.ok_or(missing(names.certificate, "the certificate of the key in the token, PEM"))?,
    });
    Ok(KeyMaterial { source, passphrase_file: None, engine: Engine::AwsLcRs })
}
