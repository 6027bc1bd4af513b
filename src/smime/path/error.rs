//! Why a certificate is not trusted, in the words of whoever must mend it: OpenSSL's results and the rules of §5.5.

use openssl::error::ErrorStack;
use openssl::x509::{X509Ref, X509StoreContextRef};

use super::lists::{RevocationLists, RevocationUnknown};
use crate::model::TemporalReference;
use crate::smime::certificate::SignerCertificate;
use crate::smime::pem::PemError;
use crate::smime::revocation_list::readable;

/// Why a text is not a set of trusted CAs.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    #[error(transparent)]
    Pem(#[from] PemError),
    #[error("among the {0} certificates there is no self-signed one that could be a root")]
    NoRoot(usize),
}

/// Why a certificate is not trusted to sign messages; `subject` is the certificate at fault.
#[derive(Debug, thiserror::Error)]
pub enum PathError {
    #[error("the keyUsage of {subject} does not allow digital signatures")]
    KeyUsage { subject: String },
    #[error("the extendedKeyUsage of {subject} does not allow e-mail protection")]
    ExtendedKeyUsage { subject: String },
    #[error("{subject} is a CA and may not sign messages")]
    SignerIsCa { subject: String },
    #[error("the certificate {subject} is not valid yet")]
    NotYetValid { subject: String },
    #[error("the certificate {subject} has expired")]
    Expired { subject: String },
    #[error("no path leads from {subject} to a configured CA")]
    NoPath { subject: String },
    #[error("{subject} is outside the name constraints of its CA")]
    NameConstraints { subject: String },
    #[error("{subject} may not be used for its place in a path of S/MIME signatures")]
    Purpose { subject: String },
    #[error("{subject} is issued by a CA below one that allows no further CA (path length)")]
    PathLength { subject: String },
    #[error("the certificate {subject} was revoked on {since}")]
    Revoked { subject: String, since: String },
    #[error(transparent)]
    RevocationUnknown(Box<RevocationUnknown>),
    #[error("the path of {subject} is not valid: {reason}")]
    Other { subject: String, reason: &'static str },
    #[error("OpenSSL could not {call}")]
    OpenSsl {
        call: &'static str,
        #[source]
        source: ErrorStack,
    },
}

impl PathError {
    /// Whether nothing was found out: memory or files were wanting here, which says nothing about the certificate.
    pub fn is_fault(&self) -> bool {
        matches!(self, Self::OpenSsl { .. })
    }
}

/// What a failed validation says, with the certificate at fault.
pub(super) fn reason(context: &X509StoreContextRef, signer: &SignerCertificate, lists: &RevocationLists) -> PathError {
    let at_fault = context.current_cert();
    let subject = at_fault.map_or_else(|| signer.subject().to_owned(), subject);
    let issuer = || at_fault.map_or_else(|| "its CA".to_owned(), |certificate| readable(certificate.issuer_name()));
    let unknown = |lack: String| {
        let subject = subject.clone();
        PathError::RevocationUnknown(Box::new(RevocationUnknown { subject, lack, path: Vec::new() }))
    };
    let error = context.error();
    match error.as_raw() {
        result::NOT_YET_VALID => PathError::NotYetValid { subject },
        result::EXPIRED => PathError::Expired { subject },
        result::UNABLE_TO_GET_ISSUER
        | result::SELF_SIGNED_LEAF
        | result::SELF_SIGNED_IN_CHAIN
        | result::UNABLE_TO_GET_ISSUER_LOCALLY
        | result::UNABLE_TO_VERIFY_LEAF => PathError::NoPath { subject },
        result::PERMITTED_VIOLATION | result::EXCLUDED_VIOLATION => PathError::NameConstraints { subject },
        result::INVALID_PURPOSE | result::INVALID_CA => PathError::Purpose { subject },
        result::PATH_LENGTH_EXCEEDED => PathError::PathLength { subject },
        result::REVOKED => {
            let since = at_fault.and_then(|certificate| lists.revoked_since(&certificate.to_owned()));
            PathError::Revoked { subject, since: since.unwrap_or_else(|| "an unknown day".to_owned()) }
        }
        result::UNABLE_TO_GET_LIST => unknown(format!("there is no revocation list of {}", issuer())),
        result::LIST_EXPIRED => {
            unknown(format!("the revocation list of {} is out of date{}", issuer(), due(lists, &issuer())))
        }
        result::LIST_NOT_YET_VALID
        | result::LIST_SIGNATURE_UNREADABLE
        | result::LIST_SIGNATURE_FAILURE
        | result::LIST_ISSUED_UNREADABLE
        | result::LIST_NEXT_UNREADABLE
        | result::UNABLE_TO_GET_LIST_ISSUER
        | result::LIST_UNHANDLED_EXTENSION
        | result::CA_MAY_NOT_SIGN_LISTS
        | result::LIST_OF_OTHER_SCOPE
        | result::LIST_ISSUER_NOT_VALID => {
            unknown(format!("the revocation list of {} cannot be used: {}", issuer(), error.error_string()))
        }
        result::UNSPECIFIED | result::OUT_OF_MEMORY | result::INVALID_CALL | result::STORE_LOOKUP => {
            PathError::OpenSsl { call: "finish the validation of a path", source: ErrorStack::get() }
        }
        _ => PathError::Other { subject, reason: error.error_string() },
    }
}

/// When the next list of a CA was due, in parentheses.
fn due(lists: &RevocationLists, issuer: &str) -> String {
    let Some(list) = lists.of_issuer(issuer) else { return String::new() };
    let due = TemporalReference::from_unix(list.next_update());
    format!(" (the next was due {} {} {})", due.day(), due.time(), due.zone())
}

pub(super) fn subject(certificate: &X509Ref) -> String {
    readable(certificate.subject_name())
}

pub(super) fn openssl(call: &'static str) -> impl Fn(ErrorStack) -> PathError {
    move |source| PathError::OpenSsl { call, source }
}

/// Results of OpenSSL's path validation (openssl/x509_vfy.h); the numbers are part of its interface.
mod result {
    pub const UNSPECIFIED: i32 = 1;
    pub const UNABLE_TO_GET_ISSUER: i32 = 2;
    pub const UNABLE_TO_GET_LIST: i32 = 3;
    pub const LIST_SIGNATURE_UNREADABLE: i32 = 5;
    pub const LIST_SIGNATURE_FAILURE: i32 = 8;
    pub const NOT_YET_VALID: i32 = 9;
    pub const EXPIRED: i32 = 10;
    pub const LIST_NOT_YET_VALID: i32 = 11;
    pub const LIST_EXPIRED: i32 = 12;
    pub const LIST_ISSUED_UNREADABLE: i32 = 15;
    pub const LIST_NEXT_UNREADABLE: i32 = 16;
    pub const OUT_OF_MEMORY: i32 = 17;
    pub const SELF_SIGNED_LEAF: i32 = 18;
    pub const SELF_SIGNED_IN_CHAIN: i32 = 19;
    pub const UNABLE_TO_GET_ISSUER_LOCALLY: i32 = 20;
    pub const UNABLE_TO_VERIFY_LEAF: i32 = 21;
    pub const REVOKED: i32 = 23;
    pub const PATH_LENGTH_EXCEEDED: i32 = 25;
    pub const INVALID_PURPOSE: i32 = 26;
    pub const UNABLE_TO_GET_LIST_ISSUER: i32 = 33;
    pub const CA_MAY_NOT_SIGN_LISTS: i32 = 35;
    pub const LIST_UNHANDLED_EXTENSION: i32 = 36;
    pub const LIST_OF_OTHER_SCOPE: i32 = 44;
    pub const PERMITTED_VIOLATION: i32 = 47;
    pub const EXCLUDED_VIOLATION: i32 = 48;
    pub const LIST_ISSUER_NOT_VALID: i32 = 54;
    pub const INVALID_CALL: i32 = 69;
    pub const STORE_LOOKUP: i32 = 70;
    pub const INVALID_CA: i32 = 79;
}
