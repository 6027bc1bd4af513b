//! A correct envelope and correct notifications of alfa.example, and what each deviation is called. Signatures are not
//! looked at here.

use super::*;
use crate::directory::ProviderRecord;
use crate::message::certification_data::TransactionFacts;
use crate::message::wire::ErrorType;
use crate::model::{Msgid, Provider, ReceiptType, Recipient, RecipientType, TemporalReference};

const SENDER: &str = "anna@alfa.example";

/// A message before it is put together.
struct Draft {
    sender: &'static str,
    recipients: Vec<String>,
    header: Vec<(&'static str, String)>,
    data: CertificationData,
    /// The header fields and the body of each part.
    parts: Vec<(String, String)>,
}

fn address(text: &str) -> Address {
    text.parse().unwrap()
}

fn data(kind: Kind) -> CertificationData {
    let recipient = |text, kind| Recipient { address: address(text), kind };
    let facts = TransactionFacts {
        sender: address(SENDER),
        recipients: vec![
            recipient("bruno@beta.example", RecipientType::Certified),
            recipient("mario@gamma.example", RecipientType::External),
        ],
        replies: SENDER.into(),
        subject: Some("Contratto".into()),
        id: "pec.1@alfa.example".parse().unwrap(),
        msgid: Some("<client.1@alfa.example>".parse::<Msgid>().unwrap()),
    };
    let at = TemporalReference::from_unix(1_721_032_245);
    CertificationData {
        requested: Some(ReceiptType::Complete),
        recipient: Some(address("anna@alfa.example")),
        taken: vec![address("anna@alfa.example")],
        ..CertificationData::new(kind, facts, "Alfa PEC", at)
    }
}

/// An attachment: its header fields and its body.
fn attached(name: &str, kind: &str, body: &str) -> (String, String) {
    let field =
        format!("Content-Type: {kind}; name=\"{name}\"\r\nContent-Disposition: attachment; filename=\"{name}\"");
    (field, body.to_owned())
}

impl Draft {
    fn envelope() -> Self {
        Draft {
            sender: SENDER,
            recipients: vec!["Bruno@beta.example".into()],
            header: vec![
                ("X-Trasporto", "posta-certificata".into()),
                ("From", "\"Per conto di: anna@alfa.example\" <posta-certificata@alfa.example>".into()),
                ("Message-ID", "<pec.1@alfa.example>".into()),
                ("X-TipoRicevuta", "completa".into()),
            ],
            data: CertificationData { recipient: None, taken: Vec::new(), ..data(Kind::TransportEnvelope) },
            parts: vec![attached("postacert.eml", "message/rfc822", "Subject: s\r\n\r\noriginal")],
        }
    }

    fn notification(kind: Kind) -> Self {
        Draft {
            sender: "posta-certificata@alfa.example",
            recipients: vec!["chiunque@beta.example".into()],
            header: vec![
                ("X-Ricevuta", kind.token().into()),
                ("From", "posta-certificata@alfa.example".into()),
                ("Message-ID", "<ricevuta.1@alfa.example>".into()),
            ],
            data: data(kind),
            parts: Vec::new(),
        }
    }

    fn set(&mut self, name: &str, value: &str) {
        let field = self.header.iter_mut().find(|(one, _)| *one == name).unwrap();
        field.1 = value.into();
    }

    fn without(&mut self, name: &str) {
        self.header.retain(|(one, _)| *one != name);
    }

    fn check(mut self) -> Result<Form, AnomalyReason> {
        self.parts.push(attached("daticert.xml", "application/xml", &self.data.to_xml()));
        self.check_as_it_is()
    }

    /// Without certification data but for those in its parts.
    fn check_as_it_is(self) -> Result<Form, AnomalyReason> {
        let header: String = self.header.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let parts: String =
            self.parts.iter().map(|(fields, body)| format!("--b\r\n{fields}\r\n\r\n{body}\r\n")).collect();
        let content = format!("Content-Type: multipart/mixed; boundary=b\r\n\r\n{parts}--b--\r\n");
        let message = Bytes::from(format!("{header}\r\n"));
        let provider = Provider {
            name: "Alfa PEC".into(),
            sending_address: address("posta-certificata@alfa.example"),
            service_mailbox: address("ricevute@alfa.example"),
            mail_domains: vec!["alfa.example".parse().unwrap()],
        };
        let arrival = Arrival { sender: self.sender, recipients: &self.recipients, message: &message };
        check(&arrival, &Entity::read(content.into()), &Signatory::Listed(&ProviderRecord::own(&provider, Vec::new())))
    }
}

#[test]
fn a_correct_envelope_gives_its_certification_data_and_its_original() {
    let draft = Draft::envelope();
    let expected = draft.data.clone();
    let form = draft.check().unwrap();
    assert!(form.is_envelope);
    assert_eq!(form.data, expected);
    assert_eq!(form.original, "Subject: s\r\n\r\noriginal");
}

#[test]
fn each_deviation_of_an_envelope_has_its_reason() {
    type Deviation = (fn(&mut Draft), &'static str);
    let deviations: [Deviation; 20] = [
        (|draft| draft.without("From"), "its author's domain is not one that Alfa PEC manages"),
        (|draft| draft.set("From", "x@beta.example"), "its author's domain is not one that Alfa PEC manages"),
        (|draft| draft.set("From", "x@alfa.example, y@alfa.example"), "its author's domain"),
        (|draft| draft.header.push(("From", "y@alfa.example".into())), "its author's domain"),
        (|draft| draft.without("X-Trasporto"), "no X-Trasporto or X-Ricevuta field, or more than one"),
        (
            |draft| draft.header.push(("X-Ricevuta", "accettazione".into())),
            "no X-Trasporto or X-Ricevuta field, or more",
        ),
        (|draft| draft.set("X-Trasporto", "accettazione"), "no X-Trasporto or X-Ricevuta field, or more than one"),
        (|draft| draft.set("X-Trasporto", "ERRORE"), "it is an anomaly envelope of Alfa PEC"),
        (|draft| draft.data.kind = Kind::Delivery, "its daticert.xml is that of a avvenuta-consegna"),
        (|draft| draft.without("Message-ID"), "its Message-ID is not the identificativo pec.1@alfa.example"),
        (|draft| draft.set("Message-ID", "<pec.2@alfa.example>"), "its Message-ID is not the identificativo"),
        (|draft| draft.header.push(("Message-ID", "<pec.1@alfa.example>".into())), "its Message-ID is not the"),
        (|draft| draft.sender = "dario@alfa.example", "the reverse path is not the mittente anna@alfa.example"),
        (|draft| draft.sender = "", "the reverse path is not the mittente anna@alfa.example"),
        (
            |draft| {
                draft.sender = "eva@beta.example";
                draft.data.facts.sender = address("eva@beta.example");
            },
            "the domain beta.example is not one that Alfa PEC manages, so it cannot certify for it",
        ),
        (|draft| draft.recipients.push("eva@beta.example".into()), "the forward path eva@beta.example is not one"),
        // An external recipient is no certified one.
        (|draft| draft.recipients.push("mario@gamma.example".into()), "the forward path mario@gamma.example is not"),
        (|draft| draft.set("X-TipoRicevuta", "breve"), "the receipt type in the header is not that of daticert.xml"),
        (|draft| draft.data.requested = None, "its daticert.xml lacks ricevuta"),
        (|draft| draft.parts.clear(), "it carries no original message"),
    ];
    for (number, (deviate, reason)) in deviations.into_iter().enumerate() {
        let mut draft = Draft::envelope();
        deviate(&mut draft);
        let found = draft.check().map(|_| ()).unwrap_err().to_string();
        assert!(found.starts_with(reason), "case {number}: expected {reason:?}, found {found:?}");
    }
}

#[test]
fn a_header_without_receipt_type_asks_for_the_complete_one() {
    let mut draft = Draft::envelope();
    draft.without("X-TipoRicevuta");
    assert!(draft.check().is_ok());
    let mut draft = Draft::envelope();
    draft.without("X-TipoRicevuta");
    draft.data.requested = Some(ReceiptType::Brief);
    assert_eq!(draft.check().map(|_| ()), Err(AnomalyReason::ReceiptTypeMismatch));
}

#[test]
fn certification_data_are_found_by_name_then_by_type_at_any_depth_and_must_be_one() {
    let xml = data(Kind::TransportEnvelope).to_xml();
    let check = |parts: Vec<(String, String)>| {
        let mut draft = Draft::envelope();
        draft.parts.extend(parts);
        draft.check_as_it_is().map(|_| ()).map_err(|reason| reason.to_string())
    };
    let named = |name: &str, kind: &str| attached(name, kind, &xml);
    assert_eq!(check(vec![named("DatiCert.xml", "application/octet-stream")]), Ok(()));
    assert_eq!(check(vec![named("dati.xml", "text/xml")]), Ok(()));
    assert_eq!(check(vec![named("daticert.xml", "application/xml"), named("altro.xml", "text/xml")]), Ok(()));
    let (fields, body) = named("daticert.xml", "application/xml");
    let nested = format!("--c\r\n{fields}\r\n\r\n{body}\r\n--c--\r\n");
    assert_eq!(check(vec![("Content-Type: multipart/mixed; boundary=c".into(), nested)]), Ok(()));

    let lacking = |why: &str| Err(format!("it has no readable daticert.xml: {why}"));
    assert_eq!(check(Vec::new()), lacking("0 parts could be it"));
    assert_eq!(check(vec![named("a.xml", "text/xml"), named("b.xml", "text/xml")]), lacking("2 parts could be it"));
    // One that is forwarded inside the original is none of this envelope's.
    let forwarded = format!("Subject: s\r\nContent-Type: application/xml; name=\"daticert.xml\"\r\n\r\n{xml}");
    assert_eq!(check(vec![attached("altro.eml", "message/rfc822", &forwarded)]), lacking("0 parts could be it"));
    let spoilt = format!("{fields}\r\nContent-Transfer-Encoding: base64");
    assert_eq!(check(vec![(spoilt, "%%%".into())]), lacking("its transfer encoding is damaged"));
    assert!(check(vec![attached("daticert.xml", "application/xml", "<postacert")]).is_err());
}

#[test]
fn the_original_is_found_by_its_name_else_by_its_type_and_decoded() {
    let original = |parts: &[(String, String)]| {
        let draft = Draft { parts: parts.to_vec(), ..Draft::envelope() };
        draft.check().map(|form| form.original)
    };
    let text = "Subject: s\r\n\r\noriginal";
    assert_eq!(original(&[attached("messaggio.eml", "message/rfc822", text)]).unwrap(), text);
    let other = attached("altro.eml", "message/rfc822", "Subject: altro\r\n\r\n");
    assert_eq!(original(&[other, attached("PostaCert.EML", "application/octet-stream", text)]).unwrap(), text);
    let (fields, _) = attached("postacert.eml", "message/rfc822", "");
    let encoded = (format!("{fields}\r\nContent-Transfer-Encoding: base64"), "U3ViamVjdDogcw0KDQpvcmlnaW5hbA==".into());
    assert_eq!(original(&[encoded]).unwrap(), text);
}

#[test]
fn a_notification_certifies_only_what_happened_in_domains_of_its_provider() {
    for kind in Kind::ALL.into_iter().filter(|kind| *kind != Kind::TransportEnvelope) {
        let form = Draft::notification(kind).check().unwrap();
        assert!(!form.is_envelope && form.original.is_empty(), "{kind:?}");

        let mut draft = Draft::notification(kind);
        match kind {
            Kind::ServerServerAcceptance => draft.data.taken.push(address("eva@beta.example")),
            Kind::Delivery | Kind::NonDelivery | Kind::VirusDetection => {
                draft.data.recipient = Some(address("eva@beta.example"));
            }
            _ => draft.data.facts.sender = address("eva@beta.example"),
        }
        let found = draft.check().map(|_| ());
        assert!(matches!(found, Err(AnomalyReason::ForeignDomain { .. })), "{kind:?}: {found:?}");
    }
}

#[test]
fn a_notification_names_whom_it_is_about() {
    let mut draft = Draft::notification(Kind::ServerServerAcceptance);
    draft.data.taken.clear();
    assert_eq!(draft.check().map(|_| ()), Err(AnomalyReason::Incomplete("ricezione")));
    for kind in [Kind::Delivery, Kind::NonDelivery, Kind::VirusDetection] {
        let mut draft = Draft::notification(kind);
        draft.data.recipient = None;
        assert_eq!(draft.check().map(|_| ()), Err(AnomalyReason::Incomplete("consegna")), "{kind:?}");
    }
}

#[test]
fn a_virus_notice_keeps_its_error() {
    let mut draft = Draft::notification(Kind::NonDelivery);
    draft.data.error = ErrorType::Virus;
    draft.data.error_text = Some("Eicar".into());
    let form = draft.check().unwrap();
    assert_eq!((form.data.error, form.data.error_text.as_deref()), (ErrorType::Virus, Some("Eicar")));
}
