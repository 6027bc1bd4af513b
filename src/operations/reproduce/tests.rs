//! Entries as the hop and the watch write them, and what is made of them again.

use super::*;
use crate::legal_log::Slot;
use crate::message::header::Header;
use crate::operations::testing::alfa;
use crate::smime::testing::NOW;

const ID: &str = "pec.1@alfa.example";
const BRUNO: &str = "bruno@beta.example";
const DARIO: &str = "dario@beta.example";

fn entry(sequence: i64, kind: EventKind, queue_id: &str, recipient: Option<&str>, own_id: Option<&str>) -> Recorded {
    let entry = Entry {
        queue_id: Some(queue_id.into()),
        pec_msgid: ID.parse().ok(),
        client_msgid: "<c.1@client.example>".parse().ok(),
        sender: Some("anna@alfa.example".into()),
        recipient: recipient.map(str::to_owned),
        subject: Some("Perché".into()),
        notification: own_id.map(|id| format!("<{id}@beta.example>").parse().unwrap()),
        issuer: Some("Il nome di allora".into()),
        slot: Some(Slot::arrival(queue_id)),
        ..Entry::new(kind, TemporalReference::from_unix(NOW + sequence))
    };
    Recorded { sequence, entry, is_new: true }
}

fn with(mut recorded: Recorded, details: &str) -> Recorded {
    recorded.entry.details = Some(details.to_owned());
    recorded
}

fn arrival(sequence: i64, queue_id: &str, mail_receipt: &str) -> Recorded {
    let details = json!({ "here": [BRUNO], "triggers": [], "mail_receipt": mail_receipt, "accepted": NOW,
        "recipients": [[BRUNO, "certificato"], [DARIO, "certificato"]], "replies": "anna@alfa.example",
        "requested": "breve" });
    with(entry(sequence, EventKind::Arrival, queue_id, None, None), &details.to_string())
}

fn delivery(sequence: i64, queue_id: &str, recipient: &str, issued: &str) -> Recorded {
    let details = json!({ "mailbox": recipient, "issued": issued }).to_string();
    let own_id = format!("delivery.{sequence}");
    with(entry(sequence, EventKind::Delivery, queue_id, Some(recipient), Some(&own_id)), &details)
}

/// The envelope came in two queue files, between which its provider moved its service mailbox.
fn transaction() -> Vec<Recorded> {
    vec![
        arrival(1, "Q1", "prima@alfa.example"),
        entry(2, EventKind::TakeCharge, "Q1", Some(BRUNO), Some("taken")),
        entry(3, EventKind::TakeCharge, "Q1", Some(DARIO), Some("taken")),
        delivery(4, "Q1", BRUNO, "breve"),
        arrival(5, "Q2", "dopo@alfa.example"),
        entry(6, EventKind::TakeCharge, "Q2", Some("carla@beta.example"), Some("later")),
        delivery(7, "Q2", DARIO, "sintetica"),
        entry(8, EventKind::Copy, "Q2", Some(DARIO), None),
        entry(9, EventKind::FirstTimeout, "none", Some(DARIO), Some("timeout")),
    ]
}

fn found(kind: Option<EventKind>, recipient: Option<&str>) -> Vec<Issued> {
    let wanted = Wanted { kind, recipient: recipient.map(|text| text.parse().unwrap()) };
    issued(&transaction(), &wanted).into_iter().map(Result::unwrap).collect()
}

#[test]
fn a_receipt_is_made_of_its_entry_and_of_the_arrival_of_its_own_queue_file() {
    let all = found(None, None);
    let seen: Vec<(i64, &str)> = all.iter().map(|one| (one.sequence, one.notification.to.as_str())).collect();
    let anna = "anna@alfa.example";
    assert_eq!(seen, [(2, "prima@alfa.example"), (4, anna), (6, "dopo@alfa.example"), (7, anna), (9, anna)]);
    assert_eq!(all[0].about, [BRUNO, DARIO], "both stand in the one take-charge");
    assert_eq!(all[0].notification.data.taken.len(), 2);
    assert!(all.iter().all(|one| one.notification.data.issuer == "Il nome di allora"));
    assert_eq!(all[1].arrived, Some(TemporalReference::from_unix(NOW + 1)), "the day of its original");
    assert_eq!(all[3].arrived, None, "a concise receipt carries none");
}

#[test]
fn only_what_is_wanted_is_found() {
    let sequences = |kind, recipient| found(kind, recipient).iter().map(|one| one.sequence).collect::<Vec<_>>();
    assert_eq!(sequences(Some(EventKind::Delivery), None), [4, 7]);
    assert_eq!(sequences(None, Some("DARIO@beta.example")), [2, 7, 9]);
    assert_eq!(sequences(Some(EventKind::Acceptance), None), [] as [i64; 0]);
}

#[test]
fn a_receipt_whose_arrival_was_removed_holds_no_other_up() {
    let refused = entry(10, EventKind::NonAcceptance, "Q3", None, Some("refused"));
    let details = json!({ "error": "altro", "defects": null, "recipients": [[BRUNO, "certificato"]],
        "replies": "anna@alfa.example" });
    let mut entries = transaction();
    entries.retain(|one| one.entry.kind != EventKind::Arrival);
    entries.push(with(refused, &details.to_string()));
    let seen = |wanted: &Wanted| -> Vec<String> {
        let told = |one: Result<Issued, NotReproduced>| {
            one.map_or_else(|error| error.to_string(), |one| one.kind.name().into())
        };
        issued(&entries, wanted).into_iter().map(told).collect()
    };
    let gone = |what: &str| format!("{what}: its arrival is past its retention and was removed");
    let all = seen(&Wanted::default());
    assert_eq!(all[..2], [gone("take-charge in row 2"), gone("delivery in row 4")]);
    assert_eq!((all.len(), all[5].as_str()), (6, "non-acceptance"));
    let of = |kind, recipient: Option<&str>| Wanted { kind, recipient: recipient.map(|text| text.parse().unwrap()) };
    assert_eq!(seen(&of(Some(EventKind::NonAcceptance), None)), ["non-acceptance"]);
    assert_eq!(seen(&of(Some(EventKind::Delivery), Some(DARIO))), [gone("delivery in row 7")]);
}

#[test]
fn the_mark_stands_outside_and_under_the_signature_and_changes_nothing_else() {
    let (current, made) = (alfa(), TemporalReference::from_unix(NOW + 90_000));
    for issued in found(None, None) {
        let first = issued.notification.clone().compose(&current.provider);
        let again = issued.notification.compose_again(&current.provider, made, true);
        let signed = |message| {
            let at = TemporalReference::from_unix(NOW);
            let octets = current.sign(message, at, at).unwrap().into_pieces().to_vec();
            String::from_utf8(octets).unwrap()
        };
        let (first, again) = (signed(first), signed(again));
        let mark = format!("X-Riproduzione: dal registro, {}; senza il messaggio originale\r\n", made.date_field());
        assert_eq!(again.matches(&mark).count(), 2, "{again}");
        assert_eq!(Header::read(again.as_bytes()).all("X-Riproduzione").count(), 1);
        let content = |text: &str| {
            let begin = text.find("multipart/mixed").unwrap();
            text[begin..text.find("application/pkcs7-signature; name").unwrap()].to_owned()
        };
        assert_eq!(content(&again.replace(&mark, "")), content(&first));
    }
}
