//! A global allocator that knows the most that was held at once, so that the appetite of a reader can be measured.
//!
//! ```
//! use formwork_testkit::PeakAllocator;
//!
//! #[global_allocator]
//! static ALLOCATOR: PeakAllocator = PeakAllocator;
//!
//! let (_, cost) = ALLOCATOR.thread(|| drop(vec![0u8; 5000]));
//! assert_eq!((cost.most, cost.asked), (5000, 5000));
//! ```
#![allow(unsafe_code, reason = "an allocator is an unsafe trait")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    ops::Range,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicIsize, Ordering::Relaxed},
    },
};

/// The system's allocator, with a count of what is held, by each thread and by all.
#[derive(Debug)]
pub struct PeakAllocator;

/// What some work took of memory, in bytes, beyond what was held before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// The most that was held at once.
    pub most: usize,
    /// All that was asked for, also what was given back.
    pub asked: usize,
}

impl Cost {
    /// Panics unless `most` is at most four times the `len` bytes that were read, and `slack`.
    #[track_caller]
    pub fn check(self, len: usize, slack: usize) {
        assert!(self.most <= 4 * len + slack, "{self:?} to read {len} bytes");
    }
}

/// What a file may cost before an error, beside four times its size.
pub const FILE_SLACK: usize = 64 << 20;

/// How many damaged files a suite tries: `count`, or what the variable `FORMWORK_MUTATIONS` says, so that a million can be
/// tried by hand.
///
/// # Panics
/// A variable that is no number.
pub fn mutations(count: u64) -> Range<u64> {
    let asked = std::env::var("FORMWORK_MUTATIONS").ok();
    0..asked.map_or(count, |text| text.parse().expect("FORMWORK_MUTATIONS is a number"))
}

#[derive(Clone, Copy, Default)]
struct Held {
    now: isize,
    most: isize,
    asked: isize,
}

thread_local! {
    static HELD: Cell<Held> = const { Cell::new(Held { now: 0, most: 0, asked: 0 }) };
}
static NOW: AtomicIsize = AtomicIsize::new(0);
static MOST: AtomicIsize = AtomicIsize::new(0);
static ASKED: AtomicIsize = AtomicIsize::new(0);
static ALONE: Mutex<()> = Mutex::new(());

impl PeakAllocator {
    /// Runs `work` and gives what this thread took.
    pub fn thread<T>(&self, work: impl FnOnce() -> T) -> (T, Cost) {
        let before = HELD.get();
        HELD.set(Held { most: before.now, ..before });
        let value = work();
        let after = HELD.get();
        (value, Cost { most: bytes(after.most - before.now), asked: bytes(after.asked - before.asked) })
    }

    /// Runs `work` and gives what all threads took. Measurements wait for each other; every test of a process that
    /// measures so must allocate inside of one only.
    pub fn process<T>(&self, work: impl FnOnce() -> T) -> (T, Cost) {
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let (now, asked) = (NOW.load(Relaxed), ASKED.load(Relaxed));
        MOST.store(now, Relaxed);
        let value = work();
        (value, Cost { most: bytes(MOST.load(Relaxed) - now), asked: bytes(ASKED.load(Relaxed) - asked) })
    }
}

/// Memory from before may be given back meanwhile.
fn bytes(difference: isize) -> usize {
    usize::try_from(difference).unwrap_or(0)
}

fn count(change: isize) {
    let now = NOW.fetch_add(change, Relaxed) + change;
    MOST.fetch_max(now, Relaxed);
    ASKED.fetch_add(change.max(0), Relaxed);
    // A thread that is ending has no locals any more; nothing is measured there.
    let _ = HELD.try_with(|held| {
        let Held { now, most, asked } = held.get();
        let now = now + change;
        held.set(Held { now, most: most.max(now), asked: asked + change.max(0) });
    });
}

// SAFETY: every call goes to the system's allocator unchanged; counting allocates nothing.
unsafe impl GlobalAlloc for PeakAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: as above; `memory` came from `System` because everything here does.
        unsafe { System.dealloc(memory, layout) }
    }
}
