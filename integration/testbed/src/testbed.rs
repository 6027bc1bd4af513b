//! A mail network made from a plan: certificates first, then the providers directory, then one host after the other.
//!
//! Every provider trusts the same root and reads the same directory. A test that fails gets the logs of all hosts.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::unistd::geteuid;

use crate::clamd::Clamd;
use crate::daemon::{self, Daemon, KeyForm, Provider};
use crate::dovecot::Dovecot;
use crate::faketime;
use crate::host::{Host, Site, User};
use crate::ldif::{self, Record};
use crate::network::Network;
use crate::pki::{Identity, Pki, Request};
use crate::postfix::Postfix;
use crate::scratch::Scratch;
use crate::token::Token;
use crate::tsa::Tsa;
use crate::wait::wait_until;
use crate::web::Web;

/// The parts before the `@` of addresses that every provider has.
const SENDING: &str = "posta-certificata";
const SERVICE: &str = "ricevute";

/// The final notice is due after 24 hours; the audit gives it two more, and the rest is for slow tests.
const OUTCOMES_KNOWN_AFTER: Duration = Duration::from_secs(30 * 3600);

/// What left one queue is in the next one, or in a log, after this time.
const LONGEST_BETWEEN_QUEUES: Duration = Duration::from_secs(15);

/// The CA of the users' certificates, by its common name.
pub const USERS_CA: &str = "users-ca";

/// Which hosts there are to be.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    program: PathBuf,
    hosts: Vec<Planned>,
    has_web: bool,
    leaves_watches_open: bool,
}

#[derive(Debug, Clone)]
struct Planned {
    name: String,
    users: Vec<String>,
    certified: bool,
    postfix: String,
    dovecot: String,
    daemon: String,
    trust: String,
    key_form: KeyForm,
    /// Lines for its clamd, if it has one.
    clamd: Option<String>,
    /// The keys of `[directory]` in place of the file that all read.
    directory: Option<String>,
    /// The users with a mailbox certificate, if the host takes certificates.
    certified_users: Option<Vec<String>>,
}

impl Plan {
    /// `program` is the pec-milter that the providers run.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Plan { program: program.into(), ..Plan::default() }
    }

    /// A provider for the mail domain `NAME.example`, with these users besides its service mailboxes.
    pub fn provider(self, name: &str, users: &[&str]) -> Self {
        self.host(name, &[users, &[SENDING, SERVICE]].concat(), true)
    }

    /// An ordinary mail host for `NAME.example`.
    pub fn plain(self, name: &str, users: &[&str]) -> Self {
        self.host(name, users, false)
    }

    /// Takes a mailbox from the host planned last, such as a service mailbox that is to be an alias.
    pub fn without_mailbox(mut self, user: &str) -> Self {
        self.hosts.iter_mut().last().into_iter().for_each(|host| host.users.retain(|name| name != user));
        self
    }

    /// Adds lines to the end of main.cf, where they win, of the host planned last.
    pub fn with_postfix(mut self, lines: &str) -> Self {
        self.hosts.iter_mut().last().into_iter().for_each(|host| host.postfix.push_str(lines));
        self
    }

    /// Adds lines to dovecot.conf of the host planned last.
    pub fn with_dovecot(mut self, lines: &str) -> Self {
        self.hosts.iter_mut().last().into_iter().for_each(|host| host.dovecot.push_str(lines));
        self
    }

    /// Adds TOML to the pec-milter of the host planned last.
    pub fn with_pec_milter(mut self, toml: &str) -> Self {
        self.hosts.iter_mut().last().into_iter().for_each(|host| host.daemon.push_str(toml));
        self
    }

    /// Adds lines to `[trust]` of the pec-milter planned last.
    pub fn with_trust(mut self, toml: &str) -> Self {
        self.hosts.iter_mut().last().into_iter().for_each(|host| host.trust.push_str(toml));
        self
    }

    /// Publishes the revocation lists on a web server, which all certificates name; without it they are files, which all
    /// configurations name.
    pub fn with_web(mut self) -> Self {
        self.has_web = true;
        self
    }

    /// For a test that on purpose ends while the outcome of a recipient is open: no audit after the time for it.
    pub fn with_open_watches(mut self) -> Self {
        self.leaves_watches_open = true;
        self
    }

    /// Has a provider, planned before, keep its key in this form.
    pub fn with_key(mut self, name: &str, form: KeyForm) -> Self {
        self.hosts.iter_mut().filter(|host| host.name == name).for_each(|host| host.key_form = form);
        self
    }

    /// Gives the provider planned last a virus scanner that knows the EICAR pattern; the lines end its clamd.conf.
    pub fn with_clamd(mut self, lines: &str) -> Self {
        self.hosts.iter_mut().last().into_iter().for_each(|host| host.clamd = Some(lines.to_owned()));
        self
    }

    /// Gives the provider planned last its directory in another way: the keys of its section `[directory]`.
    pub fn with_directory(mut self, keys: &str) -> Self {
        self.hosts.iter_mut().last().into_iter().for_each(|host| host.directory = Some(keys.to_owned()));
        self
    }

    /// Lets users of the host planned last identify themselves by certificates of [`USERS_CA`]; these read their mailboxes
    /// so.
    pub fn with_user_certificates(mut self, users: &[&str]) -> Self {
        let users: Vec<_> = users.iter().map(|&user| user.to_owned()).collect();
        self.hosts.iter_mut().last().into_iter().for_each(|host| host.certified_users = Some(users.clone()));
        self
    }

    /// Starts all of it, and returns when every host serves.
    pub fn start(self) -> Result<Testbed> {
        Testbed::start(self)
    }

    /// Starts all of it for one test, and audits all event logs after it: as they are, and, where no mail is left under
    /// way, with every outcome overdue that is still open. A failure shows the logs of every host, and keeps the files if
    /// PEC_KEEP=1.
    pub fn test(self, body: impl FnOnce(&Testbed) -> Result<()>) {
        let leaves_watches_open = self.leaves_watches_open;
        let testbed = self.start().unwrap_or_else(|error| panic!("{error:#}"));
        // The panic happens while the testbed lives, which is how it knows of the failure.
        let audited = |()| {
            testbed.audit()?;
            if leaves_watches_open { Ok(()) } else { testbed.audit_after_all_is_due() }
        };
        body(&testbed).and_then(audited).unwrap_or_else(|error| panic!("{error:#}"));
    }

    fn host(mut self, name: &str, users: &[&str], certified: bool) -> Self {
        let [postfix, dovecot, daemon, trust] = [(); 4].map(|()| String::new());
        let users = users.iter().map(|&user| user.to_owned()).collect();
        self.hosts.push(Planned {
            name: name.to_owned(),
            users,
            certified,
            postfix,
            dovecot,
            daemon,
            trust,
            key_form: KeyForm::default(),
            clamd: None,
            directory: None,
            certified_users: None,
        });
        self
    }
}

/// A running mail network; it ends when dropped.
pub struct Testbed {
    pub pki: Pki,
    /// The providers directory that all providers read.
    pub ldif: PathBuf,
    hosts: Vec<Host>,
    web: Option<Web>,
    // After the hosts, so that the folder is there while they are dropped; it ends their daemons.
    scratch: Scratch,
    // Last, so that nobody else gets the addresses while a daemon still listens on them.
    network: Network,
}

impl Testbed {
    fn start(plan: Plan) -> Result<Self> {
        ensure!(geteuid().is_root(), "Postfix and Dovecot start as root: run this as root");
        let scratch = Scratch::new()?;
        let network = Network::reserve()?;
        let domains: Vec<_> = plan.hosts.iter().map(|host| domain(&host.name)).collect();
        let domains: Vec<_> = domains.iter().map(String::as_str).collect();
        // Behind all hosts.
        let web_address = network.host(200);
        let origin = plan.has_web.then(|| Web::origin(web_address));
        let pki = Pki::published_at(scratch.path().join("pki"), &domains, origin)?;
        let web = plan.has_web.then(|| Web::new(web_address, &pki.published(), &scratch.path().join("web")));
        let web = web.transpose()?;
        web.iter().try_for_each(Web::start)?;

        if plan.hosts.iter().any(|host| host.certified_users.is_some()) {
            pki.authority(USERS_CA, None, &[])?;
        }

        let sites = plan
            .hosts
            .iter()
            .zip(0..)
            .map(|(host, index)| site(host, network.host(index), scratch.path(), &pki))
            .collect::<Result<Vec<_>>>()?;
        let ldif = scratch.path().join("providers.ldif");
        let files = format!("crl_files = [{:?}, {:?}]\n", pki.list("root"), pki.list("provider-ca"));
        let lists = if plan.has_web { String::new() } else { files };
        let trust_of = |host: &Planned| [lists.as_str(), &host.trust].concat();
        let providers = sites
            .iter()
            .zip(&plan.hosts)
            .map(|(site, planned)| {
                site.certified.then(|| provider(site, planned.key_form, &pki, &ldif, trust_of(planned))).transpose()
            })
            .collect::<Result<Vec<_>>>()?;
        let records: Vec<_> =
            sites.iter().zip(&providers).filter_map(|(site, of)| Some(record(site, of.as_ref()?))).collect();
        fs::write(&ldif, ldif::write(&records)?)?;

        let mut testbed = Testbed { pki, ldif, hosts: Vec::new(), web, network, scratch };
        for ((planned, site), provider) in plan.hosts.iter().zip(&sites).zip(providers) {
            let neighbours: Vec<_> = sites.iter().filter(|other| other.domain != site.domain).collect();
            let postfix = Postfix::configure(site, &neighbours, &planned.postfix)?;
            let dovecot = Dovecot::configure(site, &planned.dovecot)?;
            let clamd = planned.clamd.as_ref().map(|lines| Clamd::configure(&site.folder, lines)).transpose()?;
            let scanner = clamd.as_ref().map(Clamd::settings).unwrap_or_default();
            // The scanner's key goes to the end of the settings, into their last section, [virus].
            let toml = [scanner, planned.daemon.clone()].concat();
            let daemon = provider
                .as_ref()
                .map(|provider| Daemon::configure(site, provider, &plan.program, planned.directory.as_deref(), &toml))
                .transpose()?;
            let host = Host::new(site.clone(), provider, daemon, postfix, dovecot, clamd);
            host.start().with_context(|| format!("{} does not start", site.domain))?;
            testbed.hosts.push(host);
        }
        testbed.scratch.started();
        Ok(testbed)
    }

    /// The host of the mail domain `NAME.example`.
    pub fn host(&self, name: &str) -> Result<&Host> {
        self.hosts.iter().find(|host| host.site.name == name).with_context(|| format!("no host {name}"))
    }

    /// The web server with the revocation lists.
    pub fn web(&self) -> Result<&Web> {
        self.web.as_ref().context("the plan has no web server")
    }

    /// A time stamping authority that is not started yet; each testbed has one at most.
    pub fn tsa(&self, over_tls: bool) -> Result<Tsa> {
        // Behind the web server.
        Tsa::new(self.network.host(201), &self.scratch.path().join("tsa"), &self.pki, over_tls)
    }

    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// A folder for files of the test's own; it goes away with the testbed.
    pub fn folder(&self) -> &Path {
        self.scratch.path()
    }

    /// Writes these records into the providers directory beside those of the plan, and waits until all have read it.
    pub fn list_in_directory(&self, others: &[Record]) -> Result<()> {
        let own = self.hosts.iter().filter_map(|host| Some(record(&host.site, host.provider.as_ref()?)));
        let records: Vec<_> = own.chain(others.iter().cloned()).collect();
        fs::write(&self.ldif, ldif::write(&records)?)?;
        self.hosts.iter().filter(|host| host.provider.is_some()).try_for_each(|host| host.daemon()?.reload_and_wait())
    }

    /// Waits until no host has anything left to deliver.
    pub fn wait_for_empty_queues(&self) -> Result<()> {
        // Once more: a notification may go back to a host that was found empty. None causes a further message.
        self.hosts.iter().chain(&self.hosts).try_for_each(Host::wait_for_empty_queue)
    }

    /// Nothing that an auditor would object to may stand in the event log of any provider.
    pub fn audit(&self) -> Result<()> {
        for host in self.hosts.iter().filter(|host| host.site.certified) {
            let (is_sound, said) = host.daemon()?.command(&["log", "audit"])?;
            ensure!(is_sound, "the audit of {} finds:\n{said}", host.site.domain);
        }
        Ok(())
    }

    /// The same as if it were so late that every outcome must be known. What still lies in a queue may have one yet, and what
    /// is between two queues has one soon.
    fn audit_after_all_is_due(&self) -> Result<()> {
        let later = faketime::beginning_in(OUTCOMES_KNOWN_AFTER)?;
        let later: Vec<_> = later.iter().map(|(name, value)| (*name, value.as_str())).collect();
        wait_until("every log to know every outcome", LONGEST_BETWEEN_QUEUES, || {
            for host in &self.hosts {
                // A Postfix that a test has stopped still tells what it holds.
                if !host.is_queue_empty()? {
                    return Ok(());
                }
            }
            for host in self.hosts.iter().filter(|host| host.site.certified) {
                let (code, said) = host.daemon()?.command_with(&["log", "audit"], &later)?;
                ensure!(code == Some(0), "the audit of {} finds, all being due:\n{said}", host.site.domain);
            }
            Ok(())
        })
    }

    /// The last lines of all logs.
    pub fn logs(&self) -> String {
        self.hosts.iter().map(Host::logs).collect()
    }
}

impl Drop for Testbed {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("{}", self.logs());
        }
    }
}

fn domain(name: &str) -> String {
    format!("{name}.example")
}

fn site(planned: &Planned, address: std::net::Ipv4Addr, scratch: &Path, pki: &Pki) -> Result<Site> {
    let folder = scratch.join(&planned.name);
    fs::create_dir_all(&folder)?;
    let domain = domain(&planned.name);
    let user = |name: &String| User { address: format!("{name}@{domain}"), password: format!("{name}-password") };
    Ok(Site {
        name: planned.name.clone(),
        address,
        folder,
        users: planned.users.iter().map(user).collect(),
        certified: planned.certified,
        tls: pki.server(&format!("mx.{domain}"), address)?,
        tls_root: pki.tls_root(),
        users_ca: planned.certified_users.as_ref().map(|_| pki.certificate(USERS_CA)),
        certified_users: planned.certified_users.iter().flatten().map(|name| format!("{name}@{domain}")).collect(),
        domain,
    })
}

fn provider(site: &Site, key_form: KeyForm, pki: &Pki, ldif: &Path, trust: String) -> Result<Provider> {
    let mut initial = site.name.clone();
    if let Some(first) = initial.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    let name = format!("{initial} PEC S.p.A.");
    let sending_address = format!("{SENDING}@{}", site.domain);
    let request = Request::provider(&format!("{}-provider", site.name), &name, &sending_address);
    let (identity, token) = match key_form {
        KeyForm::Pem | KeyForm::Rust => (pki.issue(&request)?, None),
        KeyForm::Pkcs12 => {
            let identity = pki.issue(&request)?;
            pki.pkcs12(&identity, daemon::PASSPHRASE.trim_end())?;
            (identity, None)
        }
        KeyForm::Token => {
            let token = Token::make(&site.folder.join("token"), daemon::owner()?)?;
            let (certificate, chain) = pki.certify(&request, &token.generate(daemon::TOKEN_KEY)?)?;
            (Identity { key: PathBuf::new(), certificate, chain }, Some(token))
        }
    };
    Ok(Provider {
        trust,
        sending_address,
        key_form,
        token,
        service_mailbox: format!("{SERVICE}@{}", site.domain),
        identity,
        ca: pki.root(),
        ldif: ldif.to_owned(),
        name,
    })
}

fn record(site: &Site, provider: &Provider) -> Record {
    Record {
        provider_name: provider.name.clone(),
        certificates: vec![provider.identity.certificate.clone()],
        mail_receipt: provider.service_mailbox.clone(),
        managed_domains: vec![site.domain.clone()],
    }
}
