//! The safetensors format: a length, a JSON header, the numbers.
//!
//! ```text
//! 8 bytes            n, little-endian
//! n bytes            {"name": {"dtype": "F32", "shape": [7, 3], "data_offsets": [0, 84]}, ..,
//!                     "__metadata__": {"key": "value"}}, padded with spaces
//! rest of the file   the numbers, row-major, little-endian, without gap or overlap
//! ```
//!
//! Offsets count from the end of the header. A large model is several such files, called shards,
//! with an index that says which tensor is where. Source: <https://github.com/huggingface/safetensors>.
//!
//! Stricter than other readers: at most [`MAX_DIMS`] dimensions, no unknown fields, no name twice.
//! When writing, the numbers begin at a multiple of 64 bytes, so that a mapped file is aligned.
//!
//! ```
//! use formwork_formats::{Bytes, SafeTensors};
//! let header = br#"{"x":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}"#;
//! let file = [&(header.len() as u64).to_le_bytes()[..], &header[..], &[5, 7]].concat();
//! let file = SafeTensors::from_bytes(Bytes::from(file))?;
//! assert_eq!(file.entry("x").expect("in the header").to_i64()?, [5, 7]);
//! # Ok::<(), formwork_formats::Error>(())
//! ```

mod archive_writer;
mod file;
mod header;
mod index;
mod layout;
mod writer;

pub use archive_writer::ArchiveWriter;
pub use file::SafeTensors;
pub use index::INDEX_NAME;
pub(crate) use index::Index;
pub use layout::Layout;
pub use writer::Writer;

/// The file name of a model that is one file.
pub const SINGLE_NAME: &str = "model.safetensors";

/// The most dimensions a tensor may have.
pub const MAX_DIMS: usize = 4;

/// The most bytes a header or an index may have, as in the reference implementation.
pub const MAX_HEADER: u64 = 100_000_000;

/// The header's key for its string map, which no tensor may have.
const METADATA: &str = "__metadata__";

/// The most lines a string map may have, so that a header of tiny ones cannot fill the memory.
const MAX_LINES: usize = 1 << 16;

/// The most tensors a file may have, for the same reason.
const MAX_TENSORS: usize = 1 << 18;
