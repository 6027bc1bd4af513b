//! Originals of every shape travel unaltered, or are refused with the names of the checks they fail (§2.1, §3.1.1).
//!
//! Anna at alfa writes, Bruno at beta reads; size, octets, structure and the number of recipients vary.

use std::fmt::Write;
use std::fs;

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pec_testbed::pki::Request;
use pec_testbed::referee::openssl_cms_verify;
use pec_testbed::{Dialogue, Plan, Port, Testbed};

/// The longest line of RFC 5322 §2.1.1, without its line end.
const LONGEST_LINE: usize = 998;

fn providers() -> Plan {
    Plan::new(env!("CARGO_BIN_EXE_pec-milter")).provider("alfa", &["anna"]).provider("beta", &["bruno"])
}

fn anna_says(testbed: &Testbed, to: &[&str], message: &[u8]) -> Result<Dialogue> {
    testbed.host("alfa")?.submit("anna", Port::Submissions, "anna@alfa.example", to, message)
}

/// A message for bruno: the usual header, these fields, this body.
fn message(fields: &str, body: &[u8]) -> Vec<u8> {
    let header = format!("From: anna@alfa.example\r\nTo: bruno@beta.example\r\nSubject: forma\r\n{fields}\r\n");
    [header.as_bytes(), body].concat()
}

fn text(octets: usize) -> Vec<u8> {
    b"0123456789abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ .,-\r\n"
        .iter()
        .copied()
        .cycle()
        .take(octets)
        .collect()
}

/// Originals with the words under which a failure tells them.
fn shapes() -> Vec<(&'static str, Vec<u8>)> {
    let mut latin1: Vec<u8> = (0x80..=0xff).collect();
    latin1.extend(b"\r\n");
    let longest = |byte| [vec![byte; LONGEST_LINE], b"\r\n".to_vec()].concat();
    let mime = "MIME-Version: 1.0\r\nContent-Type: ";
    vec![
        ("an 8-bit body", message(&format!("{mime}text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n"), "Perché € è così\r\n".as_bytes())),
        ("every octet above 127", message("", &latin1)),
        ("lines of 998 octets", message("", &[longest(b'x'), longest(b'.'), longest(0xe8)].concat())),
        ("a header line of 998 octets", message(&format!("X-Long: {}\r\n", "y".repeat(LONGEST_LINE - 8)), b"x\r\n")),
        ("lines of dots", message("", b".\r\n..\r\n...\r\n.x\r\n\r\n.\r\n")),
        ("no line end at the end", message("", b"una riga\r\nultima riga")),
        ("blank lines at the end", message("", b"una riga\r\n \r\n\t\r\n\r\n\r\n")),
        ("an empty body", message("", b"")),
        ("a body of one blank line", message("", b"\r\n")),
        ("a header and nothing else", b"From: anna@alfa.example\r\nTo: bruno@beta.example\r\n".to_vec()),
        ("control characters", message("", b"a\x01\x07\x08\x0b\x0c\x1b\x7fb\r\n")),
        ("blanks and odd case in the header", message("X-BLANKS:    two  blanks  \r\nx-tab:\tvalue\t\r\nX-Fold:\r\n one\r\n\t two\r\nX-Empty:\r\n", b"x\r\n")),
        ("many fields of one name", message(&"X-Same: value\r\n".repeat(300), b"x\r\n")),
        ("a header of 120 000 octets", message(&format!("X-Same: {}\r\n", "z".repeat(90)).repeat(1_200), b"x\r\n")),
        ("the words of boundaries", message("", b"--\r\n--x--\r\n--pec-m-\r\nFrom anna\r\n>From bruno\r\n")),
        (
            "nested multiparts",
            message(
                &format!("{mime}multipart/mixed; boundary=a\r\n"),
                b"preamble\r\n--a\r\nContent-Type: multipart/alternative;\r\n boundary=\"a b\"\r\n\r\n--a b\r\n\r\nx\r\n--a b\r\n\
                Content-Type: multipart/related; boundary=aa\r\n\r\n--aa\r\nContent-Type: text/html\r\n\r\n<p>\r\n--aa--\r\n\
                --a b--\r\n--a\r\nContent-Type: message/rfc822\r\n\r\nSubject: inner\r\n\r\ninner\r\n--a--\r\nepilogue",
            ),
        ),
    ]
}

#[test]
fn transaction_carries_originals_of_every_shape_unaltered() {
    providers().test(|testbed| {
        let shapes = shapes();
        for (number, (name, sent)) in (1..).zip(&shapes) {
            let dialogue = anna_says(testbed, &["bruno@beta.example"], sent)?;
            ensure!(dialogue.accepted(), "expected {name} to be accepted:\n{dialogue}");
            // One after the other, so that they lie in the mailbox in this order.
            testbed.host("beta")?.fetch_when("bruno", number)?;
        }
        let count = shapes.len();
        let all = testbed.received_when(&[
            ("anna@alfa.example", 2 * count),
            ("ricevute@alfa.example", count),
            ("bruno@beta.example", count),
        ])?;
        testbed.judge(&all)?;
        let envelopes: Vec<_> = all.iter().filter(|message| message.is("posta-certificata")).collect();
        for ((name, sent), envelope) in shapes.iter().zip(envelopes) {
            envelope.carries(&as_transmitted(sent)).with_context(|| (*name).to_owned())?;
            let receipt = all
                .iter()
                .find(|receipt| receipt.is("avvenuta-consegna") && receipt.transaction() == envelope.transaction());
            let receipt = receipt.with_context(|| format!("no delivery receipt for {name}"))?;
            receipt.carries(&as_transmitted(sent)).with_context(|| format!("{name} in its receipt"))?;
        }
        Ok(())
    });
}

/// SMTP transmits whole lines, and a header ends with a blank one when there is no body.
fn as_transmitted(sent: &[u8]) -> Vec<u8> {
    let mut transmitted = sent.to_vec();
    if !transmitted.ends_with(b"\r\n") {
        transmitted.extend(b"\r\n");
    }
    if !String::from_utf8_lossy(&transmitted).contains("\r\n\r\n") {
        transmitted.extend(b"\r\n");
    }
    transmitted
}

#[test]
fn transaction_carries_thirty_megabytes() {
    providers().test(|testbed| {
        let attachment = STANDARD.encode(text(22_500_000));
        let mut body = String::with_capacity(31_500_000);
        body.push_str(
            "--p\r\n\r\nin allegato\r\n--p\r\nContent-Type: application/octet-stream; name=\"dati.bin\"\r\n\
            Content-Transfer-Encoding: base64\r\n\r\n",
        );
        for line in attachment.as_bytes().chunks(76) {
            body.push_str(&String::from_utf8_lossy(line));
            body.push_str("\r\n");
        }
        body.push_str("--p--\r\n");
        let sent = message("MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=p\r\n", body.as_bytes());
        ensure!(sent.len() > 30_000_000, "the message has only {} octets", sent.len());

        let dialogue = anna_says(testbed, &["bruno@beta.example"], &sent)?;
        ensure!(dialogue.accepted(), "expected 30 MB to be accepted:\n{dialogue}");
        let all = testbed.received_when(&[
            ("anna@alfa.example", 2),
            ("ricevute@alfa.example", 1),
            ("bruno@beta.example", 1),
        ])?;
        let mut carriers = 0;
        for carrier in all.iter().filter(|message| message.attachment("postacert.eml").is_some()) {
            carrier.carries(&sent)?;
            carriers += 1;
        }
        assert_eq!(carriers, 2, "the envelope and the complete receipt carry the original");
        testbed.judge(&all)?;
        for name in ["alfa", "beta"] {
            let peak = testbed.host(name)?.daemon()?.peak_memory()?;
            println!("peak memory of pec-milter at {name} for {} octets: {} MiB", sent.len(), peak >> 20);
            // The message once, and room for the rest: what is wrapped or forwarded is not copied.
            let most = 2 * sent.len() as u64 + (40 << 20);
            assert!(peak < most, "pec-milter at {name} took {peak} octets, expected less than {most}");
        }
        Ok(())
    });
}

#[test]
fn transaction_to_two_hundred_recipients_gives_each_its_receipt() {
    let users: Vec<String> = (1..=200).map(|number| format!("utente{number:03}")).collect();
    let (at_alfa, at_beta) = users.split_at(130);
    let named = |users: &[String]| users.iter().map(String::as_str).collect::<Vec<_>>().join(" ");
    let (alfa_users, beta_users) = (format!("anna {}", named(at_alfa)), named(at_beta));
    let plan = Plan::new(env!("CARGO_BIN_EXE_pec-milter"))
        .provider("alfa", &alfa_users.split(' ').collect::<Vec<_>>())
        .provider("beta", &beta_users.split(' ').collect::<Vec<_>>());
    plan.test(|testbed| {
        let at = |users: &[String], domain| users.iter().map(|user| format!("{user}@{domain}")).collect::<Vec<_>>();
        let recipients = [at(at_alfa, "alfa.example"), at(at_beta, "beta.example")].concat();
        let to: Vec<&str> = recipients.iter().map(String::as_str).collect();
        let sent = format!("From: anna@alfa.example\r\nTo: {}\r\nSubject: a tutti\r\n\r\nCiao\r\n", to.join(",\r\n "));
        let dialogue = anna_says(testbed, &to, sent.as_bytes())?;
        ensure!(dialogue.accepted(), "expected 200 recipients to be accepted:\n{dialogue}");
        // Postfix hands another host at most 50 recipients at once, and each SMTP transaction has its take-charge.
        let mut expected = vec![("anna@alfa.example", 201), ("ricevute@alfa.example", 1 + 2)];
        expected.extend(to.iter().map(|&mailbox| (mailbox, 1)));
        let all = testbed.received_when(&expected)?;

        let of_kind = |kind: &'static str| all.iter().filter(move |message| message.is(kind));
        let mut about = Vec::new();
        for receipt in of_kind("avvenuta-consegna") {
            about.extend(receipt.certified("consegna")?);
        }
        about.sort();
        assert_eq!(about, recipients, "one delivery receipt for each, and no second");
        let mut taken = Vec::new();
        for take_charge in of_kind("presa-in-carico") {
            taken.push(take_charge.certified("ricezione")?);
        }
        taken.sort();
        assert_eq!(taken[0], at(at_alfa, "alfa.example"), "alfa takes all of its recipients in charge at once");
        let mut named = taken.concat();
        named.sort();
        assert_eq!(named, recipients, "each recipient is taken in charge once");
        let acceptance = of_kind("accettazione").next().context("no acceptance")?;
        assert_eq!(acceptance.certified("destinatari")?, recipients);

        // All envelopes are one message, so that one stands for all before the referee.
        let mut envelopes = of_kind("posta-certificata");
        let first = envelopes.next().context("no envelope")?;
        for envelope in envelopes {
            let mailbox = &envelope.mailbox;
            assert_eq!(envelope.signed_part()?, first.signed_part()?, "{mailbox} has another message");
        }
        testbed.judge(all.iter().filter(|message| !message.is("posta-certificata")).chain([first]))
    });
}

#[test]
fn transaction_carries_certified_and_signed_messages_as_originals() {
    providers().test(|testbed| {
        let beta = testbed.host("beta")?;
        let accepted = |message: &[u8]| -> Result<()> {
            let dialogue = anna_says(testbed, &["bruno@beta.example"], message)?;
            ensure!(dialogue.accepted(), "expected the message to be accepted:\n{dialogue}");
            Ok(())
        };
        // The first original is an S/MIME message of anna's own.
        let identity = testbed.pki.issue(&Request::provider("anna", "Anna Bianchi", "anna@alfa.example"))?;
        let signed = testbed.pki.sign(&identity, b"Content-Type: text/plain\r\n\r\nfirmato da anna\r\n")?;
        let signed = message(&signed.0, &signed.1);
        accepted(&signed)?;
        let first = beta.fetch_when("bruno", 1)?.concat();

        // The second carries the whole first envelope, the third is that envelope again under anna's name.
        let wrapped =
            [b"--w\r\nContent-Type: message/rfc822\r\n\r\n".to_vec(), first.clone(), b"--w--\r\n".to_vec()].concat();
        let forwarded = message("MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=w\r\n", &wrapped);
        accepted(&forwarded)?;
        beta.fetch_when("bruno", 2)?;
        let again = resent(&first)?;
        accepted(&again)?;
        let all = testbed.received_when(&[
            ("anna@alfa.example", 6),
            ("ricevute@alfa.example", 3),
            ("bruno@beta.example", 3),
        ])?;
        testbed.judge(&all)?;
        let envelopes: Vec<_> = all.iter().filter(|message| message.is("posta-certificata")).collect();
        for (envelope, sent) in envelopes.iter().zip([&signed, &forwarded, &again]) {
            envelope.carries(sent)?;
        }
        // The signature inside holds for whoever opens the original.
        for envelope in [envelopes[0], envelopes[2]] {
            let file = testbed.folder().join("original.eml");
            fs::write(&file, envelope.original()?)?;
            openssl_cms_verify(&file, &testbed.pki.root())?;
        }
        Ok(())
    });
}

/// An envelope as an original: anna's own address is in From, everything else stays.
fn resent(envelope: &[u8]) -> Result<Vec<u8>> {
    let text = String::from_utf8(envelope.to_vec())?;
    let (header, body) = text.split_once("\r\n\r\n").context("no body")?;
    let unfolded = header.replace("\r\n ", " ").replace("\r\n\t", " ");
    let mut kept = String::new();
    for line in unfolded.lines() {
        let name = line.split(':').next().unwrap_or_default();
        match name {
            "From" => kept.push_str("From: anna@alfa.example\r\n"),
            "X-Riferimento-Message-ID" => {}
            _ => writeln!(kept, "{line}\r")?,
        }
    }
    Ok(format!("{kept}\r\n{body}").into_bytes())
}

#[test]
fn transaction_refuses_formal_defects_and_names_the_checks() {
    providers().test(|testbed| {
        let usual = "From: anna@alfa.example\r\nTo: bruno@beta.example\r\n";
        let long = |length| message("", &[vec![b'x'; length], b"\r\n".to_vec()].concat());
        let cases: Vec<(Vec<u8>, Vec<&str>)> = vec![
            (b"To: bruno@beta.example\r\n\r\nx\r\n".to_vec(), vec!["manca il campo From"]),
            (
                b"From: anna@alfa.example\r\n\r\nx\r\n".to_vec(),
                vec!["manca il campo To", "bruno@beta.example non figura"],
            ),
            (b"Subject: x\r\n\r\nx\r\n".to_vec(), vec!["manca il campo From", "manca il campo To"]),
            (b"\r\nsolo testo\r\n".to_vec(), vec!["manca il campo From", "manca il campo To"]),
            (format!("{usual}Bcc: segreto@beta.example\r\n\r\nx\r\n").into_bytes(), vec!["il campo Bcc"]),
            (
                b"From: anna@alfa.example\r\nTo: altro@beta.example\r\n\r\nx\r\n".to_vec(),
                vec!["il destinatario bruno@beta.example non figura nei campi To e Cc"],
            ),
            (format!("{usual}Subject: a\r\nSubject: b\r\n\r\nx\r\n").into_bytes(), vec!["il campo Subject compare"]),
            (long(LONGEST_LINE + 1), vec!["oltre 998 caratteri"]),
            (message(&format!("X-Long: {}\r\n", "y".repeat(LONGEST_LINE)), b"x\r\n"), vec!["oltre 998 caratteri"]),
            (message("", b"a\x00b\r\n"), vec!["caratteri nulli"]),
            (
                message("MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=none\r\n", b"x\r\n"),
                vec!["la struttura MIME"],
            ),
            (
                message(&format!("X-Large: {}\r\n", "z z\r\n ".repeat(15_000)), b"x\r\n"),
                vec!["un campo dell'intestazione"],
            ),
        ];
        for (number, (sent, named)) in (1..).zip(cases) {
            let dialogue = anna_says(testbed, &["bruno@beta.example"], &sent)?;
            let shown = String::from_utf8_lossy(&sent[..sent.len().min(200)]).into_owned();
            assert!(dialogue.accepted(), "{shown:?}: {dialogue}");
            let all = testbed.received_when(&[("anna@alfa.example", number)])?;
            let notice = all.last().context("the notice is missing")?;
            assert_eq!(notice.kind(), "non-accettazione", "{shown:?}");
            let reason = notice.certified("errore-esteso")?.concat();
            for name in named {
                assert!(reason.contains(name), "expected {name:?} in the notice about {shown:?}: {reason}");
            }
        }
        testbed.judge(&testbed.received()?)
    });
}

#[test]
fn transaction_refuses_a_message_over_the_limit() {
    let plan = Plan::new(env!("CARGO_BIN_EXE_pec-milter"))
        .provider("alfa", &["anna"])
        .with_pec_milter("[limits]\nmessage_bytes = 30000000\nproduct_bytes = 50000000\n")
        .provider("beta", &["bruno", "dario"]);
    plan.test(|testbed| {
        let too_large = message("", &text(30_000_000));
        let dialogue = anna_says(testbed, &["bruno@beta.example"], &too_large)?;
        let refusal = dialogue.refusal().context("expected a refusal")?;
        assert_eq!((refusal.command.as_str(), refusal.code), ("message", 552), "{dialogue}");
        assert!(refusal.text.starts_with("5.3.4 ") && refusal.text.contains("30000000"), "{dialogue}");

        // Within the limit alone, but not for two recipients.
        let two = b"From: anna@alfa.example\r\nTo: bruno@beta.example, dario@beta.example\r\n\r\n".to_vec();
        let large = [two, text(26_000_000)].concat();
        let dialogue = anna_says(testbed, &["bruno@beta.example", "dario@beta.example"], &large)?;
        assert!(dialogue.accepted(), "{dialogue}");
        let all = testbed.received_when(&[("anna@alfa.example", 1)])?;
        let reason = all[0].certified("errore-esteso")?.concat();
        assert!(reason.contains("moltiplicata per i destinatari"), "{reason}");
        testbed.judge(&all)
    });
}
