use std::io::{BufRead, Read};
use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::legal_log::Link;
use crate::model::TemporalReference;

fn seal(number: u64) -> Seal {
    Seal {
        number,
        provider: "Alfa S.p.A.".into(),
        sealed: TemporalReference::from_rfc3339("2026-07-16T00:00:03+02:00").unwrap(),
        before: Link { sequence: 100, hash: [1; 32] },
        last: Link { sequence: 240, hash: [2; 32] },
        newest: TemporalReference::from_rfc3339("2026-07-15T23:59:58+02:00").unwrap(),
        previous: [3; 32],
        rows: [4; 32],
    }
}

fn folder() -> (tempfile::TempDir, SealFolder) {
    let parent = tempfile::tempdir().unwrap();
    let folder = SealFolder::open(&parent.path().join("seals")).unwrap();
    (parent, folder)
}

fn written(folder: &SealFolder, number: u64) -> String {
    let name = seal(number).name();
    let mut rows = folder.new_rows().unwrap();
    rows.append(b"one\n").unwrap();
    rows.append(b"two\n").unwrap();
    rows.finish(&name).unwrap();
    folder.write(&name, Part::Seal, seal(number).to_text().as_bytes()).unwrap();
    folder.write(&name, Part::Signature, b"signature").unwrap();
    name
}

#[test]
fn what_was_written_is_found_by_number() {
    let (_parent, folder) = folder();
    let second = written(&folder, 1_000_000);
    let first = written(&folder, 12);
    folder.write(&first, Part::Stamp, b"stamp").unwrap();
    let found = folder.list().unwrap();
    assert_eq!(
        found.iter().map(|one| (one.number, &one.name)).collect::<Vec<_>>(),
        [(12, &first), (1_000_000, &second)]
    );
    assert!(Part::ALL.into_iter().all(|part| found[0].has(part)));
    assert!(found[1].has(Part::Rows) && !found[1].has(Part::Stamp));
    assert_eq!(folder.seal(&first).unwrap(), Some(seal(12)));
    assert_eq!(folder.read(&first, Part::Stamp).unwrap(), Some(b"stamp".to_vec()));
    let lines: io::Result<Vec<String>> = folder.rows(&first).unwrap().unwrap().lines().collect();
    assert_eq!(lines.unwrap(), ["one", "two"]);
    for path in durable::entries(&folder.folder).unwrap() {
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600, "{}", path.display());
    }
    assert_eq!(fs::metadata(&folder.folder).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn what_is_not_there_is_none_and_may_be_removed() {
    let (parent, folder) = folder();
    let name = seal(12).name();
    assert!(folder.seal(&name).unwrap().is_none() && folder.rows(&name).unwrap().is_none());
    assert_eq!(folder.read(&name, Part::Stamp).unwrap(), None);
    folder.remove(&name, Part::Rows).unwrap();
    written(&folder, 12);
    folder.remove(&name, Part::Rows).unwrap();
    assert!(!folder.list().unwrap()[0].has(Part::Rows));
    assert!(SealFolder::at(&parent.path().join("absent")).list().unwrap().is_empty());
}

#[test]
fn what_is_no_file_of_a_seal_is_left_alone() {
    let (_parent, folder) = folder();
    for name in
        ["12-2026-07-15.seal", "000012-2026-07-15.txt", "000012-2026-13-15.seal", "notes", "000012.seal", "x-y.rows"]
    {
        fs::write(folder.folder.join(name), "x").unwrap();
    }
    assert!(folder.list().unwrap().is_empty());
    let _lock = folder.lock().unwrap();
    assert_eq!(durable::entries(&folder.folder).unwrap().len(), 7);
}

#[test]
fn an_altered_seal_is_told_with_its_place() {
    let (_parent, folder) = folder();
    let name = written(&folder, 12);
    folder.write(&name, Part::Seal, b"\xff").unwrap();
    let error = folder.seal(&name).unwrap_err().to_string();
    assert!(error.contains("000012-2026-07-15.seal is no seal"), "{error}");
    let large = usize::try_from(LARGEST).unwrap() + 1;
    folder.write(&name, Part::Stamp, &vec![0; large]).unwrap();
    assert!(folder.read(&name, Part::Stamp).unwrap_err().to_string().contains("too large"));
}

#[test]
fn one_holds_the_lock_and_finds_what_a_dead_writer_left() {
    let (_parent, folder) = folder();
    let mut rows = folder.new_rows().unwrap();
    rows.append(b"half").unwrap();
    std::mem::forget(rows);
    let lock = folder.lock().unwrap();
    assert!(folder.list().unwrap().is_empty());
    assert_eq!(durable::entries(&folder.folder).unwrap(), [folder.folder.join(LOCK)]);

    let (sender, receiver) = std::sync::mpsc::channel();
    let other = folder.clone();
    let waiting = std::thread::spawn(move || {
        let _lock = other.lock().unwrap();
        sender.send(()).unwrap();
    });
    assert!(receiver.try_recv().is_err());
    drop(lock);
    receiver.recv().unwrap();
    waiting.join().unwrap();
}

#[test]
fn rows_may_be_large() {
    let (_parent, folder) = folder();
    let mut rows = folder.new_rows().unwrap();
    let page = vec![b'x'; 1024 * 1024];
    (0..3).for_each(|_| rows.append(&page).unwrap());
    rows.finish("000001-2026-07-15").unwrap();
    let mut read = Vec::new();
    folder.rows("000001-2026-07-15").unwrap().unwrap().read_to_end(&mut read).unwrap();
    assert_eq!(read.len(), 3 * page.len());
}
