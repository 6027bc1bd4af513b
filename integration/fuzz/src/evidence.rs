//! What an exported log says: a row or a seal that is read is written again in the same octets, and nothing else is one.

use pec_milter::legal_log::seal::Seal;
use pec_milter::legal_log::{Link, hold, line, purge};

pub fn evidence(octets: &[u8]) {
    let Ok(text) = std::str::from_utf8(octets) else { return };
    if let Ok((sequence, entry)) = line::read(text) {
        assert_eq!(line::write(sequence, &entry), text);
        let link = Link::BEFORE_FIRST.next(&entry);
        assert_eq!(Link::BEFORE_FIRST.check_next(&link, &entry), Ok(()));
        for range in purge::purged(&entry).unwrap_or_default() {
            assert_eq!(range.last.hash.len(), 32);
        }
        let recorded = pec_milter::legal_log::Recorded { sequence, entry, is_new: false };
        assert!(hold::standing(&[recorded]).len() <= 1);
    }
    if let Ok(seal) = Seal::from_text(text) {
        assert_eq!(seal.to_text(), text);
        assert!(seal.holds(seal.first()) && seal.holds(seal.last.sequence));
        assert!(!seal.holds(seal.before.sequence));
        assert!(seal.entry().details.is_some());
    }
}
