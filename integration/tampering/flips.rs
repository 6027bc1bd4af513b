//! One byte flipped, in as many places as there is time for: of the database file, and of every exported file.
//!
//! `log verify` is called inside this process, so that there is time for thousands. What it does not find must have changed
//! nothing that any table says, in whatever order it is read.

use std::collections::BTreeMap;

use pec_milter::adapters::seal_store::SealFolder;
use pec_milter::adapters::sqlite::{LogWalk, SqliteLog};
use pec_milter::model::TemporalReference;
use pec_milter::operations::verify_log::{Period, Standards, verify};
use pec_milter::smime::Trust;

use super::*;

/// The same places each time.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        // Knuth's MMIX generator; its upper bits are the good ones.
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap_or_default() % limit
    }
}

/// The violations that are told, and the error if there is one.
fn violations(evidence: &Evidence, with_database: bool) -> Vec<String> {
    let read = |file: &str| fs::read(evidence.pki(file)).unwrap_or_default();
    let (trust, stampers) = (Trust::from_pem(&read("root.pem")), Trust::from_pem(&read("tsa-ca.pem")));
    let (Ok(trust), Ok(stampers)) = (trust, stampers) else { return vec!["no CA".to_owned()] };
    // Long after: a stamp that is missing is no accident.
    let now = || TemporalReference::from_unix(4_000_000_000);
    let standards = Standards { trust: &trust, stampers: Some(&stampers), own: None, needs_stamps: true, now: &now };
    let log = match LogWalk::open(&evidence.database()) {
        Ok(log) => log,
        Err(error) => return vec![format!("not opened: {error}")],
    };
    let mut told = Vec::new();
    let mut tell = |finding: &pec_milter::operations::verify_log::Finding| {
        if finding.is_violation {
            told.push(finding.to_string());
        }
    };
    let seals = SealFolder::at(&evidence.seals());
    let verified = verify(with_database.then_some(&log), &seals, &standards, Period::default(), &mut tell);
    if let Err(error) = verified {
        told.push(format!("not verified: {error}"));
    }
    told
}

/// Everything that the tables say: by table, and the events and what is searched also by each of their indexes.
fn content(database: &Path) -> rusqlite::Result<BTreeMap<String, Vec<String>>> {
    let connection = Connection::open_with_flags(database, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let mut content = BTreeMap::new();
    let indexed = "SELECT name, sql FROM sqlite_schema WHERE type = 'index' AND tbl_name = 'event'";
    let mut indexes: Vec<(String, String)> =
        connection.prepare(indexed)?.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?;
    indexes.sort();
    let mut sources: Vec<String> = [
        "event NOT INDEXED",
        "tail",
        "watch",
        "search_address",
        "search_provider",
        "search_class",
        "search_by_sender NOT INDEXED",
        "search_by_sender INDEXED BY search_by_provider",
        "search_by_pair NOT INDEXED",
        "search_by_pair INDEXED BY search_by_recipient",
        "search_by_msgid",
        "sqlite_schema",
    ]
    .map(str::to_owned)
    .to_vec();
    for (name, sql) in indexes {
        let condition = sql.split_once(" WHERE ").map_or(String::new(), |(_, condition)| format!(" WHERE {condition}"));
        sources.push(format!("event INDEXED BY {name}{condition}"));
    }
    for source in sources {
        let mut statement = connection.prepare(&format!("SELECT * FROM {source}"))?;
        let columns = statement.column_count();
        let mut rows = statement.query([])?;
        let mut said = Vec::new();
        while let Some(row) = rows.next()? {
            let values: Vec<String> = (0..columns)
                .map(|column| row.get_ref(column).map(|value| format!("{value:?}")))
                .collect::<Result<_, _>>()?;
            said.push(values.join("|"));
        }
        content.insert(source, said);
    }
    Ok(content)
}

#[test]
fn trace_verify_finds_a_flipped_byte_anywhere_in_the_database() -> Result<()> {
    const PLACES: usize = 500;
    let evidence = Evidence::new()?;
    let octets = fs::read(evidence.database())?;
    let before = content(&evidence.database())?;
    ensure!(violations(&evidence, true).is_empty(), "{:#?}", violations(&evidence, true));
    let last = evidence.last()?;
    let mut chance = Chance(20_260_715);
    // The header; the hash of every row and an octet before it, which is of the row's content; the rest of the file by chance.
    let mut places: Vec<usize> = (0..100).collect();
    for hash in evidence.hashes()? {
        let at = octets.windows(hash.len()).position(|octets| *octets == hash).context("a hash is not in the file")?;
        places.extend([at + chance.below(hash.len()), at - 1 - chance.below(40)]);
    }
    places.extend((0..PLACES).map(|_| chance.below(octets.len())));
    let (mut found, mut unused) = (0, 0);
    for place in places {
        let mut altered = octets.clone();
        altered[place] ^= 1 << chance.below(8);
        fs::write(evidence.database(), &altered)?;
        let told = violations(&evidence, true);
        let after = content(&evidence.database());
        if told.is_empty() {
            unused += 1;
            let same = after.as_ref().is_ok_and(|after| *after == before);
            let differs = || match &after {
                Err(error) => format!("{error}"),
                Ok(after) => before
                    .iter()
                    .filter_map(|(table, was)| {
                        let is = after.get(table)?;
                        let row = was.iter().zip(is).find(|(was, is)| was != is);
                        (was != is).then(|| format!("{table}: {row:?}"))
                    })
                    .collect::<Vec<_>>()
                    .join("\n"),
            };
            ensure!(same, "byte {place} changes what the tables say, and is not found: {}", differs());
            continue;
        }
        found += 1;
        // Where the rows can be read and one of them says something else, it is named.
        let rows = |content: &BTreeMap<String, Vec<String>>| content["event NOT INDEXED"].clone();
        let Ok(after) = after else { continue };
        let (was, is) = (rows(&before), rows(&after));
        if was.len() == is.len() {
            if let Some(differs) = was.iter().zip(&is).position(|(was, is)| was != is) {
                let row = format!("row {}", differs + 1);
                let is_named = told.iter().any(|line| {
                    line.match_indices(&row)
                        .any(|(at, _)| !line[at + row.len()..].starts_with(|c: char| c.is_ascii_digit()))
                });
                ensure!(is_named, "byte {place} changes {row} of {last}: {told:#?}");
            }
        }
    }
    println!("{found} flipped bytes found, {unused} in unused space");
    ensure!(found > PLACES / 3, "only {found} found");
    Ok(())
}

#[test]
fn trace_verify_finds_a_flipped_byte_in_every_exported_file() -> Result<()> {
    let evidence = Evidence::new()?;
    let mut chance = Chance(7);
    for (number, ending, places) in [
        (1, "rows", 60),
        (2, "rows", 60),
        (1, "seal", 80),
        (2, "seal", 80),
        (1, "p7s", 60),
        (2, "p7s", 60),
        (1, "tsr", 60),
        (2, "tsr", 60),
    ] {
        let name = format!("{}.{ending}", evidence.name(number)?);
        let file = evidence.seals().join(&name);
        let octets = fs::read(&file).with_context(|| name.clone())?;
        let mut altered = octets.clone();
        for _ in 0..places {
            let place = chance.below(octets.len());
            let flipped = 1 << chance.below(8);
            altered[place] ^= flipped;
            fs::write(&file, &altered)?;
            for with_database in [true, false] {
                let told = violations(&evidence, with_database);
                // Alone, the last stamp has nobody who knows its octets: what the authority did not sign may differ.
                let is_free = ending == "tsr" && number == 2 && !with_database;
                let is_named = told.iter().any(|line| line.contains(&name) || line.contains(&name[..6]));
                ensure!(is_named || is_free, "byte {place} of {name}: {told:#?}");
            }
            altered[place] ^= flipped;
        }
        fs::write(&file, &octets)?;
    }
    Ok(())
}

#[test]
fn trace_verify_and_the_daemon_refuse_an_altered_end() -> Result<()> {
    let evidence = Evidence::new()?;
    let last = evidence.last()?;
    evidence.tamper(&format!("UPDATE event SET recipient = 'x' WHERE sequence = {last}"))?;
    evidence.found(&format!("row {last} was changed"))?;
    let error = SqliteLog::open(&evidence.database()).map(drop).err().context("it should be refused")?;
    ensure!(error.to_string().contains("is not as it was written"), "{error}");
    let said = evidence.run(&["log", "audit"])?;
    ensure!(said.code == 1 && said.text.contains(&format!("row {last} does not have the hash")), "{said}");
    Ok(())
}
