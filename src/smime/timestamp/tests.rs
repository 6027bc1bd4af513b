//! Against OpenSSL's own authority (`openssl ts`), with certificates made for each test.

use std::fs;
use std::path::Path;
use std::process::Command;

use der::Decode;
use tempfile::TempDir;

use super::*;

const DIGEST: [u8; 32] = [7; 32];
const NONCE: u64 = 0x8000_0000_0000_0001;

const CONFIGURATION: &str = "
[tsa]
default_tsa = one
[one]
serial = serial
signer_digest = sha256
default_policy = 1.2.3.4
digests = sha256, sha512
accuracy = secs:1
clock_precision_digits = 3
tsa_name = yes
[authority]
extendedKeyUsage = critical, timeStamping
[careless]
extendedKeyUsage = timeStamping
[broad]
extendedKeyUsage = critical, timeStamping, emailProtection
[root]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
[distinguished]
";

/// A root, and below it an authority of one of the sections above. All are called the same, and have the same number.
struct Authority(TempDir);

impl Authority {
    fn new(section: &str, key: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("ts.cnf"), CONFIGURATION).unwrap();
        let authority = Authority(folder);
        let curve = "ec -pkeyopt ec_paramgen_curve:P-256";
        authority.openssl(&format!(
            "req -config ts.cnf -section distinguished -x509 -newkey {curve} -nodes -keyout root.key -out root.pem -days 30 -extensions root -subj /CN=Root"
        ));
        authority.openssl(&format!(
            "req -config ts.cnf -section distinguished -newkey {key} -nodes -keyout tsa.key -out tsa.csr -subj /CN=Clock"
        ));
        authority.openssl(&format!(
            "x509 -req -in tsa.csr -CA root.pem -CAkey root.key -days 30 -extfile ts.cnf -extensions {section} -set_serial 7 -out tsa.pem"
        ));
        authority
    }

    fn usual() -> Self {
        Self::new("authority", "rsa:2048")
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn openssl(&self, arguments: &str) {
        let run = Command::new("openssl").args(arguments.split(' ')).current_dir(self.path()).output().unwrap();
        assert!(run.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&run.stderr));
    }

    fn certificate(&self) -> SignerCertificate {
        let certificate = X509::from_pem(&fs::read(self.path().join("tsa.pem")).unwrap()).unwrap();
        SignerCertificate::from_der(&certificate.to_der().unwrap()).unwrap()
    }

    fn trust(&self) -> Trust {
        Trust::from_pem(&fs::read(self.path().join("root.pem")).unwrap()).unwrap()
    }

    /// What it answers to a request, with further options of `openssl ts -reply`.
    fn answer(&self, request: &[u8], options: &str) -> Vec<u8> {
        fs::write(self.path().join("request.tsq"), request).unwrap();
        let reply = "ts -reply -config ts.cnf -section one -queryfile request.tsq -inkey tsa.key -out answer.tsr";
        self.openssl(format!("{reply} -signer tsa.pem {options}").trim());
        fs::read(self.path().join("answer.tsr")).unwrap()
    }
}

fn asked() -> Vec<u8> {
    request(&DIGEST, NONCE).unwrap()
}

fn told_by(answer: &[u8], authority: &Authority) -> String {
    check(answer, &DIGEST, Some(NONCE), &authority.trust()).unwrap_err().to_string()
}

#[test]
fn a_request_is_one_that_openssl_reads() {
    let read = TimeStampReq::from_der(&asked()).unwrap();
    assert!(read.cert_req);
    assert_eq!(read.message_imprint.hashed_message.as_bytes(), DIGEST);
    assert_eq!(read.nonce.unwrap().as_bytes(), [0, 0x80, 0, 0, 0, 0, 0, 0, 1]);
    for nonce in [0, 1, 0x7f, 0x80, u64::MAX] {
        request(&DIGEST, nonce).unwrap();
    }
}

#[test]
fn an_answer_of_a_trusted_authority_holds() {
    for key in ["rsa:2048", "ec -pkeyopt ec_paramgen_curve:P-256"] {
        let authority = Authority::new("authority", key);
        let answer = authority.answer(&asked(), "");
        let stamp = check(&answer, &DIGEST, Some(NONCE), &authority.trust()).unwrap();
        assert_eq!((stamp.serial.as_str(), stamp.authority.as_str()), ("01", "CN=Clock"));
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        assert!((stamp.at.unix() - i64::try_from(now).unwrap()).abs() < 60, "{stamp:?}");
        assert_eq!(check(&answer, &DIGEST, None, &authority.trust()).unwrap(), stamp);
        let second = check(&authority.answer(&asked(), ""), &DIGEST, Some(NONCE), &authority.trust()).unwrap();
        assert_eq!(second.serial, "02");
    }
}

#[test]
fn an_answer_to_another_request_is_refused() {
    let authority = Authority::usual();
    let other = authority.answer(&request(&[8; 32], NONCE).unwrap(), "");
    assert!(told_by(&other, &authority).contains("over other octets"));
    let replayed = authority.answer(&request(&DIGEST, 1).unwrap(), "");
    assert!(told_by(&replayed, &authority).contains("nonce"));
}

#[test]
fn an_authority_of_another_ca_or_for_other_purposes_is_refused() {
    let authority = Authority::usual();
    assert!(told_by(&authority.answer(&asked(), ""), &Authority::usual()).contains("not trusted"));
    // OpenSSL does not stamp with such certificates: only the certificate inside is another one.
    for section in ["careless", "broad"] {
        let other = Authority::new(section, "rsa:2048");
        let certificate = other.certificate();
        assert!(matches!(check_purpose(&certificate), Err(TimestampError::Purpose(_))), "{section}");
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        let at = TemporalReference::from_unix(i64::try_from(now).unwrap());
        assert!(other.trust().check_time_stamper(&certificate, &[], at).is_err(), "{section}");
    }
}

#[test]
fn the_certificate_that_is_judged_is_the_one_that_signed() {
    let (authority, namesake) = (Authority::usual(), Authority::usual());
    let token = granted(&authority.answer(&asked(), "")).unwrap();
    check_signature(&token, &authority.certificate()).unwrap();
    let data = SignedData::read(&token).unwrap();
    assert!(namesake.certificate().is_named_by(&data.signers[0].identifier));
    let refused = check_signature(&token, &namesake.certificate());
    assert!(matches!(refused, Err(TimestampError::Signature(_))), "{refused:?}");
}

#[test]
fn a_stamp_that_is_signed_with_a_weak_digest_is_refused() {
    let authority = Authority::usual();
    for weak in ["-md5", "-sha1", "-sha224"] {
        let told = told_by(&authority.answer(&asked(), weak), &authority);
        assert!(told.contains("not with SHA-256, SHA-384 or SHA-512"), "{weak}: {told}");
    }
    for strong in ["-sha384", "-sha512"] {
        check(&authority.answer(&asked(), strong), &DIGEST, Some(NONCE), &authority.trust()).unwrap();
    }
}

#[test]
fn a_refusal_is_told_in_the_words_of_the_authority() {
    let authority = Authority::usual();
    let mut unknown = asked();
    // SHA-256 becomes SHA-384, whose digests are longer.
    let place = unknown.windows(9).position(|part| part == ID_SHA_256.as_bytes()).unwrap();
    unknown[place + 8] = 2;
    let told = told_by(&authority.answer(&unknown, ""), &authority);
    assert!(told.contains("refuses to stamp: status 02") && told.contains("badAlg"), "{told}");
}

#[test]
fn an_answer_without_certificate_is_refused() {
    let authority = Authority::usual();
    let mut request = TimeStampReq::from_der(&asked()).unwrap();
    request.cert_req = false;
    let told = told_by(&authority.answer(&request.to_der().unwrap(), ""), &authority);
    assert!(told.contains("is not inside it"), "{told}");
}

#[test]
fn no_altered_answer_says_anything_else() {
    let authority = Authority::usual();
    let (answer, trust) = (authority.answer(&asked(), ""), authority.trust());
    let stamp = check(&answer, &DIGEST, Some(NONCE), &trust).unwrap();
    let mut accepted = 0;
    for place in 0..answer.len() {
        let mut altered = answer.clone();
        altered[place] ^= 1;
        // A few octets say nothing: granted with modifications, or certificates that nobody needs.
        if let Ok(other) = check(&altered, &DIGEST, Some(NONCE), &trust) {
            assert_eq!(other, stamp, "octet {place}");
            accepted += 1;
        }
    }
    assert!(accepted < 20, "{accepted} of {}", answer.len());
}

#[test]
fn what_is_no_answer_is_told_as_such() {
    let trust = Authority::usual().trust();
    let told = |answer: &[u8]| check(answer, &DIGEST, Some(NONCE), &trust).unwrap_err().to_string();
    assert!(told(b"<html>").contains("no time stamp response"));
    assert!(told(b"").contains("no time stamp response"));
    assert!(told(&[0x30, 5, 0x30, 3, 2, 1, 0]).contains("has none"));
    assert!(told(&vec![0; LARGEST + 1]).contains("more than"));
}

#[test]
fn instants_are_read_with_and_without_fractions() {
    let read = |text: &str| instant(text.as_bytes()).map(|at| at.unix()).ok();
    assert_eq!(read("20240715083045Z"), Some(1_721_032_245));
    assert_eq!(read("20240715083045.99Z"), Some(1_721_032_245));
    for wrong in ["20240715083045", "20241315083045Z", "2024071508304Z", "2024-07-15T08Z", "", "Z"] {
        assert_eq!(read(wrong), None, "{wrong}");
    }
}
