//! The central system that gives the providers directory out (§4.5, §5.6): nginx that demands client certificates, and
//! slapd with the RFC's schema, both from Debian, on an address of their own.
//!
//! A publisher has its own TLS CA and its own signer. What it gives out a test puts there, good or bad.

use std::cell::RefCell;
use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::network::Network;
use crate::pki::{Identity, Pki, Request};
use crate::process::{account, end, launch, run};
use crate::scratch::Scratch;
use crate::wait::{PATIENCE, wait_until};

const HTTPS: u16 = 2443;
const LDAPS: u16 = 2636;
const LDAP: u16 = 2389;
const FILE: &str = "providers.ldif.p7m";
/// The account that pec-milter runs as.
const ACCOUNT: &str = "nobody";

/// Who may read the directory over LDAP by name.
pub const READER: &str = "cn=alfa,o=postacert";
pub const READER_PASSWORD: &str = "letto da alfa";

/// §4.5.1 to §4.5.9, for slapd; the parenthesis that the RFC forgets is there.
const SCHEMA: &str = "
attributetype ( 1.3.6.1.4.1.16572.2.2.1 NAME 'providerCertificateHash'
  DESC 'Hash SHA1 of X.509 certificate in hexadecimal format'
  EQUALITY caseIgnoreIA5Match SYNTAX 1.3.6.1.4.1.1466.115.121.1.26 )
attributetype ( 1.3.6.1.4.1.16572.2.2.2 NAME 'providerCertificate'
  DESC 'X.509 certificate in ASN.1 DER binary format' SYNTAX 1.3.6.1.4.1.1466.115.121.1.8 )
attributetype ( 1.3.6.1.4.1.16572.2.2.3 NAME 'providerName' DESC 'PEC provider name'
  EQUALITY caseIgnoreMatch SUBSTR caseIgnoreSubstringsMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 SINGLE-VALUE )
attributetype ( 1.3.6.1.4.1.16572.2.2.4 NAME 'mailReceipt' DESC 'E-mail address of the service mailbox'
  EQUALITY caseIgnoreIA5Match SUBSTR caseIgnoreIA5SubstringsMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.26 SINGLE-VALUE )
attributetype ( 1.3.6.1.4.1.16572.2.2.5 NAME 'managedDomains' DESC 'Domains handled by the PEC provider'
  EQUALITY caseIgnoreIA5Match SUBSTR caseIgnoreIA5SubstringsMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.26 )
attributetype ( 1.3.6.1.4.1.16572.2.2.6 NAME 'LDIFLocationURL' DESC 'URL of the LDIF file that defines the entry'
  EQUALITY caseExactMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 SINGLE-VALUE )
attributetype ( 1.3.6.1.4.1.16572.2.2.7 NAME 'providerUnit' DESC 'Name of the secondary operative environment'
  EQUALITY caseIgnoreMatch SUBSTR caseIgnoreSubstringsMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 SINGLE-VALUE )
objectclass ( 1.3.6.1.4.1.16572.2.1.1 NAME 'LDIFLocationURLObject' SUP top AUXILIARY MAY ( LDIFLocationURL ) )
objectclass ( 1.3.6.1.4.1.16572.2.1.2 NAME 'provider' SUP top STRUCTURAL
  MUST ( providerCertificateHash $ providerCertificate $ providerName $ mailReceipt $ managedDomains )
  MAY ( description $ LDIFLocationURL $ providerUnit ) )
";

/// The publisher with its servers, which end when it is dropped.
pub struct Publisher {
    pub pki: Pki,
    /// Who signs the directory.
    pub signer: Identity,
    /// What a provider shows to the servers; the key is its own to read.
    pub client: Identity,
    server: RefCell<Identity>,
    address: Ipv4Addr,
    folder: PathBuf,
    _scratch: Scratch,
    _network: Network,
}

impl Publisher {
    /// With its HTTPS server running.
    pub fn over_https() -> Result<Self> {
        let publisher = Publisher::new()?;
        publisher.start_https()?;
        Ok(publisher)
    }

    /// Makes certificates and folders; no server runs yet.
    pub fn new() -> Result<Self> {
        let mut scratch = Scratch::new()?;
        let network = Network::reserve()?;
        let address = network.host(0);
        let folder = scratch.path().join("publisher");
        fs::create_dir_all(folder.join("www"))?;
        let pki = Pki::new(scratch.path().join("pki"), &["publisher.example"])?;
        let mut signer = Request::provider("signer", "Gestore Indice", "indice@publisher.example");
        signer.issuer = "root".into();
        // Directories that were fetched days ago are to be valid too.
        signer.validity = Some(("20240101000000Z".into(), "20900101000000Z".into()));
        let publisher = Publisher {
            signer: pki.issue(&signer)?,
            client: pki.server("alfa-client", address)?,
            server: RefCell::new(pki.server("directory.example", address)?),
            pki,
            address,
            folder,
            _network: network,
            _scratch: {
                scratch.started();
                scratch
            },
        };
        publisher.give_to_providers(&publisher.client.key)?;
        Ok(publisher)
    }

    /// Makes a secret file one that pec-milter may read and nobody else.
    pub fn give_to_providers(&self, file: &Path) -> Result<()> {
        let account = account(ACCOUNT)?;
        fs::set_permissions(file, fs::Permissions::from_mode(0o600))?;
        chown(file, Some(account.uid.as_raw()), None).context("cannot give a key away")
    }

    /// Keys of `[directory]` for the file over HTTPS, signed by this publisher's signer.
    pub fn https_settings(&self) -> String {
        format!("{}signer_certificate = {:?}\n", self.unpinned_settings(), self.signer.certificate)
    }

    /// The same without saying who must have signed.
    pub fn unpinned_settings(&self) -> String {
        format!("url = \"https://{}:{HTTPS}/{FILE}\"\n{}", self.address, self.tls_settings())
    }

    /// Keys of `[directory]` for LDAP with TLS from the first octet, and the client certificate.
    pub fn ldaps_settings(&self) -> String {
        format!("url = \"ldaps://{}:{LDAPS}/o=postacert\"\n{}", self.address, self.tls_settings())
    }

    /// Keys of `[directory]` for LDAP with STARTTLS, without a name or certificate.
    pub fn starttls_settings(&self) -> String {
        format!("url = \"ldap://{}:{LDAP}\"\nca_file = {:?}\n", self.address, self.pki.tls_root())
    }

    fn tls_settings(&self) -> String {
        format!(
            "ca_file = {:?}\nclient_certificate = {:?}\nclient_key = {:?}\n",
            self.pki.tls_root(),
            self.client.certificate,
            self.client.key,
        )
    }

    /// Starts nginx, which knows clients of the publisher's TLS CA only.
    pub fn start_https(&self) -> Result<()> {
        let server = self.server.borrow();
        let folder = self.folder.display();
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|name| format!("{name}_temp_path {folder}/temp;\n"))
            .concat();
        let configuration = format!(
            "user root;\nworker_processes 1;\npid {folder}/nginx.pid;\nerror_log {folder}/nginx.log;\nevents {{}}\n\
             http {{\naccess_log off;\n{temporary}types {{ application/pkcs7-mime p7m; }}\nserver {{\n\
             listen {address}:{HTTPS} ssl;\nroot {folder}/www;\nssl_certificate {certificate};\n\
             ssl_certificate_key {key};\nssl_client_certificate {ca};\nssl_verify_client on;\n\
             location = /moved {{ return 302 /{FILE}; }}\n}}\n}}\n",
            address = self.address,
            certificate = server.certificate.display(),
            key = server.key.display(),
            ca = self.pki.tls_root().display(),
        );
        let file = self.folder.join("nginx.conf");
        fs::write(&file, configuration)?;
        let log = self.folder.join("nginx-start.log");
        launch(Command::new("nginx").arg("-e").arg(&log).arg("-c").arg(&file), &log)?;
        self.wait_for(HTTPS)
    }

    /// The servers that start from now on show a certificate for another name, of the same CA; gives the one of before.
    pub fn show_another_name(&self) -> Result<Identity> {
        Ok(self.server.replace(self.pki.server("other.example", Ipv4Addr::new(127, 0, 0, 9))?))
    }

    /// They show this one.
    pub fn show(&self, identity: Identity) {
        self.server.replace(identity);
    }

    pub fn stop_https(&self) -> Result<()> {
        end(&self.folder.join("nginx.pid"))
    }

    /// The file that is given out over HTTPS.
    pub fn file(&self) -> PathBuf {
        self.folder.join("www").join(FILE)
    }

    /// Signs a directory and gives it out over HTTPS from now on.
    pub fn publish(&self, ldif: &str) -> Result<Vec<u8>> {
        let p7m = self.sign(&self.signer, ldif)?;
        self.publish_octets(&p7m)?;
        Ok(p7m)
    }

    /// Gives these octets out over HTTPS from now on, whatever they are.
    pub fn publish_octets(&self, octets: &[u8]) -> Result<()> {
        fs::write(self.file(), octets).context("cannot publish")
    }

    /// A `.p7m` of somebody's.
    pub fn sign(&self, signer: &Identity, ldif: &str) -> Result<Vec<u8>> {
        self.sign_with(signer, ldif, &["-outform", "DER"])
    }

    /// The same with other options of `openssl cms -sign`.
    pub fn sign_with(&self, signer: &Identity, ldif: &str, options: &[&str]) -> Result<Vec<u8>> {
        let mut openssl = Command::new("openssl");
        openssl.args(["cms", "-sign", "-nodetach", "-binary"]).args(options).arg("-signer");
        run(openssl.arg(&signer.certificate).arg("-inkey").arg(&signer.key), ldif.as_bytes())
    }

    /// Starts slapd anew with this directory. `lines` are of its configuration, such as size limits; a client certificate
    /// is demanded or not.
    pub fn start_ldap(&self, ldif: &str, demands_certificate: bool, lines: &str) -> Result<()> {
        end(&self.folder.join("slapd.pid"))?;
        let server = self.server.borrow();
        let database = self.folder.join("ldap");
        if database.exists() {
            fs::remove_dir_all(&database)?;
        }
        fs::create_dir(&database)?;
        let folder = self.folder.display();
        fs::write(self.folder.join("pec.schema"), SCHEMA)?;
        let configuration = format!(
            "include /etc/ldap/schema/core.schema\ninclude {folder}/pec.schema\npidfile {folder}/slapd.pid\n\
             modulepath /usr/lib/ldap\nmoduleload back_mdb\nTLSCACertificateFile {ca}\nTLSCertificateFile {certificate}\n\
             TLSCertificateKeyFile {key}\nTLSVerifyClient {verify}\n{lines}\ndatabase mdb\nmaxsize 100000000\n\
             suffix o=postacert\nrootdn cn=admin,o=postacert\ndirectory {folder}/ldap\n\
             access to attrs=userPassword by anonymous auth\naccess to * by ssf=128 {who} read by anonymous auth\n",
            ca = self.pki.tls_root().display(),
            certificate = server.certificate.display(),
            key = server.key.display(),
            verify = if demands_certificate { "demand" } else { "never" },
            who = if demands_certificate { "anonymous" } else { "users" },
        );
        let file = self.folder.join("slapd.conf");
        fs::write(&file, configuration)?;
        let reader = format!(
            "\ndn: {READER}\nobjectClass: applicationProcess\nobjectClass: simpleSecurityObject\ncn: alfa\n\
             userPassword: {READER_PASSWORD}\n"
        );
        run(Command::new("slapadd").arg("-f").arg(&file), [ldif, &reader].concat().as_bytes())?;
        let urls = format!("ldaps://{0}:{LDAPS} ldap://{0}:{LDAP}", self.address);
        launch(Command::new("slapd").arg("-f").arg(&file).args(["-h", &urls]), &self.folder.join("slapd-start.log"))?;
        self.wait_for(LDAPS)
    }

    fn wait_for(&self, port: u16) -> Result<()> {
        wait_until("the publisher to listen", PATIENCE, || {
            std::net::TcpStream::connect((self.address, port)).map(drop).map_err(Into::into)
        })
    }
}
