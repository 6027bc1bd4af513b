//! The non-acceptance notice, for failed formal checks (§3.1.2) and for a virus (§3.1.3); never with the original.

use super::{Notification, identifier, security_problem, stopped_by_virus, subject_and_sender, when};
use crate::message::body::ReadableText;
use crate::message::certification_data::{CertificationData, TransactionFacts};
use crate::message::defect::Defect;
use crate::message::wire::{ErrorType, Kind};
use crate::model::{Msgid, TemporalReference};

/// What the notice says of the failed checks, all of them.
pub fn reason(defects: &[Defect]) -> String {
    defects.iter().map(Defect::phrase).collect::<Vec<_>>().join("; ")
}

/// The notice that names every failed check.
pub fn non_acceptance(
    facts: TransactionFacts,
    reason: &str,
    issuer: &str,
    at: TemporalReference,
    id: Msgid,
) -> Notification {
    let data = CertificationData {
        error: ErrorType::Other,
        error_text: Some(reason.to_owned()),
        ..CertificationData::new(Kind::NonAcceptance, facts, issuer, at)
    };
    let problem =
        ["è stato rilevato un problema che ne impedisce l'accettazione".to_owned(), format!("a causa di {reason}.")];
    notice("Errore nell'accettazione del messaggio", data, &problem, id)
}

/// The notice that a virus was found; `name` is the scanner's word for it.
pub fn non_acceptance_for_virus(
    facts: TransactionFacts,
    name: &str,
    issuer: &str,
    at: TemporalReference,
    id: Msgid,
) -> Notification {
    let data = stopped_by_virus(Kind::NonAcceptance, facts, name, issuer, at);
    let problem = [security_problem(name)];
    notice("Errore nell'accettazione del messaggio per presenza virus", data, &problem, id)
}

fn notice(title: &'static str, data: CertificationData, problem: &[String], id: Msgid) -> Notification {
    let mut lines =
        vec![format!("{} nel messaggio", when(data.at)), subject_and_sender(&data), "ed indirizzato a:".to_owned()];
    lines.extend(data.facts.recipients.iter().map(|recipient| recipient.address.to_string()));
    lines.extend_from_slice(problem);
    lines.push("Il messaggio non è stato accettato.".to_owned());
    lines.push(identifier(&data));
    Notification { to: data.facts.sender.clone(), data, id, text: ReadableText { title, lines }, original: None }
}
