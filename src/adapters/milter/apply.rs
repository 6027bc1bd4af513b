//! A decision as edits: the message that Postfix holds is replaced where it lies.
//!
//! Postfix applies edits only after the final answer, so a failure in between leaves the message as it was, unaccepted.

use std::collections::HashMap;

use bytes::{Bytes, BytesMut};
use indymilter::{ActionError, ContextActions, EomActions};

use crate::crash;
use crate::message::Pieces;
use crate::message::header::Header;
use crate::operations::triggers::Trigger;
use crate::operations::{NewEnvelope, Replacement};

/// What one message of the milter protocol carries of a body.
const CHUNK: usize = 65_535;

/// A header field to be deleted: its name and its place among the fields of that name, from 1.
#[derive(Debug, PartialEq, Eq)]
struct Deletion {
    name: String,
    place: i32,
}

/// Puts a message in the place of another, whose forward paths were `recipients`.
pub async fn replace(
    actions: &EomActions,
    old: &Header<'_>,
    recipients: &[String],
    new: &Replacement,
) -> Result<(), ActionError> {
    for Deletion { name, place } in deletions(old, new.inherited) {
        actions.change_header(name, place, None::<String>).await?;
    }
    for (name, value) in &new.message.header {
        // The value brings its own leading blank, and folds travel as LF (LEADING_SPACE).
        actions.add_header(*name, format!(" {}", value.replace("\r\n", "\n"))).await?;
    }
    for chunk in chunks(&new.message.body) {
        actions.replace_body(&chunk).await?;
    }
    if let Some(envelope) = &new.envelope {
        readdress(actions, recipients, envelope).await?;
    }
    add_triggers(actions, &new.triggers).await
}

/// The pieces of a body, the small ones joined: each chunk is a round through two processes. Large ones are not copied.
fn chunks(body: &Pieces) -> Vec<Bytes> {
    let mut chunks = Vec::new();
    let mut small = BytesMut::new();
    for piece in body.iter() {
        if small.len() + piece.len() > CHUNK && !small.is_empty() {
            chunks.push(small.split().freeze());
        }
        match piece.len() {
            ..=CHUNK => small.extend_from_slice(piece),
            _ => chunks.push(piece.clone()),
        }
    }
    if !small.is_empty() {
        chunks.push(small.freeze());
    }
    chunks
}

/// Makes the SMTP envelope, whose forward paths were `old`, into a new one.
pub async fn readdress(actions: &EomActions, old: &[String], new: &NewEnvelope) -> Result<(), ActionError> {
    if let Some(sender) = &new.sender {
        actions.change_sender(format!("<{sender}>"), None::<String>).await?;
    }
    for recipient in missing(old, &new.recipients) {
        actions.delete_recipient(format!("<{recipient}>")).await?;
    }
    for recipient in missing(&new.recipients, old) {
        actions.add_recipient(format!("<{recipient}>")).await?;
    }
    Ok(())
}

/// Adds the recipients that make the hop do its work.
pub async fn add_triggers(actions: &EomActions, triggers: &[Trigger]) -> Result<(), ActionError> {
    crash::point("eom-during");
    for trigger in triggers {
        actions.add_recipient(format!("<{}>", trigger.address())).await?;
    }
    Ok(())
}

/// The addresses of one list that another lacks, as they are spelt. Postfix compares without case as well.
fn missing<'a>(list: &'a [String], other: &[String]) -> Vec<&'a str> {
    let is_there = |address: &&String| other.iter().any(|one| one.eq_ignore_ascii_case(address));
    list.iter().filter(|address| !is_there(address)).map(String::as_str).collect()
}

/// Puts one trigger in the place of all recipients.
pub async fn redirect(actions: &EomActions, recipients: &[String], trigger: Trigger) -> Result<(), ActionError> {
    for recipient in recipients {
        actions.delete_recipient(format!("<{recipient}>")).await?;
    }
    add_triggers(actions, &[trigger]).await
}

/// All fields but the inherited ones, the last of each name first, so that places stay valid while they are deleted.
fn deletions(old: &Header, inherited: &[&str]) -> Vec<Deletion> {
    let mut places: HashMap<String, i32> = HashMap::new();
    let mut deletions = Vec::new();
    for field in old.fields() {
        let name = String::from_utf8_lossy(field.name()).into_owned();
        if inherited.iter().any(|one| one.eq_ignore_ascii_case(&name)) {
            continue;
        }
        let place = places.entry(name.to_ascii_lowercase()).or_default();
        *place += 1;
        deletions.push(Deletion { name, place: *place });
    }
    deletions.reverse();
    deletions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_pieces_of_a_body_are_joined_and_large_ones_shared() {
        let large = Bytes::from(vec![b'l'; CHUNK + 1]);
        let mut body = Pieces::default();
        for piece in [&b"ab"[..], b"c"] {
            body.push(piece);
        }
        body.push(large.clone());
        body.push(&b"de"[..]);
        body.push(vec![b'f'; CHUNK]);
        let joined = chunks(&body);
        assert_eq!(joined.iter().map(Bytes::len).collect::<Vec<_>>(), [3, CHUNK + 1, 2, CHUNK]);
        assert_eq!(joined[1].as_ptr(), large.as_ptr());
        assert_eq!(joined.concat(), body.to_vec());
    }

    #[test]
    fn fields_are_deleted_from_the_last_and_inherited_ones_stay() {
        let old = Header::read(b"X: 1\r\nTo: a\r\nx: 2\r\nSubject: s\r\n\r\n");
        let expected = [("Subject", 1), ("x", 2), ("X", 1)].map(|(name, place)| Deletion { name: name.into(), place });
        assert_eq!(deletions(&old, &["To"]), expected);
    }

    #[test]
    fn a_recipient_that_stays_is_neither_deleted_nor_added() {
        let list = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let (old, new) = (list(&["a@x.example", "B@x.example", "a@x.example"]), list(&["b@x.example", "c@x.example"]));
        assert_eq!(missing(&old, &new), ["a@x.example", "a@x.example"]);
        assert_eq!(missing(&new, &old), ["c@x.example"]);
    }
}
