//! Whether a signer's certificate leads to a configured CA at a given instant (§2.2.2, §5.5; RFC 5280 §6).
//!
//! OpenSSL builds and validates the path, name constraints on mail addresses and revocation lists included; the rules on
//! the signer's own certificate that are stricter than S/MIME's are checked here. Fails with the [`PathError`] that names
//! the certificate at fault.
//!
//! Every certificate of the path, the root included, must be on no list of its CA, and that list must be in date. Where
//! there is none, nothing is known, which is no verdict: [`PathError::RevocationUnknown`] is a fault, unless the
//! configuration wants such certificates accepted. What else is wrong with a path is found first, and a revocation that
//! any list held ever told counts, in date or not.

mod error;
mod lists;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use openssl::error::ErrorStack;
use openssl::ssl::SslFiletype;
use openssl::stack::Stack;
use openssl::x509::store::{X509Lookup, X509Store, X509StoreBuilder};
use openssl::x509::verify::{X509VerifyFlags, X509VerifyParam};
use openssl::x509::{X509, X509PurposeId, X509Ref, X509StoreContext, X509VerifyResult};

use sha2::{Digest, Sha256};

pub use error::{PathError, TrustError};
pub use lists::{ListFile, RevocationLists, RevocationUnknown, WithoutList};

use super::certificate::SignerCertificate;
use super::pem;
use super::revocation_list::{RevocationList, RevocationListError};
use crate::model::TemporalReference;
use error::{openssl, reason, subject};

/// The CAs that the configuration trusts, and their revocation lists.
pub struct Trust {
    authorities: Arc<Authorities>,
    lists: Arc<RevocationLists>,
    without_list: WithoutList,
    last: Mutex<Option<Second>>,
    revoked: Mutex<Option<OwnSecond>>,
}

/// Which certificate of a path a list revokes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revoked {
    /// The signer, or a CA above it.
    pub subject: String,
    pub since: String,
}

/// What [`Trust::revoked_in_path`] found in the last second that was asked about, by the digest of the path.
struct OwnSecond {
    at: TemporalReference,
    found: HashMap<[u8; 32], Option<Revoked>>,
}

/// What serves all messages of one second, the last that was asked about.
struct Second {
    at: TemporalReference,
    /// OpenSSL reads the lists anew for each store.
    store: Arc<X509Store>,
    /// The paths found valid, by their digest: OpenSSL verifies the lists anew for each path, and large ones take long.
    trusted: HashSet<[u8; 32]>,
}

/// The directory has some dozens of signers; more paths than these in a second are somebody's game.
const MOST_REMEMBERED: usize = 1024;

struct Authorities {
    roots: Vec<X509>,
    intermediates: Vec<X509>,
}

impl Trust {
    /// From PEM text with at least one root; certificates that are not self-signed only help to build paths. It has no
    /// revocation lists yet.
    pub fn from_pem(text: &[u8]) -> Result<Self, TrustError> {
        let (roots, intermediates): (Vec<_>, Vec<_>) = pem::certificates(text)?.into_iter().partition(is_self_signed);
        if roots.is_empty() {
            return Err(TrustError::NoRoot(intermediates.len()));
        }
        let authorities = Arc::new(Authorities { roots, intermediates });
        Ok(Self::of(authorities, Arc::default(), WithoutList::Refuse))
    }

    /// The same CAs with other lists.
    pub fn with_lists(&self, lists: RevocationLists) -> Self {
        Self::of(self.authorities.clone(), Arc::new(lists), self.without_list)
    }

    /// The same with another answer where there is no list in date.
    pub fn with_answer(&self, without_list: WithoutList) -> Self {
        Self::of(self.authorities.clone(), self.lists.clone(), without_list)
    }

    fn of(authorities: Arc<Authorities>, lists: Arc<RevocationLists>, without_list: WithoutList) -> Self {
        Trust { authorities, lists, without_list, last: Mutex::new(None), revoked: Mutex::new(None) }
    }

    /// Roots and intermediates.
    pub fn authorities(&self) -> impl Iterator<Item = &X509> {
        self.authorities.roots.iter().chain(&self.authorities.intermediates)
    }

    pub fn lists(&self) -> &RevocationLists {
        &self.lists
    }

    /// Whether this certificate may sign messages at this instant, revocation included; `intermediates` are those of the
    /// signature, in DER.
    pub fn check(
        &self,
        signer: &SignerCertificate,
        intermediates: &[Vec<u8>],
        at: TemporalReference,
    ) -> Result<(), PathError> {
        check_signer(signer)?;
        let digest = digest(signer, intermediates);
        if self.is_remembered(&digest, at) {
            return Ok(());
        }
        match self.validate(signer, intermediates, self.store_with_lists(at)) {
            Ok(_) => {
                self.remember(digest, at);
                Ok(())
            }
            Err(PathError::RevocationUnknown(unknown)) => self.without_list(signer, intermediates, at, *unknown),
            Err(other) => Err(other),
        }
    }

    /// The same without a look at revocation: it is at its arrival that a message is judged by the lists (§2.2.2).
    pub fn check_path(
        &self,
        signer: &SignerCertificate,
        intermediates: &[Vec<u8>],
        at: TemporalReference,
    ) -> Result<(), PathError> {
        check_signer(signer)?;
        self.validate(signer, intermediates, self.store(X509PurposeId::SMIME_SIGN, at)).map(drop)
    }

    /// Whether this certificate may sign time stamps at this instant (RFC 3161 §2.3); revocation is not looked at, for
    /// these CAs have no lists here.
    pub fn check_time_stamper(
        &self,
        signer: &SignerCertificate,
        intermediates: &[Vec<u8>],
        at: TemporalReference,
    ) -> Result<(), PathError> {
        self.validate(signer, intermediates, self.store(X509PurposeId::TIMESTAMP_SIGN, at)).map(drop)
    }

    /// Since when a list that is held revokes a certificate, in date or not.
    pub fn revoked_since(&self, certificate: &SignerCertificate) -> Option<String> {
        X509::from_der(certificate.der()).ok().and_then(|certificate| self.lists.revoked_since(&certificate))
    }

    /// Which certificate of a provider's own path a list that is held revokes, in date or not. Whatever else is wrong
    /// with the path is no revocation, and is not told here.
    ///
    /// It is asked before each signature, so the answer is kept for the others of the same second.
    pub fn revoked_in_path(
        &self,
        signer: &SignerCertificate,
        intermediates: &[Vec<u8>],
        at: TemporalReference,
    ) -> Option<Revoked> {
        let digest = digest(signer, intermediates);
        let kept = |last: &Option<OwnSecond>| {
            last.as_ref().filter(|second| second.at == at).and_then(|second| second.found.get(&digest).cloned())
        };
        if let Some(found) = kept(&self.revoked.lock().unwrap_or_else(PoisonError::into_inner)) {
            return found;
        }
        let found = self.find_revoked(signer, intermediates, at);
        let mut last = self.revoked.lock().unwrap_or_else(PoisonError::into_inner);
        if last.as_ref().is_none_or(|second| second.at != at) {
            *last = Some(OwnSecond { at, found: HashMap::new() });
        }
        if let Some(second) = last.as_mut() {
            second.found.insert(digest, found.clone());
        }
        found
    }

    fn find_revoked(
        &self,
        signer: &SignerCertificate,
        intermediates: &[Vec<u8>],
        at: TemporalReference,
    ) -> Option<Revoked> {
        // It is revoked also where no path leads from it.
        if let Some(since) = self.revoked_since(signer) {
            return Some(Revoked { subject: signer.subject().to_owned(), since });
        }
        let path = self.validate(signer, intermediates, self.store(X509PurposeId::SMIME_SIGN, at)).unwrap_or_default();
        self.first_revoked(&path)
    }

    /// The first certificate of a path that a list revokes.
    fn first_revoked(&self, path: &[X509]) -> Option<Revoked> {
        path.iter().find_map(|certificate| {
            let since = self.lists.revoked_since(certificate)?;
            Some(Revoked { subject: subject(certificate), since })
        })
    }

    /// Reads a list of one of these CAs, or of one below them among `further`.
    pub fn read_list(
        &self,
        octets: &[u8],
        further: &[X509],
        at: TemporalReference,
    ) -> Result<RevocationList, RevocationListError> {
        let below = further.iter().filter(|certificate| self.leads_to_root(certificate, further, at));
        RevocationList::read(octets, self.authorities().chain(below).cloned())
    }

    fn leads_to_root(&self, certificate: &X509Ref, further: &[X509], at: TemporalReference) -> bool {
        let valid = || -> Result<bool, ErrorStack> {
            let mut helpers = Stack::new()?;
            for helper in further.iter().chain(&self.authorities.intermediates) {
                helpers.push(helper.clone())?;
            }
            let mut parameters = X509VerifyParam::new()?;
            parameters.set_purpose(X509PurposeId::ANY)?;
            let store = self.new_store(parameters, at)?.build();
            X509StoreContext::new()?.init(&store, certificate, &helpers, |context| context.verify_cert())
        };
        let is_valid = valid().unwrap_or(false);
        drop(ErrorStack::get());
        is_valid
    }

    /// No list in date for a certificate of the path: all else must be in order, and no list may have revoked it.
    fn without_list(
        &self,
        signer: &SignerCertificate,
        intermediates: &[Vec<u8>],
        at: TemporalReference,
        unknown: RevocationUnknown,
    ) -> Result<(), PathError> {
        let path = self.validate(signer, intermediates, self.store(X509PurposeId::SMIME_SIGN, at))?;
        if let Some(Revoked { subject, since }) = self.first_revoked(&path) {
            return Err(PathError::Revoked { subject, since });
        }
        if self.without_list == WithoutList::Accept {
            return Ok(());
        }
        let path = path.iter().filter_map(|certificate| certificate.to_der().ok()).collect();
        Err(PathError::RevocationUnknown(Box::new(RevocationUnknown { path, ..unknown })))
    }

    /// The valid path, from the signer to the root.
    fn validate(
        &self,
        signer: &SignerCertificate,
        intermediates: &[Vec<u8>],
        store: Result<Arc<X509Store>, ErrorStack>,
    ) -> Result<Vec<X509>, PathError> {
        // What OpenSSL cannot read it will never be able to read: that is the certificate's fault, not ours.
        let unreadable = |_| PathError::Other {
            subject: signer.subject().to_owned(),
            reason: "OpenSSL cannot read the certificate",
        };
        let leaf = X509::from_der(signer.der()).map_err(unreadable)?;
        let helpers = self.helpers(intermediates).map_err(openssl("collect the intermediate certificates"))?;
        let store = store.map_err(openssl("set up path validation"))?;
        let mut context = X509StoreContext::new().map_err(openssl("set up path validation"))?;
        let verdict = context.init(&store, &leaf, &helpers, |context| {
            let is_valid = context.verify_cert()?;
            // What a failed check leaves in this thread's queue would show up as the cause of some later error.
            drop(ErrorStack::get());
            let path = || context.chain().into_iter().flatten().map(ToOwned::to_owned).collect();
            Ok(if is_valid { Ok(path()) } else { Err(reason(context, signer, &self.lists)) })
        });
        verdict.map_err(openssl("validate a path"))?
    }

    fn helpers(&self, received: &[Vec<u8>]) -> Result<Stack<X509>, ErrorStack> {
        let mut helpers = Stack::new()?;
        // An intermediate that cannot be read is no help, and no harm either.
        for certificate in received.iter().filter_map(|der| X509::from_der(der).ok()) {
            helpers.push(certificate)?;
        }
        for certificate in &self.authorities.intermediates {
            helpers.push(certificate.clone())?;
        }
        Ok(helpers)
    }

    /// Made anew for each check, because the instant belongs to the store; the certificates inside are shared.
    fn store(&self, purpose: X509PurposeId, at: TemporalReference) -> Result<Arc<X509Store>, ErrorStack> {
        let mut parameters = X509VerifyParam::new()?;
        parameters.set_purpose(purpose)?;
        Ok(Arc::new(self.new_store(parameters, at)?.build()))
    }

    /// Kept for the messages of the same second.
    fn store_with_lists(&self, at: TemporalReference) -> Result<Arc<X509Store>, ErrorStack> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(second) = last.as_ref().filter(|second| second.at == at) {
            return Ok(second.store.clone());
        }
        let mut parameters = X509VerifyParam::new()?;
        parameters.set_purpose(X509PurposeId::SMIME_SIGN)?;
        parameters.set_flags(X509VerifyFlags::CRL_CHECK | X509VerifyFlags::CRL_CHECK_ALL)?;
        let mut store = self.new_store(parameters, at)?;
        if let Some(file) = self.lists.file() {
            store.add_lookup(X509Lookup::file())?.load_crl_file(file.path(), SslFiletype::PEM)?;
        }
        let store = Arc::new(store.build());
        *last = Some(Second { at, store: store.clone(), trusted: HashSet::new() });
        Ok(store)
    }

    fn is_remembered(&self, path: &[u8; 32], at: TemporalReference) -> bool {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.as_ref().is_some_and(|second| second.at == at && second.trusted.contains(path))
    }

    fn remember(&self, path: [u8; 32], at: TemporalReference) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(second) = last.as_mut().filter(|second| second.at == at && second.trusted.len() < MOST_REMEMBERED) {
            second.trusted.insert(path);
        }
    }

    fn new_store(
        &self,
        mut parameters: X509VerifyParam,
        at: TemporalReference,
    ) -> Result<X509StoreBuilder, ErrorStack> {
        parameters.set_time(at.unix());
        let mut store = X509StoreBuilder::new()?;
        store.set_param(&parameters)?;
        for root in &self.authorities.roots {
            store.add_cert(root.clone())?;
        }
        Ok(store)
    }
}

/// Of the exact octets of signer and intermediates.
fn digest(signer: &SignerCertificate, intermediates: &[Vec<u8>]) -> [u8; 32] {
    let mut digest = Sha256::new();
    for der in intermediates.iter().map(Vec::as_slice).chain([signer.der()]) {
        digest.update(Sha256::digest(der));
    }
    digest.finalize().into()
}

/// What the rules ask of the signer's own certificate beyond a valid path (§5.5).
fn check_signer(signer: &SignerCertificate) -> Result<(), PathError> {
    let subject = || signer.subject().to_owned();
    if signer.allows_digital_signature() == Some(false) {
        return Err(PathError::KeyUsage { subject: subject() });
    }
    if signer.allows_email_protection() == Some(false) {
        return Err(PathError::ExtendedKeyUsage { subject: subject() });
    }
    if signer.is_ca() == Some(true) {
        return Err(PathError::SignerIsCa { subject: subject() });
    }
    Ok(())
}

fn is_self_signed(certificate: &X509) -> bool {
    certificate.issued(certificate) == X509VerifyResult::OK
        && certificate.public_key().and_then(|key| certificate.verify(&key)).unwrap_or(false)
}

#[cfg(test)]
mod tests;
