use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::model::TemporalReference;
use crate::virus::{Place, VirusName};

fn infected(at: i64, id: &str) -> Infected {
    Infected {
        at: TemporalReference::from_unix(at),
        place: Place::IncomingPoint,
        id: id.parse().unwrap(),
        queue_id: "4Sxyz1".into(),
        sender: "anna@alfa.example".into(),
        recipients: vec!["bruno@beta.example".into(), "dario@beta.example".into()],
        virus: VirusName::new("Win.Test.EICAR_HDB-1"),
    }
}

fn message() -> Pieces {
    let mut message = Pieces::from("Subject: s\r\n\r\n");
    message.push("body\r\n");
    message
}

/// 15 July 2024, 10:30:45 in Rome.
const JULY: i64 = 1_721_032_245;

fn stored() -> (tempfile::TempDir, VirusStorage) {
    let folder = tempfile::tempdir().unwrap();
    let storage = VirusStorage::open(&folder.path().join("virus")).unwrap();
    (folder, storage)
}

/// All files below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let (folders, mut files): (Vec<_>, Vec<_>) =
        durable::entries(folder).unwrap().into_iter().partition(|path| path.is_dir());
    folders.iter().for_each(|folder| files.extend(self::files(folder)));
    files
}

#[test]
fn a_message_is_kept_with_what_is_known_of_it_for_its_owner_alone() {
    let (_folder, storage) = stored();
    let name = storage.write(&message(), &infected(JULY, "pec.1@alfa.example")).unwrap();
    assert!(name.starts_with("2024-07-15-pec.1@alfa.example-"), "{name}");
    let record = storage.show(&name).unwrap();
    assert_eq!((record.virus.as_str(), record.found.as_str()), ("Win.Test.EICAR_HDB-1", "incoming-point"));
    assert_eq!(record.recipients.len(), 2);
    assert_eq!(record.octets, message().len());
    for path in files(&storage.folder) {
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600, "{path:?}");
        assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
    }
}

#[test]
fn a_message_kept_again_is_the_same_one_and_another_is_another() {
    let (_folder, storage) = stored();
    let keep = |message: &Pieces, id| storage.write(message, &infected(JULY, id)).unwrap();
    let first = keep(&message(), "a/b@alfa.example");
    assert_eq!(keep(&message(), "a/b@alfa.example"), first);
    assert_eq!(files(&storage.folder).len(), 2, "nothing else is left behind");
    assert_ne!(keep(&message(), "a_b@alfa.example"), first, "ids that differ in what a name cannot hold");
    assert_ne!(keep(&Pieces::from("other"), "a/b@alfa.example"), first);
    assert_eq!(storage.list(None, None).unwrap().len(), 3);
    let long = keep(&message(), &format!("{}@alfa.example", "x".repeat(800)));
    assert!(storage.show(&long).is_ok());
}

#[test]
fn a_message_whose_record_was_not_written_is_kept_anew() {
    let (_folder, storage) = stored();
    let about = infected(JULY, "pec.1@alfa.example");
    let name = storage.write(&message(), &about).unwrap();
    fs::remove_file(storage.path(&name, "json").unwrap()).unwrap();
    fs::write(storage.path(&name, "eml").unwrap(), "half").unwrap();
    assert!(storage.list(None, None).unwrap().is_empty());
    assert_eq!(storage.write(&message(), &about).unwrap(), name);
    let target = storage.folder.join("out.eml");
    storage.export(&name, &target).unwrap();
    assert_eq!(fs::read(&target).unwrap(), message().to_vec());
}

#[test]
fn export_overwrites_nothing_and_notices_what_was_altered() {
    let (folder, storage) = stored();
    let name = storage.write(&message(), &infected(JULY, "pec.1@alfa.example")).unwrap();
    let target = folder.path().join("out.eml");
    storage.export(&name, &target).unwrap();
    assert_eq!(fs::read(&target).unwrap(), message().to_vec());
    assert!(matches!(storage.export(&name, &target), Err(StorageError::File(FileError { action: "make", .. }))));
    fs::write(storage.path(&name, "eml").unwrap(), "altered").unwrap();
    assert!(matches!(storage.export(&name, &folder.path().join("x")), Err(StorageError::Altered(_))));
    assert!(!folder.path().join("x").exists());
}

#[test]
fn a_name_never_leads_out_of_the_store() {
    let (_folder, storage) = stored();
    for name in
        ["", "x", "2024-07-15", "2024-07-15-/../../etc/passwd", "2024-13-40-x", "../2024-07-15-x", "2024-07-1\u{e8}"]
    {
        assert!(matches!(storage.show(name), Err(StorageError::Unknown(_))), "{name:?}");
    }
}

#[test]
fn a_list_has_both_its_days_and_the_earliest_first() {
    let (_folder, storage) = stored();
    for (at, id) in [(JULY + 86_400, "c@x"), (JULY, "b@x"), (JULY - 5, "a@x"), (JULY - 86_400, "before@x")] {
        storage.write(&message(), &infected(at, id)).unwrap();
    }
    let day = |text: &str| Some(text.parse::<Date>().unwrap());
    let list = storage.list(day("2024-07-15"), day("2024-07-16")).unwrap();
    assert_eq!(list.iter().map(|record| record.pec_msgid.as_str()).collect::<Vec<_>>(), ["a@x", "b@x", "c@x"]);
    assert!(VirusStorage::at(Path::new("/nowhere")).list(None, None).unwrap().is_empty());
}

#[test]
fn a_day_goes_with_all_that_was_kept_of_it_and_nothing_else() {
    let (_folder, storage) = stored();
    storage.write(&message(), &infected(JULY - 86_400, "a@x")).unwrap();
    storage.write(&message(), &infected(JULY, "b@x")).unwrap();
    let foreign = storage.folder.join("1999-1-1");
    fs::create_dir(&foreign).unwrap();
    let days = storage.days().unwrap();
    assert_eq!(days, ["2024-07-14".parse().unwrap(), "2024-07-15".parse().unwrap()]);
    storage.remove(days[0]).unwrap();
    assert_eq!(storage.days().unwrap(), days[1..]);
    assert_eq!(storage.list(None, None).unwrap().len(), 1);
    assert!(storage.remove(days[0]).is_err(), "it is gone");
    assert!(foreign.exists(), "what is not a day of the store is left alone");
}

#[tokio::test]
async fn a_store_that_cannot_be_written_is_a_fault() {
    let (folder, _) = stored();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(matches!(VirusStorage::open(&file), Err(StorageError::File(FileError { action: "make", .. }))));
    let storage = VirusStorage { folder: file };
    let about = infected(JULY, "a@x");
    assert!(storage.keep(&message(), &about).await.is_err());
}
