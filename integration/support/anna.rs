//! Anna, who has her mailbox at alfa.

use anyhow::{Result, ensure};
use pec_testbed::{Port, Testbed};

pub const ANNA: &str = "anna@alfa.example";

/// Anna sends a letter; the name is its subject and the client's Message-ID.
pub fn anna_sends(testbed: &Testbed, name: &str, to: &[&str]) -> Result<()> {
    let message = format!(
        "From: {ANNA}\r\nTo: {}\r\nSubject: {name}\r\nMessage-ID: <{name}@client.alfa.example>\r\n\r\nCiao\r\n",
        to.join(", ")
    );
    let dialogue = testbed.host("alfa")?.submit("anna", Port::Submissions, ANNA, to, message.as_bytes())?;
    ensure!(dialogue.accepted(), "expected {name} to be accepted:\n{dialogue}");
    Ok(())
}
