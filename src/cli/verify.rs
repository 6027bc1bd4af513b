//! `verify`: what a message is, who signed it, and what holds of it, as the Incoming Point would see it.

use std::fs;
use std::io::{Write, stdout};
use std::path::Path;

use bytes::Bytes;

use super::Failure;
use super::load::{self, Unusable};
use crate::adapters::instruments::SystemInstruments;
use crate::config::Config;
use crate::directory::ProviderRecord;
use crate::incoming_point::{
    Arrival, CertifiedMessage, Classification, Revocation, Standards, classify, signature_existence,
};
use crate::message::anomaly_reason::AnomalyReason;
use crate::message::certification_data::CertificationData;
use crate::message::header::Header;
use crate::model::TemporalReference;
use crate::operations::ports::Instruments;
use crate::smime::{PathError, Sha1Policy, Trust, verify as verify_signature};

/// Prints the verdict; yes for a correct message of the PEC system, and for a provider's genuine anomaly envelope.
pub fn verify(config: &Path, file: &Path) -> Result<bool, Failure> {
    let config = Config::read(config)?;
    let stored = fs::read(file).map_err(|error| format!("cannot read {}: {error}", file.display()))?;
    let message = Bytes::from(with_crlf(&stored));
    let (trust, _) = load::trust(&config, &[], SystemInstruments.now()).map_err(|problem| Unusable(vec![problem]))?;
    let mut directory = load::directory(&config).map_err(|problem| Unusable(vec![problem]))?;
    let own: Vec<Vec<u8>> = load::own_certificates(&config).iter().map(|one| one.der().to_vec()).collect();
    if !own.is_empty() {
        directory = directory.with_own(ProviderRecord::own(&config.provider, own));
    }
    let sha1 = if config.trust.accept_sha1 { Sha1Policy::Accept } else { Sha1Policy::Refuse };
    let at = instant_of(&message).unwrap_or_else(|| SystemInstruments.now());
    let revocation = Revocation::JudgedBefore;
    let standards =
        Standards { directory: &directory, trust: &trust, sha1, at, revocation, own: None, found_before: None };
    let sender = reverse_path(&message);
    let arrival = Arrival { sender: &sender, recipients: &[], message: &message };
    let mut out = stdout().lock();
    match classify(&arrival, &standards)? {
        Classification::Envelope(found) | Classification::Notification(found) => {
            report(&mut out, &found, at)?;
            revocation_today(&mut out, &message, &trust, sha1)?;
            Ok(true)
        }
        Classification::NotCorrect { provider, reason } => {
            let is_anomaly_envelope = matches!(reason, AnomalyReason::AnomalyEnvelope(_));
            writeln!(out, "signed by     {provider}: signature, signer and certificate hold at {}", shown(at))?;
            match is_anomaly_envelope {
                true => writeln!(out, "kind          anomaly envelope: it certifies nothing of what it carries")?,
                false => writeln!(out, "NOT CORRECT   {reason} (§2.2.2)")?,
            }
            Ok(is_anomaly_envelope)
        }
        Classification::Ordinary(reason) => {
            writeln!(out, "NOT CERTIFIED {reason} (§2.2.2)")?;
            signature_alone(&mut out, &message, sha1)?;
            Ok(false)
        }
    }
}

fn report(out: &mut impl Write, found: &CertifiedMessage, at: TemporalReference) -> std::io::Result<()> {
    let CertificationData { kind, error, facts, issuer, .. } = &found.data;
    writeln!(out, "kind          {} ({})", kind.token(), error.token())?;
    writeln!(out, "signed by     {}", found.provider)?;
    writeln!(out, "issued by     {issuer} at {}", shown(at))?;
    writeln!(out, "transaction   {}", facts.id)?;
    writeln!(out, "sender        {}", facts.sender)?;
    for recipient in &facts.recipients {
        writeln!(
            out,
            "recipient     {} ({})",
            recipient.address,
            crate::message::wire::recipient_token(recipient.kind)
        )?;
    }
    for taken in &found.data.taken {
        writeln!(out, "taken charge  {taken}")?;
    }
    if let Some(recipient) = &found.data.recipient {
        writeln!(out, "about         {recipient}")?;
    }
    if let Some(text) = &found.data.error_text {
        writeln!(out, "reason        {text}")?;
    }
    let digest = if found.is_sha1 { "SHA-1, weak" } else { "SHA-2" };
    writeln!(out, "holds         signature ({digest}), signer in the directory, certificate path and validity, form")
}

/// What the lists say of the signer now. A message that arrived before a revocation was certified rightly, so this is told
/// and decides nothing.
fn revocation_today(out: &mut impl Write, message: &Bytes, trust: &Trust, sha1: Sha1Policy) -> std::io::Result<()> {
    let Ok(signed) = signature_existence(message) else { return Ok(()) };
    let Ok(signature) = verify_signature(&signed.signature, &signed.content.whole(), sha1) else { return Ok(()) };
    match trust.check(&signature.signer, &signature.intermediates, SystemInstruments.now()) {
        Err(PathError::Revoked { subject, since }) => writeln!(out, "revocation    {subject} WAS REVOKED on {since}"),
        Err(PathError::RevocationUnknown(unknown)) => writeln!(out, "revocation    {unknown}"),
        _ => writeln!(out, "revocation    the lists held today revoke no certificate of the path"),
    }
}

/// For a message that is not the PEC system's: whether at least its signature holds, and whose it is.
fn signature_alone(out: &mut impl Write, message: &Bytes, sha1: Sha1Policy) -> std::io::Result<()> {
    let Ok(signed) = signature_existence(message) else { return Ok(()) };
    match verify_signature(&signed.signature, &signed.content.whole(), sha1) {
        Ok(signature) => writeln!(out, "signature     holds, made by {}", signature.signer.subject()),
        Err(error) => writeln!(out, "signature     does not hold: {error}"),
    }
}

/// The instant that the signed certification data tell.
fn instant_of(message: &Bytes) -> Option<TemporalReference> {
    let signed = signature_existence(message).ok()?;
    crate::incoming_point::certification_data_of(&signed.content).map(|data| data.at)
}

/// What the mailbox server noted, or else what the certification data say.
fn reverse_path(message: &Bytes) -> String {
    let noted = Header::read(message).text("Return-Path");
    let noted = noted.map(|text| text.trim_matches(['<', '>', ' ']).to_owned());
    noted.unwrap_or_else(|| {
        let signed = signature_existence(message).ok();
        let data = signed.and_then(|signed| crate::incoming_point::certification_data_of(&signed.content));
        data.map(|data| data.facts.sender.to_string()).unwrap_or_default()
    })
}

fn shown(at: TemporalReference) -> String {
    format!("{} {} {}", at.day(), at.time(), at.zone())
}

/// Mailboxes on disk have LF; what travelled and was signed had CRLF.
fn with_crlf(stored: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(stored.len() + stored.len() / 40);
    let mut before = 0;
    for byte in stored {
        if *byte == b'\n' && before != b'\r' {
            message.push(b'\r');
        }
        message.push(*byte);
        before = *byte;
    }
    message
}
