//! The known cases of the official interoperability runs between providers (2008), as one table on real Postfix,
//! Dovecot and clamd of two providers.
//!
//! A row says what anna sends, what happens to the network meanwhile, and every message that comes of it, in order. No
//! mailbox may hold anything else; the referee judges each transaction as a whole, and `log audit` finds nothing at
//! either provider. Minutes are seconds here: what counts is that one certified instant lies behind another.

#[path = "support/infected.rs"]
mod infected;
#[path = "support/virus_store.rs"]
mod virus_store;

use anyhow::{Context, Result, ensure};
use infected::infected;
use jiff::{Timestamp, ToSpan};
use pec_testbed::clamd::EICAR_NAME;
use pec_testbed::{PATIENCE, Plan, Port, Received, Testbed, wait_until};
use virus_store::{exported, stored};

const ANNA: &str = "anna@alfa.example";
const SERVICE: &str = "ricevute@alfa.example";
const BRUNO: &str = "bruno@beta.example";
const DARIO: &str = "dario@beta.example";
const MARIO: &str = "mario@gamma.example";

const ALFA: &str = "Alfa PEC S.p.A.";
const BETA: &str = "Beta PEC S.p.A.";

/// A message that must come: mailbox, kind, provider that issues it, `errore`, and the recipients it is about.
type Notice = (&'static str, &'static str, &'static str, &'static str, &'static [&'static str]);

struct Case {
    name: &'static str,
    /// The forward paths.
    to: &'static [&'static str],
    message: fn() -> Vec<u8>,
    /// The hosts.
    plan: fn() -> Plan,
    /// What happens to them before, while and after anna sends.
    network: fn(&Testbed, Sending) -> Result<()>,
    /// The messages of each step come in any order, the steps one after the other by what they certify.
    steps: &'static [&'static [Notice]],
    /// Whether each step is certified for a later second than the one before.
    is_late: bool,
    /// `errore-esteso` of every notice that has one.
    reason: &'static str,
    /// How many messages lie in the virus stores of alfa and beta.
    stored: [usize; 2],
}

type Sending<'a> = &'a dyn Fn() -> Result<()>;

const CASES: [Case; 6] = [
    Case {
        name: "taken in charge late, delivered later still, and without a subject",
        to: &[BRUNO],
        message: || written("", BRUNO),
        plan: two_providers,
        network: beta_is_away_and_then_its_mailboxes,
        steps: &[
            &[(ANNA, "accettazione", ALFA, "nessuno", &[]), (BRUNO, "posta-certificata", ALFA, "nessuno", &[])],
            &[(SERVICE, "presa-in-carico", BETA, "nessuno", &[BRUNO])],
            &[(ANNA, "avvenuta-consegna", BETA, "nessuno", &[BRUNO])],
        ],
        is_late: true,
        reason: "",
        stored: [0, 0],
    },
    Case {
        name: "a recipient in neither To nor Cc",
        to: &[BRUNO, DARIO],
        message: || written("taciuto", BRUNO),
        plan: two_providers,
        network: undisturbed,
        steps: &[&[(ANNA, "non-accettazione", ALFA, "altro", &[])]],
        is_late: false,
        reason: "il destinatario dario@beta.example non figura nei campi To e Cc",
        stored: [0, 0],
    },
    Case {
        name: "a virus that the access point sees",
        to: &[BRUNO],
        message: || infected("virus", &[BRUNO]),
        plan: two_providers,
        network: undisturbed,
        steps: &[&[(ANNA, "non-accettazione", ALFA, "virus", &[])]],
        is_late: false,
        reason: EICAR_NAME,
        stored: [1, 0],
    },
    Case {
        name: "a virus that only the receiver sees, for certified and ordinary recipients",
        to: &[BRUNO, MARIO, DARIO],
        message: || infected("virus", &[BRUNO, MARIO, DARIO]),
        plan: || only_beta_sees("").plain("gamma", &["mario"]),
        network: undisturbed,
        steps: &[
            &[(ANNA, "accettazione", ALFA, "nessuno", &[]), (MARIO, "posta-certificata", ALFA, "nessuno", &[])],
            &[(SERVICE, "presa-in-carico", BETA, "nessuno", &[BRUNO, DARIO])],
            &[
                (SERVICE, "rilevazione-virus", BETA, "virus", &[BRUNO]),
                (SERVICE, "rilevazione-virus", BETA, "virus", &[DARIO]),
            ],
            &[(ANNA, "errore-consegna", ALFA, "virus", &[BRUNO]), (ANNA, "errore-consegna", ALFA, "virus", &[DARIO])],
        ],
        is_late: false,
        reason: EICAR_NAME,
        stored: [0, 1],
    },
    Case {
        name: "an infected envelope for two recipients in one SMTP transaction",
        to: &[BRUNO, DARIO],
        message: || infected("virus", &[BRUNO, DARIO]),
        plan: || only_beta_sees(""),
        network: undisturbed,
        steps: &[
            &[(ANNA, "accettazione", ALFA, "nessuno", &[])],
            &[(SERVICE, "presa-in-carico", BETA, "nessuno", &[BRUNO, DARIO])],
            &[
                (SERVICE, "rilevazione-virus", BETA, "virus", &[BRUNO]),
                (SERVICE, "rilevazione-virus", BETA, "virus", &[DARIO]),
            ],
            &[(ANNA, "errore-consegna", ALFA, "virus", &[BRUNO]), (ANNA, "errore-consegna", ALFA, "virus", &[DARIO])],
        ],
        is_late: false,
        reason: EICAR_NAME,
        stored: [0, 1],
    },
    Case {
        name: "an infected envelope for two recipients in two SMTP transactions",
        to: &[BRUNO, DARIO],
        message: || infected("virus", &[BRUNO, DARIO]),
        plan: || only_beta_sees("smtp_destination_recipient_limit = 1\n"),
        network: undisturbed,
        steps: &[
            &[(ANNA, "accettazione", ALFA, "nessuno", &[])],
            // Two transactions have no order between them.
            &[
                (SERVICE, "presa-in-carico", BETA, "nessuno", &[BRUNO]),
                (SERVICE, "rilevazione-virus", BETA, "virus", &[BRUNO]),
                (ANNA, "errore-consegna", ALFA, "virus", &[BRUNO]),
                (SERVICE, "presa-in-carico", BETA, "nessuno", &[DARIO]),
                (SERVICE, "rilevazione-virus", BETA, "virus", &[DARIO]),
                (ANNA, "errore-consegna", ALFA, "virus", &[DARIO]),
            ],
        ],
        is_late: false,
        reason: EICAR_NAME,
        stored: [0, 2],
    },
];

#[test]
fn outcome_the_cases_of_the_official_runs() {
    for case in CASES {
        (case.plan)().test(|testbed| case.holds(testbed).with_context(|| case.name));
    }
}

impl Case {
    fn holds(&self, testbed: &Testbed) -> Result<()> {
        println!("{}", self.name);
        let message = (self.message)();
        let send = || {
            let dialogue = testbed.host("alfa")?.submit("anna", Port::Submissions, ANNA, self.to, &message)?;
            ensure!(dialogue.accepted(), "{dialogue}");
            Ok(())
        };
        (self.network)(testbed, &send)?;

        let notices = self.steps.concat();
        let expected: Vec<(&str, usize)> = notices.iter().map(|(mailbox, ..)| (*mailbox, 1)).collect();
        let all = testbed.received_when(&totals(&expected))?;
        testbed.judge(&all)?;
        testbed.audit()?;

        let mut rest: Vec<&Received> = all.iter().collect();
        let mut before = None;
        for step in self.steps {
            let mut instants = Vec::new();
            for notice in *step {
                let found = rest.iter().position(|one| is(one, notice).unwrap_or(false));
                let found = rest.remove(found.with_context(|| format!("{notice:?} did not come"))?);
                self.check(found)?;
                instants.push(certified_instant(found)?);
            }
            let (first, last) = (instants.iter().min().copied(), instants.iter().max().copied());
            ensure!(first >= before, "{step:?} is certified for {first:?}, what must come before it for {before:?}");
            ensure!(!self.is_late || first > before, "{step:?} is certified for {first:?} as what came before it");
            before = last;
        }
        for (name, count) in ["alfa", "beta"].into_iter().zip(self.stored) {
            let host = testbed.host(name)?;
            let names = stored(host)?;
            ensure!(names.len() == count, "{name} keeps {names:?}, expected {count}");
            for kept in names {
                let kept = exported(host, &kept)?;
                let is_whole = if name == "alfa" { kept == message } else { contains(&kept, b"Subject: virus") };
                ensure!(is_whole, "what {name} keeps is not what came");
            }
        }
        Ok(())
    }

    /// What holds for a message besides what the row says of it alone.
    fn check(&self, message: &Received) -> Result<()> {
        let error = message.certified_attributes("postacert", "errore")?.concat();
        let reason = message.certified("errore-esteso")?.concat();
        if matches!(message.kind().as_str(), "non-accettazione" | "errore-consegna") {
            ensure!(reason == self.reason, "the reason is {reason:?}");
            let security = message.field("X-VerificaSicurezza");
            ensure!(security.as_deref() == (error == "virus").then_some("errore"), "{security:?}");
        }
        ensure!(message.certified("destinatari")? == self.to, "{:?}", message.certified("destinatari")?);
        ensure!(message.certified("mittente")? == [ANNA], "{:?}", message.certified("mittente")?);
        match message.is("posta-certificata") {
            true => message.carries(&(self.message)()),
            false => Ok(()),
        }
    }
}

fn is(message: &Received, (mailbox, kind, issuer, error, about): &Notice) -> Result<bool> {
    let names = [message.certified("ricezione")?, message.certified("consegna")?].concat();
    Ok(message.mailbox == *mailbox
        && message.is(kind)
        && message.certified("gestore-emittente")? == [*issuer]
        && message.certified_attributes("postacert", "errore")? == [*error]
        && names == *about)
}

/// The instant that `dati` holds.
fn certified_instant(message: &Received) -> Result<Timestamp> {
    let part = |element| message.certified(element).map(|texts| texts.concat());
    let zone = message.certified_attributes("data", "zona")?.concat();
    let text = format!("{} {} {zone}", part("giorno")?, part("ora")?);
    Timestamp::strptime("%d/%m/%Y %H:%M:%S %z", &text).with_context(|| text)
}

fn totals<'a>(expected: &[(&'a str, usize)]) -> Vec<(&'a str, usize)> {
    let mut totals: Vec<(&str, usize)> = Vec::new();
    for (mailbox, count) in expected {
        match totals.iter_mut().find(|(name, _)| name == mailbox) {
            Some((_, total)) => *total += count,
            None => totals.push((mailbox, *count)),
        }
    }
    totals
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

fn written(subject: &str, to: &str) -> Vec<u8> {
    format!(
        "From: {ANNA}\r\nTo: {to}\r\nSubject: {subject}\r\nMessage-ID: <caso@client.example>\r\n\r\nBuongiorno.\r\n"
    )
    .into_bytes()
}

/// Both with a scanner that knows the virus.
fn two_providers() -> Plan {
    let plan = Plan::new(env!("CARGO_BIN_EXE_pec-milter"));
    plan.provider("alfa", &["anna"]).with_clamd("").provider("beta", &["bruno", "dario"]).with_clamd("")
}

/// Alfa's scanner does not look into the parts of a message.
fn only_beta_sees(postfix: &str) -> Plan {
    let plan = Plan::new(env!("CARGO_BIN_EXE_pec-milter"));
    let plan = plan.provider("alfa", &["anna"]).with_clamd("ScanMail no\n").with_postfix(postfix);
    plan.provider("beta", &["bruno", "dario"]).with_clamd("")
}

fn undisturbed(_: &Testbed, send: Sending) -> Result<()> {
    send()
}

/// Beta cannot be reached when anna sends; when it can, its mailbox server is down for a while.
fn beta_is_away_and_then_its_mailboxes(testbed: &Testbed, send: Sending) -> Result<()> {
    let beta = testbed.host("beta")?;
    beta.stop_postfix()?;
    beta.stop_dovecot()?;
    send()?;
    time_passes_after(testbed, "anna", "accettazione")?;
    beta.start_postfix()?;
    testbed.host("alfa")?.flush_queue()?;
    time_passes_after(testbed, "ricevute", "presa-in-carico")?;
    ensure!(beta.queue()?.contains(BRUNO), "nothing waits for the mailbox");
    beta.start_dovecot()
}

/// Waits until the second for which the first message of alfa's user certifies is over.
fn time_passes_after(testbed: &Testbed, user: &str, kind: &str) -> Result<()> {
    let alfa = testbed.host("alfa")?;
    let bytes = alfa.fetch_when(user, 1)?.remove(0);
    let message = Received { mailbox: alfa.mailbox(user), bytes };
    ensure!(message.is(kind), "{} instead of {kind}", message.kind());
    let over = certified_instant(&message)?.checked_add(1.second())?;
    wait_until("the clock to go on", PATIENCE, || {
        let now = Timestamp::now();
        ensure!(now >= over, "{now}");
        Ok(())
    })
}
