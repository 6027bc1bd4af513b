//! What all operations work with, as one value that a reload replaces whole.

use std::sync::{Arc, PoisonError, RwLock};

use crate::access_point::Limits;
use crate::directory::Directory;
use crate::identity::SenderMap;
use crate::incoming_point::Standards;
use crate::message::body::{Signed, Unsigned};
use crate::model::{Address, Provider, TemporalReference};
use crate::smime::{Sha1Policy, Signer, SigningError, Trust};
use crate::transaction::Timeouts;

/// This provider with everything it knows: configuration, key, directory.
pub struct Current {
    pub provider: Provider,
    pub signer: Signer,
    pub trust: Trust,
    pub sha1: Sha1Policy,
    pub directory: Directory,
    pub senders: SenderMap,
    pub limits: Limits,
    pub timeouts: Timeouts,
}

impl Current {
    /// Against what an incoming message is checked at an instant.
    pub fn standards(&self, at: TemporalReference) -> Standards<'_> {
        Standards { directory: &self.directory, trust: &self.trust, sha1: self.sha1, at }
    }

    /// Signs a composed message; `at` is its instant, so that the same entry gives the same octets again.
    pub fn sign(&self, message: Unsigned, at: TemporalReference) -> Result<Signed, SigningError> {
        let signature = self.signer.detached(message.digest(), at)?;
        Ok(message.seal(&signature))
    }

    /// Whether an address is a mailbox of this provider.
    pub fn manages(&self, address: &Address) -> bool {
        self.provider.manages(address)
    }
}

/// The handle under which the [`Current`] of this moment is found.
#[derive(Clone)]
pub struct Handle(Arc<RwLock<Arc<Current>>>);

impl Handle {
    pub fn new(current: Current) -> Self {
        Handle(Arc::new(RwLock::new(Arc::new(current))))
    }

    /// The value of this moment: an operation asks once and keeps it to its end.
    pub fn now(&self) -> Arc<Current> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts a new value in force for operations that begin from now on.
    pub fn replace(&self, current: Current) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(current);
    }
}
