//! A decision as edits: the message that Postfix holds is replaced where it lies.
//!
//! Postfix applies edits only after the final answer, so a failure in between leaves the message as it was, unaccepted.

use std::collections::HashMap;

use indymilter::{ActionError, ContextActions, EomActions};

use crate::crash;
use crate::message::header::Header;
use crate::operations::Replacement;
use crate::operations::triggers::Trigger;

/// A header field to be deleted: its name and its place among the fields of that name, from 1.
#[derive(Debug, PartialEq, Eq)]
struct Deletion {
    name: String,
    place: i32,
}

/// Puts a message in the place of another.
pub async fn replace(actions: &EomActions, old: &Header<'_>, new: &Replacement) -> Result<(), ActionError> {
    for Deletion { name, place } in deletions(old, new.inherited) {
        actions.change_header(name, place, None::<String>).await?;
    }
    for (name, value) in &new.message.header {
        // The value brings its own leading blank, and folds travel as LF (LEADING_SPACE).
        actions.add_header(*name, format!(" {}", value.replace("\r\n", "\n"))).await?;
    }
    for piece in new.message.body.iter() {
        actions.replace_body(piece).await?;
    }
    add_triggers(actions, &new.triggers).await
}

/// Adds the recipients that make the hop do its work.
pub async fn add_triggers(actions: &EomActions, triggers: &[Trigger]) -> Result<(), ActionError> {
    crash::point("eom-during");
    for trigger in triggers {
        actions.add_recipient(format!("<{}>", trigger.address())).await?;
    }
    Ok(())
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
    fn fields_are_deleted_from_the_last_and_inherited_ones_stay() {
        let old = Header::read(b"X: 1\r\nTo: a\r\nx: 2\r\nSubject: s\r\n\r\n");
        let expected = [("Subject", 1), ("x", 2), ("X", 1)].map(|(name, place)| Deletion { name: name.into(), place });
        assert_eq!(deletions(&old, &["To"]), expected);
    }
}
