//! The data of a file being written: declared tensors in order, whole or in pieces.
//!
//! Both formats write a header first and then the numbers, so what they share stands here: the order
//! and the amounts are checked, numbers are converted, gaps are filled up to an alignment, and a
//! path gets its new contents only when all of them are there.
//!
//! ```
//! use formwork_formats::{Dtype, ErrorKind, Layout, Writer};
//! let mut file = Vec::new();
//! let mut writer = Writer::new(&mut file, &Layout::new().tensor("w", Dtype::F32, &[3]))?;
//! writer.append_f32("w", &[1.0, 2.0])?;
//! let error = writer.finish().unwrap_err();
//! assert!(matches!(error.kind(), ErrorKind::Unfinished { declared: 12, found: 8 }));
//! # Ok::<(), formwork_formats::Error>(())
//! ```

use std::fmt;
use std::io::Write;
use std::path::Path;

use crate::convert::{self, Unfit};
use crate::error::{Error, Result};
use crate::{AtomicFile, Dtype, ErrorKind, TensorSpec};

/// How many numbers are converted before they are written.
pub(crate) const CHUNK: usize = 1 << 15;

/// The data of a file, behind a header that is already encoded.
///
/// With a path, the file appears when [`Stream::finish`] succeeds; until then, and after an error
/// or a drop, the path has its old contents. After an error the stream accepts nothing more.
pub(crate) struct Stream<'w> {
    sink: Sink<'w>,
    tensors: Vec<TensorSpec>,
    /// Each tensor is followed by zeros up to a multiple of this; 1 for none.
    align: u64,
    /// The tensor that is being written, and how many of its bytes are.
    next: usize,
    written: u64,
    chunk: Vec<u8>,
    failed: bool,
}

/// Appends numbers in the given type to a chunk.
type Encode<T> = fn(Dtype, &[T], &mut Vec<u8>) -> std::result::Result<(), Unfit>;

pub(crate) enum Sink<'w> {
    File(AtomicFile),
    Borrowed(&'w mut dyn Write),
}

/// What stands before the data, and what the data will be. The sizes of the tensors are checked.
pub(crate) struct Plan<'a> {
    pub(crate) header: &'a [u8],
    pub(crate) tensors: &'a [TensorSpec],
    pub(crate) align: u64,
}

impl Stream<'static> {
    /// Begins the file at `path` and writes its header.
    pub(crate) fn create(path: &Path, plan: &Plan<'_>) -> Result<Self> {
        Self::start(Sink::File(AtomicFile::create(path)?), plan)
    }
}

impl<'w> Stream<'w> {
    /// Begins a file in `sink` and writes its header there.
    pub(crate) fn new(sink: &'w mut dyn Write, plan: &Plan<'_>) -> Result<Self> {
        Self::start(Sink::Borrowed(sink), plan)
    }

    fn start(sink: Sink<'w>, plan: &Plan<'_>) -> Result<Self> {
        let (tensors, align) = (plan.tensors.to_vec(), plan.align);
        let mut stream = Self { sink, tensors, align, next: 0, written: 0, chunk: Vec::new(), failed: false };
        stream.send(plan.header)?;
        Ok(stream)
    }

    /// Appends the next bytes of `tensor`, of any type.
    pub(crate) fn append_bytes(&mut self, tensor: &str, bytes: &[u8]) -> Result<()> {
        self.guarded(tensor, |stream| {
            stream.expect_room(tensor, bytes.len(), 1)?;
            stream.send(bytes)?;
            stream.advance(bytes.len() as u64)
        })
    }

    /// Appends the next numbers of `tensor`, rounded to nearest even to its declared float type.
    pub(crate) fn append_f32(&mut self, tensor: &str, values: &[f32]) -> Result<()> {
        self.append_floats(tensor, values, convert::write_f32)
    }

    /// As [`Stream::append_f32`], from `f64`, rounded once.
    pub(crate) fn append_f64(&mut self, tensor: &str, values: &[f64]) -> Result<()> {
        self.append_floats(tensor, values, convert::write_f64)
    }

    /// Completes the file: for a path, syncs it and puts it in place.
    pub(crate) fn finish(mut self) -> Result<()> {
        self.expect_complete()?;
        match self.sink {
            Sink::File(file) => file.commit(),
            Sink::Borrowed(sink) => sink.flush().map_err(|source| Error::io("write the last bytes", source)),
        }
    }

    /// As [`Stream::finish`] without putting it in place yet; `None` if there is no file.
    pub(crate) fn into_synced_file(mut self) -> Result<Option<AtomicFile>> {
        self.expect_complete()?;
        match self.sink {
            Sink::File(mut file) => file.sync().map(|()| Some(file)),
            Sink::Borrowed(_) => Ok(None),
        }
    }

    /// Whether the data of every declared tensor has been appended.
    pub(crate) fn is_complete(&self) -> bool {
        self.next == self.tensors.len()
    }

    fn append_floats<T>(&mut self, tensor: &str, values: &[T], encode: Encode<T>) -> Result<()> {
        self.guarded(tensor, |stream| {
            let dtype = stream.expect_next(tensor)?.dtype;
            if !dtype.is_float() {
                return Err(ErrorKind::WrongDtype { dtype, wanted: "a float type" }.into());
            }
            let size = dtype.block_bytes();
            stream.expect_room(tensor, values.len(), size)?;
            let before = stream.written / size as u64;
            let mut chunk = std::mem::take(&mut stream.chunk);
            for (i, values) in values.chunks(CHUNK).enumerate() {
                chunk.clear();
                encode(dtype, values, &mut chunk).map_err(|Unfit { index, value }| {
                    let index = before + (i * CHUNK + index) as u64;
                    ErrorKind::OutOfRange { index, value, target: dtype.name() }
                })?;
                stream.send(&chunk)?;
            }
            stream.chunk = chunk;
            stream.advance((values.len() * size) as u64)
        })
    }

    /// Runs one append; after a failure the file's state is unknown and nothing may follow.
    fn guarded(&mut self, tensor: &str, append: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        if self.failed {
            return self.expect_complete().map_err(|error| error.at(tensor));
        }
        let appended = append(self);
        self.failed = appended.is_err();
        appended.map_err(|error| error.at(tensor).in_file(self.target()))
    }

    fn expect_next(&self, tensor: &str) -> Result<&TensorSpec> {
        match self.tensors.get(self.next) {
            Some(next) if next.name == tensor => Ok(next),
            next => Err(ErrorKind::OutOfOrder { expected: next.map(|next| next.name.clone()) }.into()),
        }
    }

    fn expect_room(&self, tensor: &str, count: usize, size: usize) -> Result<()> {
        let declared = bytes_of(self.expect_next(tensor)?);
        let found = (count as u64).saturating_mul(size as u64).saturating_add(self.written);
        if found <= declared { Ok(()) } else { Err(ErrorKind::TooMuchData { declared, found }.into()) }
    }

    /// Counts `bytes` that were sent; behind a complete tensor, fills up to the alignment.
    fn advance(&mut self, bytes: u64) -> Result<()> {
        self.written += bytes;
        if self.tensors.get(self.next).is_some_and(|tensor| bytes_of(tensor) == self.written) {
            let mut gap = self.written.next_multiple_of(self.align) - self.written;
            while gap > 0 {
                let zeros = [0; 4096];
                let piece = gap.min(zeros.len() as u64);
                self.send(&zeros[..piece as usize])?;
                gap -= piece;
            }
            self.next += 1;
            self.written = 0;
        }
        Ok(())
    }

    fn send(&mut self, bytes: &[u8]) -> Result<()> {
        let sent = match &mut self.sink {
            Sink::File(file) => file.write_all(bytes),
            Sink::Borrowed(sink) => sink.write_all(bytes),
        };
        sent.map_err(|source| Error::io("write the file", source).in_file(self.target()))
    }

    fn expect_complete(&mut self) -> Result<()> {
        if !self.failed && self.is_complete() {
            return Ok(());
        }
        let declared = self.tensors.iter().map(bytes_of).sum();
        let found = self.tensors[..self.next].iter().map(bytes_of).sum::<u64>() + self.written;
        let error = Error::from(ErrorKind::Unfinished { declared, found }).in_file(self.target());
        Err(match self.tensors.get(self.next) {
            Some(next) => error.at(&next.name),
            None => error,
        })
    }

    fn target(&self) -> Option<&Path> {
        match &self.sink {
            Sink::File(file) => Some(file.target()),
            Sink::Borrowed(_) => None,
        }
    }
}

fn bytes_of(tensor: &TensorSpec) -> u64 {
    tensor.bytes().expect("checked with the header")
}

impl fmt::Debug for Stream<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream")
            .field("target", &self.target())
            .field("next", &self.tensors.get(self.next))
            .field("written", &self.written)
            .field("failed", &self.failed)
            .finish_non_exhaustive()
    }
}
