//! What reading a file may take of memory.

use formwork_testkit::{Cost, FILE_SLACK, PeakAllocator};

pub(crate) use formwork_testkit::mutations as seeds;

#[global_allocator]
static ALLOCATOR: PeakAllocator = PeakAllocator;

/// Runs `work` on this thread and returns what it took.
pub(crate) fn cost<T>(work: impl FnOnce() -> T) -> (T, Cost) {
    ALLOCATOR.thread(work)
}

/// What reading a small file may cost beside a few times its size: far less than the 64 MiB that are
/// allowed, so that a count which is trusted before it is checked cannot hide.
pub(crate) const SLACK: usize = 64 << 10;

/// Panics if reading a file of `len` bytes may not take so much.
#[track_caller]
pub(crate) fn within(taken: Cost, len: usize) {
    taken.check(len, SLACK);
    assert!(taken.asked <= 4 * len + FILE_SLACK, "{taken:?} to read a file of {len} bytes");
}
