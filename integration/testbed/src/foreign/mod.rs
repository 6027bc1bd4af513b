//! A PEC provider that is not pec-milter: the others know it by the directory, and a test makes its messages.
//!
//! The [`Facts`] of a transaction become a [`Draft`] as the text models have it; the test changes what it likes, and
//! [`Draft::build`] signs with `openssl`. The mail host is an ordinary one of the testbed: what the others send to this
//! provider is read there.

mod draft;
mod models;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;

pub use draft::{Draft, Layout, Signature, SignedBy, part};

use crate::host::Host;
use crate::ldif::Record;
use crate::pki::{Identity, Request};
use crate::received::Received;
use crate::referee::{MadeBy, Referee};
use crate::testbed::Testbed;

/// What a provider is to the others.
#[derive(Debug, Clone)]
pub struct ForeignProvider {
    pub name: String,
    pub domain: String,
    pub sending_address: String,
    /// Where it wants take-charges.
    pub service_mailbox: String,
    pub identity: Identity,
    /// The certificate between its own and the root.
    pub intermediate: PathBuf,
}

/// The facts of one certified transaction.
#[derive(Debug, Clone)]
pub struct Facts {
    pub sender: String,
    /// Each with whether it is certified.
    pub recipients: Vec<(String, bool)>,
    pub subject: String,
    /// The identifier of the transaction, without angle brackets.
    pub id: String,
    /// The Message-ID of the sender's client, with them.
    pub msgid: Option<String>,
    pub accepted: Timestamp,
}

/// Which message of a transaction.
#[derive(Debug, Clone, Copy)]
pub enum Kind<'a> {
    Envelope,
    Acceptance,
    TakeCharge {
        taken: &'a [&'a str],
        /// The service mailbox of the sender's provider.
        to: &'a str,
    },
    Delivery(&'a str),
    NonDelivery(&'a str),
    VirusDetection {
        about: &'a str,
        /// The service mailbox of the sender's provider.
        to: &'a str,
    },
}

/// What a foreign provider's scanner calls what it finds.
pub const VIRUS: &str = "Foreign.Test.Virus";

impl ForeignProvider {
    /// Gives the ordinary mail host a provider's certificate. The directory does not name it yet.
    pub fn new(testbed: &Testbed, host: &Host) -> Result<Self> {
        let name = format!("{} Posta S.r.l.", host.site.name.to_uppercase());
        let sending_address = host.mailbox("posta-certificata");
        let request = Request::provider(&format!("{}-foreign", host.site.name), &name, &sending_address);
        Ok(ForeignProvider {
            identity: testbed.pki.issue(&request)?,
            intermediate: testbed.pki.certificate("provider-ca"),
            service_mailbox: host.mailbox("ricevute"),
            domain: host.site.domain.clone(),
            sending_address,
            name,
        })
    }

    /// One more certificate in its name, to be changed by the test and issued.
    pub fn request(&self, file: &str) -> Request {
        Request::provider(file, &self.name, &self.sending_address)
    }

    /// Its record in the directory, with further certificates beside the one in use.
    pub fn record(&self, further: &[&Identity]) -> Record {
        let identities = [&self.identity].into_iter().chain(further.iter().copied());
        Record {
            provider_name: self.name.clone(),
            certificates: identities.map(|identity| identity.certificate.clone()).collect(),
            mail_receipt: self.service_mailbox.clone(),
            managed_domains: vec![self.domain.clone()],
        }
    }

    /// A transaction that begins here and now; all recipients are certified.
    pub fn facts(&self, user: &str, recipients: &[&str], subject: &str, id: &str) -> Facts {
        Facts {
            sender: format!("{user}@{}", self.domain),
            recipients: recipients.iter().map(|&recipient| (recipient.to_owned(), true)).collect(),
            subject: subject.to_owned(),
            id: format!("{id}@{}", self.domain),
            msgid: Some(format!("<{id}@client.{}>", self.domain)),
            accepted: Timestamp::now(),
        }
    }

    /// A message of that transaction, as it should be.
    pub fn draft(&self, kind: Kind, facts: &Facts) -> Result<Draft> {
        models::draft(self, kind, facts)
    }

    /// Makes the message and hands it to port 25 of another provider, which must take it; gives its octets and its queue
    /// id there.
    pub fn send_traced(&self, to: &Host, draft: &Draft) -> Result<(Vec<u8>, String)> {
        let message = draft.build()?;
        let recipients: Vec<&str> = draft.forward_paths.iter().map(String::as_str).collect();
        let dialogue = to.inject_as_peer(&draft.reverse_path, &recipients, &message)?;
        ensure!(dialogue.accepted(), "{:?} is not taken at the port:\n{dialogue}", draft.field("Subject"));
        let queue_id = dialogue.queue_id().with_context(|| format!("no queue id in\n{dialogue}"))?.to_owned();
        Ok((message, queue_id))
    }

    /// The same where the queue id does not matter.
    pub fn send(&self, to: &Host, draft: &Draft) -> Result<Vec<u8>> {
        self.send_traced(to, draft).map(|(message, _)| message)
    }

    /// Its messages, as they arrived, must be without an error by what is asked of other providers.
    pub fn judge<'a>(&self, testbed: &Testbed, messages: impl IntoIterator<Item = &'a Received>) -> Result<()> {
        let Some(referee) = Referee::find() else { return Ok(()) };
        let folder = tempfile::tempdir_in(testbed.folder())?;
        let mut files = Vec::new();
        for (number, message) in messages.into_iter().enumerate() {
            let file = folder.path().join(format!("{number:03}.eml"));
            fs::write(&file, &message.bytes)?;
            files.push(file);
        }
        let findings = referee.check(&files, &testbed.pki.root(), MadeBy::OtherProviders)?;
        ensure!(!findings.iter().any(|line| line.contains(" ERROR ")), "the referee finds:\n{}", findings.join("\n"));
        Ok(())
    }
}
