//! Mailboxes about which nothing is certified: copies, ordinary recipients, and those that Postfix does not name.

use super::*;

/// A mailbox that no envelope names.
const ARCHIVE: &str = "archivio@alfa.example";
/// An ordinary recipient, whose domain the same Postfix hosts.
const MARIO: &str = "mario@gamma.example";

#[tokio::test]
async fn a_mailbox_that_the_envelope_does_not_name_gets_a_copy_and_gives_nothing() {
    let bench = Bench::new(alfa());
    bench.servers.mailbox(DARIO, 451, "4.2.0 busy");
    let recipients = asked(&[CARLA, DARIO, ARCHIVE]);
    assert_eq!(bench.deliver(file("Q1", &recipients)).await, [250, 250, 250, 451, 250]);
    let told = kinds(&bench.servers.offered());
    assert!(told.contains(&"archivio@alfa.example posta-certificata".to_owned()));
    assert_eq!(told.iter().filter(|line| line.ends_with("avvenuta-consegna")).count(), 1, "{told:?}");
    assert_eq!(bench.log()[4..], ["delivery carla@alfa.example carla@alfa.example", "copy archivio@alfa.example"]);

    bench.servers.mailbox(DARIO, 250, "2.0.0 saved");
    assert_eq!(bench.deliver(file("Q1", &[DARIO, ARCHIVE])).await, [250, 250]);
    assert_eq!(kinds(&bench.servers.offered())[0], "dario@alfa.example posta-certificata");
    assert_eq!(bench.log()[6..], ["delivery dario@alfa.example dario@alfa.example"], "no second copy");
    bench.assert_sound();
}

#[tokio::test]
async fn what_a_copys_mailbox_says_is_postfixs_affair_and_harms_nobody() {
    for code in [451, 550] {
        let bench = Bench::new(alfa());
        bench.servers.mailbox(ARCHIVE, code, "4.2.0 no");
        assert_eq!(bench.deliver(file("Q1", &asked(&[CARLA, DARIO, ARCHIVE]))).await, [250, 250, 250, 250, code]);
        assert!(bench.log().iter().all(|line| !line.contains(ARCHIVE)), "{:?}", bench.log());
        // Postfix comes back with what is left.
        bench.servers.offered();
        assert_eq!(bench.deliver(file("Q1", &[ARCHIVE])).await, [code]);
        assert_eq!(kinds(&bench.servers.offered()), ["archivio@alfa.example posta-certificata"]);
        bench.assert_sound();
    }
}

#[tokio::test]
async fn a_copy_of_an_infected_envelope_goes_nowhere() {
    let bench = Bench::new(beta());
    let (bruno, archive) = ("bruno@beta.example", "archivio@beta.example");
    let infected =
        |recipients: &[&str]| QueueFile { message: envelope(ID, &[bruno], "VIRUS"), ..empty_file("Q1", recipients) };
    bench.servers.injection(SERVICE, 451);
    assert_eq!(bench.deliver(infected(&[TakeCharge.address(), bruno, archive])).await, [451, 451, 250]);
    bench.servers.injection(SERVICE, 250);
    assert_eq!(bench.deliver(infected(&[TakeCharge.address(), bruno, archive])).await, [250; 3]);
    let offered = kinds(&bench.servers.offered());
    assert!(offered.iter().all(|line| line.starts_with(SERVICE)), "{offered:?}");
    assert_eq!(bench.log()[2..], ["virus-detection bruno@beta.example", "virus-detection archivio@beta.example"]);
    bench.assert_sound();
}

#[tokio::test]
async fn an_alias_that_leads_away_beside_a_copy_still_gives_the_acceptance() {
    let bench = Bench::new(alfa());
    assert_eq!(bench.deliver(file("Q1", &asked(&[ARCHIVE]))).await, [250; 3]);
    let told = kinds(&bench.servers.offered());
    assert_eq!(told, ["archivio@alfa.example posta-certificata", "anna@alfa.example accettazione"]);
}

/// A queue file whose mailboxes are pairs of the address and whom the sender named, behind the two triggers.
fn aliased(pairs: &[(&str, &str)]) -> QueueFile {
    let mut file = file("Q1", &asked(&pairs.iter().map(|(address, _)| *address).collect::<Vec<_>>()));
    for (recipient, (_, named)) in file.recipients.iter_mut().skip(2).zip(pairs) {
        recipient.orcpt = (!named.is_empty()).then(|| format!("rfc822;{named}"));
    }
    file
}

#[tokio::test]
async fn two_recipients_with_one_mailbox_have_an_outcome_each() {
    let bench = Bench::new(alfa());
    let both = aliased(&[(CARLA, CARLA), (CARLA, DARIO)]);
    bench.servers.mailbox_in_turn(CARLA, &[250, 451, 250]);
    assert_eq!(bench.deliver(both.clone()).await, [250, 250, 250, 451]);
    assert_eq!(bench.deliver(both).await, [250; 4]);
    let outcomes = ["delivery carla@alfa.example carla@alfa.example", "delivery dario@alfa.example carla@alfa.example"];
    assert_eq!(bench.log()[4..], outcomes);
    let told = kinds(&bench.servers.offered());
    assert_eq!(told.iter().filter(|line| *line == "anna@alfa.example avvenuta-consegna").count(), 3, "{told:?}");
    bench.assert_sound();
}

#[tokio::test]
async fn a_recipient_whose_mailbox_got_a_copy_has_an_outcome_of_his_own() {
    let bench = Bench::new(alfa());
    let both = aliased(&[(ARCHIVE, ARCHIVE), (ARCHIVE, CARLA)]);
    bench.servers.mailbox_in_turn(ARCHIVE, &[451, 250, 250]);
    assert_eq!(bench.deliver(both.clone()).await, [250, 250, 250, 451]);
    assert_eq!(bench.deliver(both).await, [250; 4]);
    assert_eq!(bench.log()[3..], ["copy archivio@alfa.example", "delivery carla@alfa.example archivio@alfa.example"]);
    bench.assert_sound();
}

#[tokio::test]
async fn of_one_envelope_again_each_recipient_of_a_mailbox_is_recorded() {
    let bench = Bench::new(alfa());
    let both = aliased(&[(CARLA, CARLA), (CARLA, DARIO)]);
    bench.deliver(both.clone()).await;
    bench.deliver(QueueFile { queue_id: "Q2".into(), ..both }).await;
    let added = ["duplicate carla@alfa.example carla@alfa.example", "duplicate dario@alfa.example carla@alfa.example"];
    assert_eq!(bench.log()[7..], added);
}

#[tokio::test]
async fn an_ordinary_recipient_whom_postfix_hosts_gets_the_envelope_and_nothing_is_certified_of_it() {
    // Whether Postfix names him makes no difference: the envelope does.
    for named in [MARIO, ""] {
        let bench = Bench::new(alfa());
        let message = envelope(ID, &[CARLA, MARIO], "Ciao");
        let both = QueueFile { message, ..aliased(&[(CARLA, CARLA), (MARIO, named)]) };
        bench.servers.mailbox(CARLA, 451, "4.2.0 busy");
        assert_eq!(bench.deliver(both.clone()).await, [250, 250, 451, 250]);
        let begun = bench.log();
        assert_eq!(
            begun[begun.len() - 2..],
            ["take-charge carla@alfa.example", "copy mario@gamma.example mario@gamma.example"]
        );
        bench.servers.mailbox(CARLA, 250, "2.0.0 saved");
        bench.servers.offered();
        assert_eq!(bench.deliver(both).await, [250; 4]);
        assert!(!kinds(&bench.servers.offered()).contains(&format!("{MARIO} posta-certificata")), "not stored again");
        assert_eq!(bench.log()[begun.len()..], ["delivery carla@alfa.example carla@alfa.example"]);
        bench.assert_sound();
    }
}

#[tokio::test]
async fn a_copy_that_is_found_infected_alone_is_recorded_and_kept_under_its_name() {
    let bench = Bench::new(beta());
    let (bruno, archive) = ("bruno@beta.example", "archivio@beta.example");
    let file = QueueFile {
        message: envelope(ID, &[bruno], "nuovo"),
        ..empty_file("Q1", &[TakeCharge.address(), bruno, archive])
    };
    bench.servers.mailbox(archive, 451, "4.2.0 busy");
    assert_eq!(bench.deliver(file.clone()).await, [250, 250, 451]);
    // New signatures come before the next attempt.
    bench.sniffer.learn("nuovo");
    let again = QueueFile { message: file.message.clone(), ..empty_file("Q1", &[archive]) };
    assert_eq!(bench.deliver(again.clone()).await, [250]);
    let kept: Vec<Vec<String>> = bench.sniffer.kept().into_iter().map(|about| about.recipients).collect();
    assert_eq!(kept, [[archive]]);
    assert_eq!(
        bench.log()[2..],
        ["delivery bruno@beta.example bruno@beta.example", "virus-detection archivio@beta.example"]
    );
    bench.servers.offered();
    assert_eq!(bench.deliver(again).await, [250]);
    assert_eq!((bench.servers.offered().len(), bench.log().len()), (0, 4), "it is done");
    bench.assert_sound();
}

/// Whom a take-charge of alfa takes in charge.
fn taken(octets: &[u8]) -> Vec<String> {
    let arrival =
        Arrival { sender: "posta-certificata@alfa.example", recipients: &[], message: &octets.to_vec().into() };
    let at = TemporalReference::from_unix(crate::smime::testing::NOW);
    let Classification::Notification(message) = classify(&arrival, &alfa().standards(at)).unwrap() else {
        panic!("no receipt")
    };
    message.data.taken.iter().map(ToString::to_string).collect()
}

#[tokio::test]
async fn a_mailbox_that_may_be_meant_and_is_not_named_waits_and_nobody_else() {
    let bench = Bench::new(alfa());
    let box_of_dario = "casella@alfa.example";
    assert_eq!(bench.deliver(aliased(&[(CARLA, CARLA), (box_of_dario, "")])).await, [250, 250, 250, 451]);
    let told = [
        "carla@alfa.example posta-certificata",
        "anna@alfa.example accettazione",
        "ricevute@alfa.example presa-in-carico",
        "anna@alfa.example avvenuta-consegna",
    ];
    assert_eq!(kinds(&bench.servers.offered()), told);
    bench.assert_sound();

    // Once Postfix names him he is taken in charge by himself, and the others are not told again.
    let named = |addresses: &[&str]| {
        let mut file = file("Q1", addresses);
        file.recipients[0].orcpt = Some(format!("rfc822;{DARIO}"));
        file
    };
    bench.servers.reachable(SERVICE, false);
    assert_eq!(bench.deliver(named(&[box_of_dario])).await, [451]);
    bench.servers.reachable(SERVICE, true);
    bench.servers.offered();
    assert_eq!(bench.deliver(named(&[box_of_dario])).await, [250]);
    let offered = bench.servers.offered();
    assert_eq!(kinds(&offered), ["ricevute@alfa.example presa-in-carico", "anna@alfa.example avvenuta-consegna"]);
    assert_eq!(taken(&offered[0].1), [DARIO]);
    let added = ["take-charge dario@alfa.example", "arrival", "delivery dario@alfa.example casella@alfa.example"];
    assert_eq!(bench.log()[4..], added);
    bench.assert_sound();
}

#[tokio::test]
async fn an_envelope_of_which_nobody_is_named_waits_with_nothing_certified_but_its_arrival() {
    let bench = Bench::new(beta());
    let message = envelope(ID, &["ufficio@beta.example"], "Ciao");
    let mut file = QueueFile { message, ..empty_file("Q1", &[TakeCharge.address(), "bruno@beta.example"]) };
    file.recipients[1].orcpt = None;
    assert_eq!(bench.deliver(file).await, [250, 451]);
    assert_eq!((bench.servers.offered().len(), bench.log()), (0, vec!["arrival".to_owned()]));
    bench.assert_sound();
}
