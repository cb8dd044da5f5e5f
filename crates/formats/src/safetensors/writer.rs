//! Writing one file, one tensor after the other.
//!
//! ```
//! use formwork_formats::{Dtype, Layout, SafeTensors, Writer};
//! let folder = tempfile::tempdir().expect("a place to write");
//! let path = folder.path().join("model.safetensors");
//! let layout = Layout::new().tensor("w", Dtype::F32, &[2, 2]);
//! let mut writer = Writer::create(&path, &layout)?;
//! writer.append_f32("w", &[1.0, 2.0])?; // a tensor may come in pieces
//! writer.append_f32("w", &[3.0, 4.0])?;
//! writer.finish()?;
//! let file = SafeTensors::open(&path)?;
//! assert_eq!(file.entry("w").expect("written above").to_f32()?, [1.0, 2.0, 3.0, 4.0]);
//! # Ok::<(), formwork_formats::Error>(())
//! ```

use std::fmt;
use std::io::Write;
use std::path::Path;

use super::layout::{Layout, TensorSpec};
use crate::convert::{self, Unfit};
use crate::error::{Error, Result};
use crate::{AtomicFile, Dtype, ErrorKind};

/// How many numbers are converted before they are written.
const CHUNK: usize = 1 << 15;

/// A safetensors file being written: every declared tensor in order, whole or in pieces.
///
/// With a path, the file appears when [`Writer::finish`] succeeds; until then, and after an error
/// or a drop, the path has its old contents. After an error the writer accepts nothing more.
pub struct Writer<'w> {
    sink: Sink<'w>,
    tensors: Vec<TensorSpec>,
    /// The tensor that is being written, and how many of its bytes are.
    next: usize,
    written: u64,
    chunk: Vec<u8>,
    failed: bool,
}

/// Appends numbers in the given type to a chunk.
type Encode<T> = fn(Dtype, &[T], &mut Vec<u8>) -> std::result::Result<(), Unfit>;

enum Sink<'w> {
    File(AtomicFile),
    Borrowed(&'w mut dyn Write),
}

impl Writer<'static> {
    /// Begins the file at `path` and writes its header.
    ///
    /// # Errors
    /// The layout repeats or reserves a name, a shape is too large or has too many dimensions, or the
    /// folder of `path` cannot be written to.
    pub fn create(path: impl AsRef<Path>, layout: &Layout) -> Result<Self> {
        let path = path.as_ref();
        // The layout first: no temporary for what cannot be written anyway.
        let header = layout.encode_header().map_err(|error| error.in_file(Some(path)))?;
        Self::start(Sink::File(AtomicFile::create(path)?), layout, &header)
    }
}

impl<'w> Writer<'w> {
    /// Begins a file in `sink`, for example a `Vec<u8>`, and writes its header there.
    ///
    /// # Errors
    /// As [`Writer::create`], or the sink fails.
    pub fn new(sink: &'w mut dyn Write, layout: &Layout) -> Result<Self> {
        Self::start(Sink::Borrowed(sink), layout, &layout.encode_header()?)
    }

    fn start(sink: Sink<'w>, layout: &Layout, header: &[u8]) -> Result<Self> {
        let tensors = layout.tensors.clone();
        let mut writer = Self { sink, tensors, next: 0, written: 0, chunk: Vec::new(), failed: false };
        writer.send(header)?;
        Ok(writer)
    }

    /// Appends the next bytes of `tensor`, little-endian and row-major, of any type.
    ///
    /// Every tensor needs a call, an empty one with no bytes.
    ///
    /// # Errors
    /// `tensor` is not the next one declared, more bytes than its shape has, or writing fails.
    pub fn append_bytes(&mut self, tensor: &str, bytes: &[u8]) -> Result<()> {
        self.guarded(tensor, |writer| {
            writer.expect_room(tensor, bytes.len(), 1)?;
            writer.send(bytes)?;
            writer.advance(bytes.len() as u64);
            Ok(())
        })
    }

    /// Appends the next numbers of `tensor`, rounded to nearest even to its declared float type.
    ///
    /// # Errors
    /// As [`Writer::append_bytes`], the declared type is no float, or a finite number is too large
    /// for it.
    pub fn append_f32(&mut self, tensor: &str, values: &[f32]) -> Result<()> {
        self.append_floats(tensor, values, convert::write_f32)
    }

    /// As [`Writer::append_f32`], from `f64`, rounded once.
    ///
    /// # Errors
    /// As [`Writer::append_f32`].
    pub fn append_f64(&mut self, tensor: &str, values: &[f64]) -> Result<()> {
        self.append_floats(tensor, values, convert::write_f64)
    }

    /// Completes the file: for a path, syncs it and puts it in place.
    ///
    /// # Errors
    /// Not all declared numbers were appended, an earlier call failed, or the disk is full; the path
    /// then has its old contents.
    pub fn finish(mut self) -> Result<()> {
        self.expect_complete()?;
        match self.sink {
            Sink::File(file) => file.commit(),
            Sink::Borrowed(sink) => sink.flush().map_err(|source| Error::io("write the last bytes", source)),
        }
    }

    /// As [`Writer::finish`] without putting it in place yet; `None` if there is no file.
    pub(super) fn into_synced_file(mut self) -> Result<Option<AtomicFile>> {
        self.expect_complete()?;
        match self.sink {
            Sink::File(mut file) => file.sync().map(|()| Some(file)),
            Sink::Borrowed(_) => Ok(None),
        }
    }

    /// Whether the data of every declared tensor has been appended.
    pub(super) fn is_complete(&self) -> bool {
        self.next == self.tensors.len()
    }

    fn append_floats<T>(&mut self, tensor: &str, values: &[T], encode: Encode<T>) -> Result<()> {
        self.guarded(tensor, |writer| {
            let dtype = writer.expect_next(tensor)?.dtype;
            if !dtype.is_float() {
                return Err(ErrorKind::WrongDtype { dtype, wanted: "a float type" }.into());
            }
            let size = dtype.bytes();
            writer.expect_room(tensor, values.len(), size)?;
            let before = writer.written / size as u64;
            let mut chunk = std::mem::take(&mut writer.chunk);
            for (i, values) in values.chunks(CHUNK).enumerate() {
                chunk.clear();
                encode(dtype, values, &mut chunk).map_err(|Unfit { index, value }| {
                    let index = before + (i * CHUNK + index) as u64;
                    ErrorKind::OutOfRange { index, value, target: dtype.name() }
                })?;
                writer.send(&chunk)?;
            }
            writer.chunk = chunk;
            writer.advance((values.len() * size) as u64);
            Ok(())
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

    fn advance(&mut self, bytes: u64) {
        self.written += bytes;
        if self.tensors.get(self.next).is_some_and(|tensor| bytes_of(tensor) == self.written) {
            self.next += 1;
            self.written = 0;
        }
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
    tensor.dtype.size_of(&tensor.shape).expect("checked with the header") as u64
}

impl fmt::Debug for Writer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer")
            .field("target", &self.target())
            .field("next", &self.tensors.get(self.next))
            .field("written", &self.written)
            .field("failed", &self.failed)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    fn layout() -> Layout {
        Layout::new().tensor("a", Dtype::F32, &[3]).tensor("none", Dtype::F32, &[0, 5]).tensor(
            "b",
            Dtype::U8,
            &[2],
        )
    }

    #[test]
    fn data_comes_in_declared_order_and_amount() {
        type Step = fn(&mut Writer<'_>) -> Result<()>;
        fn check(steps: &[Step], last: Step, expected: fn(&ErrorKind) -> bool) {
            let mut out = Vec::new();
            let mut writer = Writer::new(&mut out, &layout()).unwrap();
            steps.iter().for_each(|step| step(&mut writer).unwrap());
            let error = last(&mut writer).unwrap_err();
            assert!(expected(error.kind()), "{error}");
            // Nothing may follow, not even what would have been right.
            let error = writer.append_f32("a", &[]).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Unfinished { declared: 14, .. }), "{error}");
            assert!(matches!(writer.finish().unwrap_err().kind(), ErrorKind::Unfinished { .. }));
        }
        let (a, none, b): (Step, Step, Step) = (
            |w| w.append_f64("a", &[1.0; 3]),
            |w| w.append_f32("none", &[]),
            |w| w.append_bytes("b", &[5, 7]),
        );
        check(&[], b, |k| matches!(k, ErrorKind::OutOfOrder { expected: Some(name) } if name == "a"));
        check(&[a], b, |k| matches!(k, ErrorKind::OutOfOrder { expected: Some(name) } if name == "none"));
        check(&[a, none, b], b, |k| matches!(k, ErrorKind::OutOfOrder { expected: None }));
        check(
            &[],
            |w| w.append_f32("a", &[1.0; 4]),
            |k| matches!(k, ErrorKind::TooMuchData { declared: 12, found: 16 }),
        );
        check(
            &[|w| w.append_bytes("a", &[0; 5])],
            |w| w.append_f32("a", &[0.0; 2]),
            |k| matches!(k, ErrorKind::TooMuchData { declared: 12, found: 13 }),
        );
        check(&[a, none], |w| w.append_f32("b", &[1.0]), |k| matches!(k, ErrorKind::WrongDtype { .. }));
    }

    #[test]
    fn an_unfinished_file_is_named_with_its_next_tensor() {
        let mut out = Vec::new();
        let mut writer = Writer::new(&mut out, &layout()).unwrap();
        writer.append_f32("a", &[1.0, 2.0]).unwrap();
        let error = writer.finish().unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Unfinished { declared: 14, found: 8 }), "{error}");
        assert_eq!(error.tensor(), Some("a"));
    }

    #[test]
    fn a_number_too_large_is_named_by_its_index_in_the_tensor() {
        let mut out = Vec::new();
        let layout = Layout::new().tensor("h", Dtype::F16, &[2 * CHUNK]);
        let mut writer = Writer::new(&mut out, &layout).unwrap();
        let mut values = vec![1.0; CHUNK + 11];
        values[CHUNK + 7] = 65536.0;
        writer.append_f32("h", &values[..5]).unwrap();
        let error = writer.append_f32("h", &values).unwrap_err();
        let expected = CHUNK as u64 + 12;
        assert!(matches!(error.kind(), ErrorKind::OutOfRange { index, .. } if *index == expected), "{error}");
    }

    #[test]
    fn a_full_disk_says_so_and_stops_the_writer() {
        struct Full(usize);
        impl Write for Full {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                if self.0 == 0 {
                    return Err(io::ErrorKind::StorageFull.into());
                }
                let taken = bytes.len().min(self.0);
                self.0 -= taken;
                Ok(taken)
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let header = layout().encode_header().unwrap().len();
        assert!(Writer::new(&mut Full(header - 1), &layout()).is_err());
        let mut sink = Full(header + 11);
        let mut writer = Writer::new(&mut sink, &layout()).unwrap();
        let error = writer.append_f32("a", &[1.0; 3]).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Io { .. }), "{error}");
        assert!(error.to_string().contains("free disk space"), "{error}");
        assert!(writer.finish().is_err());
    }
}
