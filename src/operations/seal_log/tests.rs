//! Over a real database and a real folder; what a crash leaves is made by taking the database back to before the seal.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use rusqlite::Connection;

use super::*;
use crate::adapters::seal_store::SealFolder;
use crate::adapters::sqlite::SqliteLog;
use crate::legal_log::{hexadecimal, line};
use crate::operations::ports::EventLog;
use crate::operations::testing::{Clock, alfa};
use crate::smime::testing::{NOW, certificate, read};

/// Answers what it is told to, and counts.
#[derive(Default)]
struct Server {
    answer: Vec<u8>,
    asked: Mutex<usize>,
}

impl StampServer for Server {
    fn ask(&self, _: &[u8]) -> Result<Vec<u8>, OutsideFault> {
        *self.asked.lock().unwrap() += 1;
        match self.answer.is_empty() {
            true => Err("nobody there".into()),
            false => Ok(self.answer.clone()),
        }
    }
}

type Sealer = SealLog<SqliteLog, SealFolder, Server, Clock>;

struct Bench {
    folder: tempfile::TempDir,
    clock: Clock,
}

impl Bench {
    fn new() -> Self {
        Bench { folder: tempfile::tempdir().unwrap(), clock: Clock::default() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn seals(&self) -> PathBuf {
        self.path("seals")
    }

    /// What seals the database of this name.
    fn sealer(&self, database: &str) -> Sealer {
        SealLog {
            current: Handle::new(alfa()),
            log: Arc::new(SqliteLog::open(&self.path(database)).unwrap()),
            folder: SealFolder::open(&self.seals()).unwrap(),
            authority: None,
            instruments: self.clock.clone(),
        }
    }

    /// A copy of a database as it is now.
    fn copy(&self, from: &str, to: &str) {
        let connection = Connection::open(self.path(from)).unwrap();
        connection.execute("VACUUM INTO ?1", [self.path(to).to_str().unwrap()]).unwrap();
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(self.path(to), fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn files(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.seals())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| !name.starts_with('.'))
            .collect();
        names.sort();
        names
    }
}

async fn arrive(sealer: &Sealer, queue_ids: &[&str]) {
    let entry = |queue_id: &&str| Entry {
        queue_id: Some((*queue_id).to_owned()),
        ..Entry::new(EventKind::Arrival, sealer.instruments.now())
    };
    sealer.log.record(queue_ids.iter().map(entry).collect()).await.unwrap();
}

async fn sealed(sealer: &Sealer) -> Seal {
    sealer.seal().await.unwrap().unwrap().seal
}

fn told(result: Result<Option<Made>, NotSealed>) -> String {
    result.unwrap_err().to_string()
}

#[tokio::test]
async fn seals_follow_one_another_and_hold_every_row() {
    let bench = Bench::new();
    let sealer = bench.sealer("log");
    assert!(sealer.seal().await.unwrap().is_none());
    arrive(&sealer, &["A", "B", "C"]).await;
    let first = sealed(&sealer).await;
    assert_eq!((first.number, first.first(), first.last.sequence, first.previous), (1, 1, 3, [0; 32]));
    assert_eq!(first.newest.unix(), NOW);
    assert_eq!(bench.files(), ["000001-2024-07-15.p7s", "000001-2024-07-15.rows", "000001-2024-07-15.seal"]);

    let rows = fs::read_to_string(bench.seals().join("000001-2024-07-15.rows")).unwrap();
    let digest: [u8; 32] = Sha256::digest(&rows).into();
    assert_eq!(digest, first.rows);
    let mut link = Link::BEFORE_FIRST;
    for text in rows.lines() {
        let (hash, text) = text.split_once(' ').unwrap();
        link = link.next(&line::read(text).unwrap().1);
        assert_eq!(hexadecimal(&link.hash), hash);
    }
    assert_eq!(link, first.last);
    let signature = fs::read(bench.seals().join("000001-2024-07-15.p7s")).unwrap();
    let verified = verify(&signature, first.to_text().as_bytes(), Sha1Policy::Refuse).unwrap();
    assert_eq!(verified.signer, certificate("provider"));

    // The row of the seal itself is no reason for another seal.
    assert!(sealer.seal().await.unwrap().is_none());
    bench.clock.set(86_400);
    arrive(&sealer, &["D"]).await;
    let second = sealed(&sealer).await;
    assert_eq!((second.number, second.before, second.last.sequence), (2, first.last, 5));
    assert_eq!((second.previous, second.name().as_str()), (first.digest(), "000002-2024-07-16"));
}

#[tokio::test]
async fn more_rows_than_a_page_are_sealed_and_rows_that_come_meanwhile_wait() {
    let bench = Bench::new();
    let sealer = bench.sealer("log");
    let names: Vec<String> = (0..2500).map(|number| format!("Q{number}")).collect();
    arrive(&sealer, &names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let exported = sealer.export(Link::BEFORE_FIRST, 2400).await.unwrap();
    assert_eq!(exported.last.sequence, 2400);
    drop(exported);
    assert!(bench.files().is_empty());
    assert_eq!(sealed(&sealer).await.last.sequence, 2500);
}

#[tokio::test]
async fn a_log_that_is_not_as_it_was_written_is_not_signed() {
    let bench = Bench::new();
    let sealer = bench.sealer("log");
    arrive(&sealer, &["A", "B", "C"]).await;
    let raw = Connection::open(bench.path("log")).unwrap();
    raw.execute_batch("DROP TRIGGER event_refuses_update; UPDATE event SET queue_id = 'X' WHERE sequence = 2").unwrap();
    let failure = sealer.seal().await.unwrap_err();
    assert!(matches!(failure, NotSealed::Altered(ChainBreak::Hash { sequence: 2 })), "{failure}");
    raw.execute_batch("DROP TRIGGER event_refuses_delete; DELETE FROM event WHERE sequence = 2").unwrap();
    let failure = sealer.seal().await.unwrap_err();
    assert!(matches!(failure, NotSealed::Altered(ChainBreak::Gap { expected: 2, found: 3 })), "{failure}");
    assert!(bench.files().is_empty());
}

/// A folder with the first seal, and a database that does not know it yet.
async fn interrupted() -> (Bench, Seal) {
    let bench = Bench::new();
    let sealer = bench.sealer("log");
    arrive(&sealer, &["A", "B"]).await;
    bench.copy("log", "before");
    let seal = sealed(&sealer).await;
    bench.clock.set(60);
    (bench, seal)
}

#[tokio::test]
async fn what_was_left_half_made_is_finished_as_it_was_begun() {
    for lost in [&[][..], &["p7s"], &["p7s", "rows"]] {
        let (bench, seal) = interrupted().await;
        let rows = fs::read(bench.seals().join("000001-2024-07-15.rows")).unwrap();
        for ending in lost {
            fs::remove_file(bench.seals().join(format!("000001-2024-07-15.{ending}"))).unwrap();
        }
        let sealer = bench.sealer("before");
        arrive(&sealer, &["C"]).await;
        let made = sealer.seal().await.unwrap().unwrap();
        // Without a signature it is as of now.
        let sealed = if lost.is_empty() { seal.sealed } else { sealer.instruments.now() };
        assert!(made.was_left && made.seal == Seal { sealed, ..seal }, "{lost:?}");
        let text = fs::read_to_string(bench.seals().join("000001-2024-07-15.seal")).unwrap();
        assert_eq!(text, made.seal.to_text());
        let signature = fs::read(bench.seals().join("000001-2024-07-15.p7s")).unwrap();
        verify(&signature, text.as_bytes(), Sha1Policy::Refuse).unwrap();
        assert_eq!(bench.files().len(), 3);
        assert_eq!(fs::read(bench.seals().join("000001-2024-07-15.rows")).unwrap(), rows);
        let next = sealer.seal().await.unwrap().unwrap();
        assert!(!next.was_left);
        assert_eq!((next.seal.number, next.seal.first(), next.seal.last.sequence), (2, 3, 4));
    }
}

#[tokio::test]
async fn rows_without_a_seal_are_exported_again() {
    let (bench, _) = interrupted().await;
    for ending in ["p7s", "seal"] {
        fs::remove_file(bench.seals().join(format!("000001-2024-07-15.{ending}"))).unwrap();
    }
    let sealer = bench.sealer("before");
    bench.clock.set(86_400);
    arrive(&sealer, &["C"]).await;
    let made = sealer.seal().await.unwrap().unwrap();
    assert!(!made.was_left);
    assert_eq!(made.seal.last.sequence, 3);
    assert_eq!(bench.files(), ["000001-2024-07-16.p7s", "000001-2024-07-16.rows", "000001-2024-07-16.seal"]);
}

#[tokio::test]
async fn a_signature_of_nobodys_is_never_written_over() {
    let (bench, _) = interrupted().await;
    let file = bench.seals().join("000001-2024-07-15.p7s");
    fs::write(&file, "no signature").unwrap();
    let text = fs::read(bench.seals().join("000001-2024-07-15.seal")).unwrap();
    let said = told(bench.sealer("before").seal().await);
    assert!(said.contains("000001-2024-07-15.p7s") && said.contains("key.previous_certificates"), "{said}");
    assert_eq!(fs::read(&file).unwrap(), b"no signature");
    assert_eq!(fs::read(bench.seals().join("000001-2024-07-15.seal")).unwrap(), text);
}

#[tokio::test]
async fn files_of_another_history_are_never_written_over() {
    let (bench, _) = interrupted().await;
    let other = bench.sealer("other");
    arrive(&other, &["X", "Y"]).await;
    let all = |bench: &Bench| -> Vec<Vec<u8>> {
        bench.files().iter().map(|name| fs::read(bench.seals().join(name)).unwrap()).collect()
    };
    let before = all(&bench);
    let said = told(other.seal().await);
    assert!(said.contains("000001-2024-07-15") && said.contains("older copy") && said.contains("000001 on"), "{said}");
    assert_eq!(all(&bench), before);

    // Rows alone say it, too.
    for ending in ["p7s", "seal"] {
        fs::remove_file(bench.seals().join(format!("000001-2024-07-15.{ending}"))).unwrap();
    }
    assert!(told(other.seal().await).contains("other rows"));

    // And later seals than the next.
    let (bench, _) = interrupted().await;
    let sealer = bench.sealer("log");
    arrive(&sealer, &["C"]).await;
    sealed(&sealer).await;
    for file in bench.files().iter().filter(|name| name.starts_with("000001")) {
        fs::remove_file(bench.seals().join(file)).unwrap();
    }
    assert!(told(bench.sealer("before").seal().await).contains("no seal before it"));
}

#[tokio::test]
async fn rows_that_were_changed_in_their_file_are_not_signed() {
    let (bench, _) = interrupted().await;
    let file = bench.seals().join("000001-2024-07-15.rows");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("\"A\"", "\"B\"")).unwrap();
    assert!(told(bench.sealer("before").seal().await).contains("rows were changed"));
}

/// What somebody makes of the text of the seal of [`interrupted`], who can write the folder and has no key.
fn forge(bench: &Bench, seal: &Seal, change: impl FnOnce(&mut Seal)) {
    let mut forged = seal.clone();
    change(&mut forged);
    assert_eq!(forged.name(), seal.name());
    fs::write(bench.seals().join("000001-2024-07-15.seal"), forged.to_text()).unwrap();
    fs::remove_file(bench.seals().join("000001-2024-07-15.p7s")).unwrap();
}

#[tokio::test]
async fn nothing_is_signed_that_the_log_does_not_hold() {
    // A row in the middle, with the seal that fits it; the last row and its hash are those of the log.
    let (bench, seal) = interrupted().await;
    let file = bench.seals().join("000001-2024-07-15.rows");
    let rows = fs::read_to_string(&file).unwrap().replace("\"A\"", "\"X\"");
    fs::write(&file, &rows).unwrap();
    forge(&bench, &seal, |seal| seal.rows = Sha256::digest(&rows).into());
    let sealer = bench.sealer("before");
    assert!(told(sealer.seal().await).contains("other rows"));
    // Nor where the rows are to be exported again.
    fs::remove_file(&file).unwrap();
    assert!(told(sealer.seal().await).contains("other rows"));

    // The newest instant of the rows, by which their retention is reckoned.
    let (bench, seal) = interrupted().await;
    forge(&bench, &seal, |seal| seal.newest = TemporalReference::from_unix(NOW + 1));
    let sealer = bench.sealer("before");
    assert!(told(sealer.seal().await).contains("other rows"));
    assert_eq!(bench.files(), ["000001-2024-07-15.rows", "000001-2024-07-15.seal"]);
    assert!(sealer.known().await.unwrap().last.is_none());
}

#[tokio::test]
async fn a_seal_of_another_name_or_of_the_future_is_made_anew_without_its_signature() {
    let (bench, _) = interrupted().await;
    bench.clock.set(-1);
    let sealer = bench.sealer("before");
    assert!(told(sealer.seal().await).contains("still to come"));
    bench.clock.set(0);
    assert!(sealer.seal().await.unwrap().unwrap().was_left);

    let (bench, seal) = interrupted().await;
    let day_ahead = TemporalReference::from_unix(NOW + 86_400);
    forge(&bench, &seal, |seal| (seal.provider, seal.sealed) = ("Beta".to_owned(), day_ahead));
    let sealer = bench.sealer("before");
    let now = sealer.instruments.now();
    assert_eq!(sealed(&sealer).await, Seal { sealed: now, ..seal });
}

/// Signed by this provider, and under another name: no crash leaves that.
#[tokio::test]
async fn a_signed_seal_of_another_name_is_not_adopted() {
    let (bench, seal) = interrupted().await;
    forge(&bench, &seal, |seal| seal.provider = "Beta".to_owned());
    let forged = Seal { provider: "Beta".to_owned(), ..seal };
    bench.sealer("before").sign(&forged).await.unwrap();
    assert!(told(bench.sealer("before").seal().await).contains("another name"));
}

#[tokio::test]
async fn a_day_that_has_ended_is_sealed_and_the_present_one_is_not() {
    const DAY: i64 = 86_400;
    let bench = Bench::new();
    let sealer = bench.sealer("log");
    let count = async || sealer.known().await.unwrap().sealed.len();
    let look = async || sealer.seal_if_due().await.unwrap();
    bench.clock.set(DAY);
    look().await;
    arrive(&sealer, &["A"]).await;
    look().await;
    assert_eq!(count().await, 0);
    bench.clock.set(2 * DAY);
    look().await;
    assert_eq!(count().await, 1);
    arrive(&sealer, &["B"]).await;
    look().await;
    assert_eq!(count().await, 1);
    bench.clock.set(5 * DAY);
    look().await;
    assert_eq!(count().await, 2);
    // Days without mail make no seals.
    bench.clock.set(6 * DAY);
    look().await;
    assert_eq!(count().await, 2);
}

#[tokio::test]
async fn a_clock_that_stood_ahead_stops_no_sealing() {
    const DAY: i64 = 86_400;
    let bench = Bench::new();
    let sealer = bench.sealer("log");
    let look = async || {
        sealer.seal_if_due().await.unwrap();
        sealer.known().await.unwrap().sealed.len()
    };
    bench.clock.set(400 * DAY);
    arrive(&sealer, &["A"]).await;
    bench.clock.set(401 * DAY);
    assert_eq!(look().await, 1);
    // The clock is right again; one seal says so, and days go on from it.
    bench.clock.set(DAY);
    arrive(&sealer, &["B"]).await;
    assert_eq!(look().await, 2);
    arrive(&sealer, &["C"]).await;
    assert_eq!(look().await, 2);
    bench.clock.set(2 * DAY);
    assert_eq!(look().await, 3);
}

#[tokio::test]
async fn what_a_crash_left_is_due_at_once() {
    let (bench, _) = interrupted().await;
    let sealer = bench.sealer("before");
    sealer.seal_if_due().await.unwrap();
    assert_eq!(sealer.known().await.unwrap().next(), 2);
}

#[tokio::test]
async fn the_predecessor_of_a_seal_may_be_purged() {
    let bench = Bench::new();
    let sealer = bench.sealer("log");
    arrive(&sealer, &["A", "B"]).await;
    let first = sealed(&sealer).await;
    arrive(&sealer, &["C"]).await;
    let raw = Connection::open(bench.path("log")).unwrap();
    raw.execute_batch("DROP TRIGGER event_refuses_delete; DELETE FROM event WHERE sequence <= 2").unwrap();
    let seal = fs::read(bench.seals().join("000001-2024-07-15.seal")).unwrap();
    fs::remove_file(bench.seals().join("000001-2024-07-15.seal")).unwrap();
    assert!(told(sealer.seal().await).contains("bring the seal back"));
    fs::write(bench.seals().join("000001-2024-07-15.seal"), seal).unwrap();
    let second = sealed(&sealer).await;
    assert_eq!((second.before, second.previous), (first.last, first.digest()));
}

fn with_authority(sealer: Sealer, answer: &[u8]) -> Sealer {
    let trust = Arc::new(Trust::from_pem(&read("certificates/root.pem")).unwrap());
    let server = Arc::new(Server { answer: answer.to_vec(), ..Server::default() });
    SealLog { authority: Some(Authority { server, trust }), ..sealer }
}

#[tokio::test]
async fn a_seal_waits_for_its_stamp_and_one_failure_is_enough() {
    let bench = Bench::new();
    let sealer = bench.sealer("log");
    for queue_id in ["A", "B"] {
        arrive(&sealer, &[queue_id]).await;
        sealed(&sealer).await;
    }
    let names = ["000001-2024-07-15", "000002-2024-07-15"];
    let stamping = sealer.stamp().await.unwrap();
    assert_eq!(stamping.waiting, names);
    assert!(matches!(stamping.failure, Some(NotStamped::NoAuthority)));

    let sealer = with_authority(sealer, b"");
    let stamping = sealer.stamp().await.unwrap();
    assert!(matches!(stamping.failure, Some(NotStamped::NoAnswer(_))) && stamping.waiting == names);
    assert_eq!(*sealer.authority.as_ref().unwrap().server.asked.lock().unwrap(), 1);

    let sealer = with_authority(sealer, b"<html>");
    let stamping = sealer.stamp().await.unwrap();
    assert!(matches!(stamping.failure, Some(NotStamped::NoStamp(_))));
    assert!(bench.files().iter().all(|name| !name.ends_with(".tsr")));
}

#[tokio::test]
async fn a_lost_signature_keeps_the_other_seals_from_nothing() {
    let bench = Bench::new();
    let sealer = with_authority(bench.sealer("log"), b"");
    for queue_id in ["A", "B"] {
        arrive(&sealer, &[queue_id]).await;
        sealed(&sealer).await;
    }
    fs::remove_file(bench.seals().join("000001-2024-07-15.p7s")).unwrap();
    let stamping = sealer.stamp().await.unwrap();
    assert!(matches!(stamping.failure, Some(NotStamped::NoSignature(_))));
    assert_eq!(*sealer.authority.as_ref().unwrap().server.asked.lock().unwrap(), 1);
}

#[tokio::test]
async fn a_stamp_that_does_not_hold_any_more_is_never_written_over() {
    let bench = Bench::new();
    let sealer = with_authority(bench.sealer("log"), b"");
    for queue_id in ["A", "B"] {
        arrive(&sealer, &[queue_id]).await;
        sealed(&sealer).await;
    }
    let file = bench.seals().join("000001-2024-07-15.tsr");
    fs::write(&file, "of a former authority").unwrap();
    let stamping = sealer.stamp().await.unwrap();
    let said = stamping.failure.unwrap().to_string();
    assert!(said.contains("log.tsa_ca_file") && said.contains("move 000001-2024-07-15.tsr away"), "{said}");
    assert_eq!(stamping.waiting, ["000001-2024-07-15", "000002-2024-07-15"]);
    assert_eq!(fs::read_to_string(file).unwrap(), "of a former authority");
    // The authority is asked about the other one alone.
    assert_eq!(*sealer.authority.as_ref().unwrap().server.asked.lock().unwrap(), 1);
}

#[tokio::test]
async fn an_expired_key_lets_the_seal_wait_with_its_rows() {
    const IN_2091: i64 = 3_818_448_000;
    let bench = Bench::new();
    let sealer = bench.sealer("log");
    arrive(&sealer, &["A"]).await;
    bench.clock.set(IN_2091 - NOW);
    let failure = sealer.seal().await.unwrap_err();
    assert!(matches!(failure, NotSealed::Signing(SigningError::Expired { .. })), "{failure}");
    assert_eq!(bench.files(), ["000001-2024-07-15.rows", "000001-2024-07-15.seal"]);
    assert!(Path::new(&bench.seals()).exists() && sealer.known().await.unwrap().last.is_none());
}
