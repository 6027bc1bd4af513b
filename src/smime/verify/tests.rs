//! Verification against signatures made by OpenSSL, and against what can be done to them.

use super::*;
use crate::model::TemporalReference;
use crate::smime::Engine;
use crate::smime::Trust;
use crate::smime::ber::{Element, OCTET_STRING, SEQUENCE, SET, encode};
use crate::smime::testing::{self, certificate, certificate_der, content, key, signature};
use const_oid::ObjectIdentifier;
use const_oid::db::rfc5912::{RSA_ENCRYPTION, SHA_256_WITH_RSA_ENCRYPTION};

fn verify_named(name: &str) -> Result<VerifiedSignature, SignatureError> {
    verify(&signature(name), &content(), Sha1Policy::Refuse)
}

fn verify_octets(p7s: &[u8]) -> Result<VerifiedSignature, SignatureError> {
    verify(p7s, &content(), Sha1Policy::Refuse)
}

/// The SignedData of `plain` in pieces that tests change.
struct Parts {
    /// version, digestAlgorithms, encapContentInfo.
    head: Vec<Vec<u8>>,
    certificates: Vec<Vec<u8>>,
    /// version, sid, digestAlgorithm.
    signer_head: Vec<Vec<u8>>,
    attributes: Vec<Vec<u8>>,
    /// signatureAlgorithm, signature.
    signer_tail: Vec<Vec<u8>>,
    /// What stands between certificates and signers.
    revocation: Vec<u8>,
}

impl Parts {
    fn of_plain() -> Self {
        let p7s = signature("plain");
        let data = children(&children(&children(&p7s)[1])[0]);
        let signer = children(&children(&data[4])[0]);
        Parts {
            head: data[..3].to_vec(),
            certificates: children(&data[3]),
            signer_head: signer[..3].to_vec(),
            attributes: children(&signer[3]),
            signer_tail: signer[4..].to_vec(),
            revocation: Vec::new(),
        }
    }

    fn put_together(&self) -> Vec<u8> {
        let attributes = encode(0xa0, &self.attributes.concat());
        let signer = [self.signer_head.concat(), attributes, self.signer_tail.concat()].concat();
        let data = [
            self.head.concat(),
            encode(0xa0, &self.certificates.concat()),
            self.revocation.clone(),
            encode(SET, &encode(SEQUENCE, &signer)),
        ];
        let signed_data = [6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 2];
        encode(SEQUENCE, &[&signed_data[..], &encode(0xa0, &encode(SEQUENCE, &data.concat()))].concat())
    }

    fn sign_again(&mut self, signed: &[u8]) {
        let value = key(Engine::AwsLc).sign(signed).unwrap();
        self.signer_tail[1] = encode(OCTET_STRING, &value);
    }

    fn verify(&self) -> Result<VerifiedSignature, SignatureError> {
        verify_octets(&self.put_together())
    }
}

fn children(octets: &[u8]) -> Vec<Vec<u8>> {
    let element = Element::first(octets).unwrap();
    element.children().map(|child| child.unwrap().exact().unwrap().into_owned()).collect()
}

/// The same in BER: every constructed element but certificates gets an indefinite length, every string is cut in two.
fn as_streamed(octets: &[u8]) -> Vec<u8> {
    let is_certificate = ["provider", "issuing"].iter().any(|name| certificate_der(name) == octets);
    match octets[0] {
        OCTET_STRING => {
            let content = Element::first(octets).unwrap().content();
            let (one, two) = content.split_at(content.len() / 2);
            [&[0x24, 0x80][..], &encode(OCTET_STRING, one), &encode(OCTET_STRING, two), &[0, 0]].concat()
        }
        tag if tag & 0x20 != 0 && !is_certificate => {
            let inner: Vec<u8> = children(octets).iter().flat_map(|child| as_streamed(child)).collect();
            [&[tag, 0x80][..], &inner, &[0, 0]].concat()
        }
        _ => octets.to_vec(),
    }
}

fn replaced(octets: &[u8], old: ObjectIdentifier, new: ObjectIdentifier) -> Vec<u8> {
    let at = octets.windows(old.as_bytes().len()).rposition(|window| window == old.as_bytes()).unwrap();
    [&octets[..at], new.as_bytes(), &octets[at + old.as_bytes().len()..]].concat()
}

#[test]
fn a_plain_signature_verifies() {
    let verified = verify_named("plain").unwrap();
    assert_eq!(verified.signer, certificate("provider"));
    assert_eq!(verified.intermediates, [certificate_der("issuing")]);
    assert_eq!(verified.digest, DigestAlgorithm::Sha256);
}

#[test]
fn a_streamed_signature_says_the_same() {
    // OpenSSL streams the content into the signature even where it is to be detached: take it out again.
    let attached = signature("attached-streamed");
    let begin = attached.windows(4).position(|octets| octets == [0xa0, 0x80, 0x24, 0x80]).unwrap();
    let end = begin + 4 + encode(OCTET_STRING, &content()).len() + 4;
    let detached = [&attached[..begin], &attached[end..]].concat();
    assert_eq!(verify_octets(&detached).unwrap(), verify_named("plain").unwrap());
    let streamed = as_streamed(&signature("plain"));
    assert!(streamed.starts_with(&[0x30, 0x80]));
    assert_eq!(verify_octets(&streamed).unwrap(), verify_named("plain").unwrap());
}

#[test]
fn every_supported_algorithm_verifies() {
    for (name, digest) in [
        ("sha384", DigestAlgorithm::Sha384),
        ("sha512", DigestAlgorithm::Sha512),
        ("pss-sha256", DigestAlgorithm::Sha256),
        ("pss-sha512-salt-20", DigestAlgorithm::Sha512),
        ("key-identifier", DigestAlgorithm::Sha256),
        ("no-attributes", DigestAlgorithm::Sha256),
    ] {
        let verified = verify_named(name).unwrap_or_else(|error| panic!("{name}: {error:?}"));
        assert_eq!((verified.signer, verified.digest), (certificate("provider"), digest), "{name}");
    }
}

#[test]
fn the_signature_algorithm_may_name_the_digest_too() {
    let p7s = replaced(&signature("plain"), RSA_ENCRYPTION, SHA_256_WITH_RSA_ENCRYPTION);
    verify_octets(&p7s).unwrap();
}

#[test]
fn sha1_counts_only_where_the_policy_accepts_it() {
    assert!(matches!(verify_named("sha1"), Err(SignatureError::Sha1)));
    let verified = verify(&signature("sha1"), &content(), Sha1Policy::Accept).unwrap();
    assert_eq!(verified.digest, DigestAlgorithm::Sha1);
}

#[test]
fn other_content_is_refused() {
    for name in ["plain", "pss-sha256"] {
        let mut altered = content();
        altered[40] ^= 1;
        let verdict = verify(&signature(name), &altered, Sha1Policy::Refuse);
        assert!(matches!(verdict, Err(SignatureError::DigestDiffers)));
    }
    let verdict = verify(&signature("no-attributes"), b"other", Sha1Policy::Refuse);
    assert!(matches!(verdict, Err(SignatureError::SignatureDiffers)));
}

#[test]
fn other_attributes_are_refused() {
    let mut parts = Parts::of_plain();
    // Another signing time, which nothing but the signature notices.
    let time =
        parts.attributes.iter_mut().find(|attribute| attribute.windows(2).any(|pair| pair == [0x17, 13])).unwrap();
    let last = time.len() - 2;
    time[last] ^= 1;
    assert!(matches!(parts.verify(), Err(SignatureError::SignatureDiffers)));
}

#[test]
fn attributes_may_come_unsorted_when_the_sorted_form_was_signed() {
    let mut parts = Parts::of_plain();
    parts.attributes.reverse();
    parts.verify().unwrap();
}

#[test]
fn attributes_may_come_unsorted_when_that_form_was_signed() {
    let mut parts = Parts::of_plain();
    parts.attributes.reverse();
    parts.sign_again(&encode(SET, &parts.attributes.concat()));
    parts.verify().unwrap();
}

#[test]
fn each_binding_attribute_is_there_once_with_one_value() {
    type Change = fn(&mut Vec<Vec<u8>>);
    let cases: [(&str, Change); 5] = [
        ("contentType", |attributes| drop(attributes.remove(0))),
        ("contentType", |attributes| attributes.push(attributes[0].clone())),
        ("messageDigest", |attributes| drop(attributes.remove(2))),
        ("messageDigest", |attributes| attributes.push(attributes[2].clone())),
        ("messageDigest", |attributes| {
            let [oid, values] = children(&attributes[2]).try_into().unwrap();
            let twice = encode(SET, &children(&values)[0].repeat(2));
            attributes[2] = encode(SEQUENCE, &[oid, twice].concat());
        }),
    ];
    for (expected, change) in cases {
        let mut parts = Parts::of_plain();
        change(&mut parts.attributes);
        parts.sign_again(&encode(SET, &parts.attributes.concat()));
        let verdict = parts.verify();
        assert!(matches!(verdict, Err(SignatureError::Attribute(name)) if name == expected), "{verdict:?}");
    }
}

#[test]
fn the_content_type_attribute_must_be_data() {
    let mut parts = Parts::of_plain();
    parts.attributes[0] = replaced(&parts.attributes[0], ID_DATA, const_oid::db::rfc5911::ID_SIGNED_DATA);
    parts.sign_again(&encode(SET, &parts.attributes.concat()));
    assert!(matches!(parts.verify(), Err(SignatureError::AttributeContentType(_))));
}

#[test]
fn structures_that_certified_mail_does_not_know_are_refused() {
    assert!(matches!(verify_named("attached"), Err(SignatureError::NotDetached)));
    assert!(matches!(verify_named("attached-streamed"), Err(SignatureError::NotDetached)));
    assert!(matches!(verify_named("two-signers"), Err(SignatureError::SignerCount(2))));
    assert!(matches!(verify_named("other-content-type"), Err(SignatureError::ContentType(oid)) if oid.ends_with(".4")));
    assert!(matches!(verify_named("weak-key"), Err(SignatureError::WeakKey { bits: 1024 })));
    let missing = verify_named("no-certificate");
    assert!(matches!(missing, Err(SignatureError::NoSignerCertificate { given: 0, unreadable: 0 })));
}

#[test]
fn what_is_no_signature_is_refused() {
    assert!(matches!(verify_octets(b""), Err(SignatureError::Malformed(CmsError::Malformed { .. }))));
    assert!(matches!(verify_octets(&content()), Err(SignatureError::Malformed(_))));
    let too_large = vec![0; LARGEST_SIGNATURE + 1];
    assert!(matches!(verify_octets(&too_large), Err(SignatureError::TooLarge(_))));
    let data = replaced(&signature("plain"), const_oid::db::rfc5911::ID_SIGNED_DATA, ID_DATA);
    assert!(matches!(verify_octets(&data), Err(SignatureError::Malformed(CmsError::NotSignedData(_)))));
}

#[test]
fn strangers_in_the_set_do_no_harm() {
    let mut parts = Parts::of_plain();
    let odd = encode(SEQUENCE, b"\x02\x01\x05");
    let attribute_certificate = encode(0xa2, &odd);
    parts.certificates = vec![odd, certificate_der("root"), attribute_certificate, certificate_der("provider")];
    parts.certificates.push(certificate_der("provider"));
    let revocation_list = testing::read("certificates/issuing.crl");
    parts.revocation = encode(0xa1, &revocation_list);
    let verified = parts.verify().unwrap();
    assert_eq!(verified.signer, certificate("provider"));
    assert_eq!(verified.intermediates.len(), 3);
    parts.certificates.truncate(2);
    let verdict = parts.verify();
    assert!(matches!(verdict, Err(SignatureError::NoSignerCertificate { given: 2, unreadable: 1 })));
    parts.certificates = vec![certificate_der("root"); MOST_CERTIFICATES + 1];
    assert!(matches!(parts.verify(), Err(SignatureError::TooManyCertificates(33))));
}

#[test]
fn another_certificate_of_the_same_key_is_not_taken_for_the_signer() {
    let mut parts = Parts::of_plain();
    parts.certificates = vec![certificate_der("no-eku"), certificate_der("provider")];
    assert_eq!(parts.verify().unwrap().signer, certificate("provider"));
}

#[test]
fn no_damaged_octet_makes_another_signer_or_a_panic() {
    let provider = certificate("provider");
    let trust = Trust::from_pem(&testing::read("certificates/root.pem")).unwrap();
    let now = TemporalReference::from_unix(testing::NOW);
    let plain = signature("plain");
    for whole in [as_streamed(&plain), plain, signature("pss-sha256")] {
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            // Turns primitive into constructed, and small numbers into large ones.
            damaged[at] ^= 0xa1;
            // Damage inside the signer's certificate can leave its key whole; then the path no longer holds.
            let other = verify_octets(&damaged).ok().filter(|verified| verified.signer != provider);
            if let Some(verified) = other {
                assert!(trust.check_path(&verified.signer, &[certificate_der("issuing")], now).is_err(), "octet {at}");
            }
            assert!(verify_octets(&whole[..at]).is_err(), "cut at {at}");
        }
    }
}
