//! Places where a test can make the daemon die, to show that a crash at any instant loses and certifies nothing.
//!
//! Without the feature `crash-points` nothing of this is in the program.

/// Ends the process, as SIGKILL would, when `PEC_CRASH_AT` names this place.
#[cfg(feature = "crash-points")]
pub fn point(name: &str) {
    if std::env::var("PEC_CRASH_AT").is_ok_and(|wanted| wanted == name) {
        std::process::abort();
    }
}

/// Does nothing.
#[cfg(not(feature = "crash-points"))]
#[inline(always)]
pub fn point(_name: &str) {}
