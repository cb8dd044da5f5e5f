//! The table from id to piece: who may be in it, and how large it may get.
//!
//! Ids may have holes, but not more than there are pieces: a file of a hundred bytes must not be able to ask for
//! gigabytes by naming the id 4294967295.

use crate::error::{Result, invalid, shorten};

/// Holes that are always allowed, however small the vocabulary.
const SPARE: usize = 1024;

/// Pieces by id, and which of them are special.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pieces {
    pieces: Vec<Option<Box<str>>>,
    special: Vec<bool>,
}

impl Pieces {
    /// Fills the table; two pieces with one id, or an id far beyond the number of pieces, are errors.
    pub(crate) fn new<'a>(entries: impl ExactSizeIterator<Item = (&'a str, u32)> + Clone) -> Result<Self> {
        let mut table = Pieces::default();
        table.reserve(entries.clone(), "model.vocab")?;
        for (piece, id) in entries {
            table.insert(piece, id, "model.vocab")?;
        }
        Ok(table)
    }

    /// Makes room for `entries`, or refuses their ids.
    pub(crate) fn reserve<'a>(
        &mut self,
        entries: impl ExactSizeIterator<Item = (&'a str, u32)>,
        field: &str,
    ) -> Result<()> {
        let most = 2 * (self.pieces.len() + entries.len()) + SPARE;
        let mut vocab = self.pieces.len();
        for (piece, id) in entries {
            if id as usize >= most {
                let piece = shorten(piece);
                return Err(invalid(
                    field,
                    format!(
                        "expected ids below {most}, found id {id} of {piece:?}; number the pieces without large gaps"
                    ),
                ));
            }
            vocab = vocab.max(id as usize + 1);
        }
        self.pieces.resize(vocab, None);
        self.special.resize(vocab, false);
        Ok(())
    }

    /// Puts one piece in a place that `reserve` has made.
    pub(crate) fn insert(&mut self, piece: &str, id: u32, field: &str) -> Result<()> {
        let place = &mut self.pieces[id as usize];
        match place {
            Some(other) if &**other != piece => Err(invalid(
                field,
                format!(
                    "expected one piece per id, found {:?} and {:?} with id {id}; give each its own id",
                    shorten(other),
                    shorten(piece)
                ),
            )),
            _ => {
                *place = Some(piece.into());
                Ok(())
            }
        }
    }

    /// Marks an id as special.
    pub(crate) fn mark_special(&mut self, id: u32) {
        self.special[id as usize] = true;
    }

    /// The number of ids: the largest one and 1.
    pub(crate) fn vocab(&self) -> usize {
        self.pieces.len()
    }

    /// The piece of an id.
    pub(crate) fn piece(&self, id: u32) -> Option<&str> {
        self.pieces.get(id as usize)?.as_deref()
    }

    /// Whether an id is a special token.
    pub(crate) fn is_special(&self, id: u32) -> bool {
        self.special.get(id as usize).copied().unwrap_or(false)
    }
}
