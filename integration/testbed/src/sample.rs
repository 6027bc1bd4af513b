//! The message that the demo sends and that the tests of the whole transaction follow.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// A PDF of one empty page.
const PDF: &[u8] = b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n\
    2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n\
    3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n";

/// What [`contract`] has as its subject.
pub const SUBJECT: &str = "Contratto perché così è più sicuro €";

/// From anna@alfa.example to bruno@beta.example, with copies to carla@alfa.example and mario@gamma.example, as a mail
/// program makes it: text in 8 bits, a PDF, a subject outside ASCII in two words, a folded field.
pub fn contract() -> Vec<u8> {
    let pdf = STANDARD.encode(PDF).as_bytes().chunks(76).map(String::from_utf8_lossy).collect::<Vec<_>>().join("\r\n");
    format!(
        "Return-Receipt-To: anna@alfa.example\r\n\
         From: Anna Bianchi <anna@alfa.example>\r\n\
         To: Bruno Verdi <bruno@beta.example>\r\n\
         Cc: carla@alfa.example,\r\n\tMario Rossi <mario@gamma.example>\r\n\
         Subject: =?UTF-8?Q?Contratto_perch=C3=A9_cos=C3=AC_=C3=A8?=\r\n \
         =?UTF-8?B?IHBpw7kgc2ljdXJvIOKCrA==?=\r\n\
         Date: Mon, 15 Jul 2024 10:30:43 +0200\r\n\
         Message-Id: <contratto.1@client.alfa.example>\r\n\
         MIME-Version: 1.0\r\n\
         Content-Type: multipart/mixed; boundary=\"parts\"\r\n\
         \r\n\
         --parts\r\n\
         Content-Type: text/plain; charset=utf-8\r\n\
         Content-Transfer-Encoding: 8bit\r\n\
         \r\n\
         Buongiorno,\r\n\
         in allegato il contratto. Così è già firmato. \t\r\n\
         --parts\r\n\
         Content-Type: application/pdf; name=\"contratto.pdf\"\r\n\
         Content-Disposition: attachment; filename=\"contratto.pdf\"\r\n\
         Content-Transfer-Encoding: base64\r\n\
         \r\n\
         {pdf}\r\n\
         --parts--\r\n"
    )
    .into_bytes()
}
