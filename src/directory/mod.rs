//! The providers directory (§4.5): LDIF bytes in, answers out.
//!
//! `ldif` knows the file format, `record` what a provider's entry must hold, `index` who manages a domain and for whom a
//! certificate speaks. `signed` says whether a file is the publisher's, `comparison` what it would change and whether it
//! may take the place of the one in force, `write` makes LDIF of entries, `tls_policy` which TLS Postfix asks of whom (§5.3). Where a file comes from and where it is kept
//! is the caller's affair.

mod comparison;
mod index;
mod ldif;
mod record;
mod signed;
mod tls_policy;
mod write;

pub use comparison::{Change, Comparison, Edition, Refusal, Terms, judge};
pub use index::{Directory, DirectoryError};
pub use ldif::LdifError;
pub use record::{ProviderRecord, RecordError, RecordFault, Remark, sha1_of};
pub use signed::{Form, Pin, PinError, Unacceptable, read};
pub use tls_policy::{TlsPolicy, UnknownDirectory, VerifiedDomain, tls_policy};
pub use write::{entry, own_record};
