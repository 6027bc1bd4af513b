//! What is not correct or not certified at all is delivered in an anomaly envelope, whole, and nobody gets a receipt.
//!
//! Each message differs in one thing from a correct envelope of gamma.example, the provider that the test plays, or is
//! ordinary mail.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use pec_milter::adapters::sqlite::SqliteLog;
use pec_milter::legal_log::EventKind;
use pec_testbed::foreign::{Draft, ForeignProvider, Kind};
use pec_testbed::pki::Identity;
use pec_testbed::{Plan, Testbed};

const BRUNO: &str = "bruno@alfa.example";
const CARLA: &str = "carla@alfa.example";

fn plan() -> Plan {
    Plan::new(env!("CARGO_BIN_EXE_pec-milter"))
        .provider("alfa", &["anna", "bruno", "carla"])
        .plain("gamma", &["mario", "lucia", "ricevute"])
}

/// What is wrong, how, and the sentence in the log of pec-milter that says so.
type Fault = (&'static str, fn(&mut Draft), &'static str);

const NOT_HOLDING: [Fault; 9] = [
    (
        "the readable text was changed",
        |draft| draft.finish = |message| replaced(message, "Messaggio di posta", "Messaggio da posta"),
        "the signed octets differ",
    ),
    (
        "the certification data was changed",
        |draft| {
            draft.layout.daticert = "Content-Type: application/xml; name=\"daticert.xml\"";
            draft.finish = |message| replaced(message, "tipo=\"completa\"", "tipo=\"sintetica\"");
        },
        "the signed octets differ",
    ),
    (
        "the original was changed",
        |draft| draft.finish = |message| replaced(message, "  a domani", "a domani"),
        "the signed octets differ",
    ),
    ("the signature was changed", |draft| draft.finish = with_other_signature, "its signature does not hold"),
    ("the end is missing", |draft| draft.finish = first_half, "its signature does not hold"),
    (
        "the signature is of another message",
        |draft| {
            draft.signature.options = &["-md", "sha256", "-nodetach"];
        },
        "the signature carries its content",
    ),
    (
        "the signature has no certificate",
        |draft| {
            draft.signature.intermediate = None;
            draft.signature.options = &["-md", "sha256", "-nocerts"];
        },
        "the signer's certificate is not among",
    ),
    (
        "the signature part is missing, X-Trasporto is there",
        |draft| draft.finish = unsigned,
        "not a multipart/signed S/MIME message",
    ),
    (
        "the signature part is something else",
        |draft| {
            draft.finish = |message| {
                replaced(
                    message,
                    "Content-Type: application/pkcs7-signature",
                    "Content-Type: application/pgp-signature",
                )
            }
        },
        "not a multipart/signed S/MIME message",
    ),
];

const NOT_CORRECT: [Fault; 27] = [
    (
        "daticert.xml is missing",
        |draft| draft.layout.arrange = |parts| drop(parts.remove(1)),
        "no readable daticert.xml",
    ),
    (
        "daticert.xml is there twice",
        |draft| draft.layout.arrange = |parts| parts.push(parts[1].clone()),
        "no readable daticert.xml",
    ),
    (
        "daticert.xml has a DOCTYPE",
        |draft| draft.certify("<postacert ", "<!DOCTYPE postacert>\n<postacert "),
        "no readable daticert.xml",
    ),
    (
        "daticert.xml is not UTF-8",
        |draft| {
            let at = draft.daticert.windows(9).position(|window| window == b"<oggetto>").unwrap();
            draft.daticert.insert(at + 9, 0xe8);
        },
        "daticert.xml is not UTF-8",
    ),
    ("daticert.xml is not well-formed", |draft| draft.certify("</dati>", ""), "not well-formed"),
    (
        "daticert.xml has no mittente",
        |draft| draft.certify("<mittente>mario@gamma.example</mittente>", ""),
        "the element mittente is missing",
    ),
    ("daticert.xml has no ricevuta", |draft| draft.certify("<ricevuta tipo=\"completa\"/>", ""), "lacks ricevuta"),
    (
        "daticert.xml is that of an acceptance",
        |draft| draft.certify("tipo=\"posta-certificata\"", "tipo=\"accettazione\""),
        "its header says posta-certificata",
    ),
    (
        "the header is that of an acceptance",
        |draft| {
            draft.remove("X-Trasporto");
            draft.set("X-Ricevuta", "accettazione");
        },
        "its header says accettazione",
    ),
    (
        "the header has a value of the other field",
        |draft| draft.set("X-Trasporto", "accettazione"),
        "no X-Trasporto or X-Ricevuta field, or more than one",
    ),
    ("the header does not say what it is", |draft| draft.remove("X-Trasporto"), "no X-Trasporto or X-Ricevuta field"),
    (
        "the header says it twice",
        |draft| draft.fields.push(("X-Trasporto".to_owned(), "posta-certificata".to_owned())),
        "no X-Trasporto or X-Ricevuta field, or more than one",
    ),
    (
        "the header says two things",
        |draft| draft.fields.push(("X-Ricevuta".to_owned(), "accettazione".to_owned())),
        "no X-Trasporto or X-Ricevuta field, or more than one",
    ),
    (
        "Message-ID is not identificativo",
        |draft| draft.set("Message-ID", "<altro@gamma.example>"),
        "its Message-ID is not the identificativo",
    ),
    ("there is no Message-ID", |draft| draft.remove("Message-ID"), "its Message-ID is not the identificativo"),
    (
        "mittente is not the reverse path",
        |draft| draft.reverse_path = "lucia@gamma.example".to_owned(),
        "the reverse path is not the mittente",
    ),
    ("the reverse path is empty", |draft| draft.reverse_path.clear(), "the reverse path is not the mittente"),
    (
        "a forward path is not among destinatari",
        |draft| draft.forward_paths.push(CARLA.to_owned()),
        "the forward path carla@alfa.example is not one of the certified recipients",
    ),
    (
        "mittente is of a domain of nobody's",
        |draft| {
            draft.certify("mario@gamma.example", "mario@altro.example");
            draft.reverse_path = "mario@altro.example".to_owned();
        },
        "the domain altro.example is not one that GAMMA Posta S.r.l. manages",
    ),
    (
        "mittente is a user of the receiving provider",
        |draft| {
            draft.certify("mario@gamma.example", "anna@alfa.example");
            draft.reverse_path = "anna@alfa.example".to_owned();
        },
        "the domain alfa.example is not one that GAMMA Posta S.r.l. manages",
    ),
    (
        "From is another provider's",
        |draft| draft.set("From", "\"Per conto di: mario@gamma.example\" <posta-certificata@alfa.example>"),
        "its author's domain is not one that GAMMA Posta S.r.l. manages",
    ),
    (
        "From holds two addresses",
        |draft| draft.set("From", "posta-certificata@gamma.example, posta-certificata@alfa.example"),
        "its author's domain",
    ),
    (
        "From is there twice",
        |draft| draft.fields.push(("From".to_owned(), "anna@alfa.example".to_owned())),
        "its author's domain",
    ),
    ("From is missing", |draft| draft.remove("From"), "its author's domain"),
    (
        "X-TipoRicevuta is not ricevuta",
        |draft| draft.set("X-TipoRicevuta", "breve"),
        "the receipt type in the header is not that of daticert.xml",
    ),
    ("there is no original", |draft| draft.original = None, "it carries no original message"),
    (
        "it is an anomaly envelope",
        |draft| {
            draft.set("X-Trasporto", "errore");
            draft.layout.arrange = |parts| drop(parts.remove(1));
        },
        "it is an anomaly envelope of GAMMA Posta S.r.l.",
    ),
];

/// Name, reverse path and octets of mail that is not certified.
const ORDINARY: [(&str, &str, &[u8]); 9] = [
    ("plain text", "paola@altrove.example", b"From: paola@altrove.example\r\nTo: bruno@alfa.example\r\nSubject: ciao\r\n\r\nCiao.\r\n"),
    (
        "HTML",
        "paola@altrove.example",
        b"From: Paola <paola@altrove.example>\r\nTo: bruno@alfa.example\r\nSubject: =?utf-8?Q?perch=C3=A9?=\r\n\
          Date: Mon, 15 Jul 2024 10:30:43 +0200\r\nMessage-ID: <html@altrove.example>\r\nMIME-Version: 1.0\r\n\
          Content-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n<p>Ciao</p>\r\n",
    ),
    (
        "8-bit text",
        "paola@altrove.example",
        b"From: paola@altrove.example\r\nTo: bruno@alfa.example\r\nSubject: otto\r\nMIME-Version: 1.0\r\n\
          Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\nperch\xc3\xa9\r\n",
    ),
    (
        "a bounce, which has an empty reverse path",
        "",
        b"From: MAILER-DAEMON@altrove.example\r\nTo: bruno@alfa.example\r\nSubject: Undelivered\r\n\r\nSorry.\r\n",
    ),
    ("no header at all", "paola@altrove.example", b"\r\nsolo testo\r\n"),
    ("no header, no text", "paola@altrove.example", b"\r\n"),
    (
        "lines that begin with dots",
        "paola@altrove.example",
        b"From: paola@altrove.example\r\nTo: bruno@alfa.example\r\nSubject: punti\r\n\r\n.\r\n..\r\n.fine\r\n",
    ),
    (
        "odd and repeated fields",
        "paola@altrove.example",
        b"X-Odd:\r\n\tone\r\n  two\r\nFrom: paola@altrove.example\r\nfrom: altra@altrove.example\r\nTo: bruno@alfa.example\r\n\
          Received: from a by b; Mon, 15 Jul 2024 10:30:43 +0200\r\nReturn-Path: <falso@alfa.example>\r\nBcc: x@y.example\r\n\
          Sender: altra@altrove.example\r\nSubject: a\r\nSubject: b\r\nX-Empty:\r\n\r\nCiao.\r\n",
    ),
    (
        "an acceptance that nobody signed",
        "posta-certificata@gamma.example",
        b"X-Ricevuta: accettazione\r\nFrom: posta-certificata@gamma.example\r\nTo: bruno@alfa.example\r\n\
          Subject: ACCETTAZIONE: x\r\nMessage-ID: <falsa@gamma.example>\r\n\r\nRicevuta di accettazione\r\n",
    ),
];

fn replaced(message: Vec<u8>, from: &str, to: &str) -> Vec<u8> {
    let at = message.windows(from.len()).position(|window| window == from.as_bytes());
    let at = at.unwrap_or_else(|| panic!("{from:?} is not in {}", String::from_utf8_lossy(&message)));
    [&message[..at], to.as_bytes(), &message[at + from.len()..]].concat()
}

/// Changes a character in the middle of the last full line of the signature, where the signature value is.
fn with_other_signature(mut message: Vec<u8>) -> Vec<u8> {
    let at = message.len() - 120;
    assert!(message[at].is_ascii_alphanumeric(), "not in the base64 text");
    message[at] = if message[at] == b'A' { b'B' } else { b'A' };
    message
}

/// Whole lines of it.
fn first_half(mut message: Vec<u8>) -> Vec<u8> {
    message.truncate(message.len() / 2);
    let end = message.windows(2).rposition(|window| window == b"\r\n").unwrap();
    message.truncate(end + 2);
    message
}

/// The signed part alone, below the unsigned header.
fn unsigned(message: Vec<u8>) -> Vec<u8> {
    let text = String::from_utf8(message).unwrap();
    let (header, rest) = text.split_once("Content-Type: multipart/signed").unwrap();
    let (_, rest) = rest.split_once("--signed\r\n").unwrap();
    let (content, _) = rest.split_once("\r\n--signed\r\n").unwrap();
    format!("{header}{content}").into_bytes()
}

/// A message with the reason that the log must give for it.
struct Sent {
    name: String,
    bytes: Vec<u8>,
    queue_id: String,
    mailboxes: Vec<String>,
    reason: String,
}

impl Sent {
    /// Hands the message over.
    fn draft(name: &str, draft: Draft, testbed: &Testbed, gamma: &ForeignProvider, reason: &str) -> Result<Self> {
        let (bytes, queue_id) = gamma.send_traced(testbed.host("alfa")?, &draft).with_context(|| name.to_owned())?;
        let (name, mailboxes) = (name.to_owned(), draft.forward_paths);
        Ok(Sent { name, bytes, queue_id, mailboxes, reason: reason.to_owned() })
    }
}

/// Sends each fault to alfa.
fn send(testbed: &Testbed, gamma: &ForeignProvider, faults: &[Fault]) -> Result<Vec<Sent>> {
    (0..)
        .zip(faults)
        .map(|(number, (name, change, reason))| {
            let facts = gamma.facts("mario", &[BRUNO], name, &format!("errata{number}"));
            let mut draft = gamma.draft(Kind::Envelope, &facts)?;
            change(&mut draft);
            Sent::draft(name, draft, testbed, gamma, reason)
        })
        .collect()
}

/// Every message lies once in an anomaly envelope in each of its mailboxes, octet for octet, nothing else was sent to
/// anybody, and the log says why.
fn all_are_anomalies(testbed: &Testbed, sent: &[Sent]) -> Result<()> {
    let mailboxes: BTreeSet<&str> = sent.iter().flat_map(|one| &one.mailboxes).map(String::as_str).collect();
    let count = |mailbox: &&str| sent.iter().filter(|one| one.mailboxes.iter().any(|own| own == mailbox)).count();
    let expected: Vec<_> = mailboxes.iter().map(|mailbox| (*mailbox, count(mailbox))).collect();
    let all = testbed.received_when(&expected)?;
    let log = testbed.host("alfa")?.daemon()?.log();
    let mut failures = Vec::new();
    for Sent { name, bytes, queue_id, mailboxes, reason } in sent {
        for mailbox in mailboxes {
            let of_mailbox = all.iter().filter(|one| one.mailbox == *mailbox && one.is("errore"));
            let wrapping = of_mailbox.filter(|one| one.original().is_ok_and(|original| original == *bytes)).count();
            if wrapping != 1 {
                failures.push(format!("{name}: in {wrapping} anomaly envelopes in {mailbox}, not one"));
            }
        }
        let of_message = |line: &&str| line.contains(queue_id.as_str()) && line.contains("anomaly envelope");
        let line = log.lines().find(of_message).unwrap_or("nothing");
        if !line.contains(reason) {
            failures.push(format!("{name}: expected {reason:?} in the log, found {line}"));
        }
        // The event names whoever signed it, and nobody of ordinary mail.
        let provider = line.split_once(" but not correct").and_then(|(before, _)| before.rsplit_once("from "));
        let (expected, found) = (provider.map(|(_, name)| name.to_owned()), provider_in_event_log(testbed, queue_id)?);
        if found != expected {
            failures.push(format!("{name}: expected {expected:?} in the event log, found {found:?}"));
        }
    }
    ensure!(failures.is_empty(), "{}", failures.join("\n"));
    for word in [" arrived ", "notification sent"] {
        ensure!(!log.contains(word), "nothing is certified, yet the log says {word:?}");
    }
    testbed.judge(&all)
}

/// The provider that the event of a queue file's anomaly envelope names.
fn provider_in_event_log(testbed: &Testbed, queue_id: &str) -> Result<Option<String>> {
    let log = SqliteLog::open_read_only(&testbed.host("alfa")?.daemon()?.event_log())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let entries = runtime.block_on(log.of_queue_file(queue_id))?.into_iter().map(|one| one.entry);
    let anomaly = entries.into_iter().find(|entry| entry.kind == EventKind::Anomaly);
    Ok(anomaly.with_context(|| format!("no anomaly of {queue_id}"))?.provider)
}

fn listed(testbed: &Testbed, further: &[&Identity]) -> Result<ForeignProvider> {
    let gamma = ForeignProvider::new(testbed, testbed.host("gamma")?)?;
    testbed.list_in_directory(&[gamma.record(further)])?;
    Ok(gamma)
}

#[test]
fn transaction_a_message_whose_signature_does_not_hold_is_an_anomaly() {
    plan().test(|testbed| {
        let gamma = listed(testbed, &[])?;
        all_are_anomalies(testbed, &send(testbed, &gamma, &NOT_HOLDING)?)
    });
}

#[test]
fn transaction_a_signed_message_that_is_not_correct_is_an_anomaly() {
    plan().test(|testbed| {
        let gamma = listed(testbed, &[])?;
        all_are_anomalies(testbed, &send(testbed, &gamma, &NOT_CORRECT)?)
    });
}

#[test]
fn transaction_a_provider_cannot_certify_what_happens_at_another() {
    plan().test(|testbed| {
        let gamma = listed(testbed, &[])?;
        let mut facts = gamma.facts("mario", &[BRUNO], "ricevute", "altrui");
        facts.sender = BRUNO.to_owned();
        let own = [CARLA];
        let reason = "the domain alfa.example is not one that GAMMA Posta S.r.l. manages";
        let kinds = [
            (Kind::Acceptance, reason),
            (Kind::TakeCharge { taken: &own, to: BRUNO }, reason),
            (Kind::TakeCharge { taken: &[], to: BRUNO }, "lacks ricezione"),
            (Kind::Delivery(CARLA), reason),
            (Kind::NonDelivery(CARLA), reason),
        ];
        let sent: Vec<_> = kinds
            .into_iter()
            .map(|(kind, reason)| {
                let draft = gamma.draft(kind, &facts)?;
                Sent::draft(&format!("{kind:?}"), draft, testbed, &gamma, reason)
            })
            .collect::<Result<_>>()?;
        all_are_anomalies(testbed, &sent)
    });
}

#[test]
fn transaction_a_signer_that_is_not_to_be_trusted_makes_an_anomaly() {
    plan().test(|testbed| {
        let pki = &testbed.pki;
        let gamma = ForeignProvider::new(testbed, testbed.host("gamma")?)?;
        pki.authority("other-ca", None, &[])?;
        let ours = |name: &str| gamma.request(name);
        let mut other_ca = ours("other-ca-signer");
        other_ca.issuer = "other-ca".to_owned();
        let mut expired = ours("expired");
        expired.validity = Some(("20240101000000Z".to_owned(), "20250101000000Z".to_owned()));
        let mut early = ours("early");
        early.validity = Some(("20400101000000Z".to_owned(), "20410101000000Z".to_owned()));

        // In the directory, so that only the certificate itself stands against them.
        let in_directory = [
            ("expired", pki.issue(&expired)?, "has expired"),
            ("not valid yet", pki.issue(&early)?, "is not valid yet"),
            ("of a CA that is not configured", pki.issue(&other_ca)?, "no path leads from"),
            ("self-signed", pki.issue_self_signed(&ours("self-listed"))?, "no path leads from"),
            (
                "outside the name constraints",
                pki.issue(&ours("outside").with("subjectAltName", "email:posta-certificata@altro.example"))?,
                "outside the name constraints",
            ),
            (
                "for servers",
                pki.issue(&ours("server").with("extendedKeyUsage", "serverAuth,clientAuth"))?,
                "does not allow e-mail protection",
            ),
            (
                "not for signatures",
                pki.issue(&ours("encipher").with("keyUsage", "critical,keyEncipherment"))?,
                "does not allow digital signatures",
            ),
            (
                "a CA",
                pki.issue(&ours("authority").with("basicConstraints", "critical,CA:TRUE"))?,
                "is a CA and may not sign messages",
            ),
        ];
        // Not in the directory, however much they look like one that is.
        let mut imitation = ours("imitation");
        imitation.issuer = "other-ca".to_owned();
        let unknown = [
            ("of the same names and CA, another certificate", pki.issue(&ours("twin"))?),
            ("of the same names, another CA", pki.issue(&imitation)?),
            ("of the same names, self-signed", pki.issue_self_signed(&ours("self"))?),
        ];
        let identities: Vec<_> = in_directory.iter().map(|(_, identity, _)| identity).collect();
        testbed.list_in_directory(&[gamma.record(&identities)])?;

        let unknown = unknown.iter().map(|(name, identity)| (*name, identity, "is not in the providers directory"));
        let signers = in_directory.iter().map(|(name, identity, reason)| (*name, identity, *reason)).chain(unknown);
        let sent: Vec<_> = (0..)
            .zip(signers)
            .map(|(number, (name, identity, reason))| {
                let facts = gamma.facts("mario", &[BRUNO], name, &format!("firma{number}"));
                let mut draft = gamma.draft(Kind::Envelope, &facts)?;
                draft.signature.signer = identity.clone();
                Sent::draft(&format!("a signer {name}"), draft, testbed, &gamma, reason)
            })
            .collect::<Result<_>>()?;
        all_are_anomalies(testbed, &sent)
    });
}

#[test]
fn transaction_ordinary_mail_is_an_anomaly() {
    plan().test(|testbed| {
        let alfa = testbed.host("alfa")?;
        let mut long = b"From: paola@altrove.example\r\nTo: bruno@alfa.example\r\nSubject: righe\r\n\r\n".to_vec();
        long.extend([b'x'; 5000]);
        long.extend(b"\r\nfine\r\n");
        let messages = ORDINARY.into_iter().chain([("long lines", "paola@altrove.example", long.as_slice())]);
        let sent: Vec<_> = messages
            .map(|(name, from, bytes)| {
                let dialogue = alfa.inject_as_peer(from, &[BRUNO], bytes)?;
                ensure!(dialogue.accepted(), "{name} is not taken at the port:\n{dialogue}");
                Ok(Sent {
                    name: name.to_owned(),
                    bytes: bytes.to_vec(),
                    queue_id: dialogue.queue_id().context("no queue id")?.to_owned(),
                    mailboxes: vec![BRUNO.to_owned()],
                    reason: "not a multipart/signed S/MIME message".to_owned(),
                })
            })
            .collect::<Result<_>>()?;
        all_are_anomalies(testbed, &sent)
    });
}
