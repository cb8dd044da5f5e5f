//! The table from id to piece: who may be in it, and how large it may get.
//!
//! Ids may have holes, but not more than there are pieces: a file of a hundred bytes must not be able to ask for
//! gigabytes by naming the id 4294967295. The pieces stand in one text, so that a vocabulary of a hundred thousand
//! costs what it holds and twelve bytes each.

use std::num::NonZeroU32;

use crate::error::{Result, invalid, shorten};
use crate::table::Table;

/// Holes that are always allowed, however small the vocabulary.
const SPARE: usize = 1024;

/// Pieces by id, and which of them are special.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pieces {
    /// All pieces, in the order they came.
    text: String,
    /// Where in the text each id's piece begins and how long it is.
    places: Vec<Option<Place>>,
    special: Vec<bool>,
    /// Finds the pieces that were pushed.
    ids: Table,
}

/// A part of the text. The length is written as one more than it is: never 0, so that "none" takes no room.
#[derive(Clone, Copy, Debug)]
struct Place {
    start: u32,
    length: NonZeroU32,
}

impl Place {
    /// What stands there.
    fn of(self, text: &str) -> &str {
        let start = self.start as usize;
        &text[start..start + (self.length.get() - 1) as usize]
    }
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

    /// Room for `count` pieces to push that have `bytes` bytes together.
    pub(crate) fn with_capacity(count: usize, bytes: usize) -> Self {
        Pieces {
            text: String::with_capacity(bytes),
            places: Vec::with_capacity(count),
            special: vec![false; count],
            ids: Table::new(count),
        }
    }

    /// Gives a piece the next id, and lets it be found by its text; if it already has an id, that is the error.
    ///
    /// # Panics
    /// If there is no room left, or the text grows to 4 GiB: whoever fills it has checked both.
    pub(crate) fn push(&mut self, piece: &str) -> std::result::Result<(), u32> {
        let id = self.places.len() as u32;
        assert!(self.places.len() < self.special.len(), "room for all pieces was made");
        let place = self.append(piece).expect("less than 4 GiB of text");
        self.places.push(Some(place));
        let (text, places) = (&self.text, &self.places);
        let same = |other: u32| places[other as usize].is_some_and(|place| place.of(text) == piece);
        match self.ids.insert(piece, id, same) {
            Some(first) => Err(first),
            None => Ok(()),
        }
    }

    /// The id of a piece that was pushed.
    pub(crate) fn id(&self, piece: &str) -> Option<u32> {
        self.ids.find(piece, |id| self.piece(id) == Some(piece))
    }

    /// Every piece with its id, in the order of ids.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &str)> + Clone {
        (0..).zip(&self.places).filter_map(|(id, place)| Some((id, place.as_ref()?.of(&self.text))))
    }

    /// Makes room for `entries`, or refuses their ids.
    pub(crate) fn reserve<'a>(
        &mut self,
        entries: impl ExactSizeIterator<Item = (&'a str, u32)>,
        field: &str,
    ) -> Result<()> {
        let most = 2 * (self.places.len() + entries.len()) + SPARE;
        let (mut vocab, mut bytes) = (self.places.len(), 0);
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
            bytes += piece.len();
        }
        self.text.reserve_exact(bytes);
        self.places.resize(vocab, None);
        self.special.resize(vocab, false);
        Ok(())
    }

    /// Puts one piece in a place that `reserve` has made.
    pub(crate) fn insert(&mut self, piece: &str, id: u32, field: &str) -> Result<()> {
        match self.piece(id) {
            Some(other) if other == piece => Ok(()),
            Some(other) => Err(invalid(
                field,
                format!(
                    "expected one piece per id, found {:?} and {:?} with id {id}; give each its own id",
                    shorten(other),
                    shorten(piece)
                ),
            )),
            None => {
                let place = self.append(piece);
                self.places[id as usize] = Some(place.ok_or_else(|| {
                    invalid(
                        field,
                        "expected at most 4 GiB of pieces, found more; the file is not a real tokenizer",
                    )
                })?);
                Ok(())
            }
        }
    }

    /// Appends a piece to the text, if all its places still fit in 32 bits.
    fn append(&mut self, piece: &str) -> Option<Place> {
        let start = u32::try_from(self.text.len()).ok()?;
        let length = u32::try_from(piece.len()).ok()?.checked_add(1)?.try_into().ok()?;
        self.text.push_str(piece);
        Some(Place { start, length })
    }

    /// Marks an id as special.
    pub(crate) fn mark_special(&mut self, id: u32) {
        self.special[id as usize] = true;
    }

    /// The number of ids: the largest one and 1.
    pub(crate) fn vocab(&self) -> usize {
        self.places.len()
    }

    /// The piece of an id.
    pub(crate) fn piece(&self, id: u32) -> Option<&str> {
        Some((*self.places.get(id as usize)?)?.of(&self.text))
    }

    /// Whether an id is a special token.
    pub(crate) fn is_special(&self, id: u32) -> bool {
        self.special.get(id as usize).copied().unwrap_or(false)
    }
}
