//! The GGUF format: metadata, the places of the tensors, the numbers, in one file.
//!
//! ```text
//! "GGUF"                   4 bytes
//! version                  u32: 2 or 3
//! tensors, pairs           u64 each
//! pairs times              key: text, kind: u32, value
//! tensors times            name: text, n: u32, n dimensions: u64 each, innermost first,
//!                          type: u32, offset: u64
//! padding                  to the alignment: the key general.alignment, else 32
//! the numbers              of each tensor at its offset, padded to the alignment
//! ```
//!
//! All is little-endian; a text is a length of 8 bytes and its bytes, an array is a kind, a count
//! of 8 bytes and its elements. Offsets count from the end of the padding. Source:
//! <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.
//!
//! Stricter than the description: no arrays in arrays, no name twice, no gap that is not padding, and
//! nothing behind the last tensor's padding. Tensors may stand in any order. Not read: version 1,
//! big-endian files, models split into several files, and the tensor types that have no [`Dtype`].
//!
//! | To | Use |
//! |---|---|
//! | read the tensors of any file of weights | [`Archive::open`](crate::Archive::open) |
//! | read a GGUF file and its metadata | [`Gguf::open`], [`Gguf::metadata`] |
//! | write one | [`Writer`] with a [`Layout`] |
//!
//! ```
//! use formwork_formats::Dtype;
//! use formwork_formats::gguf::{Gguf, Layout, Value, Writer};
//! let layout = Layout::new()
//!     .set("general.architecture", "llama")
//!     .set("tokenizer.ggml.tokens", Value::strings(["<s>", "a", "b"]))
//!     .tensor("output_norm.weight", Dtype::F32, &[3]);
//! let mut file = Vec::new();
//! let mut writer = Writer::new(&mut file, &layout)?;
//! writer.append_f32("output_norm.weight", &[1.0, 2.5, -4.0])?;
//! writer.finish()?;
//!
//! let file = Gguf::from_bytes(file)?;
//! assert_eq!(file.metadata().str("general.architecture")?, Some("llama"));
//! let tokens = file.metadata().strings("tokenizer.ggml.tokens")?.expect("set above");
//! assert_eq!(tokens.last().expect("three of them").str()?, "b");
//! assert_eq!(file.entry("output_norm.weight").expect("written above").to_f32()?, [1.0, 2.5, -4.0]);
//! # Ok::<(), formwork_formats::Error>(())
//! ```
//!
//! [`Dtype`]: crate::Dtype

mod array;
mod file;
mod layout;
mod metadata;
mod read;
mod types;
mod value;
mod writer;

pub use array::{Array, Strings, Text};
pub use file::Gguf;
pub use layout::Layout;
pub use metadata::Metadata;
pub use value::{Kind, Value};
pub use writer::Writer;

/// How every GGUF file begins.
pub(crate) const MAGIC: [u8; 4] = *b"GGUF";

/// The version that is written.
const VERSION: u32 = 3;

/// The metadata key of the alignment of the data.
const ALIGNMENT: &str = "general.alignment";

/// The alignment where the metadata says nothing.
const DEFAULT_ALIGNMENT: u64 = 32;

/// The largest alignment.
const MAX_ALIGNMENT: u64 = 1 << 20;

/// The metadata key of the number of files that a model is split into.
const SPLIT: &str = "split.count";

/// The most pairs that a file may have, so that one full of tiny ones cannot fill the memory.
const MAX_PAIRS: u64 = 1 << 16;

/// The most tensors that a file may have, for the same reason.
const MAX_TENSORS: u64 = 1 << 17;

/// The most bytes of a key, and of a tensor's name when reading.
const MAX_NAME: u64 = u16::MAX as u64;

/// The most bytes of a tensor's name when writing: what the reference implementation reads.
const MAX_WRITTEN_NAME: u64 = 63;

/// The alignment that `metadata` asks for.
fn alignment(metadata: &Metadata) -> crate::Result<u64> {
    let found = metadata.u64(ALIGNMENT)?.unwrap_or(DEFAULT_ALIGNMENT);
    if found.is_power_of_two() && found <= MAX_ALIGNMENT {
        return Ok(found);
    }
    let kind = crate::ErrorKind::BadAlignment { found, limit: MAX_ALIGNMENT };
    Err(crate::Error::from(kind).at_key(ALIGNMENT))
}

/// Refuses one file of several.
fn expect_whole(metadata: &Metadata) -> crate::Result<()> {
    match metadata.u64(SPLIT)? {
        Some(parts) if parts > 1 => Err(crate::Error::from(crate::ErrorKind::Split { parts }).at_key(SPLIT)),
        _ => Ok(()),
    }
}
