//! The providers directory (§4.5): which domains are certified, and which certificates speak for them.
//!
//! Bytes in, answers out. `ldif` reads the file format, `record` one provider's entry, `index` answers the questions of
//! the points (§2.2.1, §2.2.2, §7). Fetching the file and checking its signature is left to whoever brings the bytes; a
//! file that is refused changes nothing, so the last good copy stays in force.

mod index;
mod ldif;
mod record;

pub use index::{Directory, DirectoryError};
pub use ldif::LdifError;
pub use record::{ProviderRecord, RecordError, RecordFault, Remark};
