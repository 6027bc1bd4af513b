//! A submission with a formal defect is taken in the dialogue and comes back as the signed notice that names it
//! (RFC 6109 §3.1.1, §3.1.2); the message itself goes nowhere.

use anyhow::{Result, ensure};
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
fn notices_about(testbed: &Testbed, expected: &[(&str, String)]) -> Result<()> {
    let all = testbed.received_when(&[(ANNA, expected.len())])?;
    testbed.judge(&all)?;
    for (name, reason) in expected {
        let msgid = format!("<{name}@client.example>");
        let of_message: Vec<_> =
            all.iter().filter(|one| one.field("X-Riferimento-Message-ID").as_ref() == Some(&msgid)).collect();
        let [notice] = of_message.as_slice() else { panic!("{} notices about {name}", of_message.len()) };
        assert_eq!(notice.kind(), "non-accettazione", "{name}");
        assert_eq!(notice.certified("errore-esteso")?, std::slice::from_ref(reason), "{name}");
        assert_eq!(notice.certified_attributes("postacert", "errore")?, ["altro"], "{name}");
        assert_eq!(notice.fields("Subject"), [format!("AVVISO DI NON ACCETTAZIONE: {name}")]);
        assert_eq!(notice.fields("From"), ["posta-certificata@alfa.example"]);
        assert_eq!(notice.fields("To"), [ANNA]);
        assert_eq!(notice.fields("Return-Path"), ["<posta-certificata@alfa.example>"]);
        assert_eq!(notice.fields("Date").len(), 1);
        for inherited in ["Cc", "Bcc", "X-Mailer", "Reply-To", "X-Long"] {
            assert_eq!(notice.field(inherited), None, "{name}: {inherited} was inherited");
        }
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
        ("open-mime", "\r\nBuongiorno", mime, "la struttura MIME del messaggio non e' conforme"),
        (
            "encoded-mime",
            "\r\nBuongiorno",
            &format!("Content-Transfer-Encoding: base64\r\n{mime}a\r\n--b--"),
            "la struttura MIME del messaggio non e' conforme",
        ),
    ];
    plan("").test(|testbed| {
        let mut expected = Vec::new();
        for (name, old, new, reason) in cases {
            assert!(GOOD.contains(old), "{name}: {old:?} is not there to be replaced");
            submit(testbed, &all_three, &GOOD.replacen(old, new, 1).replace("NAME", name))?;
            expected.push((*name, (*reason).to_owned()));
        }
        // Several defects at once, all of them named; the sender is among the recipients, and has one notice as well.
        let spoilt = GOOD.replace("NAME", "several").replace("Cc: ", "Bcc: x@y.example\r\nBcc: ");
        submit(testbed, &[BRUNO, "ANNA@alfa.example", ANNA], &spoilt)?;
        let reason = "il destinatario ANNA@alfa.example non figura nei campi To e Cc; il campo Bcc contiene destinatari \
            in copia nascosta; il campo Bcc compare diverse volte";
        expected.push(("several", reason.to_owned()));
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
        let (_, timeline) = alfa.daemon()?.command(&["log", "show", "<again@client.example>"])?;
        assert_eq!(timeline.matches("non-acceptance").count(), 1, "{timeline}");
        Ok(())
    });
}
