//! The command line: one thin file per command. Exit codes: 0 yes, 1 no, 2 failure, 3 a token refused the PIN.

mod check_config;
mod directory;
mod load;
mod log;
mod receipt;
mod run;
mod seals;
mod servers;
mod trust;
mod verify;
mod virus;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::PossibleValuesParser;
use clap::{Parser, Subcommand};
use jiff::civil::Date;
use load::NotLoaded;

use crate::legal_log::hold::Held;
use crate::legal_log::{EventKind, Outcome, Place};
use crate::model::{Address, TemporalReference};
use crate::operations::verify_log::Period;

/// A provider of PEC, Italy's certified e-mail, on top of Postfix and Dovecot.
#[derive(Debug, Parser)]
#[command(name = "pec-milter", version, about)]
pub struct Arguments {
    /// The configuration file.
    #[arg(long, global = true, value_name = "FILE", default_value = "/etc/pec-milter/pec-milter.toml")]
    config: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serves Postfix until SIGTERM; SIGHUP reloads configuration, key and directory.
    Run,
    /// Checks everything that `run` needs and prints the effective configuration.
    CheckConfig,
    /// Reads the event log, and seals it.
    #[command(subcommand)]
    Log(LogCommand),
    /// Makes receipts again from the event log.
    #[command(subcommand)]
    Receipt(ReceiptCommand),
    /// Says what a message is, who signed it, and what holds of it.
    Verify {
        /// The message, as it lies in a mailbox.
        #[arg(value_name = "FILE.eml")]
        file: PathBuf,
    },
    /// Fetches and reads the providers directory, and writes this provider's record of it.
    #[command(subcommand)]
    Directory(DirectoryCommand),
    /// Reads the store of infected messages.
    #[command(subcommand)]
    Virus(VirusCommand),
    /// Tells whose certificates are believed.
    #[command(subcommand)]
    Trust(TrustCommand),
}

#[derive(Debug, Subcommand)]
enum TrustCommand {
    /// Lists CAs and revocation lists with their state.
    Show,
}

#[derive(Debug, Subcommand)]
enum LogCommand {
    /// Prints the timeline of one transaction.
    Show {
        /// Its PEC msgid, or the Message-ID of the user's client.
        #[arg(value_name = "PEC-MSGID")]
        msgid: String,
    },
    /// Looks for everything that must not be in the log, and names it; a day or the whole log.
    Audit {
        /// The first day, as 2026-07-15.
        #[arg(long, value_name = "DAY")]
        from: Option<Date>,
        /// The last day.
        #[arg(long, value_name = "DAY")]
        to: Option<Date>,
    },
    /// Computes chain, seals and stamps anew, and names the first row that is not as it was written.
    Verify {
        /// The first day, as 2026-07-15.
        #[arg(long, value_name = "DAY")]
        from: Option<Date>,
        /// The last day.
        #[arg(long, value_name = "DAY")]
        to: Option<Date>,
        /// Exported days alone, without the database and the configuration.
        #[arg(long, value_name = "FOLDER", requires = "ca")]
        exported: Option<PathBuf>,
        /// The CAs of the provider's certificate, PEM.
        #[arg(long, value_name = "FILE", requires = "exported")]
        ca: Option<PathBuf>,
        /// The CAs of the time stamps, PEM; without it they are not judged.
        #[arg(long, value_name = "FILE", requires = "exported")]
        tsa_ca: Option<PathBuf>,
    },
    /// Finds entries by any of these together, the earliest first; exit 1 if there is none.
    Search(SearchArguments),
    /// Writes what a mailbox's holder may ask for, and nothing of others, as a signed package.
    Extract {
        /// The mailbox, one of this provider's.
        #[arg(long, value_name = "ADDRESS")]
        mailbox: Address,
        /// The first day, as 2026-07-15.
        #[arg(long, value_name = "DAY")]
        from: Date,
        /// The last day.
        #[arg(long, value_name = "DAY")]
        to: Date,
        /// The package, a ZIP inside a CMS signature (.zip.p7m); must not exist yet.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Counts what providers report: messages by day and domain, notices, viruses, timeouts, refusals, mailboxes.
    Stats {
        /// The first day; by default that of the month before the last whole one.
        #[arg(long, value_name = "DAY", requires = "to")]
        from: Option<Date>,
        /// The last day; by default that of the last whole month.
        #[arg(long, value_name = "DAY", requires = "from")]
        to: Option<Date>,
        /// In place of the tables and the plot.
        #[arg(long)]
        json: bool,
    },
    /// Makes anew what is derived from the log: the watch for timeout notices, and what the search needs.
    Rebuild,
    /// Seals what was recorded since the last seal, and stamps every seal that has no stamp, as `run` does every day.
    Seal,
    /// Removes what is past its retention, as `run` does: sealed rows, infected messages, originals.
    Purge {
        /// Vouches for the clock where no time stamp does, and the log has no rows of two months: else nothing is removed.
        #[arg(long)]
        clock_is_right: bool,
    },
    /// Keeps something beyond its retention.
    #[command(subcommand)]
    Hold(HoldCommand),
    /// Copies the log while mail flows.
    Backup {
        /// Must not exist yet.
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
    },
    /// Brings back what was sealed after a copy of the log that was put back, before the daemon starts.
    Restore,
}

#[derive(Debug, Subcommand)]
enum HoldCommand {
    /// Keeps a transaction, or everything that names a mailbox, until the release.
    Add {
        /// A PEC msgid, or the Message-ID of the user's client.
        #[arg(long, value_name = "MSGID", required_unless_present = "mailbox", conflicts_with = "mailbox")]
        msgid: Option<String>,
        #[arg(long, value_name = "ADDRESS")]
        mailbox: Option<Address>,
        /// Who asked for it, and why; it stands in the log.
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// Lists the holds that stand.
    List,
    /// Ends a hold.
    Release {
        /// As `log hold list` tells it.
        #[arg(value_name = "NUMBER")]
        number: i64,
        /// Who allowed it, and why; it stands in the log.
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
}

#[derive(Debug, Subcommand)]
enum ReceiptCommand {
    /// Writes the receipts of a transaction again, marked as reproduced, or sends them to whom they went.
    Reproduce {
        /// The transaction's PEC msgid.
        #[arg(value_name = "PEC-MSGID")]
        id: String,
        /// Only those of one kind, as `log show` calls it.
        #[arg(long, value_name = "KIND", value_parser = receipt::told_kind)]
        kind: Option<EventKind>,
        /// Only those about this recipient.
        #[arg(long, value_name = "ADDRESS")]
        recipient: Option<String>,
        /// Writes each into a file there; without --send this folder is the current one.
        #[arg(long, value_name = "FOLDER")]
        out: Option<PathBuf>,
        /// Sends each to the mailbox it went to the first time.
        #[arg(long)]
        send: bool,
        /// Makes them without the originals, also where these are kept: for originals that cannot be read any more.
        #[arg(long)]
        without_original: bool,
    },
}

#[derive(Debug, clap::Args)]
pub struct SearchArguments {
    /// The reverse path.
    #[arg(long, value_name = "ADDRESS")]
    sender: Option<String>,
    /// A recipient, also one of several.
    #[arg(long, value_name = "ADDRESS")]
    recipient: Option<String>,
    /// A PEC msgid, the Message-ID of the user's client, or that of a notification.
    #[arg(long, value_name = "MSGID")]
    msgid: Option<String>,
    /// The first day, as 2026-07-15, or instant, as 2026-07-15T08:30:00+02:00.
    #[arg(long, value_name = "DAY|INSTANT", value_parser = log::period::beginning)]
    from: Option<TemporalReference>,
    /// The last day or instant.
    #[arg(long, value_name = "DAY|INSTANT", value_parser = log::period::end)]
    to: Option<TemporalReference>,
    /// What happened.
    #[arg(long, value_parser = PossibleValuesParser::new(EventKind::ALL.map(EventKind::name)))]
    kind: Option<String>,
    /// What became of the message or of a recipient.
    #[arg(long, value_parser = PossibleValuesParser::new(Outcome::ALL.map(Outcome::name)))]
    outcome: Option<String>,
    /// The provider that the message came from, by its name.
    #[arg(long, value_name = "NAME")]
    provider: Option<String>,
    /// Goes on where a page ended.
    #[arg(long, value_name = "SEQUENCE/INSTANT")]
    after: Option<Place>,
    /// The entries of a page.
    #[arg(long, value_name = "NUMBER", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
    /// In place of the table.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum DirectoryCommand {
    /// Fetches the directory now; a running daemon takes it over within seconds.
    Refresh {
        /// Takes it even if it has lost more providers or domains than directory.most_lost_percent.
        #[arg(long)]
        accept_shrunken: bool,
    },
    /// Says how current the directory is, or what it says of a domain, provider or certificate.
    Show {
        /// A domain, a provider's name, or the SHA-1 hash of a certificate.
        #[arg(value_name = "DOMAIN|PROVIDER|HASH")]
        what: Option<String>,
    },
    /// Shows what a refresh would change, and whether it would be refused; nothing is changed.
    Diff {
        /// In place of what the server gives: a .p7m, or LDIF.
        #[arg(value_name = "FILE", conflicts_with = "last")]
        file: Option<PathBuf>,
        /// What the last change was, instead.
        #[arg(long)]
        last: bool,
    },
    /// Writes this provider's own record for its publication: LDIF, or signed.
    OwnRecord {
        /// Where the signed record will be found (LDIFLocationURL).
        #[arg(long, value_name = "URL")]
        location: Option<String>,
        /// Signs it into this file.
        #[arg(long, value_name = "FILE")]
        p7m: Option<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
enum VirusCommand {
    /// Lists what was found, the earliest first.
    List {
        /// The first day, as 2026-07-15.
        #[arg(long, value_name = "DAY")]
        from: Option<Date>,
        /// The last day.
        #[arg(long, value_name = "DAY")]
        to: Option<Date>,
    },
    /// Tells what is known of one message.
    Show {
        /// As `virus list` tells it.
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Copies one message, infected as it is, into a new file.
    Export {
        /// As `virus list` tells it.
        #[arg(value_name = "NAME")]
        name: String,
        /// Must not exist yet.
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
    },
}

/// Why a command failed; printed with its causes by `main`.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The exit code of a failure. A supervisor must not start again after a refused PIN, for a token locks itself after a few.
pub fn failure_code(failure: &Failure) -> ExitCode {
    match failure.downcast_ref::<NotLoaded>() {
        Some(NotLoaded::PinRefused(_)) => ExitCode::from(3),
        _ => ExitCode::from(2),
    }
}

/// Whether the answer to the command is yes.
pub fn execute(arguments: Arguments) -> Result<ExitCode, Failure> {
    let answer = match arguments.command {
        Command::Run => run::run(&arguments.config)?,
        Command::CheckConfig => check_config::check_config(&arguments.config)?,
        Command::Log(LogCommand::Show { msgid }) => log::show::show(&arguments.config, &msgid)?,
        Command::Log(LogCommand::Search(search)) => log::search::search(&arguments.config, search)?,
        Command::Log(LogCommand::Extract { mailbox, from, to, out }) => {
            log::extract::extract(&arguments.config, &mailbox, from..=to, &out)?
        }
        Command::Log(LogCommand::Stats { from, to, json }) => log::stats::stats(&arguments.config, from.zip(to), json)?,
        Command::Log(LogCommand::Audit { from, to }) => log::audit::audit(&arguments.config, from, to)?,
        Command::Log(LogCommand::Verify { from, to, exported: Some(folder), ca: Some(ca), tsa_ca }) => {
            log::verify::exported(&folder, &ca, tsa_ca.as_deref(), Period { from, to })?
        }
        Command::Log(LogCommand::Verify { from, to, .. }) => log::verify::all(&arguments.config, Period { from, to })?,
        Command::Log(LogCommand::Purge { clock_is_right }) => log::purge::purge(&arguments.config, clock_is_right)?,
        Command::Log(LogCommand::Hold(HoldCommand::Add { msgid, mailbox, reason })) => {
            let held = msgid.map(|id| Held::msgid(&id)).or(mailbox.map(Held::Mailbox));
            log::hold::add(
                &arguments.config,
                &held.ok_or("name a transaction (--msgid) or a mailbox (--mailbox)")?,
                &reason,
            )?
        }
        Command::Log(LogCommand::Hold(HoldCommand::List)) => log::hold::list(&arguments.config)?,
        Command::Log(LogCommand::Hold(HoldCommand::Release { number, reason })) => {
            log::hold::release(&arguments.config, number, &reason)?
        }
        Command::Log(LogCommand::Backup { to }) => log::backup::backup(&arguments.config, &to)?,
        Command::Log(LogCommand::Restore) => log::restore::restore(&arguments.config)?,
        Command::Log(LogCommand::Rebuild) => log::rebuild::rebuild(&arguments.config)?,
        Command::Log(LogCommand::Seal) => log::seal::seal(&arguments.config)?,
        Command::Directory(DirectoryCommand::Refresh { accept_shrunken }) => {
            directory::refresh(&arguments.config, accept_shrunken)?
        }
        Command::Directory(DirectoryCommand::Show { what: None }) => directory::show::status(&arguments.config)?,
        Command::Directory(DirectoryCommand::Show { what: Some(what) }) => {
            directory::show::records(&arguments.config, &what)?
        }
        Command::Directory(DirectoryCommand::Diff { file: None, last: true }) => {
            directory::diff::last(&arguments.config)?
        }
        Command::Directory(DirectoryCommand::Diff { file, last: _ }) => {
            directory::diff::candidate(&arguments.config, file.as_deref())?
        }
        Command::Directory(DirectoryCommand::OwnRecord { location, p7m }) => {
            directory::own_record(&arguments.config, location.as_deref(), p7m.as_deref())?
        }
        Command::Virus(VirusCommand::List { from, to }) => virus::list(&arguments.config, from, to)?,
        Command::Virus(VirusCommand::Show { name }) => virus::show(&arguments.config, &name)?,
        Command::Virus(VirusCommand::Export { name, to }) => virus::export(&arguments.config, &name, &to)?,
        Command::Trust(TrustCommand::Show) => trust::show(&arguments.config)?,
        Command::Receipt(ReceiptCommand::Reproduce { id, kind, recipient, out, send, without_original }) => {
            let request = receipt::Request { id, kind, recipient, out, send, without_original };
            receipt::reproduce(&arguments.config, request)?
        }
        Command::Verify { file } => verify::verify(&arguments.config, &file)?,
    };
    Ok(if answer { ExitCode::SUCCESS } else { ExitCode::from(1) })
}
