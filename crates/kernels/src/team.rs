//! The thread team: persistent workers that share the tasks of one call.
//!
//! Callers split their work into tasks **by shape alone** and every task writes its own memory, so neither the
//! number of threads nor who runs what can change a bit. Reductions across tasks are the caller's: one partial
//! result per task, combined in index order afterwards.
//!
//! The caller is worker 0. Tasks are dealt in contiguous blocks, one per worker, so that the same rows meet the
//! same core in every call; a worker that is done takes over what others have not begun, so a sleeping or
//! descheduled one holds nobody up. Between calls workers spin for some tens of microseconds, then sleep.
//!
//! There is one team per process. If several user threads call at once, one gets the team and the others run
//! their tasks alone; so does a call from inside a task. Without the `threads` feature everything runs alone.
//!
//! ```
//! use formwork_kernels::team::{for_each_chunk, with_threads};
//! let mut squares = [0; 10];
//! with_threads(2, || for_each_chunk(&mut squares, 3, |i, chunk| {
//!     for (j, s) in chunk.iter_mut().enumerate() {
//!         *s = (3 * i + j).pow(2);
//!     }
//! }));
//! assert_eq!(squares, [0, 1, 4, 9, 16, 25, 36, 49, 64, 81]);
//! ```

#[cfg(feature = "threads")]
mod workers;

use std::cell::Cell;
use std::sync::OnceLock;

use crate::disjoint::Disjoint;

thread_local! {
    /// The setting of [`with_threads`]; 0 where there is none, [`ALONE`] inside a task.
    static THREADS: Cell<usize> = const { Cell::new(0) };
}

/// Inside a task that a team may share: further calls run alone, whatever is asked for.
const ALONE: usize = usize::MAX;

/// Sets a thread's number of threads until dropped, also by a panic.
struct Setting(usize);

impl Setting {
    fn replace(n: usize) -> Setting {
        Setting(THREADS.replace(n))
    }
}

impl Drop for Setting {
    fn drop(&mut self) {
        THREADS.set(self.0);
    }
}

/// Runs `f` with [`parallel`] on this thread using `n` threads, the calling one included; may be nested.
///
/// Results do not depend on `n`. More threads than cores is allowed and slow.
///
/// # Panics
/// If `n` is 0.
pub fn with_threads<R>(n: usize, f: impl FnOnce() -> R) -> R {
    assert!(n >= 1, "with_threads: expected at least 1 thread, found 0");
    let _restore = Setting::replace(if THREADS.get() == ALONE { ALONE } else { n });
    f()
}

/// How many threads [`parallel`] would use here: the innermost [`with_threads`], else what the machine offers.
///
/// It is 1 inside a task that threads may share, whose own calls run alone. Never split work by this number.
pub fn threads() -> usize {
    // Asking the system reads files, so it is asked once.
    static DEFAULT: OnceLock<usize> = OnceLock::new();
    match THREADS.get() {
        0 => *DEFAULT.get_or_init(|| std::thread::available_parallelism().map_or(1, usize::from)),
        ALONE => 1,
        n => n,
    }
}

/// Runs `f(0)`, …, `f(tasks − 1)`, each once, in any order and on any thread of the team; returns when all are done.
///
/// One task, or one thread, costs no more than a loop. A call with more costs a few microseconds when the workers
/// are awake, so give a task at least as much to do. Nothing is allocated.
///
/// # Panics
/// With the panic of a task, after the tasks that were running have ended; no other begins, and the team stays usable.
pub fn parallel(tasks: usize, f: impl Fn(usize) + Sync) {
    #[cfg(feature = "threads")]
    {
        let threads = threads().min(tasks);
        if threads > 1 {
            let _alone = Setting::replace(ALONE);
            if !workers::run(threads, tasks, &f) {
                (0..tasks).for_each(f);
            }
            return;
        }
    }
    (0..tasks).for_each(f);
}

/// Cuts `data` into pieces of `chunk` elements, the last one perhaps shorter, and runs `f(index, piece)` for each
/// as [`parallel`] does.
///
/// # Panics
/// If `chunk` is 0 while `data` is not empty, and as [`parallel`].
pub fn for_each_chunk<T: Send>(data: &mut [T], chunk: usize, f: impl Fn(usize, &mut [T]) + Sync) {
    let chunks = Chunks::of(data, chunk);
    // SAFETY: `parallel` hands out each index once.
    parallel(chunks.count(), |i| f(i, unsafe { chunks.piece(i) }));
}

/// [`for_each_chunk`] over two slices in step, each with its own chunk length.
///
/// # Panics
/// If the slices do not have the same number of chunks, and as [`for_each_chunk`].
pub fn for_each_chunk2<A: Send, B: Send>(
    (a, a_chunk): (&mut [A], usize),
    (b, b_chunk): (&mut [B], usize),
    f: impl Fn(usize, &mut [A], &mut [B]) + Sync,
) {
    let (a, b) = (Chunks::of(a, a_chunk), Chunks::of(b, b_chunk));
    let count = same_count("for_each_chunk2", [a.count(), b.count()]);
    // SAFETY: `parallel` hands out each index once.
    parallel(count, |i| unsafe { f(i, a.piece(i), b.piece(i)) });
}

/// [`for_each_chunk`] over three slices in step, each with its own chunk length.
///
/// # Panics
/// If the slices do not have the same number of chunks, and as [`for_each_chunk`].
pub fn for_each_chunk3<A: Send, B: Send, C: Send>(
    (a, a_chunk): (&mut [A], usize),
    (b, b_chunk): (&mut [B], usize),
    (c, c_chunk): (&mut [C], usize),
    f: impl Fn(usize, &mut [A], &mut [B], &mut [C]) + Sync,
) {
    let (a, b, c) = (Chunks::of(a, a_chunk), Chunks::of(b, b_chunk), Chunks::of(c, c_chunk));
    let count = same_count("for_each_chunk3", [a.count(), b.count(), c.count()]);
    // SAFETY: `parallel` hands out each index once.
    parallel(count, |i| unsafe { f(i, a.piece(i), b.piece(i), c.piece(i)) });
}

fn same_count<const N: usize>(name: &str, counts: [usize; N]) -> usize {
    assert!(
        counts.iter().all(|&c| c == counts[0]),
        "{name}: expected equal numbers of chunks, found {counts:?}"
    );
    counts[0]
}

/// A mutable slice cut into pieces that several threads may hold at once.
struct Chunks<'a, T> {
    data: Disjoint<'a, T>,
    chunk: usize,
}

impl<'a, T> Chunks<'a, T> {
    fn of(data: &'a mut [T], chunk: usize) -> Self {
        assert!(
            chunk > 0 || data.is_empty(),
            "for_each_chunk: expected a chunk length of at least 1, found 0"
        );
        Chunks { data: Disjoint::new(data), chunk: chunk.max(1) }
    }

    fn count(&self) -> usize {
        self.data.len().div_ceil(self.chunk)
    }

    /// # Safety
    /// Each index below `count` at most once.
    #[allow(clippy::mut_from_ref, reason = "disjoint by the contract")]
    unsafe fn piece(&self, i: usize) -> &mut [T] {
        let from = i * self.chunk;
        // SAFETY: pieces of different indices do not overlap.
        unsafe { self.data.slice(from..self.data.len().min(from + self.chunk)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    #[test]
    fn every_task_runs_once_for_any_number_of_threads() {
        for threads in [1, 2, 3, 5, 13] {
            for tasks in [0, 1, 2, 3, 7, 100] {
                let runs: Vec<_> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
                with_threads(threads, || {
                    parallel(tasks, |i| {
                        runs[i].fetch_add(1, Relaxed);
                    });
                });
                assert!(runs.iter().all(|r| r.load(Relaxed) == 1), "{threads} threads, {tasks} tasks");
            }
        }
    }

    #[test]
    fn chunks_are_those_of_a_serial_loop() {
        for len in [0, 1, 6, 7, 29] {
            for chunk in [1, 2, 7, 40] {
                let fill = |i: usize, piece: &mut [usize]| {
                    let n = piece.len();
                    piece.iter_mut().enumerate().for_each(|(j, p)| *p = 1000 * i + 10 * j + n);
                };
                let (mut found, mut expected) = (vec![0; len], vec![0; len]);
                with_threads(3, || for_each_chunk(&mut found, chunk, fill));
                expected.chunks_mut(chunk).enumerate().for_each(|(i, piece)| fill(i, piece));
                assert_eq!(found, expected, "{len} in chunks of {chunk}");
            }
        }
    }

    #[test]
    fn slices_in_step_keep_their_own_chunk_lengths() {
        let (mut a, mut b, mut c) = ([0; 6], [0; 9], [0; 3]);
        with_threads(2, || {
            for_each_chunk2((&mut a, 2), (&mut b, 3), |i, a, b| {
                a.fill(i + a.len());
                b.fill(i + b.len());
            });
        });
        assert_eq!((a, b), ([2, 2, 3, 3, 4, 4], [3, 3, 3, 4, 4, 4, 5, 5, 5]));
        with_threads(2, || {
            for_each_chunk3((&mut a, 2), (&mut b, 3), (&mut c, 1), |_, a, b, c| c[0] = a[1] * b[2]);
        });
        assert_eq!(c, [6, 12, 20]);
    }

    #[test]
    #[should_panic(expected = "equal numbers of chunks")]
    fn slices_out_of_step_are_refused() {
        for_each_chunk2((&mut [0; 4], 2), (&mut [0; 4], 1), |_, _, _| ());
    }

    #[test]
    fn the_setting_nests_and_a_panic_restores_it() {
        with_threads(5, || {
            assert_eq!(with_threads(3, threads), 3);
            assert!(std::panic::catch_unwind(|| with_threads(2, || panic!("on purpose"))).is_err());
            assert_eq!(threads(), 5);
        });
    }
}
