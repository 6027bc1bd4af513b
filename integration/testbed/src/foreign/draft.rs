//! A message before it is signed: everything that implementations do differently is a value here.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::pki::Identity;
use crate::process::run;

/// A message of another implementation.
#[derive(Debug, Clone)]
pub struct Draft {
    pub reverse_path: String,
    pub forward_paths: Vec<String>,
    /// The unsigned header, without the MIME fields.
    pub fields: Vec<(String, String)>,
    pub text: String,
    pub html: Option<String>,
    pub daticert: Vec<u8>,
    pub original: Option<Vec<u8>>,
    pub layout: Layout,
    pub signature: Signature,
    /// The last change to the message, after it is signed.
    pub finish: fn(Vec<u8>) -> Vec<u8>,
}

/// How the signed content is put together.
#[derive(Debug, Clone)]
pub struct Layout {
    /// The boundaries of multipart/signed, mixed and alternative, without quotes.
    pub boundaries: [&'static str; 3],
    pub preamble: &'static str,
    pub epilogue: &'static str,
    /// The header of the part with daticert.xml, which names its transfer encoding.
    pub daticert: &'static str,
    pub original: &'static str,
    /// A change to the parts: readable text, daticert.xml, original.
    pub arrange: fn(&mut Vec<Vec<u8>>),
}

/// How the content is signed.
#[derive(Debug, Clone)]
pub struct Signature {
    pub signer: Identity,
    /// Another one who signs the same, with a SignerInfo of his own.
    pub cosigner: Option<Identity>,
    pub intermediate: Option<PathBuf>,
    /// Further options of `openssl cms -sign`.
    pub options: &'static [&'static str],
    pub micalg: &'static str,
    /// The media type of the signature part, and `protocol`.
    pub media_type: &'static str,
    pub by: SignedBy,
    /// A change to the SignedData, which comes as DER; only by hand.
    pub encode: fn(Vec<u8>) -> Vec<u8>,
}

/// Who writes the multipart/signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignedBy {
    Hand,
    /// `openssl cms`, which writes LF.
    Cms,
    /// `openssl smime`, the older of the two.
    Smime,
}

impl Default for Layout {
    fn default() -> Self {
        Layout {
            boundaries: ["signed", "mixed", "alternative"],
            preamble: "",
            epilogue: "",
            daticert: "Content-Type: application/xml; name=\"daticert.xml\"\r\nContent-Transfer-Encoding: base64\r\n\
                Content-Disposition: attachment; filename=\"daticert.xml\"",
            original: "Content-Type: message/rfc822; name=\"postacert.eml\"\r\n\
                Content-Disposition: attachment; filename=\"postacert.eml\"",
            arrange: |_| (),
        }
    }
}

impl Signature {
    pub fn new(signer: Identity, intermediate: PathBuf) -> Self {
        Signature {
            signer,
            cosigner: None,
            intermediate: Some(intermediate),
            options: &["-md", "sha256"],
            micalg: "sha-256",
            media_type: "application/pkcs7-signature",
            by: SignedBy::Hand,
            encode: |der| der,
        }
    }
}

impl Draft {
    /// The value of the first field of a name.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    /// Sets a field of the unsigned header.
    pub fn set(&mut self, name: &str, value: &str) {
        match self.fields.iter_mut().find(|(own, _)| own == name) {
            Some((_, old)) => *old = value.to_owned(),
            None => self.fields.push((name.to_owned(), value.to_owned())),
        }
    }

    /// Takes all fields of a name out of the unsigned header.
    pub fn remove(&mut self, name: &str) {
        self.fields.retain(|(own, _)| own != name);
    }

    /// Changes daticert.xml, which must hold what is to be replaced.
    pub fn certify(&mut self, from: &str, to: &str) {
        let xml = String::from_utf8_lossy(&self.daticert).into_owned();
        assert!(xml.contains(from), "{from} is not in {xml}");
        self.daticert = xml.replace(from, to).into_bytes();
    }

    /// The message as it travels.
    pub fn build(&self) -> Result<Vec<u8>> {
        let content = self.content();
        let mut message: Vec<u8> =
            self.fields.iter().flat_map(|(name, value)| format!("{name}: {value}\r\n").into_bytes()).collect();
        match self.signature.by {
            SignedBy::Hand => {
                message.extend(b"MIME-Version: 1.0\r\n");
                message.extend(self.signed_by_hand(&content)?);
            }
            SignedBy::Cms => message.extend(crlf(&self.openssl("cms", &["-outform", "SMIME"], &content)?)),
            SignedBy::Smime => message.extend(crlf(&self.openssl("smime", &["-outform", "SMIME"], &content)?)),
        }
        Ok((self.finish)(message))
    }

    /// What is signed.
    fn content(&self) -> Vec<u8> {
        let [_, mixed, alternative] = self.layout.boundaries;
        let readable = |subtype: &str, text: &str| {
            let head = format!(
                "Content-Type: text/{subtype}; charset=iso-8859-1\r\nContent-Transfer-Encoding: quoted-printable"
            );
            // What ISO-8859-1 lacks becomes a question mark.
            let latin: Vec<u8> = text.chars().map(|c| u8::try_from(u32::from(c)).unwrap_or(b'?')).collect();
            part(&head, &latin)
        };
        let mut parts = vec![match &self.html {
            Some(html) => {
                multipart("alternative", alternative, "", &[readable("plain", &self.text), readable("html", html)], "")
            }
            None => readable("plain", &self.text),
        }];
        parts.push(part(self.layout.daticert, &self.daticert));
        if let Some(original) = &self.original {
            let eight_bit = if original.is_ascii() { "" } else { "\r\nContent-Transfer-Encoding: 8bit" };
            parts.push(part(&format!("{}{eight_bit}", self.layout.original), original));
        }
        (self.layout.arrange)(&mut parts);
        multipart("mixed", mixed, self.layout.preamble, &parts, self.layout.epilogue)
    }

    fn signed_by_hand(&self, content: &[u8]) -> Result<Vec<u8>> {
        let Signature { micalg, media_type, .. } = &self.signature;
        let signed_data = (self.signature.encode)(self.openssl("cms", &["-binary", "-outform", "DER"], content)?);
        let head = format!(
            "Content-Type: {media_type}; name=\"smime.p7s\"\r\nContent-Transfer-Encoding: base64\r\n\
             Content-Disposition: attachment; filename=\"smime.p7s\""
        );
        let parts = [content.to_vec(), part(&head, &signed_data)];
        let subtype = format!("signed; protocol=\"{media_type}\"; micalg={micalg}");
        Ok(multipart(&subtype, self.layout.boundaries[0], self.layout.preamble, &parts, self.layout.epilogue))
    }

    fn openssl(&self, program: &str, form: &[&str], content: &[u8]) -> Result<Vec<u8>> {
        let Signature { signer, cosigner, intermediate, options, .. } = &self.signature;
        let mut command = Command::new("openssl");
        command.args([program, "-sign"]);
        for signer in std::iter::once(signer).chain(cosigner) {
            command.arg("-signer").arg(&signer.certificate).arg("-inkey").arg(&signer.key);
        }
        if let Some(intermediate) = intermediate {
            command.arg("-certfile").arg(intermediate);
        }
        run(command.args(form).args(*options), content).context("cannot sign")
    }
}

/// A part with this header; its content is encoded the way the header says.
pub fn part(head: &str, content: &[u8]) -> Vec<u8> {
    let lower = head.to_ascii_lowercase();
    let body = if lower.contains("content-transfer-encoding: base64") {
        let text = STANDARD.encode(content);
        text.as_bytes().chunks(76).flat_map(|line| [line, b"\r\n"].concat()).collect()
    } else if lower.contains("content-transfer-encoding: quoted-printable") {
        quoted_printable::encode(crlf(content))
    } else {
        crlf(content)
    };
    [head.as_bytes(), b"\r\n\r\n", &body].concat()
}

fn multipart(subtype: &str, boundary: &str, preamble: &str, parts: &[Vec<u8>], epilogue: &str) -> Vec<u8> {
    let is_token = boundary.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.+'".contains(&byte));
    let written = if is_token { boundary.to_owned() } else { format!("\"{boundary}\"") };
    let mut whole = format!("Content-Type: multipart/{subtype}; boundary={written}\r\n").into_bytes();
    if parts.iter().any(|part| !part.is_ascii()) {
        whole.extend(b"Content-Transfer-Encoding: 8bit\r\n");
    }
    whole.extend(format!("\r\n{preamble}").into_bytes());
    for part in parts {
        whole.extend(format!("\r\n--{boundary}\r\n").into_bytes());
        whole.extend(part);
    }
    whole.extend(format!("\r\n--{boundary}--\r\n{epilogue}").into_bytes());
    whole
}

/// All line ends as CRLF.
fn crlf(text: &[u8]) -> Vec<u8> {
    let lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
    lines.iter().map(|line| line.strip_suffix(b"\r").unwrap_or(line)).collect::<Vec<_>>().join(&b"\r\n"[..])
}
