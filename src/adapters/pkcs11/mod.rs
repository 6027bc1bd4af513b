//! The provider's key in a hardware module (§5.1), through PKCS #11: it signs there and never leaves it.
//!
//! `module` is the library with the sessions it has open, `session` one session that has found the key. A signature takes a
//! session for itself, waits a bounded time where all are busy, and opens one where none is left. A session that fails is
//! closed, and the signature tried once with a new one; where that fails too, the library is started anew, for a token that
//! went away comes back only then. After that it is a fault: mail waits, and the next signature begins in the same way.
//! A PIN that was refused is never tried again: a token locks itself after a few.

mod error;
mod module;
mod session;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tracing::{info, warn};
use zeroize::Zeroizing;

pub use error::TokenError;

use crate::operations::causes;
use crate::smime::{SignerCertificate, SigningError, SigningKey};
use module::{Lease, Module, PoolId};
use session::KeySession;

/// What is signed at the start, to see whether key and certificate belong together.
const TRIAL: &[u8] = b"pec-milter";

/// Where a key is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The library that speaks to the token.
    pub module: PathBuf,
    /// The token's label.
    pub token: String,
    /// The private key's label.
    pub key: String,
}

/// A private RSA key in a token.
pub struct TokenKey {
    place: Place,
    pin: Zeroizing<String>,
    module: Arc<Module>,
    pool: PoolId,
    /// So that a loss and its end are told once.
    is_lost: AtomicBool,
}

impl TokenKey {
    /// Logs in, finds the key, and signs once to see that it is the certificate's.
    pub fn open(
        place: Place,
        pin: Zeroizing<String>,
        sessions: usize,
        certificate: &SignerCertificate,
    ) -> Result<Self, TokenError> {
        let module = Module::at(&place.module)?;
        let pool = module.add_pool(sessions);
        let key = TokenKey { place, pin, module, pool, is_lost: AtomicBool::new(false) };
        let signature = key.signature(TRIAL)?;
        match certificate.verifies(TRIAL, &signature) {
            true => Ok(key),
            false => Err(TokenError::Mismatch { place: key.place.clone() }),
        }
    }

    fn signature(&self, message: &[u8]) -> Result<Vec<u8>, TokenError> {
        let mut lease = self.module.lease(self.pool, &self.place)?;
        if let Some(session) = lease.session() {
            match session.sign(message) {
                Ok(signature) => return Ok(signature),
                Err(error) => self.tell_loss(&error),
            }
            // What ended one session may have ended them all.
            lease.close();
            self.module.close_idle(self.pool);
        }
        let session = self.connect(&mut lease)?;
        let signature = session.sign(message);
        match &signature {
            Ok(_) => {
                lease.keep(session);
                if self.is_lost.swap(false, Ordering::Relaxed) {
                    info!(token = %self.place.token, key = %self.place.key, "the token signs again");
                }
            }
            Err(error) => self.tell_loss(error),
        }
        signature
    }

    /// A new session; through a new start of the library where there is no other way.
    fn connect(&self, lease: &mut Lease) -> Result<KeySession, TokenError> {
        let first = match self.module.open(&self.place, &self.pin) {
            Err(error) if !error.is_about_pin() => error,
            decided => return decided,
        };
        if !lease.restart_module() {
            self.tell_loss(&first);
            return Err(first);
        }
        let second = self.module.open(&self.place, &self.pin);
        second.inspect_err(|error| self.tell_loss(error))
    }

    fn tell_loss(&self, error: &TokenError) {
        if !self.is_lost.swap(true, Ordering::Relaxed) {
            let cause = causes(error);
            warn!(token = %self.place.token, key = %self.place.key, %cause, "the token does not sign; it is tried again with every signature");
        }
    }
}

impl SigningKey for TokenKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SigningError> {
        self.signature(message).map_err(|error| SigningError::Engine { engine: "the token", source: error.into() })
    }
}

impl Drop for TokenKey {
    fn drop(&mut self) {
        // Closing asks the token, and whoever drops this may be a thread that must not wait.
        let (module, pool) = (self.module.clone(), self.pool);
        std::thread::spawn(move || module.remove_pool(pool));
    }
}
