//! A hardware token of a provider, by SoftHSM: a key that is made inside and does not come out.
//!
//! [`Remote`] puts the token behind a process of its own, as a network module is, so that it can truly go away.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::process::run;
use crate::wait::{PATIENCE, wait_until};

/// SoftHSM's library.
pub const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";
/// p11-kit's, which speaks to a library in another process.
pub const REMOTE_MODULE: &str = "/usr/lib/x86_64-linux-gnu/pkcs11/p11-kit-client.so";
/// OpenSC's, which writes down every call to another library.
pub const SPY_MODULE: &str = "/usr/lib/x86_64-linux-gnu/pkcs11-spy.so";
const SERVER: &str = "/usr/libexec/p11-kit/p11-kit-server";

/// The token's label.
pub const LABEL: &str = "pec";
pub const PIN: &str = "48151623";
const OFFICER_PIN: &str = "42424242";

/// A token in a folder.
#[derive(Debug, Clone)]
pub struct Token {
    folder: PathBuf,
    configuration: PathBuf,
    pub pin_file: PathBuf,
    owner: (u32, u32),
}

impl Token {
    /// Makes a token without a key; `owner` is who uses it, as user and group.
    pub fn make(folder: &Path, owner: (u32, u32)) -> Result<Self> {
        let tokens = folder.join("tokens");
        fs::create_dir_all(&tokens)?;
        let token = Token {
            folder: folder.to_owned(),
            configuration: folder.join("softhsm2.conf"),
            pin_file: folder.join("pin"),
            owner,
        };
        token.configure("")?;
        token.make_another()?;
        fs::write(&token.pin_file, format!("{PIN}\n"))?;
        fs::set_permissions(&token.pin_file, fs::Permissions::from_mode(0o600))?;
        token.give_away()?;
        Ok(token)
    }

    /// Makes a token of the same label beside it.
    pub fn make_another(&self) -> Result<()> {
        self.make_another_with(PIN)
    }

    /// The same with another PIN.
    pub fn make_another_with(&self, pin: &str) -> Result<()> {
        fs::create_dir_all(self.folder.join("tokens"))?;
        let arguments = ["--init-token", "--free", "--label", LABEL, "--pin", pin, "--so-pin", OFFICER_PIN];
        run(self.command("softhsm2-util").args(arguments), b"")?;
        self.give_away()
    }

    /// Adds lines to SoftHSM's configuration, which a library reads when it starts.
    pub fn configure(&self, lines: &str) -> Result<()> {
        let tokens = self.folder.join("tokens");
        let text = format!(
            "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n{lines}",
            tokens.display()
        );
        fs::write(&self.configuration, text).map_err(Into::into)
    }

    /// Makes an RSA key inside; returns the file with its public half, PEM.
    pub fn generate(&self, label: &str) -> Result<PathBuf> {
        self.tool(&["--keypairgen", "--key-type", "rsa:2048", "--usage-sign", "--label", label])?;
        let der = self.tool(&["--read-object", "--type", "pubkey", "--label", label])?;
        let public = self.folder.join(format!("{label}.pub"));
        let arguments = ["pkey", "-pubin", "-inform", "DER", "-in", "/dev/stdin", "-out"];
        run(Command::new("openssl").args(arguments).arg(&public), &der)?;
        self.give_away()?;
        Ok(public)
    }

    /// What pkcs11-tool says, logged in.
    pub fn tool(&self, arguments: &[&str]) -> Result<Vec<u8>> {
        let log_in = ["--module", MODULE, "--token-label", LABEL, "--login", "--pin", PIN];
        run(self.command("pkcs11-tool").args(log_in).args(arguments), b"")
    }

    /// What a process must have in its environment to find the token.
    pub fn environment(&self) -> Vec<(String, String)> {
        vec![("SOFTHSM2_CONF".to_owned(), self.configuration.display().to_string())]
    }

    /// Lines of `[key]` for a key in it, and its certificate.
    pub fn settings(&self, key: &str, certificate: &Path) -> String {
        format!(
            "certificate = {certificate:?}\npkcs11_module = {MODULE:?}\npkcs11_token = {LABEL:?}\npkcs11_key = {key:?}\npin_file = {:?}\n",
            self.pin_file
        )
    }

    /// Takes the token away, as if it were pulled out.
    pub fn pull(&self) -> Result<()> {
        fs::rename(self.folder.join("tokens"), self.folder.join("pulled")).map_err(Into::into)
    }

    /// Puts it back.
    pub fn plug(&self) -> Result<()> {
        fs::rename(self.folder.join("pulled"), self.folder.join("tokens")).map_err(Into::into)
    }

    /// Puts it back in the place of one that was made meanwhile.
    pub fn plug_instead(&self) -> Result<()> {
        fs::remove_dir_all(self.folder.join("tokens"))?;
        self.plug()
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.envs(self.environment());
        command
    }

    /// Everything in it belongs to whom it serves.
    fn give_away(&self) -> Result<()> {
        fn all(path: &Path, (user, group): (u32, u32)) -> Result<()> {
            chown(path, Some(user), Some(group))?;
            if path.is_dir() {
                fs::read_dir(path)?.try_for_each(|entry| all(&entry?.path(), (user, group)))?;
            }
            Ok(())
        }
        all(&self.folder, self.owner)
    }
}

/// The process that a remote token lies behind.
pub struct Remote {
    token: Token,
    socket: PathBuf,
    server: Option<Child>,
}

impl Remote {
    /// Nothing runs yet.
    pub fn of(token: &Token) -> Self {
        Remote { token: token.clone(), socket: token.folder.join("p11.sock"), server: None }
    }

    /// What a process must have in its environment to find it.
    pub fn environment(&self) -> (String, String) {
        ("P11_KIT_SERVER_ADDRESS".to_owned(), format!("unix:path={}", self.socket.display()))
    }

    pub fn start(&mut self) -> Result<()> {
        use std::os::unix::process::CommandExt;
        let _ = fs::remove_file(&self.socket);
        let (user, group) = self.token.owner;
        let child = self
            .token
            .command(SERVER)
            .args(["--foreground", "--provider", MODULE, "--name"])
            .arg(&self.socket)
            .arg(format!("pkcs11:token={LABEL}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .uid(user)
            .gid(group)
            // It has a process for each connection; they end together.
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot run {SERVER}"))?;
        self.server = Some(child);
        wait_until("the token's server to listen", PATIENCE, || match UnixStream::connect(&self.socket) {
            Ok(_) => Ok(()),
            Err(error) => bail!("{error}"),
        })
    }

    /// Ends it in the middle of whatever it does.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(mut server) = self.server.take() {
            killpg(Pid::from_raw(i32::try_from(server.id())?), Signal::SIGKILL)?;
            server.wait()?;
        }
        Ok(())
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        // A test that failed already says why.
        let _ = self.kill();
    }
}
