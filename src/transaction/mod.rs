//! The life of a transaction after its acceptance (§3.1.6): what is known of each certified recipient, and which timeout
//! notice is owed.
//!
//! Pure: entries of the log come in. Where the open watches lie and who asks for them is left to the outside.

mod progress;
mod timeouts;

pub use progress::{Progress, certified_recipients, forestalls, known, told};
pub use timeouts::{EARLIEST_FINAL, FINAL, FIRST, Timeouts};
