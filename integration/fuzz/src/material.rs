//! The provider Alfa of `testdata/certificates/`: what it signs and against what it is checked.

use std::sync::LazyLock;

use bytes::Bytes;
use openssl::pkey::PKey;
use pec_milter::access_point::{Limits, ReceiptDefaults, Rules};
use pec_milter::directory::{Directory, ProviderRecord};
use pec_milter::incoming_point::{Revocation, Standards};
use pec_milter::message::body::Unsigned;
use pec_milter::model::{Address, Provider, TemporalReference};
use pec_milter::smime::{Engine, Sha1Policy, Signer, SignerCertificate, Trust, pem, software_key};

const PROVIDER: &[u8] = include_bytes!("../../../testdata/certificates/provider.pem");
const ISSUING: &[u8] = include_bytes!("../../../testdata/certificates/issuing.pem");
const ROOT: &[u8] = include_bytes!("../../../testdata/certificates/root.pem");
const KEY: &[u8] = include_bytes!("../../../testdata/certificates/provider-key.pem");

pub const LIMITS: Limits = Limits { recipients: 2, product: 10_000_000 };

pub static SENDER: LazyLock<Address> = LazyLock::new(|| "anna@alfa.example".parse().unwrap());
pub static RECIPIENTS: LazyLock<Vec<Address>> = LazyLock::new(|| vec!["bruno@beta.example".parse().unwrap()]);

static ALFA: LazyLock<Alfa> = LazyLock::new(|| {
    let provider = Provider {
        name: "Alfa PEC".into(),
        sending_address: "posta-certificata@alfa.example".parse().unwrap(),
        service_mailbox: "ricevute@alfa.example".parse().unwrap(),
        mail_domains: vec!["alfa.example".parse().unwrap()],
    };
    let key = PKey::private_key_from_pem(KEY).unwrap().private_key_to_pkcs8().unwrap();
    let certificate = certificate(PROVIDER);
    let own = ProviderRecord::own(&provider, vec![certificate.der().to_vec()]);
    Alfa {
        provider,
        signer: Signer::new(software_key(&key, Engine::AwsLc).unwrap(), certificate, &[certificate_of_issuer()])
            .unwrap(),
        directory: Directory::empty().with_own(own.clone()),
        own,
        trust: Trust::from_pem(ROOT).unwrap(),
        receipts: ReceiptDefaults::default(),
    }
});

struct Alfa {
    provider: Provider,
    own: ProviderRecord,
    signer: Signer,
    directory: Directory,
    trust: Trust,
    receipts: ReceiptDefaults,
}

fn certificate(text: &[u8]) -> SignerCertificate {
    let der = pem::certificates(text).unwrap().remove(0).to_der().unwrap();
    SignerCertificate::from_der(&der).unwrap()
}

fn certificate_of_issuer() -> SignerCertificate {
    certificate(ISSUING)
}

/// 2024-07-15, when every certificate here is valid.
pub fn now() -> TemporalReference {
    TemporalReference::from_unix(1_721_032_245)
}

pub fn own_record() -> &'static ProviderRecord {
    &ALFA.own
}

pub fn rules() -> Rules<'static> {
    Rules { provider: &ALFA.provider, limits: &LIMITS, receipts: &ALFA.receipts }
}

/// What another provider that knows Alfa checks by.
pub fn standards() -> Standards<'static> {
    Standards {
        directory: &ALFA.directory,
        trust: &ALFA.trust,
        sha1: Sha1Policy::Accept,
        at: now(),
        revocation: Revocation::JudgedBefore,
        own: None,
        found_before: None,
    }
}

pub fn signer_certificate() -> &'static SignerCertificate {
    ALFA.signer.certificate()
}

/// The message as Alfa sends it.
pub fn signed(message: Unsigned) -> Bytes {
    let signature = ALFA.signer.detached(message.digest(), now()).unwrap();
    message.seal(&signature).into_pieces().to_vec().into()
}
