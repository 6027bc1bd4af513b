//! The virus scanner and the store of infected messages as one thing, so that what was found is kept before it is told.
//!
//! Where no scanner is configured every message passes unseen: `cli` warns of that at every start.

use std::sync::Arc;

use super::ports::{Infected, ScanFault, Scanner, StoreFault, VirusStore};
use crate::message::Pieces;
use crate::virus::{Verdict, VirusName};

/// Scanner and store, or neither.
#[derive(Clone)]
pub struct VirusGuard(Option<Armed>);

#[derive(Clone)]
struct Armed {
    scanner: Arc<dyn Scanner>,
    store: Arc<dyn VirusStore>,
}

/// An infected message that lies in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    pub virus: VirusName,
    /// Its name in the store.
    pub name: String,
}

/// A message that was not scanned, or was found infected and not stored: answer 4xx.
#[derive(Debug, thiserror::Error)]
pub enum VirusFault {
    #[error(transparent)]
    Scan(#[from] ScanFault),
    #[error(transparent)]
    Store(#[from] StoreFault),
}

impl VirusGuard {
    pub fn new(scanner: impl Scanner, store: impl VirusStore) -> Self {
        VirusGuard(Some(Armed { scanner: Arc::new(scanner), store: Arc::new(store) }))
    }

    /// Without a scanner.
    pub fn off() -> Self {
        VirusGuard(None)
    }

    /// Scans ordinary mail, which is not kept (§2.2.2).
    pub async fn scan(&self, message: &Pieces) -> Result<Verdict, ScanFault> {
        match &self.0 {
            Some(armed) => armed.scanner.scan(message).await,
            None => Ok(Verdict::Clean),
        }
    }

    /// Scans a certified message; an infected one lies in the store when this returns (§2.2.4).
    pub async fn inspect(
        &self,
        message: &Pieces,
        about: impl FnOnce(VirusName) -> Infected,
    ) -> Result<Option<Stored>, VirusFault> {
        let Some(armed) = &self.0 else { return Ok(None) };
        match armed.scanner.scan(message).await? {
            Verdict::Clean => Ok(None),
            Verdict::Infected(virus) => {
                let name = armed.store.keep(message, &about(virus.clone())).await?;
                Ok(Some(Stored { virus, name }))
            }
        }
    }
}
