//! What is refused while the client is still connected (§5.2): whoever is not known, not encrypted, or not the owner of the address he writes as.

use crate::model::{Address, Domain, User};

/// What the SMTP session knows of the user.
#[derive(Debug, Clone, Copy)]
pub struct Session<'a> {
    /// Who was identified.
    pub user: Option<&'a User>,
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
    #[error("l'utente {name} non puo' scrivere come {sender}")]
    NotOwner { name: String, sender: Address },
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

/// Whether a user may use a reverse path; `may_send_as` asks the maps of senders, and its fault is the answer's.
pub fn check_sender<F>(
    session: Session,
    reverse_path: &str,
    manages: impl Fn(&Address) -> bool,
    may_send_as: impl Fn(&User, &Address) -> Result<bool, F>,
) -> Result<Result<Address, DialogueRefusal>, F> {
    let (user, sender) = match claim(session, reverse_path) {
        Ok(claim) => claim,
        Err(refusal) => return Ok(Err(refusal)),
    };
    if !may_send_as(user, &sender)? {
        return Ok(Err(DialogueRefusal::NotOwner { name: printable_ascii(user.name()), sender }));
    }
    if !manages(&sender) {
        return Ok(Err(DialogueRefusal::ForeignSender(sender)));
    }
    Ok(Ok(sender))
}

/// Who wants to write as whom.
fn claim<'a>(session: Session<'a>, reverse_path: &str) -> Result<(&'a User, Address), DialogueRefusal> {
    if !session.is_encrypted {
        return Err(DialogueRefusal::NotEncrypted);
    }
    let user = session.user.ok_or(DialogueRefusal::NotAuthenticated)?;
    if reverse_path.is_empty() {
        return Err(DialogueRefusal::EmptySender);
    }
    let sender = reverse_path.parse().map_err(|_| DialogueRefusal::InvalidAddress(printable_ascii(reverse_path)))?;
    Ok((user, sender))
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

    fn login(name: &str) -> User {
        User::Login(name.to_owned())
    }

    fn check(user: &User, reverse_path: &str) -> Result<Address, DialogueRefusal> {
        check_in(Session { user: Some(user), is_encrypted: true }, reverse_path)
    }

    fn check_in(session: Session, reverse_path: &str) -> Result<Address, DialogueRefusal> {
        let manages = |address: &Address| address.domain().as_str() == "alfa.example";
        let may_send_as = |user: &User, address: &Address| {
            Ok::<_, std::convert::Infallible>(
                user.name().eq_ignore_ascii_case(address.as_str()) || user.name() == "ufficio",
            )
        };
        check_sender(session, reverse_path, manages, may_send_as).unwrap()
    }

    #[test]
    fn a_user_writes_under_his_own_address_only() {
        let anna = login("anna@alfa.example");
        assert!(check(&anna, "Anna@Alfa.Example").is_ok());
        assert!(check(&anna, "\"anna\"@alfa.example").is_ok());
        let codes = |user, path| check(user, path).unwrap_err().codes();
        assert_eq!(codes(&anna, "carla@alfa.example"), ("553", "5.7.1"));
        assert_eq!(codes(&anna, ""), ("553", "5.7.1"));
        assert_eq!(codes(&anna, "anna@alfa.example\r\nx"), ("553", "5.1.3"));
        assert_eq!(codes(&login("ufficio"), "x@beta.example"), ("553", "5.7.1"));
        for session in [Session { user: None, is_encrypted: true }, Session { user: Some(&anna), is_encrypted: false }]
        {
            assert_eq!(check_in(session, "anna@alfa.example").unwrap_err().codes(), ("530", "5.7.0"));
        }
    }

    #[test]
    fn a_fault_of_the_maps_is_no_answer() {
        let user = login("anna@alfa.example");
        let session = Session { user: Some(&user), is_encrypted: true };
        let answer = check_sender(session, "anna@alfa.example", |_| true, |_, _| Err(()));
        assert_eq!(answer, Err(()));
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
