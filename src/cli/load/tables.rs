//! The administrator's tables: a line for each login, certificate or mailbox that differs from the rest. What is wrong with
//! one of them stands in the way of a start; after it they are read again whenever they change.

use std::fmt::Display;
use std::sync::Arc;

use super::told;
use crate::access_point::ReceiptDefaults;
use crate::adapters::senders::{Logins, Senders, SqliteSenders};
use crate::adapters::table_file::{TableFault, TableFile};
use crate::config::{self, Config, LoginMap};
use crate::identity::{CertificateMap, SenderMap};
use crate::incoming_point::OrdinaryMail;
use crate::model::{Address, MailboxTable, Provider};
use crate::operations::causes;
use crate::operations::ports::Table;

/// Who may send as whom.
pub(super) fn senders(config: &Config) -> Result<Senders, String> {
    let config::Senders { logins, certificates, listed_only } = &config.senders;
    let logins = match logins {
        LoginMap::None => Ok(Logins::Unlisted),
        LoginMap::File(map) => {
            let parse = |text: &str| SenderMap::parse(text).map_err(|errors| texts(&errors));
            checked(config, "senders.map", TableFile::open(map, parse)).map(Logins::File)
        }
        LoginMap::Sqlite { database, query } => {
            let map = SqliteSenders::new(database, query);
            let check = map.check().map_err(|error| {
                told(&config.location(if error.is_of_query() { "senders.query" } else { "senders.sqlite" }), &error)
            });
            check.map(|()| Logins::Sqlite(map))
        }
    };
    let certificates = certificates.as_ref().map(|map| {
        let parse = |text: &str| CertificateMap::parse(text).map_err(|errors| texts(&errors));
        checked(config, "senders.certificates", TableFile::open(map, parse))
    });
    match (logins, certificates.transpose()) {
        (Ok(logins), Ok(certificates)) => Ok(Senders { logins, certificates, listed_only: *listed_only }),
        (logins, certificates) => {
            let problems: Vec<String> = logins.err().into_iter().chain(certificates.err()).collect();
            Err(problems.join("\n"))
        }
    }
}

/// The receipts that single mailboxes ask for.
pub(super) fn receipts(config: &Config) -> Result<Arc<dyn Table<ReceiptDefaults>>, String> {
    let Some(map) = &config.receipts.map else { return Ok(Arc::new(Arc::<ReceiptDefaults>::default())) };
    let provider = config.provider.clone();
    let table = TableFile::open(map, move |text| {
        let defaults = ReceiptDefaults::parse(text).map_err(|errors| texts(&errors))?;
        check_mailboxes(&provider, defaults.mailboxes())?;
        Ok(defaults)
    });
    Ok(Arc::new(checked(config, "receipts.map", table)?))
}

/// What becomes of ordinary mail.
pub(super) fn ordinary(config: &Config) -> Result<Arc<dyn Table<OrdinaryMail>>, String> {
    let config::Ordinary { policy, map, ask_mailboxes } = config.ordinary.clone();
    let with = move |mailboxes| OrdinaryMail { policy: policy.clone(), mailboxes, asks_mailboxes: ask_mailboxes };
    let Some(map) = map else { return Ok(Arc::new(Arc::new(with(MailboxTable::default())))) };
    let provider = config.provider.clone();
    let table = TableFile::open(&map, move |text| {
        let mailboxes = OrdinaryMail::parse_mailboxes(text).map_err(|errors| texts(&errors))?;
        check_mailboxes(&provider, mailboxes.mailboxes())?;
        Ok(with(mailboxes))
    });
    Ok(Arc::new(checked(config, "ordinary.map", table)?))
}

/// What is wrong with a table goes behind the key that names it, each on its line.
fn checked<T>(config: &Config, key: &str, opened: Result<TableFile<T>, TableFault>) -> Result<TableFile<T>, String> {
    let place = config.location(key);
    opened.map_err(|fault| causes(&fault).lines().map(|line| format!("{place}: {line}")).collect::<Vec<_>>().join("\n"))
}

/// A line for another provider's mailbox would never be looked at.
fn check_mailboxes<'m>(provider: &Provider, mailboxes: impl Iterator<Item = &'m Address>) -> Result<(), Vec<String>> {
    let foreign = mailboxes.filter(|mailbox| !provider.manages(mailbox));
    let mut lines: Vec<String> =
        foreign.map(|mailbox| format!("{mailbox} lies in none of provider.mail_domains")).collect();
    lines.sort();
    if lines.is_empty() { Ok(()) } else { Err(lines) }
}

fn texts(errors: &[impl Display]) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}
