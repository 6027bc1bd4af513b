//! Signatures and signed messages: whatever is done to them, nobody but the holder of the key is believed, and nothing but
//! what he signed.

use std::sync::LazyLock;

use bytes::Bytes;
use pec_milter::access_point::{Submission, accept};
use pec_milter::incoming_point::{Arrival, Classification, classify, signature_existence};
use pec_milter::smime::{Sha1Policy, verify, verify_attached};

use super::material::{self, RECIPIENTS, SENDER};

/// What the signatures of `testdata/signatures/` are over.
const CONTENT: &[u8] = include_bytes!("../../../testdata/signatures/content.eml");
const PLAIN: &[u8] = include_bytes!("../../../testdata/messages/plain.eml");

/// The envelope that Alfa sent: the only certified message there is.
pub static ENVELOPE: LazyLock<Bytes> = LazyLock::new(|| {
    let message = Bytes::from_static(PLAIN);
    let submission = Submission { sender: &SENDER, recipients: &RECIPIENTS, message: &message };
    let id = "pec.1@alfa.example".parse().unwrap();
    let accepted =
        accept(&submission, material::rules(), |_| true, id, material::now()).expect("plain.eml has no defect");
    material::signed(accepted.envelope)
});

/// The octets as a signature, as a signed file, and as a whole message.
pub fn signature(octets: &[u8]) {
    as_signature(octets);
    as_signed_file(octets);
    as_message(&Bytes::copy_from_slice(octets));
}

fn as_signature(octets: &[u8]) {
    let Ok(verified) = verify(octets, CONTENT, Sha1Policy::Accept) else { return };
    let other_content = [CONTENT, b"\r\n"].concat();
    assert!(verify(octets, &other_content, Sha1Policy::Accept).is_err(), "it holds over other octets too");
    let standards = material::standards();
    if standards.trust.check_path(&verified.signer, &verified.intermediates, standards.at).is_ok() {
        assert_eq!(verified.signer.der(), material::signer_certificate().der());
    }
}

fn as_signed_file(octets: &[u8]) {
    let Ok(signed) = verify_attached(octets, Sha1Policy::Accept) else { return };
    assert!(verify(octets, &signed.content, Sha1Policy::Accept).is_err(), "a signed file is no detached signature");
}

fn as_message(message: &Bytes) {
    let recipients: Vec<String> = RECIPIENTS.iter().map(|address| address.to_string()).collect();
    let arrival = |message| Arrival { sender: SENDER.as_str(), recipients: &recipients, message };
    match classify(&arrival(message), &material::standards()).expect("no list is asked for") {
        Classification::Envelope(found) | Classification::Notification(found) => {
            let Ok(Classification::Envelope(sent)) = classify(&arrival(&ENVELOPE), &material::standards()) else {
                panic!("the envelope itself is not one");
            };
            assert_eq!((found.data, found.original, found.id), (sent.data, sent.original, sent.id));
        }
        // The signature holds, so these are octets that Alfa signed.
        Classification::NotCorrect { .. } => {
            let content = signature_existence(message).expect("its signature was found").content.whole();
            assert!(content == CONTENT || content == signed_part(&ENVELOPE), "{}", content.escape_ascii());
        }
        Classification::Ordinary(_) => {}
    }
}

fn signed_part(message: &Bytes) -> Bytes {
    signature_existence(message).expect("the envelope is signed").content.whole()
}
