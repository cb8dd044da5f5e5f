//! One GGUF file, from a path or from memory.
//!
//! ```
//! use formwork_formats::gguf::Gguf;
//! // Version 3, no tensors, one pair: the key "a" with the kind 7, a truth value, which is 1.
//! let mut file = b"GGUF\x03\0\0\0".to_vec();
//! file.extend([0u64, 1, 1].iter().flat_map(|n| n.to_le_bytes()));
//! file.extend(b"a\x07\0\0\0\x01");
//! let file = Gguf::from_bytes(file)?;
//! assert_eq!(file.metadata().bool("a")?, Some(true));
//! assert_eq!((file.entries().len(), file.alignment()), (0, 32));
//! # Ok::<(), formwork_formats::Error>(())
//! ```

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use super::metadata::Metadata;
use super::read::{Header, Slot};
use crate::error::Result;
use crate::{Bytes, Entry};

/// The checked metadata and tensor places of one file; numbers are read only when an entry is asked
/// for them.
///
/// For what may be safetensors as well, use [`Archive`](crate::Archive), which has
/// [`Archive::gguf`](crate::Archive::gguf).
#[derive(Clone, Debug)]
pub struct Gguf {
    metadata: Metadata,
    entries: Vec<Entry>,
    places: HashMap<Arc<str>, usize>,
    alignment: u64,
    file: Option<Arc<Path>>,
    /// What stands before the data.
    head: Bytes,
}

impl Gguf {
    /// Opens the file at `path` as [`Bytes::open`] does, and checks all but the numbers.
    ///
    /// # Errors
    /// The path is not readable, or the file is not as the format wants it: see [`ErrorKind`].
    ///
    /// [`ErrorKind`]: crate::ErrorKind
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Self::parse(&Bytes::open(path)?, Some(path))
    }

    /// Checks all but the numbers of a file that is already in memory.
    ///
    /// # Errors
    /// The bytes are not as the format wants them: see [`ErrorKind`](crate::ErrorKind).
    pub fn from_bytes(bytes: impl Into<Bytes>) -> Result<Self> {
        Self::parse(&bytes.into(), None)
    }

    /// `file` is what errors and entries call the bytes.
    pub(crate) fn parse(bytes: &Bytes, file: Option<&Path>) -> Result<Self> {
        let Header { metadata, slots, places, alignment } =
            Header::parse(bytes).map_err(|error| error.in_file(file))?;
        let file: Option<Arc<Path>> = file.map(Arc::from);
        let entry = |Slot { name, dtype, shape, begin, end }: Slot| Entry {
            name,
            dtype,
            shape,
            bytes: bytes.slice(begin..end).expect("the places were checked against the file's length"),
            file: file.clone(),
        };
        let data = slots.iter().map(|slot| slot.begin).min().unwrap_or(bytes.len());
        let head = bytes.slice(0..data).expect("the places were checked against the file's length");
        let entries = slots.into_iter().map(entry).collect();
        Ok(Self { metadata, entries, places, alignment, file, head })
    }

    /// What the file says about its model.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// All tensors in the order of their data.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The tensor of this name, or `None`.
    pub fn entry(&self, name: &str) -> Option<&Entry> {
        self.places.get(name).map(|&place| &self.entries[place])
    }

    /// What the place of every tensor in the file is a multiple of, in bytes.
    pub fn alignment(&self) -> u64 {
        self.alignment
    }

    /// As [`Bytes::release`] for all that stands before the data: the metadata, vocabulary included, once it was read.
    pub fn release(&self) {
        self.head.release();
    }

    /// Where the file came from; `None` for bytes without a name.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }
}
