//! A message as the pieces it was put together from, so that a 30 MB original is never copied into its envelope.

use bytes::Bytes;
use sha2::{Digest, Sha256};

/// The octets of a message, in order, in shared pieces.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pieces(Vec<Bytes>);

impl Pieces {
    pub fn push(&mut self, piece: impl Into<Bytes>) {
        let piece = piece.into();
        if !piece.is_empty() {
            self.0.push(piece);
        }
    }

    pub fn extend(&mut self, other: &Pieces) {
        self.0.extend(other.0.iter().cloned());
    }

    pub fn iter(&self) -> impl Iterator<Item = &Bytes> {
        self.0.iter()
    }

    pub fn len(&self) -> usize {
        self.0.iter().map(Bytes::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether any octet is above 127.
    pub fn is_eight_bit(&self) -> bool {
        self.0.iter().any(|piece| !piece.is_ascii())
    }

    pub fn sha256(&self) -> [u8; 32] {
        let mut digest = Sha256::new();
        for piece in &self.0 {
            digest.update(piece);
        }
        digest.finalize().into()
    }

    /// The whole as one run of octets: a copy, for small messages and tests.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut whole = Vec::with_capacity(self.len());
        for piece in &self.0 {
            whole.extend_from_slice(piece);
        }
        whole
    }
}

impl<T: Into<Bytes>> From<T> for Pieces {
    fn from(piece: T) -> Self {
        let mut pieces = Pieces::default();
        pieces.push(piece);
        pieces
    }
}
