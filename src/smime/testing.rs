//! The test material of testdata/certificates and testdata/signatures, by name; see the notes.txt beside it.

use std::io::Write;
use std::path::{Path, PathBuf};

use openssl::asn1::{Asn1Object, Asn1OctetString, Asn1Time};
use openssl::bn::BigNum;
use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::x509::{CrlNumber, X509, X509CrlBuilder, X509Extension, X509RevokedBuilder};
use tempfile::NamedTempFile;

use super::{Engine, Signer, SignerCertificate, SigningKey, pem, software_key};
use super::{ListFile, RevocationList, RevocationLists};

/// An instant at which all test certificates but `expired` are valid: 2024-07-15.
pub(crate) const NOW: i64 = 1_721_032_245;

/// What every signature of the test material is over.
pub(crate) fn content() -> Vec<u8> {
    read("signatures/content.eml")
}

pub(crate) fn signature(name: &str) -> Vec<u8> {
    read(&format!("signatures/{name}.p7s"))
}

pub(crate) fn certificate(name: &str) -> SignerCertificate {
    SignerCertificate::from_der(&certificate_der(name)).unwrap()
}

pub(crate) fn certificate_der(name: &str) -> Vec<u8> {
    pem::certificates(&read(&format!("certificates/{name}.pem"))).unwrap().remove(0).to_der().unwrap()
}

/// The key of the certificate `provider`.
pub(crate) fn key(engine: Engine) -> Box<dyn SigningKey> {
    let key = PKey::private_key_from_pem(&read("certificates/provider-key.pem")).unwrap();
    software_key(&key.private_key_to_pkcs8().unwrap(), engine).unwrap()
}

pub(crate) fn signer(engine: Engine) -> Signer {
    Signer::new(key(engine), certificate("provider"), &[certificate("issuing")]).unwrap()
}

pub(crate) fn read(path: &str) -> Vec<u8> {
    std::fs::read(at(path)).unwrap()
}

pub(crate) fn at(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata").join(path)
}

pub(crate) fn x509(name: &str) -> X509 {
    X509::from_der(&certificate_der(name)).unwrap()
}

/// A revocation list of `root` in DER, signed with its key or another (`unrelated-key` is that of `root`).
pub(crate) fn root_list(number: u32, this_update: i64, next_update: i64, revoked: &[&str], key: &str) -> Vec<u8> {
    let root = x509("root");
    let mut list = X509CrlBuilder::new().unwrap();
    list.set_issuer_name(root.subject_name()).unwrap();
    list.set_last_update(&Asn1Time::from_unix(this_update).unwrap()).unwrap();
    list.set_next_update(&Asn1Time::from_unix(next_update).unwrap()).unwrap();
    for name in revoked {
        let mut entry = X509RevokedBuilder::new().unwrap();
        entry.set_revocation_date(&Asn1Time::from_unix(this_update).unwrap()).unwrap();
        entry.set_serial_number(x509(name).serial_number()).unwrap();
        list.add_revoked(entry.build()).unwrap();
    }
    let key_id = root.subject_key_id().unwrap().as_slice().to_vec();
    let length = u8::try_from(key_id.len()).unwrap();
    let identifier = Asn1OctetString::new_from_bytes(&[&[0x30, length + 2, 0x80, length], &key_id[..]].concat());
    let oid = Asn1Object::from_str("2.5.29.35").unwrap();
    list.append_extension(X509Extension::new_from_der(&oid, false, &identifier.unwrap()).unwrap()).unwrap();
    list.append_extension(CrlNumber::new(BigNum::from_u32(number).unwrap()).unwrap().build().unwrap()).unwrap();
    let key = PKey::private_key_from_pem(&read(&format!("certificates/{key}.pem"))).unwrap();
    list.sign(&key, MessageDigest::sha256()).unwrap();
    list.build().unwrap().to_der().unwrap()
}

impl ListFile for NamedTempFile {
    fn path(&self) -> &Path {
        NamedTempFile::path(self)
    }
}

/// The set of these lists.
pub(crate) fn lists(lists: Vec<RevocationList>) -> RevocationLists {
    let mut file = NamedTempFile::new().unwrap();
    lists.iter().for_each(|list| file.write_all(&list.to_pem().unwrap()).unwrap());
    RevocationLists::new(lists, Some(Box::new(file)))
}
