//! A small input beyond the limits of every clamd: an archive within an archive, and so on. Pure.

/// Archives around the innermost file. clamd's MaxRecursion is 17 where nothing is said.
pub(super) const LEVELS: usize = 200;

/// An archive of archives. clamd remembers what it found clean and looks no deeper there, so that the innermost file must be
/// one that nobody could have sent before: it holds the `seed`.
pub(super) fn archive(seed: u128) -> Vec<u8> {
    (0..LEVELS).fold(seed.to_be_bytes().to_vec(), |inner, _| gzip(&inner))
}

/// RFC 1952, with the content in one stored block (RFC 1951 §3.2.4).
fn gzip(content: &[u8]) -> Vec<u8> {
    // All levels together are far below the 65 535 octets that a stored block holds.
    let length = u16::try_from(content.len()).unwrap_or(u16::MAX);
    let mut file = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff, 1];
    file.extend(length.to_le_bytes());
    file.extend((!length).to_le_bytes());
    file.extend(content);
    file.extend(crc32fast::hash(content).to_le_bytes());
    file.extend(u32::from(length).to_le_bytes());
    file
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn what_is_packed_is_unpacked_by_others() {
        let mut gunzip = Command::new("gunzip").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        gunzip.stdin.take().unwrap().write_all(&gzip(b"content")).unwrap();
        let output = gunzip.wait_with_output().unwrap();
        assert!(output.status.success());
        assert_eq!(output.stdout, b"content");
    }

    #[test]
    fn it_is_small_and_never_the_same() {
        assert!(archive(1).len() < 8 * 1024, "{}", archive(1).len());
        assert_ne!(archive(1), archive(2));
    }
}
