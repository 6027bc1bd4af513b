//! Private keys in memory, behind two engines that write the same octets (§5.1 asks for hardware where there is some).
//!
//! `aws-lc-rs` is the fast one, `rsa` the one in pure Rust. Which is used is left to the configuration, where the key
//! comes from to `adapters/key_file.rs`. Fails when an engine refuses a key, or refuses to sign with it.

use std::error::Error;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use rsa::pkcs8::DecodePrivateKey;
use rsa::rand_core::OsRng;
use rsa::{Pkcs1v15Sign, RsaPrivateKey};
use sha2::{Digest, Sha256};

use super::sign::{SigningError, SigningKey};

/// Who does the arithmetic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Engine {
    #[default]
    AwsLc,
    Rsa,
}

impl Engine {
    fn name(self) -> &'static str {
        match self {
            Self::AwsLc => "aws-lc-rs",
            Self::Rsa => "rsa",
        }
    }

    fn rejects(self, source: impl Into<Box<dyn Error + Send + Sync>>) -> SigningError {
        SigningError::KeyRejected { engine: self.name(), source: source.into() }
    }

    fn fails(self, source: impl Into<Box<dyn Error + Send + Sync>>) -> SigningError {
        SigningError::Engine { engine: self.name(), source: source.into() }
    }
}

/// An RSA key from its PKCS #8 encoding.
pub fn software_key(pkcs8: &[u8], engine: Engine) -> Result<Box<dyn SigningKey>, SigningError> {
    Ok(match engine {
        Engine::AwsLc => Box::new(AwsLcKey(RsaKeyPair::from_pkcs8(pkcs8).map_err(|error| engine.rejects(error))?)),
        Engine::Rsa => Box::new(RsaKey(RsaPrivateKey::from_pkcs8_der(pkcs8).map_err(|error| engine.rejects(error))?)),
    })
}

struct AwsLcKey(RsaKeyPair);

impl SigningKey for AwsLcKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SigningError> {
        let mut signature = vec![0; self.0.public_modulus_len()];
        // This padding takes no randomness; the interface asks for a source all the same.
        self.0
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature)
            .map_err(|error| Engine::AwsLc.fails(error))?;
        Ok(signature)
    }
}

struct RsaKey(RsaPrivateKey);

impl SigningKey for RsaKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SigningError> {
        // Randomness blinds the arithmetic against measuring its time; the signature does not depend on it.
        self.0
            .sign_with_rng(&mut OsRng, Pkcs1v15Sign::new::<Sha256>(), &Sha256::digest(message))
            .map_err(|error| Engine::Rsa.fails(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_key_is_refused() {
        for engine in [Engine::AwsLc, Engine::Rsa] {
            assert!(matches!(software_key(b"no key", engine), Err(SigningError::KeyRejected { .. })));
        }
    }
}
