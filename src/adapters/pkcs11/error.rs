//! Why a key in a token does not sign, for an administrator.

use std::path::PathBuf;
use std::time::Duration;

use cryptoki::error::Error;
use openssl::error::ErrorStack;

use super::Place;

/// Why a token did not sign.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    #[error("the PKCS#11 library {} cannot be used: install it, or correct the path", module.display())]
    Module {
        module: PathBuf,
        #[source]
        source: Error,
    },
    #[error("{} has no token with the label {:?}, but {found:?}", place.module.display(), place.token)]
    NoToken { place: Place, found: Vec<String> },
    #[error("{} has two tokens with the label {:?}: give one of them another", place.module.display(), place.token)]
    TwoTokens { place: Place },
    #[error(
        "the token {token:?} refused the PIN: correct the file, then start or reload. It is not tried again meanwhile, for a \
         token locks itself after a few wrong ones"
    )]
    PinRefused {
        token: String,
        #[source]
        source: Option<Error>,
    },
    #[error(
        "one more wrong PIN would lock the token {token:?}, so it is not tried: log in once with the right one, with \
         pkcs11-tool --login --list-objects, then start or reload"
    )]
    PinAtRisk { token: String },
    #[error("the user PIN of the token {token:?} is locked: set a new one as its security officer")]
    PinLocked { token: String },
    #[error("the token {:?} has no private RSA key with the label {:?}", place.token, place.key)]
    NoKey { place: Place },
    #[error("the token {:?} has several private RSA keys with the label {:?}: give them different ones", place.token, place.key)]
    TwoKeys { place: Place },
    #[error(
        "the key {:?} of the token {:?} does not belong to the certificate: bring the right token back, or configure the \
         certificate of this key", place.key, place.token
    )]
    Mismatch { place: Place },
    #[error("the public key of the certificate cannot be read")]
    PublicKey {
        #[source]
        source: ErrorStack,
    },
    #[error("the token {token:?} signs neither with SHA256_RSA_PKCS nor with RSA_PKCS")]
    NoMechanism { token: String },
    #[error("the token {token:?} could not {call}")]
    Call {
        token: String,
        call: &'static str,
        #[source]
        source: Error,
    },
    #[error("all sessions of the token {token:?} were busy for {} seconds: raise pkcs11_sessions if it bears more", waited.as_secs())]
    Busy { token: String, waited: Duration },
}

impl TokenError {
    /// Whether trying again would cost one of the few wrong PINs that a token bears.
    pub fn is_about_pin(&self) -> bool {
        matches!(self, Self::PinRefused { .. } | Self::PinAtRisk { .. } | Self::PinLocked { .. })
    }

    /// Whether the right token may be there, and the library not know it.
    pub(super) fn is_about_presence(&self) -> bool {
        !self.is_about_pin() && !matches!(self, Self::Call { call: "sign", .. })
    }
}
