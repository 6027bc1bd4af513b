//! Whether a seal is signed by the provider, and stamped (RFC 5652, RFC 3161).

use sha2::{Digest, Sha256};

use super::{CLOCKS, Sealed, Verification};
use crate::legal_log::seal::Seal;
use crate::model::Address;
use crate::operations::causes;
use crate::operations::ports::{EvidenceError, LogEvidence, SealEvidence};
use crate::smime::{self, Sha1Policy, SignerCertificate, timestamp};

const DAY: i64 = 86_400;

/// For so long a seal may wait for its stamp: an authority that is down for longer is no accident.
const LONGEST_WITHOUT_STAMP: i64 = 7 * DAY;

impl<L: LogEvidence, S: SealEvidence> Verification<'_, L, S> {
    /// Whether the seal is the provider's word.
    pub(super) fn check_signature(
        &mut self,
        sealed: &Sealed,
        seal: &Seal,
        octets: &[u8],
        signature: Option<&[u8]>,
    ) -> Result<bool, EvidenceError> {
        let place = format!("{}.p7s", sealed.name);
        let Some(signature) = signature else {
            self.violation(&place, "it is missing: the seal is not signed".to_owned());
            return Ok(false);
        };
        let verified = match smime::verify(signature, octets, Sha1Policy::Refuse) {
            Ok(verified) => verified,
            Err(error) => {
                self.violation(&place, format!("the seal is not signed by it: {}", causes(&error)));
                return Ok(false);
            }
        };
        let signer = verified.signer;
        match self.standards.trust.check_path(&signer, &verified.intermediates, seal.sealed) {
            Ok(()) => {}
            Err(error) if error.is_fault() => {
                return Err(EvidenceError { is_damage: false, source: Box::new(error) });
            }
            Err(error) => {
                let at = seal.sealed.rfc3339();
                self.violation(&place, format!("its signer is not trusted at {at}: {}", causes(&error)));
                return Ok(false);
            }
        }
        if let Some(stranger) = self.stranger(seal, &signer) {
            self.violation(&place, stranger);
            return Ok(false);
        }
        if let Some(since) = self.standards.trust.revoked_since(&signer) {
            let subject = signer.subject();
            self.finding(false, &place, format!("the certificate {subject} was revoked on {since}"));
        }
        self.signer = Some(signer);
        Ok(true)
    }

    /// Why the signer is not the provider whose log it is.
    fn stranger(&self, seal: &Seal, signer: &SignerCertificate) -> Option<String> {
        let names = signer.provider_names();
        if !names.contains(&seal.provider) {
            return Some(format!("it is made by {}, not by {}", signer.subject(), seal.provider));
        }
        let has_address = |address: &Address| {
            signer.mail_addresses().iter().any(|name| name.parse::<Address>().is_ok_and(|name| name == *address))
        };
        // Names are not enough: many providers are a "Posta Certificata". No CA gives one the address of another (§5.5).
        if let Some(own) = self.standards.own {
            let is_own = own.certificates.contains(signer) || has_address(&own.provider.sending_address);
            return (!is_own).then(|| format!("it is made by {}, not by this provider", signer.subject()));
        }
        let before = self.signer.as_ref()?;
        let is_same = before.subject() == signer.subject()
            || before.mail_addresses().iter().filter_map(|name| name.parse().ok()).any(|address| has_address(&address));
        (!is_same).then(|| format!("it is made by {}, the one before by {}", signer.subject(), before.subject()))
    }

    pub(super) fn check_stamp(&mut self, sealed: &Sealed, seal: &Seal, signature: &[u8], stamp: Option<&[u8]>) {
        let place = format!("{}.tsr", sealed.name);
        let age = (self.standards.now)().unix().saturating_sub(seal.sealed.unix());
        match (self.standards.stampers, stamp) {
            (None, None) => self.finding(false, &place, "there is no time stamp".to_owned()),
            (None, Some(_)) => {
                self.finding(false, &place, "the time stamp is not judged: its CA is not known".to_owned());
            }
            (Some(_), None) if self.standards.needs_stamps && age > LONGEST_WITHOUT_STAMP => self
                .violation(&place, format!("there is no time stamp, {} days after the sealing", age.div_euclid(DAY))),
            (Some(_), None) => self.finding(false, &place, "there is no time stamp yet".to_owned()),
            (Some(stampers), Some(stamp)) => {
                match timestamp::check(stamp, &Sha256::digest(signature).into(), None, stampers) {
                    Ok(found) => {
                        self.summary.stamped += 1;
                        let (stamped, after) = (found.at.rfc3339(), found.at.unix().saturating_sub(seal.sealed.unix()));
                        if after < -CLOCKS {
                            let what = format!("it was stamped at {stamped}, before the sealing that the seal tells");
                            self.finding(false, &place, what);
                        } else if after > DAY {
                            let what = format!("it was stamped at {stamped}: only from then on the stamp proves it");
                            self.finding(false, &place, what);
                        }
                    }
                    Err(error) => self.violation(&place, causes(&error)),
                }
            }
        }
    }
}
