//! `log search`, `log extract` and `log stats` over real transactions of every kind, beside running daemons (§2.3).

#[path = "support/infected.rs"]
mod infected;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use jiff::{ToSpan, Zoned};
use pec_testbed::{Host, PATIENCE, Plan, Port, Testbed, sample, wait_until};
use serde_json::Value;

const ANNA: &str = "anna@alfa.example";
const CARLA: &str = "carla@alfa.example";
const BRUNO: &str = "bruno@beta.example";
const MARIO: &str = "mario@gamma.example";
const NOBODY: &str = "nessuno@alfa.example";

fn plan(timeouts: &str) -> Plan {
    Plan::new(env!("CARGO_BIN_EXE_pec-milter"))
        .provider("alfa", &["anna", "carla"])
        .with_pec_milter(timeouts)
        .provider("beta", &["bruno"])
        .with_clamd("")
        .plain("gamma", &["mario"])
}

fn submit(host: &Host, user: &str, to: &[&str], message: &[u8]) -> Result<()> {
    let dialogue = host.submit(user, Port::Submissions, &host.mailbox(user), to, message)?;
    ensure!(dialogue.accepted(), "{dialogue}");
    Ok(())
}

fn letter(from: &str, to: &str, subject: &str) -> Vec<u8> {
    format!("From: {from}\r\nTo: {to}\r\nSubject: {subject}\r\nMessage-ID: <{subject}@client.example>\r\n\r\nCiao\r\n")
        .into_bytes()
}

/// Anna's contract to all, what has no mailbox, what is not accepted, what is infected; what bruno and mario write to alfa.
fn correspondence(testbed: &Testbed) -> Result<()> {
    let (alfa, beta) = (testbed.host("alfa")?, testbed.host("beta")?);
    submit(alfa, "anna", &[BRUNO, CARLA, MARIO], &sample::contract())?;
    submit(alfa, "anna", &[NOBODY], &letter(ANNA, NOBODY, "smarrito"))?;
    submit(alfa, "anna", &[CARLA, BRUNO], &letter(ANNA, BRUNO, "difettoso"))?;
    submit(alfa, "anna", &[BRUNO], &infected::infected("infetto", &[BRUNO]))?;
    submit(beta, "bruno", &[ANNA], &letter(BRUNO, ANNA, "risposta"))?;
    ensure!(alfa.inject_as_peer(MARIO, &[CARLA], &letter(MARIO, CARLA, "saluti"))?.accepted());
    testbed.received_when(&[
        (ANNA, 9),
        (CARLA, 2),
        (BRUNO, 3),
        (MARIO, 1),
        ("ricevute@alfa.example", 5),
        ("ricevute@beta.example", 1),
    ])?;
    Ok(())
}

/// What `log search --json` says: the entries, and where to go on.
fn search(host: &Host, arguments: &[&str]) -> Result<(Vec<Value>, Option<String>)> {
    let (is_yes, said) = host.daemon()?.command(&[&["log", "search", "--json"], arguments].concat())?;
    let found: Value = serde_json::from_str(&said).with_context(|| said.clone())?;
    let entries = found["entries"].as_array().context("no entries")?.clone();
    assert_eq!(is_yes, !entries.is_empty(), "{arguments:?}: {said}");
    Ok((entries, found["next"].as_str().map(str::to_owned)))
}

fn sequence(entry: &Value) -> i64 {
    entry["row"]["sequence"].as_i64().unwrap_or_default()
}

fn sequences(entries: &[Value]) -> Vec<i64> {
    entries.iter().map(sequence).collect()
}

/// Every key of an entry, as it is asked for.
fn keys(entry: &Value) -> Vec<(&'static str, String)> {
    let row = &entry["row"];
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let mut keys = Vec::new();
    for (option, value) in [
        ("--sender", text(&row["sender"]).map(|sender| sender.to_uppercase())),
        ("--kind", text(&row["kind"])),
        ("--provider", text(&row["provider"])),
        ("--outcome", text(&entry["outcome"])),
        ("--from", text(&row["at"])),
        ("--to", text(&row["at"])),
        ("--msgid", text(&row["pec_msgid"])),
        ("--msgid", text(&row["client_msgid"])),
        ("--msgid", text(&row["notification"])),
    ] {
        keys.extend(value.map(|value| (option, value)));
    }
    let recipients = entry["recipients"].as_array().into_iter().flatten().filter_map(Value::as_str);
    keys.extend(recipients.map(|recipient| ("--recipient", recipient.to_uppercase())));
    keys
}

#[test]
fn trace_search_finds_every_entry_by_each_of_its_keys_and_by_all_of_them() {
    plan("[timeouts]\nfirst_seconds = 43200\nfinal_seconds = 86400\n").test(|testbed| {
        let (alfa, beta) = (testbed.host("alfa")?, testbed.host("beta")?);
        correspondence(testbed)?;
        // Everything has its end; only the silence that follows is shortened.
        assert!(search(alfa, &["--outcome", "open"])?.0.is_empty());
        beta.stop_postfix()?;
        alfa.daemon()?.reconfigure("first_seconds = 43200", "first_seconds = 15")?;
        alfa.daemon()?.reconfigure("final_seconds = 86400", "final_seconds = 20")?;
        alfa.daemon()?.reload_and_wait()?;
        submit(alfa, "anna", &[BRUNO], &letter(ANNA, BRUNO, "silenzio"))?;
        alfa.fetch_when("anna", 10)?;
        let (open, _) = search(alfa, &["--outcome", "open", "--sender", ANNA])?;
        assert_eq!((open.len(), open[0]["row"]["subject"].as_str()), (1, Some("silenzio")));
        assert_eq!(sequences(&search(alfa, &["--outcome", "open", "--recipient", BRUNO])?.0), sequences(&open));
        assert!(search(alfa, &["--outcome", "open", "--recipient", CARLA])?.0.is_empty());
        wait_until("both notices", PATIENCE, || {
            let timeouts = search(alfa, &["--outcome", "timeout"])?.0;
            if timeouts.is_empty() { bail!("none yet") } else { Ok(()) }
        })?;
        assert!(search(alfa, &["--outcome", "open"])?.0.is_empty(), "the watch has ended");

        for (host, expected) in [
            (
                alfa,
                "acceptance anomaly arrival delivery non-acceptance non-delivery notification-received take-charge \
                 timeout-final timeout-first virus-non-delivery",
            ),
            (beta, "acceptance arrival delivery notification-received take-charge virus-detection"),
        ] {
            let (all, next) = search(host, &["--limit", "1000"])?;
            assert_eq!(next, None);
            let kinds: BTreeSet<_> = all.iter().filter_map(|one| one["row"]["kind"].as_str()).collect();
            assert_eq!(kinds.into_iter().collect::<Vec<_>>().join(" "), expected);
            finds_each_by_each_key(host, &all)?;
            pages_are_the_whole(host, &all)?;
        }
        let contract = search(alfa, &["--recipient", MARIO])?.0;
        // The acceptance has the instant of the envelope, which may be the arrival's.
        let kinds: BTreeSet<_> = contract.iter().filter_map(|one| one["row"]["kind"].as_str()).collect();
        assert_eq!(kinds, BTreeSet::from(["acceptance", "arrival"]), "who stands in details only");
        assert_eq!(contract[0]["recipients"], serde_json::json!([BRUNO, CARLA, MARIO]));

        // What is derived can be made anew, and then finds the same.
        let (before, _) = search(alfa, &["--recipient", CARLA])?;
        alfa.daemon()?.stop()?;
        alfa.command(&["log", "rebuild"])?;
        assert_eq!(search(alfa, &["--recipient", CARLA])?.0, before);
        alfa.daemon()?.start()?;
        beta.start_postfix()?;
        alfa.flush_queue()?;
        testbed.wait_for_empty_queues()
    });
}

fn finds_each_by_each_key(host: &Host, all: &[Value]) -> Result<()> {
    let mut answers: BTreeMap<Vec<String>, Vec<i64>> = BTreeMap::new();
    let mut found = |arguments: Vec<String>| -> Result<Vec<i64>> {
        if let Some(known) = answers.get(&arguments) {
            return Ok(known.clone());
        }
        let words: Vec<&str> = [&["--limit".to_owned(), "1000".to_owned()][..], &arguments]
            .concat()
            .iter()
            .map(|word| &*word.clone().leak())
            .collect();
        let rows = sequences(&search(host, &words)?.0);
        Ok(answers.entry(arguments).or_insert(rows).clone())
    };
    for entry in all {
        let keys = keys(entry);
        for (option, value) in keys.iter().filter(|(option, _)| !["--from", "--to"].contains(option)) {
            let rows = found(vec![option.to_string(), value.clone()])?;
            assert!(rows.contains(&sequence(entry)), "{option} {value}: {entry}");
            if *option != "--msgid" {
                // And nothing else: everything that is not found lacks this key.
                let having = all.iter().filter(|one| self::keys(one).contains(&(option, value.clone())));
                assert_eq!(rows, sequences(&having.cloned().collect::<Vec<_>>()), "{option} {value}");
            }
        }
        let mut together = BTreeMap::new();
        keys.into_iter().for_each(|(option, value)| drop(together.insert(option, value)));
        let together = together.into_iter().flat_map(|(option, value)| [option.to_owned(), value]).collect();
        assert!(found(together)?.contains(&sequence(entry)), "by all its keys: {entry}");
    }
    assert_eq!(found(vec!["--sender".into(), "nobody@alfa.example".into()])?, [] as [i64; 0]);
    assert_eq!(found(vec!["--from".into(), "2037-01-01".into()])?, [] as [i64; 0]);
    assert_eq!(found(vec!["--to".into(), "2001-12-31".into()])?, [] as [i64; 0]);
    Ok(())
}

/// Page by page, as JSON and as the table, the same entries come in the same order.
fn pages_are_the_whole(host: &Host, all: &[Value]) -> Result<()> {
    let (mut seen, mut after): (Vec<Value>, Option<String>) = (Vec::new(), None);
    loop {
        let mut arguments = vec!["--limit", "4"];
        arguments.extend(after.iter().flat_map(|after| ["--after", after.as_str()]));
        let (page, next) = search(host, &arguments)?;
        let table = host.command(&[&["log", "search"][..], &arguments].concat())?;
        let lines: Vec<&str> = table.lines().filter(|line| line.contains(" #")).collect();
        assert_eq!(lines.len(), page.len(), "{table}");
        for (line, entry) in lines.iter().zip(&page) {
            assert!(line.ends_with(&format!("#{}", sequence(entry))), "{line}: {entry}");
            let row = &entry["row"];
            let kind = row["details"]["kind"].as_str().or(row["kind"].as_str());
            for cell in [&row["sender"], &row["pec_msgid"], &row["subject"], &entry["outcome"], &entry["recipients"][0]]
            {
                assert!(cell.as_str().is_none_or(|cell| line.contains(cell)), "{cell} in {line}");
            }
            assert!(kind.is_some_and(|kind| line.contains(kind)), "{kind:?} in {line}");
        }
        assert_eq!(table.lines().last().and_then(|line| line.strip_prefix("there is more: --after ")), next.as_deref());
        seen.extend(page);
        match next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    assert_eq!(seen, all);
    let (is_yes, said) = host.daemon()?.command(&["log", "search", "--after", "7"])?;
    ensure!(!is_yes && said.contains("1234/2026-07-15T08:30:45Z"), "{said}");
    Ok(())
}

/// Verifies a package as its notes say, and unpacks it.
fn unpacked(testbed: &Testbed, package: &Path) -> Result<BTreeMap<String, String>> {
    let archive = package.with_extension("zip");
    let output = Command::new("openssl")
        .args(["cms", "-verify", "-binary", "-inform", "DER", "-purpose", "any", "-in"])
        .arg(package)
        .arg("-CAfile")
        .arg(testbed.pki.root())
        .arg("-out")
        .arg(&archive)
        .output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut archive = zip::ZipArchive::new(File::open(&archive)?)?;
    let mut files = BTreeMap::new();
    for index in 0..archive.len() {
        let mut file = archive.by_index(index)?;
        let mut content = Vec::new();
        file.read_to_end(&mut content)?;
        // Signatures and stamps are no texts.
        files.insert(file.name().to_owned(), String::from_utf8_lossy(&content).into_owned());
    }
    Ok(files)
}

fn days() -> [String; 2] {
    let now = Zoned::now();
    [-1, 1].map(|days| now.saturating_add(days.days()).date().to_string())
}

fn extracted(testbed: &Testbed, host: &Host, mailbox: &str) -> Result<BTreeMap<String, String>> {
    let package = testbed.folder().join(format!("{mailbox}.zip.p7m"));
    let path = package.to_str().context("UTF-8")?;
    let [from, to] = days();
    let arguments = ["log", "extract", "--mailbox", mailbox, "--from", &from, "--to", &to, "--out", path];
    host.command(&arguments)?;
    let (is_yes, said) = host.daemon()?.command(&arguments)?;
    ensure!(!is_yes && said.contains(path), "expected a file that is there to stay: {said}");
    unpacked(testbed, &package)
}

#[test]
fn trace_extract_gives_a_holder_what_is_his_and_nothing_of_others() {
    plan("").test(|testbed| {
        let (alfa, beta) = (testbed.host("alfa")?, testbed.host("beta")?);
        correspondence(testbed)?;
        let subjects = ["Contratto", "smarrito", "difettoso", "infetto", "risposta", "saluti"];
        let everybody: BTreeSet<String> = testbed
            .hosts()
            .iter()
            .flat_map(|host| host.site.users.iter().map(|user| user.address.clone()))
            .chain([NOBODY.to_owned()])
            .collect();
        assert!(everybody.len() >= 9, "{everybody:?}");
        for (host, mailbox, correspondents, of_his) in [
            // As a sender, and as the recipient of bruno's.
            (
                alfa,
                ANNA,
                vec![BRUNO, CARLA, MARIO, NOBODY],
                vec!["Contratto", "smarrito", "difettoso", "infetto", "risposta"],
            ),
            (alfa, CARLA, vec![ANNA, MARIO], vec!["Contratto", "saluti"]),
            (beta, BRUNO, vec![ANNA], vec!["Contratto", "infetto", "risposta"]),
        ] {
            let files = extracted(testbed, host, mailbox)?;
            let names: Vec<&str> = files.keys().map(String::as_str).collect();
            assert_eq!(names, ["LEGGIMI.txt", "estratto.json", "estratto.txt"]);
            for (name, text) in &files {
                for other in everybody.iter().filter(|one| *one != mailbox && !correspondents.contains(&one.as_str())) {
                    assert!(!text.contains(other.as_str()), "{name} of {mailbox} tells of {other}:\n{text}");
                }
                for subject in subjects.iter().filter(|subject| !of_his.contains(subject)) {
                    assert!(!text.contains(subject), "{name} of {mailbox} tells of {subject}:\n{text}");
                }
            }
            for own in of_his.iter().chain(&correspondents) {
                assert!(files["estratto.txt"].contains(own), "{mailbox}: {own}: {}", files["estratto.txt"]);
            }
            rows_are_those_of_the_log(host, &serde_json::from_str(&files["estratto.json"])?)?;
        }

        let anna: Value = serde_json::from_str(&extracted_again(testbed, alfa, ANNA)?)?;
        let contract = anna["inviati"].as_array().into_iter().flatten().find(|one| one["destinatari"][2].is_object());
        let fates = contract.context("no contract")?["destinatari"].as_array().context("no recipients")?.iter();
        let fates: Vec<String> = fates.map(|one| format!("{} {}", one["indirizzo"], one["esito"])).collect();
        assert_eq!(
            fates,
            [
                format!("\"{BRUNO}\" \"consegnato\""),
                format!("\"{CARLA}\" \"consegnato\""),
                format!("\"{MARIO}\" \"posta ordinaria, nessuna ricevuta\"")
            ]
        );
        let of = |subject: &str| {
            let all = anna["inviati"].as_array().into_iter().flatten();
            all.filter(|one| one["oggetto"] == subject).map(|one| one["destinatari"][0]["esito"].clone()).next()
        };
        assert_eq!(of("smarrito"), Some("non consegnato".into()));
        assert_eq!(of("difettoso"), Some("non accettato".into()));
        assert_eq!(of("infetto"), Some("non consegnato per virus".into()));

        let [from, to] = days();
        let period = ["--from", &from, "--to", &to, "--out", "/nowhere/at/all"];
        let (is_yes, said) =
            alfa.daemon()?.command(&[&["log", "extract", "--mailbox", BRUNO][..], &period].concat())?;
        ensure!(!is_yes && said.contains("no mailbox of this provider"), "{said}");
        Ok(())
    });
}

/// The commands of the notes, each word for word, in a shell; `known` are the names that they leave to the reader.
fn commands(notes: &str, known: &[(&str, &str)]) -> String {
    let commands = notes.lines().filter_map(|line| line.strip_prefix("  "));
    let programs = ["openssl", "unzip", "cd", "sha256sum", "tail", "grep", "printf"];
    let commands = commands.filter(|line| line.split(' ').next().is_some_and(|word| programs.contains(&word)));
    commands.fold("set -eux\n".to_owned(), |script, line| {
        script + &known.iter().fold(line.to_owned(), |line, (name, value)| line.replace(name, value)) + "\n"
    })
}

#[test]
fn trace_extract_is_verified_by_the_commands_of_its_notes() {
    plan("").test(|testbed| {
        let alfa = testbed.host("alfa")?;
        let tsa = testbed.tsa(false)?;
        tsa.start()?;
        alfa.daemon()?.reconfigure("[log]\n", &format!("[log]\n{}", tsa.settings()))?;
        alfa.daemon()?.stop()?;
        alfa.daemon()?.start()?;
        submit(alfa, "anna", &[CARLA], &letter(ANNA, CARLA, "sigillata"))?;
        alfa.fetch_when("anna", 2)?;
        alfa.command(&["log", "seal"])?;
        let files = extracted(testbed, alfa, ANNA)?;
        let extract: Value = serde_json::from_str(&files["estratto.json"])?;
        let rows = extract["inviati"][0]["righe"].as_array().context("no rows")?;
        let name = rows[0]["sigillo"].as_str().context("no seal")?;
        assert!(rows.len() > 1 && rows.iter().all(|row| row["sigillo"] == name), "{extract}");
        let parts: Vec<&str> = files.keys().filter_map(|file| file.strip_prefix(&format!("sigilli/{name}."))).collect();
        assert_eq!(parts, ["p7s", "seal", "tsr"], "{:?}", files.keys());
        let hash = rows[1]["hash"].as_str().context("no hash")?;

        // A folder as an auditor has it: the package, the certificates, and the rows that the provider shows him.
        let folder = testbed.folder().join("perito");
        fs::create_dir_all(folder.join("sigilli"))?;
        let package = format!("{ANNA}.zip.p7m");
        fs::copy(testbed.folder().join(&package), folder.join(&package))?;
        fs::copy(testbed.pki.root(), folder.join("ca.pem"))?;
        fs::copy(tsa.ca(), folder.join("tsa-ca.pem"))?;
        let sealed = alfa.daemon()?.seals().join(format!("{name}.rows"));
        let sealed_rows = fs::read_to_string(&sealed).with_context(|| sealed.display().to_string())?;
        fs::write(folder.join("sigilli").join(format!("{name}.rows")), &sealed_rows)?;
        let lines: Vec<&str> = sealed_rows.lines().collect();
        let place = lines.iter().position(|line| line.starts_with(hash)).context("the row is not sealed")?;
        let before = lines[place.checked_sub(1).context("no row before it")?].split(' ').next().unwrap_or_default();
        let (_, row) = lines[place].split_once(' ').context("no row")?;

        let known = [("NOME", name), ("^HASH ", &format!("^{hash} "))];
        let script = commands(&files["LEGGIMI.txt"], &known);
        assert_eq!(script.lines().count(), 14, "{script}");
        let output = Command::new("sh")
            .arg("-c")
            .arg(&script)
            .current_dir(&folder)
            .env("HASH_PRECEDENTE", before)
            .env("RIGA", row)
            .output()?;
        let said = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.success(), "{script}\n{said}\n{}", String::from_utf8_lossy(&output.stderr));
        // What a reader compares by eye: the seal with estratto.json, and the hash of the row with itself.
        let sha256 = extract["sigilli"][0]["sha256"].as_str().context("no digest")?;
        assert!(said.lines().any(|line| line == format!("{sha256}  {name}.seal")), "{said}");
        assert!(said.lines().any(|line| line == lines[place]), "{said}");
        assert!(said.lines().any(|line| line == format!("{hash}  -")), "{said}");
        Ok(())
    });
}

/// The JSON of another package of the same mailbox.
fn extracted_again(testbed: &Testbed, host: &Host, mailbox: &str) -> Result<String> {
    fs::remove_file(testbed.folder().join(format!("{mailbox}.zip.p7m")))?;
    extracted(testbed, host, mailbox)?.remove("estratto.json").context("no estratto.json")
}

/// Number and hash of each row are those under which it is sealed.
fn rows_are_those_of_the_log(host: &Host, extract: &Value) -> Result<()> {
    let all = search(host, &["--limit", "1000"])?.0;
    let hashes: BTreeMap<i64, &Value> = all.iter().map(|one| (sequence(one), &one["hash"])).collect();
    let messages = ["inviati", "ricevuti"].map(|list| extract[list].as_array().cloned().unwrap_or_default()).concat();
    let rows: Vec<Value> =
        messages.iter().flat_map(|message| message["righe"].as_array().cloned().unwrap_or_default()).collect();
    ensure!(!rows.is_empty(), "no row: {extract}");
    for row in rows {
        let number = row["riga"].as_i64().context("no number")?;
        assert_eq!(hashes.get(&number).copied(), Some(&row["hash"]), "{row}");
    }
    Ok(())
}

#[test]
fn trace_stats_count_what_was_sent() {
    plan("").test(|testbed| {
        let alfa = testbed.host("alfa")?;
        correspondence(testbed)?;
        let [from, to] = days();
        let said = alfa.command(&["log", "stats", "--from", &from, "--to", &to, "--json"])?;
        let stats: Value = serde_json::from_str(&said)?;
        let sum = |member: &str| -> u64 {
            let messages = stats["messages"].as_array().into_iter().flatten();
            messages.filter_map(|one| one[member].as_u64()).sum()
        };
        // The contract, what has no mailbox, what is infected; received: the first two by carla and nobody, bruno's answer.
        assert_eq!((sum("sent"), sum("received")), (3, 3), "{said}");
        assert_eq!(stats["mailboxes"], serde_json::json!({ "alfa.example": 2 }));
        let notices = serde_json::json!({
            "acceptance": 3, "delivery": 2, "non-acceptance": 1, "non-delivery": 1, "take-charge": 3,
            "virus-non-delivery": 1,
        });
        assert_eq!(stats["notices"], notices);
        let received = serde_json::json!({ "avvenuta-consegna": 1, "presa-in-carico": 2, "rilevazione-virus": 1 });
        assert_eq!(stats["notifications_received"], received);
        assert_eq!(stats["viruses"], serde_json::json!({ "submitted": 0, "received": 0, "told_by_others": 1 }));
        assert_eq!(stats["timeouts"], serde_json::json!({ "first": 0, "final": 0 }));
        assert_eq!((&stats["refusals"], &stats["anomalies"]), (&Value::from(0), &Value::from(1)));

        let table = alfa.command(&["log", "stats", "--from", &from, "--to", &to])?;
        for line in ["alfa.example                             2", "take-charge                              3"] {
            assert!(table.contains(line), "{line}: {table}");
        }
        // The plot is drawn in Braille's dots.
        let is_dotted = table.contains(|c| ('\u{2801}'..='\u{28ff}').contains(&c));
        assert!(table.contains("SENT BY DAY") && table.contains(&from) && is_dotted, "{table}");
        let whole_months = alfa.command(&["log", "stats"])?;
        assert!(whole_months.contains("delivered as anomalies                   0"), "{whole_months}");
        Ok(())
    });
}
