//! The provider's key and certificates from files: PEM, or PKCS #12 (§5.5).
//!
//! Reads them once, checks that they belong together and that nobody else can read the secret ones, and hands over a
//! [`Signer`]. Whether the certificate has the right profile is left to `smime/profile.rs`. Secrets are wiped from memory
//! after use and never shown. Fails with the file, what is wrong with it, and what to do.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use openssl::error::ErrorStack;
use openssl::pkcs12::{ParsedPkcs12_2, Pkcs12};
use openssl::pkey::{Id, PKey, Private};
use openssl::provider::Provider;
use openssl::x509::X509;
use zeroize::Zeroizing;

use crate::smime::pem::{self, PemError};
use crate::smime::profile::{LARGEST_KEY_BITS, SMALLEST_KEY_BITS};
use crate::smime::{CertificateError, Engine, Signer, SignerCertificate, SigningError, software_key};

/// Far above any key with its chain; a larger file is something else.
const LARGEST_FILE: u64 = 1024 * 1024;

/// What OpenSSL's passphrase buffer holds.
const LONGEST_PASSPHRASE: usize = 1024;

/// The permissions of group and others.
const OTHERS: u32 = 0o077;

/// Where key and certificates lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    Pem {
        /// PKCS #8 or PKCS #1.
        private_key: PathBuf,
        /// The signer's certificate, then intermediates.
        certificate: PathBuf,
        /// Needed if the private key is encrypted.
        passphrase_file: Option<PathBuf>,
    },
    Pkcs12 {
        file: PathBuf,
        passphrase_file: PathBuf,
    },
}

/// Why a key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    #[error("cannot read {}", file.display())]
    Read {
        file: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} is larger than {LARGEST_FILE} bytes, so it is not what it should be", file.display())]
    TooLarge { file: PathBuf },
    #[error("{} is open to others than its owner (mode {mode:04o}): run chmod 600 on it", file.display())]
    OpenToOthers { file: PathBuf, mode: u32 },
    #[error(
        "the passphrase or PIN in {} must be one line of text of at most {LONGEST_PASSPHRASE} bytes: write it anew",
        file.display()
    )]
    Passphrase { file: PathBuf },
    #[error("the private key in {} is encrypted: configure a passphrase file", file.display())]
    PassphraseNeeded { file: PathBuf },
    #[error("{} cannot be decrypted: check the passphrase in {}", file.display(), passphrase_file.display())]
    WrongPassphrase {
        file: PathBuf,
        passphrase_file: PathBuf,
        #[source]
        source: ErrorStack,
    },
    #[error("{} holds no readable private key: it must be PEM with a PKCS #8 or PKCS #1 key", file.display())]
    NoPrivateKey {
        file: PathBuf,
        #[source]
        source: ErrorStack,
    },
    #[error("{} is not a PKCS #12 file", file.display())]
    NotPkcs12 {
        file: PathBuf,
        #[source]
        source: ErrorStack,
    },
    #[error(
        "{} is encrypted in a way that OpenSSL cannot read here: install its legacy provider or export the file anew",
        file.display()
    )]
    UnsupportedPkcs12 {
        file: PathBuf,
        #[source]
        source: ErrorStack,
    },
    #[error("{} lacks the private key or its certificate: export both into it", file.display())]
    IncompletePkcs12 { file: PathBuf },
    #[error("a certificate in {} cannot be read: replace it", file.display())]
    CertificatePem {
        file: PathBuf,
        #[source]
        source: PemError,
    },
    #[error("a certificate in {} cannot be used: replace it", file.display())]
    Certificate {
        file: PathBuf,
        #[source]
        source: CertificateError,
    },
    #[error("{} holds no certificate: put the signer's certificate there, then the intermediates", file.display())]
    NoCertificate { file: PathBuf },
    #[error(
        "the first certificate in {} does not belong to the private key: put the signer's certificate first",
        file.display()
    )]
    Mismatch { file: PathBuf },
    #[error("the private key in {} is not RSA: providers sign with RSA", file.display())]
    NotRsa { file: PathBuf },
    #[error(
        "the private key in {} has {bits} bits: it must have {SMALLEST_KEY_BITS} to {LARGEST_KEY_BITS}",
        file.display()
    )]
    KeySize { file: PathBuf, bits: u32 },
    #[error("the key and certificates in {} cannot sign", file.display())]
    Signer {
        file: PathBuf,
        #[source]
        source: SigningError,
    },
    #[error("OpenSSL could not {call} from {}", file.display())]
    OpenSsl {
        file: PathBuf,
        call: &'static str,
        #[source]
        source: ErrorStack,
    },
}

impl KeyFileError {
    /// The file that is at fault.
    pub fn file(&self) -> &Path {
        match self {
            Self::Read { file, .. }
            | Self::TooLarge { file }
            | Self::OpenToOthers { file, .. }
            | Self::Passphrase { file }
            | Self::PassphraseNeeded { file }
            | Self::WrongPassphrase { file, .. }
            | Self::NoPrivateKey { file, .. }
            | Self::NotPkcs12 { file, .. }
            | Self::UnsupportedPkcs12 { file, .. }
            | Self::IncompletePkcs12 { file }
            | Self::CertificatePem { file, .. }
            | Self::Certificate { file, .. }
            | Self::NoCertificate { file }
            | Self::Mismatch { file }
            | Self::NotRsa { file }
            | Self::KeySize { file, .. }
            | Self::Signer { file, .. }
            | Self::OpenSsl { file, .. } => file,
        }
    }
}

/// The signer that these files make, with this engine doing the arithmetic.
pub fn load(source: &KeySource, engine: Engine) -> Result<Signer, KeyFileError> {
    match source {
        KeySource::Pem { private_key, certificate, passphrase_file } => {
            let key = pem_key(private_key, passphrase_file.as_deref())?;
            signer(&key, private_key, &pem_certificates(certificate)?, certificate, engine)
        }
        KeySource::Pkcs12 { file, passphrase_file } => {
            let (key, certificates) = pkcs12(file, passphrase_file)?;
            signer(&key, file, &certificates, file, engine)
        }
    }
}

/// The first certificate of a PEM file, and those after it.
pub fn certificates(file: &Path) -> Result<(SignerCertificate, Vec<SignerCertificate>), KeyFileError> {
    let certificates = pem_certificates(file)?;
    let mut read = certificates.iter().map(|one| signer_certificate(one, file));
    let own = read.next().ok_or_else(|| KeyFileError::NoCertificate { file: file.to_owned() })??;
    Ok((own, read.collect::<Result<_, _>>()?))
}

/// Puts key and certificates together after checking that they belong together.
fn signer(
    key: &PKey<Private>,
    key_file: &Path,
    certificates: &[X509],
    certificate_file: &Path,
    engine: Engine,
) -> Result<Signer, KeyFileError> {
    check_key(key, key_file)?;
    let Some((own, chain)) = certificates.split_first() else {
        return Err(KeyFileError::NoCertificate { file: certificate_file.to_owned() });
    };
    if !own.public_key().is_ok_and(|public| public.public_eq(key)) {
        return Err(KeyFileError::Mismatch { file: certificate_file.to_owned() });
    }
    let own = signer_certificate(own, certificate_file)?;
    let chain =
        chain.iter().map(|one| signer_certificate(one, certificate_file)).collect::<Result<Vec<_>, KeyFileError>>()?;
    let pkcs8 = Zeroizing::new(key.private_key_to_pkcs8().map_err(openssl("take the private key", key_file))?);
    software_key(&pkcs8, engine)
        .and_then(|key| Signer::new(key, own, &chain))
        .map_err(|source| KeyFileError::Signer { file: key_file.to_owned(), source })
}

fn check_key(key: &PKey<Private>, file: &Path) -> Result<(), KeyFileError> {
    if key.id() != Id::RSA {
        return Err(KeyFileError::NotRsa { file: file.to_owned() });
    }
    let bits = key.bits();
    let is_allowed = usize::try_from(bits).is_ok_and(|bits| (SMALLEST_KEY_BITS..=LARGEST_KEY_BITS).contains(&bits));
    if is_allowed { Ok(()) } else { Err(KeyFileError::KeySize { file: file.to_owned(), bits }) }
}

fn signer_certificate(certificate: &X509, file: &Path) -> Result<SignerCertificate, KeyFileError> {
    let der = certificate.to_der().map_err(openssl("take a certificate", file))?;
    SignerCertificate::from_der(&der).map_err(|source| KeyFileError::Certificate { file: file.to_owned(), source })
}

fn pem_certificates(file: &Path) -> Result<Vec<X509>, KeyFileError> {
    let (open, metadata) = open(file)?;
    let text = read(open, &metadata, file)?;
    pem::certificates(&text).map_err(|source| KeyFileError::CertificatePem { file: file.to_owned(), source })
}

fn pem_key(file: &Path, passphrase_file: Option<&Path>) -> Result<PKey<Private>, KeyFileError> {
    let text = read_secret(file)?;
    let passphrase = passphrase_file.map(read_passphrase).transpose()?;
    let mut is_encrypted = false;
    // With a callback in its place, OpenSSL does not ask for a passphrase on the terminal.
    let key = PKey::private_key_from_pem_callback(&text, |buffer| {
        is_encrypted = true;
        let passphrase = passphrase.as_ref().map(|text| text.as_bytes()).unwrap_or_default();
        let Some(room) = buffer.get_mut(..passphrase.len()) else {
            return Ok(0);
        };
        room.copy_from_slice(passphrase);
        Ok(passphrase.len())
    });
    let file = file.to_owned();
    key.map_err(|source| match passphrase_file {
        None if is_encrypted => KeyFileError::PassphraseNeeded { file },
        Some(passphrase_file) if is_encrypted => {
            KeyFileError::WrongPassphrase { file, passphrase_file: passphrase_file.to_owned(), source }
        }
        _ => KeyFileError::NoPrivateKey { file, source },
    })
}

/// The private key, and its certificate followed by the rest of the chain.
fn pkcs12(file: &Path, passphrase_file: &Path) -> Result<(PKey<Private>, Vec<X509>), KeyFileError> {
    let archive = Pkcs12::from_der(&read_secret(file)?)
        .map_err(|source| KeyFileError::NotPkcs12 { file: file.to_owned(), source })?;
    let passphrase = read_passphrase(passphrase_file)?;
    let parsed = parse_pkcs12(&archive, &passphrase).map_err(|source| {
        if is_wrong_passphrase(&source) {
            let (file, passphrase_file) = (file.to_owned(), passphrase_file.to_owned());
            KeyFileError::WrongPassphrase { file, passphrase_file, source }
        } else {
            KeyFileError::UnsupportedPkcs12 { file: file.to_owned(), source }
        }
    })?;
    let (Some(key), Some(certificate)) = (parsed.pkey, parsed.cert) else {
        return Err(KeyFileError::IncompletePkcs12 { file: file.to_owned() });
    };
    let chain = parsed.ca.into_iter().flatten();
    Ok((key, std::iter::once(certificate).chain(chain).collect()))
}

/// CAs still hand out archives encrypted with RC2, which OpenSSL 3 reads only with its legacy provider.
fn parse_pkcs12(archive: &Pkcs12, passphrase: &str) -> Result<ParsedPkcs12_2, ErrorStack> {
    archive.parse2(passphrase).or_else(|error| {
        if is_wrong_passphrase(&error) {
            return Err(error);
        }
        let _legacy_while_parsing = Provider::try_load(None, "legacy", true)?;
        archive.parse2(passphrase)
    })
}

fn is_wrong_passphrase(error: &ErrorStack) -> bool {
    error.errors().iter().any(|error| error.reason() == Some("mac verify failure"))
}

/// The one line of a file with a passphrase or PIN, without its line end.
pub fn read_passphrase(file: &Path) -> Result<Zeroizing<String>, KeyFileError> {
    let octets = read_secret(file)?;
    let unusable = || KeyFileError::Passphrase { file: file.to_owned() };
    let text = std::str::from_utf8(&octets).map_err(|_| unusable())?;
    let line = text.strip_suffix('\n').unwrap_or(text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    // A NUL would end the passphrase early; more lines are more than one passphrase.
    if line.is_empty() || line.len() > LONGEST_PASSPHRASE || line.contains(['\0', '\r', '\n']) {
        return Err(unusable());
    }
    Ok(Zeroizing::new(line.to_owned()))
}

/// The content of a file that only its owner may open.
pub fn read_secret(file: &Path) -> Result<Zeroizing<Vec<u8>>, KeyFileError> {
    let (open, metadata) = open(file)?;
    // The mode of the open file, not of the path: nobody can swap it in between.
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & OTHERS != 0 {
        return Err(KeyFileError::OpenToOthers { file: file.to_owned(), mode });
    }
    read(open, &metadata, file)
}

fn open(file: &Path) -> Result<(File, Metadata), KeyFileError> {
    let failed = |source| KeyFileError::Read { file: file.to_owned(), source };
    let open = File::open(file).map_err(failed)?;
    let metadata = open.metadata().map_err(failed)?;
    Ok((open, metadata))
}

fn read(open: File, metadata: &Metadata, file: &Path) -> Result<Zeroizing<Vec<u8>>, KeyFileError> {
    if metadata.len() > LARGEST_FILE {
        return Err(KeyFileError::TooLarge { file: file.to_owned() });
    }
    // Room for all of it at once: a vector that grows leaves copies of the secret behind.
    let mut content = Zeroizing::new(Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or_default() + 1));
    open.take(metadata.len())
        .read_to_end(&mut content)
        .map_err(|source| KeyFileError::Read { file: file.to_owned(), source })?;
    Ok(content)
}

fn openssl(call: &'static str, file: &Path) -> impl Fn(ErrorStack) -> KeyFileError {
    move |source| KeyFileError::OpenSsl { file: file.to_owned(), call, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::TemporalReference;
    use crate::smime::{Sha1Policy, verify};
    use sha2::{Digest, Sha256};
    use std::fs;

    /// A folder with copies of test material, private unless told otherwise.
    struct Folder(tempfile::TempDir);

    impl Folder {
        fn new() -> Self {
            Folder(tempfile::tempdir().unwrap())
        }

        fn copy(&self, name: &str) -> PathBuf {
            self.write(name, &fs::read(material(name)).unwrap())
        }

        fn write(&self, name: &str, content: &[u8]) -> PathBuf {
            let path = self.0.path().join(name);
            fs::write(&path, content).unwrap();
            set_mode(&path, 0o600);
            path
        }

        fn pem(&self, key: &str, passphrase: Option<&str>) -> KeySource {
            KeySource::Pem {
                private_key: self.copy(key),
                certificate: self.copy("provider.pem"),
                passphrase_file: passphrase.map(|text| self.write("passphrase", text.as_bytes())),
            }
        }

        fn pkcs12(&self, name: &str, passphrase: &str) -> KeySource {
            let passphrase_file = self.write("passphrase", passphrase.as_bytes());
            KeySource::Pkcs12 { file: self.copy(name), passphrase_file }
        }
    }

    fn material(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/certificates").join(name)
    }

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn refusal(source: &KeySource) -> KeyFileError {
        load(source, Engine::AwsLc).err().unwrap()
    }

    /// How many certificates go out with a signature of this signer.
    fn certificates_sent(signer: &Signer) -> usize {
        let digest = Sha256::digest(b"text").into();
        let p7s = signer.detached(digest, TemporalReference::from_unix(1_700_000_000)).unwrap();
        verify(&p7s, b"text", Sha1Policy::Refuse).unwrap().intermediates.len() + 1
    }

    #[test]
    fn a_key_comes_from_each_kind_of_pem() {
        let folder = Folder::new();
        for engine in [Engine::AwsLc, Engine::Rsa] {
            for source in [
                folder.pem("provider-key.pem", None),
                folder.pem("provider-key-pkcs1.pem", None),
                folder.pem("provider-key-encrypted.pem", Some("segreto\n")),
                folder.pem("provider-key-encrypted.pem", Some("segreto")),
            ] {
                assert_eq!(certificates_sent(&load(&source, engine).unwrap()), 1);
            }
        }
    }

    #[test]
    fn a_pkcs12_file_gives_key_and_chain_without_root() {
        let folder = Folder::new();
        for name in ["provider.p12", "provider-legacy.p12"] {
            let signer = load(&folder.pkcs12(name, "segreto\r\n"), Engine::AwsLc).unwrap();
            assert_eq!(certificates_sent(&signer), 2, "{name}");
        }
    }

    #[test]
    fn intermediates_follow_the_signer_in_the_certificate_file() {
        let folder = Folder::new();
        let text = ["provider.pem", "issuing.pem", "root.pem"].map(|name| fs::read(material(name)).unwrap());
        let certificate = folder.write("chain.pem", &text.concat());
        let private_key = folder.copy("provider-key.pem");
        let source = KeySource::Pem { private_key: private_key.clone(), certificate, passphrase_file: None };
        assert_eq!(certificates_sent(&load(&source, Engine::AwsLc).unwrap()), 2);
        let reversed = folder.write("reversed.pem", &[&text[1][..], &text[0]].concat());
        let source = KeySource::Pem { private_key, certificate: reversed, passphrase_file: None };
        assert!(matches!(refusal(&source), KeyFileError::Mismatch { .. }));
    }

    #[test]
    fn a_secret_that_others_can_open_is_refused() {
        let folder = Folder::new();
        let source = folder.pem("provider-key-encrypted.pem", Some("segreto"));
        for (name, mode) in [("provider-key-encrypted.pem", 0o640), ("passphrase", 0o604), ("passphrase", 0o620)] {
            let file = folder.0.path().join(name);
            set_mode(&file, mode);
            let error = refusal(&source);
            assert!(matches!(error, KeyFileError::OpenToOthers { mode: found, .. } if found == mode));
            let text = error.to_string();
            assert!(
                text.contains(name) && text.contains(&format!("{mode:04o}")) && text.contains("chmod 600"),
                "{text}"
            );
            set_mode(&file, 0o400);
        }
        load(&source, Engine::AwsLc).unwrap();
        let archive = folder.pkcs12("provider.p12", "segreto");
        set_mode(&folder.0.path().join("provider.p12"), 0o644);
        assert!(matches!(refusal(&archive), KeyFileError::OpenToOthers { .. }));
    }

    #[test]
    fn a_passphrase_must_be_there_and_right() {
        let folder = Folder::new();
        let key = "provider-key-encrypted.pem";
        assert!(matches!(refusal(&folder.pem(key, None)), KeyFileError::PassphraseNeeded { .. }));
        assert!(matches!(refusal(&folder.pem(key, Some("sbagliato"))), KeyFileError::WrongPassphrase { .. }));
        for text in ["", "\n", "one\ntwo\n", "nul\0", &"x".repeat(LONGEST_PASSPHRASE + 1)] {
            assert!(matches!(refusal(&folder.pem(key, Some(text))), KeyFileError::Passphrase { .. }), "{text:?}");
        }
        for name in ["provider.p12", "provider-legacy.p12"] {
            assert!(matches!(refusal(&folder.pkcs12(name, "sbagliato")), KeyFileError::WrongPassphrase { .. }));
        }
    }

    #[test]
    fn a_key_that_does_not_fit_is_refused() {
        let folder = Folder::new();
        assert!(matches!(refusal(&folder.pem("unrelated-key.pem", None)), KeyFileError::Mismatch { .. }));
        assert!(matches!(refusal(&folder.pem("weak-key.pem", None)), KeyFileError::KeySize { bits: 1024, .. }));
        assert!(matches!(refusal(&folder.pem("provider.pem", None)), KeyFileError::NoPrivateKey { .. }));
        assert!(matches!(refusal(&folder.pkcs12("root.pem", "segreto")), KeyFileError::NotPkcs12 { .. }));
    }

    #[test]
    fn files_that_are_not_there_or_empty_are_named() {
        let folder = Folder::new();
        let private_key = folder.copy("provider-key.pem");
        let certificate = folder.0.path().join("nowhere.pem");
        let source = KeySource::Pem { private_key: private_key.clone(), certificate, passphrase_file: None };
        assert!(matches!(refusal(&source), KeyFileError::Read { file, .. } if file.ends_with("nowhere.pem")));
        let certificate = folder.write("empty.pem", b"");
        let source = KeySource::Pem { private_key, certificate, passphrase_file: None };
        assert!(matches!(refusal(&source), KeyFileError::NoCertificate { .. }));
    }
}
