//! Messages of other implementations: what a provider that is not pec-milter sends is accepted, taken in charge and
//! delivered unmodified, however it was built.
//!
//! The foreign provider is gamma.example: an ordinary mail host with a certificate and a record in the directory. Its
//! messages are made here with OpenSSL and hand-written MIME.

use anyhow::{Context, Result, ensure};
use pec_testbed::foreign::{Draft, Facts, ForeignProvider, Kind, SignedBy, part};
use pec_testbed::referee::openssl_cms_verify;
use pec_testbed::{Host, Plan, Port, Received, Testbed};

const BRUNO: &str = "bruno@alfa.example";
const CARLA: &str = "carla@alfa.example";

fn plan() -> Plan {
    Plan::new(env!("CARGO_BIN_EXE_pec-milter"))
        .provider("alfa", &["anna", "bruno", "carla"])
        .plain("gamma", &["mario", "lucia", "ricevute"])
}

/// Makes gamma a provider.
fn gamma(testbed: &Testbed) -> Result<ForeignProvider> {
    let gamma = ForeignProvider::new(testbed, testbed.host("gamma")?)?;
    testbed.list_in_directory(&[gamma.record(&[])])?;
    Ok(gamma)
}

/// Legal in every MIME field.
const COMMENT: &str = " (S/MIME)";

/// A name and what it does to an envelope that is otherwise as ours are.
type Style = (&'static str, fn(&mut Draft));

/// How the signature is made.
const SIGNATURES: [Style; 11] = [
    ("the signature of the models", |_| ()),
    ("LF and S/MIME of openssl cms", |draft| draft.signature.by = SignedBy::Cms),
    ("x-pkcs7-signature and micalg sha1 of openssl smime", |draft| {
        draft.signature.by = SignedBy::Smime;
        draft.signature.options = &["-md", "sha1"];
    }),
    ("x-pkcs7-signature and micalg sha1 by hand", |draft| {
        draft.signature.media_type = "application/x-pkcs7-signature";
        draft.signature.options = &["-md", "sha1"];
        draft.signature.micalg = "sha1";
    }),
    ("streamed BER", |draft| draft.signature.encode = with_indefinite_lengths),
    ("PSS", |draft| draft.signature.options = &["-md", "sha256", "-keyopt", "rsa_padding_mode:pss"]),
    ("SHA-384", |draft| {
        draft.signature.options = &["-md", "sha384"];
        draft.signature.micalg = "SHA-384";
    }),
    ("SHA-512 and PSS", |draft| {
        draft.signature.options = &["-md", "sha512", "-keyopt", "rsa_padding_mode:pss"];
        draft.signature.micalg = "\"sha-512\"";
    }),
    ("no signed attributes", |draft| draft.signature.options = &["-md", "sha256", "-noattr"]),
    ("the signer named by its key identifier", |draft| draft.signature.options = &["-md", "sha256", "-keyid"]),
    ("no S/MIME capabilities", |draft| draft.signature.options = &["-md", "sha256", "-nosmimecap"]),
];

/// How the MIME tree is written.
const TREES: [Style; 15] = [
    ("boundaries with blanks and specials", |draft| {
        draft.layout.boundaries = ["a b'()+_,-./:=?c", "1 2'()+_,-./:=?3", "x y'()+_,-./:=?z"];
    }),
    ("boundaries that quoted-printable cannot hold", |draft| {
        draft.layout.boundaries = ["=_1_=", "----=_Part_2.3", "=_alt=_"];
    }),
    ("a boundary of 70 characters", |draft| {
        draft.layout.boundaries[0] = "0123456789012345678901234567890123456789012345678901234567890123456789";
    }),
    ("preamble and epilogue", |draft| {
        draft.layout.preamble = "This is a multi-part message in MIME format.\r\n--no boundary\r\n";
        draft.layout.epilogue = "\r\nnothing to see here\r\n";
    }),
    ("MIME fields folded and commented", |draft| {
        draft.finish = |message| {
            let message = replaced(message, "; protocol=", &format!("{COMMENT};\r\n\tprotocol="));
            replaced(message, "; boundary=signed", ";\r\n   boundary=\"signed\"")
        };
    }),
    ("further parts", |draft| {
        draft.layout.arrange = |parts| {
            parts.insert(1, part("Content-Type: text/plain; name=\"avviso.txt\"", b"Un avviso.\r\n"));
            parts.push(part("Content-Type: image/png; name=logo.png\r\nContent-Transfer-Encoding: base64", b"\x89PNG"));
        };
    }),
    ("the original before daticert.xml", |draft| draft.layout.arrange = |parts| parts.swap(1, 2)),
    ("the readable text last", |draft| draft.layout.arrange = |parts| parts.rotate_left(1)),
    ("no HTML", |draft| draft.html = None),
    ("daticert.xml as text/xml in quoted-printable", |draft| {
        draft.layout.daticert = "Content-Type: text/xml; charset=utf-8; name=daticert.xml\r\n\
            Content-Transfer-Encoding: Quoted-Printable\r\nContent-Disposition: inline; filename=daticert.xml";
    }),
    ("daticert.xml in 7bit", |draft| {
        draft.layout.daticert = "Content-Type: application/xml; name=\"daticert.xml\"\r\n\
            Content-Transfer-Encoding: 7BIT\r\nContent-Disposition: attachment; filename=\"daticert.xml\"";
    }),
    ("names by RFC 2231", |draft| {
        draft.layout.daticert = "Content-Type: application/xml;\r\n name*=us-ascii'it'daticert%2Exml\r\n\
            Content-Transfer-Encoding: base64\r\nContent-Disposition: attachment;\r\n filename*0=\"dati\";\r\n filename*1=\"cert.xml\"";
        draft.layout.original = "Content-Type: message/rfc822; name*0=\"posta\"; name*1=\"cert.eml\"\r\n\
            Content-Disposition: attachment; filename*=utf-8''postacert.eml";
    }),
    ("names in the disposition alone, in capitals", |draft| {
        draft.layout.daticert = "Content-type: Application/XML\r\nContent-transfer-encoding: BASE64\r\n\
            Content-disposition: Attachment; Filename=\"DATICERT.XML\"";
    }),
    ("an 8-bit original", |draft| {
        let original = String::from_utf8(draft.original.take().unwrap()).unwrap();
        let original = original.replace("us-ascii", "utf-8").replace("a domani", "perché è così: à domani");
        draft.original = Some(original.into_bytes());
    }),
    ("an original without a final line end", |draft| {
        let original = draft.original.as_mut().unwrap();
        original.truncate(original.len() - 2);
    }),
];

/// What the header says, and how.
const HEADERS: [Style; 9] = [
    ("names and values in odd case", |draft| {
        for (name, value) in &mut draft.fields {
            match name.as_str() {
                "X-Trasporto" | "X-TipoRicevuta" => *value = value.to_uppercase(),
                _ => (),
            }
            *name = if name.len() % 2 == 0 { name.to_lowercase() } else { name.to_uppercase() };
        }
    }),
    ("folded fields", |draft| {
        draft.fields.iter_mut().for_each(|(name, value)| {
            if name != "Subject" {
                value.insert_str(0, "\r\n ");
            }
        });
    }),
    ("no X-TipoRicevuta", |draft| draft.remove("X-TipoRicevuta")),
    ("no Reply-To", |draft| draft.remove("Reply-To")),
    ("another name in From", |draft| draft.set("From", "Ufficio \"PEC\" (posta) <Posta-Certificata@GAMMA.example>")),
    ("a reverse path in odd case", |draft| draft.reverse_path = "MARIO@Gamma.EXAMPLE".to_owned()),
    ("a forward path in odd case", |draft| draft.forward_paths = vec!["Bruno@ALFA.example".to_owned()]),
    ("a subject in encoded words", |draft| {
        draft.set("Subject", "=?iso-8859-1?Q?POSTA_CERTIFICATA:_a_subj?=\r\n =?utf-8?B?ZWN0IGluIGVuY29kZWQgd29yZHM=?=");
    }),
    ("fields that only the sender's provider knows", |draft| {
        draft.set("X-Priority", "1");
        draft.set("Disposition-Notification-To", "mario@gamma.example");
    }),
];

/// Styles that the rules of reception allow and the referee does not, or does not understand.
const BEYOND_THE_REFEREE: [&str; 9] = [
    "MIME fields folded and commented",
    "the readable text last",
    "names and values in odd case",
    "no X-TipoRicevuta",
    "no Reply-To",
    "another name in From",
    "daticert.xml as text/xml in quoted-printable",
    "names in the disposition alone, in capitals",
    ODD_IDENTIFIER,
];

/// Our receipts repeat the identifier, of which the referee expects letters, digits and dots.
const ODD_IDENTIFIER: &str = "an identifier with every character of RFC 5322";

/// The outer elements of a SignedData as implementations write them that do not know the length beforehand.
fn with_indefinite_lengths(der: Vec<u8>) -> Vec<u8> {
    fn content(element: &[u8]) -> &[u8] {
        let length_octets = if element[1] < 0x80 { 0 } else { usize::from(element[1] & 0x7f) };
        &element[2 + length_octets..]
    }
    // ContentInfo: an object identifier of 11 octets, and [0] around the SignedData.
    let (kind, explicit) = content(&der).split_at(11);
    let fields = content(content(explicit));
    [&[0x30, 0x80], kind, &[0xa0, 0x80, 0x30, 0x80], fields, &[0; 6]].concat()
}

fn replaced(message: Vec<u8>, from: &str, to: &str) -> Vec<u8> {
    let at = message.windows(from.len()).position(|window| window == from.as_bytes());
    let at = at.unwrap_or_else(|| panic!("{from:?} is not in {}", String::from_utf8_lossy(&message)));
    [&message[..at], to.as_bytes(), &message[at + from.len()..]].concat()
}

/// OpenSSL understands no comment in a MIME field.
fn without_comment(message: &[u8]) -> Vec<u8> {
    match message.windows(COMMENT.len()).position(|window| window == COMMENT.as_bytes()) {
        Some(at) => [&message[..at], &message[at + COMMENT.len()..]].concat(),
        None => message.to_vec(),
    }
}

/// What came of one envelope for bruno.
fn check_transaction(testbed: &Testbed, all: &[Received], sent: &[u8], id: &str) -> Result<()> {
    let stored: Vec<_> = all.iter().filter(|one| one.mailbox == BRUNO && one.bytes.ends_with(sent)).collect();
    ensure!(stored.len() == 1, "{} unmodified copies in bruno's mailbox, not one", stored.len());
    let about = |mailbox: &str, kind: &str| -> Vec<&Received> {
        let of_kind = all.iter().filter(|one| one.mailbox == mailbox && one.is(kind));
        of_kind.filter(|one| one.transaction().as_deref() == Some(id)).collect()
    };
    let taken = about("ricevute@gamma.example", "presa-in-carico");
    let [taken] = taken.as_slice() else { anyhow::bail!("{} take-charges at gamma, not one", taken.len()) };
    let is_bruno = |named: &[String]| matches!(named, [one] if one.eq_ignore_ascii_case(BRUNO));
    ensure!(is_bruno(&taken.certified("ricezione")?), "ricezione is {:?}", taken.certified("ricezione")?);
    let delivered = about("mario@gamma.example", "avvenuta-consegna");
    let [delivered] = delivered.as_slice() else { anyhow::bail!("{} delivery receipts, not one", delivered.len()) };
    ensure!(is_bruno(&delivered.certified("consegna")?), "consegna is {:?}", delivered.certified("consegna")?);
    let file = testbed.folder().join("stored.eml");
    std::fs::write(&file, without_comment(&stored[0].bytes))?;
    openssl_cms_verify(&file, &testbed.pki.root()).context("the signature does not hold in the mailbox")?;
    let (good, said) = testbed.host("alfa")?.daemon()?.command(&["verify", file.to_str().context("path")?])?;
    ensure!(good, "pec-milter verify says no:\n{said}");
    Ok(())
}

/// Sends all drafts to alfa, and fails with every one that was not accepted and certified.
fn all_are_accepted(drafts: &[(String, Facts, Draft)], testbed: &Testbed, gamma: &ForeignProvider) -> Result<()> {
    let alfa = testbed.host("alfa")?;
    let mut sent = Vec::new();
    for (style, facts, draft) in drafts {
        sent.push((style, &facts.id, gamma.send(alfa, draft).with_context(|| style.clone())?));
    }
    let count = sent.len();
    let all =
        testbed.received_when(&[(BRUNO, count), ("ricevute@gamma.example", count), ("mario@gamma.example", count)]);
    // Without the expected counts the log of each message is the better explanation.
    let all = match all {
        Ok(all) => all,
        Err(error) => {
            testbed.wait_for_empty_queues()?;
            eprintln!("{error:#}");
            testbed.received()?
        }
    };
    let failures: Vec<String> = sent
        .iter()
        .filter_map(|(style, id, bytes)| {
            let error = check_transaction(testbed, &all, bytes, id).err()?;
            Some(format!("{style}: {error:#}\n{}", String::from_utf8_lossy(bytes)))
        })
        .collect();
    ensure!(failures.is_empty(), "{} of {count} are not accepted:\n{}", failures.len(), failures.join("\n---\n"));
    let is_of = |one: &Received, styles: &[&str]| {
        let subject = one.field("Subject").unwrap_or_default();
        styles.iter().any(|style| subject.ends_with(style))
    };
    let (envelopes, receipts): (Vec<_>, Vec<_>) = all.iter().partition(|one| one.mailbox == BRUNO);
    testbed.judge(receipts.into_iter().filter(|one| !is_of(one, &[ODD_IDENTIFIER])))?;
    gamma.judge(testbed, envelopes.into_iter().filter(|one| !is_of(one, &BEYOND_THE_REFEREE)))
}

fn styled(gamma: &ForeignProvider, styles: &[Style]) -> Result<Vec<(String, Facts, Draft)>> {
    (0..)
        .zip(styles)
        .map(|(number, (style, change))| {
            let facts = gamma.facts("mario", &[BRUNO], style, &format!("stile{number}"));
            let mut draft = gamma.draft(Kind::Envelope, &facts)?;
            change(&mut draft);
            Ok(((*style).to_owned(), facts, draft))
        })
        .collect()
}

#[test]
fn transaction_envelopes_are_accepted_however_they_are_signed() {
    plan().test(|testbed| {
        let gamma = gamma(testbed)?;
        all_are_accepted(&styled(&gamma, &SIGNATURES)?, testbed, &gamma)
    });
}

#[test]
fn transaction_envelopes_are_accepted_with_any_legal_mime_tree() {
    plan().test(|testbed| {
        let gamma = gamma(testbed)?;
        all_are_accepted(&styled(&gamma, &TREES)?, testbed, &gamma)
    });
}

#[test]
fn transaction_envelopes_are_accepted_with_any_legal_header() {
    plan().test(|testbed| {
        let gamma = gamma(testbed)?;
        let mut drafts = styled(&gamma, &HEADERS)?;
        for (style, id, msgid) in [
            (ODD_IDENTIFIER, "A.1!#$%&'*+-/=?^_`{|}~z", Some("<o/d=d+1@[10.0.0.1]>")),
            ("no Message-ID of the client", "senza", None),
        ] {
            let mut facts = gamma.facts("mario", &[BRUNO], style, id);
            facts.msgid = msgid.map(str::to_owned);
            let draft = gamma.draft(Kind::Envelope, &facts)?;
            drafts.push((style.to_owned(), facts, draft));
        }
        all_are_accepted(&drafts, testbed, &gamma)
    });
}

#[test]
fn transaction_an_intermediate_certificate_may_come_from_the_ca_file() {
    plan().test(|testbed| {
        let gamma = gamma(testbed)?;
        let alfa = testbed.host("alfa")?;
        let facts = gamma.facts("mario", &[BRUNO], "firmatario solo", "solo1");
        let mut draft = gamma.draft(Kind::Envelope, &facts)?;
        draft.signature.intermediate = None;
        let unknown = gamma.send(alfa, &draft)?;
        let first = alfa.fetch_when("bruno", 1)?;
        let first = Received { mailbox: BRUNO.to_owned(), bytes: first[0].clone() };
        assert_eq!(first.kind(), "errore", "no path leads from the signer alone to the root");
        assert_eq!(first.original()?, unknown);

        let both = testbed.folder().join("both.pem");
        let certificates = [testbed.pki.root(), gamma.intermediate.clone()].map(std::fs::read);
        let [root, intermediate] = certificates;
        std::fs::write(&both, [root?, intermediate?].concat())?;
        let daemon = alfa.daemon()?;
        let settings = std::fs::read_to_string(&daemon.configuration)?;
        let root = format!("ca_file = {:?}", testbed.pki.root());
        ensure!(settings.contains(&root), "{root} is not in {settings}");
        std::fs::write(&daemon.configuration, settings.replace(&root, &format!("ca_file = {both:?}")))?;
        daemon.reload_and_wait()?;

        let sent = gamma.send(alfa, &draft)?;
        let stored = alfa.fetch_when("bruno", 2)?;
        assert!(stored[1].ends_with(&sent), "not unmodified: {}", String::from_utf8_lossy(&stored[1]));
        let file = testbed.folder().join("stored.eml");
        std::fs::write(&file, &stored[1])?;
        openssl_cms_verify(&file, &both)?;
        let expected = [(BRUNO, 2), ("ricevute@gamma.example", 1), ("mario@gamma.example", 1)];
        let all = testbed.received_when(&expected)?;
        testbed.judge(all.iter().filter(|one| !one.bytes.ends_with(&sent)))
    });
}

#[test]
fn transaction_of_a_foreign_sender_is_certified_from_end_to_end() {
    plan().test(|testbed| {
        let gamma = gamma(testbed)?;
        let facts = gamma.facts("mario", &[BRUNO], "dall'inizio alla fine", "intera");
        let draft = gamma.draft(Kind::Envelope, &facts)?;
        gamma.send(testbed.host("alfa")?, &draft)?;
        let expected = [(BRUNO, 1), ("ricevute@gamma.example", 1), ("mario@gamma.example", 1)];
        let mut all = testbed.received_when(&expected)?;
        let receipt = all.iter().find(|one| one.is("avvenuta-consegna")).context("no delivery receipt")?;
        assert_eq!(receipt.original()?, draft.original.unwrap(), "the complete receipt holds the original");
        let acceptance = gamma.draft(Kind::Acceptance, &facts)?.build()?;
        all.push(Received { mailbox: "mario@gamma.example".to_owned(), bytes: acceptance });
        testbed.judge(&all)
    });
}

#[test]
fn transaction_notifications_of_other_providers_are_delivered_and_recorded() {
    plan().test(|testbed| {
        let gamma = gamma(testbed)?;
        let alfa = testbed.host("alfa")?;
        let message = b"From: anna@alfa.example\r\nTo: mario@gamma.example, lucia@gamma.example\r\n\
            Subject: domanda\r\nMessage-ID: <domanda@client.alfa.example>\r\n\r\nCome va?\r\n";
        let to = ["mario@gamma.example", "lucia@gamma.example"];
        let dialogue = alfa.submit("anna", Port::Submissions, "anna@alfa.example", &to, message)?;
        ensure!(dialogue.accepted(), "{dialogue}");
        let before = [("mario@gamma.example", 1), ("lucia@gamma.example", 1), ("anna@alfa.example", 1)];
        let envelope = testbed.received_when(&before)?;
        let envelope = envelope.iter().find(|one| one.is("posta-certificata")).context("no envelope")?;

        let facts = Facts {
            sender: "anna@alfa.example".to_owned(),
            recipients: to.iter().map(|&address| (address.to_owned(), true)).collect(),
            subject: "domanda".to_owned(),
            id: envelope.transaction().context("the envelope has no identificativo")?,
            msgid: Some("<domanda@client.alfa.example>".to_owned()),
            accepted: jiff::Timestamp::now(),
        };
        let mut sent = Vec::new();
        for (mailbox, kind) in [
            ("ricevute@alfa.example", Kind::TakeCharge { taken: &to, to: "ricevute@alfa.example" }),
            ("anna@alfa.example", Kind::Delivery(to[0])),
            ("anna@alfa.example", Kind::NonDelivery(to[1])),
        ] {
            let mut draft = gamma.draft(kind, &facts)?;
            if matches!(kind, Kind::Delivery(_)) {
                draft.original = Some(envelope.original()?);
            }
            sent.push((mailbox, gamma.send(alfa, &draft)?));
        }
        // Nothing answers a notification: nobody has more than these.
        let after = [&before[..2], &[("anna@alfa.example", 3), ("ricevute@alfa.example", 1)]].concat();
        let all = testbed.received_when(&after)?;
        for (mailbox, bytes) in &sent {
            let copies = all.iter().filter(|one| one.mailbox == *mailbox && one.bytes.ends_with(bytes)).count();
            assert_eq!(copies, 1, "unmodified in {mailbox}: {}", String::from_utf8_lossy(bytes));
        }
        let (known, timeline) = alfa.daemon()?.command(&["log", "show", &facts.id])?;
        assert!(known, "{timeline}");
        for event in ["received presa-in-carico", "received avvenuta-consegna", "received errore-consegna"] {
            let lines: Vec<_> = timeline.lines().filter(|line| line.contains(event)).collect();
            assert_eq!(lines.len(), 1, "{event} stands once in the log:\n{timeline}");
            assert!(lines[0].contains(&gamma.name), "{event} names its provider: {}", lines[0]);
        }
        testbed.judge(&all)
    });
}

/// The take-charges in gamma's service mailbox: their Message-ID and who they name.
fn take_charges(all: &[Received]) -> Result<Vec<(String, Vec<String>)>> {
    let taken = all.iter().filter(|one| one.mailbox == "ricevute@gamma.example");
    let mut found: Vec<_> = taken
        .map(|one| Ok((one.field("Message-ID").context("no Message-ID")?, one.certified("ricezione")?)))
        .collect::<Result<_>>()?;
    found.sort();
    found.dedup();
    Ok(found)
}

#[test]
fn transaction_take_charges_name_the_recipients_of_their_smtp_transaction() {
    plan().test(|testbed| {
        let gamma = gamma(testbed)?;
        let alfa = testbed.host("alfa")?;
        let together = gamma.facts("mario", &[BRUNO, CARLA], "insieme", "insieme");
        gamma.send(alfa, &gamma.draft(Kind::Envelope, &together)?)?;
        let all = testbed.received_when(&[
            (BRUNO, 1),
            (CARLA, 1),
            ("ricevute@gamma.example", 1),
            ("mario@gamma.example", 2),
        ])?;
        assert_eq!(take_charges(&all)?[0].1, [BRUNO, CARLA], "one SMTP transaction, one take-charge");
        testbed.judge(&all)?;

        let apart = gamma.facts("mario", &[BRUNO, CARLA], "separati", "separati");
        for recipient in [BRUNO, CARLA] {
            let mut draft = gamma.draft(Kind::Envelope, &apart)?;
            draft.forward_paths = vec![recipient.to_owned()];
            gamma.send(alfa, &draft)?;
        }
        let expected = [(BRUNO, 2), (CARLA, 2), ("ricevute@gamma.example", 3), ("mario@gamma.example", 4)];
        let all = testbed.received_when(&expected)?;
        let all: Vec<_> = all.into_iter().filter(|one| one.transaction().as_ref() == Some(&apart.id)).collect();
        let mut named: Vec<_> = take_charges(&all)?.into_iter().map(|(_, recipients)| recipients).collect();
        named.sort();
        assert_eq!(named, [[BRUNO], [CARLA]], "two SMTP transactions, two take-charges");
        testbed.judge(&all)
    });
}

#[test]
fn transaction_an_envelope_that_comes_again_is_not_certified_again() {
    plan().test(|testbed| {
        let gamma = gamma(testbed)?;
        let alfa: &Host = testbed.host("alfa")?;
        let facts = gamma.facts("mario", &[BRUNO, CARLA], "ancora", "ancora");
        let mut draft = gamma.draft(Kind::Envelope, &facts)?;
        draft.forward_paths = vec![BRUNO.to_owned()];
        gamma.send(alfa, &draft)?;
        let once = [(BRUNO, 1), ("ricevute@gamma.example", 1), ("mario@gamma.example", 1)];
        let first = testbed.received_when(&once)?;

        // Again for bruno, and now for carla too: she is served, he has what he had.
        draft.forward_paths = vec![BRUNO.to_owned(), CARLA.to_owned()];
        gamma.send(alfa, &draft)?;
        // The envelope is stored once for each; bruno's receipts are told again, carla's for the first time.
        let again = [(BRUNO, 1), (CARLA, 1), ("ricevute@gamma.example", 3), ("mario@gamma.example", 3)];
        let all = testbed.received_when(&again)?;

        let (_, timeline) = alfa.daemon()?.command(&["log", "show", &facts.id])?;
        let events = |name: &str, recipient: &str| {
            timeline.lines().filter(|line| line.contains(&format!(" {name} ")) && line.contains(recipient)).count()
        };
        for (event, recipient, expected) in [
            ("take-charge", BRUNO, 1),
            ("take-charge", CARLA, 1),
            ("delivery", BRUNO, 1),
            ("delivery", CARLA, 1),
            ("duplicate", BRUNO, 1),
            ("duplicate", CARLA, 0),
        ] {
            assert_eq!(events(event, recipient), expected, "{event} of {recipient} in the log:\n{timeline}");
        }
        // What is told again is told in the same octets.
        for earlier in first.iter().filter(|one| one.mailbox != BRUNO) {
            let id = earlier.field("Message-ID");
            let same: Vec<_> = all.iter().filter(|one| one.field("Message-ID") == id).collect();
            assert_eq!(same.len(), 2, "{} {id:?} is there twice", earlier.kind());
            for copy in same {
                assert_eq!(
                    copy.signed_part()?,
                    earlier.signed_part()?,
                    "{} {id:?} is the same receipt",
                    earlier.kind()
                );
            }
        }
        let named: Vec<_> = take_charges(&all)?.into_iter().map(|(_, recipients)| recipients.concat()).collect();
        assert_eq!(named.len(), 2, "each recipient is taken in charge once: {named:?}");
        testbed.judge(&all)
    });
}
