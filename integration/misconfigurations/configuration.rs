//! A provider's configuration on disk, with real keys and certificates and without a fault; a test changes it, and sees what
//! `check-config` and `run` say of it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use jiff::{SignedDuration, Timestamp};
use pec_testbed::ldif::{self, Record};
use pec_testbed::pki::{Identity, Pki, Request};
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_pec-milter");
pub const NAME: &str = "Alfa PEC S.p.A.";
pub const SENDING: &str = "posta-certificata@alfa.example";

/// A provider whose configuration has no fault.
pub struct Site {
    folder: TempDir,
    pub pki: Pki,
    pub own: Identity,
}

/// One change to that configuration: what stands there, and what in its place.
pub type Change = (String, String);

impl Site {
    pub fn new() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let pki = Pki::new(folder.path().join("pki"), &["alfa.example"])?;
        let own = pki.issue(&request("own"))?;
        let site = Site { folder, pki, own };
        fs::write(site.path("providers.ldif"), site.directory(&[&site.own], &["alfa.example"])?)?;
        Ok(site)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A file of the administrator's.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> Result<PathBuf> {
        let path = self.path(name);
        fs::write(&path, content)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        Ok(path)
    }

    /// A directory with this provider alone.
    pub fn directory(&self, identities: &[&Identity], domains: &[&str]) -> Result<String> {
        ldif::write(&[Record {
            provider_name: NAME.to_owned(),
            certificates: identities.iter().map(|identity| identity.certificate.clone()).collect(),
            mail_receipt: "ricevute@alfa.example".to_owned(),
            managed_domains: domains.iter().map(|&domain| domain.to_owned()).collect(),
        }])
    }

    pub fn text(&self) -> String {
        let Identity { key, chain, .. } = &self.own;
        let (root, ldif) = (self.pki.root(), self.path("providers.ldif"));
        format!(
            "[provider]\nname = {NAME:?}\nsending_address = {SENDING:?}\nservice_mailbox = \"ricevute@alfa.example\"\n\
             mail_domains = [\"alfa.example\"]\n\n[key]\nprivate_key = {key:?}\ncertificate = {chain:?}\n\n[trust]\n\
             ca_file = {root:?}\ncrl_store = {store:?}\ncrl_files = [{of_root:?}, {of_ca:?}]\n\n[directory]\n\
             ldif = {ldif:?}\n\n[listen]\nsocket_group = \"root\"\n\n[virus]\nclamd = \"127.0.0.1:3310\"\n\n\
             [log]\ntsa_url = \"http://127.0.0.1/\"\ntsa_ca_file = {root:?}\n",
            store = self.path("crl"),
            of_root = self.pki.list("root"),
            of_ca = self.pki.list("provider-ca"),
        )
    }

    /// How a command ends with a configuration, and what it says.
    pub fn command(&self, name: &str, text: &str) -> Result<(Option<i32>, String)> {
        let file = self.file("pec-milter.toml", text)?;
        let output = Command::new(PROGRAM).args([name, "--config"]).arg(file).output()?;
        Ok((output.status.code(), String::from_utf8(output.stderr)?))
    }

    pub fn changed(&self, changes: &[Change]) -> Result<String> {
        changes.iter().try_fold(self.text(), |text, (from, to)| {
            ensure!(text.contains(from), "{from:?} is not in the configuration:\n{text}");
            Ok(text.replacen(from, to, 1))
        })
    }

    /// Both commands must say no, in lines that begin with the file and have these words.
    pub fn is_refused(&self, what: &str, changes: &[Change], words: &[&str]) -> Result<()> {
        let text = self.changed(changes)?;
        let place = self.path("pec-milter.toml").display().to_string();
        for (command, expected) in [("check-config", 1), ("run", 2)] {
            let (code, said) = self.command(command, &text)?;
            ensure!(code == Some(expected), "{command}: {what}: expected exit {expected}, found {code:?}:\n{said}");
            let line = said.lines().find(|line| words.iter().all(|word| line.contains(word)));
            let line = line.with_context(|| format!("{command}: {what}: no line has {words:?}:\n{said}"))?;
            ensure!(line.contains(&place), "{command}: {what}: no place is named: {line}");
        }
        Ok(())
    }

    /// It may start, and is warned.
    pub fn is_warned(&self, what: &str, changes: &[Change], words: &[&str]) -> Result<()> {
        let (code, said) = self.command("check-config", &self.changed(changes)?)?;
        ensure!(code == Some(0), "{what}: expected exit 0, found {code:?}:\n{said}");
        let is_told = |line: &str| line.starts_with("warning: ") && words.iter().all(|word| line.contains(word));
        ensure!(said.lines().any(is_told), "{what}: no warning has {words:?}:\n{said}");
        Ok(())
    }

    /// The change to another key of the provider's.
    pub fn key(&self, identity: &Identity) -> Vec<Change> {
        let of = |one: &Identity| format!("private_key = {:?}\ncertificate = {:?}\n", one.key, one.chain);
        vec![(of(&self.own), of(identity))]
    }

    /// The same with the CAs of its path behind the certificate, and their lists.
    pub fn key_below(&self, identity: &Identity, authorities: &[&str]) -> Result<Vec<Change>> {
        let mut octets = fs::read(&identity.certificate)?;
        let mut lists = String::new();
        for authority in authorities {
            octets.extend(fs::read(self.pki.certificate(authority))?);
            lists.push_str(&format!(", {:?}", self.pki.list(authority)));
        }
        let name = format!("{}.path", authorities.join("-"));
        let chain = self.file(&name, octets)?;
        let mut changes = self.key(&Identity { chain, ..identity.clone() });
        let own = format!("{:?}]", self.pki.list("provider-ca"));
        changes.push((own.clone(), own.replace(']', &format!("{lists}]"))));
        Ok(changes)
    }

    /// The change to a value that is a path.
    pub fn path_to(&self, from: &Path, to: &Path) -> Vec<Change> {
        vec![(format!("{from:?}"), format!("{to:?}"))]
    }
}

pub fn request(name: &str) -> Request {
    Request::provider(name, NAME, SENDING)
}

pub fn one(from: &str, to: &str) -> Vec<Change> {
    vec![(from.to_owned(), to.to_owned())]
}

/// Lines for another section, before the others.
pub fn section(lines: &str) -> Vec<Change> {
    one("[listen]\n", &format!("{lines}\n[listen]\n"))
}

/// An instant so many days from now, as `openssl ca` writes it.
pub fn in_days(days: i64) -> String {
    // A minute less: a day that has not begun does not count, and a test may take less than a second until then.
    (Timestamp::now() + SignedDuration::from_hours(24 * days) - SignedDuration::from_mins(1))
        .strftime("%Y%m%d%H%M%SZ")
        .to_string()
}
