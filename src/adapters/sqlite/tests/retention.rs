//! What a purge removes, what holds keep, and what a cut leaves.

use super::*;

/// The seal of the first rows, as sealing makes it.
async fn seal_of(disk: &Disk, last: i64) -> Seal {
    let log = SqliteLog::open_read_only(&disk.path).unwrap();
    let mut link = Link::BEFORE_FIRST;
    for one in
        log.of_period(TemporalReference::from_unix(0)..TemporalReference::from_unix(i64::MAX), 100).await.unwrap()
    {
        if one.sequence <= last {
            link = link.next(&one.entry);
        }
    }
    Seal {
        number: 1,
        provider: "Alfa".into(),
        sealed: TemporalReference::from_unix(NOW),
        before: Link::BEFORE_FIRST,
        last: link,
        newest: TemporalReference::from_unix(NOW),
        previous: [0; 32],
        rows: [0; 32],
    }
}

#[tokio::test]
async fn rows_go_with_an_entry_that_tells_so_and_no_others() {
    let disk = Disk::with_rows(4).await;
    let seal = seal_of(&disk, 3).await;
    let log = disk.log();
    let at = TemporalReference::from_unix(NOW + 9);
    log.purge(seal.clone(), at, None).await.unwrap();
    assert_eq!(log.reader().purged().await.unwrap(), [Purged { first: 1, last: seal.last }]);
    assert_eq!(rows(&disk.path), 2);
    // Once more is nothing.
    log.purge(seal, at, None).await.unwrap();
    assert_eq!(rows(&disk.path), 2);
    log.close().await.unwrap();
    let connection = Connection::open(&disk.path).unwrap();
    for sequence in [4, 5] {
        let error = connection.execute("DELETE FROM event WHERE sequence = ?1", [sequence]).unwrap_err().to_string();
        assert!(error.contains("never deleted"), "{error}");
    }
    assert_eq!(disk.log().record(vec![entry("Q5")]).await.unwrap()[0].sequence, 6);
}

#[tokio::test]
async fn what_does_not_agree_with_its_seal_is_not_removed() {
    let disk = Disk::with_rows(4).await;
    let seal = seal_of(&disk, 3).await;
    let walk = |seal: Seal, wanted: &'static str| {
        let reader = SqliteLog::open_read_only(&disk.path).unwrap();
        async move { reader.any_sealed(seal, move |one| one.entry.queue_id.as_deref() == Some(wanted)).await }
    };
    assert!(walk(seal.clone(), "Q2").await.unwrap());
    assert!(!walk(seal.clone(), "Q4").await.unwrap());
    let other = Seal { last: Link { hash: [9; 32], ..seal.last }, ..seal.clone() };
    let error = walk(other, "Q2").await.unwrap_err();
    assert!(matches!(error, StoreError::Chain { source: ChainBreak::Sealed { number: 1, found: 3 }, .. }), "{error}");
    let older = Seal { newest: TemporalReference::from_unix(NOW - 1), ..seal.clone() };
    let error = walk(older, "Q2").await.unwrap_err();
    assert!(matches!(error, StoreError::Chain { source: ChainBreak::Sealed { number: 1, found: 3 }, .. }), "{error}");
    disk.tamper("UPDATE event SET subject = 'x' WHERE sequence = 2");
    let error = walk(seal, "Q2").await.unwrap_err();
    assert!(matches!(error, StoreError::Chain { source: ChainBreak::Hash { sequence: 2 }, .. }), "{error}");
}

#[tokio::test]
async fn a_tail_of_another_form_is_damage() {
    for sql in ["UPDATE tail SET hash = x'00'", "UPDATE event SET hash = x'' WHERE sequence = 2"] {
        let disk = Disk::with_rows(2).await;
        disk.tamper(sql);
        let error = LogWalk::open(&disk.path).unwrap().last_and_tail().unwrap_err();
        assert!(error.is_damage, "{sql}: {error}");
    }
}

#[tokio::test]
async fn holds_stand_until_they_are_released() {
    let disk = Disk::new();
    let log = disk.log();
    let held = Held::Mailbox("anna@alfa.example".parse().unwrap());
    let at = TemporalReference::from_unix(NOW);
    let row = log.record(vec![Hold::entry(&held, "lite", at)]).await.unwrap()[0].sequence;
    let standing = log.reader().holds().await.unwrap();
    assert_eq!((standing[0].number, &standing[0].held), (row, &held));
    for (again, is_new) in [(0, true), (1, false)] {
        let released = log.record(vec![standing[0].release("fine", at)]).await.unwrap();
        assert_eq!(released[0].is_new, is_new, "{again}");
    }
    assert_eq!(log.reader().holds().await.unwrap(), []);
    let day = |from: i64| TemporalReference::from_unix(NOW + from)..TemporalReference::from_unix(NOW + from + 1);
    assert!(log.reader().has_any(day(0)).await.unwrap());
    assert!(!log.reader().has_any(day(1)).await.unwrap());
}

#[tokio::test]
async fn rows_cut_off_at_the_end_leave_the_tail_behind() {
    let disk = Disk::with_rows(4).await;
    disk.tamper("DELETE FROM event WHERE sequence > 2");
    let cut = ChainBreak::Tail { found: 2, last: 4 };
    for error in [disk.verify().await.unwrap_err(), SqliteLog::open(&disk.path).unwrap_err()] {
        assert!(matches!(&error, StoreError::Chain { source, .. } if *source == cut), "{error}");
    }
}
