//! The provider's key in a hardware module (§5.1), through PKCS #11: it signs there and never leaves it.
//!
//! `module` is the library with the sessions it has open, `session` one session that has found the key. A signature takes a
//! session for itself, waits a bounded time where all are busy, and opens one where none is left. A session that fails is
//! closed, and the signature tried once with a new one; where that fails too, the library is started anew, for a token that
//! went away comes back only then. After that it is a fault: mail waits, and the next signature begins in the same way.
//! Each signature is held against the certificate before it is given out, for another token may answer to the same labels;
//! one that does not fit is treated as a token that went away.
//! A PIN that was refused is not tried again until [`forget_refused_pins`]: a token locks itself after a few.

mod error;
mod module;
mod session;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Public};
use openssl::sign::Verifier;
use openssl::x509::X509;
use tracing::{error, info, warn};
use zeroize::Zeroizing;

pub use error::TokenError;

use crate::operations::causes;
use crate::smime::{SignerCertificate, SigningError, SigningKey};
use module::{Module, PoolId};
use session::KeySession;

/// What is signed at the start, to see whether the key is there and the certificate's.
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
    /// The certificate's, which must verify what is signed.
    public_key: PKey<Public>,
    /// So that a loss and its end are told once.
    told: Mutex<Told>,
}

/// What the log last said of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Signs,
    Lost,
    /// Another key answers.
    Foreign,
}

/// Lets the PINs that tokens refused be tried once more. For the beginning of a load that a person has asked for: whatever
/// is loaded with it, a wrong PIN costs one try.
pub fn forget_refused_pins() {
    Module::forget_refused_pins();
}

impl TokenKey {
    /// Logs in, finds the key, and signs once to see that it is the certificate's.
    pub fn open(
        place: Place,
        pin: Zeroizing<String>,
        sessions: usize,
        certificate: &SignerCertificate,
    ) -> Result<Self, TokenError> {
        let public_key = X509::from_der(certificate.der()).and_then(|certificate| certificate.public_key());
        let public_key = public_key.map_err(|source| TokenError::PublicKey { source })?;
        let module = Module::at(&place.module)?;
        let pool = module.add_pool(sessions);
        let told = Mutex::new(Told::Signs);
        let key = TokenKey { place, pin, module, pool, public_key, told };
        key.signature(TRIAL)?;
        Ok(key)
    }

    fn signature(&self, message: &[u8]) -> Result<Vec<u8>, TokenError> {
        let mut lease = self.module.lease(self.pool, &self.place)?;
        if let Some(session) = lease.session() {
            match self.sign_in(session, message) {
                Ok(signature) => return Ok(signature),
                Err(error) => self.tell_loss(&error),
            }
            // What ended one session may have ended them all.
            lease.close();
            self.module.close_idle(self.pool);
        }
        let signed = match self.sign_in_new_session(message) {
            // The library may know only the tokens that were there when it started.
            Err(error) if error.is_about_presence() && lease.restart_module() => self.sign_in_new_session(message),
            decided => decided,
        };
        match signed {
            Ok((session, signature)) => {
                lease.keep(session);
                if self.is_news(Told::Signs) {
                    info!(token = %self.place.token, key = %self.place.key, "the token signs again");
                }
                Ok(signature)
            }
            Err(error) => {
                if !error.is_about_pin() {
                    self.tell_loss(&error);
                }
                Err(error)
            }
        }
    }

    fn sign_in_new_session(&self, message: &[u8]) -> Result<(KeySession, Vec<u8>), TokenError> {
        let session = self.module.open(&self.place, &self.pin)?;
        let signature = self.sign_in(&session, message)?;
        Ok((session, signature))
    }

    /// A signature that the certificate verifies. That costs little beside the signature, and OpenSSL needs a fifth of what
    /// the pure Rust of `smime` would.
    fn sign_in(&self, session: &KeySession, message: &[u8]) -> Result<Vec<u8>, TokenError> {
        let signature = session.sign(message)?;
        match verifies(&self.public_key, message, &signature) {
            true => Ok(signature),
            false => Err(TokenError::Mismatch { place: self.place.clone() }),
        }
    }

    fn tell_loss(&self, error: &TokenError) {
        let (token, key, cause) = (&self.place.token, &self.place.key, causes(error));
        match error {
            TokenError::Mismatch { .. } if self.is_news(Told::Foreign) => {
                error!(%token, %key, %cause, "ANOTHER KEY answers to the label of this provider's: nothing is signed with it");
            }
            TokenError::Mismatch { .. } => {}
            _ if self.is_news(Told::Lost) => {
                warn!(%token, %key, %cause, "the token does not sign; it is tried again with every signature");
            }
            _ => {}
        }
    }

    /// Whether this was not what was told last.
    fn is_news(&self, told: Told) -> bool {
        std::mem::replace(&mut *self.told.lock().unwrap_or_else(PoisonError::into_inner), told) != told
    }
}

/// Whether this is the PKCS #1 v1.5 signature with SHA-256 of a key over a message.
fn verifies(key: &PKey<Public>, message: &[u8], signature: &[u8]) -> bool {
    let verifier = Verifier::new(MessageDigest::sha256(), key);
    let is_good = verifier.and_then(|mut verifier| verifier.verify_oneshot(signature, message)).unwrap_or(false);
    // What a failed check leaves in this thread's queue would show up as the cause of some later error.
    drop(ErrorStack::get());
    is_good
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smime::Engine;
    use crate::smime::testing::{key, x509};

    #[test]
    fn only_the_certificates_own_signature_over_the_same_message_counts() {
        let signature = key(Engine::AwsLc).sign(TRIAL).unwrap();
        let own = x509("provider").public_key().unwrap();
        assert!(verifies(&own, TRIAL, &signature));
        assert!(!verifies(&own, b"another", &signature));
        assert!(!verifies(&x509("issuing").public_key().unwrap(), TRIAL, &signature));
        assert!(!verifies(&own, TRIAL, b"no signature"));
        assert!(ErrorStack::get().errors().is_empty());
    }
}
