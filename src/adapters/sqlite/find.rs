//! `log search`: entries by any of their keys together, in order of their instants, page by page.
//!
//! A question that leaves provider, kind or outcome open is asked once for each pair of provider and class that there is
//! behind its other keys; these are few, and each is a seek into an index where the answer is already in order. So the
//! time hangs on the length of the page, not on how many entries a sender has. A Message-ID leads to its transactions.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;

use rusqlite::{Connection, OptionalExtension, Params, Row, params};

use crate::adapters::sqlite::error::{Named, StoreError};
use crate::adapters::sqlite::reader::LogReader;
use crate::adapters::sqlite::row::{self, StoredRow};
use crate::adapters::sqlite::search;
use crate::legal_log::details::concerned;
use crate::legal_log::{Entry, EventKind, Link, Outcome, Place, Query, Recorded};
use crate::model::TemporalReference;

const CALL: &str = "search";

/// Entries per step of a walk through a period. Between steps no snapshot is held, so the write-ahead log can shrink.
const STEP: i64 = 1000;

const CLASSES: &str = "SELECT id, kind, outcome FROM search_class";
const PROVIDERS: &str = "SELECT id FROM search_provider WHERE name = ?1 COLLATE NOCASE";
const ADDRESS: &str = "SELECT id FROM search_address WHERE address = ?1";
const BY_TIME: &str = "SELECT at, sequence FROM event
    WHERE (at, sequence) > (?1, ?2) AND at < ?3 ORDER BY at, sequence LIMIT ?4";
const BY_MSGID: &str = "SELECT sequence FROM search_by_msgid WHERE hash = ?1 ORDER BY sequence";
/// The last first event of a transaction that bears a Message-ID, up to an event.
const BEARS_MSGID: &str = "SELECT sequence FROM search_by_msgid
    WHERE hash = ?1 AND transaction_hash = ?2 AND sequence <= ?3 ORDER BY sequence DESC LIMIT 1";
const STEP_OF_PERIOD: &str = "WHERE (at, sequence) > (?1, ?2) AND at < ?3 ORDER BY at, sequence LIMIT ?4";
const OF_SEQUENCE: &str = "WHERE sequence = ?1";
const OF_TRANSACTION: &str = "WHERE pec_msgid = ?1 ORDER BY sequence";
const IS_OPEN: &str = "SELECT EXISTS (SELECT 1 FROM watch WHERE pec_msgid = ?1 AND (?2 = '' OR recipient = ?2))";

/// An entry that is what was asked for.
#[derive(Debug, Clone)]
pub struct Found {
    pub link: Link,
    pub entry: Entry,
    /// Whom it is about, also where its row does not say so.
    pub recipients: Vec<String>,
    /// What it tells; of an acceptance that was asked for as open, this.
    pub outcome: Option<Outcome>,
}

/// A part of what is found.
#[derive(Debug, Clone)]
pub struct Page {
    /// By instant, then by number.
    pub found: Vec<Found>,
    /// Where to go on, if there is more.
    pub next: Option<Place>,
}

/// The transactions, and entries without one, that `of_msgid` shows, and that are put in order together.
pub const NAMESAKES: usize = 100;

/// What a message identifier names.
#[derive(Debug, Clone)]
pub struct Timeline {
    pub entries: Vec<Recorded>,
    /// Whether it names further transactions.
    pub is_more: bool,
}

impl LogReader {
    /// The first `limit` entries behind a place that are what is asked for.
    pub async fn search(&self, query: Query, after: Option<Place>, limit: usize) -> Result<Page, StoreError> {
        self.read(move |connection, path| {
            // One more than fits tells whether there is more.
            let most = limit.saturating_add(1);
            let places = match &query.msgid {
                Some(msgid) => places_of_msgid(connection, path, &query, msgid, after, most)?,
                None => places(connection, &query, after, most).named(path, CALL)?,
            };
            page(connection, path, &query, places, limit)
        })
        .await
    }

    /// Shows each entry of a period, by instant and number, and returns what came of it. Never more than one step is held.
    pub async fn fold<T: Send + 'static>(
        &self,
        period: Range<TemporalReference>,
        mut known: T,
        mut show: impl FnMut(&mut T, &Entry) + Send + 'static,
    ) -> Result<T, StoreError> {
        self.read(move |connection, path| {
            let (mut after, end) = ((period.start.unix(), 0), period.end.unix());
            loop {
                let rows = row::select(connection, path, STEP_OF_PERIOD, params![after.0, after.1, end, STEP])?;
                let Some(last) = rows.last() else { return Ok(known) };
                after = (last.entry.at.unix(), last.link.sequence);
                rows.iter().for_each(|row| show(&mut known, &row.entry));
            }
        })
        .await
    }

    /// All entries of the first transactions that a message identifier names, be it the provider's, the client's or a
    /// notification's, typed with or without angle brackets; in order of recording. No more than `NAMESAKES`, because a
    /// client may give one to all its messages.
    pub async fn of_msgid(&self, msgid: &str) -> Result<Timeline, StoreError> {
        let msgid = msgid.to_owned();
        self.read(move |connection, path| {
            let mut groups = Namesakes::of(connection, path, &msgid)?;
            let mut entries = Vec::new();
            for _ in 0..NAMESAKES {
                let Some(rows) = groups.next()? else { break };
                let recorded = |StoredRow { link, entry }| Recorded { sequence: link.sequence, entry, is_new: false };
                entries.extend(rows.into_iter().map(recorded));
            }
            entries.sort_by_key(|one| one.sequence);
            Ok(Timeline { entries, is_more: groups.next()?.is_some() })
        })
        .await
    }
}

/// What stands at these places; whether there is more they alone tell. A row that a purge removed meanwhile is no answer,
/// and no end of the answer.
fn page(
    connection: &Connection,
    path: &Path,
    query: &Query,
    mut places: Vec<(i64, i64)>,
    limit: usize,
) -> Result<Page, StoreError> {
    let is_more = places.len() > limit;
    places.truncate(limit);
    let place = |&(at, sequence): &(i64, i64)| Place { at: TemporalReference::from_unix(at), sequence };
    let next = places.last().filter(|_| is_more).map(place);
    let mut found = Vec::with_capacity(places.len());
    for (_, sequence) in places {
        let Some(StoredRow { link, entry }) = row::select(connection, path, OF_SEQUENCE, [sequence])?.pop() else {
            continue;
        };
        let arrival = search::arrival_of(connection, path, &entry)?;
        let recipients = concerned(&entry, arrival.as_ref());
        let open = query.outcome.filter(|outcome| *outcome == Outcome::Open);
        found.push(Found { link, outcome: open.or_else(|| Outcome::told_by(&entry)), entry, recipients });
    }
    Ok(Page { found, next })
}

/// The first places of a Message-ID's transactions that are asked for.
///
/// Clients repeat Message-IDs as they like, so these are in order within every hundred transactions that bear one, by the
/// first event that does: no more are read than the page needs. Never more than one transaction is held.
fn places_of_msgid(
    connection: &Connection,
    path: &Path,
    query: &Query,
    msgid: &str,
    after: Option<Place>,
    limit: usize,
) -> Result<Vec<(i64, i64)>, StoreError> {
    let mut namesakes = Namesakes::of(connection, path, msgid)?;
    if let Some(after) = after {
        namesakes.go_to_hundred_of(after.sequence)?;
    }
    let (mut found, mut after) = (Vec::new(), after);
    loop {
        let room = limit - found.len();
        let end = namesakes.at.saturating_add(NAMESAKES);
        let mut hundred = Vec::new();
        while let Some(rows) = namesakes.next_before(end)? {
            hundred.extend(among(connection, path, query, &rows, after)?);
            if hundred.len() > room {
                hundred.sort_unstable();
                hundred.truncate(room);
            }
        }
        hundred.sort_unstable();
        found.extend(hundred);
        // What comes later lies behind the place, whatever its instant.
        after = None;
        if found.len() == limit || namesakes.at >= namesakes.numbers.len() {
            return Ok(found);
        }
    }
}

/// Of the entries of a transaction the places of those that are asked for, behind a place.
fn among(
    connection: &Connection,
    path: &Path,
    query: &Query,
    rows: &[StoredRow],
    after: Option<Place>,
) -> Result<Vec<(i64, i64)>, StoreError> {
    let is_arrival = |row: &&StoredRow| row.entry.kind == EventKind::Arrival;
    let arrivals: BTreeMap<&Option<String>, &Entry> =
        rows.iter().filter(is_arrival).map(|row| (&row.entry.queue_id, &row.entry)).collect();
    let mut found = Vec::new();
    for StoredRow { link, entry } in rows {
        let place = Place { at: entry.at, sequence: link.sequence };
        let fits = query.fits(entry, arrivals.get(&entry.queue_id).copied());
        if fits && after.is_none_or(|after| place > after) && is_open(connection, path, query, entry)? {
            found.push((place.at.unix(), place.sequence));
        }
    }
    Ok(found)
}

/// Whether an entry is an acceptance with open recipients, where these are asked for.
fn is_open(connection: &Connection, path: &Path, query: &Query, entry: &Entry) -> Result<bool, StoreError> {
    if query.outcome != Some(Outcome::Open) {
        return Ok(true);
    }
    let (EventKind::Acceptance, Some(id)) = (entry.kind, &entry.pec_msgid) else { return Ok(false) };
    let recipient = query.recipient.as_deref().unwrap_or_default().to_ascii_lowercase();
    let ask = |connection: &Connection| {
        connection.prepare_cached(IS_OPEN)?.query_row([id.as_str(), &recipient], |row| row.get(0))
    };
    ask(connection).named(path, CALL)
}

/// The transactions that a message identifier names, and the entries without one, in order of recording, one at a time.
struct Namesakes<'a> {
    connection: &'a Connection,
    path: &'a Path,
    bare: &'a str,
    /// Of the first events that bear it.
    numbers: Vec<i64>,
    /// How many of these were looked at.
    at: usize,
    /// The transactions that were given.
    known: BTreeSet<String>,
}

impl<'a> Namesakes<'a> {
    fn of(connection: &'a Connection, path: &'a Path, msgid: &'a str) -> Result<Self, StoreError> {
        let bare = Query::bare(msgid);
        let numbers = numbers(connection, BY_MSGID, [search::hash(bare)]).named(path, CALL)?;
        Ok(Namesakes { connection, path, bare, numbers, at: 0, known: BTreeSet::new() })
    }

    /// Goes to the beginning of the hundred transactions to which an event belongs that was found.
    fn go_to_hundred_of(&mut self, sequence: i64) -> Result<(), StoreError> {
        let row = row::select(self.connection, self.path, OF_SEQUENCE, [sequence])?.pop();
        let id = row.and_then(|row| row.entry.pec_msgid).map(|id| id.to_string());
        if id.as_deref() == Some(self.bare) {
            return Ok(());
        }
        let keys = [search::hash(self.bare), id.map_or(search::NONE, |id| search::hash(&id)), sequence];
        let bears = numbers(self.connection, BEARS_MSGID, keys).named(self.path, CALL)?.pop().unwrap_or(sequence);
        let at = self.numbers.partition_point(|number| *number < bears);
        self.at = at - at % NAMESAKES;
        if self.at > 0 {
            self.known.insert(self.bare.to_owned());
        }
        Ok(())
    }

    fn next(&mut self) -> Result<Option<Vec<StoredRow>>, StoreError> {
        self.next_before(usize::MAX)
    }

    /// The next one of those before a place among the numbers.
    fn next_before(&mut self, end: usize) -> Result<Option<Vec<StoredRow>>, StoreError> {
        // Of a PEC msgid, its own transaction comes first.
        if self.known.insert(self.bare.to_owned()) {
            let rows = row::select(self.connection, self.path, OF_TRANSACTION, [self.bare])?;
            if !rows.is_empty() {
                return Ok(Some(rows));
            }
        }
        while let Some(sequence) = self.numbers.get(self.at).copied().filter(|_| self.at < end) {
            self.at += 1;
            let Some(row) = row::select(self.connection, self.path, OF_SEQUENCE, [sequence])?.pop() else { continue };
            let known = [&row.entry.client_msgid, &row.entry.notification];
            // The hash is a part of one only.
            if !known.into_iter().flatten().any(|id| Query::bare(id.as_str()) == self.bare) {
                continue;
            }
            let Some(id) = row.entry.pec_msgid.as_ref().map(ToString::to_string) else { return Ok(Some(vec![row])) };
            if self.known.insert(id.clone()) {
                return row::select(self.connection, self.path, OF_TRANSACTION, [id]).map(Some);
            }
        }
        Ok(None)
    }
}

/// An index and what of it is fixed.
struct Source {
    table: &'static str,
    /// The columns that are fixed, and their numbers.
    fixed: &'static [&'static str],
    keys: Vec<i64>,
}

impl Source {
    fn condition(&self) -> String {
        self.fixed.iter().map(|column| format!("{column} = ? AND ")).collect()
    }

    /// The next class of a provider behind another. (One comparison of both columns with a pair would look at every entry of
    /// the pair: SQLite seeks to where a pair begins, not behind it.)
    fn next_class(&self) -> String {
        let (table, condition) = (self.table, self.condition());
        format!(
            "SELECT provider, class FROM {table} WHERE {condition}provider = ? AND class > ? ORDER BY class LIMIT 1"
        )
    }

    /// The first class of the next provider behind another.
    fn next_provider(&self) -> String {
        let (table, condition) = (self.table, self.condition());
        format!("SELECT provider, class FROM {table} WHERE {condition}provider > ? ORDER BY provider, class LIMIT 1")
    }

    /// The first places of a pair behind another, and before an instant.
    fn of_pair(&self) -> String {
        let (table, condition) = (self.table, self.condition());
        format!(
            "SELECT at, sequence FROM {table} WHERE {condition}provider = ? AND class = ? AND (at, sequence) > (?, ?)
             AND at < ? ORDER BY at, sequence LIMIT ?"
        )
    }

    fn with(&self, rest: &[i64]) -> impl Params {
        rusqlite::params_from_iter([&self.keys, rest].concat())
    }
}

/// The first places that are asked for, in order.
fn places(
    connection: &Connection,
    query: &Query,
    after: Option<Place>,
    limit: usize,
) -> rusqlite::Result<Vec<(i64, i64)>> {
    // Nothing has a number below 1.
    let start = (query.period.start.unix(), 0);
    let start = after.map_or(start, |after| start.max((after.at.unix(), after.sequence)));
    let end = query.period.end.unix();
    let most = i64::try_from(limit).unwrap_or(i64::MAX);
    let is_open_question =
        query.sender.is_none() && query.recipient.is_none() && query.provider.is_none() && query.outcome.is_none();
    if is_open_question && query.kind.is_none() {
        return places_of(connection, BY_TIME, [start.0, start.1, end, most]);
    }
    let Some(source) = source(connection, query)? else { return Ok(Vec::new()) };
    let classes = classes(connection, query)?;
    let providers = match &query.provider {
        Some(provider) => Some(numbers(connection, PROVIDERS, [provider])?),
        None => None,
    };
    let of_pair = source.of_pair();
    let mut found: Vec<(i64, i64)> = Vec::new();
    let mut end = end;
    for (provider, class) in pairs(connection, &source, providers.as_deref())? {
        if !classes.contains(&class) {
            continue;
        }
        found.extend(places_of(connection, &of_pair, source.with(&[provider, class, start.0, start.1, end, most]))?);
        if found.len() > limit {
            found.sort_unstable();
            found.truncate(limit);
            // Nothing later than the last of them is looked at any more.
            end = found.last().map_or(end, |last| end.min(last.0.saturating_add(1)));
        }
    }
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

/// Where the keys that are given lie; none if one of them stands nowhere in the log.
fn source(connection: &Connection, query: &Query) -> rusqlite::Result<Option<Source>> {
    let mut keys = Vec::new();
    for address in [&query.recipient, &query.sender].into_iter().flatten() {
        match numbers(connection, ADDRESS, [address.to_ascii_lowercase()])?.pop() {
            Some(number) => keys.push(number),
            None => return Ok(None),
        }
    }
    let (table, fixed): (_, &[&str]) = match (&query.recipient, &query.sender) {
        (Some(_), Some(_)) => ("search_by_pair NOT INDEXED", &["recipient", "sender"]),
        (Some(_), None) => ("search_by_pair INDEXED BY search_by_recipient", &["recipient"]),
        (None, Some(_)) => ("search_by_sender NOT INDEXED", &["sender"]),
        (None, None) => ("search_by_sender INDEXED BY search_by_provider", &[]),
    };
    Ok(Some(Source { table, fixed, keys }))
}

/// The numbers of the classes that are asked for.
fn classes(connection: &Connection, query: &Query) -> rusqlite::Result<Vec<i64>> {
    let mut statement = connection.prepare_cached(CLASSES)?;
    let mut rows = statement.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let (id, kind, outcome): (i64, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let is_of_kind = query.kind.is_none_or(|wanted| wanted.name() == kind);
        let is_asked_for = match query.outcome {
            Some(wanted) => wanted.name() == outcome,
            // The acceptance lies there without it as well.
            None => outcome != Outcome::Open.name(),
        };
        if is_of_kind && is_asked_for {
            found.push(id);
        }
    }
    Ok(found)
}

/// The pairs of provider and class that there are, of these providers or of all.
fn pairs(connection: &Connection, source: &Source, providers: Option<&[i64]>) -> rusqlite::Result<Vec<(i64, i64)>> {
    let mut class = connection.prepare_cached(&source.next_class())?;
    let mut provider = connection.prepare_cached(&source.next_provider())?;
    let pair = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?));
    let mut next = |after: (i64, i64), is_any: bool| -> rusqlite::Result<Option<(i64, i64)>> {
        let same = class.query_row(source.with(&[after.0, after.1]), pair).optional()?;
        match same {
            None if is_any => provider.query_row(source.with(&[after.0]), pair).optional(),
            same => Ok(same),
        }
    };
    let mut found = Vec::new();
    let (starts, is_any) = match providers {
        Some(providers) => (providers, false),
        None => (&[search::NONE][..], true),
    };
    for &start in starts {
        let mut after = (start, i64::MIN);
        while let Some(pair) = next(after, is_any)? {
            found.push(pair);
            after = pair;
        }
    }
    Ok(found)
}

fn places_of(connection: &Connection, statement: &str, parameters: impl Params) -> rusqlite::Result<Vec<(i64, i64)>> {
    let place = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?));
    connection.prepare_cached(statement)?.query_map(parameters, place)?.collect()
}

fn numbers(connection: &Connection, statement: &str, parameters: impl Params) -> rusqlite::Result<Vec<i64>> {
    connection.prepare_cached(statement)?.query_map(parameters, |row| row.get(0))?.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::sqlite::file;

    fn plan(connection: &Connection, question: &str) -> String {
        let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {question}")).unwrap();
        let values = rusqlite::params_from_iter(vec![1; statement.parameter_count()]);
        let lines = statement.query_map(values, |row| row.get::<_, String>("detail")).unwrap();
        lines.map(Result::unwrap).collect::<Vec<_>>().join("\n")
    }

    /// A seek for each pair, in the order of the answer: nothing is sorted, nothing is looked at in vain.
    #[test]
    fn every_combination_is_served_by_an_index_in_the_order_of_its_pages() {
        let connection = Connection::open_in_memory().unwrap();
        file::MIGRATIONS.iter().for_each(|migration| connection.execute_batch(migration).unwrap());
        connection.execute_batch("INSERT INTO search_address (address) VALUES ('a'), ('b')").unwrap();
        let all = Query::of(TemporalReference::from_unix(0)..TemporalReference::from_unix(1));
        for (sender, recipient, keys) in [
            (None, None, "search_by_provider ("),
            (Some("a"), None, "PRIMARY KEY (sender=? AND "),
            (None, Some("b"), "search_by_recipient (recipient=? AND "),
            (Some("a"), Some("b"), "PRIMARY KEY (recipient=? AND sender=? AND "),
        ] {
            let [sender, recipient] = [sender, recipient].map(|text| text.map(str::to_owned));
            let source = source(&connection, &Query { sender, recipient, ..all.clone() }).unwrap().unwrap();
            for (question, rest) in [
                (source.next_class(), "provider=? AND class>?)"),
                (source.next_provider(), "provider>?)"),
                (source.of_pair(), "provider=? AND class=? AND (at,sequence)>(?,?) AND at<?)"),
            ] {
                let plan = plan(&connection, &question);
                assert!(plan.contains(&format!("{keys}{rest}")), "{question}: {plan}");
                assert!(!plan.contains("SCAN") && !plan.contains("TEMP B-TREE"), "{question}: {plan}");
            }
        }
        let plan_of_bearer = plan(&connection, BEARS_MSGID);
        assert!(plan_of_bearer.contains("(hash=? AND transaction_hash=? AND sequence<?)"), "{plan_of_bearer}");
        let plan_of_msgid = plan(&connection, BY_MSGID);
        assert!(plan_of_msgid.contains("PRIMARY KEY (hash=?)"), "{plan_of_msgid}");
        for (question, index) in
            [(BY_TIME, "event_by_time ("), (ADDRESS, "(address=?)"), (IS_OPEN, "PRIMARY KEY (pec_msgid=?)")]
        {
            let plan = plan(&connection, question);
            assert!(plan.contains(index) && !plan.contains("TEMP B-TREE"), "{question}: {plan}");
        }
    }
}
