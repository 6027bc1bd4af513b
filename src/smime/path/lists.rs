//! The revocation lists that are held, and what holds of a certificate while there is none for it (§2.2.2).

use std::path::Path;

use openssl::x509::X509;

use crate::smime::revocation_list::RevocationList;

/// What holds of a certificate when no list in date says whether it was revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WithoutList {
    /// Nothing: the message is neither certified nor turned down, it waits.
    Refuse,
    /// It counts as not revoked.
    Accept,
}

/// A file with the lists of a set: the safe interface of OpenSSL takes revocation lists from nowhere else.
pub trait ListFile: Send + Sync {
    /// Its content does not change while it lives.
    fn path(&self) -> &Path;
}

/// The revocation lists in force, one for each CA and scope.
#[derive(Default)]
pub struct RevocationLists {
    lists: Vec<RevocationList>,
    file: Option<Box<dyn ListFile>>,
}

impl RevocationLists {
    /// `file` holds these lists in PEM; none where there are none.
    pub fn new(lists: Vec<RevocationList>, file: Option<Box<dyn ListFile>>) -> Self {
        RevocationLists { lists, file }
    }

    pub fn iter(&self) -> impl Iterator<Item = &RevocationList> {
        self.lists.iter()
    }

    pub(super) fn file(&self) -> Option<&dyn ListFile> {
        self.file.as_deref()
    }

    pub(super) fn of_issuer(&self, issuer: &str) -> Option<&RevocationList> {
        self.lists.iter().find(|list| list.issuer_name() == issuer)
    }

    pub(super) fn revoked_since(&self, certificate: &X509) -> Option<String> {
        self.lists.iter().find_map(|list| list.revoked_since(certificate))
    }
}

/// A certificate of which nobody can say whether it was revoked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("whether {subject} was revoked is not known: {lack}")]
pub struct RevocationUnknown {
    /// The certificate whose list is wanting.
    pub subject: String,
    /// What is wanting, with the CA's name.
    pub lack: String,
    /// The path, otherwise valid, in DER from the signer to the root; it says where its lists are published.
    pub path: Vec<Vec<u8>>,
}
