//! One mail host: its Postfix, its Dovecot, its pec-milter if it is a provider, and what a person or another server
//! can do with it.
//!
//! The verbs return what the servers said; whether that is right is the test's question.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;

use crate::clamd::Clamd;
use crate::daemon::{Daemon, Provider};
use crate::dovecot::Dovecot;
use crate::mailbox::{self, Credentials};
use crate::network;
use crate::pki::Identity;
use crate::postfix::Postfix;
use crate::smtp::{Dialogue, Login, Port, Smtp, send};
use crate::wait::{PATIENCE, wait_until};

/// How much of each log is shown after a failure.
const LOG_TAIL: usize = 20_000;

/// What distinguishes one host from the others.
#[derive(Debug, Clone)]
pub struct Site {
    /// The first label of the domain.
    pub name: String,
    pub domain: String,
    pub address: Ipv4Addr,
    /// Everything of this host lies here.
    pub folder: PathBuf,
    pub users: Vec<User>,
    /// Whether it is a PEC provider.
    pub certified: bool,
    pub tls: Identity,
    /// The CA of all TLS certificates.
    pub tls_root: PathBuf,
    /// The CA of the users' certificates, where there are any.
    pub users_ca: Option<PathBuf>,
    /// The users who may read their mailbox by certificate.
    pub certified_users: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    pub address: String,
    pub password: String,
}

impl Site {
    pub fn hostname(&self) -> String {
        format!("mx.{}", self.domain)
    }

    /// Postfix's queue directory, which is also its chroot.
    pub fn spool(&self) -> PathBuf {
        self.folder.join("spool")
    }

    fn socket(&self, port: u16) -> SocketAddr {
        (self.address, port).into()
    }
}

/// A running mail host.
pub struct Host {
    pub site: Site,
    /// Only on a provider.
    pub provider: Option<Provider>,
    daemon: Option<Daemon>,
    postfix: Postfix,
    dovecot: Dovecot,
    clamd: Option<Clamd>,
}

impl Host {
    pub(crate) fn new(
        site: Site,
        provider: Option<Provider>,
        daemon: Option<Daemon>,
        postfix: Postfix,
        dovecot: Dovecot,
        clamd: Option<Clamd>,
    ) -> Self {
        Host { site, provider, daemon, postfix, dovecot, clamd }
    }

    pub(crate) fn start(&self) -> Result<()> {
        // Postfix makes the folder in which Dovecot puts its sockets, and Dovecot takes what pec-milter delivers.
        self.start_postfix()?;
        self.start_dovecot()?;
        self.clamd.iter().try_for_each(Clamd::start)?;
        self.daemon.iter().try_for_each(Daemon::start)
    }

    /// The provider's pec-milter.
    pub fn daemon(&self) -> Result<&Daemon> {
        self.daemon.as_ref().with_context(|| format!("{} is not a provider", self.site.domain))
    }

    /// A command of the provider's pec-milter that must say yes; what it said.
    pub fn command(&self, arguments: &[&str]) -> Result<String> {
        let (is_yes, said) = self.daemon()?.command(arguments)?;
        ensure!(is_yes, "{arguments:?} at {}: {said}", self.site.domain);
        Ok(said)
    }

    /// The provider's virus scanner.
    pub fn clamd(&self) -> Result<&Clamd> {
        self.clamd.as_ref().with_context(|| format!("{} has no virus scanner", self.site.domain))
    }

    /// The whole address of a user named by the part before the `@`.
    pub fn mailbox(&self, user: &str) -> String {
        format!("{user}@{}", self.site.domain)
    }

    /// Where IMAPS and POP3S are.
    pub fn mailbox_ports(&self) -> [u16; 2] {
        [network::IMAPS, network::POP3S]
    }

    // --- What a user does ---

    /// Submits a message as this user, logged in and with TLS.
    pub fn submit(&self, user: &str, port: Port, from: &str, to: &[&str], message: &[u8]) -> Result<Dialogue> {
        let user = self.user(user)?;
        send(self.smtp(port)?, Some((&user.address, &user.password)), from, to, message)
    }

    /// All messages of the user's inbox, read over IMAPS.
    pub fn fetch(&self, user: &str) -> Result<Vec<Vec<u8>>> {
        let user = self.user(user)?;
        self.fetch_as((&user.address, &user.password))
    }

    /// Reads an inbox over IMAPS with any user name and password.
    pub fn fetch_as(&self, login: Login) -> Result<Vec<Vec<u8>>> {
        self.fetch_with(Credentials::Password(login))
    }

    /// Reads an inbox over IMAPS.
    pub fn fetch_with(&self, credentials: Credentials) -> Result<Vec<Vec<u8>>> {
        mailbox::imap(self.site.socket(network::IMAPS), &self.site.hostname(), &self.site.tls_root, credentials)
    }

    /// All messages of the user's inbox, read over POP3S.
    pub fn fetch_pop3(&self, user: &str) -> Result<Vec<Vec<u8>>> {
        let user = self.user(user)?;
        self.fetch_pop3_with(Credentials::Password((&user.address, &user.password)))
    }

    /// Reads an inbox over POP3S.
    pub fn fetch_pop3_with(&self, credentials: Credentials) -> Result<Vec<Vec<u8>>> {
        mailbox::pop3(self.site.socket(network::POP3S), &self.site.hostname(), &self.site.tls_root, credentials)
    }

    /// Waits until the user's inbox holds at least this many messages.
    pub fn fetch_when(&self, user: &str, count: usize) -> Result<Vec<Vec<u8>>> {
        let what = format!("{count} messages for {}", self.mailbox(user));
        wait_until(&what, PATIENCE, || {
            let messages = self.fetch(user)?;
            if messages.len() < count {
                bail!("{} messages; queue: {}", messages.len(), self.queue()?.trim_end());
            }
            Ok(messages)
        })
    }

    // --- What other servers do ---

    /// Hands a message to port 25, as another server does.
    pub fn inject_as_peer(&self, from: &str, to: &[&str], message: &[u8]) -> Result<Dialogue> {
        send(self.smtp(Port::Smtp)?, None, from, to, message)
    }

    /// An SMTP session for a dialogue of the test's own, in TLS where the port offers it.
    pub fn smtp(&self, port: Port) -> Result<Smtp> {
        Smtp::open(self.site.socket(port.number()), port, &self.site.hostname(), &self.site.tls_root, None)
    }

    /// An SMTP session in TLS whose client shows a certificate.
    pub fn smtp_as(&self, port: Port, identity: &Identity) -> Result<Smtp> {
        let (address, hostname) = (self.site.socket(port.number()), self.site.hostname());
        Smtp::open(address, port, &hostname, &self.site.tls_root, Some(identity))
    }

    /// An SMTP session that does not start TLS.
    pub fn smtp_without_tls(&self, port: Port) -> Result<Smtp> {
        Smtp::open_plain(self.site.socket(port.number()))
    }

    // --- What an administrator does ---

    /// `mailq`.
    pub fn queue(&self) -> Result<String> {
        self.postfix.queue()
    }

    pub fn is_queue_empty(&self) -> Result<bool> {
        Ok(self.queue()?.trim_end() == "Mail queue is empty")
    }

    /// Waits until nothing is left to be delivered.
    pub fn wait_for_empty_queue(&self) -> Result<()> {
        wait_until(&format!("an empty queue at {}", self.site.domain), PATIENCE, || {
            if !self.is_queue_empty()? {
                let queue = self.queue()?;
                // What was deferred for a moment is not waited for until Postfix's own next attempt.
                self.flush_queue()?;
                bail!("{}", queue.trim_end());
            }
            Ok(())
        })
    }

    /// Tries every queued message again now.
    pub fn flush_queue(&self) -> Result<()> {
        self.postfix.flush()
    }

    /// Puts every queued message on hold: Postfix leaves it alone, and takes and delivers what comes later.
    pub fn hold_queue(&self) -> Result<()> {
        self.postfix.hold()
    }

    /// Ends the hold and tries all of it now.
    pub fn release_queue(&self) -> Result<()> {
        self.postfix.release()?;
        self.postfix.flush()
    }

    /// Sends a message with `sendmail`, past every port.
    pub fn sendmail(&self, from: &str, to: &[&str], message: &[u8]) -> Result<()> {
        self.postfix.sendmail(from, to, message)
    }

    pub fn start_postfix(&self) -> Result<()> {
        self.postfix.start()?;
        self.wait_for_ports(&[network::SMTP, network::SUBMISSION, network::SUBMISSIONS, network::INJECT])
    }

    /// Changes lines of main.cf while Postfix runs.
    pub fn set_postfix(&self, lines: &str) -> Result<()> {
        self.postfix.set(lines)
    }

    pub fn stop_postfix(&self) -> Result<()> {
        self.postfix.stop()
    }

    /// Does something while nobody listens on this port.
    pub fn with_port_closed<T>(&self, port: Port, act: impl FnOnce() -> Result<T>) -> Result<T> {
        let socket = self.site.socket(port.number());
        let removed = self.postfix.remove(socket)?;
        wait_until(&format!("{socket} to refuse"), PATIENCE, || match TcpStream::connect(socket) {
            Ok(_) => bail!("it accepts"),
            Err(_) => Ok(()),
        })?;
        let outcome = act();
        self.postfix.restore(removed)?;
        self.wait_for_ports(&[port.number()])?;
        outcome
    }

    /// Does something while Postfix does not find the hop; the milters answer.
    pub fn with_hop_away<T>(&self, act: impl FnOnce() -> Result<T>) -> Result<T> {
        let socket = self.site.spool().join("pec-milter/lmtp");
        let aside = socket.with_extension("aside");
        fs::rename(&socket, &aside)?;
        let outcome = act();
        fs::rename(&aside, &socket)?;
        outcome
    }

    /// Does something while Dovecot starts no further process: new connections wait for their greeting.
    pub fn with_dovecot_paused<T>(&self, act: impl FnOnce() -> Result<T>) -> Result<T> {
        self.dovecot.signal(Signal::SIGSTOP)?;
        let outcome = act();
        self.dovecot.signal(Signal::SIGCONT)?;
        outcome
    }

    /// All that Postfix logged.
    pub fn postfix_log(&self) -> Result<String> {
        Ok(fs::read_to_string(self.site.folder.join("postfix.log"))?)
    }

    pub fn start_dovecot(&self) -> Result<()> {
        self.dovecot.start()?;
        self.wait_for_ports(&[network::IMAPS, network::POP3S])
    }

    pub fn stop_dovecot(&self) -> Result<()> {
        self.dovecot.stop()
    }

    /// The ports on which this host accepts connections, of those a mail host could have.
    pub fn open_ports(&self) -> Vec<u16> {
        use network::{IMAP, IMAPS, POP3, POP3S, SMTP, SUBMISSION, SUBMISSIONS};
        let candidates = [SMTP, SUBMISSION, SUBMISSIONS, IMAP, IMAPS, POP3, POP3S];
        candidates.into_iter().filter(|port| TcpStream::connect(self.site.socket(*port)).is_ok()).collect()
    }

    /// The last lines of all logs of this host.
    pub fn logs(&self) -> String {
        ["postfix.log", "dovecot.log", "pec-milter.log", "clamd.log"]
            .into_iter()
            .filter_map(|name| {
                let text = fs::read(self.site.folder.join(name)).ok()?;
                let tail = text.get(text.len().saturating_sub(LOG_TAIL)..).unwrap_or_default();
                Some(format!("--- {} {name}\n{}", self.site.domain, String::from_utf8_lossy(tail)))
            })
            .collect()
    }

    fn user(&self, name: &str) -> Result<&User> {
        let address = self.mailbox(name);
        self.site.users.iter().find(|user| user.address == address).with_context(|| format!("no user {address}"))
    }

    fn wait_for_ports(&self, ports: &[u16]) -> Result<()> {
        ports.iter().try_for_each(|&port| {
            let socket = self.site.socket(port);
            wait_until(&format!("{socket} to accept"), PATIENCE, || Ok(TcpStream::connect(socket).map(drop)?))
                .with_context(|| self.logs())
        })
    }
}
