//! What is inside a cursor: where a job stands in an index, by score and then by id.

use crate::{Cursor, StoreError};

/// The place of the last job of a page: its score in the index, and its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// The score; 0 in indexes that are ordered by id.
    pub(crate) score: u64,
    /// The job's id.
    pub(crate) id: String,
}

impl Place {
    /// Writes the place as a cursor.
    pub(crate) fn to_cursor(&self) -> Cursor {
        Cursor(format!("{}:{}", self.score, self.id))
    }

    /// Reads a cursor that a client sent back.
    ///
    /// # Errors
    /// Fails when the text was not made by `to_cursor`.
    pub(crate) fn parse(cursor: &Cursor) -> Result<Self, StoreError> {
        let parts = cursor.0.split_once(':');
        let place = parts.and_then(|(score, id)| Some((score.parse().ok()?, id)));
        match place {
            Some((score, id)) if !id.is_empty() => Ok(Self { score, id: id.to_owned() }),
            Some(_) | None => {
                Err(StoreError::Malformed { reason: "the page cursor is not one of ours".to_owned() })
            }
        }
    }
}
