//! What may come before the arrival that it is about: another provider's detection, and a report of Postfix.

use super::*;
use crate::legal_log::details::ReceivedNotification;
use crate::message::certification_data::TransactionFacts;
use crate::message::notification::virus_detection;
use crate::model::{Recipient, RecipientType};
use crate::operations::triggers::Trigger::{NonDelivery, VirusDetection};
use crate::smime::testing::NOW;

const HOUR: i64 = 3600;

/// A detection about CARLA, made by her provider at [`NOW`].
fn detection() -> QueueFile {
    let facts = TransactionFacts {
        sender: ANNA.parse().unwrap(),
        recipients: vec![Recipient { address: CARLA.parse().unwrap(), kind: RecipientType::Certified }],
        replies: ANNA.to_owned(),
        subject: Some("Contratto".to_owned()),
        id: ID.parse().unwrap(),
        msgid: None,
    };
    let (alfa, at) = (alfa(), TemporalReference::from_unix(NOW));
    let (id, to) = ("<rilevazione.1@alfa.example>".parse().unwrap(), SERVICE.parse().unwrap());
    let notification = virus_detection(facts, CARLA.parse().unwrap(), "Eicar", &alfa.provider.name, at, id, to);
    let message = alfa.sign(notification.compose(&alfa.provider), at, at).unwrap().into_pieces().to_vec().into();
    let sender = "posta-certificata@alfa.example".to_owned();
    QueueFile { sender, message, ..empty_file("D1", &[VirusDetection.address(), SERVICE]) }
}

/// Postfix's report that CARLA did not get what lay in this queue file.
fn report(queue_id: &str, about: &str) -> QueueFile {
    let text = format!(
        "Received: by mx.alfa.example (Postfix)\r\n\tid {queue_id}; Sat\r\n\
         Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n\
         --b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx\r\n\
         X-Postfix-Queue-ID: {about}\r\n\r\n\
         Final-Recipient: rfc822; {CARLA}\r\nOriginal-Recipient: rfc822;{CARLA}\r\n\
         Action: failed\r\nStatus: 5.1.1\r\n\r\n\
         --b\r\nContent-Type: text/rfc822-headers\r\n\r\nX-Trasporto: posta-certificata\r\nMessage-ID: <{ID}>\r\n\r\n\
         --b--\r\n"
    );
    let file = empty_file(queue_id, &[NonDelivery.address()]);
    QueueFile { sender: String::new(), message: text.into(), ..file }
}

#[tokio::test]
async fn a_detection_that_comes_first_after_an_outage_waits_for_the_acceptance() {
    let bench = Bench::new(alfa());
    bench.clock.set(5 * HOUR);
    assert_eq!(bench.deliver(detection()).await[0], 451);
    bench.clock.set(6 * HOUR);
    assert_eq!(bench.deliver(detection()).await[0], 451);
    bench.deliver(file("Q1", &[Acceptance.address()])).await;
    bench.servers.offered();
    assert_eq!(bench.deliver(detection()).await[0], 250);
    let told = kinds(&bench.servers.offered());
    assert!(told.contains(&"anna@alfa.example errore-consegna".to_owned()), "{told:?}");
}

#[tokio::test]
async fn a_detection_about_a_message_that_never_comes_is_let_go() {
    let bench = Bench::new(alfa());
    assert_eq!(bench.deliver(detection()).await[0], 451);
    bench.clock.set(2 * HOUR);
    assert_eq!(bench.deliver(detection()).await[0], 250);
    assert_eq!(bench.log().len(), 1);
}

#[tokio::test]
async fn a_report_that_overtakes_its_envelope_waits_for_it() {
    let bench = Bench::new(alfa());
    assert_eq!(bench.deliver(report("R1", "Q1")).await, [451]);
    bench.clock.set(HOUR);
    assert_eq!(bench.deliver(report("R1", "Q1")).await, [451]);
    bench.deliver(file("Q1", &[Acceptance.address()])).await;
    bench.servers.offered();
    bench.clock.set(3 * HOUR);
    assert_eq!(bench.deliver(report("R1", "Q1")).await, [250]);
    assert!(kinds(&bench.servers.offered()).contains(&"anna@alfa.example errore-consegna".to_owned()));
}

#[tokio::test]
async fn a_report_about_an_envelope_that_was_sent_on_is_let_go_after_two_hours_and_tells_nobody() {
    let bench = Bench::new(alfa());
    bench.deliver(file("Q1", &asked(&[CARLA, DARIO]))).await;
    bench.servers.offered();
    let log = bench.log();
    assert_eq!(bench.deliver(report("R1", "S1")).await, [451]);
    bench.clock.set(2 * HOUR);
    assert_eq!(bench.deliver(report("R1", "S1")).await, [250]);
    assert_eq!((bench.servers.offered(), bench.log()), (vec![], log));
}

#[tokio::test]
async fn a_report_waits_anew_after_a_fault_because_its_envelope_may_have_failed_then() {
    let bench = Bench::new(alfa());
    assert_eq!(bench.deliver(report("R1", "Q1")).await, [451]);
    bench.hop.log.fail_after(Some(0));
    assert_eq!(bench.deliver(file("Q1", &[Acceptance.address()])).await, [451]);
    bench.hop.log.fail_after(None);
    bench.clock.set(3 * HOUR);
    assert_eq!(bench.deliver(report("R1", "Q1")).await, [451]);
}

/// What CARLA's provider, had she another, could tell of her.
fn heard(kind: Kind) -> Entry {
    let told = ReceivedNotification { kind: kind.token().to_owned(), ..ReceivedNotification::default() };
    Entry {
        queue_id: Some("N1".into()),
        pec_msgid: Some(ID.parse().unwrap()),
        sender: Some(ANNA.into()),
        recipient: Some(CARLA.into()),
        provider: Some("altrove PEC".into()),
        details: serde_json::to_string(&told).ok(),
        slot: Some(Slot::arrival("N1")),
        ..Entry::new(EventKind::NotificationReceived, TemporalReference::from_unix(NOW))
    }
}

#[tokio::test]
async fn what_a_detection_means_is_told_though_another_failure_was_heard_after_it_was_committed() {
    let bench = Bench::new(alfa());
    bench.deliver(file("Q1", &[Acceptance.address()])).await;
    bench.servers.reachable(ANNA, false);
    assert_eq!(bench.deliver(detection()).await[0], 451);
    let first = bench.servers.offered();
    bench.hop.log.record(vec![heard(Kind::NonDelivery)]).await.unwrap();

    bench.servers.reachable(ANNA, true);
    bench.clock.set(600);
    assert_eq!(bench.deliver(detection()).await[0], 250);
    let told = bench.servers.offered();
    assert!(kinds(&told).contains(&"anna@alfa.example errore-consegna".to_owned()), "{:?}", kinds(&told));
    assert!(told.iter().filter(|(to, _)| to == ANNA).all(|one| first.contains(one)), "the same Message-ID and octets");
}

/// Postfix's report that it gave up everything that these recipients of the queue file Q1 waited for, with the envelope.
fn given_up(queue_id: &str, recipients: &[&str]) -> QueueFile {
    let groups: String = recipients
        .iter()
        .map(|to| {
            format!(
                "Final-Recipient: rfc822; {to}\r\nOriginal-Recipient: rfc822;{to}\r\n\
                 Action: failed\r\nStatus: 4.3.0\r\n\r\n"
            )
        })
        .collect();
    let head = format!(
        "Received: by mx.alfa.example (Postfix)\r\n\tid {queue_id}; Sat\r\n\
         Content-Type: multipart/report; report-type=delivery-status; boundary=report\r\n\r\n\
         --report\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx\r\n\
         X-Postfix-Queue-ID: Q1\r\n\r\n{groups}--report\r\nContent-Type: message/rfc822\r\n\r\n"
    );
    let returned = file("Q1", &[]).message;
    let message = [head.as_bytes(), &returned, b"\r\n--report--\r\n"].concat().into();
    QueueFile { sender: String::new(), message, ..empty_file(queue_id, &[NonDelivery.address()]) }
}

#[tokio::test]
async fn what_postfix_gave_up_before_the_log_took_anything_is_taken_up_from_its_report() {
    let bench = Bench::new(alfa());
    bench.hop.log.fail_after(Some(0));
    assert_eq!(bench.deliver(file("Q1", &asked(&[CARLA, DARIO]))).await, [451; 4]);
    let report = || given_up("R1", &asked(&[CARLA, DARIO]));
    assert_eq!(bench.deliver(report()).await, [451], "the log still takes nothing");
    bench.clock.set(3 * HOUR);
    assert_eq!(bench.deliver(report()).await, [451], "however long it waits");
    assert_eq!(bench.servers.offered(), []);

    bench.hop.log.fail_after(None);
    assert_eq!(bench.deliver(report()).await, [250]);
    let expected = [
        "carla@alfa.example posta-certificata",
        "dario@alfa.example posta-certificata",
        "anna@alfa.example accettazione",
        "ricevute@alfa.example presa-in-carico",
        "anna@alfa.example avvenuta-consegna",
        "anna@alfa.example avvenuta-consegna",
    ];
    assert_eq!(kinds(&bench.servers.offered()), expected);
    bench.assert_sound();
}

#[tokio::test]
async fn receipts_that_postfix_gave_up_are_sent_from_its_report_and_each_once() {
    let bench = Bench::new(alfa());
    for address in [ANNA, SERVICE] {
        bench.servers.reachable(address, false);
    }
    assert_eq!(bench.deliver(file("Q1", &asked(&[CARLA, DARIO]))).await, [451; 4]);
    let first = bench.servers.offered();
    let log = bench.log();
    let report = || given_up("R1", &asked(&[CARLA, DARIO]));
    bench.servers.reachable(ANNA, true);
    assert_eq!(bench.deliver(report()).await, [451], "the take-charge cannot be sent yet");
    let told = bench.servers.offered();
    let of_anna = |offered: &[(String, Vec<u8>)]| offered.iter().filter(|(to, _)| to == ANNA).count();
    assert_eq!(of_anna(&told), 3, "the acceptance and two deliveries: {:?}", kinds(&told));
    assert!(told.iter().all(|one| first.contains(one)), "the same Message-ID and octets");

    bench.servers.reachable(SERVICE, true);
    assert_eq!(bench.deliver(report()).await, [250]);
    assert_eq!(kinds(&bench.servers.offered()), ["ricevute@alfa.example presa-in-carico"]);
    assert_eq!(bench.log(), log, "nothing more is recorded");
    bench.assert_sound();
}

#[tokio::test]
async fn a_report_with_the_header_alone_about_a_message_that_nobody_recorded_is_never_let_go() {
    let bench = Bench::new(alfa());
    let mut report = report("R1", "Q1");
    let text = String::from_utf8(report.message.to_vec()).unwrap();
    report.message = text.replace(&format!("rfc822; {CARLA}"), &format!("rfc822; {}", Acceptance.address())).into();
    for hours in [0, 3, 20] {
        bench.clock.set(hours * HOUR);
        assert_eq!(bench.deliver(report.clone()).await, [451]);
    }
    assert_eq!((bench.servers.offered(), bench.log()), (vec![], vec![]));
}

#[tokio::test]
async fn what_cannot_be_taken_up_keeps_nobody_from_the_failures_in_the_same_report() {
    let bench = Bench::new(alfa());
    bench.servers.reachable(SERVICE, false);
    assert_eq!(bench.deliver(file("Q1", &asked(&[CARLA]))).await, [250, 451, 250]);
    bench.servers.offered();
    let report = || given_up("R1", &[TakeCharge.address(), DARIO]);
    assert_eq!(bench.deliver(report()).await, [451], "the take-charge cannot be sent");
    let told = kinds(&bench.servers.offered());
    assert!(told.contains(&"anna@alfa.example errore-consegna".to_owned()), "{told:?}");
    assert!(
        bench.log().contains(&"non-delivery dario@alfa.example dario@alfa.example".to_owned()),
        "{:?}",
        bench.log()
    );

    // A fault elsewhere does not have it told again.
    let unsigned = QueueFile { message: "Subject: s\r\n\r\nx\r\n".into(), ..empty_file("Q7", &asked(&[CARLA])) };
    assert_eq!(bench.deliver(unsigned).await, [451; 3]);
    assert_eq!(bench.deliver(report()).await, [451]);
    let told = kinds(&bench.servers.offered());
    assert!(told.iter().all(|line| line.starts_with(SERVICE)), "{told:?}");
    bench.servers.reachable(SERVICE, true);
    assert_eq!(bench.deliver(report()).await, [250]);
}
