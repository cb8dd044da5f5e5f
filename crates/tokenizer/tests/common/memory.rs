//! What reading a file may take of memory.

use formwork_testkit::{Cost, FILE_SLACK, PeakAllocator};

#[global_allocator]
static ALLOCATOR: PeakAllocator = PeakAllocator;

/// Runs `work` on this thread and returns what it took.
pub(crate) fn cost<T>(work: impl FnOnce() -> T) -> (T, Cost) {
    ALLOCATOR.thread(work)
}

/// Panics if reading a file of `len` bytes may not take so much.
#[track_caller]
pub(crate) fn check(taken: Cost, len: usize) {
    taken.check(len, FILE_SLACK);
}
