//! Throw-away certificates: the national CA with its providers (§5.5), and a TLS CA for the servers.
//!
//! The provider certificates hang below an intermediate CA whose rfc822Name constraints list the providers' domains. Every
//! CA has a revocation list, as a file; with a web server its certificates say that the list is published there.
//! [`Pki::issue`] takes every property as a parameter, so a test can make any certificate that should be refused.
//! All work is `openssl ca`'s; a fault carries what it said.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::key_stock::KeySeries;
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
    /// Algorithm and parameter of the new key, as `openssl genpkey` names them.
    pub key: [&'static str; 2],
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

    /// A user's certificate of a CA, by its common name.
    pub fn user(name: &str, issuer: &str, common_name: &str) -> Self {
        Request::new(name, issuer, &format!("/CN={common_name}")).with("extendedKeyUsage", "clientAuth")
    }

    /// A certificate of a time stamping authority (RFC 3161 §2.3).
    pub fn time_stamper(name: &str, issuer: &str) -> Self {
        Request::new(name, issuer, &format!("/C=IT/O=Orologio S.p.A./CN={name}"))
            .with("keyUsage", "critical,digitalSignature")
            .with("extendedKeyUsage", "critical,timeStamping")
    }

    fn new(name: &str, issuer: &str, subject: &str) -> Self {
        let [name, issuer, subject, digest] = [name, issuer, subject, "sha256"].map(str::to_owned);
        let key = ["RSA", "rsa_keygen_bits:2048"];
        Request { name, subject, issuer, extensions: Vec::new(), digest, key, validity: None }
    }

    /// Sets an extension, replacing the profile's.
    pub fn with(mut self, extension: &str, value: &str) -> Self {
        self.extensions.retain(|(name, _)| name != extension);
        self.extensions.push((extension.to_owned(), value.to_owned()));
        self
    }
}

/// How long a revocation list is in date unless a test says otherwise.
const LIST_SECONDS: u32 = 30 * 86_400;

pub struct Pki {
    folder: PathBuf,
    /// Where the folder of published lists is served, as `http://ADDRESS:PORT`.
    web: Option<String>,
    keys: KeySeries,
}

impl Pki {
    /// Makes the CAs; `domains` are those that a provider certificate may speak for.
    pub fn new(folder: PathBuf, domains: &[&str]) -> Result<Self> {
        Self::published_at(folder, domains, None)
    }

    /// The same with certificates that say that the revocation lists are found at `web`, as `http://ADDRESS:PORT`.
    pub fn published_at(folder: PathBuf, domains: &[&str], web: Option<String>) -> Result<Self> {
        let pki = Pki { folder, web, keys: KeySeries::begin() };
        fs::create_dir_all(pki.published())?;
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

    /// What the web server shows.
    pub fn published(&self) -> PathBuf {
        self.folder.join("published")
    }

    /// The revocation list of a CA, PEM; the web server has it in DER.
    pub fn list(&self, authority: &str) -> PathBuf {
        self.path(authority, "crl")
    }

    /// Issues the next list of a CA, in date for so many seconds, and publishes it.
    pub fn issue_list(&self, authority: &str, seconds: u32) -> Result<()> {
        let configuration = self.path(authority, "cnf");
        let list = openssl(
            &["ca", "-gencrl", "-config", text(&configuration)?, "-crlsec", &seconds.to_string(), "-crlexts", "list"],
            b"",
        )?;
        self.publish(authority, &list)
    }

    /// Publishes this list, PEM, in the name of a CA, in file and on the web server.
    pub fn publish(&self, authority: &str, list: &[u8]) -> Result<()> {
        let der = openssl(&["crl", "-outform", "DER"], list)?;
        for (path, octets) in [(self.list(authority), list), (self.published_list(authority), &der)] {
            let beside = path.with_extension("new");
            fs::write(&beside, octets)?;
            fs::rename(&beside, &path)?;
        }
        Ok(())
    }

    /// Takes the list of a CA from the web server.
    pub fn withdraw(&self, authority: &str) -> Result<()> {
        fs::remove_file(self.published_list(authority)).map_err(Into::into)
    }

    /// Revokes a certificate as from an instant such as `20260101000000Z`; its CA's next list says so.
    pub fn revoke(&self, authority: &str, certificate: &Path, since: &str) -> Result<()> {
        let configuration = self.path(authority, "cnf");
        openssl(&["ca", "-revoke", text(certificate)?, "-config", text(&configuration)?], b"")?;
        // `openssl ca` revokes as from now; the day stands in the third field of its index.
        let index = self.path(authority, "index");
        let short = since.get(2..).context("no instant")?;
        let serial = String::from_utf8(openssl(&["x509", "-noout", "-serial", "-in", text(certificate)?], b"")?)?;
        let serial = serial.trim().trim_start_matches("serial=");
        let dated = |line: &str| {
            let mut fields: Vec<&str> = line.split('\t').collect();
            if let [_, _, day, number, ..] = fields.as_mut_slice() {
                if number.trim_start_matches('0') == serial.trim_start_matches('0') {
                    *day = short;
                }
            }
            format!("{}\n", fields.join("\t"))
        };
        let lines: String = fs::read_to_string(&index)?.lines().map(dated).collect();
        fs::write(&index, lines).map_err(Into::into)
    }

    fn published_list(&self, authority: &str) -> PathBuf {
        self.published().join(authority).with_extension("crl")
    }

    /// Makes one more CA, self-signed when it has no issuer.
    pub fn authority(&self, name: &str, issuer: Option<&str>, extensions: &[(&str, &str)]) -> Result<()> {
        self.configure(name)?;
        let mut request = Request::new(name, issuer.unwrap_or(name), &format!("/C=IT/O=Certifier/CN={name}"));
        request.extensions = owned(&CA_PROFILE);
        for (extension, value) in extensions {
            request = request.with(extension, value);
        }
        self.issue(&request)?;
        self.issue_list(name, LIST_SECONDS)
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
        fs::write(self.path(name, "crlnumber"), "01\n")?;
        // `openssl ca` takes its policy and its files from a configuration only.
        let configuration = format!(
            "[ca]\ndefault_ca=this\n[this]\ndatabase={}\nnew_certs_dir={}\nrand_serial=yes\nprivate_key={}\n\
             certificate={}\ndefault_md=sha256\nunique_subject=no\ncrlnumber={}\npolicy=any\n\
             [list]\nauthorityKeyIdentifier=keyid\n[any]\ncountryName=optional\n\
             organizationName=optional\norganizationalUnitName=optional\ncommonName=optional\nemailAddress=optional\n",
            file("index"),
            self.folder.display(),
            file("key"),
            file("pem"),
            file("crlnumber"),
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

    /// Makes the certificate that was asked for, for a key that is elsewhere and has this public half (PEM): from now for a
    /// year, whatever the request says. Gives the files of certificate and chain.
    pub fn certify(&self, request: &Request, public_key: &Path) -> Result<(PathBuf, PathBuf)> {
        let [certificate, chain, extensions] =
            ["pem", "chain.pem", "ext"].map(|extension| self.path(&request.name, extension));
        // The request is signed by a key that nobody keeps; the certificate is for the other one.
        let throw_away = ["req", "-new", "-utf8", "-newkey", "rsa:2048", "-nodes", "-keyout", "/dev/null", "-subj"];
        let signing_request = openssl(&[&throw_away[..], &[&request.subject]].concat(), b"")?;
        self.write_extensions(request, &extensions)?;
        let [issuer, issuer_key] = ["pem", "key"].map(|extension| self.path(&request.issuer, extension));
        let mut arguments =
            vec!["x509", "-req", "-in", "/dev/stdin", "-days", DAYS, "-force_pubkey", text(public_key)?];
        arguments.extend(["-CA", text(&issuer)?, "-CAkey", text(&issuer_key)?]);
        let serial = String::from_utf8(openssl(&["rand", "-hex", "16"], b"")?)?;
        let (serial, digest) = (format!("0x{}", serial.trim()), format!("-{}", request.digest));
        arguments.extend([
            "-set_serial",
            &serial,
            &digest,
            "-extfile",
            text(&extensions)?,
            "-out",
            text(&certificate)?,
        ]);
        openssl(&arguments, &signing_request)?;
        fs::write(&chain, [fs::read(&certificate)?, fs::read(&issuer)?].concat())?;
        Ok((certificate, chain))
    }

    fn write_extensions(&self, request: &Request, file: &Path) -> Result<()> {
        let mut lines: String = request.extensions.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
        if let Some(web) = self.web.as_ref().filter(|_| request.issuer != request.name) {
            lines.push_str(&format!("crlDistributionPoints=URI:{web}/{}.crl\n", request.issuer));
        }
        fs::write(file, lines).map_err(Into::into)
    }

    /// Key, certificate and chain in one PKCS#12 file.
    pub fn pkcs12(&self, identity: &Identity, passphrase: &str) -> Result<PathBuf> {
        let file = identity.key.with_extension("p12");
        let secret = format!("pass:{passphrase}");
        let arguments = ["pkcs12", "-export", "-inkey", text(&identity.key)?, "-in", text(&identity.chain)?];
        openssl(&[&arguments[..], &["-passout", &secret, "-out", text(&file)?]].concat(), b"")?;
        Ok(file)
    }

    /// Makes the certificate that was asked for, with a key that no other of this test has.
    pub fn issue(&self, request: &Request) -> Result<Identity> {
        let [key, certificate, chain, extensions] =
            ["key", "pem", "chain.pem", "ext"].map(|extension| self.path(&request.name, extension));
        let [algorithm, parameter] = request.key;
        self.keys.write(algorithm, parameter, &key)?;
        let signing_request = openssl(&["req", "-new", "-utf8", "-key", text(&key)?, "-subj", &request.subject], b"")?;
        self.write_extensions(request, &extensions)?;
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

    /// Signs a file as `openssl cms` does, with the certificate that has this name in the folder of a PKI; returns the
    /// detached signature in DER.
    pub fn sign_detached(folder: &Path, name: &str, file: &Path) -> Result<Vec<u8>> {
        let [certificate, key, authority] =
            [format!("{name}.pem"), format!("{name}.key"), "provider-ca.pem".to_owned()].map(|file| folder.join(file));
        let options = ["cms", "-sign", "-binary", "-outform", "DER", "-nosmimecap", "-md", "sha256"];
        let signer = ["-signer", text(&certificate)?, "-inkey", text(&key)?, "-certfile", text(&authority)?];
        openssl(&[&options[..], &signer, &["-in", text(file)?]].concat(), b"")
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
