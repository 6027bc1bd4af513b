use std::os::unix::fs::PermissionsExt;

use super::*;

/// 15 July 2024, 10:30:45 in Rome.
const JULY: i64 = 1_721_032_245;

fn at(unix: i64) -> TemporalReference {
    TemporalReference::from_unix(unix)
}

fn id(text: &str) -> PecMsgid {
    text.parse().unwrap()
}

fn key_file(folder: &Path, octets: &[u8], mode: u32) -> PathBuf {
    let path = folder.join("key");
    fs::write(&path, octets).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    path
}

fn store(octet: u8, folder: &Path) -> Originals {
    let key = OriginalsKey::read(&key_file(folder, &[octet; 32], 0o600)).unwrap();
    Originals::open(&folder.join("originals"), key).unwrap()
}

/// The one file of a day.
fn file(folder: &Path) -> PathBuf {
    let mut files = durable::entries(&folder.join("originals/2024-07-15")).unwrap();
    assert_eq!(files.len(), 1, "{files:?}");
    files.remove(0)
}

const ID: &str = "pec/{1}*~x@alfa.example";

fn original() -> Bytes {
    Bytes::from(format!("Subject: riservato\r\n\r\n{}\r\n", "riservato ".repeat(5000)))
}

#[test]
fn an_original_comes_back_as_it_was_and_lies_encrypted_and_small_for_its_owner_alone() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(1, folder.path());
    store.write(&original(), &id(ID), at(JULY)).unwrap();
    assert_eq!(store.read(&id(ID), at(JULY + 60)).unwrap(), Some(original()));
    assert_eq!(store.read(&id("other@alfa.example"), at(JULY)).unwrap(), None);
    assert_eq!(store.read(&id(ID), at(JULY + 86_400)).unwrap(), None);

    let path = file(folder.path());
    let octets = fs::read(&path).unwrap();
    assert!(octets.len() < 500, "{} octets", octets.len());
    assert!(!octets.windows(9).any(|window| window == b"riservato"));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn an_original_kept_again_is_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(1, folder.path());
    let keep = || {
        store.write(&original(), &id(ID), at(JULY)).unwrap();
        fs::read(file(folder.path())).unwrap()
    };
    assert_eq!(keep(), keep());
}

#[test]
fn another_key_an_altered_octet_and_another_messages_file_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let first = store(1, folder.path());
    first.write(&original(), &id(ID), at(JULY)).unwrap();
    let error = store(2, folder.path()).read(&id(ID), at(JULY)).unwrap_err();
    assert!(matches!(error, OriginalsError::Unreadable { source: Unreadable::AnotherKey, .. }), "{error:?}");

    let path = file(folder.path());
    let whole = fs::read(&path).unwrap();
    for place in 0..whole.len() {
        let mut altered = whole.clone();
        altered[place] ^= 1;
        assert!(first.key.open(altered, &id(ID)).is_err(), "octet {place}");
    }
    for end in [0, 8, 47, whole.len() - 1] {
        assert!(first.key.open(whole[..end].to_vec(), &id(ID)).is_err(), "cut at {end}");
    }
    assert!(matches!(first.key.open(whole, &id("other@alfa.example")), Err(Unreadable::Altered)));
}

#[test]
fn a_key_file_is_32_octets_for_its_owner_alone() {
    let folder = tempfile::tempdir().unwrap();
    let read = |octets: &[u8], mode| OriginalsKey::read(&key_file(folder.path(), octets, mode));
    assert!(read(&[7; 32], 0o600).is_ok() && read(&[7; 32], 0o400).is_ok());
    for length in [0, 31, 33, 64] {
        assert!(matches!(read(&vec![7; length], 0o600), Err(KeyError::Length(_))), "{length}");
    }
    for mode in [0o640, 0o604, 0o644] {
        assert!(matches!(read(&[7; 32], mode), Err(KeyError::OpenToOthers { .. })), "{mode:o}");
    }
    assert!(matches!(OriginalsKey::read(&folder.path().join("none")), Err(KeyError::File { .. })));
    assert_eq!(format!("{:?}", read(&[7; 32], 0o600).unwrap()), "OriginalsKey");
}

#[test]
fn a_day_goes_with_all_its_originals_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(1, folder.path());
    for (unix, id_text) in [(JULY - 86_400, "a@x"), (JULY, "b@x"), (JULY, "c@x")] {
        store.write(&original(), &id(id_text), at(unix)).unwrap();
    }
    let shelves = Shelves::at(&folder.path().join("originals"));
    fs::write(folder.path().join("originals/2024-07-15/half.1-2.new"), "half").unwrap();
    fs::create_dir(folder.path().join("originals/1999-1-1")).unwrap();
    let day = |text: &str| text.parse::<Date>().unwrap();
    assert_eq!(shelves.days().unwrap(), [day("2024-07-14"), day("2024-07-15")]);
    shelves.remove(day("2024-07-15")).unwrap();
    assert_eq!(shelves.days().unwrap(), [day("2024-07-14")]);
    assert_eq!(store.read(&id("b@x"), at(JULY)).unwrap(), None);
    assert_eq!(store.read(&id("a@x"), at(JULY - 86_400)).unwrap(), Some(original()));
    assert!(folder.path().join("originals/1999-1-1").exists(), "what is no day of the store is left alone");
    assert_eq!(Shelves::at(Path::new("/nowhere")).days().unwrap(), []);
}

#[tokio::test]
async fn a_store_that_cannot_be_written_is_a_fault() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(1, folder.path());
    fs::remove_dir(folder.path().join("originals")).unwrap();
    fs::write(folder.path().join("originals"), "a file").unwrap();
    assert!(store.keep(&original(), &id(ID), at(JULY)).await.is_err());
}
