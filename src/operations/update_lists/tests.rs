use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};

use openssl::asn1::Asn1Time;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::PKey;
use openssl::x509::{X509Builder, X509Extension};

use super::*;
use crate::operations::testing::{Clock, alfa};
use crate::smime::testing::{NOW, lists, read, root_list};
use crate::smime::{RevocationLists, newest};

const HANGING: &str = "http://hanging.example/list.crl";
const ANSWERING: &str = "http://answering.example/list.crl";

/// One server that hangs until the test ends, one that gives the list of the test, and a file.
struct Shelf {
    served: Vec<u8>,
    hanging: Mutex<Receiver<()>>,
    file: Mutex<Option<Vec<u8>>>,
    kept: Mutex<Vec<Vec<u8>>>,
}

impl ListDepot for Shelf {
    fn fetch(&self, point: &DistributionPoint) -> Result<(String, Vec<u8>), DepotFault> {
        if point.0 == [HANGING] {
            self.hanging.lock().unwrap().recv()?;
        }
        Ok((ANSWERING.to_owned(), self.served.clone()))
    }

    fn files(&self) -> Vec<(String, Result<Vec<u8>, DepotFault>)> {
        let file = self.file.lock().unwrap().clone();
        file.into_iter().map(|octets| ("file".to_owned(), Ok(octets))).collect()
    }

    fn keep(&self, list: &RevocationList, _: &str, _: TemporalReference) -> Result<(), DepotFault> {
        self.kept.lock().unwrap().push(list.to_pem()?);
        Ok(())
    }

    fn load(&self, trust: &Trust, at: TemporalReference) -> Result<RevocationLists, DepotFault> {
        let kept = self.kept.lock().unwrap();
        Ok(lists(newest(kept.iter().filter_map(|octets| trust.read_list(octets, &[], at).ok()))))
    }
}

/// A running update, its handle and its depot; the hanging server hangs as long as the sender lives.
fn started(fetches: bool, clock: &Clock) -> (Handle, Arc<Shelf>, Sender<()>, watch::Sender<bool>) {
    let (hang, hanging) = channel();
    let served = root_list(1, NOW, NOW + 100_000, &[], "unrelated-key");
    let depot = Shelf { served, hanging: Mutex::new(hanging), file: Mutex::default(), kept: Mutex::default() };
    let (current, depot, (stop, stopping)) = (Handle::new(alfa()), Arc::new(depot), watch::channel(false));
    let instruments = clock.clone();
    let update =
        ListUpdate { current: current.clone(), depot: depot.clone(), instruments, fetches, interval_seconds: 3600 };
    tokio::spawn(update.run(stopping));
    (current, depot, hang, stop)
}

fn asking(addresses: &[&str]) -> RevocationUnknown {
    RevocationUnknown {
        subject: String::new(),
        lack: String::new(),
        path: addresses.iter().map(|one| naming(one)).collect(),
    }
}

/// A certificate that says where its list is published.
fn naming(address: &str) -> Vec<u8> {
    let key = PKey::private_key_from_pem(&read("certificates/provider-key.pem")).unwrap();
    let mut certificate = X509Builder::new().unwrap();
    certificate.set_version(2).unwrap();
    certificate.set_pubkey(&key).unwrap();
    certificate.set_not_before(&Asn1Time::from_unix(NOW).unwrap()).unwrap();
    certificate.set_not_after(&Asn1Time::from_unix(NOW + 100).unwrap()).unwrap();
    let uri = format!("URI:{address}");
    #[allow(deprecated, reason = "the builders of the crate have none for distribution points")]
    let point = X509Extension::new_nid(None, None, Nid::CRL_DISTRIBUTION_POINTS, &uri).unwrap();
    certificate.append_extension(point).unwrap();
    certificate.sign(&key, MessageDigest::sha256()).unwrap();
    certificate.build().to_der().unwrap()
}

/// Waits until this many certificates are revoked by the one list in force.
async fn in_force(current: &Handle, revoked: usize) {
    let is_there = || current.now().trust.lists().iter().any(|list| list.revoked() == revoked);
    let wait = async {
        while !is_there() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait).await.unwrap();
}

#[tokio::test]
async fn a_server_that_hangs_keeps_no_other_list_waiting() {
    let (current, _depot, _hang, _stop) = started(true, &Clock::default());
    current.ask_for_lists(Some(&asking(&[HANGING, ANSWERING])));
    in_force(&current, 0).await;
}

#[tokio::test]
async fn a_message_that_waits_lets_the_files_be_read_also_where_nothing_is_fetched() {
    let clock = Clock::default();
    let (current, depot, _hang, _stop) = started(false, &clock);
    tokio::time::sleep(Duration::from_millis(50)).await;
    *depot.file.lock().unwrap() = Some(root_list(2, NOW, NOW + 100_000, &["issuing"], "unrelated-key"));
    clock.set(6);
    current.ask_for_lists(Some(&asking(&[])));
    in_force(&current, 1).await;
}

#[tokio::test]
async fn the_lists_that_a_reload_put_back_are_replaced_at_once() {
    let (current, depot, _hang, _stop) = started(false, &Clock::default());
    tokio::time::sleep(Duration::from_millis(50)).await;
    depot.kept.lock().unwrap().push(root_list(2, NOW, NOW + 100_000, &["issuing"], "unrelated-key"));
    current.replace(alfa());
    in_force(&current, 1).await;
}
