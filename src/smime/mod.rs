//! Signatures and the certificates behind them: bytes in, bytes out, nothing known of certified mail (§2.1, §2.2.2).
//!
//! An incoming message is judged by [`verify`] (do these octets carry this signer's signature?) and then by
//! [`Trust::check`] (does the signer lead to a configured CA?); whose certificate it is, the providers directory tells.
//! An outgoing message is signed by the [`Signer`] that the [`Keyring`] chooses for its instant; [`profile::departures`] holds
//! the certificate against §5.5, and [`expiry`] says when its end is to be told. [`timestamp`] asks an authority for a
//! time stamp and judges its answer.
//! The room reads no file and no clock: keys and certificates come from `adapters/key_file.rs`.

mod algorithm;
mod ber;
mod certificate;
mod cms;
pub mod expiry;
pub mod keyring;
pub mod path;
pub mod pem;
pub mod profile;
mod revocation_list;
pub mod sign;
mod software_key;
#[cfg(test)]
pub(crate) mod testing;
pub mod timestamp;
mod verify;

pub use algorithm::{AlgorithmError, DigestAlgorithm};
pub use ber::BerError;
pub use certificate::{CertificateError, SignerCertificate};
pub use cms::CmsError;
pub use keyring::Keyring;
pub use path::{ListFile, PathError, RevocationLists, RevocationUnknown, Revoked, Trust, TrustError, WithoutList};
pub use revocation_list::{
    Condition, DistributionPoint, LARGEST_LIST, RevocationList, RevocationListError, distribution_points, newest,
    readable,
};
pub use sign::{Signer, SigningError, SigningKey};
pub use software_key::{Engine, software_key};
pub use verify::{Sha1Policy, SignatureError, SignedContent, VerifiedSignature, verify, verify_attached};
