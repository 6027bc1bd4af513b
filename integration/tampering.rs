//! What somebody makes of a log and its seals who owns the machine, SQLite and OpenSSL: `log verify` finds it and names it.
//!
//! The log is one of real transactions, with two seals and rows behind them. Each test alters a copy of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, ensure};
use rusqlite::{Connection, params};
use support::{Letter, two_providers};
use tempfile::TempDir;

#[path = "tampering/evidence.rs"]
mod evidence;
#[path = "tampering/flips.rs"]
mod flips;
#[path = "tampering/page.rs"]
mod page;
mod support;

use evidence::{Evidence, Said};
use pec_milter::legal_log::EventKind;

#[test]
fn trace_verify_finds_nothing_in_what_nobody_touched() -> Result<()> {
    let evidence = Evidence::new()?;
    let said = evidence.verify(&[])?;
    ensure!(said.code == 0 && said.text.contains("0 violations"), "{said}");
    ensure!(said.text.contains("2 seals of Alfa PEC S.p.A.") && said.text.contains("rows/s"), "{said}");
    let said = evidence.verify_exported(&[])?;
    ensure!(
        said.code == 0 && said.text.contains("0 violations") && said.text.contains("0 rows of the database"),
        "{said}"
    );
    // All of it is of today, and nothing of a day long past.
    let said = evidence.verify(&["--from", "2001-01-01", "--to", "2001-01-02"])?;
    ensure!(said.code == 0, "{said}");
    let said = evidence.verify(&["--from", "2001-01-01"])?;
    ensure!(said.code == 0 && said.text.contains("2 seals"), "{said}");
    Ok(())
}

#[test]
fn trace_verify_names_a_changed_row() -> Result<()> {
    let evidence = Evidence::new()?;
    let row = evidence.first_of_seal(2)? + 1;
    evidence.tamper(&format!("UPDATE event SET queue_id = 'another' WHERE sequence = {row}"))?;
    evidence.found(&format!("rows of {}: row {row} was changed: its queue_id", evidence.name(2)?))?;

    // With the hashes of all rows after it made anew, and the tail.
    evidence.rechain(row)?;
    evidence.found(&format!("rows of {}: row {row} was changed: its queue_id", evidence.name(2)?))?;

    // Behind the last seal the chain alone tells.
    let evidence = Evidence::new()?;
    let row = evidence.last()? - 1;
    evidence.tamper(&format!("UPDATE event SET at = at + 1 WHERE sequence = {row}"))?;
    evidence.found(&format!("rows without a seal: row {row} was changed"))
}

#[test]
fn trace_verify_names_removed_rows() -> Result<()> {
    let evidence = Evidence::new()?;
    let row = evidence.first_of_seal(2)? + 2;
    evidence.tamper(&format!("DELETE FROM event WHERE sequence = {row}"))?;
    evidence.found(&format!("rows of {}: row {row} was removed", evidence.name(2)?))?;

    let evidence = Evidence::new()?;
    evidence.tamper(&format!("DELETE FROM event WHERE sequence = {row}; {}", renumber(row, -1)))?;
    evidence.found(&format!("row {row} was removed, and the rows after were given other numbers"))?;

    let evidence = Evidence::new()?;
    evidence.tamper("DELETE FROM event WHERE sequence = 1")?;
    evidence.found(&format!("rows of {}: row 1 was removed", evidence.name(1)?))?;

    // A purge that nobody may make explains nothing: the rows are of today.
    let evidence = Evidence::new()?;
    evidence.tamper("DELETE FROM event WHERE sequence IN (1, 2, 3)")?;
    evidence.found("rows 1 to 3 were removed")
}

#[test]
fn trace_verify_names_a_forged_purge() -> Result<()> {
    // All triggers agree: the log itself says that the rows go.
    let evidence = Evidence::new()?;
    let (seal, name) = (evidence.seal(1)?, evidence.name(1)?);
    let row = evidence.purge_as(999, &seal)?;
    fs::remove_file(evidence.seals().join(format!("{name}.rows")))?;
    let (first, last) = (seal.first(), seal.last.sequence);
    evidence.found(&format!("rows {first} to {last}, of {name}, were purged before their time"))?;
    evidence.found(&format!("row {row} purges the rows of seal 999, and there is none"))?;

    // Under its own number the row has an instant that tells.
    let evidence = Evidence::new()?;
    evidence.purge_as(1, &seal)?;
    evidence.found(&format!("rows {first} to {last}, of {name}, were purged before their time"))
}

#[test]
fn trace_verify_names_inserted_rows() -> Result<()> {
    let evidence = Evidence::new()?;
    let row = evidence.first_of_seal(2)?;
    let insert = "INSERT INTO event (sequence, at, kind, recipient, hash)
        SELECT {row}, at, kind, 'nobody@beta.example', hash FROM event WHERE sequence = 1"
        .replace("{row}", &row.to_string());
    evidence.tamper(&format!("{}; {insert}", renumber(row - 1, 1)))?;
    evidence.found(&format!("rows of {}: row {row} was put in", evidence.name(2)?))?;

    let evidence = Evidence::new()?;
    evidence.tamper(&insert.replace(&row.to_string(), "-7"))?;
    evidence.found("row -7 was put in")?;

    // At the end, past the program.
    let evidence = Evidence::new()?;
    let next = evidence.last()? + 1;
    evidence
        .tamper(&format!("DROP TRIGGER event_moves_tail; {}", insert.replace(&row.to_string(), &next.to_string())))?;
    evidence.found(&format!("row {next} was changed"))?;
    evidence.rechain_rows_only(next)?;
    evidence.found(&format!("row {next} was put in"))
}

#[test]
fn trace_verify_names_re_ordered_rows() -> Result<()> {
    let evidence = Evidence::new()?;
    let first = evidence.first_of_seal(2)?;
    let (one, other) = (first + 1, first + 3);
    let swap = |one: i64, other: i64| {
        format!(
            "UPDATE event SET sequence = -1 WHERE sequence = {one};
             UPDATE event SET sequence = {one} WHERE sequence = {other};
             UPDATE event SET sequence = {other} WHERE sequence = -1"
        )
    };
    evidence.tamper(&swap(one, other))?;
    evidence.found(&format!("rows were re-ordered: what belongs at row {one} stands at row {other}"))?;

    // The content alone; the hashes stay in their places.
    let hashes = |from: i64, to: i64| {
        format!("UPDATE event SET hash = (SELECT hash FROM saved WHERE sequence = {from}) WHERE sequence = {to}")
    };
    let evidence = Evidence::new()?;
    let save = "CREATE TEMP TABLE saved AS SELECT sequence, hash FROM event".to_owned();
    evidence.tamper(&[save, swap(one, other), hashes(one, one), hashes(other, other)].join(";"))?;
    evidence.found(&format!("rows were re-ordered: what belongs at row {one} stands at row {other}"))?;

    // Behind the last seal.
    let evidence = Evidence::new()?;
    let last = evidence.last()?;
    evidence.tamper(&swap(last - 2, last - 1))?;
    evidence.found(&format!("rows without a seal: rows were re-ordered: what belongs at row {} stands", last - 2))
}

#[test]
fn trace_verify_names_where_the_end_was_cut_off() -> Result<()> {
    let adjust =
        "; UPDATE tail SET (sequence, hash) = (SELECT sequence, hash FROM event ORDER BY sequence DESC LIMIT 1)";
    let evidence = Evidence::new()?;
    let last = evidence.last()?;
    evidence.tamper(&format!("DELETE FROM event WHERE sequence = {last}"))?;
    evidence.found(&format!("the end was cut off after row {}: there were rows up to {last}", last - 1))?;

    // Rows that no seal holds, and the tail with them: the one thing that nobody can see.
    evidence.tamper_again(adjust.trim_start_matches("; "))?;
    let said = evidence.verify(&[])?;
    ensure!(!said.text.contains("cut off"), "{said}");

    for cut in [evidence.first_of_seal(2)? + 1, 2, 1] {
        let evidence = Evidence::new()?;
        let adjust = if cut == 1 { "; DELETE FROM tail" } else { adjust };
        evidence.tamper(&format!("DELETE FROM event WHERE sequence >= {cut}{adjust}"))?;
        evidence.found(&format!("the end was cut off after row {}", cut - 1))?;
    }
    Ok(())
}

#[test]
fn trace_verify_names_a_day_that_was_replaced() -> Result<()> {
    // In the database alone, with a chain that holds to the end.
    let evidence = Evidence::new()?;
    let first = evidence.first_of_seal(1)?;
    evidence.tamper("UPDATE event SET recipient = 'nobody@beta.example' WHERE recipient IS NOT NULL")?;
    evidence.rechain(first)?;
    evidence.found(&format!("rows of {}: row ", evidence.name(1)?))?;

    // And in rows and seal, without the key.
    let name = evidence.forge(1)?;
    evidence.found(&format!("{name}.p7s: the seal is not signed by it"))?;
    evidence.found(&format!("{}.seal: it is bound to another seal", evidence.name(2)?))?;
    let said = evidence.verify_exported(&[])?;
    ensure!(said.code == 1 && said.text.contains(&format!("{name}.p7s: the seal is not signed by it")), "{said}");

    // Signed with another provider's key, whose certificate is as good.
    evidence.sign_as_beta(&name)?;
    evidence.found(&format!("{name}.p7s: it is made by "))?;
    let said = evidence.verify_exported(&[])?;
    ensure!(said.code == 1 && said.text.contains("not by Alfa PEC S.p.A."), "{said}");
    ensure!(said.text.contains(&format!("{}.seal: it is bound to another seal", evidence.name(2)?)), "{said}");

    // The last day, which no seal follows, wholly in the other's name.
    let evidence = Evidence::new()?;
    let name = evidence.forge_in_the_name_of(2, "Beta PEC S.p.A.")?;
    evidence.sign_as_beta(&name)?;
    evidence.found(&format!("{name}.p7s: it is made by "))?;
    let said = evidence.verify_exported(&[])?;
    ensure!(said.code == 1 && said.text.contains(&format!("{name}.p7s: it is made by ")), "{said}");
    Ok(())
}

#[test]
fn trace_verify_names_what_protects_the_rows_and_is_gone() -> Result<()> {
    let evidence = Evidence::new()?;
    evidence.tamper("SELECT 1")?;
    evidence.found("database: the trigger event_refuses_update is missing")?;

    // One that keeps rows out, under a name like those of SQLite's own.
    let evidence = Evidence::new()?;
    evidence.raw(
        "CREATE TRIGGER sqliteXstat1 BEFORE INSERT ON event WHEN NEW.details LIKE '%vittima%'
         BEGIN SELECT RAISE(IGNORE); END",
    )?;
    evidence.found("database: the trigger sqliteXstat1 is none of this program")?;
    let said = evidence.run(&["log", "hold", "add", "--mailbox", "vittima@alfa.example", "--reason", "lite"])?;
    ensure!(said.code == 2 && said.text.contains("something in the file keeps it out"), "{said}");

    let evidence = Evidence::new()?;
    evidence.raw("DROP INDEX event_by_queue_id")?;
    evidence.found("database: the index event_by_queue_id is missing")?;

    let evidence = Evidence::new()?;
    evidence.raw("UPDATE tail SET hash = zeroblob(32)")?;
    evidence.found("the tail beside the rows has another hash")?;
    evidence.raw("DROP TABLE tail")?;
    evidence.found("no such table: tail")?;
    let evidence = Evidence::new()?;
    evidence.raw("UPDATE tail SET hash = x'00'")?;
    evidence.found("database, rows without a seal: SQLite could not read the end of")
}

#[test]
fn trace_verify_names_what_the_search_lacks() -> Result<()> {
    for table in ["search_by_pair", "search_by_sender", "search_by_msgid"] {
        let evidence = Evidence::new()?;
        evidence.raw(&format!("DELETE FROM {table} WHERE sequence = 2"))?;
        evidence.found(&format!("database: {table} is made from the rows and not as they tell"))?;
        let said = evidence.run(&["log", "rebuild"])?;
        ensure!(said.code == 0, "{said}");
        let said = evidence.verify(&[])?;
        ensure!(said.code == 0, "{said}");
    }
    Ok(())
}

#[test]
fn trace_verify_names_what_is_missing_or_not_whole() -> Result<()> {
    for (ending, expected) in [
        ("seal", "seal: the seal is missing"),
        ("p7s", "p7s: it is missing"),
        ("rows", "rows: the exported rows are missing"),
    ] {
        let evidence = Evidence::new()?;
        let name = evidence.name(1)?;
        fs::remove_file(evidence.seals().join(format!("{name}.{ending}")))?;
        evidence.found(&format!("{name}.{expected}"))?;
    }
    for ending in ["seal", "p7s", "rows"] {
        let evidence = Evidence::new()?;
        let file = evidence.seals().join(format!("{}.{ending}", evidence.name(2)?));
        let octets = fs::read(&file)?;
        for length in [0, octets.len() / 2, octets.len() - 1] {
            fs::write(&file, &octets[..length])?;
            evidence.found(&format!("{}.", evidence.name(2)?))?;
            let said = evidence.verify_exported(&[])?;
            ensure!(said.code == 1 && said.text.contains(&format!("VIOLATION {}.", evidence.name(2)?)), "{said}");
        }
    }
    let evidence = Evidence::new()?;
    fs::remove_dir_all(evidence.seals())?;
    evidence.found("seals: seal 1 is missing")?;
    let said = evidence.verify_exported(&[])?;
    ensure!(said.code == 2 && said.text.contains("cannot read"), "{said}");
    fs::create_dir(evidence.seals())?;
    let said = evidence.verify_exported(&[])?;
    ensure!(said.code == 2 && said.text.contains("holds no seals"), "{said}");

    let evidence = Evidence::new()?;
    fs::remove_file(evidence.database())?;
    let said = evidence.verify(&[])?;
    ensure!(said.code == 2 && said.text.contains("there is no database"), "{said}");
    fs::write(evidence.database(), "no database at all")?;
    let said = evidence.verify(&[])?;
    // The seals can still be verified.
    let is_told = said.text.contains("VIOLATION database") && said.text.contains("is not an event log");
    ensure!(said.code == 1 && is_told && said.text.contains("2 seals of Alfa"), "{said}");
    fs::write(evidence.database(), "")?;
    let said = evidence.verify(&[])?;
    ensure!(said.code == 1 && said.text.contains("is empty") && said.text.contains("2 seals of Alfa"), "{said}");

    let evidence = Evidence::new()?;
    let octets = fs::read(evidence.database())?;
    fs::write(evidence.database(), &octets[..octets.len() / 2])?;
    let said = evidence.verify(&[])?;
    ensure!(said.code == 1 && said.text.contains("VIOLATION database"), "{said}");
    Ok(())
}

#[test]
fn trace_verify_tells_a_wrong_ca_file() -> Result<()> {
    let evidence = Evidence::new()?;
    let other = evidence.pki("tls-ca.pem");
    let said = evidence.run(&["log", "verify", "--exported", path(&evidence.seals())?, "--ca", path(&other)?])?;
    ensure!(said.code == 1 && said.text.contains("no path leads from"), "{said}");
    let said = evidence.run(&["log", "verify", "--exported", path(&evidence.seals())?, "--ca", "/nowhere.pem"])?;
    ensure!(said.code == 2 && said.text.contains("cannot read /nowhere.pem"), "{said}");
    let key = evidence.pki("alfa-provider.key");
    let said = evidence.run(&["log", "verify", "--exported", path(&evidence.seals())?, "--ca", path(&key)?])?;
    ensure!(said.code == 2 && said.text.contains("holds no CA certificates"), "{said}");
    let said = evidence.run(&["log", "verify", "--exported", path(&evidence.seals())?])?;
    ensure!(said.code == 2 && said.text.contains("--ca"), "{said}");
    Ok(())
}

#[test]
fn trace_reproduce_and_extract_refuse_sealed_rows_whose_hashes_were_made_anew() -> Result<()> {
    let evidence = Evidence::new()?;
    let (row, entry) = evidence
        .entries()?
        .into_iter()
        .find(|(_, entry)| entry.kind == EventKind::Delivery)
        .context("no delivery in the first seal")?;
    let id = entry.pec_msgid.context("no PEC msgid")?.to_string();
    let out = tempfile::tempdir()?;
    let give_out = |name: &str| -> Result<(Said, Said)> {
        let [receipts, zip] = ["receipts", "zip"].map(|what| out.path().join(format!("{name}.{what}")));
        let day = jiff::Zoned::now().in_tz("Europe/Rome")?.date();
        let days = [day.yesterday()?.to_string(), day.to_string()];
        let extract = ["log", "extract", "--mailbox", "anna@alfa.example", "--from", &days[0], "--to", &days[1]];
        Ok((
            evidence.run(&["receipt", "reproduce", &id, "--out", path(&receipts)?])?,
            evidence.run(&[&extract[..], &["--out", path(&zip)?]].concat())?,
        ))
    };
    let (again, extract) = give_out("sound")?;
    ensure!(again.code == 0 && again.text.contains("delivery"), "{again}");
    ensure!(extract.code == 0 && extract.text.contains("3 messages sent"), "{extract}");

    evidence.tamper(&format!("UPDATE event SET recipient = 'nessuno@beta.example' WHERE sequence = {row}"))?;
    evidence.rechain(row)?;
    let (again, extract) = give_out("forged")?;
    for said in [again, extract] {
        ensure!(said.code == 2 && said.text.contains("so nothing of this is given out"), "{said}");
        ensure!(said.text.contains("the rows of seal 1 are not those that were sealed"), "{said}");
    }

    // Nor does a seal help that somebody made anew, or none at all.
    let name = evidence.forge(1)?;
    let (again, extract) = give_out("sealed")?;
    for said in [again, extract] {
        ensure!(said.code == 2 && said.text.contains(&format!("cannot be held against their seal {name}")), "{said}");
        ensure!(said.text.contains("the seal is not signed by it"), "{said}");
    }
    fs::remove_dir_all(evidence.seals())?;
    let (again, extract) = give_out("unsealed")?;
    for said in [again, extract] {
        ensure!(said.code == 2 && said.text.contains("lacks seal 1"), "{said}");
    }
    Ok(())
}

/// SQL that gives the rows after this one other numbers.
fn renumber(after: i64, by: i64) -> String {
    format!(
        "UPDATE event SET sequence = -sequence WHERE sequence > {after};
         UPDATE event SET sequence = -sequence + {by} WHERE sequence < 0"
    )
}

fn path(path: &Path) -> Result<&str> {
    path.to_str().context("no UTF-8 path")
}
