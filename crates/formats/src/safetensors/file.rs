//! One safetensors file, from a path or from memory.
//!
//! ```
//! use formwork_formats::{Bytes, SafeTensors};
//! let header = br#"{"__metadata__":{"step":"7"}}"#;
//! let file = [&(header.len() as u64).to_le_bytes()[..], &header[..]].concat();
//! let file = SafeTensors::from_bytes(Bytes::from(file))?;
//! assert_eq!(file.metadata()["step"], "7");
//! assert_eq!(file.entries().len(), 0);
//! # Ok::<(), formwork_formats::Error>(())
//! ```

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use super::header::{Header, Slot};
use crate::error::Result;
use crate::{Bytes, Entry};

/// The checked header of one file; its numbers are read only when an entry is asked for them.
///
/// For what may be a file, a folder or shards, use [`Archive`](crate::Archive).
#[derive(Clone, Debug)]
pub struct SafeTensors {
    entries: Vec<Entry>,
    places: HashMap<Arc<str>, usize>,
    metadata: BTreeMap<String, String>,
    file: Option<Arc<Path>>,
}

impl SafeTensors {
    /// Opens the file at `path` as [`Bytes::open`] does, and checks its header.
    ///
    /// # Errors
    /// The path is not readable, or the file is not as the format wants it: see [`ErrorKind`].
    ///
    /// [`ErrorKind`]: crate::ErrorKind
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Self::parse(&Bytes::open(path)?, Some(path))
    }

    /// Checks the header of a file that is already in memory.
    ///
    /// # Errors
    /// The bytes are not as the format wants them: see [`ErrorKind`](crate::ErrorKind).
    pub fn from_bytes(bytes: impl Into<Bytes>) -> Result<Self> {
        Self::parse(&bytes.into(), None)
    }

    /// `file` is what errors and entries call the bytes.
    pub(crate) fn parse(bytes: &Bytes, file: Option<&Path>) -> Result<Self> {
        let header = Header::parse(bytes).map_err(|error| error.in_file(file))?;
        let file: Option<Arc<Path>> = file.map(Arc::from);
        let entry = |Slot { name, dtype, shape, range }| Entry {
            name,
            dtype,
            shape,
            bytes: bytes.slice(range).expect("the header was checked against the file's length"),
            file: file.clone(),
        };
        let entries = header.slots.into_iter().map(entry).collect();
        Ok(Self { entries, places: header.places, metadata: header.metadata, file })
    }

    /// All tensors in the order of their data.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The tensor of this name, or `None`.
    pub fn entry(&self, name: &str) -> Option<&Entry> {
        self.places.get(name).map(|&place| &self.entries[place])
    }

    /// The header's string map.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// Where the file came from; `None` for bytes without a name.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }
}
