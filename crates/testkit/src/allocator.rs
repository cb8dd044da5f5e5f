//! A global allocator that counts, for tests of a steady state.
//!
//! A step that has run before must take no tensor memory from the system. Put such a test alone in its file, so that
//! no other test of the process allocates beside it:
//!
//! ```
//! use formwork_testkit::CountingAllocator;
//!
//! #[global_allocator]
//! static ALLOCATOR: CountingAllocator = CountingAllocator::new(4096);
//!
//! let (kept, allocated) = ALLOCATOR.count(|| (vec![0u8; 5000], Box::new(7u64)));
//! assert_eq!((allocated.large.count, allocated.large.bytes), (1, 5000));
//! assert!(allocated.small.bytes >= 8);
//! drop(kept);
//! ```
#![allow(unsafe_code, reason = "an allocator is an unsafe trait")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

/// The system's allocator, with a count of what is asked of it by all threads.
#[derive(Debug)]
pub struct CountingAllocator {
    threshold: usize,
    small: Counters,
    large: Counters,
}

#[derive(Debug)]
struct Counters {
    count: AtomicU64,
    bytes: AtomicU64,
}

/// Allocations of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many; growing one in place counts as another.
    pub count: u64,
    /// How many bytes they asked for.
    pub bytes: u64,
}

/// What was asked of the system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allocated {
    /// Allocations below the threshold.
    pub small: Tally,
    /// Allocations of the threshold or more bytes.
    pub large: Tally,
}

impl CountingAllocator {
    /// Counts allocations of `threshold` bytes or more as large.
    pub const fn new(threshold: usize) -> Self {
        Self { threshold, small: Counters::new(), large: Counters::new() }
    }

    /// What has been asked for since the process began.
    pub fn total(&self) -> Allocated {
        Allocated { small: self.small.tally(), large: self.large.tally() }
    }

    /// Runs `f` and returns what all threads asked for meanwhile.
    pub fn count<R>(&self, f: impl FnOnce() -> R) -> (R, Allocated) {
        let before = self.total();
        let result = f();
        let after = self.total();
        let (small, large) = (after.small.since(before.small), after.large.since(before.large));
        (result, Allocated { small, large })
    }

    fn note(&self, bytes: usize) {
        let counters = if bytes < self.threshold { &self.small } else { &self.large };
        counters.count.fetch_add(1, Relaxed);
        counters.bytes.fetch_add(bytes as u64, Relaxed);
    }
}

impl Counters {
    const fn new() -> Self {
        Self { count: AtomicU64::new(0), bytes: AtomicU64::new(0) }
    }

    fn tally(&self) -> Tally {
        Tally { count: self.count.load(Relaxed), bytes: self.bytes.load(Relaxed) }
    }
}

impl Tally {
    fn since(self, before: Tally) -> Tally {
        Tally { count: self.count - before.count, bytes: self.bytes - before.bytes }
    }
}

// SAFETY: every call is handed on to `System` unchanged; counting touches atomics alone and cannot allocate or panic.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.note(layout.size());
        // SAFETY: the caller's promise about `layout`, handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        self.note(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        self.note(bytes);
        // SAFETY: `memory` came from `System` with `layout`, since all of this allocator's memory does.
        unsafe { System.realloc(memory, layout, bytes) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(memory, layout) }
    }
}
