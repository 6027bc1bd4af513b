//! The netstrings of a socketmap client: how its octets are sliced changes nothing, nothing longer than a request is waited
//! for, and what was found is written as it came.

use bytes::BytesMut;
use pec_milter::adapters::socketmap::netstring::{LONGEST, NetstringError, take, write};

/// Digits of the longest length, and its colon.
const LONGEST_HEAD: usize = 5;

pub fn netstring(octets: &[u8]) {
    let whole = read(octets, octets.len());
    for slice in [1, 2, 7] {
        assert_eq!(read(octets, slice), whole, "in slices of {slice}");
    }
    if let Ok(rest) = whole.1 {
        assert!(rest <= LONGEST_HEAD + LONGEST);
    }
    let mut octets = octets;
    for content in &whole.0 {
        if let Ok(text) = std::str::from_utf8(content) {
            assert!(octets.starts_with(write(text).as_bytes()));
        }
        octets = &octets[content.len().to_string().len() + content.len() + 2..];
    }
}

/// What was found, and the octets that are left over or why they are no netstring.
fn read(octets: &[u8], slice: usize) -> (Vec<Vec<u8>>, Result<usize, NetstringError>) {
    let (mut input, mut found) = (BytesMut::new(), Vec::new());
    for part in octets.chunks(slice.max(1)) {
        input.extend_from_slice(part);
        loop {
            match take(&mut input) {
                Ok(Some(content)) => found.push(content.to_vec()),
                Ok(None) => break,
                Err(error) => return (found, Err(error)),
            }
        }
    }
    (found, Ok(input.len()))
}
