//! The command line: one thin file per command. Exit codes: 0 yes, 1 no, 2 failure.

mod audit;
mod check_config;
mod load;
mod log;
mod run;
mod verify;
mod virus;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use jiff::civil::Date;

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
    /// Serves Postfix until SIGTERM; SIGHUP reloads configuration, key, directory and tables.
    Run,
    /// Checks everything that `run` needs and prints the effective configuration.
    CheckConfig,
    /// Reads the event log.
    #[command(subcommand)]
    Log(LogCommand),
    /// Says what a message is, who signed it, and what holds of it.
    Verify {
        /// The message, as it lies in a mailbox.
        #[arg(value_name = "FILE.eml")]
        file: PathBuf,
    },
    /// Reads the store of infected messages.
    #[command(subcommand)]
    Virus(VirusCommand),
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
    /// Makes anew what is derived from the log: the watch for timeout notices.
    Rebuild,
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
    /// Removes what is older than 30 months, as `run` does every day.
    Purge,
}

/// Why a command failed; printed with its causes by `main`.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Whether the answer to the command is yes.
pub fn execute(arguments: Arguments) -> Result<ExitCode, Failure> {
    let answer = match arguments.command {
        Command::Run => run::run(&arguments.config)?,
        Command::CheckConfig => check_config::check_config(&arguments.config)?,
        Command::Log(LogCommand::Show { msgid }) => log::show(&arguments.config, &msgid)?,
        Command::Log(LogCommand::Audit { from, to }) => audit::audit(&arguments.config, from, to)?,
        Command::Log(LogCommand::Rebuild) => log::rebuild(&arguments.config)?,
        Command::Virus(VirusCommand::List { from, to }) => virus::list(&arguments.config, from, to)?,
        Command::Virus(VirusCommand::Show { name }) => virus::show(&arguments.config, &name)?,
        Command::Virus(VirusCommand::Export { name, to }) => virus::export(&arguments.config, &name, &to)?,
        Command::Virus(VirusCommand::Purge) => virus::purge(&arguments.config)?,
        Command::Verify { file } => verify::verify(&arguments.config, &file)?,
    };
    Ok(if answer { ExitCode::SUCCESS } else { ExitCode::from(1) })
}
