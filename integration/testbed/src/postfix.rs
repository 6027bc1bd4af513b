//! One host's own Postfix, on the shipped `postfix-conf/` and the values of this host.
//!
//! main.cf is the host's values and then the shipped file, master.cf is Debian's and then the shipped file, as an
//! administrator is told to do. `postconf` then moves the four ports and, on an ordinary host, takes pec-milter out.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::host::Site;
use crate::network;
use crate::process::{account, end, launch, run};
use crate::repository;

/// Debian's own services, as the package ships them.
const DEBIAN_MASTER: &str = "/usr/share/postfix/master.cf.dist";

/// The shipped services and the port each moves to.
const PORTS: [(&str, u16); 4] = [
    ("smtp", network::SMTP),
    ("submission", network::SUBMISSION),
    ("submissions", network::SUBMISSIONS),
    ("127.0.0.1:10025", network::INJECT),
];

pub struct Postfix {
    configuration: PathBuf,
    pid_file: PathBuf,
    start_log: PathBuf,
}

/// The services before one was taken out.
pub struct Removed(String);

impl Postfix {
    /// Writes the configuration. `neighbours` are the other hosts: no DNS tells where their domains are.
    pub fn configure(site: &Site, neighbours: &[&Site], extra: &str) -> Result<Self> {
        let configuration = site.folder.join("postfix");
        let data = site.folder.join("data");
        for folder in [&configuration, &data, &site.spool()] {
            fs::create_dir_all(folder)?;
        }
        std::os::unix::fs::chown(&data, Some(account("postfix")?.uid.as_raw()), None)?;
        let hosts: String = neighbours
            .iter()
            .map(|other| format!("{} {} {}\n", other.address, other.domain, other.hostname()))
            .collect();
        fs::create_dir_all(site.spool().join("etc"))?;
        fs::write(site.spool().join("etc/hosts"), hosts)?;
        fs::write(site.spool().join("etc/nsswitch.conf"), "hosts: files\n")?;

        let shipped = repository().join("postfix-conf");
        let read = |path: PathBuf| fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()));
        let main = [site_values(site, neighbours), read(shipped.join("main.cf"))?].join("\n");
        fs::write(configuration.join("main.cf"), main)?;
        let master = configuration.join("master.cf");
        fs::write(&master, read(DEBIAN_MASTER.into())?)?;

        let postfix = Postfix {
            configuration,
            pid_file: site.spool().join("pid/master.pid"),
            start_log: site.folder.join("postfix-start.log"),
        };
        postfix.postconf("-MX", &["smtp/inet".to_owned(), "pickup/unix".to_owned()])?;
        // A file that a delivery agent still had open goes back to the incoming queue, which an idle Postfix looks into only
        // when it is woken.
        postfix.postconf("-F", &["qmgr/unix/wakeup=2".to_owned()])?;
        fs::write(&master, [read(master.clone())?, read(shipped.join("master.cf"))?].join("\n"))?;
        if !site.certified {
            let milters = ["smtp", "submission", "submissions"].map(|name| format!("{name}/inet/smtpd_milters="));
            postfix.postconf("-P", &milters)?;
            let without =
                ["virtual_transport=lmtp:unix:private/dovecot-lmtp", "non_smtpd_milters=", "smtp_tls_policy_maps="];
            postfix.postconf("-e", &without.map(str::to_owned))?;
        }
        // Not appended: Postfix warns of every name that stands there twice, and postlogd, which cannot log its own warnings
        // while the first services fill its socket with theirs, would wait for itself.
        let extra = settings(extra);
        if !extra.is_empty() {
            postfix.postconf("-e", &extra)?;
        }
        postfix
            .postconf("-F", &PORTS.map(|(service, port)| format!("{service}/inet/service={}:{port}", site.address)))?;
        Ok(postfix)
    }

    /// Changes lines of main.cf, for processes that start from now on.
    pub fn set(&self, lines: &str) -> Result<()> {
        self.postconf("-e", &settings(lines))?;
        self.reload()
    }

    pub fn start(&self) -> Result<()> {
        launch(self.command("postfix").arg("start"), &self.start_log)
    }

    pub fn stop(&self) -> Result<()> {
        end(&self.pid_file)
    }

    /// Takes a service out of master.cf, and returns what puts it back.
    pub fn remove(&self, address: SocketAddr) -> Result<Removed> {
        let master = self.configuration.join("master.cf");
        let removed = Removed(fs::read_to_string(&master)?);
        self.postconf("-MX", &[format!("{address}/inet")])?;
        self.reload()?;
        Ok(removed)
    }

    pub fn restore(&self, Removed(master): Removed) -> Result<()> {
        fs::write(self.configuration.join("master.cf"), master)?;
        self.reload()
    }

    /// `mailq`.
    pub fn queue(&self) -> Result<String> {
        Ok(String::from_utf8_lossy(&run(self.command("postqueue").arg("-p"), b"")?).into_owned())
    }

    /// Tries every queued message again now.
    pub fn flush(&self) -> Result<()> {
        run(self.command("postqueue").arg("-f"), b"").map(drop)
    }

    /// Puts every queued message on hold, which no attempt touches.
    pub fn hold(&self) -> Result<()> {
        run(self.command("postsuper").args(["-h", "ALL"]), b"").map(drop)
    }

    /// Gives the messages on hold back to the queue.
    pub fn release(&self) -> Result<()> {
        run(self.command("postsuper").args(["-H", "ALL"]), b"").map(drop)
    }

    /// `sendmail`, the way in that passes no port.
    pub fn sendmail(&self, from: &str, to: &[&str], message: &[u8]) -> Result<()> {
        run(self.command("sendmail").args(["-i", "-f", from, "--"]).args(to), message).map(drop)
    }

    fn reload(&self) -> Result<()> {
        run(self.command("postfix").arg("reload"), b"").map(drop)
    }

    fn postconf(&self, mode: &str, changes: &[String]) -> Result<()> {
        run(self.command("postconf").arg(mode).args(changes), b"").map(drop)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.arg(if program == "sendmail" { "-C" } else { "-c" }).arg(&self.configuration);
        command
    }
}

/// The lines of main.cf, each with those that continue it.
fn settings(lines: &str) -> Vec<String> {
    let mut settings: Vec<String> = Vec::new();
    for line in lines.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')) {
        match settings.last_mut() {
            Some(setting) if line.starts_with([' ', '\t']) => setting.push_str(line),
            _ => settings.push(line.to_owned()),
        }
    }
    settings
}

/// What `postfix-conf/site.cf` leaves to the administrator, and what a machine with several Postfixes needs.
fn site_values(site: &Site, neighbours: &[&Site]) -> String {
    // By name, as MX records would tell: the chroot has a hosts file of its own.
    let routes: Vec<_> = neighbours
        .iter()
        .map(|other| format!("{{ {domain} = smtp:{domain}:{} }}", network::SMTP, domain = other.domain))
        .collect();
    let inline = |entries: Vec<String>| {
        if entries.is_empty() { String::new() } else { format!("inline:{{ {} }}", entries.join(", ")) }
    };
    format!(
        "compatibility_level = 3.6
myhostname = {hostname}
virtual_mailbox_domains = {domain}
smtpd_tls_chain_files = {key}, {certificate}
smtp_tls_CAfile = {ca}
site_transport_maps = {routes}
site_disabled_mailboxes =
site_tls_policy =
site_user_ca_file = {users_ca}

queue_directory = {spool}
data_directory = {folder}/data
maillog_file = {folder}/postfix.log
maillog_file_prefixes = {folder}
# Postfix knows the addresses that an interface has; those of the testbed are in the loopback network but on no interface.
inet_interfaces = loopback-only
smtp_bind_address = {address}
inet_protocols = ipv4
smtp_dns_support_level = disabled
# As the DNS would answer: a domain without a route does not exist.
default_transport = error:5.1.2 Domain not found
# Nothing on this host is delivered to accounts of the machine.
mydestination =
notify_classes =
# A test does not wait five minutes for the next attempt.
queue_run_delay = 1s
minimal_backoff_time = 1s
maximal_backoff_time = 2s
",
        hostname = site.hostname(),
        domain = site.domain,
        key = site.tls.key.display(),
        certificate = site.tls.certificate.display(),
        ca = site.tls_root.display(),
        routes = inline(routes),
        users_ca = site.users_ca.as_ref().map(|file| file.display().to_string()).unwrap_or_default(),
        spool = site.spool().display(),
        folder = site.folder.display(),
        address = site.address,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_begins_with_a_blank_continues_the_one_before() {
        assert_eq!(settings("# x\na = 1,\n\t2\n\nb = 3\n"), ["a = 1,\t2", "b = 3"]);
    }
}
