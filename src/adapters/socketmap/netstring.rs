//! Netstrings: the length in decimal digits, a colon, the octets, a comma.
//!
//! No socket here: octets come in as they arrive. A length is believed only after its limit was checked, and nothing is
//! set aside for what did not come yet.

use bytes::{Buf, BytesMut};

/// The longest request: the name of a table and a next hop, which is a host name with brackets and port.
pub const LONGEST: usize = 1024;

/// Digits of the longest length.
const MOST_DIGITS: usize = 4;

/// Why the octets are no netstring; what follows them cannot be understood either.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NetstringError {
    #[error("no length where a netstring should begin")]
    NoLength,
    #[error("a netstring of more than {LONGEST} octets")]
    TooLong,
    #[error("no comma behind the {0} octets of a netstring")]
    NoComma(usize),
}

/// Takes one netstring off the front; none while it is not there whole.
pub fn take(input: &mut BytesMut) -> Result<Option<BytesMut>, NetstringError> {
    let digits = input.iter().take_while(|octet| octet.is_ascii_digit()).count();
    if digits > MOST_DIGITS {
        return Err(NetstringError::TooLong);
    }
    match input.get(digits) {
        None => return Ok(None),
        Some(b':') if digits > 0 => {}
        Some(_) => return Err(NetstringError::NoLength),
    }
    let octets = input.get(..digits).unwrap_or_default();
    // A leading zero would be a second way to write the same length.
    if digits > 1 && octets.first() == Some(&b'0') {
        return Err(NetstringError::NoLength);
    }
    let length = octets.iter().fold(0, |length, digit| length * 10 + usize::from(digit - b'0'));
    if length > LONGEST {
        return Err(NetstringError::TooLong);
    }
    let begin = digits + 1;
    match input.get(begin + length) {
        None => Ok(None),
        Some(b',') => {
            input.advance(begin);
            let content = input.split_to(length);
            input.advance(1);
            Ok(Some(content))
        }
        Some(_) => Err(NetstringError::NoComma(length)),
    }
}

/// Writes one netstring.
pub fn write(content: &str) -> String {
    format!("{}:{content},", content.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All netstrings of a text that arrives in pieces of this size, and how it ends.
    fn read(octets: &[u8], piece: usize) -> (Vec<Vec<u8>>, Result<Option<BytesMut>, NetstringError>) {
        let (mut input, mut found) = (BytesMut::new(), Vec::new());
        for piece in octets.chunks(piece) {
            input.extend_from_slice(piece);
            loop {
                match take(&mut input) {
                    Ok(Some(content)) => found.push(content.to_vec()),
                    Ok(None) => break,
                    Err(error) => return (found, Err(error)),
                }
            }
        }
        (found, Ok((!input.is_empty()).then_some(input)))
    }

    #[test]
    fn netstrings_are_found_however_they_arrive() {
        let octets = b"16:tls beta.example,0:,5:a,b:c,";
        for piece in 1..=octets.len() {
            let (found, end) = read(octets, piece);
            assert_eq!(found, [&b"tls beta.example"[..], b"", b"a,b:c"], "{piece}");
            assert_eq!(end, Ok(None));
        }
        assert_eq!(write("NOTFOUND "), "9:NOTFOUND ,");
    }

    #[test]
    fn what_is_no_netstring_is_refused_before_it_is_waited_for() {
        for (octets, error) in [
            (&b"x"[..], NetstringError::NoLength),
            (b":", NetstringError::NoLength),
            (b"-1:", NetstringError::NoLength),
            (b" 1:a,", NetstringError::NoLength),
            (b"01:a,", NetstringError::NoLength),
            (b"1 :a,", NetstringError::NoLength),
            (b"1025:", NetstringError::TooLong),
            (b"9999:", NetstringError::TooLong),
            (b"99999", NetstringError::TooLong),
            (b"18446744073709551617:", NetstringError::TooLong),
            (b"1:ab", NetstringError::NoComma(1)),
            (b"3:tls\n", NetstringError::NoComma(3)),
        ] {
            for piece in [1, octets.len()] {
                assert_eq!(read(octets, piece), (Vec::new(), Err(error)), "{:?}", String::from_utf8_lossy(octets));
            }
        }
        for unfinished in ["", "1", "1024", "16:", "16:tls beta.example"] {
            assert_eq!(
                read(unfinished.as_bytes(), 1).1.map(|rest| rest.unwrap_or_default().len()),
                Ok(unfinished.len())
            );
        }
    }

    #[test]
    fn random_octets_never_panic_and_never_wait_for_more_than_the_longest() {
        // A linear congruential generator (Knuth): the same octets in every run.
        let mut state = 6_364_136_223_846_793_005_u64;
        let mut next = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        let alphabet = b"0123456789:,,::tls \x00\xFF\n";
        for _ in 0..20_000 {
            let length = next(60);
            let octets: Vec<u8> = (0..length).map(|_| alphabet[next(alphabet.len() as u64) as usize]).collect();
            let piece = usize::try_from(next(7)).unwrap() + 1;
            let (whole, end) = read(&octets, octets.len().max(1));
            assert_eq!((&whole, &end), (&read(&octets, piece).0, &read(&octets, piece).1), "{octets:?}");
            if let Ok(Some(rest)) = end {
                assert!(rest.len() <= MOST_DIGITS + 1 + LONGEST, "{octets:?}");
            }
        }
    }

    #[test]
    fn what_was_written_is_read_again() {
        for content in ["", "tls beta.example", &"x".repeat(LONGEST), "1:a,"] {
            assert_eq!(read(write(content).as_bytes(), 3), (vec![content.as_bytes().to_vec()], Ok(None)));
        }
    }
}
