//! Whether the search tables say what the events say: `log verify` asks, for an extract or a search that lacks a row does
//! not show it.
//!
//! What each table should hold is made from the events once more, and both are compared by the sum of their rows' hashes,
//! whose order does not matter. So nothing is sought in the large tables, and the memory does not hang on their size. The
//! hashes have keys of chance: nobody can choose rows with the sum of others.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::path::Path;

use rusqlite::{Connection, Params, params};

use super::{CALL_CHECK, NONE, STEP, arrival_of, hash, hash_of_transaction, other_msgids, value, watched};
use crate::adapters::sqlite::error::{Named, StoreError};
use crate::adapters::sqlite::row::{self, StoredRow};
use crate::legal_log::details::concerned;
use crate::legal_log::{Entry, EventKind, Outcome};

/// The number of what has none, where it should have one.
const UNKNOWN: i64 = -1;

/// Numbers that are remembered; beyond, they are looked up again.
const REMEMBERED: usize = 10_000;

const EARLIER_OF_TRANSACTION: &str =
    "SELECT client_msgid, notification FROM event WHERE pec_msgid = ?1 AND sequence < ?2";

const BY_SENDER: &str = "SELECT sender, provider, class, at, sequence FROM search_by_sender NOT INDEXED";
const BY_PAIR: &str = "SELECT recipient, sender, provider, class, at, sequence FROM search_by_pair NOT INDEXED";
const BY_MSGID: &str = "SELECT hash, transaction_hash, sequence FROM search_by_msgid";

/// The tables that do not hold what the events tell, compared in one moment.
pub fn differing(connection: &Connection, path: &Path) -> Result<Vec<&'static str>, StoreError> {
    let snapshot = connection.unchecked_transaction().named(path, CALL_CHECK)?;
    let chance = Chance::default();
    let expected = Expected::of(&snapshot, path, &chance)?;
    let mut differing = Vec::new();
    for (table, all, expected) in [
        ("search_by_sender", BY_SENDER, expected.by_sender),
        ("search_by_pair", BY_PAIR, expected.by_pair),
        ("search_by_msgid", BY_MSGID, expected.by_msgid),
    ] {
        if found(&snapshot, all, &chance).named(path, CALL_CHECK)? != expected {
            differing.push(table);
        }
    }
    Ok(differing)
}

/// The keys of the hashes.
#[derive(Default)]
struct Chance(RandomState, RandomState);

/// Rows without their order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Tally {
    rows: u64,
    sum: u128,
}

impl Tally {
    fn add(&mut self, chance: &Chance, row: &[i64]) {
        let hash = u128::from(chance.0.hash_one(row)) << 64 | u128::from(chance.1.hash_one(row));
        self.rows += 1;
        self.sum = self.sum.wrapping_add(hash);
    }
}

fn found(connection: &Connection, all: &str, chance: &Chance) -> rusqlite::Result<Tally> {
    let mut statement = connection.prepare(all)?;
    let columns = statement.column_count();
    let mut rows = statement.query([])?;
    let (mut tally, mut values) = (Tally::default(), Vec::with_capacity(columns));
    while let Some(row) = rows.next()? {
        values.clear();
        for column in 0..columns {
            values.push(row.get(column)?);
        }
        tally.add(chance, &values);
    }
    Ok(tally)
}

/// What the tables should hold.
struct Expected<'a> {
    connection: &'a Connection,
    path: &'a Path,
    chance: &'a Chance,
    numbers: HashMap<String, i64>,
    by_sender: Tally,
    by_pair: Tally,
    by_msgid: Tally,
}

impl<'a> Expected<'a> {
    fn of(connection: &'a Connection, path: &'a Path, chance: &'a Chance) -> Result<Self, StoreError> {
        let (by_sender, by_pair, by_msgid) = Default::default();
        let mut expected = Expected { connection, path, chance, numbers: HashMap::new(), by_sender, by_pair, by_msgid };
        let mut after = i64::MIN;
        loop {
            let clauses = "WHERE sequence > ?1 ORDER BY sequence LIMIT ?2";
            let rows = row::select(connection, path, clauses, [after, STEP])?;
            let Some(last) = rows.last() else { return Ok(expected) };
            after = last.link.sequence;
            for StoredRow { link, entry } in &rows {
                expected.add(link.sequence, entry)?;
            }
        }
    }

    fn add(&mut self, sequence: i64, entry: &Entry) -> Result<(), StoreError> {
        let recipients = concerned(entry, arrival_of(self.connection, self.path, entry)?.as_ref());
        self.lie(sequence, entry, Outcome::told_by(entry), recipients)?;
        if let (EventKind::Acceptance, Some(id)) = (entry.kind, &entry.pec_msgid) {
            let open = watched(self.connection, self.path, id)?;
            if !open.is_empty() {
                self.lie(sequence, entry, Some(Outcome::Open), open)?;
            }
        }
        self.bear(sequence, entry)
    }

    /// Where an event lies for an outcome.
    fn lie(
        &mut self,
        sequence: i64,
        entry: &Entry,
        outcome: Option<Outcome>,
        recipients: Vec<String>,
    ) -> Result<(), StoreError> {
        let class = self.class(entry.kind, outcome)?;
        let provider = match &entry.provider {
            Some(name) => self.number("p", name, "SELECT id FROM search_provider WHERE name = ?1", [name])?,
            None => NONE,
        };
        let sender = entry.sender.as_ref().map_or(Ok(NONE), |sender| self.address(sender))?;
        let at = entry.at.unix();
        self.by_sender.add(self.chance, &[sender, provider, class, at, sequence]);
        let mut recipients: Vec<i64> =
            recipients.iter().map(|recipient| self.address(recipient)).collect::<Result<_, _>>()?;
        recipients.sort_unstable();
        recipients.dedup();
        for recipient in recipients {
            self.by_pair.add(self.chance, &[recipient, sender, provider, class, at, sequence]);
        }
        Ok(())
    }

    /// By which Message-IDs it is found: those that no earlier event of its transaction bears.
    fn bear(&mut self, sequence: i64, entry: &Entry) -> Result<(), StoreError> {
        let mut hashes: Vec<i64> = other_msgids(entry).map(hash).collect();
        hashes.sort_unstable();
        hashes.dedup();
        if let (Some(id), false) = (&entry.pec_msgid, hashes.is_empty()) {
            let earlier = self.earlier(id.as_str(), sequence).named(self.path, CALL_CHECK)?;
            hashes.retain(|hash| !earlier.contains(hash));
        }
        for hash in hashes {
            self.by_msgid.add(self.chance, &[hash, hash_of_transaction(entry), sequence]);
        }
        Ok(())
    }

    fn earlier(&self, id: &str, sequence: i64) -> rusqlite::Result<Vec<i64>> {
        let mut statement = self.connection.prepare_cached(EARLIER_OF_TRANSACTION)?;
        let mut rows = statement.query(params![id, sequence])?;
        let mut hashes = Vec::new();
        while let Some(row) = rows.next()? {
            let both: [Option<String>; 2] = [row.get(0)?, row.get(1)?];
            hashes.extend(both.iter().flatten().map(|msgid| hash(msgid)));
        }
        Ok(hashes)
    }

    fn class(&mut self, kind: EventKind, outcome: Option<Outcome>) -> Result<i64, StoreError> {
        let (kind, outcome) = (kind.name(), outcome.map_or("", Outcome::name));
        let select = "SELECT id FROM search_class WHERE kind = ?1 AND outcome = ?2";
        self.number("c", &format!("{kind} {outcome}"), select, [kind, outcome])
    }

    fn address(&mut self, address: &str) -> Result<i64, StoreError> {
        let address = address.to_ascii_lowercase();
        self.number("a", &address, "SELECT id FROM search_address WHERE address = ?1", [&address])
    }

    fn number(&mut self, table: &str, name: &str, select: &str, key: impl Params) -> Result<i64, StoreError> {
        let remembered = format!("{table}{name}");
        if let Some(number) = self.numbers.get(&remembered) {
            return Ok(*number);
        }
        let number = value(self.connection, self.path, select, key)?.unwrap_or(UNKNOWN);
        if self.numbers.len() >= REMEMBERED {
            self.numbers.clear();
        }
        self.numbers.insert(remembered, number);
        Ok(number)
    }
}
