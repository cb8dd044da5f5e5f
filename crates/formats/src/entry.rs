//! One named tensor of a file of either format: its type, its shape, and its bytes on demand.
//!
//! Shapes are row-major, outermost first, also where the file lists them the other way round, as
//! GGUF does.
//!
//! ```
//! use formwork_formats::{Archive, Bytes, Dtype, Layout, Writer};
//! let mut file = Vec::new();
//! let layout = Layout::new().tensor("w", Dtype::F16, &[2, 3]);
//! let mut writer = Writer::new(&mut file, &layout)?;
//! writer.append_f32("w", &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0])?;
//! writer.finish()?;
//! let archive = Archive::from_bytes(Bytes::from(file))?;
//! let w = archive.entry("w").expect("written above");
//! let mut second_row = [0.0; 3];
//! w.copy_range_into_f32(3, &mut second_row)?;
//! assert_eq!(second_row, [3.0, 4.0, 5.0]);
//! assert_eq!(w.rows(1..2)?.to_f32()?, second_row);
//! # Ok::<(), formwork_formats::Error>(())
//! ```

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use crate::convert::{self, Unfit};
use crate::error::{Error, Result};
use crate::{Bytes, Dtype, ErrorKind, F32View};

/// A named tensor in a weight file; cheap to clone, and it keeps its file's memory or map alive.
///
/// Its bytes always have the length that its type and shape ask for.
#[derive(Clone, Debug)]
pub struct Entry {
    pub(crate) name: Arc<str>,
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
    pub(crate) bytes: Bytes,
    pub(crate) file: Option<Arc<Path>>,
}

impl Entry {
    /// The name in the file.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The type of its numbers.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Its dimensions, outermost first; `[]` is a scalar.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// How many numbers it has: the product of the shape.
    pub fn elements(&self) -> usize {
        self.bytes.len() / self.dtype.block_bytes() * self.dtype.block()
    }

    /// Its numbers, row-major and little-endian, for block types block after block. They may begin
    /// at any address.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The part of the first axis in `range`, sharing memory and name: rows of a matrix, one of
    /// several tensors that were stacked into one.
    ///
    /// # Errors
    /// It is a scalar, the range reaches outside the first axis or is reversed, or it cuts a block.
    pub fn rows(&self, range: Range<usize>) -> Result<Self> {
        let Range { start, end } = range;
        let rows = self.shape.first().copied().unwrap_or(0);
        if start > end || end > rows || self.shape.is_empty() {
            return Err(self.error(ErrorKind::RowsPastEnd { start, end, rows }));
        }
        let (dtype, block) = (self.dtype, self.dtype.block());
        if self.shape.len() == 1 && !(start.is_multiple_of(block) && end.is_multiple_of(block)) {
            let found = if start.is_multiple_of(block) { end } else { start };
            return Err(self.error(ErrorKind::PartialBlock { dtype, found: found as u64, block }));
        }
        // In numbers and not in bytes of a row, which for a single axis of blocks is a fraction.
        let row = self.elements() / rows.max(1);
        let at = |row_index: usize| row_index * row / block * dtype.block_bytes();
        let bytes = self.bytes.slice(at(start)..at(end)).expect("rows lie inside");
        let mut shape = self.shape.clone();
        shape[0] = end - start;
        Ok(Self { name: self.name.clone(), dtype, shape, bytes, file: self.file.clone() })
    }

    /// The file it is in; `None` if that came from memory without a name.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// All numbers as `f32`: exact from `BF16`, `F16` and `F32`, rounded from `F64`.
    ///
    /// # Errors
    /// The type is no plain float (the `quant` crate decodes blocks), or an `F64` is finite and too large for `f32`.
    pub fn to_f32(&self) -> Result<Vec<f32>> {
        self.expect_float()?;
        let mut out = vec![0.0; self.elements()];
        self.copy_into_f32(&mut out)?;
        Ok(out)
    }

    /// All numbers as `f64`, exact from every float type.
    ///
    /// # Errors
    /// The type is no plain float; the `quant` crate decodes blocks.
    pub fn to_f64(&self) -> Result<Vec<f64>> {
        self.expect_float()?;
        let mut out = vec![0.0; self.elements()];
        self.copy_into_f64(&mut out)?;
        Ok(out)
    }

    /// All numbers as `i64`, from any integer type and from truth values as 0 and 1.
    ///
    /// # Errors
    /// The type is a float or one in blocks, or a `U64` is above `i64::MAX`.
    pub fn to_i64(&self) -> Result<Vec<i64>> {
        if self.dtype.is_float() || self.dtype.is_blocks() {
            return Err(self.error(ErrorKind::WrongDtype { dtype: self.dtype, wanted: "an integer type" }));
        }
        let words = self.bytes.chunks_exact(self.dtype.block_bytes()).enumerate();
        words
            .map(|(index, word)| {
                convert::read_i64(self.dtype, word).ok_or_else(|| {
                    // Only a word of eight bytes is ever refused.
                    let value = word.try_into().map_or(f64::NAN, |word| u64::from_le_bytes(word) as f64);
                    self.error(ErrorKind::OutOfRange { index: index as u64, value, target: "i64" })
                })
            })
            .collect()
    }

    /// As [`Entry::to_f32`], into memory that is already there, without a temporary.
    ///
    /// # Errors
    /// As [`Entry::to_f32`], and if `out` has not exactly as many numbers as the entry.
    pub fn copy_into_f32(&self, out: &mut [f32]) -> Result<()> {
        self.expect_len(out.len())?;
        self.copy_range_into_f32(0, out)
    }

    /// As [`Entry::to_f64`], into memory that is already there, without a temporary.
    ///
    /// # Errors
    /// As [`Entry::to_f64`], and if `out` has not exactly as many numbers as the entry.
    pub fn copy_into_f64(&self, out: &mut [f64]) -> Result<()> {
        self.expect_len(out.len())?;
        self.copy_range_into_f64(0, out)
    }

    /// Fills `out` with the numbers from index `first` on, counted row-major: rows of a matrix, one
    /// of several stacked tensors, a piece at a time.
    ///
    /// # Errors
    /// As [`Entry::to_f32`], and if `first + out.len()` is past the end.
    pub fn copy_range_into_f32(&self, first: usize, out: &mut [f32]) -> Result<()> {
        let bytes = self.float_range(first, out.len())?;
        convert::read_f32(self.dtype, bytes, out).map_err(|Unfit { index, value }| {
            self.error(ErrorKind::OutOfRange { index: (first + index) as u64, value, target: "f32" })
        })
    }

    /// As [`Entry::copy_range_into_f32`], to `f64`.
    ///
    /// # Errors
    /// As [`Entry::to_f64`], and if `first + out.len()` is past the end.
    pub fn copy_range_into_f64(&self, first: usize, out: &mut [f64]) -> Result<()> {
        convert::read_f64(self.dtype, self.float_range(first, out.len())?, out);
        Ok(())
    }

    /// The numbers in place, without a copy. `None` unless the type is `F32`, the host is
    /// little-endian and the bytes are aligned to 4; then [`Entry::copy_into_f32`] still serves.
    pub fn as_f32(&self) -> Option<F32View> {
        if self.dtype == Dtype::F32 { F32View::new(self.bytes.clone()) } else { None }
    }

    fn expect_float(&self) -> Result<()> {
        if self.dtype.is_float() {
            return Ok(());
        }
        Err(self.error(ErrorKind::WrongDtype { dtype: self.dtype, wanted: "a float type" }))
    }

    fn expect_len(&self, found: usize) -> Result<()> {
        let expected = self.elements();
        if found == expected { Ok(()) } else { Err(self.error(ErrorKind::WrongLength { expected, found })) }
    }

    fn float_range(&self, first: usize, count: usize) -> Result<&[u8]> {
        self.expect_float()?;
        let size = self.dtype.block_bytes();
        let range =
            first.checked_add(count).and_then(|end| Some(first.checked_mul(size)?..end.checked_mul(size)?));
        range
            .and_then(|range| self.bytes.get(range))
            .ok_or_else(|| self.error(ErrorKind::RangePastEnd { first, count, len: self.elements() }))
    }

    fn error(&self, kind: ErrorKind) -> Error {
        Error::from(kind).at(&self.name).in_file(self.file())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(dtype: Dtype, shape: &[usize], bytes: &[u8]) -> Entry {
        let bytes = Bytes::from(bytes.to_vec());
        assert_eq!(dtype.size_of(shape), Some(bytes.len()));
        Entry { name: "x".into(), dtype, shape: shape.to_vec(), bytes, file: None }
    }

    #[test]
    fn a_slice_of_another_length_is_refused() {
        let e = entry(Dtype::F32, &[3], &[0; 12]);
        for found in [0, 2, 4] {
            let error = e.copy_into_f32(&mut vec![0.0; found]).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::WrongLength { expected: 3, .. }), "{error}");
            let error = e.copy_into_f64(&mut vec![0.0; found]).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::WrongLength { expected: 3, .. }), "{error}");
        }
        assert_eq!(e.copy_into_f32(&mut [1.0; 3]).map_err(|e| e.to_string()), Ok(()));
    }

    #[test]
    fn a_range_past_the_end_is_refused() {
        let e = entry(Dtype::Bf16, &[5], &[0; 10]);
        for (first, count) in [(5, 1), (4, 2), (usize::MAX, 1), (usize::MAX / 2, 1)] {
            let error = e.copy_range_into_f32(first, &mut vec![0.0; count]).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::RangePastEnd { len: 5, .. }), "{error}");
        }
        e.copy_range_into_f32(5, &mut []).unwrap();
    }

    #[test]
    fn integers_are_no_floats_and_floats_no_integers() {
        let ints = entry(Dtype::I16, &[1], &[1, 0]);
        assert!(matches!(ints.to_f32().unwrap_err().kind(), ErrorKind::WrongDtype { .. }));
        assert!(matches!(ints.to_f64().unwrap_err().kind(), ErrorKind::WrongDtype { .. }));
        assert!(ints.as_f32().is_none());
        assert_eq!(ints.to_i64().unwrap(), [1]);
        let floats = entry(Dtype::F32, &[1], &[0; 4]);
        assert!(matches!(floats.to_i64().unwrap_err().kind(), ErrorKind::WrongDtype { .. }));
        let wide = entry(Dtype::U64, &[2], &[[1; 8], [0xff; 8]].concat());
        assert!(matches!(wide.to_i64().unwrap_err().kind(), ErrorKind::OutOfRange { index: 1, .. }));
    }

    #[test]
    fn a_number_too_large_for_f32_is_named_by_its_index() {
        let bytes: Vec<u8> = [1.0, 1e300, 2.0f64].iter().flat_map(|v| v.to_le_bytes()).collect();
        let e = entry(Dtype::F64, &[3], &bytes);
        let error = e.copy_range_into_f32(1, &mut [0.0; 2]).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::OutOfRange { index: 1, .. }), "{error}");
        assert_eq!(error.tensor(), Some("x"));
        assert_eq!(e.to_f64().unwrap(), [1.0, 1e300, 2.0]);
    }

    #[test]
    fn rows_share_the_bytes_of_the_whole() {
        let bytes: Vec<u8> = (0..60).collect();
        let e = entry(Dtype::U16, &[5, 2, 3], &bytes);
        let part = e.rows(1..4).unwrap();
        assert_eq!((part.shape(), part.elements(), part.name()), (&[3, 2, 3][..], 18, "x"));
        assert_eq!(part.bytes().as_ptr(), e.bytes()[12..].as_ptr());
        assert_eq!(part.rows(2..3).unwrap().bytes()[..], bytes[36..48]);
        assert_eq!(e.rows(5..5).unwrap().shape(), [0, 2, 3]);
        // No numbers at all, and yet rows to cut.
        let none = entry(Dtype::Q8_0, &[7, 0], &[]);
        assert_eq!(none.rows(2..5).unwrap().shape(), [3, 0]);
        let none = entry(Dtype::Q8_0, &[0, 32], &[]);
        assert_eq!(none.rows(0..0).unwrap().shape(), [0, 32]);
    }

    #[test]
    #[allow(clippy::reversed_empty_ranges, reason = "a reversed range is what is refused")]
    fn rows_outside_or_through_a_block_are_refused() {
        let e = entry(Dtype::F16, &[5, 2], &[0; 20]);
        for range in [0..6, 6..6, 4..3, usize::MAX..usize::MAX, 0..usize::MAX] {
            let error = e.rows(range.clone()).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::RowsPastEnd { rows: 5, .. }), "{range:?}: {error}");
        }
        assert!(entry(Dtype::F32, &[], &[0; 4]).rows(0..0).is_err(), "a scalar has no rows");
        let blocks = entry(Dtype::Q4_0, &[96], &(0..54).collect::<Vec<u8>>());
        assert_eq!(blocks.rows(32..96).unwrap().bytes()[..], (18..54).collect::<Vec<u8>>()[..]);
        for (range, at) in [(0..33, 33), (31..64, 31)] {
            let error = blocks.rows(range).unwrap_err();
            let expected =
                |k: &ErrorKind| matches!(k, ErrorKind::PartialBlock { found, block: 32, .. } if *found == at);
            assert!(expected(error.kind()), "{error}");
        }
    }

    #[test]
    fn numbers_in_blocks_are_for_the_quant_crate() {
        let e = entry(Dtype::Q4_1, &[2, 64], &[0; 80]);
        assert_eq!((e.elements(), e.rows(1..2).unwrap().bytes().len()), (128, 40));
        let errors = [e.to_f32().map(drop), e.to_f64().map(drop), e.to_i64().map(drop)];
        for error in errors.map(Result::unwrap_err) {
            assert!(matches!(error.kind(), ErrorKind::WrongDtype { dtype: Dtype::Q4_1, .. }), "{error}");
            assert!(error.to_string().contains("quant crate"), "{error}");
        }
        assert!(e.as_f32().is_none());
    }
}
