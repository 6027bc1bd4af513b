//! Signatures and the certificates behind them: bytes in, bytes out, nothing known of certified mail (§2.1, §2.2.2).
//!
//! An incoming message is judged by [`verify`] (do these octets carry this signer's signature?) and then by
//! [`Trust::check`] (does the signer lead to a configured CA?); whose certificate it is, the providers directory tells.
//! An outgoing message is signed by a [`Signer`], whose certificate [`profile::departures`] holds against §5.5.
//! The room reads no file and no clock: keys and certificates come from `adapters/key_file.rs`.

mod algorithm;
mod ber;
mod certificate;
mod cms;
pub mod path;
pub mod pem;
pub mod profile;
pub mod sign;
mod software_key;
#[cfg(test)]
pub(crate) mod testing;
mod verify;

pub use algorithm::{AlgorithmError, DigestAlgorithm};
pub use ber::BerError;
pub use certificate::{CertificateError, SignerCertificate};
pub use cms::CmsError;
pub use path::{PathError, Trust, TrustError};
pub use sign::{Signer, SigningError, SigningKey};
pub use software_key::{Engine, software_key};
pub use verify::{Sha1Policy, SignatureError, VerifiedSignature, verify};
