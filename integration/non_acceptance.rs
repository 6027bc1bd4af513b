//! A submission with a formal defect is taken in the dialogue and comes back as the signed notice that names it
//! (RFC 6109 §3.1.1, §3.1.2); the message itself goes nowhere.

use std::fmt::Display;

use anyhow::{Context, Result, ensure};
use pec_testbed::{Plan, Port, Testbed};

const ANNA: &str = "anna@alfa.example";
const BRUNO: &str = "bruno@beta.example";
const CARLA: &str = "carla@alfa.example";
const MARIO: &str = "mario@gamma.example";

/// A well-formed message to all three others; the tests spoil it.
const GOOD: &str = "From: Anna Rossi <anna@alfa.example>\r\nTo: Bruno <bruno@beta.example>\r\n\
    Cc: Carla <carla@alfa.example>, mario@gamma.example\r\nSubject: NAME\r\nMessage-ID: <NAME@client.example>\r\n\
    Date: Mon, 6 May 2024 10:00:00 +0200\r\nX-Mailer: Client\r\nMIME-Version: 1.0\r\n\r\nBuongiorno\r\n";

const UNNAMED_BRUNO: &str = "il destinatario bruno@beta.example non figura nei campi To e Cc";
const UNNAMED_CARLA: &str = "il destinatario carla@alfa.example non figura nei campi To e Cc";
const UNNAMED_MARIO: &str = "il destinatario mario@gamma.example non figura nei campi To e Cc";

const BROKEN_MIME: &str = "la struttura MIME del messaggio non e' conforme";
const BARE: &str = "il messaggio contiene fini riga non conformi (CR o LF isolati)";

fn plan(limits: &str) -> Plan {
    Plan::new(env!("CARGO_BIN_EXE_pec-milter"))
        .provider("alfa", &["anna", "carla"])
        .with_pec_milter(limits)
        .provider("beta", &["bruno"])
        .plain("gamma", &["mario"])
}

fn submit(testbed: &Testbed, to: &[&str], message: &str) -> Result<()> {
    let dialogue = testbed.host("alfa")?.submit("anna", Port::Submissions, ANNA, to, message.as_bytes())?;
    ensure!(dialogue.accepted(), "{dialogue}");
    Ok(())
}

/// Waits for the one notice about each of these messages and nothing else anywhere, and checks all of them.
fn notices_about(testbed: &Testbed, expected: &[(impl Display, String)]) -> Result<()> {
    let all = testbed.received_when(&[(ANNA, expected.len())])?;
    testbed.judge(&all)?;
    for (name, reason) in expected {
        let msgid = format!("<{name}@client.example>");
        let of_message: Vec<_> =
            all.iter().filter(|one| one.field("X-Riferimento-Message-ID").as_ref() == Some(&msgid)).collect();
        let [notice] = of_message.as_slice() else { panic!("{} notices about {name}", of_message.len()) };
        assert_eq!(notice.kind(), "non-accettazione", "{name}");
        assert_eq!(notice.certified("errore-esteso")?, std::slice::from_ref(reason), "{name}");
        let text = notice.text()?.replace('\n', " ");
        assert!(text.contains(&format!("a causa di {reason}.")), "{name}: the sender reads {text}");
        assert_eq!(notice.certified_attributes("postacert", "errore")?, ["altro"], "{name}");
        assert_eq!(notice.fields("Subject"), [format!("AVVISO DI NON ACCETTAZIONE: {name}")]);
        assert_eq!(notice.fields("From"), ["posta-certificata@alfa.example"]);
        assert_eq!(notice.fields("To"), [ANNA]);
        assert_eq!(notice.fields("Return-Path"), ["<posta-certificata@alfa.example>"]);
        assert_eq!(notice.fields("Date").len(), 1);
        for inherited in ["Cc", "Bcc", "X-Mailer", "Reply-To", "X-Long"] {
            assert_eq!(notice.field(inherited), None, "{name}: {inherited} was inherited");
        }
        let received = notice.fields("Received").concat();
        assert!(!received.contains("vecchio.example"), "{name}: Received was inherited: {received}");
        assert!(received.contains("Postfix"), "{name}: Postfix's own Received is gone: {received}");
        assert!(notice.attachment("postacert.eml").is_none(), "{name}: the original is in the notice");

        let timeline = testbed.host("alfa")?.daemon()?.command(&["log", "show", &msgid])?;
        assert!(timeline.0 && timeline.1.matches("non-acceptance").count() == 1, "{name}: {}", timeline.1);
        assert!(!timeline.1.contains("arrival"), "{name}: {}", timeline.1);
    }
    Ok(())
}

#[test]
fn outcome_every_formal_defect_is_answered_by_a_notice_that_names_it() {
    let (from, to, cc) =
        ("From: Anna Rossi <anna@alfa.example>", "To: Bruno <bruno@beta.example>", "Cc: Carla <carla@alfa.example>");
    let all_three = [BRUNO, CARLA, MARIO];
    let long_field = format!("X-Long: a{}\r\nMIME-Version", "\r\n aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa".repeat(1600));
    let very_long_field = long_field.repeat(2);
    let mime = "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n";
    // Name, what is replaced by what, and the reason.
    let cases: &[(&str, &str, &str, &str)] = &[
        ("no-from", from, "X-From: x", "manca il campo From"),
        ("malformed-from", from, "From: Anna Rossi", "il campo From non contiene un indirizzo valido"),
        ("empty-from", from, "From:", "il campo From non contiene un indirizzo valido"),
        (
            "several-authors",
            from,
            "From: anna@alfa.example, carla@alfa.example",
            "il campo From contiene diversi indirizzi",
        ),
        (
            "two-froms",
            from,
            &format!("{from}\r\n{from}"),
            "il campo From contiene diversi indirizzi; il campo From compare diverse volte",
        ),
        (
            "other-author",
            from,
            "From: \"anna@alfa.example\" <carla@alfa.example>",
            "l'indirizzo del campo From (carla@alfa.example) non coincide con il mittente (anna@alfa.example)",
        ),
        ("no-to", to, "X-To: x", &format!("manca il campo To; {UNNAMED_BRUNO}")),
        ("malformed-to", to, "To: Bruno", "il campo To non contiene indirizzi validi"),
        (
            "hidden-recipients",
            to,
            "To: undisclosed-recipients:;",
            &format!("il campo To non contiene indirizzi validi; {UNNAMED_BRUNO}"),
        ),
        ("malformed-cc", cc, "Cc: Carla", "il campo Cc non contiene indirizzi validi"),
        ("unnamed", &format!("{cc}, mario@gamma.example\r\n"), "", &format!("{UNNAMED_CARLA}; {UNNAMED_MARIO}")),
        (
            "bcc",
            "X-Mailer",
            "Bcc: altro@gamma.example\r\nX-Mailer",
            "il campo Bcc contiene destinatari in copia nascosta",
        ),
        ("nul", "Buongiorno", "a\0b", "il messaggio contiene caratteri nulli"),
        ("bare-cr", "Buongiorno", "Buon\rgiorno", BARE),
        ("bare-cr-at-the-end", "Buongiorno", "Buongiorno\r", BARE),
        ("bare-cr-in-the-header", "X-Mailer: Client", "X-Mailer: Cli\rent", BARE),
        ("bare-cr-at-a-fields-end", "X-Mailer: Client", "X-Mailer: Client\r", BARE),
        ("bare-cr-after-to", to, &format!("{to}\r"), &format!("il campo To non contiene indirizzi validi; {BARE}")),
        (
            "bare-cr-before-a-fold",
            &format!("{cc}, "),
            &format!("{cc},\r\r\n "),
            &format!("il campo Cc non contiene indirizzi validi; {BARE}"),
        ),
        ("bare-cr-in-received", "X-Mailer", "Received: from vecchio.example\r\r\n\tby altro.example\r\nX-Mailer", BARE),
        ("long-line", "Buongiorno", &"a".repeat(999), "il messaggio contiene righe di oltre 998 caratteri"),
        (
            "long-header",
            "MIME-Version",
            &long_field,
            "un campo dell'intestazione del messaggio supera la dimensione consentita",
        ),
        (
            "very-long-header",
            "MIME-Version",
            &very_long_field,
            "un campo dell'intestazione del messaggio supera la dimensione consentita",
        ),
        ("two-subjects", "X-Mailer", "SUBJECT: altro\r\nX-Mailer", "il campo Subject compare diverse volte"),
        (
            "two-ids",
            "X-Mailer",
            "Message-ID: <altro@client.example>\r\nX-Mailer",
            "il campo Message-ID compare diverse volte",
        ),
        (
            "two-dates",
            "X-Mailer",
            "Date: Mon, 6 May 2024 10:00:01 +0200\r\nX-Mailer",
            "il campo Date compare diverse volte",
        ),
        ("two-tos", "X-Mailer", "To: altro@beta.example\r\nX-Mailer", "il campo To compare diverse volte"),
        ("open-mime", "\r\nBuongiorno", mime, BROKEN_MIME),
        ("unbounded-mime", "\r\nBuongiorno", "Content-Type: multipart/mixed\r\n\r\nBuongiorno", BROKEN_MIME),
        ("empty-mime", "\r\nBuongiorno", "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b--", BROKEN_MIME),
        (
            "open-mime-inside",
            "\r\nBuongiorno",
            &format!(
                "{}a\r\n--b--",
                mime.replace("--b\r\n\r\n", &format!("--b\r\n{}", mime.replace("=b", "=c").replace("--b", "--c")))
            ),
            BROKEN_MIME,
        ),
        (
            "encoded-mime",
            "\r\nBuongiorno",
            &format!("Content-Transfer-Encoding: base64\r\n{mime}a\r\n--b--"),
            BROKEN_MIME,
        ),
    ];
    plan("").test(|testbed| {
        let mut expected = Vec::new();
        for (name, old, new, reason) in cases {
            assert!(GOOD.contains(old), "{name}: {old:?} is not there to be replaced");
            submit(testbed, &all_three, &GOOD.replacen(old, new, 1).replace("NAME", name))?;
            expected.push(((*name).to_owned(), (*reason).to_owned()));
        }
        // Every other field that may occur once.
        for field in [
            "Sender",
            "Reply-To",
            "Cc",
            "In-Reply-To",
            "References",
            "MIME-Version",
            "Content-Type",
            "Content-Transfer-Encoding",
        ] {
            let name = format!("two-{}", field.to_ascii_lowercase());
            let value = match field {
                "Sender" | "Reply-To" | "Cc" => "carla@alfa.example",
                "MIME-Version" => "1.0",
                "Content-Type" => "text/plain",
                "Content-Transfer-Encoding" => "7bit",
                _ => "<altro@client.example>",
            };
            let twice = format!("{field}: {value}\r\n{}: {value}\r\nX-Mailer", field.to_ascii_uppercase());
            submit(testbed, &all_three, &GOOD.replacen("X-Mailer", &twice, 1).replace("NAME", &name))?;
            expected.push((name, format!("il campo {field} compare diverse volte")));
        }
        // Several defects at once, all of them named; the sender is among the recipients, and has one notice as well.
        let spoilt = GOOD.replace("NAME", "several").replace("Cc: ", "Bcc: x@y.example\r\nBcc: ");
        submit(testbed, &[BRUNO, "ANNA@alfa.example", ANNA], &spoilt)?;
        let reason = "il destinatario ANNA@alfa.example non figura nei campi To e Cc; il campo Bcc contiene destinatari \
            in copia nascosta; il campo Bcc compare diverse volte";
        expected.push(("several".to_owned(), reason.to_owned()));
        notices_about(testbed, &expected)
    });
}

#[test]
fn outcome_limits_are_answered_by_a_notice_but_the_hard_one_in_the_dialogue() {
    let limits = "[limits]\nmessage_bytes = 31000000\nproduct_bytes = 30000000\nrecipients = 50\n";
    plan(limits).test(|testbed| {
        let many: Vec<String> = (0..51).map(|number| format!("u{number}@beta.example")).collect();
        let to = format!("To: {}", many.join(",\r\n "));
        let crowded = GOOD.replace("To: Bruno <bruno@beta.example>", &to).replace("NAME", "crowded");
        submit(testbed, &many.iter().map(String::as_str).collect::<Vec<_>>(), &crowded)?;
        let line = format!("{}\r\n", "0".repeat(98));
        let large = GOOD.replace("NAME", "large").replace("Buongiorno", &line.repeat(150_100));
        submit(testbed, &[BRUNO, CARLA], &large)?;
        let product = 2 * large.len();

        let huge = GOOD.replace("NAME", "huge").replace("Buongiorno", &line.repeat(310_000));
        let dialogue =
            testbed.host("alfa")?.submit("anna", Port::Submissions, ANNA, &[BRUNO], huge.as_bytes())?;
        assert_eq!(dialogue.code("message"), Some(552), "{dialogue}");

        let too_large = format!(
            "la dimensione del messaggio moltiplicata per i destinatari ({product} byte) supera il limite di 30000000 byte"
        );
        let too_many = "i destinatari sono 51, il massimo consentito e' 50".to_owned();
        notices_about(testbed, &[("crowded", too_many), ("large", too_large)])
    });
}

#[test]
fn outcome_a_header_that_is_too_large_is_answered_by_a_notice_and_too_many_fields_in_the_dialogue() {
    plan("").test(|testbed| {
        let alfa = testbed.host("alfa")?;
        let with =
            |name: &str, further: &str| GOOD.replace("NAME", name).replace("X-Mailer", &format!("{further}X-Mailer"));
        let field = |number: usize, lines: usize| {
            format!("X-Long: {number}{}\r\n", format!("\r\n {}", "a".repeat(98)).repeat(lines))
        };
        let fields = |count: usize, lines: usize| (0..count).map(|number| field(number, lines)).collect::<String>();
        // 1,2 MB; the sender's own fields stand behind.
        let large = GOOD.replace("NAME", "large").replacen(
            "From:",
            &format!("Message-ID: <large@client.example>\r\nSubject: large\r\n{}From:", fields(30, 400)),
            1,
        );
        let large = large.replacen("Subject: large\r\nMessage-ID: <large@client.example>\r\nDate", "Date", 1);
        submit(testbed, &[BRUNO, CARLA], &large)?;
        notices_about(
            testbed,
            &[("large", "l'intestazione del messaggio supera la dimensione consentita".to_owned())],
        )?;

        let crowded = with("crowded", &fields(2000, 0));
        let dialogue = alfa.submit("anna", Port::Submissions, ANNA, &[BRUNO], crowded.as_bytes())?;
        let refusal = dialogue.refusal().context("accepted")?;
        assert_eq!((refusal.command.as_str(), refusal.code), ("message", 550), "{dialogue}");
        assert!(refusal.text.starts_with("5.6.0 l'intestazione del messaggio"), "{dialogue}");
        let defective = with("many", &fields(1900, 0)).replacen("To: Bruno <bruno@beta.example>", "To: Bruno", 1);
        submit(testbed, &[CARLA], &defective)?;
        testbed.received_when(&[(ANNA, 2)]).map(drop)
    });
}

#[test]
fn outcome_a_refused_message_does_not_reach_what_an_alias_leads_to() {
    let alias = "virtual_alias_maps = inline:{ { ufficio@alfa.example = carla@alfa.example, bruno@beta.example } }\n";
    let plan = Plan::new(env!("CARGO_BIN_EXE_pec-milter"))
        .provider("alfa", &["anna", "carla"])
        .with_postfix(alias)
        .provider("beta", &["bruno"]);
    plan.test(|testbed| {
        submit(testbed, &["ufficio@alfa.example"], &GOOD.replace("NAME", "alias"))?;
        let reason = "il destinatario ufficio@alfa.example non figura nei campi To e Cc".to_owned();
        notices_about(testbed, &[("alias", reason)])
    });
}

#[test]
fn outcome_recipients_are_found_in_every_way_to_write_them() {
    let plan = Plan::new(env!("CARGO_BIN_EXE_pec-milter"))
        .provider("alfa", &["anna", "carla"])
        .provider("beta", &["bruno"])
        .plain("gamma", &["mario"])
        .plain("xn--perch-fsa", &["lucia"]);
    plan.test(|testbed| {
        let fields = "To: =?UTF-8?Q?Perch=C3=A9_Bruno?= (un (commento) \\) qui) <bruno@beta.example>,\r\n \
            amici: \"carla\"@alfa.example, =?iso-8859-1?Q?Mari=F2?= <mario@gamma.example>;\r\n\
            Cc: \"Lucia, l'altra\"\r\n\t<lucia (c) @ XN--PERCH-FSA.example>";
        let recipients = [BRUNO, "Carla@ALFA.example", MARIO, "lucia@xn--perch-fsa.example"];
        let to_and_cc = "To: Bruno <bruno@beta.example>\r\nCc: Carla <carla@alfa.example>, mario@gamma.example";
        submit(testbed, &recipients, &GOOD.replace(to_and_cc, fields).replace("NAME", "ascii"))?;
        let lucia = "lucia@xn--perch-fsa.example";
        let all = testbed.received_when(&[
            (ANNA, 3),
            (BRUNO, 1),
            (CARLA, 1),
            (MARIO, 1),
            (lucia, 1),
            ("ricevute@alfa.example", 2),
        ])?;
        testbed.judge(&all)?;

        // The spelling that people read, in octets above 127, means the same domain.
        let unicode = GOOD.replace(to_and_cc, "To: Lucia <lucia@perch\u{e9}.example>").replace("NAME", "unicode");
        submit(testbed, &[lucia], &unicode)?;
        let all = testbed.received_when(&[
            (ANNA, 4),
            (BRUNO, 1),
            (CARLA, 1),
            (MARIO, 1),
            (lucia, 2),
            ("ricevute@alfa.example", 2),
        ])?;
        assert!(all.iter().filter(|one| one.mailbox == ANNA).all(|one| !one.is("non-accettazione")));
        // The envelope inherits the field as it is, which the referee, who reads ASCII alone, does not take for an address.
        let is_unicode = |one: &&pec_testbed::Received| {
            one.field("X-Riferimento-Message-ID").is_some_and(|id| id == "<unicode@client.example>")
        };
        let mut kinds: Vec<String> = all.iter().filter(is_unicode).map(pec_testbed::Received::kind).collect();
        kinds.sort();
        assert_eq!(kinds, ["accettazione", "posta-certificata"]);
        testbed.judge(all.iter().filter(|one| is_unicode(one) && one.is("accettazione")))
    });
}

#[test]
fn outcome_a_local_part_that_needs_quotes_is_found_and_certified_with_them() {
    plan("").test(|testbed| {
        // Nobody has these addresses, so all ways of a recipient are gone: through beta, and through a report of Postfix.
        let nobody = ["\"mario, rossi\"@beta.example", "\"mario, rossi\"@altrove.example"];
        let to = "To: Bruno <bruno@beta.example>, amici: Mario <\"mario\\, rossi\"@beta.example>,\r\n \
            \"mario, rossi\" (qui) @altrove.example;";
        let message = GOOD.replace("To: Bruno <bruno@beta.example>", to).replace("NAME", "virgolette");
        submit(testbed, &[BRUNO, nobody[0], nobody[1]], &message)?;
        let all = testbed.received_when(&[(ANNA, 1 + 1 + 2), (BRUNO, 1), ("ricevute@alfa.example", 1)])?;
        testbed.judge(&all)?;
        for one in &all {
            assert_eq!(one.certified("destinatari")?, [BRUNO, nobody[0], nobody[1]]);
        }
        let mut refused = Vec::new();
        for notice in all.iter().filter(|one| one.is("errore-consegna")) {
            refused.push((notice.certified("consegna")?.concat(), notice.certified_attributes("postacert", "errore")?));
        }
        refused.sort();
        let expected = [(nobody[1], "no-dominio"), (nobody[0], "no-dest")];
        assert_eq!(refused, expected.map(|(to, error)| (to.to_owned(), vec![error.to_owned()])));
        Ok(())
    });
}

#[test]
fn outcome_a_subject_is_certified_whole_or_the_notice_says_that_it_is_too_long() {
    plan("").test(|testbed| {
        let subject =
            |words: usize| format!("Subject: NAME{}", "\r\n perch=C3=A9 abcdefghijklmnopqrstuvwxyz".repeat(words));
        let all_three = [BRUNO, CARLA, MARIO];
        let long = GOOD.replace("Subject: NAME", &subject(700)).replace("NAME", "lungo");
        submit(testbed, &all_three, &long)?;
        let counts = [(BRUNO, 1), (CARLA, 1), (MARIO, 1), ("ricevute@alfa.example", 2)];
        let all = testbed.received_when(&[&counts[..], &[(ANNA, 3)]].concat())?;
        testbed.judge(&all)?;
        let whole = format!("lungo{}", " perch=C3=A9 abcdefghijklmnopqrstuvwxyz".repeat(700));
        assert!(all.iter().all(|one| one.certified("oggetto").is_ok_and(|texts| texts == [whole.as_str()])));

        // One that an envelope could not carry with its prefix, and one that Postfix itself cuts.
        for (words, count) in [(1_200, 4), (3_000, 5)] {
            submit(testbed, &all_three, &GOOD.replace("Subject: NAME", &subject(words)).replace("NAME", "smisurato"))?;
            let all = testbed.received_when(&[&counts[..], &[(ANNA, count)]].concat())?;
            testbed.judge(&all)?;
            let notices: Vec<_> = all.iter().filter(|one| one.is("non-accettazione")).collect();
            assert_eq!(notices.len(), count - 3, "{words}");
            for notice in notices {
                let reason = "un campo dell'intestazione del messaggio supera la dimensione consentita";
                assert_eq!(notice.certified("errore-esteso")?, [reason]);
            }
        }
        Ok(())
    });
}

#[test]
fn outcome_what_postfix_mends_before_anybody_sees_it_is_certified_as_mended() {
    plan("").test(|testbed| {
        let all_three = [BRUNO, CARLA, MARIO];
        for (number, (name, old, spoilt, mended)) in (1..).zip([
            ("line-feed", "Buongiorno", "Buon\ngiorno", "Buon\r\ngiorno"),
            ("line-feed-in-the-header", "X-Mailer: Client", "X-Mailer: Client\n altro", "X-Mailer: Client\r\n altro"),
            ("nul-in-the-header", "X-Mailer: Client", "X-Mailer: Cli\0ent", "X-Mailer: Cli"),
            // What is no field ends the header.
            ("no-field", "X-Mailer: Client", "nessun campo", "\r\nnessun campo"),
        ]) {
            let message = GOOD.replace("NAME", name);
            submit(testbed, &all_three, &message.replace(old, spoilt))?;
            let all = testbed.received_when(&[
                (ANNA, 3 * number),
                (BRUNO, number),
                (CARLA, number),
                (MARIO, number),
                ("ricevute@alfa.example", 2 * number),
            ])?;
            testbed.judge(&all)?;
            let is_about = |one: &&pec_testbed::Received| one.field("Subject").is_some_and(|text| text.ends_with(name));
            for envelope in all.iter().filter(is_about).filter(|one| one.is("posta-certificata")) {
                envelope.carries(message.replace(old, mended).as_bytes())?;
            }
        }
        Ok(())
    });
}

#[test]
fn outcome_a_notice_is_recorded_once_however_often_it_comes() {
    plan("").test(|testbed| {
        submit(testbed, &[BRUNO], &GOOD.replace("To: Bruno", "To: Bruno, Carla").replace("NAME", "again"))?;
        let alfa = testbed.host("alfa")?;
        let notice = alfa.fetch_when("anna", 1)?.remove(0);
        let again = alfa.inject_as_peer("posta-certificata@alfa.example", &[ANNA], &notice)?;
        assert!(again.accepted(), "{again}");
        let all = testbed.received_when(&[(ANNA, 2)])?;
        assert!(all.iter().all(|one| one.is("non-accettazione")));
        testbed.judge(all.first())?;
        let (_, timeline) = alfa.daemon()?.command(&["log", "show", "<again@client.example>"])?;
        assert_eq!(timeline.matches("non-acceptance").count(), 1, "{timeline}");
        Ok(())
    });
}
