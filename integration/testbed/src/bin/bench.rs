//! How many certified transactions a provider does per second, next to what its Postfix and Dovecot do without it.
//!
//! A provider and a plain host take turns on one machine, in rounds, with the same clients, mailboxes and settings. One
//! transaction inside one provider is four messages in mailboxes; the plain host delivers four messages of the submitted
//! size for each. A round ends when every mailbox has all of them and the queue is empty.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use std::{env, thread};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use pec_testbed::smtp::Smtp;
use pec_testbed::{Daemon, Host, Plan, Port, wait_until};

/// Certified transactions per second inside one provider, next to plain Postfix and Dovecot.
///
/// pec/s counts transactions: submitted by a user over a kept-open connection with TLS and login, until the envelope, the
/// acceptance, the take-charge and the delivery receipt lie in their mailboxes and the queue is empty. plain/s is the
/// messages per second of the same Postfix and Dovecot without pec-milter, divided by the four messages that a transaction
/// delivers: ratio = pec/s : plain/s.
#[derive(Debug, Parser)]
#[command(name = "integration/bench")]
struct Arguments {
    /// Writes the figures to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// How long to measure, for each message size.
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u32).range(6..))]
    seconds: u32,
    /// Message sizes in KB.
    #[arg(long, value_name = "KB", value_delimiter = ',', default_value = "2,20,200")]
    sizes: Vec<usize>,
}

/// Connections in use at the same time, each for a user of its own.
const WRITERS: usize = 8;

/// The two hosts take turns this often, so that whatever else the machine does meets both.
const ROUNDS: u32 = 3;

/// Transactions of the round that warms up and tells how long a round is.
const FIRST_ROUND: usize = 80;

/// How often mailboxes and queue are looked at: seldom enough not to disturb.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Nothing is delivered any more for this long: messages are missing.
const STANDSTILL: Duration = Duration::from_secs(30);

/// What delivers, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum System {
    Certified,
    Plain,
}

#[derive(Debug)]
struct Figures {
    size: usize,
    pec_per_s: f64,
    plain_per_s: f64,
    /// Of the daemon, for one transaction.
    cpu_s: f64,
    peak_mib: f64,
}

impl Figures {
    fn ratio(&self) -> f64 {
        self.pec_per_s / self.plain_per_s
    }
}

fn main() -> ExitCode {
    match bench(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("FAILED: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn bench(arguments: &Arguments) -> Result<()> {
    // Cargo puts both programs into one folder.
    let program = env::current_exe()?.with_file_name("pec-milter");
    let users: Vec<String> = (0..WRITERS).flat_map(|number| [writer(number), reader(number)]).collect();
    let mut users: Vec<&str> = users.iter().map(String::as_str).collect();
    let plan = Plan::new(program).provider("alfa", &users);
    users.push(SERVICE);
    let testbed = plan.plain("gamma", &users).start()?;
    let hosts = [(System::Certified, testbed.host("alfa")?), (System::Plain, testbed.host("gamma")?)];

    println!("{WRITERS} connections, {ROUNDS} rounds each in turn; transactions per second, see --help");
    println!("{:>9} {:>9} {:>9} {:>7} {:>16} {:>9}", "size", "pec/s", "plain/s", "ratio", "daemon CPU ms", "peak MiB");
    let mut all = Vec::new();
    for size in &arguments.sizes {
        let figures = measure(&hosts, size * 1024, f64::from(arguments.seconds))
            .with_context(|| testbed.logs())
            .with_context(|| format!("messages of {size} KB"))?;
        let Figures { pec_per_s, plain_per_s, cpu_s, peak_mib, .. } = &figures;
        let (ratio, cpu_ms) = (figures.ratio(), cpu_s * 1000.0);
        println!("{size:>6} KB {pec_per_s:>9.1} {plain_per_s:>9.1} {ratio:>7.2} {cpu_ms:>16.2} {peak_mib:>9.1}");
        all.push(figures);
    }
    if let Some(file) = &arguments.json {
        fs::write(file, json(&all)).with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}

/// One message size: a first round each, then both in turn for so many seconds.
fn measure(hosts: &[(System, &Host); 2], size: usize, seconds: f64) -> Result<Figures> {
    let [(_, certified), _] = hosts;
    let daemon = certified.daemon()?;
    let mut counts = [0; 2];
    for ((system, host), count) in hosts.iter().zip(&mut counts) {
        let per_second = FIRST_ROUND as f64 / round(*system, host, size, FIRST_ROUND)?.as_secs_f64();
        let per_round = per_second * seconds / f64::from(ROUNDS * 2);
        *count = (per_round as usize).next_multiple_of(WRITERS);
    }
    forget_peak_memory(daemon)?;
    let cpu_before = cpu_seconds(daemon)?;
    let mut spent = [Duration::ZERO; 2];
    for _ in 0..ROUNDS {
        for (((system, host), count), spent) in hosts.iter().zip(counts).zip(&mut spent) {
            *spent += round(*system, host, size, count)?;
        }
    }
    let done = counts.map(|count| count as f64 * f64::from(ROUNDS));
    let [pec_per_s, plain_per_s] = [0, 1].map(|index| done[index] / spent[index].as_secs_f64());
    let cpu_s = (cpu_seconds(daemon)? - cpu_before) / done[0];
    Ok(Figures { size, pec_per_s, plain_per_s, cpu_s, peak_mib: peak_mib(daemon)? })
}

/// Submits what makes so many transactions and returns how long it took until all was delivered.
fn round(system: System, host: &Host, size: usize, transactions: usize) -> Result<Duration> {
    empty_mailboxes(host)?;
    let sessions = (0..WRITERS).map(|number| session(host, number)).collect::<Result<Vec<_>>>()?;
    let start = Instant::now();
    thread::scope(|scope| {
        let submit = |(number, mut smtp): (usize, Smtp)| {
            scope.spawn(move || -> Result<()> {
                for transaction in (number..transactions).step_by(WRITERS) {
                    submit(&mut smtp, system, host, number, transaction, size)?;
                }
                Ok(())
            })
        };
        let writers: Vec<_> = sessions.into_iter().enumerate().map(submit).collect();
        writers.into_iter().try_for_each(|writer| writer.join().unwrap_or_else(|_| bail!("a writer panicked")))
    })?;
    wait_for_delivery(host, transactions * 4)?;
    let spent = start.elapsed();
    // More than expected would be as wrong as less.
    wait_until("an empty queue", STANDSTILL, || {
        let queue = host.queue()?;
        ensure!(queue.starts_with("Mail queue is empty"), "{queue}");
        Ok(())
    })?;
    let found = delivered(host)?;
    ensure!(found == transactions * 4, "{transactions} transactions made {found} messages");
    Ok(spent)
}

fn submit(smtp: &mut Smtp, system: System, host: &Host, number: usize, transaction: usize, size: usize) -> Result<()> {
    let (from, to) = (host.mailbox(&writer(number)), host.mailbox(&reader(number)));
    // The plain host fills the same mailboxes: two to the sender, one to the recipient, one to the service mailbox.
    let recipients = match system {
        System::Certified => vec![to],
        System::Plain => vec![to, from.clone(), from.clone(), host.mailbox(SERVICE)],
    };
    for (part, to) in recipients.iter().enumerate() {
        let message = message(&from, to, &format!("{transaction}.{part}"), size);
        for command in [format!("MAIL FROM:<{from}>"), format!("RCPT TO:<{to}>"), "DATA".to_owned()] {
            let answer = smtp.command(&command)?;
            ensure!(answer.is_positive(), "{command}: {} {}", answer.code, answer.text);
        }
        let answer = smtp.message(&message)?;
        ensure!(answer.is_positive(), "the message was answered {} {}", answer.code, answer.text);
    }
    Ok(())
}

fn session(host: &Host, number: usize) -> Result<Smtp> {
    let user = host.mailbox(&writer(number));
    let known = host.site.users.iter().find(|known| known.address == user).context("no such user")?;
    let mut smtp = host.smtp(Port::Submissions)?;
    let answer = smtp.login(&user, &known.password)?;
    ensure!(answer.is_positive(), "{user} cannot log in: {} {}", answer.code, answer.text);
    Ok(smtp)
}

/// Text lines, as many as it takes.
fn message(from: &str, to: &str, id: &str, size: usize) -> Vec<u8> {
    const LINE: &[u8] = b"Nel mezzo del cammin di nostra vita mi ritrovai per una selva oscura.\r\n";
    let header = format!(
        "From: {from}\r\nTo: {to}\r\nSubject: {id}\r\nDate: Mon, 15 Jul 2024 10:30:43 +0200\r\n\
         Message-ID: <{id}.{from}>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain\r\n\r\n"
    );
    let lines = size.saturating_sub(header.len()) / LINE.len();
    [header.as_bytes(), &LINE.repeat(lines.max(1))].concat()
}

const SERVICE: &str = "ricevute";

fn writer(number: usize) -> String {
    format!("scrive{number}")
}

fn reader(number: usize) -> String {
    format!("legge{number}")
}

// --- Mailboxes and queue, by their files: that costs the servers nothing ---

/// Waits for so many messages in all mailboxes together and for an empty queue, as long as something goes on.
fn wait_for_delivery(host: &Host, expected: usize) -> Result<()> {
    let (mut last, mut since) = (0, Instant::now());
    loop {
        let (found, queued) = (delivered(host)?, queued(host)?);
        if found >= expected && queued == 0 {
            return Ok(());
        }
        if found != last {
            (last, since) = (found, Instant::now());
        }
        if since.elapsed() > STANDSTILL {
            bail!("{found} of {expected} messages were delivered, {queued} are queued:\n{}", host.queue()?);
        }
        thread::sleep(LOOK_EVERY);
    }
}

fn delivered(host: &Host) -> Result<usize> {
    let mut count = 0;
    for mailbox in fs::read_dir(mailboxes(host))? {
        count += entries(&mailbox?.path().join("Maildir/new"))?;
    }
    Ok(count)
}

/// Deferred mail is not counted: it would be a fault, which the delivered messages show.
fn queued(host: &Host) -> Result<usize> {
    let folders = ["maildrop", "incoming", "active"].map(|name| host.site.spool().join(name));
    folders.iter().map(|folder| entries(folder)).sum()
}

fn entries(folder: &Path) -> Result<usize> {
    match fs::read_dir(folder) {
        Ok(entries) => Ok(entries.count()),
        // A mailbox comes to be with its first message.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", folder.display())),
    }
}

fn empty_mailboxes(host: &Host) -> Result<()> {
    for mailbox in fs::read_dir(mailboxes(host))? {
        fs::remove_dir_all(mailbox?.path())?;
    }
    Ok(())
}

fn mailboxes(host: &Host) -> PathBuf {
    host.site.folder.join("mail")
}

// --- The daemon, by what the kernel knows of it ---

/// The unit of times in `/proc/PID/stat`: Linux shows user space a clock of 100 Hz, whatever its own.
const TICKS_PER_SECOND: f64 = 100.0;

/// User and system time so far.
fn cpu_seconds(daemon: &Daemon) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", daemon.process_id()?))?;
    // The name, in parentheses, may hold blanks; utime and stime are the 12th and 13th fields after it.
    let fields = stat.rsplit_once(')').map(|(_, fields)| fields).unwrap_or_default().split_whitespace();
    let ticks: Vec<f64> = fields.skip(11).take(2).map(str::parse).collect::<Result<_, _>>()?;
    Ok(ticks.iter().sum::<f64>() / TICKS_PER_SECOND)
}

/// The most memory it had at once since [`forget_peak_memory`].
fn peak_mib(daemon: &Daemon) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.process_id()?))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib / 1024.0)
}

fn forget_peak_memory(daemon: &Daemon) -> Result<()> {
    fs::write(format!("/proc/{}/clear_refs", daemon.process_id()?), "5").context("cannot reset the peak memory")
}

fn json(all: &[Figures]) -> String {
    let rows: Vec<String> = all
        .iter()
        .map(|figures| {
            let Figures { size, pec_per_s, plain_per_s, cpu_s, peak_mib } = figures;
            format!(
                "  {{\"size\": {size}, \"pec_per_s\": {pec_per_s:.2}, \"plain_per_s\": {plain_per_s:.2}, \
                 \"ratio\": {:.3}, \"cpu_s\": {cpu_s:.6}, \"peak_mib\": {peak_mib:.1}}}",
                figures.ratio()
            )
        })
        .collect();
    format!("[\n{}\n]\n", rows.join(",\n"))
}
