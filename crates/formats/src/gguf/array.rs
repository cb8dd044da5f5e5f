//! Arrays of the metadata, read where they stand in the file.
//!
//! The vocabularies of published models have a hundred thousand texts and more, so an array is kept
//! as its checked bytes and read by iterators.
//!
//! ```
//! use formwork_formats::gguf::{Array, Kind, Value};
//! let value = Value::from(vec![2i32, -3, 5]);
//! let array = value.as_array().expect("made as one");
//! assert_eq!((array.kind(), array.len()), (Kind::I32, 3));
//! assert_eq!(array.i64s().expect("integers").sum::<i64>(), 4);
//! assert!(array.strings().is_none());
//! ```

use std::fmt;

use super::value::{Kind, show};
use crate::error::Result;
use crate::{Bytes, Dtype, ErrorKind, convert};

/// Values of one kind, as they stand in the file; cheap to clone.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    kind: Kind,
    len: usize,
    /// Numbers one after the other; texts each with its length of 8 bytes in front.
    bytes: Bytes,
}

impl Array {
    /// `bytes` must hold exactly `len` numbers of `kind`, or texts with lengths that fit.
    pub(super) fn checked(kind: Kind, len: usize, bytes: Bytes) -> Self {
        Self { kind, len, bytes }
    }

    pub(super) fn numbers_of(kind: Kind, len: usize, bytes: Vec<u8>) -> Self {
        Self::checked(kind, len, bytes.into())
    }

    pub(super) fn strings_of<T: AsRef<[u8]>>(texts: impl IntoIterator<Item = T>) -> Self {
        let (mut len, mut bytes) = (0, Vec::new());
        for text in texts {
            let text = text.as_ref();
            bytes.extend((text.len() as u64).to_le_bytes());
            bytes.extend_from_slice(text);
            len += 1;
        }
        Self::checked(Kind::String, len, bytes.into())
    }

    /// The kind of its elements.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// How many elements it has.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The texts, if it is an array of those.
    pub fn strings(&self) -> Option<Strings<'_>> {
        (self.kind == Kind::String).then_some(Strings { left: self.len, bytes: &self.bytes })
    }

    /// The numbers of an array of `FLOAT32`.
    pub fn f32s(&self) -> Option<impl ExactSizeIterator<Item = f32> + '_> {
        let words = self.bytes.as_chunks().0;
        (self.kind == Kind::F32).then(|| words.iter().map(|&word| f32::from_le_bytes(word)))
    }

    /// The numbers of an array of `FLOAT32` or `FLOAT64`.
    pub fn f64s(&self) -> Option<impl ExactSizeIterator<Item = f64> + '_> {
        let dtype = self.kind.dtype().filter(|dtype| dtype.is_float())?;
        Some(self.bytes.chunks_exact(dtype.block_bytes()).map(move |word| {
            let mut out = [0.0];
            convert::read_f64(dtype, word, &mut out);
            out[0]
        }))
    }

    /// The numbers of an array of any integer kind; `None` also if a `UINT64` does not fit.
    pub fn i64s(&self) -> Option<impl ExactSizeIterator<Item = i64> + '_> {
        let dtype = self.kind.dtype().filter(|dtype| !dtype.is_float() && *dtype != Dtype::Bool)?;
        let words = || self.bytes.chunks_exact(dtype.block_bytes());
        if dtype == Dtype::U64 && words().any(|word| convert::read_i64(dtype, word).is_none()) {
            return None;
        }
        Some(words().map(move |word| convert::read_i64(dtype, word).expect("an integer that fits")))
    }

    /// The truth values of an array of `BOOL`.
    pub fn bools(&self) -> Option<impl ExactSizeIterator<Item = bool> + '_> {
        (self.kind == Kind::Bool).then(|| self.bytes.iter().map(|&byte| byte != 0))
    }

    /// Appends the array as it stands in a file, behind its kind.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend(self.kind.number().to_le_bytes());
        out.extend((self.len as u64).to_le_bytes());
        out.extend_from_slice(&self.bytes);
    }
}

/// The first few elements, and how many there are.
impl fmt::Display for Array {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 4;
        let mut place = 0;
        let mut separate = |f: &mut fmt::Formatter<'_>| {
            place += 1;
            f.write_str(if place == 1 { "" } else { ", " })
        };
        f.write_str("[")?;
        for text in self.strings().into_iter().flatten().take(SHOWN) {
            separate(f)?;
            show(text.bytes(), f)?;
        }
        for number in self.f64s().into_iter().flatten().take(SHOWN) {
            separate(f)?;
            write!(f, "{number}")?;
        }
        for yes in self.bools().into_iter().flatten().take(SHOWN) {
            separate(f)?;
            write!(f, "{yes}")?;
        }
        // Not by `i64s`, which looks through the whole array first and knows no large numbers.
        if let Some(dtype) = self.kind.dtype().filter(|dtype| !dtype.is_float() && *dtype != Dtype::Bool) {
            for word in self.bytes.chunks_exact(dtype.block_bytes()).take(SHOWN) {
                separate(f)?;
                match (convert::read_i64(dtype, word), word.try_into()) {
                    (Some(number), _) => write!(f, "{number}")?,
                    (None, Ok(word)) => write!(f, "{}", u64::from_le_bytes(word))?,
                    (None, Err(_)) => {}
                }
            }
        }
        if self.len > SHOWN { write!(f, ", .. {} in all]", self.len) } else { f.write_str("]") }
    }
}

/// A text of the metadata: bytes that should be UTF-8, and in vocabularies are not always.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Text<'a>(&'a [u8]);

impl<'a> Text<'a> {
    /// Its bytes, whatever they are.
    pub fn bytes(self) -> &'a [u8] {
        self.0
    }

    /// The text.
    ///
    /// # Errors
    /// It is not UTF-8.
    pub fn str(self) -> Result<&'a str> {
        std::str::from_utf8(self.0).map_err(|error| ErrorKind::NotText { at: error.valid_up_to() }.into())
    }
}

impl AsRef<[u8]> for Text<'_> {
    fn as_ref(&self) -> &[u8] {
        self.0
    }
}

impl<'a> From<&'a [u8]> for Text<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }
}

/// The texts of an [`Array`], in order.
#[derive(Clone, Debug)]
pub struct Strings<'a> {
    left: usize,
    bytes: &'a [u8],
}

impl<'a> Iterator for Strings<'a> {
    type Item = Text<'a>;

    fn next(&mut self) -> Option<Text<'a>> {
        let (length, rest) = self.bytes.split_first_chunk()?;
        let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
        let (text, rest) = rest.split_at_checked(length)?;
        self.bytes = rest;
        self.left = self.left.checked_sub(1)?;
        Some(Text(text))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Strings<'_> {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf::Value;

    #[test]
    fn texts_come_back_with_bytes_that_are_no_text() {
        let value = Value::strings([&b"a"[..], b"", b"\xff\xfe", "é".as_bytes()]);
        let array = value.as_array().unwrap();
        let texts = array.strings().unwrap();
        assert_eq!(texts.len(), 4);
        assert_eq!(
            texts.clone().map(Text::bytes).collect::<Vec<_>>(),
            [&b"a"[..], b"", b"\xff\xfe", &[0xc3, 0xa9]]
        );
        let errors: Vec<bool> = texts.map(|text| text.str().is_err()).collect();
        assert_eq!(errors, [false, false, true, false]);
    }

    #[test]
    fn numbers_are_read_by_family() {
        let array = |value: Value| value.as_array().unwrap().clone();
        assert_eq!(array(vec![200u8, 3].into()).i64s().unwrap().collect::<Vec<_>>(), [200, 3]);
        assert_eq!(array(vec![-2i16].into()).i64s().unwrap().collect::<Vec<_>>(), [-2]);
        assert_eq!(array(vec![7u64].into()).i64s().unwrap().collect::<Vec<_>>(), [7]);
        assert!(array(vec![7, u64::MAX].into()).i64s().is_none());
        assert!(array(vec![true].into()).i64s().is_none());
        assert_eq!(array(vec![true, false].into()).bools().unwrap().collect::<Vec<_>>(), [true, false]);
        let floats = array(vec![0.5f32, f32::INFINITY].into());
        assert_eq!(floats.f32s().unwrap().collect::<Vec<_>>(), [0.5, f32::INFINITY]);
        assert_eq!(floats.f64s().unwrap().collect::<Vec<_>>(), [0.5, f64::INFINITY]);
        let wide = array(vec![1e300f64].into());
        assert!(wide.f32s().is_none() && wide.i64s().is_none() && wide.strings().is_none());
        assert_eq!(wide.f64s().unwrap().collect::<Vec<_>>(), [1e300]);
    }

    #[test]
    fn an_array_is_shown_in_a_line() {
        let show = |value: Value| value.to_string();
        assert_eq!(show(vec![1u64, u64::MAX].into()), "[1, 18446744073709551615]");
        assert_eq!(show(vec![0i8; 9].into()), "[0, 0, 0, 0, .. 9 in all]");
        assert_eq!(show(Value::strings(["a", "b"])), "[\"a\", \"b\"]");
        assert_eq!(show(vec![true].into()), "[true]");
        assert_eq!(show(Value::strings::<&str>([])), "[]");
    }
}
