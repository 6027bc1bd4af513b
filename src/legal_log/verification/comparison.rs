//! What became of rows, told beside the true ones.

use super::{FoundRow, Row, Wrong, sequence};

/// The first difference of `suspect` from the `true` rows, both in order; none where they are the same.
pub fn compare<E>(
    truth: impl IntoIterator<Item = Result<Row, E>>,
    suspect: impl IntoIterator<Item = Result<FoundRow, E>>,
) -> Result<Option<Wrong>, E> {
    let (mut truth, mut suspect) = (truth.into_iter(), suspect.into_iter());
    loop {
        let wrong = match (truth.next().transpose()?, suspect.next().transpose()?) {
            (None, None) => return Ok(None),
            (Some(row), None) => Wrong::Removed { first: row.link.sequence, last: last(row, truth)? },
            (None, Some(found)) => Wrong::Inserted { first: sequence(&found), last: sequence(&found) },
            (Some(row), Some(Ok(found))) if row == found => continue,
            (Some(row), Some(found)) => differing(row, found, truth, suspect)?,
        };
        return Ok(Some(wrong));
    }
}

fn differing<E>(
    row: Row,
    found: FoundRow,
    truth: impl Iterator<Item = Result<Row, E>>,
    suspect: impl Iterator<Item = Result<FoundRow, E>>,
) -> Result<Wrong, E> {
    let sequence = row.link.sequence;
    let found = match found {
        Ok(found) => found,
        Err(unreadable) if unreadable.sequence > sequence => {
            return Ok(Wrong::Removed { first: sequence, last: unreadable.sequence - 1 });
        }
        Err(unreadable) => return Ok(Wrong::Changed { sequence, members: vec![unreadable.part.to_owned()] }),
    };
    if found.body == row.body && found.link.sequence == sequence {
        return Ok(Wrong::HashChanged { sequence });
    }
    if found.link.sequence < sequence {
        return Ok(Wrong::Inserted { first: found.link.sequence, last: found.link.sequence });
    }
    let stands_at = place_of(&row, suspect)?;
    if found.link.sequence > sequence {
        return Ok(match stands_at {
            Some(stands_at) => Wrong::Moved { sequence, stands_at },
            None => Wrong::Removed { first: sequence, last: found.link.sequence - 1 },
        });
    }
    let was_at = place_of(&found, truth.map(|row| row.map(Ok)))?;
    Ok(match (stands_at, was_at) {
        (Some(stands_at), Some(_)) => Wrong::Moved { sequence, stands_at },
        (Some(stands_at), None) => Wrong::Inserted { first: sequence, last: sequence.max(stands_at - 1) },
        (None, Some(was_at)) => Wrong::RemovedAndRenumbered { first: sequence, count: (was_at - sequence).max(1) },
        (None, None) => Wrong::Changed { sequence, members: row.differences(&found) },
    })
}

/// Where the content of a row stands among others.
fn place_of<E>(row: &Row, mut rows: impl Iterator<Item = Result<FoundRow, E>>) -> Result<Option<i64>, E> {
    rows.find_map(|found| match found {
        Ok(Ok(found)) if found.body == row.body => Some(Ok(found.link.sequence)),
        Ok(_) => None,
        Err(error) => Some(Err(error)),
    })
    .transpose()
}

fn last<E>(row: Row, mut rest: impl Iterator<Item = Result<Row, E>>) -> Result<i64, E> {
    rest.try_fold(row.link.sequence, |_, row| row.map(|row| row.link.sequence))
}
