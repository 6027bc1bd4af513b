//! Where revocation lists come from and where they stay: servers, files and the store behind one port.

mod memory_file;
mod server;
mod store;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

pub use memory_file::revocation_lists;
pub use server::{ListServers, NotFetched};
pub use store::{ListStore, ListStoreError, Stored, StoredList};

use crate::model::TemporalReference;
use crate::operations::ports::{DepotFault, ListDepot};
use crate::smime::{DistributionPoint, LARGEST_LIST, RevocationList, RevocationLists, Trust, newest};

/// Servers, files and store.
pub struct Depot {
    pub servers: ListServers,
    pub files: Vec<PathBuf>,
    pub store: ListStore,
}

impl ListDepot for Depot {
    fn fetch(&self, point: &DistributionPoint) -> Result<(String, Vec<u8>), DepotFault> {
        Ok(self.servers.fetch(point)?)
    }

    fn files(&self) -> Vec<(String, Result<Vec<u8>, DepotFault>)> {
        let read = |file: &PathBuf| (file.display().to_string(), read(file).map_err(DepotFault::from));
        self.files.iter().map(read).collect()
    }

    fn keep(&self, list: &RevocationList, source: &str, at: TemporalReference) -> Result<(), DepotFault> {
        Ok(self.store.keep(list, source, at)?)
    }

    fn load(&self, trust: &Trust, at: TemporalReference) -> Result<RevocationLists, DepotFault> {
        let stored = self.store.load(trust, at)?;
        Ok(revocation_lists(newest(stored.lists.into_iter().map(|stored| stored.list)))?)
    }
}

/// A list that the configuration names; of a file that is too large so much that it is refused as that.
pub fn read(file: &Path) -> io::Result<Vec<u8>> {
    let mut octets = Vec::new();
    let limit = u64::try_from(LARGEST_LIST).unwrap_or(u64::MAX).saturating_add(1);
    File::open(file)?.take(limit).read_to_end(&mut octets)?;
    Ok(octets)
}
