//! Which addresses a user may send as (§5.2).
//!
//! A login that is an address is its own sender, unless the provider wants every address listed; maps say what else. A
//! certificate owns what its line in a map says and nothing else, whatever name it bears. Whether an address is one of
//! this provider's is left to the Access Point, and reading the maps anew when they change to the adapters.

mod certificate_map;
mod sender_map;

pub use certificate_map::{CertificateMap, CertificateMapError};
pub use sender_map::{SenderMap, SenderMapError};

use crate::model::Address;

/// Whether a login is this address itself.
pub fn is_own(login: &str, address: &Address) -> bool {
    login.parse::<Address>().is_ok_and(|own| own == *address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_that_is_an_address_is_its_own_and_no_other() {
        let is_own = |login: &str, address: &str| is_own(login, &address.parse().unwrap());
        assert!(is_own("anna@alfa.example", "Anna@ALFA.example"));
        assert!(!is_own("anna@alfa.example", "carla@alfa.example"));
        assert!(!is_own("anna", "anna@alfa.example"));
        assert!(!is_own("", "anna@alfa.example"));
    }
}
