//! What a test asks of all mailboxes together: that they hold the expected messages and no others, and that every one
//! of them is as RFC 6109 wants it.
//!
//! The referee judges each transaction as a whole; where it is absent, OpenSSL and xmllint judge each message.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};

use crate::host::Host;
use crate::received::Received;
use crate::referee::{MadeBy, Referee, openssl_cms_verify, xmllint_daticert};
use crate::testbed::Testbed;

impl Testbed {
    /// All messages of all mailboxes.
    pub fn received(&self) -> Result<Vec<Received>> {
        let mut all = Vec::new();
        for host in self.hosts() {
            for user in &host.site.users {
                let messages = host.fetch_as((&user.address, &user.password))?;
                all.extend(messages.into_iter().map(|bytes| Received { mailbox: user.address.clone(), bytes }));
            }
        }
        Ok(all)
    }

    /// Waits until these mailboxes hold that many messages and nothing is under way; fails if any mailbox then holds
    /// more, or one that is not named holds anything.
    pub fn received_when(&self, expected: &[(&str, usize)]) -> Result<Vec<Received>> {
        for &(mailbox, count) in expected {
            let (host, user) = self.owner(mailbox)?;
            host.fetch_when(user, count)?;
        }
        self.wait_for_empty_queues()?;
        let all = self.received()?;
        let mut counts: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
        expected.iter().for_each(|(mailbox, count)| counts.entry(mailbox).or_default().0 += count);
        all.iter().for_each(|message| counts.entry(&message.mailbox).or_default().1 += 1);
        counts.retain(|_, (wanted, found)| wanted != found);
        let odd = all.iter().filter(|message| counts.contains_key(message.mailbox.as_str()));
        let kinds: Vec<_> = odd.map(|message| format!("{}: {}", message.mailbox, message.kind())).collect();
        ensure!(counts.is_empty(), "mailboxes with (expected, found) messages: {counts:?}\n{}", kinds.join("\n"));
        Ok(all)
    }

    /// Every message must be without an error, alone and beside the others of its transaction.
    pub fn judge<'a>(&self, messages: impl IntoIterator<Item = &'a Received>) -> Result<()> {
        let folder = tempfile::tempdir_in(self.folder())?;
        let mut transactions: BTreeMap<Option<String>, Vec<PathBuf>> = BTreeMap::new();
        for (number, message) in messages.into_iter().enumerate() {
            let transaction = message.transaction();
            let subfolder = folder.path().join(transaction.as_deref().unwrap_or("none"));
            fs::create_dir_all(&subfolder)?;
            let file = subfolder.join(format!("{number:03}-{}-{}.eml", message.kind(), message.mailbox));
            fs::write(&file, &message.bytes)?;
            transactions.entry(transaction).or_default().push(file);
        }
        let Some(referee) = Referee::find() else { return self.judge_without_referee(transactions) };
        for (transaction, files) in transactions {
            let findings = match &transaction {
                Some(id) => referee.check_transaction(&folder.path().join(id), &self.pki.root())?,
                None => referee.check(&files, &self.pki.root(), MadeBy::Us)?,
            };
            if findings.iter().any(|line| line.contains(" ERROR ")) {
                bail!("the referee finds errors:\n{}", findings.join("\n"));
            }
        }
        Ok(())
    }

    fn judge_without_referee(&self, transactions: BTreeMap<Option<String>, Vec<PathBuf>>) -> Result<()> {
        for file in transactions.into_values().flatten() {
            openssl_cms_verify(&file, &self.pki.root())?;
            let message = Received { mailbox: file.display().to_string(), bytes: fs::read(&file)? };
            if message.transaction().is_some() {
                xmllint_daticert(message.certification_data()?.as_bytes())?;
            }
        }
        Ok(())
    }

    fn owner<'a>(&self, mailbox: &'a str) -> Result<(&Host, &'a str)> {
        let (user, domain) = mailbox.split_once('@').with_context(|| format!("{mailbox} is no mailbox"))?;
        let host = self.hosts().iter().find(|host| host.site.domain == domain);
        Ok((host.with_context(|| format!("no host of {domain}"))?, user))
    }
}
