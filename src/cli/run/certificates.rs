//! The own certificates while the daemon runs: their end is told in good time, and the change of the key when it comes.

use std::collections::BTreeMap;
use std::time::Duration;

use metrics::gauge;
use tracing::{error, info, warn};

use crate::adapters::instruments::SystemInstruments;
use crate::model::TemporalReference;
use crate::operations::current::{Current, Handle};
use crate::operations::ports::Instruments;
use crate::smime::expiry::Expiry;

/// How often it is looked at, so that a reload and a clock that was set are noticed.
const INTERVAL: Duration = Duration::from_secs(3);

const GAUGE: &str = "pec_milter_certificate_expiry_seconds";

/// Watches for as long as the process lives.
pub(super) async fn watch(current: Handle) {
    let mut told = Told::default();
    loop {
        let (held, now) = (current.now(), SystemInstruments.now());
        told.look(&held, now);
        // The change of the key is told when it comes.
        let until_next = held.keyring.next_start(now).map(|starts| starts.unix().saturating_sub(now.unix()));
        let until_next = until_next.and_then(|seconds| u64::try_from(seconds).ok()).map(Duration::from_secs);
        tokio::time::sleep(until_next.map_or(INTERVAL, |left| left.min(INTERVAL))).await;
    }
}

/// What was told last, so that it is told once.
#[derive(Default)]
struct Told {
    /// By serial number.
    expiries: BTreeMap<String, Option<Expiry>>,
    signing: Option<String>,
}

impl Told {
    fn look(&mut self, current: &Current, now: TemporalReference) {
        let keyring = &current.keyring;
        let signing = keyring.in_force(now).certificate();
        if self.signing.as_ref() != Some(&signing.serial()) {
            info!(certificate = signing.subject(), serial = signing.serial(), "this certificate signs from now on");
            self.signing = Some(signing.serial());
        }
        let held: BTreeMap<String, i64> =
            keyring.certificates().map(|one| (one.serial(), one.not_after().saturating_sub(now.unix()))).collect();
        for gone in self.expiries.keys().filter(|serial| !held.contains_key(*serial)) {
            gauge!(GAUGE, "serial" => gone.clone()).set(f64::NAN);
        }
        self.expiries.retain(|serial, _| held.contains_key(serial));
        for (serial, left) in &held {
            gauge!(GAUGE, "serial" => serial.clone()).set(*left as f64);
            self.expiries.entry(serial.clone()).or_default();
        }
        for (certificate, expiry) in keyring.expiring(now) {
            let (subject, serial) = (certificate.subject(), certificate.serial());
            if self.expiries.insert(serial.clone(), Some(expiry)) == Some(Some(expiry)) {
                continue;
            }
            let until = TemporalReference::from_unix(certificate.not_after());
            let (day, time) = (until.day(), until.time());
            match expiry.is_urgent() {
                true => error!(
                    certificate = subject,
                    serial, day, time, "the certificate {expiry}; get the next one and set it in [next_key]"
                ),
                false => warn!(
                    certificate = subject,
                    serial, day, time, "the certificate {expiry}; get the next one and set it in [next_key]"
                ),
            }
        }
    }
}
