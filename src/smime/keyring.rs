//! Which of the provider's keys signs at an instant (§5.5): one is in force, and one may be appointed to follow it.
//!
//! A key is in force from its start until the next one's. Before it signs, its certificate must be valid now: one that has
//! expired, or is not valid yet, signs nothing. What was signed for an instant is signed for it again by the same key, so
//! that it is the same message again, for as long as that key's certificate is valid; after that by the key of the day.
//! Fails with the [`SigningError`] that names the certificate.

use super::certificate::SignerCertificate;
use super::expiry::{Expiry, expiry};
use super::sign::{Signer, SigningError};
use crate::model::TemporalReference;

/// The keys of this provider, in the order in which they come into force.
pub struct Keyring {
    first: Signer,
    next: Option<Next>,
}

struct Next {
    signer: Signer,
    starts: TemporalReference,
}

/// Whether anything can be signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outlook {
    /// Now.
    Signs,
    /// Not now, but from this instant on.
    Waits { until: TemporalReference },
    /// Neither now nor later.
    Over,
}

impl Keyring {
    /// With one key, in force from the beginning.
    pub fn new(first: Signer) -> Self {
        Keyring { first, next: None }
    }

    /// Appoints the key that follows.
    pub fn followed_by(self, signer: Signer, starts: TemporalReference) -> Self {
        Keyring { next: Some(Next { signer, starts }), ..self }
    }

    /// All certificates that sign, or will.
    pub fn certificates(&self) -> impl Iterator<Item = &SignerCertificate> {
        let next = self.next.iter().map(|next| next.signer.certificate());
        std::iter::once(self.first.certificate()).chain(next)
    }

    /// The certificates (DER) beside them, which lead to their CAs.
    pub fn chains(&self) -> impl Iterator<Item = &[u8]> {
        let signers = std::iter::once(&self.first).chain(self.next.iter().map(|next| &next.signer));
        signers.flat_map(|signer| signer.chain()).map(Vec::as_slice)
    }

    /// The key of an instant, whatever its certificate says.
    pub fn in_force(&self, at: TemporalReference) -> &Signer {
        match &self.next {
            Some(next) if next.starts <= at => &next.signer,
            _ => &self.first,
        }
    }

    /// When the key that is not in force yet comes into force.
    pub fn next_start(&self, now: TemporalReference) -> Option<TemporalReference> {
        self.next.as_ref().map(|next| next.starts).filter(|starts| *starts > now)
    }

    /// The key that signs now for an instant.
    pub fn signer(&self, at: TemporalReference, now: TemporalReference) -> Result<&Signer, SigningError> {
        let of_then = self.in_force(at);
        if usable(of_then.certificate(), now).is_ok() {
            return Ok(of_then);
        }
        let of_now = self.in_force(now);
        usable(of_now.certificate(), now)?;
        Ok(of_now)
    }

    /// Whether anything is signed now, or will be.
    pub fn outlook(&self, now: TemporalReference) -> Outlook {
        if usable(self.in_force(now).certificate(), now).is_ok() {
            return Outlook::Signs;
        }
        let begins = |certificate: &SignerCertificate, from: i64, to: i64| {
            let begin = certificate.not_before().max(from).max(now.unix());
            (begin <= certificate.not_after() && begin < to).then(|| TemporalReference::from_unix(begin))
        };
        let starts = self.next.as_ref().map_or(i64::MAX, |next| next.starts.unix());
        let first = begins(self.first.certificate(), i64::MIN, starts);
        let next = || self.next.as_ref().and_then(|next| begins(next.signer.certificate(), starts, i64::MAX));
        first.or_else(next).map_or(Outlook::Over, |until| Outlook::Waits { until })
    }

    /// The certificates whose end the administrator must be told of, each with how near it is: not one that the next key
    /// follows in time.
    pub fn expiring(&self, now: TemporalReference) -> Vec<(&SignerCertificate, Expiry)> {
        let is_followed = |certificate: &SignerCertificate| {
            self.next.as_ref().is_some_and(|next| {
                let follower = next.signer.certificate();
                let is_other = follower != certificate;
                is_other
                    && next.starts.unix() <= certificate.not_after()
                    && follower.not_after() > certificate.not_after()
            })
        };
        self.certificates()
            .filter(|certificate| !is_followed(certificate))
            .filter_map(|certificate| Some((certificate, expiry(certificate.not_after(), now)?)))
            .collect()
    }
}

/// A certificate outside its validity signs nothing.
fn usable(certificate: &SignerCertificate, now: TemporalReference) -> Result<(), SigningError> {
    let (subject, serial) = (|| certificate.subject().to_owned(), || certificate.serial());
    if now.unix() > certificate.not_after() {
        let since = TemporalReference::from_unix(certificate.not_after());
        return Err(SigningError::Expired { subject: subject(), serial: serial(), since });
    }
    if now.unix() < certificate.not_before() {
        let from = TemporalReference::from_unix(certificate.not_before());
        return Err(SigningError::NotYetValid { subject: subject(), serial: serial(), from });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smime::Engine;
    use crate::smime::testing::{certificate, key};

    /// Valid to the end of 2020 and to 2090, both from the beginning of 2020.
    const SHORT: &str = "expired";
    const LONG: &str = "provider";
    const IN_2019: i64 = 1_560_000_000;
    const IN_2020: i64 = 1_590_000_000;
    const LATE_IN_2020: i64 = 1_600_000_000;
    const IN_2024: i64 = 1_721_032_245;
    const IN_2091: i64 = 3_818_448_000;

    fn instant(unix: i64) -> TemporalReference {
        TemporalReference::from_unix(unix)
    }

    /// The keyring never looks whether key and certificate belong together.
    fn signer(name: &str) -> Signer {
        Signer::new(key(Engine::AwsLc), certificate(name), &[]).unwrap()
    }

    fn rollover() -> Keyring {
        Keyring::new(signer(SHORT)).followed_by(signer(LONG), instant(LATE_IN_2020))
    }

    fn chosen(keyring: &Keyring, at: i64, now: i64) -> Result<String, SigningError> {
        keyring.signer(instant(at), instant(now)).map(|signer| signer.certificate().serial())
    }

    #[test]
    fn the_next_key_signs_from_its_start_on() {
        let serials = [SHORT, LONG].map(|name| certificate(name).serial());
        assert_eq!(chosen(&rollover(), LATE_IN_2020 - 1, LATE_IN_2020 - 1).unwrap(), serials[0]);
        assert_eq!(chosen(&rollover(), LATE_IN_2020, LATE_IN_2020).unwrap(), serials[1]);
        assert_eq!(rollover().next_start(instant(IN_2020)), Some(instant(LATE_IN_2020)));
        assert_eq!(rollover().next_start(instant(LATE_IN_2020)), None);
    }

    #[test]
    fn what_was_signed_is_signed_again_by_the_same_key_while_its_certificate_is_valid() {
        let serials = [SHORT, LONG].map(|name| certificate(name).serial());
        assert_eq!(chosen(&rollover(), IN_2020, LATE_IN_2020 + 1).unwrap(), serials[0]);
        assert_eq!(chosen(&rollover(), IN_2020, IN_2024).unwrap(), serials[1]);
    }

    #[test]
    fn a_certificate_outside_its_validity_signs_nothing() {
        let alone = Keyring::new(signer(SHORT));
        assert!(matches!(chosen(&alone, IN_2020, IN_2024), Err(SigningError::Expired { .. })));
        assert!(matches!(chosen(&alone, IN_2019, IN_2019), Err(SigningError::NotYetValid { .. })));
        let too_late = Keyring::new(signer(SHORT)).followed_by(signer(LONG), instant(IN_2091));
        assert!(matches!(chosen(&too_late, IN_2024, IN_2024), Err(SigningError::Expired { .. })));
    }

    #[test]
    fn the_outlook_says_whether_and_from_when_something_is_signed() {
        let alone = Keyring::new(signer(SHORT));
        let begins = instant(certificate(SHORT).not_before());
        assert_eq!(alone.outlook(instant(IN_2019)), Outlook::Waits { until: begins });
        assert_eq!(alone.outlook(instant(IN_2020)), Outlook::Signs);
        assert_eq!(alone.outlook(instant(IN_2024)), Outlook::Over);
        let with_gap = Keyring::new(signer(SHORT)).followed_by(signer(LONG), instant(IN_2024));
        let in_the_gap = instant(IN_2024 - 1);
        assert_eq!(with_gap.outlook(in_the_gap), Outlook::Waits { until: instant(IN_2024) });
        assert_eq!(with_gap.outlook(instant(IN_2024)), Outlook::Signs);
        assert_eq!(with_gap.outlook(instant(IN_2091)), Outlook::Over);
    }

    #[test]
    fn an_end_that_the_next_key_comes_before_is_not_told() {
        let serials = |keyring: &Keyring, now| -> Vec<String> {
            keyring.expiring(instant(now)).iter().map(|(certificate, _)| certificate.serial()).collect()
        };
        let end = certificate(SHORT).not_after();
        assert_eq!(serials(&Keyring::new(signer(SHORT)), end - 1), [certificate(SHORT).serial()]);
        assert!(serials(&rollover(), end - 1).is_empty());
        assert!(serials(&rollover(), end + 1).is_empty());
        let too_late = Keyring::new(signer(SHORT)).followed_by(signer(LONG), instant(end + 1));
        assert_eq!(serials(&too_late, end - 1), [certificate(SHORT).serial()]);
    }
}
