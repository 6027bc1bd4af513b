//! What is known of an infected message, as JSON beside it.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{MOST_OF_ID, StorageError};
use crate::adapters::durable::FileError;
use crate::message::Pieces;
use crate::model::TemporalReference;
use crate::operations::ports::Infected;

/// What the store knows of one message. The fields never change their names once released.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub name: String,
    /// Seconds since 1970.
    pub at: i64,
    /// The same instant as people read it, legal Italian time.
    pub date: String,
    pub virus: String,
    /// `access-point` or `incoming-point`
    pub found: String,
    pub pec_msgid: String,
    pub queue_id: String,
    pub sender: String,
    pub recipients: Vec<String>,
    pub octets: usize,
    pub sha256: String,
}

impl Record {
    pub fn new(message: &Pieces, about: &Infected) -> Self {
        let Infected { at, place, id, queue_id, sender, recipients, virus } = about;
        let content = message.sha256();
        // Ids of other providers hold what a file name cannot, and may differ in that alone.
        let unique = Sha256::new().chain_update(id.as_str()).chain_update([0]).chain_update(content).finalize();
        let readable: String =
            id.as_str().chars().map(|c| if may_stand_in_name(c) { c } else { '_' }).take(MOST_OF_ID).collect();
        Record {
            name: format!("{}-{readable}-{}", at.date(), hexadecimal(unique.get(..8).unwrap_or_default())),
            at: at.unix(),
            date: at.date_field(),
            virus: virus.to_string(),
            found: place.token().to_owned(),
            pec_msgid: id.to_string(),
            queue_id: queue_id.clone(),
            sender: sender.clone(),
            recipients: recipients.clone(),
            octets: message.len(),
            sha256: hexadecimal(&content),
        }
    }

    pub fn to_json(&self) -> String {
        // Texts and numbers always are JSON.
        let mut json = serde_json::to_string_pretty(self).unwrap_or_default();
        json.push('\n');
        json
    }

    /// The instant as a value.
    pub fn instant(&self) -> TemporalReference {
        TemporalReference::from_unix(self.at)
    }
}

/// Reads a record.
pub fn read(path: &Path) -> Result<Record, StorageError> {
    let text = fs::read(path).map_err(FileError::of("read", path))?;
    serde_json::from_slice(&text).map_err(|source| StorageError::Record { path: path.to_owned(), source })
}

/// No separators of folders, nothing that a shell would read.
pub fn may_stand_in_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '@')
}

pub fn hexadecimal(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}
