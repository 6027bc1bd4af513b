//! A log without fault has no findings; each planted fault is found at its row.

use super::*;

const ACCEPTED: i64 = 1_700_000_000;
const HOUR: i64 = 3600;
const ID: &str = "pec.1@alfa.example";
const BRUNO: &str = "bruno@beta.example";
const CARLA: &str = "carla@alfa.example";
const MARIO: &str = "mario@gamma.example";

fn provider() -> Provider {
    Provider {
        name: "Alfa".into(),
        sending_address: "posta-certificata@alfa.example".parse().unwrap(),
        service_mailbox: "ricevute@alfa.example".parse().unwrap(),
        mail_domains: vec!["alfa.example".parse().unwrap()],
    }
}

/// The rows of one transaction, numbered from 1.
#[derive(Debug, Clone, Default)]
struct Log(Vec<Entry>);

impl Log {
    fn add(mut self, kind: EventKind, recipient: &str, details: &str) -> Self {
        self.0.push(Entry {
            queue_id: Some("Q1".into()),
            pec_msgid: Some(ID.parse().unwrap()),
            sender: Some("anna@alfa.example".into()),
            recipient: (!recipient.is_empty()).then(|| recipient.to_owned()),
            provider: Some("Alfa".into()),
            details: (!details.is_empty()).then(|| details.to_owned()),
            ..Entry::new(kind, TemporalReference::from_unix(ACCEPTED))
        });
        self
    }

    /// An event about one recipient.
    fn with(self, kind: EventKind, recipient: &str) -> Self {
        self.add(kind, recipient, "")
    }

    fn arrival(self, here: &[&str]) -> Self {
        let details = serde_json::json!({
            "here": here,
            "recipients": [[BRUNO, "certificato"], [CARLA, "certificato"], [MARIO, "esterno"]],
        });
        self.add(EventKind::Arrival, "", &details.to_string())
    }

    fn delivery(self, recipient: &str) -> Self {
        let details = format!(r#"{{"mailbox":"{recipient}"}}"#);
        self.add(EventKind::Delivery, recipient, &details)
    }

    fn heard(self, kind: Kind, recipient: &str, taken: &[&str]) -> Self {
        let details = ReceivedNotification {
            kind: kind.token().into(),
            recipients: [MARIO, BRUNO, CARLA].map(str::to_owned).to_vec(),
            taken: taken.iter().map(|text| text.to_string()).collect(),
            ..ReceivedNotification::default()
        };
        let details = serde_json::to_string(&details).unwrap();
        self.add(EventKind::NotificationReceived, recipient, &details)
            .last(|entry| entry.provider = Some("Beta".into()))
    }

    /// Changes the row that was added last.
    fn last(mut self, change: impl FnOnce(&mut Entry)) -> Self {
        self.0.last_mut().map(change).unwrap();
        self
    }

    fn at(self, seconds: i64) -> Self {
        self.last(|entry| entry.at = TemporalReference::from_unix(ACCEPTED + seconds))
    }

    /// `row breach`, with the provider that said it; looked at so many hours after the acceptance.
    fn found_after(&self, hours: i64) -> Vec<String> {
        self.found_among(&[], (1..).zip(self.0.clone()).collect(), hours)
    }

    /// The same where of the rows only those after and up to a number are left, behind and before others that are gone.
    fn found_in_rest(&self, left: std::ops::Range<i64>) -> Vec<String> {
        let rows: Vec<_> = (1..).zip(self.0.clone()).filter(|(sequence, _)| left.contains(sequence)).collect();
        let mut gaps = Vec::new();
        if left.start > 1 {
            gaps.push(Gap { first: 1, ended: rows[0].1.at });
        }
        if left.end <= i64::try_from(self.0.len()).unwrap() {
            gaps.push(Gap { first: left.end, ended: TemporalReference::from_unix(ACCEPTED + 48 * HOUR) });
        }
        self.found_among(&gaps, rows, 30 * 30 * 24)
    }

    fn found_among(&self, gaps: &[Gap], rows: Vec<(i64, Entry)>, hours: i64) -> Vec<String> {
        let provider = provider();
        let now = TemporalReference::from_unix(ACCEPTED + hours * HOUR);
        let standards = Standards { provider: &provider, first_notice: 12 * HOUR, final_notice: 22 * HOUR, gaps, now };
        let rows: Vec<Recorded> =
            rows.into_iter().map(|(sequence, entry)| Recorded { sequence, entry, is_new: false }).collect();
        findings(&ID.parse().unwrap(), &rows, &standards)
            .into_iter()
            .map(|one| {
                format!(
                    "{} {}{}",
                    one.sequence,
                    one.breach,
                    one.said_by.map(|by| format!(" [{by}]")).unwrap_or_default()
                )
            })
            .collect()
    }

    fn found(&self) -> Vec<String> {
        self.found_after(1)
    }
}

/// Sent from here to bruno elsewhere and carla here: rows 1 to 4.
fn sent() -> Log {
    Log::default().arrival(&[CARLA]).with(EventKind::Acceptance, "").with(EventKind::TakeCharge, CARLA).delivery(CARLA)
}

/// Received from beta for carla: rows 1 to 3.
fn received() -> Log {
    let from_beta = |entry: &mut Entry| {
        entry.sender = Some("dario@beta.example".into());
        entry.provider = Some("Beta".into());
    };
    Log::default()
        .arrival(&[CARLA])
        .last(from_beta)
        .with(EventKind::TakeCharge, CARLA)
        .last(from_beta)
        .delivery(CARLA)
        .last(from_beta)
}

#[test]
fn what_happens_every_day_has_no_findings() {
    use EventKind::*;
    let good = [
        sent(),
        received(),
        sent().heard(Kind::ServerServerAcceptance, "", &[BRUNO]).heard(Kind::Delivery, BRUNO, &[]),
        // Before the own acceptance, and twice.
        Log::default()
            .heard(Kind::Delivery, BRUNO, &[])
            .heard(Kind::Delivery, BRUNO, &[])
            .arrival(&[])
            .with(Acceptance, ""),
        // Silence, and a delivery after it.
        sent().with(FirstTimeout, BRUNO).at(12 * HOUR).with(FinalTimeout, BRUNO).at(24 * HOUR).heard(
            Kind::Delivery,
            BRUNO,
            &[],
        ),
        sent().heard(Kind::ServerServerAcceptance, "", &[BRUNO]).with(FinalTimeout, BRUNO).at(22 * HOUR),
        sent().with(NonDelivery, BRUNO).with(NonDelivery, MARIO),
        // A virus that beta found, and one that we found in beta's message.
        sent().heard(Kind::VirusDetection, BRUNO, &[]).with(VirusNonDelivery, BRUNO),
        Log(received().0[..2].to_vec())
            .with(VirusDetection, CARLA)
            .last(|entry| entry.sender = Some("dario@beta.example".into())),
        // The same envelope again, and an alias with several mailboxes.
        received().arrival(&[CARLA]).last(|entry| {
            entry.queue_id = Some("Q2".into());
            entry.provider = Some("Beta".into());
            entry.sender = Some("Dario@beta.example".into());
        }),
        Log::default().with(NonAcceptance, ""),
        // What others say of messages that we do not know.
        Log::default().heard(Kind::Delivery, "qualcuno@beta.example", &[]),
        Log::default(),
    ];
    for log in good {
        assert_eq!(log.found_after(20), [] as [&str; 0], "{:#?}", log.0);
    }
}

#[test]
fn what_is_still_open_is_no_finding_within_its_time() {
    let open = Log::default().arrival(&[CARLA]).with(EventKind::Acceptance, "").with(EventKind::TakeCharge, CARLA);
    assert_eq!(open.found_after(22), [] as [&str; 0]);
    assert_eq!(open.found_after(24), ["2 nothing was heard of bruno@beta.example, and nobody was told in time"]);
    let found = open.with(EventKind::FinalTimeout, BRUNO).at(24 * HOUR).found_after(27);
    assert_eq!(found, ["1 carla@alfa.example has no outcome, and its time is over"]);
    let detected = sent().heard(Kind::VirusDetection, BRUNO, &[]);
    assert_eq!(detected.found_after(20), [] as [&str; 0]);
    assert_eq!(detected.found_after(27), ["5 the virus detection for bruno@beta.example has no virus non-delivery"]);
    // Nobody is told of one about a recipient who is not certified, or after his end.
    let of_nobody = sent().heard(Kind::VirusDetection, MARIO, &[]);
    let after_its_end = sent().heard(Kind::Delivery, BRUNO, &[]).heard(Kind::VirusDetection, BRUNO, &[]);
    for log in [of_nobody, after_its_end] {
        assert!(!log.found_after(27).iter().any(|found| found.contains("virus")), "{log:?}");
    }
}

#[test]
fn each_planted_fault_is_found_at_its_row() {
    use EventKind::*;
    let other_queue = |entry: &mut Entry| entry.queue_id = Some("Q9".into());
    let cases = [
        (sent().with(Delivery, CARLA).last(|entry| entry.sender = None), "5 carla@alfa.example has a second outcome"),
        (sent().with(FirstTimeout, BRUNO).at(11 * HOUR), "5 a timeout notice about bruno@beta.example before its time"),
        (
            sent().with(FinalTimeout, BRUNO).at(22 * HOUR - 1),
            "5 a timeout notice about bruno@beta.example before its time",
        ),
        (
            sent().with(FirstTimeout, CARLA).at(12 * HOUR),
            "5 a timeout notice about carla@alfa.example that was not owed any more",
        ),
        (
            sent().heard(Kind::ServerServerAcceptance, "", &[BRUNO]).with(FirstTimeout, BRUNO).at(12 * HOUR),
            "6 a timeout notice about bruno@beta.example that was not owed any more",
        ),
        (
            sent().with(FinalTimeout, BRUNO).at(22 * HOUR).with(FinalTimeout, BRUNO).at(22 * HOUR),
            "6 a timeout notice about bruno@beta.example that was not owed any more",
        ),
        (
            received()
                .with(FirstTimeout, BRUNO)
                .last(|entry| entry.sender = Some("dario@beta.example".into()))
                .at(12 * HOUR),
            "4 a timeout notice about bruno@beta.example without an acceptance",
        ),
        (
            sent().with(NonAcceptance, "").last(|entry| entry.sender = Some("dario@beta.example".into())),
            "5 the sender is dario@beta.example, before it was anna@alfa.example",
        ),
        (sent().with(NonAcceptance, ""), "5 accepted and not accepted"),
        (sent().with(Acceptance, ""), "5 a second acceptance"),
        (sent().with(Acceptance, "").last(other_queue), "5 an acceptance without the arrival of its envelope"),
        (Log::default().arrival(&[]), "1 our envelope has no acceptance"),
        (
            received().with(Acceptance, "").last(|entry| {
                entry.provider = Some("Beta".into());
                entry.sender = Some("dario@beta.example".into());
            }),
            "4 an acceptance of a message that was not sent from here",
        ),
        (sent().add(Arrival, "", "{}"), "5 the details cannot be read"),
        (
            sent().add(Arrival, "", r#"{"here":[],"recipients":[["bruno@beta.example","certificato"]]}"#),
            "5 the recipients are not those of row 1",
        ),
        (Log::default().arrival(&[CARLA]).with(Acceptance, ""), "1 carla@alfa.example was never taken in charge"),
        (sent().with(TakeCharge, CARLA), "5 carla@alfa.example is taken in charge a second time"),
        (sent().with(TakeCharge, BRUNO), "5 bruno@beta.example is taken in charge without having arrived"),
        (sent().delivery(BRUNO), "5 delivered to bruno@beta.example without having arrived"),
        (
            Log(sent().0[..3].to_vec()).delivery(CARLA).last(other_queue),
            "4 delivered to carla@alfa.example without having arrived",
        ),
        (Log(sent().0[..3].to_vec()).with(Delivery, CARLA), "4 delivered to carla@alfa.example in no mailbox"),
        (sent().with(NonDelivery, "altri@gamma.example"), "5 altri@gamma.example is no recipient of this transaction"),
        (
            sent().with(FirstTimeout, MARIO).at(12 * HOUR),
            "5 mario@gamma.example is no certified recipient of this transaction",
        ),
        (
            sent().with(VirusNonDelivery, BRUNO),
            "5 the virus non-delivery for bruno@beta.example has no virus detection",
        ),
        (
            sent().heard(Kind::VirusDetection, BRUNO, &[]).with(VirusNonDelivery, BRUNO).with(VirusNonDelivery, BRUNO),
            "7 a second virus non-delivery for bruno@beta.example",
        ),
        (sent().with(NonDelivery, CARLA), "5 carla@alfa.example is told as delivered and as not delivered"),
    ];
    for (log, expected) in cases {
        let found = log.found();
        assert!(found.iter().any(|finding| finding == expected), "expected {expected:?} in {found:#?}");
    }
}

#[test]
fn what_other_providers_say_against_the_log_is_theirs() {
    let found = |log: Log| log.found();
    assert_eq!(
        found(sent().heard(Kind::Delivery, "nessuno@beta.example", &[])),
        ["5 nessuno@beta.example is no recipient of this transaction [Beta]"]
    );
    assert_eq!(
        found(sent().heard(Kind::ServerServerAcceptance, "", &[MARIO])),
        ["5 mario@gamma.example is no certified recipient of this transaction [Beta]"]
    );
    assert_eq!(
        found(sent().heard(Kind::NonDelivery, BRUNO, &[]).heard(Kind::Delivery, BRUNO, &[])),
        ["6 bruno@beta.example is told as delivered and as not delivered [Beta]"]
    );
    let liar = |entry: &mut Entry| entry.sender = Some("altri@alfa.example".into());
    assert_eq!(
        found(Log::default().heard(Kind::Delivery, BRUNO, &[]).last(liar).arrival(&[]).with(EventKind::Acceptance, "")),
        ["1 the sender is altri@alfa.example, before it was anna@alfa.example [Beta]"]
    );
}

/// How often another provider says it, by the Message-IDs of what says it.
#[test]
fn another_provider_tells_of_each_recipient_once() {
    let with = |log: Log, kind, recipient, taken: &[&str], id: &str| {
        log.heard(kind, recipient, taken).last(|entry| entry.notification = Some(id.parse().unwrap()))
    };
    let taken = |log: Log, id: &str, taken: &[&str]| with(log, Kind::ServerServerAcceptance, "", taken, id);
    let (one, other) = ("<1@beta.example>", "<2@beta.example>");
    assert_eq!(taken(taken(sent(), one, &[BRUNO]), one, &[BRUNO]).found(), [] as [&str; 0], "it came twice");
    assert_eq!(
        taken(taken(taken(sent(), one, &[BRUNO]), other, &[BRUNO]), other, &[BRUNO]).found(),
        ["6 another take-charge names bruno@beta.example once more [Beta]"]
    );
    // A transaction may come in several parts, and each in its own take-charge.
    assert_eq!(taken(taken(sent(), one, &[BRUNO]), other, &[CARLA]).found(), [] as [&str; 0]);
    let gamma = |entry: &mut Entry| entry.provider = Some("Gamma".into());
    assert_eq!(taken(taken(sent(), one, &[BRUNO]), other, &[BRUNO]).last(gamma).found(), [] as [&str; 0]);
    for kind in [Kind::Delivery, Kind::NonDelivery] {
        let told = |log: Log, id: &str| with(log, kind, BRUNO, &[], id);
        assert_eq!(told(told(sent(), one), one).found(), [] as [&str; 0], "it came twice");
        let expected = ["6 the outcome of bruno@beta.example is told by another notification once more [Beta]"];
        assert_eq!(told(told(sent(), one), other).found(), expected);
    }
}

#[test]
fn what_may_stand_in_rows_that_are_gone_is_not_missing() {
    use EventKind::*;
    let whole = [
        sent().heard(Kind::Delivery, BRUNO, &[]),
        sent().with(FirstTimeout, BRUNO).at(12 * HOUR).with(FinalTimeout, BRUNO).at(22 * HOUR),
        sent().heard(Kind::VirusDetection, BRUNO, &[]).with(VirusNonDelivery, BRUNO),
        received(),
    ];
    for log in whole {
        let rows = i64::try_from(log.0.len()).unwrap();
        for cut in 1..=rows {
            assert_eq!(log.found_in_rest(cut..rows + 1), [] as [&str; 0], "from row {cut} of {log:#?}");
            assert_eq!(log.found_in_rest(1..cut + 1), [] as [&str; 0], "to row {cut} of {log:#?}");
        }
    }
}

#[test]
fn what_rows_that_are_gone_cannot_explain_is_found() {
    // Long before anything of it.
    let log = sent().delivery(BRUNO);
    let long_ago = Gap { first: -100, ended: TemporalReference::from_unix(ACCEPTED - 40 * 24 * HOUR) };
    let rows = || (1..).zip(log.0.clone()).collect();
    let expected = ["5 delivered to bruno@beta.example without having arrived"];
    assert_eq!(log.found_among(&[long_ago], rows(), 1), expected);
    let just_before = Gap { ended: TemporalReference::from_unix(ACCEPTED), ..long_ago };
    assert_eq!(log.found_among(&[just_before], rows(), 1), [] as [&str; 0]);
    // A gap in front is no excuse for an end that never came.
    assert_eq!(sent().found_among(&[just_before], (1..).zip(sent().0).collect(), 26).len(), 1);
    // What stands twice is wrong, whatever is gone.
    let twice = sent().delivery(CARLA);
    assert_eq!(twice.found_in_rest(2..6), ["5 carla@alfa.example has a second outcome"]);
}
