//! Large memory on huge pages, where the system has them.
//!
//! A pass over all weights touches each 4 KiB page once for each token; with pages of 2 MiB it neither misses the
//! translation cache at every page nor makes the prefetcher begin again there. Matrices of small models are smaller
//! than such a page, so that several share a mapping, one after the other. Memory is given back when the last of
//! them is dropped.

use std::ops::Deref;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use memmap2::MmapMut;

/// Parts begin on a cache line, and on the boundary of the widest register.
const ALIGN: usize = 64;
/// A huge page of x86-64.
const PAGE: usize = 2 << 20;
/// What a mapping is for, unless more is asked for in one piece. What is not used of it is never touched.
const CHUNK: usize = 32 << 20;

/// A mapping that parts are taken from.
#[derive(Debug)]
struct Chunk {
    /// Keeps the memory; it is reached through `start`.
    _map: MmapMut,
    start: *mut u8,
    len: usize,
    used: AtomicUsize,
}

// SAFETY: the chunk owns its memory, and gives each part of it to one `Part` alone.
unsafe impl Send for Chunk {}
// SAFETY: as above.
unsafe impl Sync for Chunk {}

impl Chunk {
    fn new(len: usize) -> std::io::Result<Self> {
        let len = len.next_multiple_of(PAGE);
        // Room to begin on a huge page, wherever the system puts the mapping.
        let mut map = MmapMut::map_anon(len + PAGE)?;
        // A system without huge pages, or one that has them switched off, serves as well.
        #[cfg(target_os = "linux")]
        let _ = map.advise(memmap2::Advice::HugePage);
        let start = map.as_mut_ptr();
        let skip = start.align_offset(PAGE);
        // SAFETY: `skip` is below `PAGE`, which the mapping has beyond `len`.
        let start = unsafe { start.add(skip) };
        Ok(Self { _map: map, start, len, used: AtomicUsize::new(0) })
    }

    /// The start of `len` bytes that nobody else has.
    fn take(&self, len: usize) -> Option<*mut u8> {
        let len = len.next_multiple_of(ALIGN);
        let next = |used: usize| used.checked_add(len).filter(|&end| end <= self.len);
        let used = self.used.fetch_update(Relaxed, Relaxed, next).ok()?;
        // SAFETY: `used + len` is within the mapping.
        Some(unsafe { self.start.add(used) })
    }
}

/// Bytes, zero when made, aligned to 64.
#[derive(Debug)]
pub(crate) struct Part {
    chunk: Arc<Chunk>,
    start: *mut u8,
    len: usize,
}

// SAFETY: a part is the only owner of its bytes.
unsafe impl Send for Part {}
// SAFETY: shared access reads only.
unsafe impl Sync for Part {}

impl Part {
    /// `len` zeros, or `None` if the system has no memory left.
    pub(crate) fn zeroed(len: usize) -> Option<Self> {
        static CURRENT: Mutex<Weak<Chunk>> = Mutex::new(Weak::new());
        let mut current = CURRENT.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(chunk) = current.upgrade()
            && let Some(start) = chunk.take(len)
        {
            return Some(Self { chunk, start, len });
        }
        let chunk = Arc::new(Chunk::new(len.max(CHUNK)).ok()?);
        let start = chunk.take(len)?;
        // A piece larger than usual leaves nothing to share, and the rest of the current mapping stays of use.
        if len < CHUNK {
            *current = Arc::downgrade(&chunk);
        }
        Some(Self { chunk, start, len })
    }

    /// The bytes, to write.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        debug_assert!(self.len <= self.chunk.len);
        // SAFETY: `len` initialised bytes (a fresh mapping is zero) that no other part has; `&mut` is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.len) }
    }
}

impl Deref for Part {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: as in `bytes_mut`; who writes holds `&mut`.
        unsafe { std::slice::from_raw_parts(self.start, self.len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_zero_apart_and_on_a_boundary() {
        let mut parts: Vec<Part> = [1, 64, 100, CHUNK - 100, CHUNK + 1]
            .iter()
            .map(|&len| Part::zeroed(len).expect("memory"))
            .collect();
        for (i, part) in parts.iter_mut().enumerate() {
            assert!(part.iter().all(|&byte| byte == 0));
            assert!(part.as_ptr().addr().is_multiple_of(ALIGN));
            part.bytes_mut().fill(i as u8 + 1);
        }
        for (i, part) in parts.iter().enumerate() {
            assert!(part.iter().all(|&byte| byte == i as u8 + 1), "part {i}");
        }
    }
}
