//! The providers directory and the revocation lists: where they come from, and where their copies lie.

use std::error::Error;

use sha2::{Digest, Sha256};

use super::OutsideFault;
use crate::directory::Form;
use crate::model::TemporalReference;
use crate::smime::{DistributionPoint, RevocationList, RevocationLists, Trust};

/// The server that gives the providers directory out (§5.6). It blocks: never called on an async thread.
pub trait DirectorySource {
    /// The directory as it is there now, all of it.
    fn fetch(&self) -> Result<Fetched, OutsideFault>;
}

/// A file that may be the directory; nobody has looked at it yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    pub form: Form,
    pub octets: Vec<u8>,
}

/// The fetched copies on disk. It blocks: never called on an async thread.
pub trait DirectoryStore {
    /// Which copies there are, and how the last fetch went.
    fn copies(&self) -> Result<Copies, OutsideFault>;

    /// The octets of a copy, which are those that were put there.
    fn octets(&self, copy: &DirectoryCopy) -> Result<Vec<u8>, OutsideFault>;

    /// Runs this while no other process changes the copies.
    fn exclusively<T>(&self, work: impl FnOnce() -> T) -> Result<T, OutsideFault>;

    /// Makes these octets the current copy, at once and whole; the current one becomes the previous one.
    fn replace(&self, fetched: &Fetched, at: TemporalReference) -> Result<(), OutsideFault>;

    /// Remembers that the current copy was found to be that of the server.
    fn confirm(&self, at: TemporalReference) -> Result<(), OutsideFault>;

    /// Remembers why the last fetch gave nothing.
    fn note_failure(&self, at: TemporalReference, cause: &str) -> Result<(), OutsideFault>;
}

/// The copies of the directory that lie on disk.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Copies {
    pub current: Option<DirectoryCopy>,
    pub previous: Option<DirectoryCopy>,
    /// When the current copy was last found to be that of the server.
    pub confirmed: Option<TemporalReference>,
    /// Since then: when a fetch last failed, and why.
    pub failure: Option<(TemporalReference, String)>,
}

/// One copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectoryCopy {
    pub form: Form,
    /// Of its octets, in hexadecimal digits.
    pub sha256: String,
    pub fetched: TemporalReference,
}

impl DirectoryCopy {
    /// Whether these are its octets.
    pub fn is_of(&self, fetched: &Fetched) -> bool {
        let digest = Sha256::digest(&fetched.octets);
        self.form == fetched.form
            && self.sha256 == digest.iter().map(|octet| format!("{octet:02x}")).collect::<String>()
    }
}

/// The revocation lists of the outside, and the store that keeps them (§2.2.2). Every call blocks its thread.
pub trait ListDepot: Send + Sync + 'static {
    /// A list as a CA publishes it, with the address that gave it.
    fn fetch(&self, point: &DistributionPoint) -> Result<(String, Vec<u8>), DepotFault>;

    /// The lists that somebody else brings, each with its place.
    fn files(&self) -> Vec<(String, Result<Vec<u8>, DepotFault>)>;

    /// Makes a list durable in the place of the one before it.
    fn keep(&self, list: &RevocationList, source: &str, at: TemporalReference) -> Result<(), DepotFault>;

    /// All lists that are kept and signed by a CA that is trusted now.
    fn load(&self, trust: &Trust, at: TemporalReference) -> Result<RevocationLists, DepotFault>;
}

/// A revocation list did not come or was not kept: the lists before stay in force.
pub type DepotFault = Box<dyn Error + Send + Sync>;
