//! One session with a token: the token found by its label, the user logged in, the key found by its label.

use cryptoki::context::Pkcs11;
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, SessionState, UserType};
use cryptoki::slot::Slot;
use cryptoki::types::AuthPin;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::{Place, TokenError};

/// DigestInfo of a SHA-256 digest up to the digest itself (RFC 8017 §9.2), for tokens that only do the RSA.
const DIGEST_INFO: [u8; 19] =
    [0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20];

/// A session that has its key.
pub(super) struct KeySession {
    session: Session,
    key: ObjectHandle,
    token: String,
    /// Whether the token computes the digest too.
    digests: bool,
}

/// A PIN that its token refused.
pub(super) struct RefusedPin {
    token: String,
    pin: Zeroizing<String>,
}

impl KeySession {
    /// `refused` are the PINs that are not tried; the caller sees to it that only one login is under way.
    pub(super) fn open(
        context: &Pkcs11,
        place: &Place,
        pin: &Zeroizing<String>,
        refused: &mut Vec<RefusedPin>,
    ) -> Result<Self, TokenError> {
        let call = |call| move |source| TokenError::Call { token: place.token.clone(), call, source };
        let slot = slot(context, place)?;
        let session = context.open_ro_session(slot).map_err(call("open a session"))?;
        log_in(context, slot, &session, place, pin, refused)?;
        let template = [
            Attribute::Class(ObjectClass::PRIVATE_KEY),
            Attribute::KeyType(KeyType::RSA),
            Attribute::Label(place.key.as_bytes().to_vec()),
        ];
        let found = session.find_objects(&template).map_err(call("look for the key"))?;
        let key = match found.as_slice() {
            [key] => *key,
            [] => return Err(TokenError::NoKey { place: place.clone() }),
            _ => return Err(TokenError::TwoKeys { place: place.clone() }),
        };
        let mechanisms = context.get_mechanism_list(slot).map_err(call("list its mechanisms"))?;
        let digests = mechanisms.contains(&MechanismType::SHA256_RSA_PKCS);
        if !digests && !mechanisms.contains(&MechanismType::RSA_PKCS) {
            return Err(TokenError::NoMechanism { token: place.token.clone() });
        }
        Ok(KeySession { session, key, token: place.token.clone(), digests })
    }

    /// The PKCS #1 v1.5 signature with SHA-256 over a message.
    pub(super) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, TokenError> {
        let signature = match self.digests {
            true => self.session.sign(&Mechanism::Sha256RsaPkcs, self.key, message),
            false => {
                let digest_info = [&DIGEST_INFO[..], &Sha256::digest(message)].concat();
                self.session.sign(&Mechanism::RsaPkcs, self.key, &digest_info)
            }
        };
        signature.map_err(|source| TokenError::Call { token: self.token.clone(), call: "sign", source })
    }
}

fn slot(context: &Pkcs11, place: &Place) -> Result<Slot, TokenError> {
    let call = |call| move |source| TokenError::Call { token: place.token.clone(), call, source };
    let (mut slots, mut labels) = (Vec::new(), Vec::new());
    for slot in context.get_slots_with_token().map_err(call("be looked for"))? {
        // A slot whose token goes away in this moment is not the one that is looked for.
        let Ok(token) = context.get_token_info(slot) else { continue };
        if token.label() == place.token {
            slots.push(slot);
        }
        if token.token_initialized() {
            labels.push(token.label().to_owned());
        }
    }
    match slots.as_slice() {
        [slot] => Ok(*slot),
        [] => Err(TokenError::NoToken { place: place.clone(), found: labels }),
        _ => Err(TokenError::TwoTokens { place: place.clone() }),
    }
}

/// Logs in, unless another session did; a PIN that was refused, or could be the last one, is not tried.
fn log_in(
    context: &Pkcs11,
    slot: Slot,
    session: &Session,
    place: &Place,
    pin: &Zeroizing<String>,
    refused: &mut Vec<RefusedPin>,
) -> Result<(), TokenError> {
    let token = || place.token.clone();
    let call = |call| move |source| TokenError::Call { token: token(), call, source };
    let state = session.get_session_info().map_err(call("tell of a session"))?.session_state();
    if matches!(state, SessionState::RoUser | SessionState::RwUser) {
        return Ok(());
    }
    if refused.iter().any(|one| one.token == place.token && one.pin == *pin) {
        return Err(TokenError::PinRefused { token: token(), source: None });
    }
    let info = context.get_token_info(slot).map_err(call("tell of itself"))?;
    if info.user_pin_locked() {
        return Err(TokenError::PinLocked { token: token() });
    }
    if info.user_pin_final_try() {
        return Err(TokenError::PinAtRisk { token: token() });
    }
    match session.login(UserType::User, Some(&AuthPin::from(pin.as_str()))) {
        Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(()),
        Err(Error::Pkcs11(RvError::PinLocked, _)) => Err(TokenError::PinLocked { token: token() }),
        Err(
            source @ Error::Pkcs11(
                RvError::PinIncorrect | RvError::PinInvalid | RvError::PinLenRange | RvError::PinExpired,
                _,
            ),
        ) => {
            refused.push(RefusedPin { token: token(), pin: pin.clone() });
            Err(TokenError::PinRefused { token: token(), source: Some(source) })
        }
        Err(source) => Err(TokenError::Call { token: token(), call: "log in", source }),
    }
}
