use super::*;
use crate::legal_log::{Link, Slot};

const ANNA: &str = "anna@alfa.example";
const BRUNO: &str = "bruno@beta.example";
const CARLA: &str = "carla@alfa.example";
const ARCHIVE: &str = "archivio@alfa.example";
const ALIASED: &str = "rossi@alfa.example";

fn at(seconds: i64) -> TemporalReference {
    TemporalReference::from_unix(1_721_032_245 + seconds)
}

fn entry(kind: EventKind, recipient: Option<&str>, details: &str) -> Entry {
    Entry {
        pec_msgid: "pec.1@alfa.example".parse().ok(),
        sender: Some(ANNA.into()),
        recipient: recipient.map(str::to_owned),
        subject: Some("segreto".into()),
        details: (!details.is_empty()).then(|| details.to_owned()),
        slot: Some(Slot::from_stored(format!("{} {ARCHIVE}", kind.name()))),
        ..Entry::new(kind, at(0))
    }
}

/// Anna to bruno and carla, whose address leads to another mailbox; a copy goes to the archive.
fn transaction() -> Vec<(Link, Entry)> {
    let arrival = format!(
        r#"{{"here":["{CARLA}"],"mail_receipt":"{ARCHIVE}","recipients":[["{BRUNO}","certificato"],["{CARLA}","certificato"],["m@x.example","esterno"]]}}"#
    );
    let mailbox = format!(r#"{{"mailbox":"{ALIASED}"}}"#);
    let late = format!(r#"{{"mailbox":"{ALIASED}","reported":{{"status":"5.0.0","diagnostic":"550 {ALIASED}"}}}}"#);
    let taken = format!(
        r#"{{"kind":"presa-in-carico","error":"nessuno","at":1,"taken":["{BRUNO}"],"reason":null,"mailboxes":["{ARCHIVE}"]}}"#
    );
    let entries = [
        entry(EventKind::Arrival, None, &arrival),
        entry(EventKind::Acceptance, None, ""),
        entry(EventKind::TakeCharge, Some(CARLA), ""),
        entry(EventKind::Delivery, Some(CARLA), &mailbox),
        entry(EventKind::Copy, None, &format!(r#"{{"mailbox":"{ARCHIVE}"}}"#)),
        entry(EventKind::VirusDetection, None, &format!(r#"{{"virus":"v","mailbox":"{ARCHIVE}"}}"#)),
        entry(EventKind::NotificationReceived, None, &taken),
        entry(EventKind::FinalTimeout, Some(BRUNO), ""),
        entry(EventKind::LateFailure, Some(CARLA), &late),
        entry(EventKind::Hold, None, &format!(r#"{{"why":"{ARCHIVE}"}}"#)),
    ];
    let link = |sequence| Link { sequence, hash: [7; 32] };
    (1..).map(link).zip(entries).collect()
}

fn of(mailbox: &str, rows: Vec<(Link, Entry)>) -> (Extract, String) {
    let day = "2024-07-15".parse().unwrap();
    let seal = SealOf { name: "000001-2024-07-15".into(), first: 1, last: 3, sha256: "00".into() };
    let extract = Extract::of(&mailbox.parse().unwrap(), "Alfa", (day, day), at(99), &[rows], &[seal]);
    let text = [extract.to_json().unwrap(), readable(&extract), notes(&extract, "x.zip.p7m")].concat();
    (extract, text)
}

#[test]
fn the_sender_gets_all_his_recipients_with_their_outcomes_and_no_mailbox_behind_them() {
    let (extract, text) = of("ANNA@alfa.example", transaction());
    let outcomes: Vec<_> = extract.sent[0].recipients.iter().map(|one| (one.address.as_str(), one.outcome)).collect();
    assert_eq!(
        outcomes,
        [
            (BRUNO, "nessuna notizia entro il tempo massimo"),
            (CARLA, "consegnato"),
            ("m@x.example", "posta ordinaria, nessuna ricevuta")
        ]
    );
    let rows: Vec<i64> = extract.sent[0].rows.iter().map(|row| row.sequence).collect();
    assert_eq!(rows, [1, 2, 3, 4, 7, 8, 9]);
    assert!(extract.received.is_empty());
    for other in [ARCHIVE, ALIASED] {
        assert!(!text.contains(other), "{other}: {text}");
    }
    assert_eq!((extract.seals.len(), extract.sent[0].rows[3].seal.is_none()), (1, true));
}

#[test]
fn a_recipient_gets_what_concerns_him_and_no_other_recipient() {
    let (extract, text) = of(CARLA, transaction());
    let rows: Vec<i64> = extract.received[0].rows.iter().map(|row| row.sequence).collect();
    assert_eq!((rows, extract.received[0].recipients[0].outcome), (vec![1, 3, 4], "consegnato"));
    for other in [BRUNO, "m@x.example", ARCHIVE, ALIASED] {
        assert!(!text.contains(other), "{other}: {text}");
    }
    assert!(text.contains(ANNA) && text.contains("segreto"));
}

#[test]
fn whoever_has_a_copy_gets_that_row_alone() {
    let (extract, text) = of(ARCHIVE, transaction());
    let rows: Vec<i64> = extract.received[0].rows.iter().map(|row| row.sequence).collect();
    assert_eq!(rows, [5, 6]);
    for other in [BRUNO, CARLA, ALIASED] {
        assert!(!text.contains(other), "{other}: {text}");
    }
}

#[test]
fn what_others_did_under_his_name_or_tried_with_him_is_not_his() {
    let anomaly = |mailboxes: &str| Entry { pec_msgid: None, ..entry(EventKind::Anomaly, None, mailboxes) };
    let refusal = entry(EventKind::Refusal, None, &format!(r#"{{"recipients":["{CARLA}"]}}"#));
    let not_accepted = format!(r#"{{"defects":"d","error":"altro","recipients":[["{CARLA}","certificato"]]}}"#);
    let not_accepted = entry(EventKind::NonAcceptance, None, &not_accepted);
    let one = |entry: Entry| vec![(Link { sequence: 1, hash: [7; 32] }, entry)];
    for (mailbox, entry, (sent, received)) in [
        (ANNA, anomaly(&format!(r#"{{"mailboxes":["{CARLA}"]}}"#)), (0, 0)),
        (CARLA, anomaly(&format!(r#"{{"mailboxes":["{CARLA}","{ARCHIVE}"]}}"#)), (0, 1)),
        (ANNA, refusal.clone(), (0, 0)),
        (CARLA, refusal, (0, 0)),
        (ANNA, not_accepted.clone(), (1, 0)),
        (CARLA, not_accepted, (0, 0)),
        (CARLA, entry(EventKind::Hold, Some(CARLA), ""), (0, 0)),
    ] {
        let kind = entry.kind;
        let (extract, text) = of(mailbox, one(entry));
        assert_eq!((extract.sent.len(), extract.received.len()), (sent, received), "{mailbox} {kind:?}");
        assert!(!text.contains(ARCHIVE), "{text}");
    }
}

#[test]
fn a_forward_is_the_mailboxs_alone_and_tells_nobody_whereto() {
    let forward = |sequence, mailbox: &str| {
        let details = format!(r#"{{"recipients":["{CARLA}","{ALIASED}","{BRUNO}"],"forwarded":"{ARCHIVE}"}}"#);
        let entry = Entry { pec_msgid: None, ..entry(EventKind::Forward, Some(mailbox), &details) };
        vec![(Link { sequence, hash: [7; 32] }, entry)]
    };
    let day = "2024-07-15".parse().unwrap();
    let rows = [forward(1, ALIASED), forward(2, BRUNO)];
    for (mailbox, expected) in
        [(CARLA, vec![]), (ALIASED, vec![1]), (BRUNO, vec![2]), (ARCHIVE, vec![]), (ANNA, vec![])]
    {
        let extract = Extract::of(&mailbox.parse().unwrap(), "Alfa", (day, day), at(99), &rows, &[]);
        let found: Vec<i64> = extract.received.iter().flat_map(|one| &one.rows).map(|row| row.sequence).collect();
        assert_eq!((found, extract.sent.len()), (expected, 0), "{mailbox}");
        let text = [extract.to_json().unwrap(), readable(&extract)].concat();
        let others = [CARLA, ALIASED, BRUNO, ARCHIVE].into_iter().filter(|other| *other != mailbox);
        others.for_each(|other| assert!(!text.contains(other), "{mailbox} {other}: {text}"));
    }
}
