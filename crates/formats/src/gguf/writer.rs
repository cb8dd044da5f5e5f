//! Writing a GGUF file, one tensor after the other.
//!
//! ```
//! use formwork_formats::gguf::{Gguf, Layout, Value, Writer};
//! use formwork_formats::{Dtype, ErrorKind};
//! let folder = tempfile::tempdir().expect("a place to write");
//! let path = folder.path().join("model.gguf");
//! let layout = Layout::new()
//!     .set("general.architecture", "llama")
//!     .set("llama.block_count", 3u32)
//!     .tensor("w", Dtype::F16, &[2, 3])
//!     .tensor("q", Dtype::Q8_0, &[1, 32]);
//! let mut writer = Writer::create(&path, &layout)?;
//! writer.append_f32("w", &[1.0, 2.0, 3.0])?; // a tensor may come in pieces
//! writer.append_f32("w", &[4.0, 5.0, 6.0])?;
//! writer.append_bytes("q", &[7; 34])?; // blocks, as they are
//! writer.finish()?;
//! let file = Gguf::open(&path)?;
//! assert_eq!(file.metadata().u64("llama.block_count")?, Some(3));
//! assert_eq!(file.entry("w").expect("written above").to_f32()?[5], 6.0);
//! assert_eq!(file.entry("q").expect("written above").bytes()[..], [7; 34]);
//! # Ok::<(), formwork_formats::Error>(())
//! ```

use std::io::Write;
use std::path::Path;

use super::layout::Layout;
use crate::error::Result;
use crate::stream::{Plan, Stream};

/// A GGUF file being written: every declared tensor in order, whole or in pieces.
///
/// With a path, the file appears when [`Writer::finish`] succeeds; until then, and after an error
/// or a drop, the path has its old contents. After an error the writer accepts nothing more.
#[derive(Debug)]
pub struct Writer<'w>(Stream<'w>);

impl Writer<'static> {
    /// Begins the file at `path` and writes its metadata and the places of its tensors.
    ///
    /// # Errors
    /// The layout holds what could not be read back: see [`Layout`]; or the folder of `path` cannot
    /// be written to.
    pub fn create(path: impl AsRef<Path>, layout: &Layout) -> Result<Self> {
        let path = path.as_ref();
        // The layout first: no temporary for what cannot be written anyway.
        let (header, align) = layout.encode_header().map_err(|error| error.in_file(Some(path)))?;
        Stream::create(path, &Plan { header: &header, tensors: &layout.tensors, align }).map(Self)
    }
}

impl<'w> Writer<'w> {
    /// Begins a file in `sink`, for example a `Vec<u8>`, and writes its header there.
    ///
    /// # Errors
    /// As [`Writer::create`], or the sink fails.
    pub fn new(sink: &'w mut dyn Write, layout: &Layout) -> Result<Self> {
        let (header, align) = layout.encode_header()?;
        Stream::new(sink, &Plan { header: &header, tensors: &layout.tensors, align }).map(Self)
    }

    /// Appends the next bytes of `tensor` exactly as they are: little-endian and row-major, for block
    /// types block after block.
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
}
