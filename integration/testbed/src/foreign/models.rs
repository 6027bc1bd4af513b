//! Header, readable text and certification data of each kind, by the models of the Italian rules.

use anyhow::{Context, Result};
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

use super::{Draft, Facts, ForeignProvider, Kind, Layout, Signature, VIRUS};

/// What the kinds differ in.
struct Model {
    /// X-Trasporto or X-Ricevuta.
    field: &'static str,
    token: &'static str,
    error: &'static str,
    prefix: &'static str,
    title: &'static str,
    /// Between the instant and the identifier.
    lines: Vec<String>,
    /// The last elements of the certification data.
    data: String,
    to: String,
    at: Timestamp,
}

pub fn draft(provider: &ForeignProvider, kind: Kind, facts: &Facts) -> Result<Draft> {
    let model = model(provider, kind, facts);
    let at = rome(model.at)?;
    let mut lines = vec![model.title.to_owned(), at.strftime("Il giorno %d/%m/%Y alle ore %H:%M:%S (%z)").to_string()];
    lines.extend(model.lines.iter().cloned());
    lines.push(format!("Identificativo messaggio: {}", facts.id));
    let html: Vec<_> = lines.iter().skip(1).map(|line| format!("{}<br>", escaped(line))).collect();

    let is_envelope = matches!(kind, Kind::Envelope);
    let from = if is_envelope {
        format!("\"Per conto di: {}\" <{}>", facts.sender, provider.sending_address)
    } else {
        provider.sending_address.clone()
    };
    let id = if is_envelope { facts.id.clone() } else { format!("{}.{}", model.token, facts.id) };
    let mut fields = vec![
        (model.field, model.token.to_owned()),
        ("Date", at.strftime("%a, %d %b %Y %H:%M:%S %z").to_string()),
        ("Subject", format!("{}: {}", model.prefix, facts.subject)),
        ("From", from),
        ("To", model.to.clone()),
        ("Message-ID", format!("<{id}>")),
    ];
    match &facts.msgid {
        Some(msgid) => fields.push(("X-Riferimento-Message-ID", msgid.clone())),
        None if is_envelope => (),
        None => fields.push(("X-Riferimento-Message-ID", format!("<{}>", facts.id))),
    }
    if is_envelope {
        fields.push(("Reply-To", facts.sender.clone()));
        fields.push(("X-TipoRicevuta", "completa".to_owned()));
    }
    if matches!(kind, Kind::VirusDetection { .. }) {
        fields.push(("X-Mittente", facts.sender.clone()));
    }
    let forward_paths = match kind {
        Kind::Envelope => facts.recipients.iter().map(|(address, _)| address.clone()).collect(),
        _ => vec![model.to.clone()],
    };
    Ok(Draft {
        reverse_path: if is_envelope { facts.sender.clone() } else { provider.sending_address.clone() },
        forward_paths,
        fields: fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        text: lines.join("\r\n") + "\r\n",
        html: Some(format!(
            "<html><body><h3>{}</h3><p>\r\n{}\r\n</p></body></html>\r\n",
            model.title,
            html.join("\r\n")
        )),
        daticert: certification_data(provider, facts, &model, &at).into_bytes(),
        original: matches!(kind, Kind::Envelope | Kind::Delivery(_)).then(|| original(facts).into_bytes()),
        layout: Layout::default(),
        signature: Signature::new(provider.identity.clone(), provider.intermediate.clone()),
        finish: |message| message,
    })
}

fn model(provider: &ForeignProvider, kind: Kind, facts: &Facts) -> Model {
    let all: Vec<String> = facts.recipients.iter().map(|(address, _)| address.clone()).collect();
    let subject = &facts.subject;
    let of_sender = |what: &str| vec![what.to_owned(), format!("\"{subject}\" proveniente da \"{}\"", facts.sender)];
    let listed = |what: &str, list: Vec<String>, end: &str| {
        [of_sender(what), vec!["ed indirizzato a:".to_owned()], list, vec![end.to_owned()]].concat()
    };
    let to_sender = facts.sender.clone();
    let notification = |token, prefix, title, lines, data, to| Model {
        field: "X-Ricevuta",
        token,
        error: "nessuno",
        prefix,
        title,
        lines,
        data,
        to,
        at: Timestamp::now(),
    };
    match kind {
        Kind::Envelope => {
            let mut lines = vec![
                "il messaggio".to_owned(),
                format!("\"{subject}\" è stato inviato da \"{}\"", facts.sender),
                "indirizzato a:".to_owned(),
            ];
            lines.extend(all.iter().cloned());
            lines.push("Il messaggio originale è incluso in allegato.".to_owned());
            Model {
                field: "X-Trasporto",
                token: "posta-certificata",
                error: "nessuno",
                prefix: "POSTA CERTIFICATA",
                title: "Messaggio di posta certificata",
                lines,
                data: "<ricevuta tipo=\"completa\"/>".to_owned(),
                to: all.join(", "),
                at: facts.accepted,
            }
        }
        Kind::Acceptance => {
            let label = |certified: bool| if certified { "posta certificata" } else { "posta ordinaria" };
            let labelled =
                facts.recipients.iter().map(|(address, certified)| format!("{address} (\"{}\")", label(*certified)));
            let lines = listed("il messaggio", labelled.collect(), "è stato accettato dal sistema ed inoltrato.");
            Model {
                at: facts.accepted,
                ..notification(
                    "accettazione",
                    "ACCETTAZIONE",
                    "Ricevuta di accettazione",
                    lines,
                    String::new(),
                    to_sender,
                )
            }
        }
        Kind::TakeCharge { taken, to } => {
            let taken: Vec<String> = taken.iter().map(|&address| address.to_owned()).collect();
            let data = taken.iter().map(|address| format!("<ricezione>{}</ricezione>", escaped(address))).collect();
            let lines = listed("il messaggio", taken, "è stato accettato dal sistema.");
            let title = "Ricevuta di presa in carico";
            notification("presa-in-carico", "PRESA IN CARICO", title, lines, data, to.to_owned())
        }
        Kind::Delivery(recipient) => {
            let mut lines = of_sender("il messaggio");
            lines.push(format!("ed indirizzato a \"{recipient}\""));
            lines.push("è stato consegnato nella casella di destinazione.".to_owned());
            let data = format!("<ricevuta tipo=\"completa\"/><consegna>{}</consegna>", escaped(recipient));
            notification("avvenuta-consegna", "CONSEGNA", "Ricevuta di avvenuta consegna", lines, data, to_sender)
        }
        Kind::NonDelivery(recipient) => {
            let reason = format!("5.1.1 - {} - indirizzo non valido", provider.name);
            let mut lines = of_sender("nel messaggio");
            lines.push(format!("e destinato all'utente \"{recipient}\""));
            lines.push(format!("è stato rilevato un errore {reason}."));
            lines.push("Il messaggio è stato rifiutato dal sistema.".to_owned());
            let data = format!(
                "<consegna>{}</consegna><errore-esteso>{}</errore-esteso>",
                escaped(recipient),
                escaped(&reason)
            );
            let title = "Avviso di mancata consegna";
            Model {
                error: "no-dest",
                ..notification("errore-consegna", "AVVISO DI MANCATA CONSEGNA", title, lines, data, to_sender)
            }
        }
        Kind::VirusDetection { about, to } => {
            let mut lines = of_sender("nel messaggio");
            lines.push(format!("e destinato all'utente \"{about}\""));
            lines.push(format!("è stato rilevato un problema di sicurezza {VIRUS}."));
            let data = format!("<consegna>{}</consegna><errore-esteso>{VIRUS}</errore-esteso>", escaped(about));
            let title = "Avviso di rilevazione virus";
            Model {
                error: "virus",
                ..notification("rilevazione-virus", "PROBLEMA DI SICUREZZA", title, lines, data, to.to_owned())
            }
        }
    }
}

/// The sender's message, as it lies in an envelope.
fn original(facts: &Facts) -> String {
    let recipients: Vec<_> = facts.recipients.iter().map(|(address, _)| address.as_str()).collect();
    let reference =
        facts.msgid.iter().map(|msgid| format!("X-Riferimento-Message-ID: {msgid}\r\n")).collect::<String>();
    format!(
        "From: Mario <{}>\r\nTo: {}\r\nSubject: {}\r\nMessage-ID: <{}>\r\n{reference}MIME-Version: 1.0\r\n\
         Content-Type: text/plain; charset=us-ascii\r\n\r\nBuongiorno,\r\n\r\n  a domani.\r\n",
        facts.sender,
        recipients.join(", "),
        facts.subject,
        facts.id
    )
}

fn certification_data(provider: &ForeignProvider, facts: &Facts, model: &Model, at: &Zoned) -> String {
    let recipient = |(address, certified): &(String, bool)| {
        let kind = if *certified { "certificato" } else { "esterno" };
        format!("<destinatari tipo=\"{kind}\">{}</destinatari>\n", escaped(address))
    };
    let recipients: String = facts.recipients.iter().map(recipient).collect();
    let msgid = facts.msgid.iter().map(|msgid| format!("<msgid>{}</msgid>\n", escaped(msgid))).collect::<String>();
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<postacert tipo=\"{}\" errore=\"{}\">\n<intestazione>\n\
         <mittente>{sender}</mittente>\n{recipients}<risposte>{sender}</risposte>\n<oggetto>{}</oggetto>\n\
         </intestazione>\n<dati>\n<gestore-emittente>{}</gestore-emittente>\n<data zona=\"{}\">\n\
         <giorno>{}</giorno>\n<ora>{}</ora>\n</data>\n<identificativo>{}</identificativo>\n{msgid}{}\n</dati>\n\
         </postacert>\n",
        model.token,
        model.error,
        escaped(&facts.subject),
        escaped(&provider.name),
        at.strftime("%z"),
        at.strftime("%d/%m/%Y"),
        at.strftime("%H:%M:%S"),
        escaped(&facts.id),
        model.data,
        sender = escaped(&facts.sender),
    )
}

fn rome(at: Timestamp) -> Result<Zoned> {
    Ok(at.to_zoned(TimeZone::get("Europe/Rome").context("no time zone data")?))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
