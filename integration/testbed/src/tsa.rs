//! A time stamping authority (RFC 3161): OpenSSL's, behind Python's web server, with a CA of its own. A test says how it
//! answers; it can end and start it.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::network::TSA;
use crate::pki::{Identity, Pki, Request};
use crate::process::{end, run};
use crate::wait::{PATIENCE, wait_until};

const SERVER: &str = include_str!("tsa_server.py");

const CONFIGURATION: &str = "[tsa]\ndefault_tsa = one\n[one]\nserial = serial\nsigner_digest = sha256\n\
    default_policy = 1.2.3.4\ndigests = sha256\naccuracy = secs:1\nclock_precision_digits = 3\n";

/// The CA of the authority, and one that nobody configures.
const CA: &str = "tsa-ca";
const OTHER_CA: &str = "other-tsa-ca";

/// How it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    Good,
    /// Not before it has another mood.
    Silent,
    /// With status 500.
    Broken,
    /// With a page for people.
    Page,
    Garbage,
    /// With more than anybody reads.
    Endless,
    /// Nothing is stamped.
    Refusing,
    /// With a stamp over other octets.
    Confused,
    /// With a stamp by a signer of another CA.
    Stranger,
    /// With a stamp of ten minutes ahead.
    Ahead,
}

impl Mood {
    fn name(self) -> &'static str {
        match self {
            Mood::Good => "good",
            Mood::Silent => "silent",
            Mood::Broken => "broken",
            Mood::Page => "page",
            Mood::Garbage => "garbage",
            Mood::Endless => "endless",
            Mood::Refusing => "refusing",
            Mood::Confused => "confused",
            Mood::Stranger => "stranger",
            Mood::Ahead => "ahead",
        }
    }
}

/// An authority that runs or can be started.
pub struct Tsa {
    address: Ipv4Addr,
    folder: PathBuf,
    ca: PathBuf,
    tls: Option<Identity>,
}

impl Tsa {
    /// Its files lie in `folder`, below the scratch folder; over TLS it is certified by the testbed's TLS CA.
    pub fn new(address: Ipv4Addr, folder: &Path, pki: &Pki, over_tls: bool) -> Result<Self> {
        fs::create_dir_all(folder)?;
        for (ca, name) in [(CA, "tsa"), (OTHER_CA, "stranger")] {
            pki.authority(ca, None, &[])?;
            let identity = pki.issue(&Request::time_stamper(name, ca))?;
            fs::copy(&identity.key, folder.join(name).with_extension("key"))?;
            fs::copy(&identity.certificate, folder.join(name).with_extension("pem"))?;
        }
        fs::write(folder.join("ts.cnf"), CONFIGURATION)?;
        fs::write(folder.join("server.py"), SERVER)?;
        let tls = over_tls.then(|| pki.server("tsa.example", address)).transpose()?;
        let tsa = Tsa { address, folder: folder.to_owned(), ca: pki.certificate(CA), tls };
        tsa.set_mood(Mood::Good)?;
        Ok(tsa)
    }

    /// The CA that certifies it.
    pub fn ca(&self) -> &Path {
        &self.ca
    }

    /// Keys of `[log]` for it.
    pub fn settings(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("tsa_url = \"{scheme}://{}:{TSA}/tsr\"\ntsa_ca_file = {:?}\n", self.address, self.ca)
    }

    pub fn set_mood(&self, mood: Mood) -> Result<()> {
        let (file, beside) = (self.folder.join("mood"), self.folder.join("mood.new"));
        fs::write(&beside, mood.name())?;
        fs::rename(beside, file).map_err(Into::into)
    }

    /// Answers only to this name and password from now on.
    pub fn demand(&self, user: &str, password: &str) -> Result<()> {
        fs::write(self.folder.join("password"), format!("{user}:{password}")).map_err(Into::into)
    }

    /// How often it was asked in this mood.
    pub fn asked(&self, mood: Mood) -> usize {
        let asked = fs::read_to_string(self.folder.join("asked")).unwrap_or_default();
        asked.lines().filter(|line| *line == mood.name()).count()
    }

    /// Starts it and waits until it accepts.
    pub fn start(&self) -> Result<()> {
        let log = File::options().create(true).append(true).open(self.folder.join("tsa.log"))?;
        let mut python = Command::new("python3");
        python.arg(self.folder.join("server.py")).arg(&self.folder);
        python.args([self.address.to_string(), TSA.to_string()]);
        if let Some(tls) = &self.tls {
            python.arg(&tls.certificate).arg(&tls.key);
        }
        let child = python
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // Ctrl-C is for the testbed, which ends its daemons itself.
            .process_group(0)
            .spawn()
            .context("cannot run python3")?;
        fs::write(self.pid_file(), child.id().to_string())?;
        wait_until("the time stamping authority to accept", PATIENCE, || {
            Ok(TcpStream::connect((self.address, TSA)).map(drop)?)
        })
    }

    pub fn stop(&self) -> Result<()> {
        end(&self.pid_file())
    }

    /// What `openssl ts` says of a stamp over a file.
    pub fn verify(&self, stamped: &Path, stamp: &Path) -> Result<String> {
        let mut openssl = Command::new("openssl");
        openssl.args(["ts", "-verify", "-data"]).arg(stamped).arg("-in").arg(stamp).arg("-CAfile").arg(&self.ca);
        Ok(String::from_utf8_lossy(&run(&mut openssl, b"")?).into_owned())
    }

    fn pid_file(&self) -> PathBuf {
        self.folder.join("tsa.pid")
    }
}
