//! What all operations work with, as one value: a reload replaces it whole, a refresh one part of it.

use std::sync::{Arc, Mutex, PoisonError, RwLock};

use tokio::sync::Notify;

use metrics::counter;

use crate::access_point::{Limits, ReceiptDefaults};
use crate::directory::{Directory, ProviderRecord, TlsPolicy, UnknownDirectory, VerifiedDomain, tls_policy};
use crate::incoming_point::{OrdinaryMail, Revocation, Standards};
use crate::message::body::{Signed, Unsigned};
use crate::model::{Address, Provider, TemporalReference};
use crate::operations::ports::{Senders, Table};
use crate::smime::{Keyring, RevocationUnknown, Revoked, Sha1Policy, Signer, SignerCertificate, SigningError, Trust};
use crate::transaction::Timeouts;

/// This provider with everything it knows: configuration, key, directory.
///
/// A copy shares its parts, so that one of them can be replaced alone.
#[derive(Clone)]
pub struct Current {
    pub provider: Arc<Provider>,
    pub keyring: Arc<Keyring>,
    /// Certificates that signed before the keyring's: what they signed may still wait in Postfix's queue.
    pub former: Arc<[SignerCertificate]>,
    pub trust: Arc<Trust>,
    pub sha1: Sha1Policy,
    /// The published directory with this provider's own record over it.
    pub directory: Arc<Directory>,
    pub senders: Arc<dyn Senders>,
    /// The domains whose servers must prove their name (§5.3).
    pub verified_domains: Arc<[VerifiedDomain]>,
    pub limits: Limits,
    pub receipts: Arc<dyn Table<ReceiptDefaults>>,
    pub ordinary: Arc<dyn Table<OrdinaryMail>>,
    pub timeouts: Timeouts,
}

impl Current {
    /// This value as the one that follows another: what that one signed remains this provider's.
    pub fn after(self, before: &Current) -> Self {
        let mut former = self.former.to_vec();
        for certificate in before.own_certificates() {
            if !self.own_certificates().any(|one| one == certificate) {
                former.push(certificate.clone());
            }
        }
        Current { former: former.into(), ..self }
    }

    /// Whether a reload lies between two values, and not only the replacement of one part.
    pub fn is_of_another_load(&self, other: &Current) -> bool {
        !Arc::ptr_eq(&self.keyring, &other.keyring)
    }

    /// Against what a message is checked again that was found correct at this instant.
    pub fn standards_again(&self, at: TemporalReference) -> Standards<'_> {
        Standards { revocation: Revocation::JudgedBefore, ..self.standards(at) }
    }

    /// Against what an incoming message is checked at an instant.
    pub fn standards(&self, at: TemporalReference) -> Standards<'_> {
        let revocation = Revocation::Checked { own: &self.keyring };
        Standards {
            directory: &self.directory,
            trust: &self.trust,
            sha1: self.sha1,
            at,
            revocation,
            own: None,
            found_before: None,
        }
    }

    /// This provider's record in the providers directory: with the keys that sign, or will.
    pub fn own_record(&self) -> ProviderRecord {
        self.record_with(self.keyring.certificates())
    }

    /// The same with every certificate whose messages may still be under way here.
    pub fn own_record_with_former(&self) -> ProviderRecord {
        self.record_with(self.own_certificates())
    }

    /// Nothing may be told of a message whose recipients' and signers' standing nobody knows.
    pub fn needs_directory(&self) -> Result<(), NoDirectory> {
        if self.directory.is_known() { Ok(()) } else { Err(NoDirectory) }
    }

    /// Signs a composed message; `at` is its instant, so that the same entry gives the same octets again, and `now` says
    /// which certificates may still sign.
    pub fn sign(
        &self,
        message: Unsigned,
        at: TemporalReference,
        now: TemporalReference,
    ) -> Result<Signed, SigningError> {
        let signature = self.detached(message.digest(), at, now)?;
        Ok(message.seal(&signature))
    }

    /// The detached signature (DER) over octets with this SHA-256 digest; blocks while a token works.
    pub fn detached(
        &self,
        sha256: [u8; 32],
        at: TemporalReference,
        now: TemporalReference,
    ) -> Result<Vec<u8>, SigningError> {
        let signature = self.signer(at, now).and_then(|signer| signer.detached(sha256, at));
        match &signature {
            Ok(_) => counter!("pec_milter_signatures_total").increment(1),
            Err(_) => counter!("pec_milter_signing_failures_total").increment(1),
        }
        signature
    }

    /// The key that signs now for an instant.
    ///
    /// A revoked certificate, or one of a revoked CA, signs nothing: no provider would believe it, and the messages would
    /// be lost as ordinary mail. They wait for another certificate.
    fn signer(&self, at: TemporalReference, now: TemporalReference) -> Result<&Signer, SigningError> {
        let of_then = self.keyring.signer(at, now)?;
        if self.check_standing(of_then, now).is_ok() {
            return Ok(of_then);
        }
        let of_now = self.keyring.signer(now, now)?;
        self.check_standing(of_now, now).map(|()| of_now)
    }

    fn check_standing(&self, signer: &Signer, now: TemporalReference) -> Result<(), SigningError> {
        match self.trust.revoked_in_path(signer.certificate(), signer.chain(), now) {
            None => Ok(()),
            Some(Revoked { subject, since }) => Err(SigningError::Revoked { subject, since }),
        }
    }

    /// Whether the certificate with this SHA-256 is, or was, this provider's.
    pub fn is_own(&self, sha256: &[u8; 32]) -> bool {
        self.own_certificates().any(|certificate| certificate.sha256() == *sha256)
    }

    /// Which TLS a mail to a next hop must have (§5.3).
    pub fn tls_policy(&self, next_hop: &str) -> Result<Option<TlsPolicy>, UnknownDirectory> {
        tls_policy(next_hop, &self.provider, &self.directory, &self.verified_domains)
    }

    /// Whether an address is a mailbox of this provider.
    pub fn manages(&self, address: &Address) -> bool {
        self.provider.manages(address)
    }

    fn own_certificates(&self) -> impl Iterator<Item = &SignerCertificate> {
        self.keyring.certificates().chain(self.former.iter())
    }

    fn record_with<'c>(&self, certificates: impl Iterator<Item = &'c SignerCertificate>) -> ProviderRecord {
        ProviderRecord::own(&self.provider, certificates.map(|one| one.der().to_vec()).collect())
    }
}

/// There should be a providers directory and is none: answer 4xx, certify nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("there is no providers directory yet: see `pec-milter directory show`")]
pub struct NoDirectory;

/// The handle under which the [`Current`] of this moment is found.
#[derive(Clone)]
pub struct Handle {
    current: Arc<RwLock<Arc<Current>>>,
    wanted: Arc<Wanted>,
    replaced: Arc<Notify>,
}

/// Certificates of which nobody could say whether they were revoked, for whoever fetches the lists.
#[derive(Default)]
struct Wanted {
    asked: Mutex<Vec<RevocationUnknown>>,
    bell: Notify,
}

/// Whoever fetches looks at them within moments; more than a few stand there only while he waits for a server.
const MOST_WANTED: usize = 64;

impl Handle {
    pub fn new(current: Current) -> Self {
        Handle { current: Arc::new(RwLock::new(Arc::new(current))), wanted: Arc::default(), replaced: Arc::default() }
    }

    /// The value of this moment: an operation asks once and keeps it to its end.
    pub fn now(&self) -> Arc<Current> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts a new value in force for operations that begin from now on, and tells whoever waits for it.
    pub fn replace(&self, current: Current) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(current);
        self.replaced.notify_one();
    }

    /// Waits until the value was replaced whole; for one who keeps a part of it up to date.
    pub async fn replaced(&self) {
        self.replaced.notified().await;
    }

    /// Replaces parts of the value for operations that begin from now on; nobody else changes it meanwhile.
    pub fn update(&self, change: impl FnOnce(&mut Current)) {
        let mut held = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let mut current = Current::clone(&held);
        change(&mut current);
        *held = Arc::new(current);
    }

    /// Asks for the revocation lists of a path, where that is what is wanting, and does not wait for them.
    pub fn ask_for_lists(&self, wanting: Option<&RevocationUnknown>) {
        let Some(unknown) = wanting else { return };
        let mut asked = self.wanted.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if asked.len() < MOST_WANTED && !asked.contains(unknown) {
            asked.push(unknown.clone());
        }
        self.wanted.bell.notify_one();
    }

    /// What was asked for since the last call returned; waits until something is.
    pub async fn wanted_lists(&self) -> Vec<RevocationUnknown> {
        loop {
            let asked = std::mem::take(&mut *self.wanted.asked.lock().unwrap_or_else(PoisonError::into_inner));
            if !asked.is_empty() {
                return asked;
            }
            self.wanted.bell.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::model::TemporalReference;
    use crate::operations::testing::{alfa, beta};
    use crate::smime::SigningError;
    use crate::smime::testing::{NOW, certificate, lists, root_list};

    #[test]
    fn what_signed_before_a_reload_is_own_after_it_and_after_the_next_one() {
        let [old, new] = ["provider", "other-address"].map(|name| certificate(name).sha256());
        assert!(alfa().is_own(&old) && !alfa().is_own(&new));
        let once = beta().after(&alfa());
        let twice = beta().after(&once);
        for after in [&once, &twice] {
            assert!(after.is_own(&old) && after.is_own(&new));
            assert_eq!((after.former.len(), after.own_record_with_former().certificates.len()), (1, 2));
        }
    }

    #[test]
    fn a_provider_below_a_revoked_ca_signs_nothing_whether_or_not_the_list_is_in_date() {
        let now = TemporalReference::from_unix(NOW);
        let current = alfa();
        current.detached([0; 32], now, now).unwrap();
        for next_update in [NOW + 60, NOW - 1] {
            let revoking = root_list(1, NOW - 60, next_update, &["issuing"], "unrelated-key");
            let list = current.trust.read_list(&revoking, &[], now).unwrap();
            let lost = super::Current { trust: current.trust.with_lists(lists(vec![list])).into(), ..alfa() };
            let refused = lost.detached([0; 32], now, now);
            assert!(
                matches!(&refused, Err(SigningError::Revoked { subject, .. }) if subject.contains("Test Issuing CA")),
                "{refused:?}"
            );
        }
    }
}
