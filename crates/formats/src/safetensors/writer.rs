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

use std::io::Write;
use std::path::Path;

use super::layout::Layout;
use crate::AtomicFile;
use crate::error::Result;
use crate::stream::{Plan, Stream};

/// A safetensors file being written: every declared tensor in order, whole or in pieces.
///
/// With a path, the file appears when [`Writer::finish`] succeeds; until then, and after an error
/// or a drop, the path has its old contents. After an error the writer accepts nothing more.
#[derive(Debug)]
pub struct Writer<'w>(Stream<'w>);

impl Writer<'static> {
    /// Begins the file at `path` and writes its header.
    ///
    /// # Errors
    /// The layout repeats or reserves a name, a shape is too large or has too many dimensions, a type
    /// stands in blocks, or the folder of `path` cannot be written to.
    pub fn create(path: impl AsRef<Path>, layout: &Layout) -> Result<Self> {
        let path = path.as_ref();
        // The layout first: no temporary for what cannot be written anyway.
        let header = layout.encode_header().map_err(|error| error.in_file(Some(path)))?;
        Stream::create(path, &plan(&header, layout)).map(Self)
    }
}

impl<'w> Writer<'w> {
    /// Begins a file in `sink`, for example a `Vec<u8>`, and writes its header there.
    ///
    /// # Errors
    /// As [`Writer::create`], or the sink fails.
    pub fn new(sink: &'w mut dyn Write, layout: &Layout) -> Result<Self> {
        Stream::new(sink, &plan(&layout.encode_header()?, layout)).map(Self)
    }

    /// Appends the next bytes of `tensor` exactly as they are: little-endian and row-major.
    ///
    /// Every tensor needs a call, an empty one with no bytes.
    ///
    /// # Errors
    /// `tensor` is not the next one declared, more bytes than its shape has, or writing fails.
    pub fn append_bytes(&mut self, tensor: &str, bytes: &[u8]) -> Result<()> {
        self.0.append_bytes(tensor, bytes)
    }

    /// Appends the next numbers of `tensor`, rounded to nearest even to its declared float type.
    ///
    /// # Errors
    /// As [`Writer::append_bytes`], the declared type is no plain float, or a finite number is too
    /// large for it.
    pub fn append_f32(&mut self, tensor: &str, values: &[f32]) -> Result<()> {
        self.0.append_f32(tensor, values)
    }

    /// As [`Writer::append_f32`], from `f64`, rounded once.
    ///
    /// # Errors
    /// As [`Writer::append_f32`].
    pub fn append_f64(&mut self, tensor: &str, values: &[f64]) -> Result<()> {
        self.0.append_f64(tensor, values)
    }

    /// Completes the file: for a path, syncs it and puts it in place.
    ///
    /// # Errors
    /// Not all declared numbers were appended, an earlier call failed, or the disk is full; the path
    /// then has its old contents.
    pub fn finish(self) -> Result<()> {
        self.0.finish()
    }

    /// As [`Writer::finish`] without putting it in place yet; `None` if there is no file.
    pub(super) fn into_synced_file(self) -> Result<Option<AtomicFile>> {
        self.0.into_synced_file()
    }

    /// Whether the data of every declared tensor has been appended.
    pub(super) fn is_complete(&self) -> bool {
        self.0.is_complete()
    }
}

fn plan<'a>(header: &'a [u8], layout: &'a Layout) -> Plan<'a> {
    Plan { header, tensors: &layout.tensors, align: 1 }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::stream::CHUNK;
    use crate::{Dtype, ErrorKind};

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
