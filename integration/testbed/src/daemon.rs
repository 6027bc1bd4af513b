//! One provider's pec-milter: its configuration file and its process.
//!
//! It runs as `nobody` with the group of Postfix, so it can neither read other services' files nor the mailboxes.
//! It is ready when its five sockets accept; when it ends before, the error holds what it said.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::host::Site;
use crate::network;
use crate::pki::Identity;
use crate::process::{account, group};
use crate::timeline::{self, Event};
use crate::token::Token;
use crate::wait::{PATIENCE, wait_until};

/// The unprivileged account it runs as.
const ACCOUNT: &str = "nobody";
/// Of a PKCS#12 file.
pub(crate) const PASSPHRASE: &str = "segreto\n";
/// The label of the first key in a token.
pub(crate) const TOKEN_KEY: &str = "firma";
/// Its group: that of Postfix, whose sockets it shares.
const GROUP: &str = "postfix";

/// Where a provider has its signing key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KeyForm {
    /// Two PEM files, and the default engine.
    #[default]
    Pem,
    /// The same with the engine `rsa`.
    Rust,
    /// One PKCS#12 file.
    Pkcs12,
    /// A token, in which it was made.
    Token,
}

/// What a provider is besides its mail host.
#[derive(Debug, Clone)]
pub struct Provider {
    /// As it stands in certificates, daticert.xml and the directory.
    pub name: String,
    pub sending_address: String,
    /// Where take-charges come (directory attribute `mailReceipt`).
    pub service_mailbox: String,
    /// In a token there is no file of the key.
    pub identity: Identity,
    pub key_form: KeyForm,
    /// The token with its key, or for the next one.
    pub token: Option<Token>,
    pub ca: PathBuf,
    /// The lines of `[trust]` besides the CA.
    pub trust: String,
    pub ldif: PathBuf,
}

/// pec-milter of one provider.
pub struct Daemon {
    program: PathBuf,
    pub configuration: PathBuf,
    state: PathBuf,
    log: PathBuf,
    pid_file: PathBuf,
    sockets: [PathBuf; 5],
    /// What it and its commands have in their environment besides.
    environment: Vec<(String, String)>,
    process: Mutex<Option<Child>>,
}

impl Daemon {
    /// Writes the configuration and gives the daemon what it may touch. `directory` are the keys of that section where
    /// it is not the file that all read; `extra` is TOML that is appended.
    pub fn configure(
        site: &Site,
        provider: &Provider,
        program: &Path,
        directory: Option<&str>,
        extra: &str,
    ) -> Result<Self> {
        let (user, group) = owner()?;
        let sockets = site.spool().join("pec-milter");
        let state = site.folder.join("pec");
        for (folder, mode) in [(&sockets, 0o750), (&state, 0o700), (&site.folder.join("crl"), 0o700)] {
            fs::create_dir_all(folder)?;
            fs::set_permissions(folder, fs::Permissions::from_mode(mode))?;
            chown(folder, Some(user), Some(group))?;
        }
        let key = key_settings(provider, &state)?;
        let configuration = site.folder.join("pec-milter.toml");
        fs::write(&configuration, [settings(site, provider, directory, &key, &sockets), extra.to_owned()].join("\n"))?;
        Ok(Daemon {
            environment: provider.token.iter().flat_map(Token::environment).collect(),
            program: program.to_owned(),
            configuration,
            state,
            log: site.folder.join("pec-milter.log"),
            pid_file: site.folder.join("pec-milter.pid"),
            sockets: ["access", "incoming", "bounces", "lmtp", "tls-policy"].map(|name| sockets.join(name)),
            process: Mutex::new(None),
        })
    }

    /// Starts it and waits until it serves.
    pub fn start(&self) -> Result<()> {
        self.start_with(&[])
    }

    /// Starts it with these environment variables besides its own.
    pub fn start_with(&self, environment: &[(&str, &str)]) -> Result<()> {
        let log = File::options().create(true).append(true).open(&self.log)?;
        let child = Command::new(&self.program)
            .args(["run", "--config"])
            .arg(&self.configuration)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .envs(environment.iter().copied())
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .uid(account(ACCOUNT)?.uid.as_raw())
            .gid(group(GROUP)?.gid.as_raw())
            // Ctrl-C is for the testbed, which ends its daemons itself.
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot run {}", self.program.display()))?;
        fs::write(&self.pid_file, child.id().to_string())?;
        *self.process() = Some(child);
        // Not a condition to wait for: a daemon that ended will never be ready.
        let mut ended = false;
        wait_until("pec-milter to listen", PATIENCE, || {
            if !self.is_running()? {
                ended = true;
                return Ok(());
            }
            self.sockets.iter().try_for_each(|socket| {
                UnixStream::connect(socket).map(drop).with_context(|| format!("{} does not accept", socket.display()))
            })
        })
        .with_context(|| self.log())?;
        if ended {
            bail!("pec-milter ended at start; it said:\n{}", self.log());
        }
        Ok(())
    }

    /// Asks it to end, and waits.
    pub fn stop(&self) -> Result<()> {
        self.end(Signal::SIGTERM)
    }

    /// `kill -9`.
    pub fn kill(&self) -> Result<()> {
        self.end(Signal::SIGKILL)
    }

    /// Waits until it ended by itself, as at a crash point.
    pub fn wait_for_end(&self) -> Result<()> {
        wait_until("pec-milter to end", PATIENCE, || match self.is_running()? {
            true => bail!("it runs"),
            false => Ok(()),
        })
    }

    pub fn is_running(&self) -> Result<bool> {
        match self.process().as_mut() {
            Some(child) => Ok(child.try_wait()?.is_none()),
            None => Ok(false),
        }
    }

    /// What it said so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The most memory it ever held, in bytes (`VmHWM`).
    pub fn peak_memory(&self) -> Result<u64> {
        let process = self.process();
        let id = process.as_ref().context("pec-milter does not run")?.id();
        let status = fs::read_to_string(format!("/proc/{id}/status"))?;
        let value = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
        let kibibytes: u64 = value.trim().trim_end_matches(" kB").parse()?;
        Ok(kibibytes << 10)
    }

    /// Makes it read its configuration, key and directory again.
    pub fn reload(&self) -> Result<()> {
        let process = self.process();
        let child = process.as_ref().context("pec-milter does not run")?;
        kill(Pid::from_raw(i32::try_from(child.id())?), Signal::SIGHUP).context("cannot signal pec-milter")
    }

    /// Makes it read all of that again, and waits until it has; an error when it refuses the new state.
    pub fn reload_and_wait(&self) -> Result<()> {
        let answers = || self.log().matches("reloaded").count();
        let before = answers();
        self.reload()?;
        wait_until("pec-milter to reload", PATIENCE, || {
            if answers() == before { bail!("it has said nothing") } else { Ok(()) }
        })?;
        let log = self.log();
        let answer = log.lines().rev().find(|line| line.contains("reloaded")).unwrap_or_default();
        if answer.contains("not reloaded") { bail!("{answer}") } else { Ok(()) }
    }

    /// One of its other commands, as an administrator runs it: whether it said yes, standard output and error.
    pub fn command(&self, arguments: &[&str]) -> Result<(bool, String)> {
        let (code, said) = self.command_with(arguments, &[])?;
        Ok((code == Some(0), said))
    }

    /// The same with these environment variables besides: its exit code, none where it died, and what it said.
    pub fn command_with(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Result<(Option<i32>, String)> {
        let output = Command::new(&self.program)
            .args(arguments)
            .arg("--config")
            .arg(&self.configuration)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .current_dir("/")
            .output()
            .with_context(|| format!("cannot run {}", self.program.display()))?;
        let said = [output.stdout, output.stderr].concat();
        Ok((output.status.code(), String::from_utf8_lossy(&said).into_owned()))
    }

    /// The timeline of the transactions that a message identifier names, ours or the client's.
    pub fn timeline(&self, msgid: &str) -> Result<Vec<Event>> {
        timeline::read(&self.command(&["log", "show", msgid])?.1)
    }

    /// Copies a secret to where only pec-milter reads it.
    pub fn keep_secret(&self, from: &Path) -> Result<PathBuf> {
        keep_secret(from, &self.state)
    }

    /// Replaces a part of the configuration, which must be there.
    pub fn reconfigure(&self, from: &str, to: &str) -> Result<()> {
        let text = fs::read_to_string(&self.configuration)?;
        ensure!(text.contains(from), "{from:?} is not in the configuration:\n{text}");
        fs::write(&self.configuration, text.replacen(from, to, 1)).map_err(Into::into)
    }

    /// What it said after this many octets of its log.
    pub fn log_after(&self, octets: usize) -> String {
        self.log().get(octets..).unwrap_or_default().to_owned()
    }

    /// Where the seals of the event log lie.
    pub fn seals(&self) -> PathBuf {
        self.state.join("seals")
    }

    /// Where the event log lies.
    pub fn event_log(&self) -> PathBuf {
        self.state.join("log.sqlite")
    }

    /// Its own folder, with the event log and the key.
    pub fn state_folder(&self) -> &Path {
        &self.state
    }

    /// Its process, while it runs.
    pub fn process_id(&self) -> Result<u32> {
        self.process().as_ref().map(Child::id).context("pec-milter does not run")
    }

    fn end(&self, signal: Signal) -> Result<()> {
        let mut process = self.process();
        let Some(child) = process.as_mut() else { return Ok(()) };
        if child.try_wait()?.is_none() {
            kill(Pid::from_raw(i32::try_from(child.id())?), signal).context("cannot signal pec-milter")?;
        }
        wait_until("pec-milter to end", PATIENCE, || match child.try_wait()? {
            Some(_) => Ok(()),
            None => bail!("it runs"),
        })?;
        *process = None;
        Ok(())
    }

    fn process(&self) -> MutexGuard<'_, Option<Child>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The account it runs as, user and group.
pub(crate) fn owner() -> Result<(u32, u32)> {
    Ok((account(ACCOUNT)?.uid.as_raw(), group(GROUP)?.gid.as_raw()))
}

/// Copies a secret to where only pec-milter reads it.
fn keep_secret(from: &Path, folder: &Path) -> Result<PathBuf> {
    let (user, group) = owner()?;
    let kept = folder.join(from.file_name().context("no file name")?);
    fs::copy(from, &kept)?;
    fs::set_permissions(&kept, fs::Permissions::from_mode(0o400))?;
    chown(&kept, Some(user), Some(group))?;
    Ok(kept)
}

/// The lines of `[key]`.
fn key_settings(provider: &Provider, state: &Path) -> Result<String> {
    let Identity { key, chain, .. } = &provider.identity;
    let pem = |engine: &str| -> Result<String> {
        let key = keep_secret(key, state)?;
        Ok(format!("private_key = {key:?}\ncertificate = {chain:?}\n{engine}"))
    };
    match (provider.key_form, &provider.token) {
        (KeyForm::Pem, _) => pem(""),
        (KeyForm::Rust, _) => pem("engine = \"rsa\"\n"),
        (KeyForm::Pkcs12, _) => {
            let [archive, passphrase] = ["p12", "pass"].map(|extension| key.with_extension(extension));
            fs::write(&passphrase, PASSPHRASE)?;
            let [archive, passphrase] = [keep_secret(&archive, state)?, keep_secret(&passphrase, state)?];
            Ok(format!("pkcs12 = {archive:?}\npassphrase_file = {passphrase:?}\n"))
        }
        (KeyForm::Token, token) => Ok(token.as_ref().context("no token")?.settings(TOKEN_KEY, chain)),
    }
}

fn settings(site: &Site, provider: &Provider, directory: Option<&str>, key: &str, sockets: &Path) -> String {
    let local = format!("ldif = {:?}", provider.ldif);
    let store = format!("store = \"{}/directory\"\n", site.folder.join("pec").display());
    let directory = directory.map_or(local, |keys| [keys, &store].concat());
    format!(
        "[provider]
name = {name:?}
sending_address = {sending_address:?}
service_mailbox = {service_mailbox:?}
mail_domains = [{domain:?}]

[key]
{key}
[trust]
ca_file = {ca:?}
crl_store = \"{folder}/crl\"
{trust}
[directory]
{directory}

[listen]
access = \"unix:{sockets}/access\"
incoming = \"unix:{sockets}/incoming\"
bounces = \"unix:{sockets}/bounces\"
lmtp = \"unix:{sockets}/lmtp\"
tls_policy = \"unix:{sockets}/tls-policy\"
socket_group = \"postfix\"

[postfix]
inject = \"{address}:{inject}\"

[dovecot]
lmtp = \"unix:{folder}/run/lmtp\"

[log]
database = \"{folder}/pec/log.sqlite\"
seals = \"{folder}/pec/seals\"

[virus]
store = \"{folder}/pec/virus\"
",
        name = provider.name,
        sending_address = provider.sending_address,
        service_mailbox = provider.service_mailbox,
        domain = site.domain,
        ca = provider.ca,
        trust = provider.trust,
        sockets = sockets.display(),
        address = site.address,
        inject = network::INJECT,
        folder = site.folder.display(),
    )
}
