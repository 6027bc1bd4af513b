//! What Postfix gives up of the hop's own work: nothing that was accepted ends without its notices.

use rusqlite::Connection;

use super::*;

const CARLA: &str = "carla@alfa.example";
/// Where take-charges of this provider's own mail go.
const SERVICE: &str = "ricevute@alfa.example";

/// Larger than what Postfix returns unless it is told to, and in eight bits.
fn text() -> String {
    "Perché no? È così.\r\n".repeat(6_000)
}

/// Waits until Postfix has nothing left of the message but its report about it.
fn is_given_up(host: &Host) -> Result<()> {
    wait_until("Postfix to give the message up", PATIENCE, || {
        host.flush_queue()?;
        let (log, queue) = (host.postfix_log()?, host.queue()?);
        ensure!(log.contains("status=expired, returned to sender"), "it still tries");
        ensure!(queue.contains("mancata-consegna@pec-milter.invalid"), "there is no report: {queue}");
        ensure!(!queue.contains("accettazione@pec-milter.invalid"), "{queue}");
        Ok(())
    })
}

fn receipts_of_anna(testbed: &Testbed) -> Result<()> {
    let alfa = testbed.host("alfa")?;
    wait_until("what is left to be done", PATIENCE, || {
        alfa.flush_queue()?;
        ensure!(alfa.queue()?.starts_with("Mail queue is empty"), "{}", alfa.queue()?);
        Ok(())
    })?;
    let all = testbed.received_when(&[(ANNA, 2), (CARLA, 1), (SERVICE, 1)])?;
    let mut kinds: Vec<String> = all.iter().filter(|one| one.mailbox == ANNA).map(Received::kind).collect();
    kinds.sort();
    ensure!(kinds == ["accettazione", "avvenuta-consegna"], "{kinds:?}");
    testbed.judge(&all)
}

#[test]
fn outcome_a_message_that_postfix_gives_up_before_the_log_takes_anything_is_delivered_when_it_does() {
    alfa().with_postfix(SHORT_LIFE).test(|testbed| {
        let alfa = testbed.host("alfa")?;
        let other = Connection::open(alfa.daemon()?.event_log())?;
        other.execute_batch("BEGIN IMMEDIATE")?;
        send(testbed, "prova", &[CARLA], &text())?;
        is_given_up(alfa)?;
        ensure!(
            alfa.fetch("anna")?.is_empty() && alfa.fetch("carla")?.is_empty(),
            "nothing is recorded, so nobody is told"
        );
        alfa.set_postfix("maximal_queue_lifetime = 1d\n")?;
        other.execute_batch("ROLLBACK")?;
        receipts_of_anna(testbed)
    });
}

#[test]
fn outcome_receipts_that_postfix_gives_up_are_sent_when_their_mailbox_is_back() {
    alfa().with_postfix(SHORT_LIFE).test(|testbed| {
        let alfa = testbed.host("alfa")?;
        // Neither anna's mailbox nor Postfix takes a receipt.
        change_mailbox(alfa, "anna", "userdb_mail=maildir:/proc/anna")?;
        alfa.with_port_closed(Port::Inject, || {
            send(testbed, "prova", &[CARLA], &text())?;
            alfa.fetch_when("carla", 1)?;
            is_given_up(alfa)
        })?;
        alfa.set_postfix("maximal_queue_lifetime = 1d\n")?;
        edit_mailbox(alfa, "anna", "")?;
        receipts_of_anna(testbed)
    });
}

#[test]
fn outcome_a_failure_of_the_largest_message_that_is_taken_is_told() {
    const LARGEST: usize = 30_000_000;
    let peer = Peer::refusing(Stage::Rcpt, "550 5.1.1 nobody here");
    let route = format!("site_transport_maps = inline:{{ {{ peer.example = smtp:[127.0.0.1]:{} }} }}\n", peer.port);
    let limit = format!("[limits]\nmessage_bytes = {LARGEST}\n");
    alfa().with_postfix(&route).with_pec_milter(&limit).test(|testbed| {
        let line = "x".repeat(898) + "\r\n";
        // Room for what Postfix and the fields add.
        let text = line.repeat((LARGEST - 2_000) / line.len());
        send(testbed, "prova", &["mario@peer.example"], &text)?;
        let all = testbed.received_when(&[(ANNA, 2)])?;
        let reason = "5.1.1 - Alfa PEC S.p.A. - indirizzo non valido";
        expect(&notices(&all, "prova")?, &[("mario@peer.example", "no-dest", reason)])?;
        testbed.judge(&all)
    });
}
