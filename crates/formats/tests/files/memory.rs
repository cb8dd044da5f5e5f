//! An allocator that counts what each thread holds, so that a parser's appetite can be measured.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

#[derive(Clone, Copy, Default)]
struct Held {
    /// Bytes this thread holds now.
    now: isize,
    /// The most it has held.
    most: isize,
    /// All it has ever asked for.
    asked: isize,
}

thread_local! {
    static HELD: Cell<Held> = const { Cell::new(Held { now: 0, most: 0, asked: 0 }) };
}

struct Counting;

fn count(change: isize) {
    // A thread that is ending has no locals any more; nothing is measured there.
    let _ = HELD.try_with(|held| {
        let Held { now, most, asked } = held.get();
        let now = now + change;
        held.set(Held { now, most: most.max(now), asked: asked + change.max(0) });
    });
}

// SAFETY: every call goes to the system's allocator unchanged; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
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

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What some work took of memory, in bytes, beyond what was held before.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    /// The most that was held at once.
    pub(crate) most: usize,
    /// All that was asked for, also what was given back.
    pub(crate) asked: usize,
}

/// Runs `work` on this thread and returns what it took.
pub(crate) fn cost<T>(work: impl FnOnce() -> T) -> (T, Cost) {
    let before = HELD.with(|held| {
        let before = held.get();
        held.set(Held { most: before.now, ..before });
        before
    });
    let value = work();
    let after = HELD.with(Cell::get);
    let cost = Cost {
        most: usize::try_from(after.most - before.now).unwrap(),
        asked: usize::try_from(after.asked - before.asked).unwrap(),
    };
    (value, cost)
}

/// What reading a small file may cost beside a few times its size: far less than the 64 MiB that are
/// allowed, so that a count which is trusted before it is checked cannot hide.
pub(crate) const SLACK: usize = 64 << 10;

impl Cost {
    /// Panics if reading a file of `len` bytes may not take so much.
    #[track_caller]
    pub(crate) fn check(self, len: usize) {
        assert!(self.most <= 4 * len + SLACK, "{self:?} to read a file of {len} bytes");
        assert!(self.asked <= 4 * len + (64 << 20), "{self:?} to read a file of {len} bytes");
    }
}

/// How many damaged files a suite tries: `count`, or what the variable `FORMWORK_MUTATIONS` says, so
/// that a million can be tried by hand.
pub(crate) fn seeds(count: u64) -> std::ops::Range<u64> {
    let asked = std::env::var("FORMWORK_MUTATIONS").ok().map(|text| text.parse().unwrap());
    0..asked.unwrap_or(count)
}
