//! One host's own Dovecot: the shipped `dovecot-conf/98-pec.conf` and the values of this host.
//!
//! Users are in a passwd-file, mailboxes are Maildirs of the account `mail`. A setting that comes later wins, so the
//! host's values move the shipped ports without touching the shipped file.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};

use crate::host::Site;
use crate::network;
use crate::process::{account, end, launch, running};
use crate::repository;

/// The account that owns the mailboxes; pec-milter runs under another one and cannot touch them.
const OWNER: &str = "mail";

pub struct Dovecot {
    configuration: PathBuf,
    pid_file: PathBuf,
    start_log: PathBuf,
}

impl Dovecot {
    pub fn configure(site: &Site, extra: &str) -> Result<Self> {
        let configuration = site.folder.join("dovecot.conf");
        let users: String =
            site.users.iter().map(|user| format!("{}:{{PLAIN}}{}::::::\n", user.address, user.password)).collect();
        fs::write(site.folder.join("users"), users)?;
        let owner = account(OWNER)?;
        let mailboxes = site.folder.join("mail");
        fs::create_dir_all(&mailboxes)?;
        std::os::unix::fs::chown(&mailboxes, Some(owner.uid.as_raw()), Some(owner.gid.as_raw()))?;
        let lines: String = site.certified_users.iter().map(|user| format!("{user}:::::::nopassword=y\n")).collect();
        fs::write(site.folder.join("certificates"), lines)?;
        let certificates =
            site.users_ca.as_deref().map(|ca| user_certificates(site, ca)).transpose()?.unwrap_or_default();
        fs::write(&configuration, [site_values(site, owner.uid.as_raw()), certificates, extra.to_owned()].join("\n"))?;
        let pid_file = site.folder.join("run/master.pid");
        Ok(Dovecot { configuration, pid_file, start_log: site.folder.join("dovecot-start.log") })
    }

    pub fn start(&self) -> Result<()> {
        launch(Command::new("dovecot").arg("-c").arg(&self.configuration), &self.start_log)
    }

    pub fn stop(&self) -> Result<()> {
        end(&self.pid_file)
    }

    /// Sends a signal to the master process.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let master = running(&self.pid_file).context("Dovecot does not run")?;
        kill(master, signal).with_context(|| format!("cannot send {signal} to Dovecot"))
    }
}

/// The lines of `dovecot-conf/site.conf` for login by certificate, which an administrator uncomments.
fn user_certificates(site: &Site, ca: &Path) -> Result<String> {
    let shipped = fs::read_to_string(repository().join("dovecot-conf/site.conf"))?;
    let (_, block) = shipped.split_once("# Login by certificate").context("site.conf has no login by certificate")?;
    let (block, _) = block.split_once("\n\n").context("the login by certificate does not end")?;
    let lines = block
        .lines()
        .filter_map(|line| line.strip_prefix('#'))
        .filter(|line| !line.starts_with(' ') || line.starts_with("  "));
    let lines: String = lines.map(|line| format!("{line}\n")).collect();
    Ok(lines
        .replace("/etc/dovecot/users-ca.pem", &ca.display().to_string())
        .replace("/etc/dovecot/certificates", &site.folder.join("certificates").display().to_string()))
}

/// What `dovecot-conf/site.conf` leaves to the administrator, and what a machine with several Dovecots needs.
fn site_values(site: &Site, owner: u32) -> String {
    // An ordinary host has no pec-milter between Postfix and the mailboxes.
    let direct = if site.certified {
        String::new()
    } else {
        let socket = site.spool().join("private/dovecot-lmtp");
        format!(
            "service lmtp {{\n  unix_listener {} {{\n    mode = 0600\n    user = postfix\n  }}\n}}\n",
            socket.display()
        )
    };
    format!(
        "!include {shipped}

ssl_cert = <{certificate}
ssl_key = <{key}
mail_location = maildir:~/Maildir
first_valid_uid = {owner}
passdb {{
  driver = passwd-file
  args = username_format=%u {folder}/users
}}
userdb {{
  driver = passwd-file
  args = username_format=%u {folder}/users
  default_fields = uid={OWNER} gid={OWNER} home={folder}/mail/%n
}}
service auth {{
  unix_listener {auth} {{
    mode = 0660
    user = postfix
    group = postfix
  }}
}}

base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/dovecot.log
listen = {address}
service imap-login {{
  inet_listener imaps {{
    port = {imaps}
  }}
}}
service pop3-login {{
  inet_listener pop3s {{
    port = {pop3s}
  }}
}}
{direct}",
        shipped = repository().join("dovecot-conf/98-pec.conf").display(),
        certificate = site.tls.certificate.display(),
        key = site.tls.key.display(),
        folder = site.folder.display(),
        auth = site.spool().join("private/auth").display(),
        address = site.address,
        imaps = network::IMAPS,
        pop3s = network::POP3S,
    )
}
