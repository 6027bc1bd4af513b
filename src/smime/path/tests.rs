use std::path::Path;

use super::*;
use crate::smime::testing::{self, certificate, certificate_der, read};

const JUST_BEFORE_2020: i64 = 1_577_836_799;
const IN_2022: i64 = 1_650_000_000;
const IN_2091: i64 = 3_818_448_000;

fn trust(files: &[&str]) -> Result<Trust, TrustError> {
    let text: Vec<u8> = files.iter().flat_map(|name| read(&format!("certificates/{name}.pem"))).collect();
    Trust::from_pem(&text)
}

fn check_at(name: &str, at: i64) -> Result<(), PathError> {
    let intermediates = [certificate_der("issuing")];
    trust(&["root"]).unwrap().check_path(&certificate(name), &intermediates, TemporalReference::from_unix(at))
}

fn check(name: &str) -> Result<(), PathError> {
    check_at(name, testing::NOW)
}

/// A file that could not be opened, as where the process has too many open.
struct Nowhere;

impl ListFile for Nowhere {
    fn path(&self) -> &Path {
        Path::new("/nowhere/lists.pem")
    }
}

#[test]
fn lists_that_cannot_be_read_here_are_a_fault_and_no_verdict() {
    let lists = RevocationLists::new(Vec::new(), Some(Box::new(Nowhere)));
    let trust = trust(&["issuing", "root"]).unwrap().with_lists(lists);
    let verdict = trust.check(&certificate("provider"), &[], TemporalReference::from_unix(testing::NOW));
    assert!(verdict.as_ref().is_err_and(PathError::is_fault), "{verdict:?}");
    assert!(!check("other-address").unwrap_err().is_fault());
}

#[test]
fn a_provider_under_the_root_is_trusted() {
    check("provider").unwrap();
    check("no-eku").unwrap();
}

#[test]
fn the_intermediate_may_come_from_the_message_or_the_ca_file() {
    let now = TemporalReference::from_unix(testing::NOW);
    let provider = certificate("provider");
    trust(&["issuing", "root", "other-root"]).unwrap().check_path(&provider, &[], now).unwrap();
    let missing = trust(&["root"]).unwrap().check_path(&provider, &[], now);
    assert!(matches!(missing, Err(PathError::NoPath { subject }) if subject.contains("Alfa")));
    let odd = [b"odd".to_vec(), certificate_der("other-root"), certificate_der("issuing")];
    trust(&["root"]).unwrap().check_path(&provider, &odd, now).unwrap();
}

#[test]
fn a_root_that_only_the_message_brings_is_not_trusted() {
    let brought = [certificate_der("issuing"), certificate_der("root")];
    let now = TemporalReference::from_unix(testing::NOW);
    let verdict = trust(&["other-root"]).unwrap().check_path(&certificate("provider"), &brought, now);
    assert!(matches!(verdict, Err(PathError::NoPath { .. })));
}

#[test]
fn the_instant_decides_on_validity() {
    assert!(matches!(check_at("provider", JUST_BEFORE_2020), Err(PathError::NotYetValid { .. })));
    assert!(matches!(check_at("provider", IN_2091), Err(PathError::Expired { .. })));
    check_at("expired", JUST_BEFORE_2020 + 1).unwrap();
    assert!(matches!(check_at("expired", IN_2022), Err(PathError::Expired { subject }) if subject.contains("Alfa")));
}

#[test]
fn an_address_outside_the_name_constraints_is_refused() {
    assert!(matches!(check("other-address"), Err(PathError::NameConstraints { subject }) if subject.contains("Beta")));
}

#[test]
fn a_certificate_for_something_else_is_refused() {
    assert!(matches!(check("encipherment"), Err(PathError::KeyUsage { .. })));
    assert!(matches!(check("server-eku"), Err(PathError::ExtendedKeyUsage { .. })));
    assert!(matches!(check("ca-signer"), Err(PathError::SignerIsCa { .. })));
}

#[test]
fn a_certificate_altered_after_it_was_issued_is_refused() {
    let mut der = certificate_der("provider");
    let at = der.windows(4).position(|octets| octets == b"alfa").unwrap();
    der[at] = b'A';
    let intermediates = [certificate_der("issuing")];
    let now = TemporalReference::from_unix(testing::NOW);
    let altered = SignerCertificate::from_der(&der).unwrap();
    let verdict = trust(&["root"]).unwrap().check_path(&altered, &intermediates, now);
    assert!(matches!(verdict, Err(PathError::Other { reason: "certificate signature failure", .. })), "{verdict:?}");
}

#[test]
fn a_set_without_root_is_refused() {
    assert!(matches!(trust(&["issuing"]), Err(TrustError::NoRoot(1))));
    assert!(matches!(Trust::from_pem(b""), Err(TrustError::NoRoot(0))));
}

#[test]
fn the_set_can_be_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Trust>();
}

/// After `issuing.crl` was made.
const IN_2030: i64 = 1_900_000_000;

fn list(octets: &[u8]) -> RevocationList {
    RevocationList::read(octets, [testing::x509("root"), testing::x509("issuing")]).unwrap()
}

/// The check of `provider` with the list of its CA, and these of the root.
fn check_with(root_lists: &[Vec<u8>], answer: WithoutList) -> Result<(), PathError> {
    let lists = root_lists.iter().map(|octets| list(octets));
    let lists = testing::lists(lists.chain([list(&read("certificates/issuing.crl"))]).collect());
    let trust = trust(&["root"]).unwrap().with_answer(answer).with_lists(lists);
    let at = TemporalReference::from_unix(IN_2030);
    trust.check(&certificate("provider"), &[certificate_der("issuing")], at)
}

fn root_list(this_update: i64, next_update: i64, revoked: &[&str]) -> Vec<u8> {
    testing::root_list(1, this_update, next_update, revoked, "unrelated-key")
}

#[test]
fn a_path_whose_lists_are_in_date_and_revoke_nobody_is_trusted() {
    check_with(&[root_list(IN_2030, IN_2030 + 60, &["other-root"])], WithoutList::Refuse).unwrap();
}

#[test]
fn a_ca_on_a_list_takes_its_signers_with_it() {
    let revoking = root_list(IN_2030 - 9, IN_2030 + 60, &["issuing"]);
    for answer in [WithoutList::Refuse, WithoutList::Accept] {
        let verdict = check_with(std::slice::from_ref(&revoking), answer);
        assert!(
            matches!(&verdict, Err(PathError::Revoked { subject, since })
                if subject.contains("Test Issuing CA") && since.contains("2030")),
            "{verdict:?}"
        );
    }
}

#[test]
fn without_a_list_in_date_nothing_is_known() {
    let late = root_list(IN_2030 - 60, IN_2030 - 1, &[]);
    for (lists, lack) in [(vec![], "there is no revocation list of CN=Test Root"), (vec![late], "is out of date")] {
        let verdict = check_with(&lists, WithoutList::Refuse);
        let Err(PathError::RevocationUnknown(unknown)) = verdict else { panic!("{verdict:?}") };
        assert!(unknown.subject.contains("Test Issuing CA") && unknown.lack.contains(lack), "{unknown}");
        assert_eq!(unknown.path, ["provider", "issuing", "root"].map(certificate_der));
        check_with(&lists, WithoutList::Accept).unwrap();
    }
}

#[test]
fn a_list_that_is_out_of_date_revokes_as_well_as_any() {
    let late = root_list(IN_2030 - 60, IN_2030 - 1, &["issuing"]);
    for answer in [WithoutList::Refuse, WithoutList::Accept] {
        let verdict = check_with(std::slice::from_ref(&late), answer);
        assert!(matches!(verdict, Err(PathError::Revoked { .. })), "{verdict:?}");
    }
}

#[test]
fn what_else_is_wrong_with_a_path_needs_no_list() {
    let now = TemporalReference::from_unix(testing::NOW);
    let trust = trust(&["root"]).unwrap();
    let verdict = trust.check(&certificate("other-address"), &[certificate_der("issuing")], now);
    assert!(matches!(verdict, Err(PathError::NameConstraints { .. })), "{verdict:?}");
}

#[test]
fn a_path_found_valid_is_looked_at_again_in_another_second_and_with_other_octets() {
    let lists = [root_list(IN_2030, IN_2030 + 60, &[]), read("certificates/issuing.crl")];
    let lists = testing::lists(lists.iter().map(|octets| list(octets)).collect());
    let trust = trust(&["root"]).unwrap().with_lists(lists);
    let check = |signer: &str, after: i64| {
        let at = TemporalReference::from_unix(IN_2030 + after);
        trust.check(&certificate(signer), &[certificate_der("issuing")], at)
    };
    for _ in 0..2 {
        check("provider", 0).unwrap();
        assert!(matches!(check("expired", 0), Err(PathError::Expired { .. })));
    }
    assert!(matches!(check("provider", 61), Err(PathError::RevocationUnknown(_))));
    check("provider", 59).unwrap();
}
