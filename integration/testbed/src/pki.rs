//! Throw-away certificates: the national CA with its providers (§5.5), and a TLS CA for the servers.
//!
//! The provider certificates hang below an intermediate CA whose rfc822Name constraints list the providers' domains.
//! [`Pki::issue`] takes every property as a parameter, so a test can make any certificate that should be refused.
//! All work is `openssl ca`'s; a fault carries what it said.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::process::run;

/// A provider's certificates are valid for this long unless a test says otherwise.
const DAYS: &str = "365";

/// The profile of §5.5; there is no basicConstraints.
const PROVIDER_PROFILE: [(&str, &str); 4] = [
    ("keyUsage", "critical,digitalSignature"),
    ("extendedKeyUsage", "emailProtection"),
    ("subjectKeyIdentifier", "hash"),
    ("authorityKeyIdentifier", "keyid"),
];

const CA_PROFILE: [(&str, &str); 4] = [
    ("keyUsage", "critical,keyCertSign,cRLSign"),
    ("basicConstraints", "critical,CA:TRUE"),
    ("subjectKeyIdentifier", "hash"),
    ("authorityKeyIdentifier", "keyid"),
];

/// A private key and its certificate, both PEM.
#[derive(Debug, Clone)]
pub struct Identity {
    pub key: PathBuf,
    pub certificate: PathBuf,
    /// The certificate followed by the intermediate one, if there is one.
    pub chain: PathBuf,
}

/// What is asked of a CA.
#[derive(Debug, Clone)]
pub struct Request {
    /// The file name of the result.
    pub name: String,
    /// As in `/C=IT/O=Alfa PEC S.p.A./CN=Posta Certificata`.
    pub subject: String,
    /// One of the CAs of this PKI, by name.
    pub issuer: String,
    /// Lines of an OpenSSL extension section.
    pub extensions: Vec<(String, String)>,
    pub digest: String,
    /// First and last instant as `20240101000000Z`; from now for a year when absent.
    pub validity: Option<(String, String)>,
}

impl Request {
    /// A provider certificate as it should be; the test changes what it wants wrong.
    pub fn provider(name: &str, provider: &str, sending_address: &str) -> Self {
        let mut request = Request::new(name, "provider-ca", &format!("/C=IT/O={provider}/CN=Posta Certificata"));
        request.extensions.extend(owned(&PROVIDER_PROFILE));
        request.with("subjectAltName", &format!("email:{sending_address}"))
    }

    fn new(name: &str, issuer: &str, subject: &str) -> Self {
        let [name, issuer, subject, digest] = [name, issuer, subject, "sha256"].map(str::to_owned);
        Request { name, subject, issuer, extensions: Vec::new(), digest, validity: None }
    }

    /// Sets an extension, replacing the profile's.
    pub fn with(mut self, extension: &str, value: &str) -> Self {
        self.extensions.retain(|(name, _)| name != extension);
        self.extensions.push((extension.to_owned(), value.to_owned()));
        self
    }
}

pub struct Pki {
    folder: PathBuf,
}

impl Pki {
    /// Makes the CAs; `domains` are those that a provider certificate may speak for.
    pub fn new(folder: PathBuf, domains: &[&str]) -> Result<Self> {
        fs::create_dir_all(&folder)?;
        let pki = Pki { folder };
        let constraints: Vec<_> = domains.iter().map(|domain| format!("permitted;email:{domain}")).collect();
        pki.authority("root", None, &[])?;
        pki.authority(
            "provider-ca",
            Some("root"),
            &[("nameConstraints", &format!("critical,{}", constraints.join(",")))],
        )?;
        pki.authority("tls-ca", None, &[])?;
        Ok(pki)
    }

    /// The root that providers trust (`--ca` of every verifier).
    pub fn root(&self) -> PathBuf {
        self.path("root", "pem")
    }

    /// The certificate of a CA or of an issued request, by name.
    pub fn certificate(&self, name: &str) -> PathBuf {
        self.path(name, "pem")
    }

    /// The root that mail clients trust.
    pub fn tls_root(&self) -> PathBuf {
        self.path("tls-ca", "pem")
    }

    /// Makes one more CA, self-signed when it has no issuer.
    pub fn authority(&self, name: &str, issuer: Option<&str>, extensions: &[(&str, &str)]) -> Result<()> {
        self.configure(name)?;
        let mut request = Request::new(name, issuer.unwrap_or(name), &format!("/C=IT/O=Certifier/CN={name}"));
        request.extensions = owned(&CA_PROFILE);
        request.extensions.extend(owned(extensions));
        self.issue(&request).map(drop)
    }

    /// Makes the certificate that was asked for, signed with its own key.
    pub fn issue_self_signed(&self, request: &Request) -> Result<Identity> {
        self.configure(&request.name)?;
        self.issue(&Request { issuer: request.name.clone(), ..request.clone() })
    }

    /// What `openssl ca` needs to issue under this name.
    fn configure(&self, name: &str) -> Result<()> {
        let file = |extension| self.path(name, extension).display().to_string();
        fs::write(self.path(name, "index"), "")?;
        // `openssl ca` takes its policy and its files from a configuration only.
        let configuration = format!(
            "[ca]\ndefault_ca=this\n[this]\ndatabase={}\nnew_certs_dir={}\nrand_serial=yes\nprivate_key={}\n\
             certificate={}\ndefault_md=sha256\nunique_subject=no\npolicy=any\n[any]\ncountryName=optional\n\
             organizationName=optional\norganizationalUnitName=optional\ncommonName=optional\nemailAddress=optional\n",
            file("index"),
            self.folder.display(),
            file("key"),
            file("pem"),
        );
        fs::write(self.path(name, "cnf"), configuration).map_err(Into::into)
    }

    /// The certificate of the SMTP, IMAP and POP3 services of one host.
    pub fn server(&self, hostname: &str, address: Ipv4Addr) -> Result<Identity> {
        let request = Request::new(hostname, "tls-ca", &format!("/CN={hostname}"))
            .with("extendedKeyUsage", "serverAuth,clientAuth")
            .with("subjectAltName", &format!("DNS:{hostname},IP:{address}"));
        self.issue(&request)
    }

    /// Makes a new key and the certificate that was asked for.
    pub fn issue(&self, request: &Request) -> Result<Identity> {
        let [key, certificate, chain, extensions] =
            ["key", "pem", "chain.pem", "ext"].map(|extension| self.path(&request.name, extension));
        openssl(&["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", text(&key)?], b"")?;
        let signing_request = openssl(&["req", "-new", "-utf8", "-key", text(&key)?, "-subj", &request.subject], b"")?;
        let lines: String = request.extensions.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
        fs::write(&extensions, lines)?;
        let configuration = self.path(&request.issuer, "cnf");
        let mut arguments = vec!["ca", "-config", text(&configuration)?, "-batch", "-notext", "-in", "/dev/stdin"];
        arguments.extend(["-out", text(&certificate)?, "-md", &request.digest, "-extfile", text(&extensions)?]);
        match &request.validity {
            Some((from, to)) => arguments.extend(["-startdate", from, "-enddate", to]),
            None => arguments.extend(["-days", DAYS]),
        }
        if request.issuer == request.name {
            arguments.push("-selfsign");
        }
        openssl(&arguments, &signing_request)?;
        let mut links = fs::read(&certificate)?;
        if request.issuer == "provider-ca" {
            links.extend(fs::read(self.path(&request.issuer, "pem"))?);
        }
        fs::write(&chain, links)?;
        Ok(Identity { key, certificate, chain })
    }

    /// Signs a MIME entity as a mail program does: the header fields and the body that it becomes (RFC 8551 §3.5.3).
    pub fn sign(&self, identity: &Identity, entity: &[u8]) -> Result<(String, Vec<u8>)> {
        let intermediate = self.path("provider-ca", "pem");
        let (certificate, key) = (text(&identity.certificate)?, text(&identity.key)?);
        let signer = ["-signer", certificate, "-inkey", key, "-certfile", text(&intermediate)?];
        let signed = openssl(&[&["cms", "-sign", "-crlfeol", "-nosmimecap"], &signer[..]].concat(), entity)?;
        // OpenSSL ends its own lines with LF and the signed ones with CRLF.
        let signed = String::from_utf8(signed)?.replace("\r\n", "\n").replace('\n', "\r\n");
        let (header, body) = signed.split_once("\r\n\r\n").context("openssl cms made no header")?;
        Ok((format!("{header}\r\n"), body.as_bytes().to_vec()))
    }

    fn path(&self, name: &str, extension: &str) -> PathBuf {
        self.folder.join(format!("{name}.{extension}"))
    }
}

fn openssl(arguments: &[&str], input: &[u8]) -> Result<Vec<u8>> {
    run(Command::new("openssl").args(arguments), input)
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("the scratch folder's name is not UTF-8")
}

fn owned(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_constraints_hold_for_the_providers_own_domains_only() {
        let folder = tempfile::tempdir().unwrap();
        let pki = Pki::new(folder.path().join("pki"), &["alfa.example"]).unwrap();
        for (domain, accepted) in [("alfa.example", true), ("altro.example", false)] {
            let request = Request::provider(domain, "Alfa PEC S.p.A.", &format!("posta-certificata@{domain}"));
            let identity = pki.issue(&request).unwrap();
            let verified = openssl(
                &[
                    "verify",
                    "-CAfile",
                    text(&pki.root()).unwrap(),
                    "-untrusted",
                    text(&identity.chain).unwrap(),
                    text(&identity.certificate).unwrap(),
                ],
                b"",
            );
            assert_eq!(verified.is_ok(), accepted, "{domain}: {verified:?}");
        }
    }
}
