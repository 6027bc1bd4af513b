//! An event log of very many rows, as a provider of some size would have it: made once, kept in the build folder.
//!
//! Up to a million, entries and chain are real; only the way into the file is shorter than the daemon's: plain inserts in
//! large transactions, indexes made afterwards. What is larger is a million several times over, under other identifiers
//! and at other instants, by SQL alone; its chain does not hold. One sender has a tenth of all that is sent, one recipient
//! a tenth of all that is received, and some kinds come once in 100 000 transactions.

use std::collections::HashMap;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use pec_milter::adapters::sqlite::SqliteLog;
use pec_milter::legal_log::details::concerned;
use pec_milter::legal_log::{Entry, EventKind, Link, Outcome, Query, Slot};
use pec_milter::model::TemporalReference;
use rusqlite::{Connection, params};
use sha2::{Digest, Sha256};

pub type Answer<T> = Result<T, Box<dyn Error>>;

pub const OWN: &str = "Alfa PEC S.p.A.";
pub const HEAVY_SENDER: &str = "protocollo@ente.alfa.example";
pub const HEAVY_RECIPIENT: &str = "notifiche@tribunale.alfa.example";
/// The first instant, and the days over which everything is spread: 30 months.
pub const START: i64 = 1_700_000_000;
pub const DAYS: i64 = 913;

const PROVIDERS: u64 = 25;
const MAILBOXES: u64 = 100_000;
const MILLION: usize = 1_000_000;
/// The rows of one large transaction.
const BATCH: usize = 100_000;

/// The log with at least `events` rows.
pub fn log(events: usize) -> Answer<PathBuf> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let path = folder.join(format!("generated-{events}.db"));
    if !path.exists() {
        let start = Instant::now();
        let unfinished = path.with_extension("unfinished");
        for suffix in ["", "-wal", "-shm", "-journal"] {
            let mut name = unfinished.clone().into_os_string();
            name.push(suffix);
            fs::remove_file(name).ok();
        }
        match events.checked_div(MILLION).filter(|times| *times > 1) {
            None => generate(&unfinished, events)?,
            Some(times) => multiply(&unfinished, &log(MILLION)?, times)?,
        }
        fs::rename(&unfinished, &path)?;
        println!("{events} events generated in {:.0} s", start.elapsed().as_secs_f64());
    }
    let octets = fs::metadata(&path)?.len();
    println!("{}: {:.2} GB, {} octets per event", path.display(), octets as f64 / 1e9, octets / events as u64);
    Ok(path)
}

/// Numbers that look random and are the same every time.
fn mixed(n: u64, salt: u64) -> u64 {
    let mut x = n.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ salt.wrapping_mul(0xD1B5_4A32_D192_ED03);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

/// A provider; the first ones are much larger than the last, whom one in 100 000 messages concerns.
fn other_provider(n: u64) -> u64 {
    match mixed(n, 3) % 100_000 {
        0 => PROVIDERS - 1,
        few => (few % 100) * (few % 100) * (PROVIDERS - 1) / 10_000,
    }
}

pub fn provider_name(number: u64) -> String {
    format!("Gestore {number:02} S.p.A.")
}

/// Mailboxes of everybody; a tenth of all messages goes to one of ours, or comes from it.
fn mailbox_here(n: u64, salt: u64, heavy: &str) -> String {
    match mixed(n, salt) % 10 {
        0 => heavy.to_owned(),
        _ => format!("utente.{}@alfa.example", mixed(n, salt + 1) % MAILBOXES),
    }
}

fn mailbox_elsewhere(n: u64, salt: u64, provider: u64) -> String {
    match mixed(n, salt) % 10 {
        0 => format!("comune@ente{provider}.example"),
        _ => format!("persona.{}@gestore{provider}.example", mixed(n, salt + 1) % MAILBOXES),
    }
}

/// All entries of one transaction, with the arrival first.
pub fn transaction(n: u64, at: i64) -> Vec<Entry> {
    let provider = other_provider(n);
    let is_sent = mixed(n, 1) % 100 < 55;
    let is_within = mixed(n, 2) % 10 == 0;
    let sender = match is_sent {
        true => mailbox_here(n, 10, HEAVY_SENDER),
        false => mailbox_elsewhere(n, 20, provider),
    };
    let recipient = match is_sent && !is_within {
        true => mailbox_elsewhere(n, 30, provider),
        false => mailbox_here(n, 40, HEAVY_RECIPIENT),
    };
    let from = if is_sent { OWN.to_owned() } else { provider_name(provider) };
    let id = format!("opec1{n:010}.20240715103045.12345.678.1.{}@pec.alfa.example", mixed(n, 50) % 1000);
    let queue = format!("4Q{n:010}z{:04}", mixed(n, 51) % 10_000);
    let of = |kind: EventKind, seconds: i64| Entry {
        queue_id: Some(queue.clone()),
        pec_msgid: id.parse().ok(),
        client_msgid: format!("<{:016x}.{n}@mail.client.example>", mixed(n, 52)).parse().ok(),
        sender: Some(sender.clone()),
        subject: Some(format!("Trasmissione documenti pratica n. {n} del {}", mixed(n, 53) % 365)),
        provider: Some(from.clone()),
        ..Entry::new(kind, TemporalReference::from_unix(at + seconds))
    };
    let mut notices = 0;
    let mut notice = || {
        notices += 1;
        format!("<opec1{n:010}.20240715103046.{notices}@pec.alfa.example>").parse().ok()
    };
    let mut told = |kind, seconds, what: &str| Entry {
        recipient: Some(recipient.clone()),
        notification: notice(),
        issuer: Some(OWN.to_owned()),
        slot: Some(Slot::from_stored(format!("{what} {id} {recipient}"))),
        ..of(kind, seconds)
    };
    let arrival = Entry {
        details: Some(format!(
            r#"{{"here":[{}],"triggers":["accettazione@pec-milter.invalid"],"mail_receipt":"ricevute@gestore{provider}.example","accepted":{at},"recipients":[["{recipient}","certificato"]],"replies":"{sender}","requested":"completa"}}"#,
            if is_sent && !is_within { String::new() } else { format!("\"{recipient}\"") },
        )),
        slot: Some(Slot::arrival(&queue)),
        ..of(EventKind::Arrival, 1)
    };
    let received = |kind: &str, seconds: i64, taken: &str, about: Option<String>| Entry {
        queue_id: Some(format!("{queue}{seconds}")),
        recipient: about,
        provider: Some(provider_name(provider)),
        details: Some(format!(
            r#"{{"kind":"{kind}","error":"nessuno","at":{},"recipients":["{recipient}"],"taken":[{taken}],"reason":null,"mailboxes":["{sender}"]}}"#,
            at + seconds
        )),
        slot: Some(Slot::arrival(&format!("{queue}{seconds}"))),
        ..of(EventKind::NotificationReceived, seconds)
    };
    let delivery = format!(r#"{{"mailbox":"{recipient}","issued":"completa"}}"#);
    let mut entries = vec![arrival];
    if is_sent {
        let slot = Slot::from_stored(format!("acceptance {id}"));
        entries.push(Entry { recipient: None, slot: Some(slot), ..told(EventKind::Acceptance, 0, "acceptance") });
    }
    if !is_sent || is_within {
        entries.push(told(EventKind::TakeCharge, 1, "take-charge"));
        let end = match n % 100_000 {
            7 => EventKind::VirusDetection,
            few if few % 100 == 8 => EventKind::NonDelivery,
            _ => EventKind::Delivery,
        };
        entries.push(Entry { details: Some(delivery), ..told(end, 2, "outcome") });
    } else if n % 10_000 == 9 {
        entries.push(told(EventKind::FirstTimeout, 43_200, "timeout-first"));
        entries.push(told(EventKind::FinalTimeout, 86_400, "timeout-final"));
    } else {
        entries.push(received("presa-in-carico", 4, &format!("\"{recipient}\""), None));
        let end = if n % 50 == 11 { "errore-consegna" } else { "avvenuta-consegna" };
        entries.push(received(end, 6, "", Some(recipient.clone())));
    }
    entries
}

/// Numbers for names, as the search tables have them.
#[derive(Default)]
struct Numbers<K>(HashMap<K, i64>);

impl<K: std::hash::Hash + Eq> Numbers<K> {
    fn of(&mut self, name: K) -> i64 {
        let next = self.0.len() as i64 + 1;
        *self.0.entry(name).or_insert(next)
    }
}

#[derive(Default)]
struct Tables {
    addresses: Numbers<String>,
    providers: Numbers<String>,
    classes: Numbers<(&'static str, &'static str)>,
    by_sender: Vec<[i64; 5]>,
    by_pair: Vec<[i64; 6]>,
    by_msgid: Vec<[i64; 3]>,
}

impl Tables {
    fn add(&mut self, sequence: i64, entry: &Entry, arrival: &Entry) {
        let sender = entry.sender.as_ref().map_or(0, |sender| self.addresses.of(sender.to_ascii_lowercase()));
        let provider = entry.provider.clone().map_or(0, |provider| self.providers.of(provider));
        let class = self.classes.of((entry.kind.name(), Outcome::told_by(entry).map_or("", Outcome::name)));
        let rest = [provider, class, entry.at.unix(), sequence];
        self.by_sender.push([sender, rest[0], rest[1], rest[2], rest[3]]);
        for recipient in concerned(entry, Some(arrival)) {
            let recipient = self.addresses.of(recipient.to_ascii_lowercase());
            self.by_pair.push([recipient, sender, rest[0], rest[1], rest[2], rest[3]]);
        }
        let client = entry.client_msgid.as_ref().filter(|_| entry.kind == EventKind::Arrival);
        let hash = |msgid: &str| {
            let digest: [u8; 32] = Sha256::digest(Query::bare(msgid)).into();
            i64::from_be_bytes(digest.first_chunk().copied().unwrap_or_default())
        };
        let transaction = entry.pec_msgid.as_ref().map_or(0, |id| hash(id.as_str()));
        for msgid in client.into_iter().chain(&entry.notification) {
            self.by_msgid.push([hash(msgid.as_str()), transaction, sequence]);
        }
    }

    fn write(mut self, connection: &mut Connection) -> Answer<()> {
        self.by_sender.sort_unstable();
        self.by_pair.sort_unstable();
        self.by_msgid.sort_unstable();
        let transaction = connection.transaction()?;
        for (name, id) in &self.addresses.0 {
            transaction.prepare_cached("INSERT INTO search_address VALUES (?1, ?2)")?.execute(params![id, name])?;
        }
        for (name, id) in &self.providers.0 {
            transaction.execute("INSERT INTO search_provider VALUES (?1, ?2)", params![id, name])?;
        }
        for ((kind, outcome), id) in &self.classes.0 {
            transaction.execute("INSERT INTO search_class VALUES (?1, ?2, ?3)", params![id, kind, outcome])?;
        }
        for row in &self.by_sender {
            transaction.prepare_cached("INSERT INTO search_by_sender VALUES (?1, ?2, ?3, ?4, ?5)")?.execute(*row)?;
        }
        for row in &self.by_pair {
            transaction.prepare_cached("INSERT INTO search_by_pair VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?.execute(*row)?;
        }
        for row in &self.by_msgid {
            transaction.prepare_cached("INSERT INTO search_by_msgid VALUES (?1, ?2, ?3)")?.execute(*row)?;
        }
        transaction.execute("INSERT OR REPLACE INTO projection VALUES ('search', 1)", [])?;
        Ok(transaction.commit()?)
    }
}

fn generate(path: &Path, events: usize) -> Answer<()> {
    drop(SqliteLog::open(path)?);
    let mut connection = Connection::open(path)?;
    let later = put_aside(&connection)?;
    let mut tables = Tables::default();
    let mut last = Link::BEFORE_FIRST;
    let mut number = 0_u64;
    // On average a transaction has three and a half rows.
    let pause = DAYS as f64 * 86_400.0 / (events as f64 / 3.5);
    while last.sequence < events as i64 {
        let transaction = connection.transaction()?;
        let end = last.sequence + BATCH as i64;
        while last.sequence < end.min(events as i64) {
            let entries = self::transaction(number, START + (number as f64 * pause) as i64);
            for entry in &entries {
                last = last.next(entry);
                insert(&transaction, &last, entry)?;
                tables.add(last.sequence, entry, &entries[0]);
            }
            number += 1;
        }
        transaction.commit()?;
    }
    connection.execute("INSERT INTO tail VALUES (1, ?1, ?2)", params![last.sequence, last.hash])?;
    tables.write(&mut connection)?;
    put_back(&connection, &later)
}

/// A log that holds another one several times.
fn multiply(path: &Path, base: &Path, times: usize) -> Answer<()> {
    drop(SqliteLog::open(path)?);
    let mut connection = Connection::open(path)?;
    let later = put_aside(&connection)?;
    connection.execute("ATTACH ?1 AS base", [base.to_str()])?;
    connection.execute_batch("CREATE TEMP TABLE copy (k INTEGER)")?;
    for k in 0..times {
        connection.execute("INSERT INTO copy VALUES (?1)", [k as i64])?;
    }
    let last: i64 = connection.query_row("SELECT sequence FROM base.tail", [], |row| row.get(0))?;
    let transaction = connection.transaction()?;
    transaction.execute_batch(
        "INSERT INTO main.search_address SELECT * FROM base.search_address;
         INSERT INTO main.search_provider SELECT * FROM base.search_provider;
         INSERT INTO main.search_class SELECT * FROM base.search_class;
         INSERT OR REPLACE INTO main.projection SELECT * FROM base.projection;",
    )?;
    for k in 0..times {
        transaction.execute(
            "INSERT INTO main.event SELECT sequence + ?1 * ?2, at + 7 * ?1, kind, queue_id || ?1,
                 CASE ?1 WHEN 0 THEN pec_msgid ELSE ?1 || pec_msgid END,
                 CASE ?1 WHEN 0 THEN client_msgid ELSE replace(client_msgid, '<', '<' || ?1) END, sender, recipient, subject,
                 CASE ?1 WHEN 0 THEN notification ELSE replace(notification, '<', '<' || ?1) END, provider, issuer, details,
                 slot || ' ' || ?1, hash
             FROM base.event ORDER BY sequence",
            params![k as i64, last],
        )?;
    }
    for question in [
        "INSERT INTO main.search_by_sender SELECT sender, provider, class, at + 7 * k, sequence + k * ?1
         FROM base.search_by_sender, copy ORDER BY 1, 2, 3, 4, 5",
        "INSERT INTO main.search_by_pair SELECT recipient, sender, provider, class, at + 7 * k, sequence + k * ?1
         FROM base.search_by_pair, copy ORDER BY 1, 2, 3, 4, 5, 6",
        // Those of the copies lead nowhere, and are as many.
        "INSERT INTO main.search_by_msgid SELECT hash + k, transaction_hash, sequence + k * ?1
         FROM base.search_by_msgid, copy ORDER BY 1, 2, 3",
    ] {
        transaction.execute(question, [last])?;
    }
    transaction.execute("INSERT INTO main.tail SELECT one, sequence * ?1, hash FROM base.tail", [times as i64])?;
    transaction.commit()?;
    put_back(&connection, &later)
}

/// Takes indexes and triggers out, and makes the file quick and unsafe; returns how each comes back.
fn put_aside(connection: &Connection) -> Answer<Vec<String>> {
    connection.execute_batch(
        "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -1000000; PRAGMA temp_store = MEMORY;
         PRAGMA threads = 2",
    )?;
    let aside = "SELECT format('DROP %s %s', type, name), sql FROM sqlite_schema
                 WHERE type IN ('index', 'trigger') AND sql IS NOT NULL";
    let mut statement = connection.prepare(aside)?;
    let rows: Vec<(String, String)> =
        statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?;
    for (drop, _) in &rows {
        connection.execute_batch(drop)?;
    }
    Ok(rows.into_iter().map(|(_, sql)| sql).collect())
}

fn put_back(connection: &Connection, later: &[String]) -> Answer<()> {
    for sql in later {
        connection.execute_batch(sql)?;
    }
    Ok(connection.execute_batch("PRAGMA journal_mode = WAL")?)
}

fn insert(connection: &Connection, link: &Link, entry: &Entry) -> Answer<()> {
    connection
        .prepare_cached("INSERT INTO event VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)")?
        .execute(params![
            link.sequence,
            entry.at.unix(),
            entry.kind.name(),
            entry.queue_id,
            entry.pec_msgid.as_ref().map(|id| id.as_str()),
            entry.client_msgid.as_ref().map(|id| id.as_str()),
            entry.sender,
            entry.recipient,
            entry.subject,
            entry.notification.as_ref().map(|id| id.as_str()),
            entry.provider,
            entry.issuer,
            entry.details,
            entry.slot.as_ref().map(|slot| slot.as_str()),
            link.hash,
        ])?;
    Ok(())
}
