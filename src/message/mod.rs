//! What travels (§2.1, §4).

mod pieces;

pub use pieces::Pieces;
