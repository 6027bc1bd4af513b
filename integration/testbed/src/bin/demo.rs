//! One certified message from one provider to another, to its own users and to an ordinary address, on real servers.
//!
//! Shows what happens, the timeline of both providers, and every message that came of it with two verdicts: OpenSSL's
//! and pec-milter's. Ends with 1 and the logs when something is missing or a verdict is bad.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, thread};

use anyhow::{Context, Result, bail};
use clap::Parser;
use pec_testbed::referee::openssl_cms_verify;
use pec_testbed::sample::contract;
use pec_testbed::{Host, Plan, Port, Testbed};

/// Sends one certified message through two PEC providers and shows all that comes of it.
#[derive(Debug, Parser)]
#[command(name = "integration/demo")]
struct Arguments {
    /// The folder for the received messages.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Stays up afterwards for a mail program of yours, until Ctrl-C.
    #[arg(long)]
    keep: bool,
}

/// Who receives how many messages in the end, and why.
const EXPECTED: [(&str, &str, usize, &str); 5] = [
    ("alfa", "anna", 3, "her acceptance and the delivery receipts of bruno and carla"),
    ("beta", "bruno", 1, "the envelope"),
    ("alfa", "carla", 1, "the envelope"),
    ("gamma", "mario", 1, "the envelope, as ordinary mail"),
    ("alfa", "ricevute", 2, "the take-charges: its own for carla, beta's for bruno"),
];

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match demo(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nFAILED: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn demo(arguments: &Arguments) -> Result<()> {
    let out = match &arguments.out {
        Some(folder) => folder.clone(),
        None => tempfile::Builder::new().prefix("pec-demo-").tempdir()?.keep(),
    };
    fs::create_dir_all(&out).with_context(|| format!("cannot make {}", out.display()))?;

    println!("Starting the providers alfa.example and beta.example and the ordinary host gamma.example ...");
    // Cargo puts both programs into one folder.
    let program = env::current_exe()?.with_file_name("pec-milter");
    let testbed = Plan::new(program)
        .provider("alfa", &["anna", "carla"])
        .provider("beta", &["bruno"])
        .plain("gamma", &["mario"])
        .start()?;
    let outcome = send(&testbed).and_then(|()| show(&testbed, &out));
    if outcome.is_err() {
        eprintln!("{}", testbed.logs());
    }
    if arguments.keep {
        if let Err(error) = &outcome {
            eprintln!("\nFAILED: {error:#}");
        }
        keep(&testbed);
    }
    outcome
}

fn send(testbed: &Testbed) -> Result<()> {
    println!("anna@alfa.example sends to bruno@beta.example, Cc carla@alfa.example and mario@gamma.example ...");
    let recipients = ["bruno@beta.example", "carla@alfa.example", "mario@gamma.example"];
    let alfa = testbed.host("alfa")?;
    let dialogue = alfa.submit("anna", Port::Submissions, "anna@alfa.example", &recipients, &contract())?;
    if !dialogue.accepted() {
        bail!("alfa.example did not take the message:\n{dialogue}");
    }
    for (host, user, count, what) in EXPECTED {
        let host = testbed.host(host)?;
        host.fetch_when(user, count)?;
        println!("  {} has {what}", host.mailbox(user));
    }
    testbed.wait_for_empty_queues()
}

fn show(testbed: &Testbed, out: &Path) -> Result<()> {
    let envelope = testbed.host("beta")?.fetch("bruno")?;
    let envelope = envelope.first().context("bruno has no message")?;
    let id = field(envelope, "Message-ID").context("bruno's envelope has no Message-ID")?;
    let id = id.trim_matches(['<', '>']);
    let mut bad = Vec::new();
    for name in ["alfa", "beta"] {
        let (found, timeline) = testbed.host(name)?.daemon()?.command(&["log", "show", id])?;
        println!("\nTimeline of {id} at {name}.example:\n{}", indented(&timeline));
        if !found {
            bad.push(format!("{name}.example knows no timeline"));
        }
    }
    println!("\nMessages, in {}:", out.display());
    let mailboxes = EXPECTED.into_iter().map(|(host, user, ..)| (host, user)).chain([("beta", "ricevute")]);
    for (host, user) in mailboxes {
        let host = testbed.host(host)?;
        for (number, message) in (1..).zip(host.fetch(user)?) {
            let kind = field(&message, "X-Ricevuta").or_else(|| field(&message, "X-Trasporto"));
            let name = format!("{}-{number}-{}.eml", host.mailbox(user), kind.as_deref().unwrap_or("ordinary"));
            let file = out.join(&name);
            fs::write(&file, message).with_context(|| format!("cannot write {}", file.display()))?;
            println!("\n{name}");
            bad.extend(verdicts(testbed, &file)?.into_iter().map(|verdict| format!("{name}: {verdict}")));
        }
    }
    if !bad.is_empty() {
        bail!("{}", bad.join("\n"));
    }
    println!("\nAll messages arrived and all verdicts are good.");
    Ok(())
}

/// Prints both verdicts and returns the bad ones.
fn verdicts(testbed: &Testbed, file: &Path) -> Result<Vec<String>> {
    let mut bad = Vec::new();
    match openssl_cms_verify(file, &testbed.pki.root()) {
        Ok(()) => println!("  openssl cms -verify: signature and certificate are good"),
        Err(error) => bad.push(format!("openssl cms -verify: {error:#}")),
    }
    let whole = file.canonicalize()?;
    let path = whole.to_str().context("the folder's name is not UTF-8")?;
    let (good, said) = testbed.host("alfa")?.daemon()?.command(&["verify", path])?;
    println!("  pec-milter verify:\n{}", indented(&indented(said.trim_end())));
    if !good {
        bad.push("pec-milter verify says no".to_owned());
    }
    Ok(bad)
}

/// Tells a person how to connect, and waits for Ctrl-C, which ends the process with everything in the testbed.
fn keep(testbed: &Testbed) -> ! {
    println!("\nThe hosts stay up. Certificates are of this CA: {}", testbed.pki.tls_root().display());
    for host in testbed.hosts() {
        describe(host);
    }
    println!("\nCtrl-C ends everything.");
    loop {
        thread::park();
    }
}

fn describe(host: &Host) {
    let address = host.site.address;
    println!("\n{} ({})", host.site.domain, if host.site.certified { "PEC provider" } else { "ordinary mail" });
    let [imaps, pop3s] = host.mailbox_ports();
    println!("  IMAPS {address}:{imaps}, POP3S {address}:{pop3s}");
    let [tls, starttls] = [Port::Submissions, Port::Submission].map(Port::number);
    println!("  SMTP with TLS {address}:{tls}, with STARTTLS {address}:{starttls}");
    for user in &host.site.users {
        println!("  user {} password {}", user.address, user.password);
    }
    if let Ok(daemon) = host.daemon() {
        println!("  pec-milter --config {}", daemon.configuration.display());
    }
}

/// The value of a header field that fits on one line.
fn field(message: &[u8], name: &str) -> Option<String> {
    let text = String::from_utf8_lossy(message);
    let header = text.split("\r\n\r\n").next()?;
    // A long value may begin on the next line.
    let header = header.replace("\r\n ", " ").replace("\r\n\t", " ");
    header.lines().find_map(|line| {
        let (field, value) = line.split_once(':')?;
        field.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
    })
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}
