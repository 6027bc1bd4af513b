//! The Italian texts of an extract: for its holder, and for whoever he shows it to.

use std::fmt::Write;

use super::{Extract, Message, RecipientOf, Row};
use crate::legal_log::details::ReceivedNotification;
use crate::legal_log::{Entry, EventKind, Outcome};

/// What became of a message.
pub fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Delivered => "consegnato",
        Outcome::Failed => "non consegnato",
        Outcome::Virus => "non consegnato per virus",
        Outcome::Timeout => "nessuna notizia entro il tempo massimo",
        Outcome::NotAccepted => "non accettato",
        Outcome::Refused => "rifiutato",
        Outcome::Uncertified => "consegnato in busta di anomalia, senza certificazione",
        Outcome::Open => "nessun esito ancora",
    }
}

/// What happened.
pub fn event(entry: &Entry) -> String {
    let text = match entry.kind {
        EventKind::Arrival => "messaggio preso in consegna dal sistema",
        EventKind::Acceptance => "accettazione",
        EventKind::NonAcceptance => "non accettazione",
        EventKind::TakeCharge => "presa in carico",
        EventKind::Delivery => "avvenuta consegna",
        EventKind::NonDelivery => "mancata consegna",
        EventKind::VirusDetection => "rilevazione di virus",
        EventKind::VirusNonDelivery => "mancata consegna per virus",
        EventKind::FirstTimeout => "avviso di mancata consegna dopo 12 ore",
        EventKind::FinalTimeout => "avviso di mancata consegna dopo 24 ore",
        EventKind::Copy => "copia nella casella",
        EventKind::Duplicate => "messaggio arrivato di nuovo",
        EventKind::LateFailure => "errore di trasporto dopo l'esito",
        EventKind::Anomaly => "messaggio in busta di anomalia",
        EventKind::Forward => "messaggio di posta ordinaria inoltrato altrove",
        EventKind::NotificationReceived => {
            let kind = ReceivedNotification::of(entry).map(|notification| notification.kind).unwrap_or_default();
            return format!("ricevuta dal gestore del destinatario: {kind}");
        }
        // None of these is given out.
        EventKind::Refusal
        | EventKind::Seal
        | EventKind::Stamp
        | EventKind::Purge
        | EventKind::Hold
        | EventKind::Release
        | EventKind::Reproduction => entry.kind.name(),
    };
    text.to_owned()
}

/// The extract for people.
pub fn readable(extract: &Extract) -> String {
    let Extract { mailbox, provider, from, to, made, sent, received, .. } = extract;
    let mut text = format!(
        "ESTRATTO DEL REGISTRO DEGLI EVENTI (log) DI POSTA ELETTRONICA CERTIFICATA\n\n\
         Casella:      {mailbox}\nGestore:      {provider}\nPeriodo:      dal {from} al {to} compresi\n\
         Estratto il:  {made}\n\n\
         Gli orari sono quelli legali italiani. Di ogni riga del registro sono indicati il numero e l'impronta (hash).\n"
    );
    for (title, messages) in [("MESSAGGI INVIATI", sent), ("MESSAGGI RICEVUTI", received)] {
        // Writing to a text does not fail.
        _ = write!(text, "\n{title}: {}\n", messages.len());
        messages.iter().for_each(|message| text.push_str(&readable_message(message)));
    }
    text
}

fn readable_message(message: &Message) -> String {
    let Message { id, msgid, sender, subject, recipients, rows } = message;
    let mut text = String::from("\n");
    for (name, value) in [("Identificativo", id), ("Message-ID", msgid), ("Mittente", sender), ("Oggetto", subject)] {
        if let Some(value) = value {
            // One line each, whatever a subject holds.
            let value: String = value.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
            _ = writeln!(text, "  {name}: {value}");
        }
    }
    for RecipientOf { address, kind, outcome, at } in recipients {
        let kind = kind.map(|kind| format!(" ({kind})")).unwrap_or_default();
        let at = at.as_ref().map(|at| format!(", {at}")).unwrap_or_default();
        _ = writeln!(text, "  Destinatario: {address}{kind}: {outcome}{at}");
    }
    for Row { sequence, hash, at, event, recipient, notification, provider, reason, seal } in rows {
        _ = writeln!(text, "    riga {sequence}  {at}  {event}");
        let facts = [
            ("destinatario", recipient),
            ("notifica", notification),
            ("gestore", provider),
            ("motivo", reason),
            ("sigillo", seal),
        ];
        for (name, value) in facts {
            if let Some(value) = value {
                _ = writeln!(text, "      {name}: {value}");
            }
        }
        _ = writeln!(text, "      hash: {hash}");
    }
    text
}

/// How to verify the package; `name` is that of its file.
pub fn notes(extract: &Extract, name: &str) -> String {
    let Extract { mailbox, provider, from, to, .. } = extract;
    format!(
        "COME VERIFICARE QUESTO ESTRATTO\n\n\
Questo archivio contiene quanto il registro degli eventi del gestore {provider} riporta\n\
della casella {mailbox}, dal {from} al {to} compresi:\n\n\
\x20 estratto.txt   il contenuto, da leggere\n\
\x20 estratto.json  lo stesso contenuto, per i programmi\n\
\x20 sigilli/       i sigilli del registro che comprendono le righe dell'estratto, se gia' apposti\n\n\
Dei messaggi inviati dalla casella sono riportati tutti i destinatari con il loro esito. Dei messaggi ricevuti e'\n\
riportato solo quanto riguarda la casella: gli altri destinatari sono omessi. I tentativi rifiutati durante il colloquio\n\
SMTP non sono messaggi della casella e non sono riportati.\n\n\
1. La firma del gestore\n\n\
L'archivio sta dentro una firma CMS (.p7m). ca.pem e' il certificato della CA dei gestori:\n\n\
\x20 openssl cms -verify -binary -inform DER -in {name} -CAfile ca.pem -purpose any -out estratto.zip\n\
\x20 unzip estratto.zip\n\n\
2. I sigilli del registro\n\n\
Il registro e' sigillato ogni giorno. Un sigillo NOME.seal e' un testo breve, senza dati personali, che lega le righe del\n\
registro; NOME.p7s e' la firma del gestore su di esso, NOME.tsr la marca temporale (RFC 3161) sulla firma. tsa-ca.pem e'\n\
il certificato della CA dell'autorita' di marcatura:\n\n\
\x20 cd sigilli\n\
\x20 openssl cms -verify -binary -inform DER -in NOME.p7s -content NOME.seal -CAfile ../ca.pem -purpose any -out /dev/null\n\
\x20 openssl ts -verify -data NOME.p7s -in NOME.tsr -CAfile ../tsa-ca.pem\n\
\x20 sha256sum NOME.seal\n\n\
Dopo la scadenza dei certificati si aggiunge -no_check_time ai comandi openssl cms e openssl ts; in tal caso l'istante della\n\
marca deve cadere nella validita' del certificato dell'autorita', e quello del sigillo (sealed) in quella del certificato\n\
del gestore. I seguenti comandi li mostrano:\n\n\
\x20 openssl ts -reply -in NOME.tsr -text | grep 'Time stamp:'\n\
\x20 openssl ts -reply -in NOME.tsr -token_out | openssl pkcs7 -inform DER -print_certs -text -noout | grep -E 'Subject:|Not '\n\
\x20 grep sealed NOME.seal\n\
\x20 openssl pkcs7 -inform DER -in NOME.p7s -print_certs -text -noout | grep -E 'Subject:|Not '\n\n\
L'impronta data da sha256sum deve essere quella indicata per quel sigillo in estratto.json (sigilli, sha256).\n\n\
3. Le righe\n\n\
Le righe intere stanno nel file NOME.rows, che il gestore conserva per 30 mesi ed esibisce a chi ne ha titolo, perche'\n\
contiene dati di altri. Chi lo ha verifica che sia quello sigillato, e vi trova ogni riga dell'estratto per la sua impronta:\n\n\
\x20 tail -n 1 NOME.seal | sha256sum --check\n\
\x20 grep ^HASH NOME.rows\n\n\
Ogni riga del file comincia con la sua impronta, che si ricalcola da quella della riga precedente:\n\n\
\x20 printf '%s %s\\n' \"$HASH_PRECEDENTE\" \"$RIGA\" | sha256sum\n"
    )
}
