//! Which texts are which values, and back.
//!
//! A value that was read is valid by itself; whether it agrees with others is left to `section`. What is not the accepted
//! form gives the place of the part that is wrong, so that an error in a long list names the line of its element.

use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::DeValue;
use url::Url;

use crate::directory::VerifiedDomain;
use crate::model::{Address, Domain, TemporalReference};
use crate::smime::WithoutList;

/// `sun_path` of unix(7) holds 108 octets with its NUL.
const LONGEST_SOCKET_PATH: usize = 107;
const UNIX: &str = "unix:";
/// §4.5: where the directory is rooted.
const DIRECTORY_BASE: &str = "o=postacert";

/// A type that a key of the configuration can have.
pub(super) trait Value: Sized {
    /// The accepted form, as errors tell it.
    const FORM: &'static str;

    /// Reads a value, or gives the place in the file of what is not of the form.
    fn read(value: &Spanned<DeValue>) -> Result<Self, Range<usize>>;

    /// The value as TOML.
    fn write(&self) -> String;
}

/// What computes the signatures of a key in software.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// `aws-lc-rs`: about four times as fast.
    AwsLcRs,
    /// `rsa`: Rust alone.
    Rsa,
}

/// What a provider makes of ordinary mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OrdinaryPolicyName {
    Anomaly,
    Refuse,
    Forward,
}

/// What holds of a certificate while there is no revocation list in date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WithoutListName(pub WithoutList);

/// A unix socket: an absolute path that fits a socket address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnixSocket(pub(super) PathBuf);

/// A TCP address that only this machine reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoopbackAddress(pub(super) SocketAddr);

/// Where the providers directory is given out: a file over HTTPS, or LDAP with TLS, from the first octet (`ldaps:`) or
/// before anything is asked (`ldap:`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectoryUrl {
    text: String,
    url: Url,
}

/// A time stamping authority, over HTTP or HTTPS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TsaUrl(Url);

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    Unix(UnixSocket),
    Tcp(SocketAddr),
}

/// A server of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LocalEndpoint {
    Unix(UnixSocket),
    Tcp(LoopbackAddress),
}

impl DirectoryUrl {
    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub fn is_ldap(&self) -> bool {
        self.url.scheme() != "https"
    }

    /// Scheme, host and port of an LDAP server.
    pub fn ldap_server(&self) -> Url {
        let mut server = self.url.clone();
        server.set_path("");
        server
    }

    /// The entry below which an LDAP server holds the directory.
    pub fn ldap_base(&self) -> String {
        let base = self.url.path().trim_start_matches('/');
        match percent_decoded(base) {
            Some(base) if !base.is_empty() => base,
            _ => DIRECTORY_BASE.to_owned(),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let url = Url::parse(text).ok()?;
        let is_known = ["https", "ldaps", "ldap"].contains(&url.scheme());
        let is_bare = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
        let is_simple = url.scheme() == "https" || url.query().is_none() && percent_decoded(url.path()).is_some();
        let has_host = url.host_str().is_some_and(|host| !host.is_empty());
        (is_known && is_bare && is_simple && has_host).then(|| DirectoryUrl { text: text.to_owned(), url })
    }
}

impl TsaUrl {
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// A password in a URL would stand in logs.
    fn parse(text: &str) -> Option<Self> {
        let url = Url::parse(text).ok()?;
        let is_bare = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
        (is_bare && ["http", "https"].contains(&url.scheme())).then_some(TsaUrl(url))
    }
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(octet) = rest.next() {
        octets.push(match octet {
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            other => other,
        });
    }
    String::from_utf8(octets).ok()
}

impl UnixSocket {
    pub fn path(&self) -> &Path {
        &self.0
    }

    fn parse(text: &str) -> Option<Self> {
        let path = absolute(text.strip_prefix(UNIX)?)?;
        (path.as_os_str().len() <= LONGEST_SOCKET_PATH).then_some(UnixSocket(path))
    }

    fn text(&self) -> String {
        format!("{UNIX}{}", self.0.display())
    }
}

impl LoopbackAddress {
    pub fn socket_addr(self) -> SocketAddr {
        self.0
    }
}

impl Value for bool {
    const FORM: &'static str = "true or false";

    fn read(value: &Spanned<DeValue>) -> Result<Self, Range<usize>> {
        value.get_ref().as_bool().ok_or_else(|| value.span())
    }

    fn write(&self) -> String {
        self.to_string()
    }
}

impl Value for u64 {
    const FORM: &'static str = "a whole number, not negative, without quotes";

    fn read(value: &Spanned<DeValue>) -> Result<Self, Range<usize>> {
        let number = value.get_ref().as_integer();
        number.and_then(|number| u64::from_str_radix(number.as_str(), number.radix()).ok()).ok_or_else(|| value.span())
    }

    fn write(&self) -> String {
        self.to_string()
    }
}

impl Value for String {
    const FORM: &'static str = "a text on one line, such as \"Alfa PEC S.p.A.\"";

    fn read(value: &Spanned<DeValue>) -> Result<Self, Range<usize>> {
        text(value, |text| {
            let is_line = !text.is_empty() && text.trim() == text && !text.chars().any(char::is_control);
            is_line.then(|| text.to_owned())
        })
    }

    fn write(&self) -> String {
        quoted(self)
    }
}

impl Value for Address {
    const FORM: &'static str = "an address such as \"posta-certificata@alfa.example\"";

    fn read(value: &Spanned<DeValue>) -> Result<Self, Range<usize>> {
        text(value, |text| text.parse().ok())
    }

    fn write(&self) -> String {
        quoted(self.as_str())
    }
}

impl Value for Vec<Domain> {
    const FORM: &'static str = "a list of domain names such as [\"alfa.example\", \"pec.alfa.example\"]";

    fn read(value: &Spanned<DeValue>) -> Result<Self, Range<usize>> {
        let list = value.get_ref().as_array().filter(|list| !list.is_empty()).ok_or_else(|| value.span())?;
        list.iter().map(|element| text(element, |text| text.parse().ok())).collect()
    }

    fn write(&self) -> String {
        let domains: Vec<String> = self.iter().map(|domain| quoted(domain.as_str())).collect();
        format!("[{}]", domains.join(", "))
    }
}

impl Value for Vec<VerifiedDomain> {
    const FORM: &'static str = "a list of domains, each also with the names that count, such as [\"beta.example\", \"gamma.example match=mx.gamma.example\"]";

    fn read(value: &Spanned<DeValue>) -> Result<Self, Range<usize>> {
        let list = value.get_ref().as_array().ok_or_else(|| value.span())?;
        list.iter().map(|element| text(element, |text| text.parse().ok())).collect()
    }

    fn write(&self) -> String {
        let domains: Vec<String> = self.iter().map(|domain| quoted(&domain.to_string())).collect();
        format!("[{}]", domains.join(", "))
    }
}

impl Value for PathBuf {
    const FORM: &'static str = "the path of a file from the root, such as \"/etc/pec-milter/key.pem\"";

    fn read(value: &Spanned<DeValue>) -> Result<Self, Range<usize>> {
        text(value, absolute)
    }

    fn write(&self) -> String {
        // It was read from a TOML text, which is Unicode, so nothing is lost.
        quoted(&self.to_string_lossy())
    }
}

impl Value for Vec<PathBuf> {
    const FORM: &'static str = "a list of files such as [\"/etc/pec-milter/ca.crl\"]";

    fn read(value: &Spanned<DeValue>) -> Result<Self, Range<usize>> {
        let list = value.get_ref().as_array().ok_or_else(|| value.span())?;
        list.iter().map(|element| text(element, absolute)).collect()
    }

    fn write(&self) -> String {
        let files: Vec<String> = self.iter().map(Value::write).collect();
        format!("[{}]", files.join(", "))
    }
}

impl Value for WithoutListName {
    const FORM: &'static str = "\"refuse\" or \"accept\"";

    fn read(value: &Spanned<DeValue>) -> Result<Self, Range<usize>> {
        text(value, |text| match text {
            "refuse" => Some(WithoutListName(WithoutList::Refuse)),
            "accept" => Some(WithoutListName(WithoutList::Accept)),
            _ => None,
        })
    }

    fn write(&self) -> String {
        quoted(match self.0 {
            WithoutList::Refuse => "refuse",
            WithoutList::Accept => "accept",
        })
    }
}

impl Value for TemporalReference {
    const FORM: &'static str = "an instant with its offset from UTC, such as \"2027-01-15T00:00:00+01:00\"";

    fn read(value: &Spanned<DeValue>) -> Result<Self, Range<usize>> {
        text(value, TemporalReference::from_rfc3339)
    }

    fn write(&self) -> String {
        quoted(&self.rfc3339())
    }
}

impl Value for SocketAddr {
    const FORM: &'static str = "an IP address and a port, such as \"127.0.0.1:9309\"";

    fn read(value: &Spanned<DeValue>) -> Result<Self, Range<usize>> {
        text(value, tcp)
    }

    fn write(&self) -> String {
        quoted(&self.to_string())
    }
}

impl Value for Engine {
    const FORM: &'static str = "\"aws-lc-rs\" or \"rsa\"";

    fn read(value: &Spanned<DeValue>) -> Result<Self, Range<usize>> {
        text(value, |text| match text {
            "aws-lc-rs" => Some(Engine::AwsLcRs),
            "rsa" => Some(Engine::Rsa),
            _ => None,
        })
    }

    fn write(&self) -> String {
        quoted(match self {
            Engine::AwsLcRs => "aws-lc-rs",
            Engine::Rsa => "rsa",
        })
    }
}

impl Value for OrdinaryPolicyName {
    const FORM: &'static str = "\"anomaly\", \"refuse\" or \"forward\"";

    fn read(value: &Spanned<DeValue>) -> Result<Self, Range<usize>> {
        text(value, |text| match text {
            "anomaly" => Some(OrdinaryPolicyName::Anomaly),
            "refuse" => Some(OrdinaryPolicyName::Refuse),
            "forward" => Some(OrdinaryPolicyName::Forward),
            _ => None,
        })
    }

    fn write(&self) -> String {
        quoted(match self {
            OrdinaryPolicyName::Anomaly => "anomaly",
            OrdinaryPolicyName::Refuse => "refuse",
            OrdinaryPolicyName::Forward => "forward",
        })
    }
}

impl Value for UnixSocket {
    const FORM: &'static str = "a unix socket of at most 107 characters, such as \"unix:/run/pec-milter/access\"";

    fn read(value: &Spanned<DeValue>) -> Result<Self, Range<usize>> {
        text(value, UnixSocket::parse)
    }

    fn write(&self) -> String {
        quoted(&self.text())
    }
}

impl Value for DirectoryUrl {
    const FORM: &'static str = "a URL such as \"https://directory.example/providers.ldif.p7m\", \
        \"ldaps://directory.example/o=postacert\" or \"ldap://directory.example\" (with STARTTLS)";

    fn read(value: &Spanned<DeValue>) -> Result<Self, Range<usize>> {
        text(value, DirectoryUrl::parse)
    }

    fn write(&self) -> String {
        quoted(&self.text)
    }
}

impl Value for TsaUrl {
    const FORM: &'static str =
        "a URL such as \"http://tsa.example/tsr\" or \"https://tsa.example/\", without name and password";

    fn read(value: &Spanned<DeValue>) -> Result<Self, Range<usize>> {
        text(value, TsaUrl::parse)
    }

    fn write(&self) -> String {
        quoted(self.as_str())
    }
}

impl Value for LoopbackAddress {
    const FORM: &'static str = "a loopback address and a port, such as \"127.0.0.1:10025\" or \"[::1]:10025\"";

    fn read(value: &Spanned<DeValue>) -> Result<Self, Range<usize>> {
        text(value, |text| tcp(text).filter(|address| address.ip().is_loopback()).map(LoopbackAddress))
    }

    fn write(&self) -> String {
        quoted(&self.0.to_string())
    }
}

impl Value for LocalEndpoint {
    const FORM: &'static str = "a unix socket such as \"unix:/run/clamav/clamd.ctl\", or a loopback address and a port such as \"127.0.0.1:3310\"";

    fn read(value: &Spanned<DeValue>) -> Result<Self, Range<usize>> {
        UnixSocket::read(value)
            .map(LocalEndpoint::Unix)
            .or_else(|_| LoopbackAddress::read(value).map(LocalEndpoint::Tcp))
    }

    fn write(&self) -> String {
        match self {
            LocalEndpoint::Unix(socket) => socket.write(),
            LocalEndpoint::Tcp(address) => address.write(),
        }
    }
}

impl Value for Endpoint {
    const FORM: &'static str =
        "a unix socket such as \"unix:/run/dovecot/lmtp\", or an IP address and a port such as \"127.0.0.1:24\"";

    fn read(value: &Spanned<DeValue>) -> Result<Self, Range<usize>> {
        text(value, |text| UnixSocket::parse(text).map(Endpoint::Unix).or_else(|| tcp(text).map(Endpoint::Tcp)))
    }

    fn write(&self) -> String {
        match self {
            Endpoint::Unix(socket) => socket.write(),
            Endpoint::Tcp(address) => quoted(&address.to_string()),
        }
    }
}

fn text<T>(value: &Spanned<DeValue>, read: impl Fn(&str) -> Option<T>) -> Result<T, Range<usize>> {
    value.get_ref().as_str().and_then(read).ok_or_else(|| value.span())
}

/// Absolute, because a daemon's working directory is nobody's business.
fn absolute(text: &str) -> Option<PathBuf> {
    (text.starts_with('/') && !text.ends_with('/') && !text.chars().any(char::is_control)).then(|| text.into())
}

fn tcp(text: &str) -> Option<SocketAddr> {
    text.parse().ok().filter(|address: &SocketAddr| address.port() != 0)
}

fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}
