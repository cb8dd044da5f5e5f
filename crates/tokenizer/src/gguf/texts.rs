//! Many short texts in one buffer.
//!
//! A vocabulary has a hundred thousand of them; one allocation for each costs several times what they hold.
//!
//! ```
//! use formwork_tokenizer::gguf::Texts;
//!
//! let mut texts: Texts = ["the", "cat"].into_iter().collect();
//! texts.push(b"\xff");                                    // files promise no UTF-8
//! assert_eq!((texts.len(), &texts[1], texts.get(3)), (3, &b"cat"[..], None));
//! assert_eq!(texts.iter().map(<[u8]>::len).sum::<usize>(), 7);
//! ```

use std::fmt;
use std::ops::Index;

/// A list of texts, which are bytes that should be UTF-8; it grows at its end.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Texts {
    bytes: Vec<u8>,
    /// Where each text ends.
    ends: Vec<usize>,
}

impl Texts {
    /// No texts yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// No texts yet, with room for `count` of them that have `bytes` bytes together.
    pub fn with_capacity(count: usize, bytes: usize) -> Self {
        Texts { bytes: Vec::with_capacity(bytes), ends: Vec::with_capacity(count) }
    }

    /// Adds a text at the end.
    pub fn push(&mut self, text: impl AsRef<[u8]>) {
        self.bytes.extend_from_slice(text.as_ref());
        self.ends.push(self.bytes.len());
    }

    /// How many texts there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The text at a place.
    pub fn get(&self, place: usize) -> Option<&[u8]> {
        let end = *self.ends.get(place)?;
        let start = if place == 0 { 0 } else { self.ends[place - 1] };
        Some(&self.bytes[start..end])
    }

    /// All texts, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> + Clone {
        (0..self.len()).map(|place| &self[place])
    }
}

/// The text at a place that there is.
impl Index<usize> for Texts {
    type Output = [u8];

    fn index(&self, place: usize) -> &[u8] {
        match self.get(place) {
            Some(text) => text,
            None => panic!("texts: expected a place below {}, found {place}", self.len()),
        }
    }
}

impl<T: AsRef<[u8]>> Extend<T> for Texts {
    fn extend<I: IntoIterator<Item = T>>(&mut self, texts: I) {
        texts.into_iter().for_each(|text| self.push(text));
    }
}

impl<T: AsRef<[u8]>> FromIterator<T> for Texts {
    fn from_iter<I: IntoIterator<Item = T>>(texts: I) -> Self {
        let mut list = Texts::new();
        list.extend(texts);
        list
    }
}

/// The texts as far as they are UTF-8.
impl fmt::Debug for Texts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(String::from_utf8_lossy)).finish()
    }
}
