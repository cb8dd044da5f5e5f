//! What a file will hold, said before the first number is written.
//!
//! The header stands before the data, so names, types and shapes must be known first; the numbers
//! can then follow one tensor at a time, and the model is never held twice.
//!
//! ```
//! use formwork_formats::{Dtype, Layout};
//! let layout = Layout::new().tensor("a", Dtype::F32, &[7, 3]).tensor("b", Dtype::Bf16, &[5]);
//! assert_eq!(layout.data_bytes()?, 94);
//! assert_eq!(layout.split(90)?.len(), 2);
//! # Ok::<(), formwork_formats::Error>(())
//! ```

use std::collections::{BTreeMap, HashSet};

use serde::Serialize;

use super::{MAX_DIMS, MAX_HEADER, METADATA};
use crate::error::{Error, Result};
use crate::{Dtype, ErrorKind, TensorSpec};

/// Where the data begins: a multiple of this, so that a mapped file is aligned for any register.
const ALIGN: usize = 64;

/// The tensors of a file in the order of their data, and its string map.
///
/// The format knows no padding between tensors: after one whose bytes are no multiple of 4, an
/// `F32` is unaligned and has to be copied when it is read. [`Layout::widest_first`] avoids that.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// The tensors, in order.
    pub tensors: Vec<TensorSpec>,
    /// The string map of the header.
    pub metadata: BTreeMap<String, String>,
}

impl Layout {
    /// No tensors yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a tensor at the end.
    #[must_use]
    pub fn tensor(mut self, name: impl Into<String>, dtype: Dtype, shape: &[usize]) -> Self {
        self.tensors.push(TensorSpec { name: name.into(), dtype, shape: shape.to_vec() });
        self
    }

    /// Adds a line to the string map, for example `("format", "pt")`.
    #[must_use]
    pub fn note(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.metadata.insert(key.into(), value.into());
        self
    }

    /// Orders by the width of the type, widest first and otherwise as it was: then every tensor is
    /// aligned to its own type.
    #[must_use]
    pub fn widest_first(mut self) -> Self {
        self.tensors.sort_by_key(|tensor| std::cmp::Reverse(tensor.dtype.block_bytes()));
        self
    }

    /// Bytes of all numbers together, without the header.
    ///
    /// # Errors
    /// A shape or the sum does not fit the address space.
    pub fn data_bytes(&self) -> Result<u64> {
        Ok(self.slots()?.last().map_or(0, |slot| slot.end))
    }

    /// Cuts into layouts of at most `shard_bytes` bytes of numbers, in order, each with the whole
    /// string map. A tensor that is larger than that gets a shard of its own.
    ///
    /// # Errors
    /// A shape does not fit the address space.
    pub fn split(&self, shard_bytes: u64) -> Result<Vec<Self>> {
        let empty = || Self { tensors: Vec::new(), metadata: self.metadata.clone() };
        let mut shards = vec![empty()];
        let mut used = 0;
        for (tensor, slot) in self.tensors.iter().zip(self.slots()?) {
            let size = slot.end - slot.begin;
            let fits = used + size <= shard_bytes;
            if !fits && !shards.last().is_some_and(|shard| shard.tensors.is_empty()) {
                shards.push(empty());
                used = 0;
            }
            used += size;
            shards.last_mut().expect("begins with one and only grows").tensors.push(tensor.clone());
        }
        Ok(shards)
    }

    /// Where each tensor's data begins and ends.
    pub(super) fn slots(&self) -> Result<Vec<Slot>> {
        let mut end = 0u64;
        let mut slots = Vec::with_capacity(self.tensors.len());
        for tensor in &self.tensors {
            let sum = end.checked_add(tensor.bytes()?).ok_or_else(|| tensor.too_large())?;
            slots.push(Slot { begin: end, end: sum });
            end = sum;
        }
        Ok(slots)
    }

    /// Refuses what could not be read back.
    pub(super) fn check(&self) -> Result<()> {
        let mut seen = HashSet::new();
        for TensorSpec { name, shape, dtype } in &self.tensors {
            let kind = if name == METADATA {
                ErrorKind::ReservedName
            } else if shape.len() > MAX_DIMS {
                ErrorKind::TooManyDims { found: shape.len(), limit: MAX_DIMS }
            } else if dtype.is_blocks() {
                ErrorKind::WrongDtype { dtype: *dtype, wanted: "a type that safetensors knows" }
            } else if !seen.insert(name) {
                ErrorKind::DuplicateTensor
            } else {
                continue;
            };
            return Err(Error::from(kind).at(name));
        }
        Ok(())
    }

    /// The file up to its data: length, JSON, spaces.
    pub(super) fn encode_header(&self) -> Result<Vec<u8>> {
        self.check()?;
        let mut json = b"{".to_vec();
        if !self.metadata.is_empty() {
            push_member(&mut json, METADATA, &self.metadata);
        }
        for (tensor, slot) in self.tensors.iter().zip(self.slots()?) {
            let TensorSpec { name, dtype, shape } = tensor;
            let info = Info { dtype: dtype.name(), shape, data_offsets: [slot.begin, slot.end] };
            push_member(&mut json, name, &info);
        }
        json.push(b'}');
        json.resize((8 + json.len()).next_multiple_of(ALIGN) - 8, b' ');
        let found = json.len() as u64;
        if found > MAX_HEADER {
            return Err(ErrorKind::HeaderTooLarge { found, limit: MAX_HEADER }.into());
        }
        Ok([&found.to_le_bytes()[..], &json].concat())
    }
}

fn push_member(json: &mut Vec<u8>, key: &str, value: &impl Serialize) {
    if json.len() > 1 {
        json.push(b',');
    }
    // Neither a string nor a struct of strings and numbers can fail, nor can writing to memory.
    serde_json::to_writer(&mut *json, key).expect("a string is always JSON");
    json.push(b':');
    serde_json::to_writer(json, value).expect("strings and numbers are always JSON");
}

/// In bytes from the end of the header.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    pub(super) begin: u64,
    pub(super) end: u64,
}

#[derive(Serialize)]
struct Info<'a> {
    dtype: &'static str,
    shape: &'a [usize],
    data_offsets: [u64; 2],
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_data_begins_at_a_multiple_of_64() {
        for length in 0..130 {
            let layout = Layout::new().tensor("x".repeat(length), Dtype::U8, &[1]);
            let header = layout.encode_header().unwrap();
            assert_eq!(header.len() % 64, 0);
            assert_eq!(header[..8], (header.len() as u64 - 8).to_le_bytes());
        }
    }

    #[test]
    fn what_cannot_be_read_back_is_not_written() {
        fn check(layout: &Layout, expected: fn(&ErrorKind) -> bool) {
            let error = layout.encode_header().unwrap_err();
            assert!(expected(error.kind()), "{error}");
            assert_eq!(error.tensor(), Some(&*layout.tensors.last().unwrap().name));
        }
        let new = Layout::new;
        check(&new().tensor(METADATA, Dtype::U8, &[1]), |k| matches!(k, ErrorKind::ReservedName));
        for dtype in Dtype::ALL.into_iter().filter(|dtype| dtype.is_blocks()) {
            let blocks = new().tensor("x", dtype, &[dtype.block()]);
            check(&blocks, |k| matches!(k, ErrorKind::WrongDtype { .. }));
        }
        check(&new().tensor("x", Dtype::U8, &[1; 5]), |k| {
            matches!(k, ErrorKind::TooManyDims { found: 5, .. })
        });
        let twice = new().tensor("x", Dtype::U8, &[1]).tensor("x", Dtype::F32, &[2]);
        check(&twice, |k| matches!(k, ErrorKind::DuplicateTensor));
        let huge = new().tensor("x", Dtype::F16, &[usize::MAX, 2]);
        check(&huge, |k| matches!(k, ErrorKind::SizeOverflow { .. }));
        let sum = new().tensor("x", Dtype::U8, &[usize::MAX]).tensor("y", Dtype::U8, &[usize::MAX]);
        check(&sum, |k| matches!(k, ErrorKind::SizeOverflow { .. }));
    }

    #[test]
    fn shards_keep_order_and_limit() {
        let sizes = [3usize, 5, 2, 11, 1, 1, 0, 7];
        let layout = sizes
            .iter()
            .enumerate()
            .fold(Layout::new(), |layout, (i, &n)| layout.tensor(i.to_string(), Dtype::U8, &[n]));
        let shapes = |limit| -> Vec<Vec<usize>> {
            let shards = layout.split(limit).unwrap();
            shards.iter().map(|shard| shard.tensors.iter().map(|t| t.shape[0]).collect()).collect()
        };
        assert_eq!(shapes(8), [vec![3, 5], vec![2], vec![11], vec![1, 1, 0], vec![7]]);
        assert_eq!(shapes(30), [sizes.to_vec()]);
        assert_eq!(shapes(0).len(), 8, "each tensor its own");
        assert_eq!(Layout::new().split(8).unwrap().len(), 1);
    }

    #[test]
    fn widest_first_aligns_every_tensor() {
        let layout = Dtype::ALL
            .iter()
            .filter(|dtype| !dtype.is_blocks())
            .rev()
            .fold(Layout::new(), |layout, dtype| layout.tensor(dtype.name(), *dtype, &[3]));
        let layout = layout.widest_first();
        for (tensor, slot) in layout.tensors.iter().zip(layout.slots().unwrap()) {
            assert_eq!(slot.begin % tensor.dtype.block_bytes() as u64, 0, "{}", tensor.name);
        }
    }
}
