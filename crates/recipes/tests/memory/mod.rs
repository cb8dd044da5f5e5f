//! What loading may take of memory, by all threads.

use std::sync::{Mutex, MutexGuard, PoisonError};

use formwork_testkit::PeakAllocator;

pub(crate) use formwork_testkit::mutations as seeds;

#[global_allocator]
static ALLOCATOR: PeakAllocator = PeakAllocator;

static ALONE: Mutex<()> = Mutex::new(());

/// Holds all other tests that ask for it; every test of a suite that measures does, since all threads are counted.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `work` and gives the most bytes that were held at once beyond those before.
pub(crate) fn cost<T>(_: &MutexGuard<'static, ()>, work: impl FnOnce() -> T) -> (T, usize) {
    let (value, taken) = ALLOCATOR.process(work);
    (value, taken.most)
}
