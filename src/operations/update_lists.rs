//! Keeps the revocation lists up to date (§2.2.2): fetches them from where the certificates of the directory, of the CAs
//! and of the messages that wait say that they are, and reads the files of the configuration.
//!
//! A list is put in force when a trusted CA signed it and when it is not older than the one before; it is kept before it
//! is used. Whatever fails leaves the lists in force, is told, and is tried again. No message waits for this: one whose
//! list is wanting gets a 4xx, asks for the list, and finds it when it comes again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use openssl::x509::X509;
use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinSet};
use tracing::{error, info, warn};

use super::causes;
use super::current::{Current, Handle};
use super::ports::{DepotFault, Instruments, ListDepot};
use crate::model::TemporalReference;
use crate::smime::{
    Condition, DistributionPoint, RevocationList, RevocationListError, RevocationUnknown, Revoked, Trust,
    distribution_points,
};

/// A server that failed is asked again after this, or after the update interval where that is shorter.
const RETRY_SECONDS: u64 = 60;
/// The same server is not asked, and the files are not read, more often, however many messages wait for a list.
const SHORTEST_PAUSE_SECONDS: u64 = 5;
/// How often it is looked whether something is to be told.
const TELLING: Duration = Duration::from_secs(10);
/// A provider's own revocation is told again every day.
const DAY: i64 = 86_400;
/// CAs that only messages brought, each with a valid path: there are not more in the whole network.
const MOST_MET: usize = 256;

/// The work in the background, with everything it talks to.
pub struct ListUpdate<D, T> {
    pub current: Handle,
    pub depot: Arc<D>,
    pub instruments: T,
    /// Whether servers are asked, or only files read.
    pub fetches: bool,
    pub interval_seconds: u64,
}

/// What it remembers while it runs.
#[derive(Default)]
struct Memory {
    attempts: BTreeMap<DistributionPoint, Attempt>,
    /// The servers that have not answered yet: one that hangs keeps nobody but itself waiting.
    fetches: JoinSet<Fetched>,
    under_way: BTreeMap<Id, DistributionPoint>,
    files_read: Option<TemporalReference>,
    /// What messages wait for, until its turn has come.
    wanted: BTreeSet<DistributionPoint>,
    wants_files: bool,
    /// Certificates of the paths of messages that wait.
    met: Vec<X509>,
    told: BTreeMap<[u8; 32], Condition>,
    told_of_own: Option<TemporalReference>,
}

/// The last time that a server was asked.
#[derive(Clone, Copy)]
struct Attempt {
    at: TemporalReference,
    failed: bool,
}

/// Why there is something to do.
enum Occasion {
    Time,
    Fetched(Result<(Id, Fetched), JoinError>),
    Asked(Vec<RevocationUnknown>),
    /// Reloading takes its time, so the lists of the new value may be older than those of the one before.
    Reloaded,
}

/// The list of a server with its source.
type Fetched = Result<(String, Vec<u8>), DepotFault>;
/// What came, or why it did not, with its source.
type Offer = (String, Result<Vec<u8>, DepotFault>);

impl<D: ListDepot, T: Instruments> ListUpdate<D, T> {
    /// Updates at once, then as often as the interval says, when a message waits for a list, and after a reload.
    pub async fn run(self, mut stopping: watch::Receiver<bool>) {
        let mut memory = Memory::default();
        loop {
            let pause = self.pause(&memory);
            let occasion = tokio::select! {
                // Without a sender nothing is left to stop for.
                _ = stopping.wait_for(|stop| *stop) => return,
                () = tokio::time::sleep(pause) => Occasion::Time,
                Some(ended) = memory.fetches.join_next_with_id() => Occasion::Fetched(ended),
                asked = self.current.wanted_lists() => Occasion::Asked(asked),
                () = self.current.replaced() => Occasion::Reloaded,
            };
            if let Err(lost) = self.round(&mut memory, occasion).await {
                error!(%lost, "the revocation lists are not updated for now");
            }
            self.tell(&mut memory);
        }
    }

    /// Takes what came, and begins what is due.
    async fn round(&self, memory: &mut Memory, occasion: Occasion) -> Result<(), JoinError> {
        let at = self.instruments.now();
        let mut offers = Vec::new();
        match occasion {
            Occasion::Time => {}
            Occasion::Fetched(ended) => {
                offers.extend(memory.end(ended, at));
                while let Some(ended) = memory.fetches.try_join_next_with_id() {
                    offers.extend(memory.end(ended, at));
                }
            }
            Occasion::Asked(unknown) => memory.want(&unknown),
            Occasion::Reloaded => memory.files_read = None,
        }
        for point in self.due(&self.current.now(), memory, at) {
            memory.begin(self.depot.clone(), point);
        }
        if is_over(memory.files_read, self.pause_of_files(memory), at) {
            (memory.files_read, memory.wants_files) = (Some(at), false);
            let depot = self.depot.clone();
            offers.extend(tokio::task::spawn_blocking(move || depot.files()).await?);
        } else if offers.is_empty() {
            return Ok(());
        }
        self.put_in_force(memory, offers).await
    }

    /// Keeps what may be kept, and puts all that is kept in force; once more where a reload brought other CAs meanwhile.
    async fn put_in_force(&self, memory: &Memory, mut offers: Vec<Offer>) -> Result<(), JoinError> {
        loop {
            let (current, at) = (self.current.now(), self.instruments.now());
            let (depot, trust, further) = (self.depot.clone(), current.trust.clone(), memory.further(&current));
            let work = tokio::task::spawn_blocking(move || {
                let taken = take_over(&*depot, &trust, &further, &offers, at);
                (offers, taken.and_then(|()| depot.load(&trust, at)))
            });
            let (offered, lists) = work.await?;
            let lists = match lists {
                Ok(lists) => lists,
                Err(fault) => {
                    error!(cause = causes(&*fault), "the store of revocation lists cannot be read");
                    return Ok(());
                }
            };
            let mut is_in_force = false;
            self.current.update(|now| {
                if Arc::ptr_eq(&now.trust, &current.trust) {
                    now.trust = Arc::new(now.trust.with_lists(lists));
                    is_in_force = true;
                }
            });
            if is_in_force {
                return Ok(());
            }
            offers = offered;
        }
    }

    /// The distribution points whose turn it is.
    fn due(&self, current: &Current, memory: &mut Memory, at: TemporalReference) -> BTreeSet<DistributionPoint> {
        if !self.fetches {
            memory.wanted.clear();
            return BTreeSet::new();
        }
        let mut points = known_points(current);
        points.extend(memory.points().chain(memory.wanted.iter().cloned()));
        // One that no certificate names any more will never be due again.
        memory.attempts.retain(|point, _| points.contains(point));
        points.retain(|point| {
            let attempt = memory.attempts.get(point);
            let is_due =
                attempt.is_none_or(|attempt| is_over(Some(attempt.at), self.pause_of(memory, point, *attempt), at));
            is_due && !memory.is_under_way(point)
        });
        points
    }

    /// How long a server is left alone.
    fn pause_of(&self, memory: &Memory, point: &DistributionPoint, last: Attempt) -> u64 {
        match last {
            _ if memory.wanted.contains(point) => self.shortest_pause(),
            Attempt { failed: true, .. } => self.interval_seconds.min(RETRY_SECONDS),
            Attempt { failed: false, .. } => self.interval_seconds,
        }
    }

    fn pause_of_files(&self, memory: &Memory) -> u64 {
        if memory.wants_files { self.shortest_pause() } else { self.interval_seconds }
    }

    fn shortest_pause(&self) -> u64 {
        self.interval_seconds.min(SHORTEST_PAUSE_SECONDS)
    }

    /// How long there will be nothing to do or to tell, if nothing happens meanwhile.
    fn pause(&self, memory: &Memory) -> Duration {
        let at = self.instruments.now();
        let idle = memory.attempts.iter().filter(|(point, _)| !memory.is_under_way(point));
        let servers = idle.map(|(point, attempt)| left(Some(attempt.at), self.pause_of(memory, point, *attempt), at));
        let seconds = servers.fold(left(memory.files_read, self.pause_of_files(memory), at), u64::min);
        Duration::from_secs(seconds).min(TELLING)
    }

    /// What the administrator should know of the lists in force, when it changes.
    fn tell(&self, memory: &mut Memory) {
        let (current, at) = (self.current.now(), self.instruments.now());
        for list in current.trust.lists().iter() {
            let (issuer, due) = (list.issuer_name(), shown(list.next_update()));
            let left = list.next_update().saturating_sub(at.unix());
            metrics::gauge!("pec_milter_crl_next_update_seconds", "issuer" => issuer.to_owned()).set(left as f64);
            let condition = list.condition(at, self.interval_seconds);
            let before = memory.told.insert(list.scope(), condition).unwrap_or(Condition::InDate);
            match condition {
                Condition::InDate if before > condition => info!(issuer, due, "the revocation list is in date again"),
                Condition::Ending if before < condition => {
                    warn!(issuer, due, "the revocation list will soon be out of date and no newer one has come");
                }
                Condition::OutOfDate if before < condition => {
                    error!(
                        issuer,
                        due,
                        "THE REVOCATION LIST IS OUT OF DATE: see `pec-milter trust show`; trust.crl_missing says what becomes of messages"
                    );
                }
                _ => {}
            }
        }
        let own = current.keyring.in_force(at);
        let revoked = current.trust.revoked_in_path(own.certificate(), own.chain(), at);
        let Some(Revoked { subject, since }) = revoked else { return };
        if memory.told_of_own.is_none_or(|told| at.unix() - told.unix() >= DAY) {
            memory.told_of_own = Some(at);
            if subject == own.certificate().subject() {
                error!(
                    subject,
                    since,
                    "THIS PROVIDER'S CERTIFICATE IS REVOKED: nothing is signed and all mail waits; put another in [key] and reload"
                );
            } else {
                error!(
                    subject,
                    since,
                    "THE CA ABOVE THIS PROVIDER'S CERTIFICATE IS REVOKED: nothing is signed and all mail waits; put a certificate of another CA in [key] and reload"
                );
            }
        }
    }
}

impl Memory {
    fn begin<D: ListDepot>(&mut self, depot: Arc<D>, point: DistributionPoint) {
        let asked = point.clone();
        let fetch = self.fetches.spawn_blocking(move || depot.fetch(&asked));
        self.wanted.remove(&point);
        self.under_way.insert(fetch.id(), point);
    }

    fn is_under_way(&self, point: &DistributionPoint) -> bool {
        self.under_way.values().any(|one| one == point)
    }

    /// What a fetch brought; nothing where it failed as the one before.
    fn end(&mut self, ended: Result<(Id, Fetched), JoinError>, at: TemporalReference) -> Option<Offer> {
        let (id, result) = match ended {
            Ok(ended) => ended,
            Err(lost) => (lost.id(), Err(lost.into())),
        };
        let point = self.under_way.remove(&id)?;
        let source = point.0.join(", ");
        let attempt = Attempt { at, failed: result.is_err() };
        let was_failing = self.attempts.insert(point, attempt).is_some_and(|before| before.failed);
        match result {
            Ok((source, octets)) => Some((source, Ok(octets))),
            // Told when it begins; how long the list still lasts is told besides.
            Err(fault) => (!was_failing).then_some((source, Err(fault))),
        }
    }

    /// Remembers what is asked for; what is under way comes without.
    fn want(&mut self, asked: &[RevocationUnknown]) {
        let points = asked.iter().flat_map(|one| points_of(one.path.iter().map(Vec::as_slice)));
        let points: Vec<_> = points.filter(|point| !self.is_under_way(point)).collect();
        self.wanted.extend(points);
        self.wants_files = true;
        self.meet(asked);
    }

    fn meet(&mut self, asked: &[RevocationUnknown]) {
        let paths = asked.iter().flat_map(|one| &one.path);
        for certificate in paths.filter_map(|der| X509::from_der(der).ok()) {
            if self.met.len() < MOST_MET && !self.met.contains(&certificate) {
                self.met.push(certificate);
            }
        }
    }

    fn points(&self) -> impl Iterator<Item = DistributionPoint> {
        self.met.iter().flat_map(|certificate| distribution_points(certificate))
    }

    /// CAs that a list may be of besides the configured ones.
    fn further(&self, current: &Current) -> Vec<X509> {
        let own = current.keyring.chains().filter_map(|der| X509::from_der(der).ok());
        let held = current.trust.lists().iter().map(|list| list.issuer().clone());
        self.met.iter().cloned().chain(own).chain(held).collect()
    }
}

/// How many seconds are left of a pause; none where nothing was done before.
fn left(last: Option<TemporalReference>, pause: u64, at: TemporalReference) -> u64 {
    let end = last.map_or(i64::MIN, |last| last.unix().saturating_add_unsigned(pause));
    u64::try_from(end.saturating_sub(at.unix())).unwrap_or_default()
}

fn is_over(last: Option<TemporalReference>, pause: u64, at: TemporalReference) -> bool {
    left(last, pause, at) == 0
}

/// All signers of the directory, the CAs, and the own certificate with its chain.
pub fn known_certificates(current: &Current) -> Vec<X509> {
    let signers = current.directory.certificates().chain(current.keyring.chains());
    // A certificate that cannot be read signs nothing either.
    signers.filter_map(|der| X509::from_der(der).ok()).chain(current.trust.authorities().cloned()).collect()
}

fn known_points(current: &Current) -> BTreeSet<DistributionPoint> {
    known_certificates(current).iter().flat_map(|certificate| distribution_points(certificate)).collect()
}

fn points_of<'c>(certificates: impl Iterator<Item = &'c [u8]>) -> impl Iterator<Item = DistributionPoint> {
    certificates.filter_map(|der| X509::from_der(der).ok()).flat_map(|certificate| distribution_points(&certificate))
}

/// Keeps what may take the place of a list that is kept; tells of everything else.
fn take_over<D: ListDepot>(
    depot: &D,
    trust: &Trust,
    further: &[X509],
    offers: &[Offer],
    at: TemporalReference,
) -> Result<(), DepotFault> {
    let before = depot.load(trust, at)?;
    let mut taken: Vec<RevocationList> = Vec::new();
    for (source, offer) in offers {
        let octets = match offer {
            Ok(octets) => octets,
            Err(fault) => {
                warn!(source, cause = causes(&**fault), "no revocation list came, the one before stays in force");
                continue;
            }
        };
        let fresh = trust.read_list(octets, further, at).and_then(|list| {
            let held = taken.iter().rev().chain(before.iter()).find(|held| held.scope() == list.scope());
            list.succeeding(held, at)
        });
        match fresh {
            Ok(None) => {}
            Ok(Some(list)) => match depot.keep(&list, source, at) {
                Ok(()) => {
                    let (issuer, due, revoked) = (list.issuer_name(), shown(list.next_update()), list.revoked());
                    info!(source, issuer, revoked, due, "a new revocation list is in force");
                    taken.push(list);
                }
                Err(fault) => error!(source, cause = causes(&*fault), "a revocation list could not be kept"),
            },
            // Of a CA whose other lists are trusted this is no accident.
            Err(refused @ (RevocationListError::Forged { .. } | RevocationListError::Older { .. })) => {
                error!(source, cause = causes(&refused), "a revocation list is REFUSED, the one before stays in force");
            }
            Err(refused) => {
                warn!(source, cause = causes(&refused), "a revocation list is refused, the one before stays in force");
            }
        }
    }
    Ok(())
}

fn shown(unix: i64) -> String {
    let at = TemporalReference::from_unix(unix);
    format!("{} {} {}", at.day(), at.time(), at.zone())
}

#[cfg(test)]
mod tests;
