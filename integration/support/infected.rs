//! Messages with an attachment, infected or not.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pec_testbed::clamd::eicar;

const SENDER: &str = "anna@alfa.example";

/// A message of anna's with one attachment.
pub fn message(subject: &str, to: &[&str], attachment: &[u8]) -> Vec<u8> {
    let encoded = STANDARD.encode(attachment);
    let lines: Vec<&str> = encoded.as_bytes().chunks(76).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    format!(
        "From: {SENDER}\r\nTo: {to}\r\nSubject: {subject}\r\nMessage-ID: <{subject}@client.example>\r\nMIME-Version: 1.0\r\n\
         Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\nIn allegato.\r\n--b\r\n\
         Content-Type: application/octet-stream; name=\"allegato.bin\"\r\nContent-Transfer-Encoding: base64\r\n\r\n\
         {lines}\r\n--b--\r\n",
        to = to.join(",\r\n "),
        lines = lines.join("\r\n"),
    )
    .into_bytes()
}

pub fn infected(subject: &str, to: &[&str]) -> Vec<u8> {
    message(subject, to, eicar().as_bytes())
}
