//! What is refused while the client is still connected (§5.2): whoever is not known, not encrypted, or not the owner of the address he writes as.

use crate::model::{Address, Domain};

/// What the SMTP session knows of the user.
#[derive(Debug, Clone, Copy)]
pub struct Login<'a> {
    /// The authenticated login name.
    pub name: Option<&'a str>,
    /// Whether the session is encrypted.
    pub is_encrypted: bool,
}

/// Why a command is refused. The text is the SMTP reply's, in Italian for the user's mail client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DialogueRefusal {
    #[error("la sessione non e' cifrata: usare TLS")]
    NotEncrypted,
    #[error("autenticazione necessaria")]
    NotAuthenticated,
    #[error("il mittente vuoto non e' ammesso")]
    EmptySender,
    #[error("{0} non e' un indirizzo valido")]
    InvalidAddress(String),
    #[error("l'utente {login} non puo' scrivere come {sender}")]
    NotOwner { login: String, sender: Address },
    #[error("il mittente {0} non appartiene ai domini di questo gestore")]
    ForeignSender(Address),
    #[error("il destinatario {0} non e' ammesso")]
    InternalRecipient(Address),
}

impl DialogueRefusal {
    /// SMTP reply code and enhanced status code (RFC 3463).
    pub fn codes(&self) -> (&'static str, &'static str) {
        match self {
            Self::NotEncrypted | Self::NotAuthenticated => ("530", "5.7.0"),
            Self::EmptySender | Self::NotOwner { .. } | Self::ForeignSender(_) => ("553", "5.7.1"),
            Self::InvalidAddress(_) => ("553", "5.1.3"),
            Self::InternalRecipient(_) => ("550", "5.7.1"),
        }
    }
}

/// Whether a login may use a reverse path; `may_send_as` asks the map of senders.
pub fn check_sender(
    login: Login,
    reverse_path: &str,
    manages: impl Fn(&Address) -> bool,
    may_send_as: impl Fn(&str, &Address) -> bool,
) -> Result<Address, DialogueRefusal> {
    if !login.is_encrypted {
        return Err(DialogueRefusal::NotEncrypted);
    }
    let name = login.name.filter(|name| !name.is_empty()).ok_or(DialogueRefusal::NotAuthenticated)?;
    if reverse_path.is_empty() {
        return Err(DialogueRefusal::EmptySender);
    }
    let sender: Address =
        reverse_path.parse().map_err(|_| DialogueRefusal::InvalidAddress(printable_ascii(reverse_path)))?;
    if !may_send_as(name, &sender) {
        return Err(DialogueRefusal::NotOwner { login: printable_ascii(name), sender });
    }
    if !manages(&sender) {
        return Err(DialogueRefusal::ForeignSender(sender));
    }
    Ok(sender)
}

/// Whether a forward path can be a recipient of certified mail; `internal` is the domain of our own triggers.
pub fn check_recipient(forward_path: &str, internal: &Domain) -> Result<Address, DialogueRefusal> {
    let recipient: Address =
        forward_path.parse().map_err(|_| DialogueRefusal::InvalidAddress(printable_ascii(forward_path)))?;
    let domain = recipient.domain();
    let is_below =
        domain.as_str().strip_suffix(internal.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    if is_below {
        return Err(DialogueRefusal::InternalRecipient(recipient));
    }
    Ok(recipient)
}

/// A text that may stand in an SMTP reply.
fn printable_ascii(text: &str) -> String {
    text.chars().take(120).map(|c| if (' '..='~').contains(&c) { c } else { '?' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANNA: Login = Login { name: Some("anna@alfa.example"), is_encrypted: true };

    fn check(login: Login, reverse_path: &str) -> Result<Address, DialogueRefusal> {
        let manages = |address: &Address| address.domain().as_str() == "alfa.example";
        check_sender(login, reverse_path, manages, |name, address| {
            name.eq_ignore_ascii_case(address.as_str()) || name == "ufficio"
        })
    }

    #[test]
    fn a_user_writes_under_his_own_address_only() {
        assert!(check(ANNA, "Anna@Alfa.Example").is_ok());
        assert!(check(ANNA, "\"anna\"@alfa.example").is_ok());
        let codes = |login, path| check(login, path).unwrap_err().codes();
        assert_eq!(codes(ANNA, "carla@alfa.example"), ("553", "5.7.1"));
        assert_eq!(codes(ANNA, ""), ("553", "5.7.1"));
        assert_eq!(codes(ANNA, "anna@alfa.example\r\nx"), ("553", "5.1.3"));
        assert_eq!(codes(Login { name: None, ..ANNA }, "anna@alfa.example"), ("530", "5.7.0"));
        assert_eq!(codes(Login { is_encrypted: false, ..ANNA }, "anna@alfa.example"), ("530", "5.7.0"));
        assert_eq!(codes(Login { name: Some("ufficio"), ..ANNA }, "x@beta.example"), ("553", "5.7.1"));
    }

    #[test]
    fn the_internal_domain_is_refused_in_every_spelling() {
        let internal: Domain = "pec-milter.invalid".parse().unwrap();
        for path in [
            "accettazione@pec-milter.invalid",
            "x@PEC-Milter.INVALID",
            "\"accettazione\"@pec-milter.invalid",
            "x@sub.pec-milter.invalid",
            "x@pec-milter.invalid.",
        ] {
            assert!(check_recipient(path, &internal).is_err(), "{path}");
        }
        assert!(check_recipient("x@notpec-milter.invalid", &internal).is_ok());
        assert!(check_recipient("bruno@beta.example", &internal).is_ok());
    }
}
