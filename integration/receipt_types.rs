//! The three types of delivery receipt (RFC 6109 §3.3.2): who gets which, and what a brief one makes of every shape of
//! message.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pec_testbed::referee::{Referee, say_once};
use pec_testbed::{PATIENCE, Plan, Port, Received, Testbed, wait_until};

const ANNA: &str = "anna@alfa.example";
const BRUNO: &str = "bruno@beta.example";
const DORA: &str = "dora@beta.example";
const SERVICE: &str = "ricevute@alfa.example";

fn plan(daemon: &str) -> Plan {
    Plan::new(env!("CARGO_BIN_EXE_pec-milter"))
        .provider("alfa", &["anna"])
        .with_pec_milter(daemon)
        .provider("beta", &["bruno", "dora"])
}

fn submit(testbed: &Testbed, to: &[&str], message: &[u8]) -> Result<()> {
    let dialogue = testbed.host("alfa")?.submit("anna", Port::Submissions, ANNA, to, message)?;
    ensure!(dialogue.accepted(), "{dialogue}");
    Ok(())
}

/// The receipts for one recipient, by the subject of the original.
fn receipts<'a>(all: &'a [Received], recipient: &str) -> Result<BTreeMap<String, &'a Received>> {
    let mut receipts = BTreeMap::new();
    for one in all.iter().filter(|one| one.is("avvenuta-consegna")) {
        if one.certified("consegna")? == [recipient] {
            let subject = one.field("Subject").unwrap_or_default().replace("CONSEGNA: ", "");
            ensure!(receipts.insert(subject, one).is_none(), "two receipts for {recipient}");
        }
    }
    Ok(receipts)
}

/// `completa`, `breve` or `sintetica`, by what the receipt carries beside what was sent.
fn carried(receipt: &Received, all: &[Received]) -> Result<&'static str> {
    let Some(carried) = receipt.attachment("postacert.eml") else { return Ok("sintetica") };
    let envelope = all.iter().find(|one| one.is("posta-certificata") && one.transaction() == receipt.transaction());
    let original = envelope.context("the envelope is missing")?.original()?;
    Ok(if carried == original { "completa" } else { "breve" })
}

#[test]
fn outcome_brief_receipts_hash_what_is_attached_in_every_shape() {
    plan("").test(|testbed| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/messages");
        let mut shapes = Vec::new();
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "eml") {
                submit(testbed, &[BRUNO, DORA], &with_cc(&fs::read(&path)?)?)?;
                shapes.push(path);
            }
        }
        assert!(shapes.len() >= 13, "only {} shapes", shapes.len());
        let all = testbed.received_when(&[
            (ANNA, 3 * shapes.len()),
            (BRUNO, shapes.len()),
            (DORA, shapes.len()),
            (SERVICE, shapes.len()),
        ])?;
        testbed.judge(&all)?;
        let (of_bruno, of_dora) = (receipts(&all, BRUNO)?, receipts(&all, DORA)?);
        for original in shapes {
            let name = original.file_stem().context("no name")?.to_string_lossy().into_owned();
            let receipt = of_bruno.get(&name).with_context(|| format!("no receipt about {name}"))?;
            assert_eq!(receipt.certified_attributes("ricevuta", "tipo")?, ["breve"], "{name}");
            let stays_whole = matches!(name.as_str(), "plain") || name.starts_with("enclosed-");
            let expected = if stays_whole { "completa" } else { "breve" };
            assert_eq!(carried(receipt, &all)?, expected, "{name}");
            assert_eq!(carried(of_dora.get(&name).context("no receipt of dora")?, &all)?, "sintetica", "{name}");
            compare(testbed, &with_cc(&fs::read(&original)?)?, receipt).context(name)?;
        }
        Ok(())
    });
}

#[test]
fn outcome_a_brief_receipt_of_thirty_megabytes_is_small_and_costs_no_more_than_the_message() {
    plan("").test(|testbed| {
        let attachment = STANDARD.encode((0..22_500_000_u32).map(|n| (n % 251) as u8).collect::<Vec<_>>());
        let lines: Vec<&[u8]> = attachment.as_bytes().chunks(76).collect();
        let head = "From: anna@alfa.example\r\nTo: bruno@beta.example\r\nSubject: grande\r\nX-TipoRicevuta: breve\r\n\
            MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nIn allegato.\r\n--b\r\n\
            Content-Type: application/octet-stream; name=dati.bin\r\nContent-Transfer-Encoding: base64\r\n\r\n";
        let sent = [head.as_bytes(), &lines.join(&b"\r\n"[..]), b"\r\n--b--\r\n"].concat();
        ensure!(sent.len() > 30_000_000, "the message has only {} octets", sent.len());
        submit(testbed, &[BRUNO], &sent)?;

        let all = testbed.received_when(&[(ANNA, 2), (BRUNO, 1), (SERVICE, 1)])?;
        testbed.judge(&all)?;
        let receipts = receipts(&all, BRUNO)?;
        let receipt = receipts["grande"];
        assert_eq!(carried(receipt, &all)?, "breve");
        let size = receipt.bytes.len();
        ensure!(size < 50_000, "the receipt has {size} octets");
        compare(testbed, &sent, receipt)?;
        for name in ["alfa", "beta"] {
            let peak = testbed.host(name)?.daemon()?.peak_memory()?;
            println!("peak memory of pec-milter at {name} for {} octets: {} MiB", sent.len(), peak >> 20);
            // The message once, and room for the rest: what is hashed is not copied.
            let most = 2 * sent.len() as u64 + (40 << 20);
            assert!(peak < most, "pec-milter at {name} took {peak} octets, expected less than {most}");
        }
        Ok(())
    });
}

/// The referee's word on a brief receipt beside the original that was sent.
fn compare(testbed: &Testbed, sent: &[u8], receipt: &Received) -> Result<()> {
    let Some(referee) = Referee::find() else {
        say_once("nothing compares the brief receipts with their originals");
        return Ok(());
    };
    let (original, received) = (testbed.folder().join("sent.eml"), testbed.folder().join("receipt.eml"));
    fs::write(&original, sent)?;
    fs::write(&received, &receipt.bytes)?;
    let findings = referee.compare_brief(&original, &received)?;
    ensure!(!findings.iter().any(|line| line.contains("ERROR")), "{}", findings.join("\n"));
    Ok(())
}

/// Adds a copied recipient, who gives a concise receipt whatever is asked.
fn with_cc(message: &[u8]) -> Result<Vec<u8>> {
    let to = b"To: Bruno <bruno@beta.example>\r\n";
    let at = message.windows(to.len()).position(|window| window == to).context("the message is not to Bruno")?;
    let (before, after) = message.split_at(at + to.len());
    Ok([before, b"Cc: dora@beta.example\r\n", after].concat())
}

fn asking(subject: &str, field: &str) -> Vec<u8> {
    format!(
        "From: anna@alfa.example\r\nTo: bruno@beta.example\r\nCc: dora@beta.example\r\nSubject: {subject}\r\n\
         {field}MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\ntesto\r\n\
         --b\r\nContent-Type: text/csv; name=a.csv\r\n\r\n1;2\r\n--b--\r\n"
    )
    .into_bytes()
}

#[test]
fn outcome_the_type_that_is_asked_for_is_the_type_that_comes() {
    plan("").test(|testbed| {
        let cases = [
            ("X-TipoRicevuta: completa\r\n", "completa"),
            ("X-TipoRicevuta: BREVE\r\n", "breve"),
            ("x-tiporicevuta:Sintetica\r\n", "sintetica"),
            ("X-TIPORICEVUTA:\r\n\tbreve \r\n", "breve"),
            ("X-TipoRicevuta: altra\r\n", "completa"),
            ("X-TipoRicevuta:\r\n", "completa"),
            ("", "completa"),
        ];
        for (number, (field, _)) in cases.iter().enumerate() {
            submit(testbed, &[BRUNO, DORA], &asking(&format!("caso {number}"), field))?;
        }
        let count = cases.len();
        let all = testbed.received_when(&[(ANNA, 3 * count), (BRUNO, count), (DORA, count), (SERVICE, count)])?;
        testbed.judge(&all)?;
        let (of_bruno, of_dora) = (receipts(&all, BRUNO)?, receipts(&all, DORA)?);
        for (number, (field, expected)) in cases.iter().enumerate() {
            let subject = format!("caso {number}");
            assert_eq!(carried(of_bruno[&subject], &all)?, *expected, "{field:?}");
            assert_eq!(carried(of_dora[&subject], &all)?, "sintetica", "{field:?}");
            assert_eq!(of_bruno[&subject].certified_attributes("ricevuta", "tipo")?, [*expected], "{field:?}");
        }
        Ok(())
    });
}

#[test]
fn outcome_a_mailbox_has_its_own_type_where_the_message_asks_for_none() {
    let folder = tempfile::tempdir().unwrap();
    // pec-milter runs under an account of its own.
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    let map = folder.path().join("receipts");
    fs::write(&map, "# address type\nAnna@alfa.example breve\n").unwrap();
    plan(&format!("[receipts]\nmap = {map:?}\n")).test(|testbed| {
        submit(testbed, &[BRUNO], &asking("niente", ""))?;
        submit(testbed, &[BRUNO], &asking("completa", "X-TipoRicevuta: completa\r\n"))?;

        let daemon = testbed.host("alfa")?.daemon()?;
        fs::write(&map, "anna@alfa.example sintetica\nanna@beta.example breve\n")?;
        daemon.reload()?;
        says(testbed, "anna@beta.example lies in none of provider.mail_domains")?;
        fs::write(&map, "anna@alfa.example sintetica\nanna brief\n")?;
        daemon.reload()?;
        says(testbed, "receipts.map: ")?;
        says(testbed, &format!("{}: line 2: ", map.display()))?;
        // The map before stays in force.
        submit(testbed, &[BRUNO], &asking("ancora", ""))?;

        fs::write(&map, "anna@alfa.example sintetica\n")?;
        daemon.reload()?;
        says(testbed, " reloaded")?;
        submit(testbed, &[BRUNO], &asking("dopo", ""))?;

        let all = testbed.received_when(&[(ANNA, 8), (BRUNO, 4), (SERVICE, 4)])?;
        // The referee, who knows no table, wants complete receipts where the original asks for nothing.
        testbed.judge(all.iter().filter(|one| !one.is("posta-certificata")))?;
        let receipts = receipts(&all, BRUNO)?;
        for (subject, expected) in
            [("niente", "breve"), ("completa", "completa"), ("ancora", "breve"), ("dopo", "sintetica")]
        {
            assert_eq!(carried(receipts[subject], &all)?, expected, "{subject}");
        }
        Ok(())
    });
}

fn says(testbed: &Testbed, words: &str) -> Result<()> {
    let daemon = testbed.host("alfa")?.daemon()?;
    wait_until(&format!("the log to say {words:?}"), PATIENCE, || match daemon.log().contains(words) {
        true => Ok(()),
        false => bail!("it does not"),
    })
}
