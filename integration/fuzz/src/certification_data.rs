//! daticert.xml: what is read can be written, and says the same when it is read again.

use pec_milter::message::certification_data::CertificationData;

pub fn certification_data(octets: &[u8]) {
    let Ok(data) = CertificationData::from_xml(octets) else { return };
    let written = data.to_xml();
    let again = CertificationData::from_xml(written.as_bytes()).expect("what is written can be read");
    assert_eq!(again, data, "read again, it says something else:\n{written}");
    assert!(!data.facts.recipients.is_empty());
    let fits_one_line = |text: &str| !text.chars().any(char::is_control);
    assert!(fits_one_line(&data.facts.replies) && fits_one_line(&data.issuer));
    assert!(data.facts.subject.as_deref().is_none_or(fits_one_line));
    assert!(data.error_text.as_deref().is_none_or(fits_one_line));
}
