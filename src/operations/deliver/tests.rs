//! The hop with a log, servers and a clock of the test's own: anna@alfa.example wrote, her provider delivers.

mod beside;
mod overtaking;

use super::*;
use crate::directory::{Directory, ProviderRecord};
use crate::legal_log::Recorded;
use crate::legal_log::audit::{self, findings};
use crate::message::header::Header;
use crate::operations::ports::MailRecipient;
use crate::operations::testing::{Clock, MemoryLog, Servers, Sniffer, alfa, beta, envelope};
use crate::operations::triggers::Trigger::{Acceptance, TakeCharge};
use crate::smime::testing::{certificate, key};
use crate::smime::{Engine, Keyring, Signer};

const ID: &str = "pec.1@alfa.example";
const ANNA: &str = "anna@alfa.example";
const CARLA: &str = "carla@alfa.example";
const DARIO: &str = "dario@alfa.example";
const SERVICE: &str = "ricevute@alfa.example";

struct Bench {
    hop: Hop<MemoryLog, Servers, Servers, Clock>,
    servers: Servers,
    clock: Clock,
    sniffer: Sniffer,
}

impl Bench {
    fn new(current: Current) -> Self {
        Bench::over(Arc::default(), current)
    }

    /// Another hop over the same log.
    fn over(log: Arc<MemoryLog>, current: Current) -> Self {
        let (servers, clock, sniffer) = (Servers::default(), Clock::default(), Sniffer::default());
        let hop = Hop {
            current: Handle::new(current),
            log,
            mailboxes: servers.clone(),
            injection: servers.clone(),
            instruments: clock.clone(),
            viruses: VirusGuard::new(sniffer.clone(), sniffer.clone()),
            originals: None,
            waiting_reports: WaitingReports::default(),
        };
        Bench { hop, servers, clock, sniffer }
    }

    /// The codes that Postfix is answered.
    async fn deliver(&self, file: QueueFile) -> Vec<u16> {
        self.hop.deliver(file).await.iter().map(|reply| reply.code).collect()
    }

    /// What stands in the log, one line an entry: kind, recipient, mailbox.
    fn log(&self) -> Vec<String> {
        let line = |one: Recorded| {
            let mailbox = entries::details::<entries::OutcomeDetails>(&one.entry).map(|known| known.mailbox);
            [Some(one.entry.kind.name().to_owned()), one.entry.recipient, mailbox]
                .into_iter()
                .flatten()
                .collect::<Vec<_>>()
                .join(" ")
        };
        self.hop.log.entries().into_iter().map(line).collect()
    }

    /// Nothing that an auditor would object to.
    fn assert_sound(&self) {
        let current = self.hop.current.now();
        let now = TemporalReference::from_unix(crate::smime::testing::NOW + 60);
        let provider = &current.provider;
        let standards = audit::Standards { provider, first_notice: 1, final_notice: 2, gaps: &[], now };
        let found = findings(&ID.parse().unwrap(), &self.hop.log.entries(), &standards);
        assert!(found.is_empty(), "{found:?}");
    }
}

/// A queue file with an envelope to CARLA and DARIO.
fn file(queue_id: &str, recipients: &[&str]) -> QueueFile {
    QueueFile { message: envelope(ID, &[CARLA, DARIO], "Ciao"), ..empty_file(queue_id, recipients) }
}

fn empty_file(queue_id: &str, recipients: &[&str]) -> QueueFile {
    // Postfix names the original recipient of each.
    let recipient = |text: &&str| MailRecipient { address: text.to_string(), orcpt: Some(format!("rfc822;{text}")) };
    let recipients = recipients.iter().map(recipient).collect();
    QueueFile {
        queue_id: queue_id.into(),
        sender: ANNA.into(),
        recipients,
        eight_bit: false,
        message: Default::default(),
    }
}

/// The two triggers of a message inside one provider, then these recipients.
fn asked<'a>(recipients: &[&'a str]) -> Vec<&'a str> {
    [&[Acceptance.address(), TakeCharge.address()], recipients].concat()
}

/// `address kind` of what was offered, without the octets.
fn kinds(offered: &[(String, Vec<u8>)]) -> Vec<String> {
    let kind = |octets: &[u8]| {
        let header = Header::read(octets);
        header.text("X-Ricevuta").or_else(|| header.text("X-Trasporto")).unwrap_or_default()
    };
    offered.iter().map(|(to, octets)| format!("{to} {}", kind(octets))).collect()
}

/// This provider after another key came into force and the directory dropped the one that signs [`envelope`].
fn with_another_key() -> Current {
    let current = alfa();
    let signer = Signer::new(key(Engine::AwsLc), certificate("other-address"), &[]).unwrap();
    let own = ProviderRecord::own(&current.provider, vec![certificate("other-address").der().to_vec()]);
    Current {
        keyring: Keyring::new(signer).into(),
        former: [certificate("provider")].into(),
        directory: Directory::empty().with_own(own).into(),
        ..current
    }
}

#[tokio::test]
async fn an_envelope_by_a_former_key_is_our_own_only_if_our_milter_made_it() {
    let bench = Bench::new(with_another_key());
    assert_eq!(bench.deliver(file("Q1", &[CARLA])).await, [250]);
    assert_eq!(kinds(&bench.servers.offered()), ["carla@alfa.example posta-certificata"]);
    assert!(bench.log().is_empty(), "a forged envelope was certified: {:?}", bench.log());

    let bench = Bench::new(with_another_key());
    assert_eq!(bench.deliver(file("Q1", &asked(&[CARLA, DARIO]))).await, [250; 4]);
    let receipts = kinds(&bench.servers.offered()).iter().filter(|line| line.ends_with("avvenuta-consegna")).count();
    assert_eq!(receipts, 2);
    bench.assert_sound();
}

const BRUNO: &str = "bruno@beta.example";

/// The provider of BRUNO after the directory dropped the one of ANNA.
fn beta_alone() -> Current {
    let current = beta();
    let directory = Directory::empty().with_own(current.own_record()).into();
    Current { directory, ..current }
}

/// A queue file with an envelope from ANNA to BRUNO.
fn foreign(queue_id: &str, recipients: &[&str]) -> QueueFile {
    QueueFile { message: envelope(ID, &[BRUNO], "Ciao"), ..empty_file(queue_id, recipients) }
}

#[tokio::test]
async fn an_envelope_that_waits_while_its_signer_leaves_the_directory_is_certified_as_when_it_came() {
    let first = Bench::new(beta());
    first.servers.mailbox(BRUNO, 451, "4.2.0 busy");
    assert_eq!(first.deliver(foreign("Q1", &[TakeCharge.address(), BRUNO])).await, [250, 451]);

    let later = Bench::over(first.hop.log.clone(), beta_alone());
    assert_eq!(later.deliver(foreign("Q1", &[BRUNO])).await, [250]);
    let offered = kinds(&later.servers.offered());
    assert_eq!(offered, ["bruno@beta.example posta-certificata", "anna@alfa.example avvenuta-consegna"]);
    let log = later.log();
    // Another message by the same signer comes too late.
    assert_eq!(later.deliver(foreign("Q2", &[BRUNO])).await, [250]);
    assert_eq!(kinds(&later.servers.offered()), ["bruno@beta.example posta-certificata"]);
    assert_eq!(later.log(), log);
}

#[tokio::test]
async fn what_was_taken_in_charge_is_scanned_though_its_signer_left_the_directory() {
    let first = Bench::new(beta());
    first.servers.mailbox(BRUNO, 451, "4.2.0 busy");
    assert_eq!(first.deliver(foreign("Q1", &[TakeCharge.address(), BRUNO])).await, [250, 451]);
    let later = Bench::over(first.hop.log.clone(), beta_alone());
    later.sniffer.learn("Ciao");
    assert_eq!(later.deliver(foreign("Q1", &[BRUNO])).await, [250]);
    assert_eq!(kinds(&later.servers.offered()), ["ricevute@alfa.example rilevazione-virus"]);
}

#[tokio::test]
async fn what_was_taken_in_charge_never_passes_as_anything_else() {
    let first = Bench::new(beta());
    first.servers.mailbox(BRUNO, 451, "4.2.0 busy");
    assert_eq!(first.deliver(foreign("Q1", &[TakeCharge.address(), BRUNO])).await, [250, 451]);
    let later = Bench::over(first.hop.log.clone(), beta_alone());
    let mut octets = foreign("Q1", &[BRUNO]).message.to_vec();
    let word = octets.windows(4).position(|four| four == b"Ciao").unwrap();
    octets[word] = b'M';
    let altered = QueueFile { message: octets.into(), ..empty_file("Q1", &[BRUNO]) };
    assert_eq!(later.deliver(altered).await, [451]);
    assert_eq!(later.servers.offered(), []);
}

#[tokio::test]
async fn a_transaction_is_committed_stored_and_told() {
    let bench = Bench::new(alfa());
    assert_eq!(bench.deliver(file("Q1", &asked(&[CARLA, DARIO]))).await, [250; 4]);
    assert_eq!(
        kinds(&bench.servers.offered()),
        [
            "carla@alfa.example posta-certificata",
            "dario@alfa.example posta-certificata",
            "anna@alfa.example accettazione",
            "ricevute@alfa.example presa-in-carico",
            "anna@alfa.example avvenuta-consegna",
            "anna@alfa.example avvenuta-consegna",
        ]
    );
    assert_eq!(
        bench.log(),
        [
            "arrival",
            "acceptance",
            "take-charge carla@alfa.example",
            "take-charge dario@alfa.example",
            "delivery carla@alfa.example carla@alfa.example",
            "delivery dario@alfa.example dario@alfa.example",
        ]
    );
    bench.assert_sound();
}

#[tokio::test]
async fn a_queue_file_that_comes_again_is_not_stored_again_and_its_receipts_keep_their_octets() {
    let bench = Bench::new(alfa());
    assert_eq!(bench.deliver(file("Q1", &asked(&[CARLA, DARIO]))).await, [250; 4]);
    let first = bench.servers.offered();
    let log = bench.log();
    bench.clock.set(600);
    assert_eq!(bench.deliver(file("Q1", &asked(&[CARLA, DARIO]))).await, [250; 4]);
    assert_eq!(bench.servers.offered(), first[2..], "no mailbox, the same four receipts");
    assert_eq!(bench.log(), log, "nothing is recorded twice");
}

#[tokio::test]
async fn the_same_envelope_in_another_queue_file_is_a_duplicate_and_its_receipts_are_sent_again_unchanged() {
    let bench = Bench::new(alfa());
    bench.deliver(file("Q1", &asked(&[CARLA, DARIO]))).await;
    let first = bench.servers.offered();
    bench.clock.set(600);
    assert_eq!(bench.deliver(file("Q2", &asked(&[CARLA, DARIO]))).await, [250; 4]);
    assert_eq!(bench.servers.offered(), first[2..]);
    let log = bench.log();
    let added = [
        "arrival",
        "duplicate carla@alfa.example carla@alfa.example",
        "duplicate dario@alfa.example dario@alfa.example",
    ];
    assert_eq!(log[6..], added);
    bench.assert_sound();
}

#[tokio::test]
async fn an_alias_to_two_mailboxes_gives_one_receipt_while_one_of_them_is_tried_again() {
    let bench = Bench::new(alfa());
    let aliased = |addresses: &[&str]| {
        let mut file = file("Q1", addresses);
        for one in file.recipients.iter_mut().filter(|one| one.address.starts_with("casella")) {
            one.orcpt = Some("rfc822;carla@alfa.example".into());
        }
        file
    };
    let (one, two) = ("casella1@alfa.example", "casella2@alfa.example");
    bench.servers.mailbox(two, 451, "4.2.0 busy");
    assert_eq!(bench.deliver(aliased(&asked(&[one, two]))).await, [250, 250, 250, 451]);
    let told = kinds(&bench.servers.offered());
    assert_eq!(told.iter().filter(|line| line.ends_with("avvenuta-consegna")).count(), 1, "{told:?}");

    bench.servers.mailbox(two, 250, "2.0.0 saved");
    assert_eq!(bench.deliver(aliased(&[two])).await, [250]);
    assert_eq!(kinds(&bench.servers.offered()), ["casella2@alfa.example posta-certificata"]);
    assert_eq!(
        bench.log()[3..],
        ["delivery carla@alfa.example casella1@alfa.example", "copy carla@alfa.example casella2@alfa.example"]
    );
    bench.assert_sound();
}

#[tokio::test]
async fn one_mailbox_that_refuses_waits_for_another_that_is_not_reached() {
    let bench = Bench::new(alfa());
    let mut aliased = file("Q1", &asked(&["casella1@alfa.example", "casella2@alfa.example"]));
    aliased.recipients[2].orcpt = Some("rfc822;carla@alfa.example".into());
    aliased.recipients[3].orcpt = Some("rfc822;carla@alfa.example".into());
    bench.servers.mailbox("casella1@alfa.example", 550, "5.1.1 unknown");
    bench.servers.mailbox("casella2@alfa.example", 451, "4.2.0 busy");
    assert_eq!(bench.deliver(aliased.clone()).await, [250, 250, 451, 451]);
    assert_eq!(bench.log(), ["arrival", "acceptance", "take-charge carla@alfa.example"]);

    bench.servers.mailbox("casella2@alfa.example", 550, "5.2.2 full");
    assert_eq!(bench.deliver(aliased).await, [250; 4]);
    assert_eq!(bench.log()[3..], ["non-delivery carla@alfa.example casella1@alfa.example"], "as the first refused");
}

#[tokio::test]
async fn without_the_log_everybody_waits_and_nothing_is_stored_or_told() {
    let bench = Bench::new(alfa());
    bench.hop.log.fail_after(Some(0));
    assert_eq!(bench.deliver(file("Q1", &asked(&[CARLA, DARIO]))).await, [451; 4]);
    assert_eq!(bench.servers.offered(), []);
    assert_eq!(bench.log(), [""; 0]);
}

#[tokio::test]
async fn what_is_stored_and_not_committed_is_not_told() {
    let bench = Bench::new(alfa());
    bench.hop.log.fail_after(Some(1));
    assert_eq!(bench.deliver(file("Q1", &asked(&[CARLA, DARIO]))).await, [451; 4]);
    let envelopes = ["carla@alfa.example posta-certificata", "dario@alfa.example posta-certificata"];
    assert_eq!(kinds(&bench.servers.offered()), envelopes);
    bench.hop.log.fail_after(None);
    assert_eq!(bench.deliver(file("Q1", &asked(&[CARLA, DARIO]))).await, [250; 4]);
    assert_eq!(bench.servers.offered().len(), 6, "the one window: a second copy, never a second receipt");
    bench.assert_sound();
}

#[tokio::test]
async fn who_waits_for_a_receipt_that_cannot_be_sent_is_tried_again_and_nobody_else() {
    let bench = Bench::new(alfa());
    bench.servers.reachable(ANNA, false);
    assert_eq!(bench.deliver(file("Q1", &asked(&[CARLA, DARIO]))).await, [451, 250, 451, 451]);
    let refused = bench.servers.offered();
    let log = bench.log();
    assert_eq!(log.len(), 6, "what is committed stays: {log:?}");

    bench.servers.reachable(ANNA, true);
    bench.clock.set(600);
    assert_eq!(bench.deliver(file("Q1", &[Acceptance.address(), CARLA, DARIO])).await, [250; 3]);
    let sent = bench.servers.offered();
    assert_eq!(
        kinds(&sent),
        [
            "anna@alfa.example accettazione",
            "anna@alfa.example avvenuta-consegna",
            "anna@alfa.example avvenuta-consegna"
        ]
    );
    assert!(sent.iter().all(|one| refused.contains(one)), "the same Message-ID and the same octets");
    assert_eq!(bench.log(), log);
}

#[tokio::test]
async fn a_take_charge_that_cannot_be_sent_keeps_its_trigger_alone() {
    let bench = Bench::new(alfa());
    bench.servers.reachable(SERVICE, false);
    assert_eq!(bench.deliver(file("Q1", &asked(&[CARLA, DARIO]))).await, [250, 451, 250, 250]);
    bench.servers.reachable(SERVICE, true);
    bench.servers.offered();
    assert_eq!(bench.deliver(file("Q1", &[TakeCharge.address()])).await, [250]);
    assert_eq!(kinds(&bench.servers.offered()), ["ricevute@alfa.example presa-in-carico"]);
    bench.assert_sound();
}

#[tokio::test]
async fn a_mailbox_that_refuses_gives_a_failed_event_a_notice_and_no_bounce() {
    let bench = Bench::new(alfa());
    bench.servers.mailbox(CARLA, 550, "5.2.2 <carla@alfa.example> Quota exceeded");
    assert_eq!(bench.deliver(file("Q1", &asked(&[CARLA, DARIO]))).await, [250; 4]);
    let offered = bench.servers.offered();
    assert!(kinds(&offered).contains(&"anna@alfa.example errore-consegna".to_owned()), "{:?}", kinds(&offered));
    assert_eq!(bench.log()[4], "non-delivery carla@alfa.example carla@alfa.example");
    bench.assert_sound();
}

/// Two queue files of one envelope at once: `later` is answered by its mailbox after the other one is done.
async fn at_once(first: u16, later: u16) -> (Bench, Vec<String>) {
    let one = Bench::new(alfa());
    let other = Bench::over(one.hop.log.clone(), alfa());
    one.servers.mailbox(CARLA, first, "5.2.2 full");
    other.servers.mailbox(CARLA, later, "5.2.2 full");
    other.servers.hold();
    let finish = async {
        other.servers.reached().await;
        assert_eq!(one.deliver(file("Q1", &asked(&[CARLA]))).await, [250; 3]);
        other.servers.release();
    };
    let (replies, ()) = tokio::join!(other.deliver(file("Q2", &asked(&[CARLA]))), finish);
    assert_eq!(replies, [250; 3]);
    let ids = |bench: &Bench| -> Vec<Vec<u8>> {
        let offered = bench.servers.offered();
        offered.into_iter().filter(|(to, _)| to == ANNA).map(|(_, octets)| octets).collect()
    };
    assert_eq!(ids(&one), ids(&other), "both tell what was committed first");
    one.assert_sound();
    let log = one.log();
    (one, log)
}

#[tokio::test]
async fn a_copy_that_is_stored_after_another_was_refused_is_recorded() {
    let (_, log) = at_once(550, 250).await;
    let outcomes = ["non-delivery carla@alfa.example carla@alfa.example", "copy carla@alfa.example carla@alfa.example"];
    assert_eq!(log[log.len() - 2..], outcomes);
}

#[tokio::test]
async fn a_copy_that_is_refused_after_another_was_stored_is_recorded() {
    let (_, log) = at_once(250, 550).await;
    let outcomes =
        ["delivery carla@alfa.example carla@alfa.example", "duplicate carla@alfa.example carla@alfa.example"];
    assert_eq!(log[log.len() - 2..], outcomes);
}

#[tokio::test]
async fn an_envelope_that_somebody_sends_on_passes_and_is_not_recorded() {
    let bench = Bench::new(alfa());
    assert_eq!(bench.deliver(file("Q9", &["archivio@alfa.example"])).await, [250]);
    assert_eq!(kinds(&bench.servers.offered()), ["archivio@alfa.example posta-certificata"]);
    assert_eq!(bench.log(), [""; 0]);
}

#[tokio::test]
async fn a_trigger_without_its_envelope_is_a_fault() {
    let bench = Bench::new(alfa());
    let message = bytes::Bytes::from_static(b"Subject: s\r\n\r\ntext\r\n");
    let forged = QueueFile { message, ..empty_file("Q1", &asked(&[CARLA])) };
    assert_eq!(bench.deliver(forged).await, [451; 3]);
    // Nor does another provider's envelope give our acceptance.
    let foreign = Bench::new(beta());
    let asked = [Acceptance.address(), "bruno@beta.example"];
    let file = QueueFile { message: envelope(ID, &["bruno@beta.example"], "Ciao"), ..empty_file("Q2", &asked) };
    assert_eq!(foreign.deliver(file).await, [451; 2]);
    assert_eq!(foreign.log(), [""; 0]);
}

#[tokio::test]
async fn a_msgid_that_comes_with_another_message_certifies_nothing() {
    let bench = Bench::new(alfa());
    bench.deliver(file("Q1", &asked(&[CARLA, DARIO]))).await;
    bench.servers.offered();
    let other = QueueFile { message: envelope(ID, &[CARLA], "Altro"), ..empty_file("Q2", &asked(&[CARLA])) };
    assert_eq!(bench.deliver(other).await, [451; 3]);
    assert_eq!(bench.servers.offered(), []);
}

#[tokio::test]
async fn what_is_told_again_after_the_provider_was_renamed_has_the_name_of_its_event() {
    let first = Bench::new(alfa());
    let to = asked(&[CARLA, "nessuno@alfa.example"]);
    let message = envelope(ID, &[CARLA, "nessuno@alfa.example"], "Ciao");
    let file = || QueueFile { message: message.clone(), ..empty_file("Q1", &to) };
    first.servers.mailbox("nessuno@alfa.example", 550, "5.1.1 who");
    for address in [ANNA, SERVICE] {
        first.servers.reachable(address, false);
    }
    assert!(first.deliver(file()).await.contains(&451));
    let told = |offered: Vec<(String, Vec<u8>)>| {
        let mut told: Vec<_> = offered.into_iter().filter(|(to, _)| [ANNA, SERVICE].contains(&to.as_str())).collect();
        told.sort();
        told.dedup();
        told
    };
    let before = told(first.servers.offered());
    assert_eq!(before.len(), 4, "acceptance, take-charge, delivery, non-delivery");

    let current = alfa();
    let provider = crate::model::Provider { name: "Un altro nome".into(), ..(*current.provider).clone() };
    let own = ProviderRecord::own(&provider, vec![certificate("provider").der().to_vec()]);
    let directory = Directory::empty().with_own(own).into();
    let second = Bench::over(first.hop.log.clone(), Current { provider: provider.into(), directory, ..current });
    assert!(!second.deliver(file()).await.contains(&451));
    assert!(told(second.servers.offered()) == before, "the same octets");
    second.assert_sound();
}
