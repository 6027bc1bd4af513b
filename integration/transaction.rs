//! The certified transaction between users of two providers and an ordinary address (§2.2, §3).
//!
//! What each mailbox holds in the end, exactly, and what each message certifies. The shapes of originals are in
//! `messages`, what an administrator can set in `administration`.

use anyhow::{Context, Result, ensure};
use pec_testbed::sample::{SUBJECT, contract};
use pec_testbed::{Host, Plan, Port, Received, Testbed};

/// What a [`contract`] leaves in the mailboxes in the end.
const OF_ONE_CONTRACT: [(&str, usize); 5] = [
    ("anna@alfa.example", 3),
    ("carla@alfa.example", 1),
    ("ricevute@alfa.example", 2),
    ("bruno@beta.example", 1),
    ("mario@gamma.example", 1),
];

fn providers() -> Plan {
    Plan::new(env!("CARGO_BIN_EXE_pec-milter"))
        .provider("alfa", &["anna", "carla"])
        .provider("beta", &["bruno", "dario"])
        .plain("gamma", &["mario"])
}

/// A short message of anna's with these further header fields.
fn note(to: &str, fields: &str) -> Vec<u8> {
    format!("From: anna@alfa.example\r\nTo: {to}\r\n{fields}\r\nCiao\r\n").into_bytes()
}

/// Anna submits; anything but acceptance fails the test.
fn anna_sends(testbed: &Testbed, to: &[&str], message: &[u8]) -> Result<()> {
    let dialogue = testbed.host("alfa")?.submit("anna", Port::Submissions, "anna@alfa.example", to, message)?;
    ensure!(dialogue.accepted(), "expected anna's message for {to:?} to be accepted:\n{dialogue}");
    Ok(())
}

fn in_mailbox<'a>(all: &'a [Received], mailbox: &str, kind: &str) -> Vec<&'a Received> {
    all.iter().filter(|message| message.mailbox == mailbox && message.is(kind)).collect()
}

/// The one message of a kind in a mailbox.
fn the<'a>(all: &'a [Received], mailbox: &str, kind: &str) -> Result<&'a Received> {
    let found = in_mailbox(all, mailbox, kind);
    ensure!(found.len() == 1, "expected one {kind} in {mailbox}, found {}", found.len());
    found.first().copied().context("none")
}

/// Who the delivery receipts in a mailbox are about, in order, each with whether the original is attached.
fn receipts(all: &[Received], mailbox: &str) -> Result<Vec<(String, bool)>> {
    let mut about = Vec::new();
    for receipt in in_mailbox(all, mailbox, "avvenuta-consegna") {
        about.push((receipt.certified("consegna")?.concat(), receipt.attachment("postacert.eml").is_some()));
    }
    about.sort();
    Ok(about)
}

/// `kind recipient` of every line of a host's timeline, sorted.
fn timeline(host: &Host, id: &str) -> Result<Vec<String>> {
    let (found, text) = host.daemon()?.command(&["log", "show", id])?;
    ensure!(found, "expected {} to know {id}: {text}", host.site.domain);
    let entries = text.split_once("\n\n").context("no entries")?.1.lines();
    let described = |line: &str| {
        let words = line.split_whitespace().skip(3);
        words.take_while(|word| *word != "told" && !word.starts_with('[')).collect::<Vec<_>>().join(" ")
    };
    let mut lines: Vec<String> = entries.map(described).collect();
    lines.sort();
    Ok(lines)
}

#[test]
fn transaction_certifies_to_another_provider_to_own_users_and_to_ordinary_mail() {
    providers().test(|testbed| {
        let sent = contract();
        anna_sends(testbed, &["bruno@beta.example", "carla@alfa.example", "mario@gamma.example"], &sent)?;
        let all = testbed.received_when(&OF_ONE_CONTRACT)?;
        testbed.judge(&all)?;

        let acceptance = the(&all, "anna@alfa.example", "accettazione")?;
        let kinds = acceptance.certified("destinatari")?;
        assert_eq!(kinds, ["bruno@beta.example", "carla@alfa.example", "mario@gamma.example"]);
        let kinds = acceptance.certified_attributes("destinatari", "tipo")?;
        assert_eq!(kinds, ["certificato", "certificato", "esterno"], "who is certified is told in the acceptance");
        let text = acceptance.text()?;
        for (recipient, kind) in [
            ("bruno@beta.example", "posta certificata"),
            ("carla@alfa.example", "posta certificata"),
            ("mario@gamma.example", "posta ordinaria"),
        ] {
            let line = format!("{recipient} (\"{kind}\")");
            assert!(text.lines().any(|one| one == line), "the sender should read {line:?} in\n{text}");
        }
        assert_eq!(acceptance.certified("oggetto")?, [SUBJECT]);
        assert_eq!(acceptance.certified("msgid")?, ["<contratto.1@client.alfa.example>"]);
        assert_eq!(acceptance.field("X-Riferimento-Message-ID").as_deref(), Some("<contratto.1@client.alfa.example>"));

        let id = acceptance.transaction().context("no identificativo")?;
        for mailbox in ["bruno@beta.example", "carla@alfa.example", "mario@gamma.example"] {
            let envelope = the(&all, mailbox, "posta-certificata")?;
            envelope.carries(&sent)?;
            let field = |name| envelope.field(name).unwrap_or_default();
            assert_eq!(field("Message-ID"), format!("<{id}>"), "the PEC msgid names the envelope of {mailbox}");
            assert_eq!(field("From"), "\"Per conto di: anna@alfa.example\" <posta-certificata@alfa.example>");
            assert_eq!(field("To"), "Bruno Verdi <bruno@beta.example>");
            assert_eq!(field("Cc"), "carla@alfa.example, Mario Rossi <mario@gamma.example>".replace(", ", ",\t"));
            assert_eq!(field("Reply-To"), "anna@alfa.example");
            assert_eq!(field("X-TipoRicevuta"), "completa");
            assert_eq!(envelope.fields("Return-Receipt-To"), [""; 0], "nothing else is inherited");
            assert!(field("Return-Path").contains("anna@alfa.example"), "the reverse path is unchanged");
        }

        let expected = [("bruno@beta.example".to_owned(), true), ("carla@alfa.example".to_owned(), false)];
        assert_eq!(receipts(&all, "anna@alfa.example")?, expected, "To gives completa, Cc sintetica, mario none");
        for receipt in in_mailbox(&all, "anna@alfa.example", "avvenuta-consegna") {
            assert_eq!(receipt.certified_attributes("ricevuta", "tipo")?, ["completa"], "what was requested");
            if receipt.attachment("postacert.eml").is_some() {
                receipt.carries(&sent)?;
            }
        }

        let mut taken = Vec::new();
        for take_charge in in_mailbox(&all, "ricevute@alfa.example", "presa-in-carico") {
            taken.push((take_charge.certified("gestore-emittente")?.concat(), take_charge.certified("ricezione")?));
        }
        taken.sort();
        let own = ("Alfa PEC S.p.A.".to_owned(), vec!["carla@alfa.example".to_owned()]);
        let other = ("Beta PEC S.p.A.".to_owned(), vec!["bruno@beta.example".to_owned()]);
        assert_eq!(taken, [own, other], "each provider takes its own recipients in charge, once");
        Ok(())
    });
}

#[test]
fn transaction_is_told_by_the_timeline_of_both_providers() {
    providers().test(|testbed| {
        anna_sends(testbed, &["bruno@beta.example", "carla@alfa.example", "mario@gamma.example"], &contract())?;
        let all = testbed.received_when(&OF_ONE_CONTRACT)?;
        let id = the(&all, "bruno@beta.example", "posta-certificata")?.transaction().context("no identificativo")?;
        let (alfa, beta) = (testbed.host("alfa")?, testbed.host("beta")?);
        let at_alfa = [
            "acceptance",
            "arrival",
            "delivery carla@alfa.example",
            "received avvenuta-consegna bruno@beta.example",
            "received presa-in-carico",
            "take-charge carla@alfa.example",
        ];
        assert_eq!(timeline(alfa, &id)?, at_alfa);
        assert_eq!(timeline(alfa, "<contratto.1@client.alfa.example>")?, at_alfa, "the client's msgid finds it too");
        let at_beta = ["arrival", "delivery bruno@beta.example", "take-charge bruno@beta.example"];
        assert_eq!(timeline(beta, &id)?, at_beta);

        let (found, text) = beta.daemon()?.command(&["log", "show", "pec.0@alfa.example"])?;
        assert!(!found && text.contains("no entry"), "expected no timeline for an unknown msgid: {text}");
        Ok(())
    });
}

#[test]
fn transaction_inside_one_provider_and_to_oneself() {
    providers().test(|testbed| {
        let sent = note("anna@alfa.example", "Cc: carla@alfa.example\r\nSubject: a me\r\nMessage-ID: <1@client>\r\n");
        anna_sends(testbed, &["Anna@Alfa.Example", "carla@alfa.example"], &sent)?;
        let all = testbed.received_when(&[
            ("anna@alfa.example", 4),
            ("carla@alfa.example", 1),
            ("ricevute@alfa.example", 1),
        ])?;
        testbed.judge(&all)?;
        the(&all, "anna@alfa.example", "accettazione")?;
        the(&all, "anna@alfa.example", "posta-certificata")?.carries(&sent)?;
        the(&all, "carla@alfa.example", "posta-certificata")?.carries(&sent)?;
        let expected = [("Anna@Alfa.Example".to_owned(), true), ("carla@alfa.example".to_owned(), false)];
        assert_eq!(receipts(&all, "anna@alfa.example")?, expected, "the receipt names the address as anna wrote it");
        let take_charge = the(&all, "ricevute@alfa.example", "presa-in-carico")?;
        assert_eq!(take_charge.certified("ricezione")?, ["Anna@Alfa.Example", "carla@alfa.example"]);
        Ok(())
    });
}

#[test]
fn transaction_to_several_recipients_of_a_provider_has_one_take_charge_also_through_an_alias() {
    // The service mailbox of alfa is an alias: Postfix alone knows where it leads.
    let plan = Plan::new(env!("CARGO_BIN_EXE_pec-milter"))
        .provider("alfa", &["anna", "carla"])
        .without_mailbox("ricevute")
        .with_postfix("virtual_alias_maps = inline:{ { ricevute@alfa.example = carla@alfa.example } }")
        .provider("beta", &["bruno", "dario"]);
    plan.test(|testbed| {
        let sent = note("bruno@beta.example, dario@beta.example, anna@alfa.example", "Subject: a tutti\r\n");
        // A client may name a recipient twice.
        let to = ["bruno@beta.example", "dario@beta.example", "anna@alfa.example", "Bruno@BETA.example"];
        anna_sends(testbed, &to, &sent)?;
        let all = testbed.received_when(&[
            ("anna@alfa.example", 5),
            ("carla@alfa.example", 2),
            ("bruno@beta.example", 1),
            ("dario@beta.example", 1),
        ])?;
        testbed.judge(&all)?;
        let mut taken = Vec::new();
        for take_charge in in_mailbox(&all, "carla@alfa.example", "presa-in-carico") {
            let mut here = take_charge.certified("ricezione")?;
            here.sort();
            taken.push(here.join(" "));
        }
        taken.sort();
        assert_eq!(taken, ["anna@alfa.example", "bruno@beta.example dario@beta.example"], "one take-charge a provider");
        let about: Vec<_> = receipts(&all, "anna@alfa.example")?.into_iter().map(|(about, _)| about).collect();
        assert_eq!(about, ["anna@alfa.example", "bruno@beta.example", "dario@beta.example"]);
        Ok(())
    });
}

#[test]
fn transaction_to_an_alias_gives_one_receipt_that_names_what_the_sender_wrote() {
    let aliases = "virtual_alias_maps = inline:{ { ufficio@beta.example = bruno@beta.example }, \
        { tutti@beta.example = bruno@beta.example, dario@beta.example } }";
    let plan = Plan::new(env!("CARGO_BIN_EXE_pec-milter"))
        .provider("alfa", &["anna"])
        .provider("beta", &["bruno", "dario"])
        .with_postfix(aliases);
    plan.test(|testbed| {
        let aliases = ["Ufficio@beta.example", "tutti@beta.example"];
        for (number, alias) in aliases.into_iter().enumerate() {
            let sent = note(alias, &format!("Subject: {alias}\r\nMessage-ID: <{number}@client>\r\n"));
            anna_sends(testbed, &[alias], &sent)?;
        }
        let all = testbed.received_when(&[
            ("anna@alfa.example", 4),
            ("ricevute@alfa.example", 2),
            ("bruno@beta.example", 2),
            ("dario@beta.example", 1),
        ])?;
        testbed.judge(&all)?;
        let about: Vec<_> = receipts(&all, "anna@alfa.example")?.into_iter().map(|(about, _)| about).collect();
        assert_eq!(about, aliases, "one receipt an address, however many mailboxes stand behind it");
        let mut taken = Vec::new();
        for take_charge in in_mailbox(&all, "ricevute@alfa.example", "presa-in-carico") {
            taken.push(take_charge.certified("ricezione")?.join(" "));
        }
        taken.sort();
        assert_eq!(taken, aliases);
        let to_both = the(&all, "dario@beta.example", "posta-certificata")?.transaction().context("no id")?;
        let expected =
            ["arrival", "copy tutti@beta.example", "delivery tutti@beta.example", "take-charge tutti@beta.example"];
        assert_eq!(timeline(testbed.host("beta")?, &to_both)?, expected, "the log tells the further copy");
        Ok(())
    });
}

#[test]
fn transaction_to_an_alias_and_to_the_mailbox_behind_it_gives_a_receipt_for_each() {
    let plan = Plan::new(env!("CARGO_BIN_EXE_pec-milter"))
        .provider("alfa", &["anna"])
        .provider("beta", &["bruno"])
        .with_postfix("virtual_alias_maps = inline:{ { ufficio@beta.example = bruno@beta.example } }");
    plan.test(|testbed| {
        let sent = note("ufficio@beta.example, bruno@beta.example", "Subject: due volte\r\n");
        anna_sends(testbed, &["ufficio@beta.example", "bruno@beta.example"], &sent)?;
        let alfa = testbed.host("alfa")?;
        alfa.fetch_when("anna", 3)?;
        alfa.fetch_when("ricevute", 1)?;
        testbed.wait_for_empty_queues()?;
        let all = testbed.received()?;
        testbed.judge(&all)?;
        let about: Vec<_> = receipts(&all, "anna@alfa.example")?.into_iter().map(|(about, _)| about).collect();
        assert_eq!(about, ["bruno@beta.example", "ufficio@beta.example"], "both are recipients, and both were served");
        let mut taken = the(&all, "ricevute@alfa.example", "presa-in-carico")?.certified("ricezione")?;
        taken.sort();
        assert_eq!(taken, ["bruno@beta.example", "ufficio@beta.example"]);
        assert!(!in_mailbox(&all, "bruno@beta.example", "posta-certificata").is_empty());
        Ok(())
    });
}

#[test]
fn transaction_that_a_mailbox_refuses_ends_with_a_notice_and_never_with_a_bounce() {
    // One message fills a mailbox of beta.
    let quota = "mail_plugins = quota\nplugin {\n  quota = maildir:casella\n  quota_rule = *:messages=1\n}\n";
    let plan = Plan::new(env!("CARGO_BIN_EXE_pec-milter"))
        .provider("alfa", &["anna", "carla"])
        .provider("beta", &["bruno", "dario"])
        .with_dovecot(quota);
    plan.test(|testbed| {
        anna_sends(testbed, &["bruno@beta.example"], &note("bruno@beta.example", "Subject: la prima\r\n"))?;
        testbed.host("alfa")?.fetch_when("anna", 2)?;
        let to = ["bruno@beta.example", "dario@beta.example", "nessuno@beta.example", "ignoto@alfa.example"];
        anna_sends(testbed, &to, &note(&to.join(", "), "Subject: la seconda\r\n"))?;
        let all = testbed.received_when(&[
            ("anna@alfa.example", 2 + 5),
            ("ricevute@alfa.example", 3),
            ("bruno@beta.example", 1),
            ("dario@beta.example", 1),
        ])?;
        testbed.judge(&all)?;

        let mut failures = Vec::new();
        for notice in in_mailbox(&all, "anna@alfa.example", "errore-consegna") {
            let (about, reason) = (notice.certified("consegna")?.concat(), notice.certified("errore-esteso")?.concat());
            failures.push((about, notice.certified_attributes("postacert", "errore")?.concat(), reason));
        }
        failures.sort();
        let expected = [
            ("bruno@beta.example", "altro", "5.2.2 - Beta PEC S.p.A. - casella piena"),
            ("ignoto@alfa.example", "no-dest", "5.1.1 - Alfa PEC S.p.A. - indirizzo non valido"),
            ("nessuno@beta.example", "no-dest", "5.1.1 - Beta PEC S.p.A. - indirizzo non valido"),
        ];
        assert_eq!(failures, expected.map(|(about, error, reason)| (about.into(), error.into(), reason.into())));
        let delivered: Vec<_> = receipts(&all, "anna@alfa.example")?.into_iter().map(|(about, _)| about).collect();
        assert_eq!(delivered, ["bruno@beta.example", "dario@beta.example"], "the first to bruno, the second to dario");
        let id = the(&all, "dario@beta.example", "posta-certificata")?.transaction().context("no identificativo")?;
        let mut taken = Vec::new();
        for take_charge in all.iter().filter(|one| one.is("presa-in-carico") && one.transaction().as_ref() == Some(&id))
        {
            taken.extend(take_charge.certified("ricezione")?);
        }
        taken.sort();
        assert_eq!(taken, ["bruno@beta.example", "dario@beta.example", "ignoto@alfa.example", "nessuno@beta.example"]);
        let expected = [
            "arrival",
            "delivery dario@beta.example",
            "non-delivery bruno@beta.example",
            "non-delivery nessuno@beta.example",
            "take-charge bruno@beta.example",
            "take-charge dario@beta.example",
            "take-charge nessuno@beta.example",
        ];
        assert_eq!(timeline(testbed.host("beta")?, &id)?, expected);
        Ok(())
    });
}

/// What an unusual header must lead to.
struct Header {
    fields: &'static str,
    subject: &'static [&'static str],
    msgid: &'static [&'static str],
    replies: &'static str,
    requested: &'static str,
}

impl Header {
    const USUAL: Header =
        Header { fields: "", subject: &[], msgid: &[], replies: "anna@alfa.example", requested: "completa" };
}

const HEADERS: [Header; 12] = [
    Header { fields: "Subject: senza identificativo\r\n", subject: &["senza identificativo"], ..Header::USUAL },
    Header { fields: "Message-ID: <senza-oggetto@client>\r\n", msgid: &["<senza-oggetto@client>"], ..Header::USUAL },
    Header { fields: "Subject:\r\n", subject: &[""], ..Header::USUAL },
    Header { fields: "Subject:   \r\n", subject: &[""], ..Header::USUAL },
    Header {
        fields: "Subject: un oggetto lungo\r\n che continua\r\n\tancora \r\nmessage-ID:\r\n <piegato@client>\r\n",
        subject: &["un oggetto lungo che continua ancora"],
        msgid: &["<piegato@client>"],
        ..Header::USUAL
    },
    Header {
        fields: "Subject: =?iso-8859-1?Q?perch=E9_=22s=EC=22?= & <b>\r\n =?UTF-8?B?4oKs?=\r\n =?utf-8?q?_uro?=\r\n",
        subject: &["perché \"sì\" & <b> € uro"],
        ..Header::USUAL
    },
    Header {
        fields: "Subject: Re: POSTA CERTIFICATA: =?windows-1252?Q?=80?= =?x-unknown?Q?=FF?=\r\n",
        subject: &["Re: POSTA CERTIFICATA: =?windows-1252?Q?=80?= =?x-unknown?Q?=FF?="],
        ..Header::USUAL
    },
    Header {
        fields: "Reply-To: \"Ufficio, protocollo\" <protocollo@altrove.example>\r\nSubject: x\r\n",
        subject: &["x"],
        replies: "protocollo@altrove.example",
        ..Header::USUAL
    },
    Header { fields: "x-tiporicevuta:  SinteTica \r\n", requested: "sintetica", ..Header::USUAL },
    Header { fields: "X-TipoRicevuta: un giorno\r\n", ..Header::USUAL },
    Header {
        fields: "X-Ricevuta: accettazione\r\nX-Trasporto: posta-certificata\r\nSender: carla@alfa.example\r\n\
            X-Riferimento-Message-ID: <falso@client>\r\nMessage-ID: <vero@client>\r\n",
        msgid: &["<vero@client>"],
        ..Header::USUAL
    },
    Header { fields: "Message-ID: nonsense\r\n", ..Header::USUAL },
];

#[test]
fn transaction_certifies_what_the_header_says() {
    providers().test(|testbed| {
        for (number, header) in HEADERS.iter().enumerate() {
            let sent = note("bruno@beta.example", &format!("{}X-Case: {number}.\r\n", header.fields));
            anna_sends(testbed, &["bruno@beta.example"], &sent)?;
        }
        let count = HEADERS.len();
        let all = testbed.received_when(&[
            ("anna@alfa.example", 2 * count),
            ("ricevute@alfa.example", count),
            ("bruno@beta.example", count),
        ])?;
        testbed.judge(&all)?;
        for (number, header) in HEADERS.iter().enumerate() {
            let mark = format!("X-Case: {number}.\r\n");
            let is_it = |envelope: &&&Received| {
                envelope.original().is_ok_and(|original| String::from_utf8_lossy(&original).contains(&mark))
            };
            let envelopes = in_mailbox(&all, "bruno@beta.example", "posta-certificata");
            let envelope = envelopes.iter().find(is_it).with_context(|| format!("no envelope of case {number}"))?;
            let id = envelope.transaction().context("no identificativo")?;
            let about = format!("case {number}: {:?}", header.fields);
            for message in all.iter().filter(|message| message.transaction().as_ref() == Some(&id)) {
                let about = format!("{about} in the {}", message.kind());
                assert_eq!(message.certified("oggetto")?, header.subject, "{about}");
                assert_eq!(message.certified("msgid")?, header.msgid, "{about}");
                assert_eq!(message.certified("risposte")?, [header.replies], "{about}");
                if !message.is("posta-certificata") {
                    let reference = header.msgid.first().map_or_else(|| format!("<{id}>"), |&msgid| msgid.to_owned());
                    assert_eq!(message.fields("X-Riferimento-Message-ID"), [reference], "{about}");
                }
                if message.is("avvenuta-consegna") {
                    assert_eq!(message.certified_attributes("ricevuta", "tipo")?, [header.requested], "{about}");
                    assert_eq!(
                        message.attachment("postacert.eml").is_some(),
                        header.requested == "completa",
                        "{about}"
                    );
                }
            }
            assert_eq!(envelope.fields("X-Riferimento-Message-ID"), header.msgid, "{about}");
            assert_eq!(envelope.field("X-TipoRicevuta").as_deref(), Some(header.requested), "{about}");
            assert_eq!(envelope.fields("Sender"), [""; 0], "{about}");
        }
        Ok(())
    });
}
