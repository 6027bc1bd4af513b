//! The providers directory: the form of the lines does not matter, and what it answers agrees with what it holds.

use pec_milter::directory::{Directory, DirectoryError, own_record};
use pec_milter::model::Domain;

use super::material;

pub fn directory(octets: &[u8]) {
    let read = Directory::from_ldif(octets);
    if let Ok(directory) = &read {
        answers_agree(directory, octets);
    }
    if !octets.contains(&b'\r') {
        let other = Directory::from_ldif(&joined(octets, b"\r\n"));
        assert_eq!(counts(&other), counts(&read), "with CRLF");
        let other = Directory::from_ldif(&folded(octets));
        assert_eq!(counts(&other), counts(&read), "with every line folded");
    }
}

fn answers_agree(directory: &Directory, octets: &[u8]) {
    assert!(directory.providers() > 0 && directory.domains() > 0);
    for domain in plain_domains(octets) {
        let provider = directory.provider_of_domain(&domain).expect("a managed domain has a provider");
        assert!(directory.is_certified(&domain) && provider.manages(&domain));
        for certificate in &provider.certificates {
            let speaker = directory.provider_of_certificate(certificate).expect("a listed certificate has a provider");
            assert!(speaker.manages(&domain), "{domain} is not among what its certificate speaks for");
        }
    }
    for record in directory.records() {
        let written = Directory::from_ldif(own_record(record, None).as_bytes()).expect("a record reads again");
        assert_eq!(written.records(), std::slice::from_ref(record));
    }
    let own = material::own_record();
    let with_own = directory.clone().with_own(own.clone());
    for domain in &own.domains {
        assert_eq!(with_own.provider_of_domain(domain), Some(own));
    }
    assert!(with_own.domains() >= directory.domains());
}

/// Domains in plain lines, which every reader of a file must see.
fn plain_domains(octets: &[u8]) -> impl Iterator<Item = Domain> {
    let lines: Vec<&[u8]> = octets.split(|octet| *octet == b'\n').collect();
    let is_whole = |pair: &[&[u8]]| !pair[1].starts_with(b" ");
    let whole: Vec<Vec<u8>> = lines.windows(2).filter(|pair| is_whole(pair)).map(|pair| pair[0].to_vec()).collect();
    // Whether an entry is a provider's is for its reader to say.
    let is_every_entry_a_providers = octets.windows(3).filter(|three| three == b"dn:").count() == 1;
    whole.into_iter().filter(move |_| is_every_entry_a_providers).filter_map(|line| {
        let value = std::str::from_utf8(line.strip_prefix(b"managedDomains: ")?).ok()?.trim().to_owned();
        value.parse().ok()
    })
}

fn counts(read: &Result<Directory, DirectoryError>) -> Option<(usize, usize, usize)> {
    read.as_ref().ok().map(|directory| (directory.providers(), directory.domains(), directory.remarks().len()))
}

fn joined(octets: &[u8], line_end: &[u8]) -> Vec<u8> {
    octets.split(|octet| *octet == b'\n').collect::<Vec<_>>().join(line_end)
}

/// Every line with something in it goes on in the next one.
fn folded(octets: &[u8]) -> Vec<u8> {
    let fold = |line: &[u8]| {
        let (one, two) = line.split_at(line.len().div_ceil(2));
        if two.is_empty() { line.to_vec() } else { [one, b"\n ", two].concat() }
    };
    octets.split(|octet| *octet == b'\n').map(fold).collect::<Vec<_>>().join(&b'\n')
}
