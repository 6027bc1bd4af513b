//! What tests of operations work with: two providers, servers that answer what they are told, a log in memory, a clock
//! that the test sets, and envelopes.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tokio::sync::Notify;

use super::current::Current;
use super::ports::{
    EventLog, Infected, Injection, Instruments, LogError, Mail, Mailboxes, Pending, Reply, ScanFault, Scanner,
    StoreFault, VirusStore,
};
use crate::access_point::{Limits, ReceiptDefaults, Rules, Submission, accept};
use crate::adapters::senders::Senders;
use crate::directory::{Directory, ProviderRecord};
use crate::incoming_point::OrdinaryMail;
use crate::legal_log::{Entry, Recorded};
use crate::message::Pieces;
use crate::model::{Address, Domain, PecMsgid, Provider, TemporalReference};
use crate::operations::signed_seals::SignedSeals;
use crate::smime::testing::{NOW, certificate, certificate_der, key, read};
use crate::smime::{Engine, Keyring, Sha1Policy, Signer, Trust, WithoutList};
use crate::transaction::{Timeouts, forestalls};
use crate::virus::{Verdict, VirusName};

/// The provider of alfa.example, which the network trusts.
pub(crate) fn alfa() -> Current {
    current("alfa", "provider")
}

/// The provider of beta.example. Whether its own signatures hold is not asked where it receives.
pub(crate) fn beta() -> Current {
    current("beta", "other-address")
}

fn current(name: &str, own: &str) -> Current {
    let alfa = ProviderRecord::own(&provider("alfa"), vec![certificate_der("provider")]);
    let directory = Directory::empty().with_own(alfa);
    let signer = Signer::new(key(Engine::AwsLc), certificate(own), &[certificate("issuing")]).unwrap();
    let own_record = ProviderRecord::own(&provider(name), vec![certificate_der(own)]);
    Current {
        provider: provider(name).into(),
        keyring: Keyring::new(signer).into(),
        former: Arc::default(),
        trust: Trust::from_pem(&read("certificates/root.pem")).unwrap().with_answer(WithoutList::Accept).into(),
        sha1: Sha1Policy::Accept,
        directory: if name == "alfa" { directory } else { directory.with_own(own_record) }.into(),
        senders: Arc::new(Senders::default()),
        verified_domains: Arc::default(),
        limits: Limits { recipients: 50, product: 1_000_000 },
        receipts: Arc::new(Arc::<ReceiptDefaults>::default()),
        ordinary: Arc::new(Arc::<OrdinaryMail>::default()),
        timeouts: Timeouts::default(),
    }
}

fn provider(name: &str) -> Provider {
    Provider {
        name: format!("{name} PEC"),
        sending_address: format!("posta-certificata@{name}.example").parse().unwrap(),
        service_mailbox: format!("ricevute@{name}.example").parse().unwrap(),
        mail_domains: vec![format!("{name}.example").parse().unwrap()],
    }
}

/// The envelope of a message by anna@alfa.example, with this word in its text. Both providers are certified.
pub(crate) fn envelope(id: &str, to: &[&str], word: &str) -> Bytes {
    let alfa = alfa();
    let list = to.join(", ");
    let text = format!("From: anna@alfa.example\r\nTo: {list}\r\nSubject: Contratto\r\n\r\n{word}\r\n");
    let recipients: Vec<Address> = to.iter().map(|text| text.parse().unwrap()).collect();
    let (sender, message) = ("anna@alfa.example".parse().unwrap(), Bytes::from(text));
    let submission = Submission { sender: &sender, recipients: &recipients, message: &message };
    let rules = Rules { provider: &alfa.provider, limits: &alfa.limits, receipts: &alfa.receipts.now() };
    let is_certified = |domain: &Domain| ["alfa.example", "beta.example"].contains(&domain.as_str());
    let (id, at): (PecMsgid, _) = (id.parse().unwrap(), TemporalReference::from_unix(NOW));
    let accepted = accept(&submission, rules, is_certified, id, at).unwrap();
    alfa.sign(accepted.envelope, at, at).unwrap().into_pieces().to_vec().into()
}

/// Seconds after [`NOW`], and numbers that count up for chance.
#[derive(Clone, Default)]
pub(crate) struct Clock(Arc<(AtomicI64, AtomicU64)>);

impl Clock {
    pub(crate) fn set(&self, seconds: i64) {
        self.0.0.store(seconds, Ordering::Relaxed);
    }
}

impl Instruments for Clock {
    fn now(&self) -> TemporalReference {
        TemporalReference::from_unix(NOW + self.0.0.load(Ordering::Relaxed))
    }

    fn chance(&self) -> u128 {
        self.0.1.fetch_add(1, Ordering::Relaxed).into()
    }
}

/// The mailbox server and Postfix. Each says 250 to whom the test told nothing else.
#[derive(Clone, Default)]
pub(crate) struct Servers(Arc<State>);

#[derive(Default)]
struct State {
    /// The answers to come; the last one stays.
    mailboxes: Mutex<HashMap<String, VecDeque<Reply>>>,
    injections: Mutex<HashMap<String, VecDeque<Reply>>>,
    /// Whom each message was offered to, whatever the answer was.
    offered: Mutex<Vec<(String, Vec<u8>)>>,
    holds: AtomicBool,
    reached: Notify,
    released: Notify,
}

impl Servers {
    /// What the mailbox server says to an address from now on.
    pub(crate) fn mailbox(&self, address: &str, code: u16, text: &str) {
        self.0.mailboxes.lock().unwrap().insert(address.to_owned(), [Reply::new(code, text)].into());
    }

    /// What the mailbox server says to an address, one after the other.
    pub(crate) fn mailbox_in_turn(&self, address: &str, codes: &[u16]) {
        let replies = codes.iter().map(|code| Reply::new(*code, "2.0.0 as told")).collect();
        self.0.mailboxes.lock().unwrap().insert(address.to_owned(), replies);
    }

    /// What Postfix says to an address from now on.
    pub(crate) fn injection(&self, address: &str, code: u16) {
        self.0.injections.lock().unwrap().insert(address.to_owned(), [Reply::new(code, "2.0.0 so be it")].into());
    }

    /// Neither takes anything for an address, or both do.
    pub(crate) fn reachable(&self, address: &str, is_reachable: bool) {
        let code = if is_reachable { 250 } else { 451 };
        self.mailbox(address, code, "4.3.2 as told");
        self.injection(address, code);
    }

    /// What was offered since this was asked last: the address and the octets.
    pub(crate) fn offered(&self) -> Vec<(String, Vec<u8>)> {
        self.0.offered.lock().unwrap().drain(..).collect()
    }

    /// The next message for mailboxes is not answered before `release`.
    pub(crate) fn hold(&self) {
        self.0.holds.store(true, Ordering::Relaxed);
    }

    /// Returns when the message that is held was offered.
    pub(crate) async fn reached(&self) {
        self.0.reached.notified().await;
    }

    pub(crate) fn release(&self) {
        self.0.released.notify_one();
    }

    fn answer(&self, told: &Mutex<HashMap<String, VecDeque<Reply>>>, address: &str) -> Reply {
        let mut told = told.lock().unwrap();
        let Some(replies) = told.get_mut(address) else { return Reply::new(250, "2.0.0 saved") };
        if replies.len() > 1 { replies.pop_front().unwrap() } else { replies[0].clone() }
    }
}

impl Mailboxes for Servers {
    async fn deliver(&self, mail: &Mail) -> Vec<Reply> {
        let octets = mail.message.to_vec();
        let offered = mail.recipients.iter().map(|one| (one.address.clone(), octets.clone()));
        self.0.offered.lock().unwrap().extend(offered);
        if self.0.holds.swap(false, Ordering::Relaxed) {
            self.0.reached.notify_one();
            self.0.released.notified().await;
        }
        mail.recipients.iter().map(|one| self.answer(&self.0.mailboxes, &one.address)).collect()
    }

    async fn would_take(&self, mail: &Mail) -> Vec<Reply> {
        mail.recipients.iter().map(|one| self.answer(&self.0.mailboxes, &one.address)).collect()
    }
}

impl Injection for Servers {
    async fn inject(&self, mail: &Mail) -> Reply {
        let to = mail.recipients.first().unwrap().address.clone();
        let reply = self.answer(&self.0.injections, &to);
        self.0.offered.lock().unwrap().push((to, mail.message.to_vec()));
        reply
    }
}

/// A log in memory, which can be told to fail.
#[derive(Default)]
pub(crate) struct MemoryLog {
    entries: Mutex<Vec<Recorded>>,
    /// How many commits succeed; none where all do.
    left: Mutex<Option<usize>>,
}

impl MemoryLog {
    /// After so many more commits, all fail; with none, none does.
    pub(crate) fn fail_after(&self, commits: Option<usize>) {
        *self.left.lock().unwrap() = commits;
    }

    pub(crate) fn entries(&self) -> Vec<Recorded> {
        self.entries.lock().unwrap().clone()
    }

    fn commit(&self, batch: Vec<Entry>) -> Result<Vec<Recorded>, LogError> {
        match &mut *self.left.lock().unwrap() {
            Some(0) => return Err(LogError { call: "commit", source: "the disk is full".into() }),
            Some(left) => *left -= 1,
            None => {}
        }
        let mut entries = self.entries.lock().unwrap();
        let mut recorded = Vec::new();
        for entry in batch {
            let of_slot = entries.iter().find(|one| entry.slot.is_some() && one.entry.slot == entry.slot);
            let of_transaction = entries.iter().filter(|one| one.entry.pec_msgid == entry.pec_msgid);
            let holder = of_slot.or(of_transaction.into_iter().find(|one| forestalls(&one.entry, &entry)));
            if let Some(holder) = holder {
                recorded.push(Recorded { is_new: false, ..holder.clone() });
                continue;
            }
            let sequence = i64::try_from(entries.len()).unwrap() + 1;
            entries.push(Recorded { sequence, entry, is_new: true });
            recorded.extend(entries.last().cloned());
        }
        Ok(recorded)
    }
}

impl EventLog for MemoryLog {
    async fn record(&self, batch: Vec<Entry>) -> Result<Vec<Recorded>, LogError> {
        self.commit(batch)
    }

    async fn of_queue_file(&self, queue_id: &str) -> Result<Vec<Recorded>, LogError> {
        Ok(self.entries().into_iter().filter(|one| one.entry.queue_id.as_deref() == Some(queue_id)).collect())
    }

    async fn of_transaction(&self, id: &PecMsgid) -> Result<Vec<Recorded>, LogError> {
        Ok(self.entries().into_iter().filter(|one| one.entry.pec_msgid.as_ref() == Some(id)).collect())
    }

    async fn written(&self, id: &PecMsgid, _: Arc<SignedSeals>) -> Result<Vec<Recorded>, LogError> {
        self.of_transaction(id).await
    }
}

/// Finds a virus in messages that hold the word VIRUS, or whatever word its signatures know by now; of what is to be
/// kept it keeps what is known of it.
#[derive(Clone)]
pub(crate) struct Sniffer(Arc<(Mutex<String>, Mutex<Vec<Infected>>)>);

impl Default for Sniffer {
    fn default() -> Self {
        Sniffer(Arc::new((Mutex::new("VIRUS".to_owned()), Mutex::default())))
    }
}

impl Sniffer {
    pub(crate) fn learn(&self, word: &str) {
        *self.0.0.lock().unwrap() = word.to_owned();
    }

    /// What was kept since this was asked last.
    pub(crate) fn kept(&self) -> Vec<Infected> {
        self.0.1.lock().unwrap().drain(..).collect()
    }
}

impl Scanner for Sniffer {
    fn scan<'a>(&'a self, message: &'a Pieces) -> Pending<'a, Result<Verdict, ScanFault>> {
        let word = self.0.0.lock().unwrap().clone();
        let is_infected = String::from_utf8_lossy(&message.to_vec()).contains(&word);
        let verdict = if is_infected { Verdict::Infected(VirusName::new("Eicar")) } else { Verdict::Clean };
        Box::pin(async { Ok(verdict) })
    }
}

impl VirusStore for Sniffer {
    fn keep<'a>(&'a self, _: &'a Pieces, about: &'a Infected) -> Pending<'a, Result<String, StoreFault>> {
        self.0.1.lock().unwrap().push(about.clone());
        Box::pin(async { Ok(about.queue_id.clone()) })
    }
}
