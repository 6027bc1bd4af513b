//! A log of ten rows, and what somebody makes of it.

use std::convert::Infallible;

use super::*;
use crate::legal_log::seal::Stamped;
use crate::legal_log::{EventKind, purge, seal};
use crate::model::TemporalReference;

const ROWS: usize = 10;

fn entry(number: i64) -> Entry {
    Entry {
        queue_id: Some(format!("Q{number}")),
        recipient: Some(format!("bruno{number}@beta.example")),
        ..Entry::new(EventKind::Delivery, TemporalReference::from_unix(1_700_000_000 + number))
    }
}

fn log() -> Vec<Row> {
    let mut last = Link::BEFORE_FIRST;
    let number = 1..=i64::try_from(ROWS).unwrap();
    number
        .map(|number| {
            last = last.next(&entry(number));
            Row::new(last, &entry(number))
        })
        .collect()
}

/// Gives the rows new numbers in their order.
fn renumbered(mut rows: Vec<Row>) -> Vec<Row> {
    for (row, sequence) in rows.iter_mut().zip(1..) {
        row.link.sequence = sequence;
    }
    rows
}

/// Gives the rows hashes that fit.
fn rechained(mut rows: Vec<Row>) -> Vec<Row> {
    let mut last = Link::BEFORE_FIRST;
    for row in &mut rows {
        row.link.hash = row.hash_after(&last);
        last = row.link;
    }
    rows
}

fn stranger(sequence: i64) -> Row {
    Row::new(Link { sequence, hash: [7; 32] }, &entry(99))
}

fn found(rows: Vec<Row>) -> impl Iterator<Item = Result<FoundRow, Infallible>> {
    rows.into_iter().map(|row| Ok(Ok(row)))
}

/// What the chain alone tells.
fn alone(rows: Vec<Row>) -> Option<Wrong> {
    match follow(Link::BEFORE_FIRST, &[], found(rows.clone()), |_| {}).unwrap() {
        Walked::Whole(_) => None,
        Walked::Broken(last) => {
            let behind = rows.iter().position(|row| row.link == last).map_or(0, |place| place + 1);
            diagnose(last, found(rows[behind..].to_vec())).unwrap()
        }
    }
}

/// What is told beside the true rows.
fn beside(rows: Vec<Row>) -> Option<Wrong> {
    compare(log().into_iter().map(Ok::<_, Infallible>), found(rows)).unwrap()
}

fn told(rows: Vec<Row>, expected: Wrong) {
    assert_eq!(alone(rows.clone()), Some(expected.clone()), "by the chain alone");
    assert_eq!(beside(rows), Some(expected), "beside the true rows");
}

#[test]
fn what_nobody_touched_is_whole() {
    assert_eq!((alone(log()), beside(log())), (None, None));
    let walked = follow(Link::BEFORE_FIRST, &[], found(log()), |_| {}).unwrap();
    assert_eq!(walked, Walked::Whole(log()[ROWS - 1].link));
}

#[test]
fn an_exported_line_is_the_row_again() {
    let last = Link::BEFORE_FIRST.next(&entry(1));
    let line = seal::exported(&last, &entry(1));
    let row = Row::from_export(line.trim_end()).unwrap();
    assert_eq!((&row, row.entry()), (&log()[0], Some(entry(1))));
    for (altered, part) in [
        (line.replace(' ', ""), "hash"),
        (line.to_uppercase(), "hash"),
        (line.replace("\"sequence\":1", "\"sequence\":01"), "sequence"),
        (line.replace("{\"sequence", "{\"place"), "sequence"),
    ] {
        assert_eq!(Row::from_export(altered.trim_end()), Err(part), "{altered}");
    }
}

#[test]
fn a_changed_row_is_named_with_what_changed() {
    for place in 0..ROWS {
        let mut rows = log();
        let sequence = rows[place].link.sequence;
        rows[place].body = Row::new(rows[place].link, &Entry { recipient: None, ..entry(sequence) }).body;
        assert_eq!(alone(rows.clone()), Some(Wrong::Changed { sequence, members: Vec::new() }));
        let members = vec!["recipient".to_owned()];
        assert_eq!(beside(rows.clone()), Some(Wrong::Changed { sequence, members }));
        // With hashes that fit, the chain alone knows nothing.
        assert_eq!(alone(rechained(rows.clone())), None);
        assert_eq!(beside(rechained(rows)).map(|wrong| wrong.sequence()), Some(sequence));
    }
}

#[test]
fn a_changed_hash_is_told_from_a_changed_row() {
    for place in 0..ROWS - 1 {
        let mut rows = log();
        rows[place].link.hash = [9; 32];
        told(rows, Wrong::HashChanged { sequence: i64::try_from(place).unwrap() + 1 });
    }
}

#[test]
fn an_unreadable_row_is_a_changed_one() {
    let rows = || {
        let place = 4;
        log().into_iter().map(move |row| match row.link.sequence {
            sequence if sequence == place => Ok::<FoundRow, Infallible>(Err(Unreadable { sequence, part: "kind" })),
            _ => Ok(Ok(row)),
        })
    };
    let expected = Some(Wrong::Changed { sequence: 4, members: vec!["kind".to_owned()] });
    let walked = follow(Link::BEFORE_FIRST, &[], rows(), |_| {}).unwrap();
    assert_eq!(walked, Walked::Broken(log()[2].link));
    assert_eq!(diagnose(log()[2].link, rows().skip(3)).unwrap(), expected);
    assert_eq!(compare(log().into_iter().map(Ok::<_, Infallible>), rows()).unwrap(), expected);
}

#[test]
fn removed_rows_are_named() {
    for (from, count) in [(0, 1), (3, 1), (3, 4)] {
        let mut rows = log();
        rows.drain(from..from + count);
        let (from, count) = (i64::try_from(from).unwrap(), i64::try_from(count).unwrap());
        told(rows.clone(), Wrong::Removed { first: from + 1, last: from + count });
        told(renumbered(rows), Wrong::RemovedAndRenumbered { first: from + 1, count });
    }
}

#[test]
fn inserted_rows_are_named() {
    for (at, count) in [(0, 1), (4, 1), (4, 3), (ROWS - 1, 1)] {
        let mut rows = log();
        (0..count).for_each(|_| rows.insert(at, stranger(0)));
        let first = i64::try_from(at).unwrap() + 1;
        told(renumbered(rows), Wrong::Inserted { first, last: first + i64::from(count) - 1 });
    }
    let mut rows = log();
    rows.insert(0, stranger(-3));
    told(rows, Wrong::Inserted { first: -3, last: -3 });
    // At the end the chain alone sees a row that does not fit, and a tail or a seal sees that it is one more.
    let mut rows = log();
    rows.push(stranger(11));
    assert_eq!(alone(rows.clone()), Some(Wrong::Changed { sequence: 11, members: Vec::new() }));
    assert_eq!(beside(rows), Some(Wrong::Inserted { first: 11, last: 11 }));
}

#[test]
fn re_ordered_rows_are_named_at_the_first() {
    for (one, other) in [(3, 4), (3, 7), (0, 9), (8, 9)] {
        let expected =
            Wrong::Moved { sequence: i64::try_from(one).unwrap() + 1, stands_at: i64::try_from(other).unwrap() + 1 };
        let mut rows = log();
        rows.swap(one, other);
        told(renumbered(rows.clone()), expected.clone());
        // As lines of an export, which keep their numbers.
        let sequence = expected.sequence();
        told(rows, Wrong::Moved { sequence, stands_at: sequence });
        // The content alone, under hashes that stay.
        let mut rows = log();
        let body = rows[one].body.clone();
        rows[one].body = rows[other].body.clone();
        rows[other].body = body;
        told(rows, expected);
    }
    // One row taken from its place and put behind others.
    let mut rows = log();
    let taken = rows.remove(2);
    rows.insert(6, taken.clone());
    told(renumbered(rows), Wrong::Moved { sequence: 3, stands_at: 7 });
    let mut rows = log();
    rows.remove(2);
    rows.push(Row { link: Link { sequence: 400, ..taken.link }, ..taken });
    told(rows, Wrong::Moved { sequence: 3, stands_at: 400 });
}

#[test]
fn a_cut_end_is_seen_beside_the_true_rows_alone() {
    let rows = log()[..7].to_vec();
    assert_eq!(alone(rows.clone()), None);
    assert_eq!(beside(rows), Some(Wrong::Removed { first: 8, last: 10 }));
}

#[test]
fn the_chain_is_followed_across_what_was_purged() {
    let purged = Purged { first: 3, last: log()[4].link };
    let rows: Vec<Row> = log().into_iter().filter(|row| !(3..=5).contains(&row.link.sequence)).collect();
    let walk = |gaps: &[Purged]| follow(Link::BEFORE_FIRST, gaps, found(rows.clone()), |_| {}).unwrap();
    assert_eq!(walk(&[purged]), Walked::Whole(log()[9].link));
    assert_eq!(walk(&[]), Walked::Broken(log()[1].link));
    assert_eq!(walk(&[Purged { last: log()[3].link, ..purged }]), Walked::Broken(log()[3].link));
    let forged = Purged { last: Link { hash: [1; 32], ..purged.last }, ..purged };
    assert_eq!(walk(&[forged]), Walked::Broken(forged.last));
}

#[test]
fn the_log_tells_of_its_seals() {
    let seal = seal::Seal {
        number: 3,
        provider: "Alfa S.p.A.".into(),
        sealed: entry(2).at,
        before: Link::BEFORE_FIRST,
        last: Link { sequence: 9, hash: [3; 32] },
        newest: entry(1).at,
        previous: [0; 32],
        rows: [0; 32],
    };
    let at = entry(1).at;
    let stamp = Stamped { number: 3, sha256: [11; 32], at, serial: "01".into(), authority: "CN=Clock".into() };
    let entries = [seal.entry(), stamp.entry(at), purge::entry(&seal, &[], at)];
    let mut told = Told::default();
    for entry in &entries {
        told.hear(&Row::new(Link::BEFORE_FIRST.next(entry), entry));
    }
    // What only looks like one.
    let copy = Entry { kind: EventKind::Copy, subject: Some("\",\"kind\":\"seal\"".into()), ..entries[0].clone() };
    told.hear(&Row::new(Link::BEFORE_FIRST.next(&copy), &Entry { details: None, ..copy }));
    let file = |sha256| Some(ToldSeal { sequence: 1, sha256 });
    assert_eq!(told.seals.get(&3).copied(), file(seal.digest()));
    assert_eq!(told.stamps.get(&3).copied(), file([11; 32]));
    assert_eq!((told.purges.get(&1), told.seals.len()), (Some(&(3, at)), 1));
}
