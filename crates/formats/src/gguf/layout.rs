//! What a GGUF file will hold, said before the first number is written.
//!
//! ```
//! use formwork_formats::Dtype;
//! use formwork_formats::gguf::Layout;
//! let layout = Layout::new()
//!     .set("general.architecture", "gpt2")
//!     .tensor("a", Dtype::F32, &[3])
//!     .tensor("b", Dtype::Q8_0, &[2, 64]);
//! assert_eq!(layout.data_bytes()?, 32 + 160); // twelve bytes and padding, 2 · 2 · 34 and padding
//! # Ok::<(), formwork_formats::Error>(())
//! ```

use std::collections::HashSet;

use super::metadata::Metadata;
use super::value::Value;
use super::{
    MAGIC, MAX_NAME, MAX_PAIRS, MAX_TENSORS, MAX_WRITTEN_NAME, VERSION, alignment, expect_whole, types,
};
use crate::error::{Error, Result};
use crate::{Dtype, ErrorKind, MAX_DIMS, TensorSpec};

/// The metadata of a file and its tensors, both in order.
///
/// What is written can be read back, here and by the reference implementation; so a writer refuses
/// empty and repeated names, tensor names of more than 63 bytes, more than 4 dimensions, rows that
/// are no whole number of blocks, types that GGUF does not have (unsigned integers, truth values), a
/// `general.alignment` that is no power of two up to 2²⁰, and a `split.count` above 1.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Layout {
    /// What the file says about its model. `general.alignment` is obeyed; without it, it is 32.
    pub metadata: Metadata,
    /// The tensors, in order.
    pub tensors: Vec<TensorSpec>,
}

impl Layout {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a value of the metadata, as [`Metadata::set`].
    #[must_use]
    pub fn set(mut self, key: impl AsRef<str>, value: impl Into<Value>) -> Self {
        self.metadata.set(key, value);
        self
    }

    /// Adds a tensor at the end.
    #[must_use]
    pub fn tensor(mut self, name: impl Into<String>, dtype: Dtype, shape: &[usize]) -> Self {
        self.tensors.push(TensorSpec { name: name.into(), dtype, shape: shape.to_vec() });
        self
    }

    /// Bytes of all numbers together with their padding, without what stands before them.
    ///
    /// # Errors
    /// A shape or the sum does not fit the address space, a row is no whole number of blocks, or the
    /// alignment is none.
    pub fn data_bytes(&self) -> Result<u64> {
        Ok(self.offsets(alignment(&self.metadata)?)?.1)
    }

    /// Where the data of each tensor begins, and where all of it ends.
    fn offsets(&self, alignment: u64) -> Result<(Vec<u64>, u64)> {
        let (mut offsets, mut end) = (Vec::with_capacity(self.tensors.len()), 0u64);
        for tensor in &self.tensors {
            offsets.push(end);
            let sum = end.checked_add(tensor.bytes()?);
            let sum = sum.and_then(|sum| sum.checked_next_multiple_of(alignment));
            end = sum.ok_or_else(|| tensor.too_large())?;
        }
        Ok((offsets, end))
    }

    /// Refuses what could not be read back.
    fn check(&self) -> Result<()> {
        for (what, found, limit) in [
            ("metadata values", self.metadata.len() as u64, MAX_PAIRS),
            ("tensors", self.tensors.len() as u64, MAX_TENSORS),
        ] {
            if found > limit {
                return Err(ErrorKind::TooMany { what, found, limit }.into());
            }
        }
        for (key, _) in self.metadata.iter() {
            expect_name(key, MAX_NAME).map_err(|error| error.at_key(key))?;
        }
        expect_whole(&self.metadata)?;
        let mut seen = HashSet::new();
        for TensorSpec { name, dtype, shape } in &self.tensors {
            let kind = if shape.len() > MAX_DIMS {
                ErrorKind::TooManyDims { found: shape.len(), limit: MAX_DIMS }
            } else if types::number(*dtype).is_none() {
                ErrorKind::WrongDtype { dtype: *dtype, wanted: "a type that GGUF knows" }
            } else if !seen.insert(name) {
                ErrorKind::DuplicateTensor
            } else {
                expect_name(name, MAX_WRITTEN_NAME).map_err(|error| error.at(name))?;
                continue;
            };
            return Err(Error::from(kind).at(name));
        }
        Ok(())
    }

    /// The file up to its data, and the alignment.
    pub(super) fn encode_header(&self) -> Result<(Vec<u8>, u64)> {
        self.check()?;
        let alignment = alignment(&self.metadata)?;
        let (offsets, _) = self.offsets(alignment)?;
        let mut out = MAGIC.to_vec();
        out.extend(VERSION.to_le_bytes());
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.metadata.len() as u64).to_le_bytes());
        for (key, value) in self.metadata.iter() {
            push_text(key, &mut out);
            out.extend(value.kind().number().to_le_bytes());
            value.encode(&mut out);
        }
        for (TensorSpec { name, dtype, shape }, offset) in self.tensors.iter().zip(offsets) {
            push_text(name, &mut out);
            out.extend((shape.len() as u32).to_le_bytes());
            // Innermost first.
            out.extend(shape.iter().rev().flat_map(|&n| (n as u64).to_le_bytes()));
            out.extend(types::number(*dtype).expect("checked above").to_le_bytes());
            out.extend(offset.to_le_bytes());
        }
        if !self.tensors.is_empty() {
            out.resize(out.len().next_multiple_of(alignment as usize), 0);
        }
        Ok((out, alignment))
    }
}

fn expect_name(name: &str, limit: u64) -> Result<()> {
    match name.len() as u64 {
        found if found == 0 || found > limit => Err(ErrorKind::NameLength { found, limit }.into()),
        _ => Ok(()),
    }
}

fn push_text(text: &str, out: &mut Vec<u8>) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_back_is_not_written() {
        fn check(layout: &Layout, place: &str, expected: fn(&ErrorKind) -> bool) {
            let error = layout.encode_header().unwrap_err();
            assert!(expected(error.kind()), "{error}");
            assert_eq!(error.tensor().or(error.key()), Some(place), "{error}");
        }
        let new = Layout::new;
        let name = |k: &ErrorKind| matches!(k, ErrorKind::NameLength { .. });
        check(&new().tensor("", Dtype::F32, &[1]), "", name);
        check(&new().tensor("n".repeat(64), Dtype::F32, &[1]), &"n".repeat(64), name);
        check(&new().set("", 1u8), "", name);
        check(&new().set("k".repeat(65_536), 1u8), &"k".repeat(65_536), name);
        check(&new().tensor("x", Dtype::F32, &[1; 5]), "x", |k| matches!(k, ErrorKind::TooManyDims { .. }));
        check(&new().tensor("x", Dtype::U8, &[1]), "x", |k| matches!(k, ErrorKind::WrongDtype { .. }));
        let twice = new().tensor("x", Dtype::I8, &[1]).tensor("x", Dtype::F32, &[2]);
        check(&twice, "x", |k| matches!(k, ErrorKind::DuplicateTensor));
        let partial = new().tensor("x", Dtype::Q4_K, &[256, 128]);
        check(&partial, "x", |k| matches!(k, ErrorKind::PartialBlock { found: 128, .. }));
        let huge = new().tensor("x", Dtype::F16, &[usize::MAX, 2]);
        check(&huge, "x", |k| matches!(k, ErrorKind::SizeOverflow { .. }));
        let sum = new().tensor("x", Dtype::I8, &[usize::MAX]);
        check(&sum, "x", |k| matches!(k, ErrorKind::SizeOverflow { .. }));
        for found in [0u32, 3, 48, 1 << 21] {
            check(&new().set("general.alignment", found), "general.alignment", |k| {
                matches!(k, ErrorKind::BadAlignment { .. })
            });
        }
        check(&new().set("general.alignment", "32"), "general.alignment", |k| {
            matches!(k, ErrorKind::WrongValue { .. })
        });
        check(&new().set("split.count", 2u16), "split.count", |k| matches!(k, ErrorKind::Split { parts: 2 }));
    }

    #[test]
    fn the_data_begins_at_the_alignment() {
        for length in 1..60 {
            for alignment in [1u32, 8, 64, 4096] {
                let layout = Layout::new().set("general.alignment", alignment);
                let layout = layout.tensor("x".repeat(length), Dtype::I8, &[1]);
                let (header, found) = layout.encode_header().unwrap();
                assert_eq!((header.len() as u64 % found, found), (0, u64::from(alignment)));
            }
        }
    }
}
