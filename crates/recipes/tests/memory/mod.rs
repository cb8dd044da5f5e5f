//! An allocator that counts what the process holds, so that the appetite of a reader can be measured.
#![allow(unsafe_code, reason = "an allocator is an unsafe trait")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

/// Bytes that are held now, and the most that were since [`cost`] last began.
static NOW: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);
static ALONE: Mutex<()> = Mutex::new(());

struct Counting;

// SAFETY: every call goes to the system's allocator unchanged; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Relaxed) + layout.size();
        MOST.fetch_max(now, Relaxed);
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as above; `memory` came from `System` because everything here does.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Holds all other tests that ask for it; every test of a suite that measures does, since all threads are counted.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `work` and gives the most bytes that were held at once beyond those before.
pub(crate) fn cost<T>(_: &MutexGuard<'static, ()>, work: impl FnOnce() -> T) -> (T, usize) {
    let before = NOW.load(Relaxed);
    MOST.store(before, Relaxed);
    let value = work();
    (value, MOST.load(Relaxed).saturating_sub(before))
}

/// How many damaged files a suite tries: `count`, or what the variable `FORMWORK_MUTATIONS` says, so that a million can be
/// tried by hand.
pub(crate) fn seeds(count: u64) -> std::ops::Range<u64> {
    let asked = std::env::var("FORMWORK_MUTATIONS").ok().map(|text| text.parse().unwrap());
    0..asked.unwrap_or(count)
}
