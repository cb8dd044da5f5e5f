//! Immutable bytes that are cheap to clone and to cut, wherever they came from.
//!
//! A file is mapped (feature `mmap`) or read; memory is adopted. A slice of a [`Bytes`] keeps the
//! whole alive, so that an entry of a weight file can outlive the archive it came from.
//!
//! ```
//! use formwork_formats::Bytes;
//! let all = Bytes::from(vec![2, 3, 5, 7, 11]);
//! let part = all.slice(1..4).expect("inside");
//! drop(all);
//! assert_eq!(part[..], [3, 5, 7]);
//! ```

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::ops::{Deref, Range};
use std::path::Path;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::{ErrorKind, raw};

/// Shared immutable bytes; a clone and a slice cost a reference count.
#[derive(Clone)]
pub struct Bytes {
    owner: Owner,
    range: Range<usize>,
}

#[derive(Clone)]
enum Owner {
    Static(&'static [u8]),
    Memory(Arc<Vec<u8>>),
    #[cfg(feature = "mmap")]
    Map(Arc<memmap2::Mmap>),
}

impl Bytes {
    /// Maps the file at `path`, or reads it if the feature `mmap` is off or the system cannot map it.
    ///
    /// A map costs no memory until its pages are touched. In return the file must stay as it is
    /// while the bytes or a slice of them live: if someone shortens it, the system ends the process
    /// with `SIGBUS` at the next touch, and if someone writes into it, the bytes change under the
    /// reader. Replacing the file by renaming another over it, as every writer of this crate does,
    /// is safe. Where others write files in place, use [`Bytes::read`].
    ///
    /// # Errors
    /// The path does not open, is no regular file, or does not fit in memory.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let (file, len) = open_regular(path)?;
        #[cfg(feature = "mmap")]
        if len > 0
            && let Ok(map) = raw::map(&file)
        {
            let range = 0..map.len();
            return Ok(Self { owner: Owner::Map(Arc::new(map)), range });
        }
        read_all(file, len).map_err(|error| error.in_file(Some(path)))
    }

    /// Reads the whole file at `path` into memory, never mapping it.
    ///
    /// # Errors
    /// As [`Bytes::open`].
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let (file, len) = open_regular(path)?;
        read_all(file, len).map_err(|error| error.in_file(Some(path)))
    }

    /// Bytes that live as long as the program, for example from `include_bytes!`.
    pub fn from_static(bytes: &'static [u8]) -> Self {
        Self { owner: Owner::Static(bytes), range: 0..bytes.len() }
    }

    /// The bytes of `range`, sharing memory with `self`; `None` if it reaches outside.
    pub fn slice(&self, range: Range<usize>) -> Option<Self> {
        if range.start > range.end || range.end > self.range.len() {
            return None;
        }
        // Neither sum can overflow: both ends lie inside `self.range`.
        let range = self.range.start + range.start..self.range.start + range.end;
        Some(Self { owner: self.owner.clone(), range })
    }

    /// Tells the system that these bytes are not needed for now: where they are pages of a mapped
    /// file, they leave the process's memory, and come back from the file when next touched.
    ///
    /// For a reader that copies or converts out of a map: released tensor by tensor, the file never
    /// stands in memory beside what was made of it. Elsewhere it does nothing.
    pub fn release(&self) {
        #[cfg(all(feature = "mmap", unix))]
        if let Owner::Map(map) = &self.owner {
            raw::release(map, self.range.clone());
        }
    }

    /// Whether the bytes are pages of a file rather than memory of this process.
    pub fn is_mapped(&self) -> bool {
        match self.owner {
            Owner::Static(_) | Owner::Memory(_) => false,
            #[cfg(feature = "mmap")]
            Owner::Map(_) => true,
        }
    }
}

// A pipe would block the open and a device has no end, so the kind is looked at first. Between the
// two calls the path may change hands; what is then opened is checked again.
fn open_regular(path: &Path) -> Result<(File, u64)> {
    let open = || -> Result<(File, u64)> {
        let kind = std::fs::metadata(path).map_err(|source| Error::io("open the file", source))?;
        if !kind.is_file() {
            return Err(ErrorKind::NotAFile.into());
        }
        let file = File::open(path).map_err(|source| Error::io("open the file", source))?;
        let opened = file.metadata().map_err(|source| Error::io("ask for the file's size", source))?;
        if !opened.is_file() {
            return Err(ErrorKind::NotAFile.into());
        }
        Ok((file, opened.len()))
    };
    open().map_err(|error| error.in_file(Some(path)))
}

fn read_all(file: File, len: u64) -> Result<Bytes> {
    let mut bytes = Vec::new();
    usize::try_from(len)
        .ok()
        .and_then(|len| bytes.try_reserve_exact(len).ok())
        .ok_or(ErrorKind::OutOfMemory { bytes: len })?;
    // No more than was asked for, also when the file grows meanwhile: what is missing or too much
    // the parser will say.
    file.take(len).read_to_end(&mut bytes).map_err(|source| Error::io("read the file", source))?;
    Ok(bytes.into())
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        let range = 0..bytes.len();
        Self { owner: Owner::Memory(Arc::new(bytes)), range }
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let all = match &self.owner {
            Owner::Static(bytes) => bytes,
            Owner::Memory(bytes) => bytes.as_slice(),
            #[cfg(feature = "mmap")]
            Owner::Map(map) => map,
        };
        &all[self.range.clone()]
    }
}

impl From<&[u8]> for Bytes {
    fn from(bytes: &[u8]) -> Self {
        bytes.to_vec().into()
    }
}

impl PartialEq for Bytes {
    fn eq(&self, other: &Self) -> bool {
        self[..] == other[..]
    }
}

impl Eq for Bytes {}

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bytes").field("len", &self.len()).field("mapped", &self.is_mapped()).finish()
    }
}

/// Numbers seen in place in a weight file, keeping its memory or map alive.
///
/// It derefs to `[f32]` and is `Send + Sync + 'static`, so `Arc<F32View>` can own the storage of a
/// tensor. Get one from [`Entry::as_f32`](crate::Entry::as_f32).
#[derive(Clone, Debug)]
pub struct F32View(Bytes);

impl F32View {
    /// The view, or `None` if `bytes` is unaligned or no whole number of `f32`, or the host is
    /// big-endian.
    pub fn new(bytes: Bytes) -> Option<Self> {
        raw::cast_f32(&bytes)?;
        Some(Self(bytes))
    }
}

impl Deref for F32View {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        raw::cast_f32(&self.0).expect("the owner never moves its bytes, and `new` has checked them")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_outside_is_none() {
        let bytes = Bytes::from_static(b"formwork").slice(2..7).expect("inside");
        assert_eq!(&bytes[..], b"rmwor");
        let none = [bytes.slice(0..6), bytes.slice(6..6), bytes.slice(usize::MAX..usize::MAX)];
        assert!(none.iter().all(Option::is_none));
        assert_eq!(bytes.slice(5..5).expect("empty at the end").len(), 0);
        assert_eq!(&bytes.slice(1..3).expect("inside")[..], b"mw");
    }

    #[test]
    #[allow(clippy::reversed_empty_ranges, reason = "a reversed range is what is refused")]
    fn a_reversed_slice_is_none() {
        assert!(Bytes::from(vec![1, 2, 3]).slice(2..1).is_none());
    }

    #[test]
    fn a_mapped_file_equals_a_read_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bytes");
        for contents in [&b""[..], b"x", &[7; 70_001]] {
            std::fs::write(&path, contents).unwrap();
            let (open, read) = (Bytes::open(&path).unwrap(), Bytes::read(&path).unwrap());
            assert_eq!(open[..], contents[..]);
            assert_eq!(read[..], contents[..]);
            assert_eq!(open.is_mapped(), cfg!(feature = "mmap") && !contents.is_empty());
            assert!(!read.is_mapped());
        }
    }

    #[test]
    fn released_bytes_are_still_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bytes");
        let contents: Vec<u8> = (0..70_001u32).map(|i| (i % 251) as u8).collect();
        std::fs::write(&path, &contents).unwrap();
        let all = Bytes::open(&path).unwrap();
        // Not at page boundaries, empty, whole, and in memory.
        for part in [all.slice(3..60_007), all.slice(9..9), Some(all.clone()), Some(contents.clone().into())]
        {
            let part = part.unwrap();
            let before = part.to_vec();
            part.release();
            assert_eq!(part[..], before[..]);
        }
        assert_eq!(all[..], contents[..]);
    }

    /// How much of files the process has in memory.
    #[cfg(all(feature = "mmap", target_os = "linux"))]
    fn resident_kib() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssFile:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    #[test]
    #[cfg(all(feature = "mmap", target_os = "linux"))]
    fn released_pages_leave_the_memory() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bytes");
        std::fs::write(&path, vec![1u8; 64 << 20]).unwrap();
        let all = Bytes::open(&path).unwrap();
        let sum: u64 = all.iter().map(|&b| u64::from(b)).sum();
        assert_eq!(sum, 64 << 20);
        let touched = resident_kib();
        all.release();
        let released = resident_kib();
        // Other tests of the process map files of kilobytes meanwhile.
        assert!(released + (60 << 10) < touched, "{touched} kB in memory, after the release {released}");
    }

    #[test]
    fn folders_and_missing_files_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let reads: [fn(&Path) -> Result<Bytes>; 2] = [|p| Bytes::open(p), |p| Bytes::read(p)];
        for read in reads {
            let error = read(folder.path()).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::NotAFile), "{error}");
            let missing = folder.path().join("missing");
            let error = read(&missing).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Io { .. }), "{error}");
            assert_eq!(error.file(), Some(&*missing));
        }
    }

    #[test]
    fn a_view_can_own_the_storage_of_a_tensor() {
        fn own(_: Arc<dyn Deref<Target = [f32]> + Send + Sync>) {}
        if let Some(view) = F32View::new(Bytes::from(2.5f32.to_le_bytes().to_vec())) {
            assert_eq!(view[..], [2.5]);
            own(Arc::new(view));
        }
    }
}
