//! Fetches revocation lists from where CAs publish them, over plain http: a list is signed, and https would need lists.
//!
//! Size and time have limits. Blocks its thread.

use std::time::Duration;

use ureq::Agent;

use crate::smime::{DistributionPoint, LARGEST_LIST};

/// A server that is there answers within this; one that is not holds up nothing but its own list.
const CONNECT: Duration = Duration::from_secs(10);
/// The largest lists of several megabytes arrive within this over a slow line.
const WHOLE: Duration = Duration::from_secs(60);

/// Why no address of a distribution point gave a list; a line for each.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("; "))]
pub struct NotFetched(pub Vec<String>);

/// The client of all servers.
#[derive(Clone)]
pub struct ListServers {
    agent: Agent,
}

impl Default for ListServers {
    fn default() -> Self {
        let config = Agent::config_builder()
            .timeout_connect(Some(CONNECT))
            .timeout_global(Some(WHOLE))
            // A certificate names the place itself, and where it leads on to is not always http.
            .max_redirects(0)
            .user_agent("pec-milter")
            .build();
        ListServers { agent: config.into() }
    }
}

impl ListServers {
    /// What the first address that answers gives, and which one that was.
    pub fn fetch(&self, point: &DistributionPoint) -> Result<(String, Vec<u8>), NotFetched> {
        let mut failures = Vec::new();
        for address in &point.0 {
            match self.get(address) {
                Ok(octets) => return Ok((address.clone(), octets)),
                Err(error) => failures.push(format!("{address}: {error}")),
            }
        }
        Err(NotFetched(failures))
    }

    fn get(&self, address: &str) -> Result<Vec<u8>, String> {
        let mut response = self.agent.get(address).call().map_err(|error| error.to_string())?;
        if !response.status().is_success() {
            return Err(format!("the server answers {}", response.status()));
        }
        let limit = u64::try_from(LARGEST_LIST).unwrap_or(u64::MAX);
        response.body_mut().with_config().limit(limit).read_to_vec().map_err(|error| error.to_string())
    }
}
