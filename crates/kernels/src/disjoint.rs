//! One mutable slice whose parts are written by several tasks of a parallel loop.
//!
//! [`crate::team::for_each_chunk`] covers the case of one buffer cut into equal pieces.
//! Kernels that write several buffers of different widths at once, optional ones, or strided rows, take their pieces
//! from here; every use says why its pieces do not overlap.

use std::{marker::PhantomData, ops::Range};

/// Hands out non-overlapping parts of a slice to concurrent tasks.
pub(crate) struct Disjoint<'a, T> {
    start: *mut T,
    len: usize,
    owner: PhantomData<&'a mut [T]>,
}

// SAFETY: the pointer stands for a `&mut [T]`, which may be sent and, since parts are only handed out under the
// contract of `slice` (no overlap), be used from several threads when `T` may be; who follows the address that
// `start_of` gives vouches for the same.
unsafe impl<T: Send> Send for Disjoint<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Disjoint<'_, T> {}

impl<'a, T> Disjoint<'a, T> {
    pub(crate) fn new(data: &'a mut [T]) -> Self {
        Disjoint { start: data.as_mut_ptr(), len: data.len(), owner: PhantomData }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Another handle to the same memory, under the same contract.
    pub(crate) fn share(&self) -> Self {
        Disjoint { start: self.start, len: self.len, owner: PhantomData }
    }

    /// The part `range`, bounds checked.
    ///
    /// # Safety
    /// While the result lives, no other part that overlaps it may be in use.
    #[inline(always)]
    #[allow(clippy::mut_from_ref, reason = "the whole point: the caller vouches for disjointness")]
    pub(crate) unsafe fn slice(&self, range: Range<usize>) -> &mut [T] {
        let len = range.len();
        let start = self.start_of(range);
        // SAFETY: in bounds as was checked, exclusive by the caller's promise, alive because of `'a`.
        unsafe { std::slice::from_raw_parts_mut(start, len) }
    }

    /// Where the part `range` begins, bounds checked, for those who follow an address with a stride of their own.
    #[inline(always)]
    pub(crate) fn start_of(&self, range: Range<usize>) -> *mut T {
        assert!(range.start <= range.end && range.end <= self.len, "part {range:?} of {} elements", self.len);
        self.start.wrapping_add(range.start)
    }

    /// Rows `rows` of a row-major matrix of the given width.
    ///
    /// # Safety
    /// As for [`Disjoint::slice`].
    #[inline(always)]
    #[allow(clippy::mut_from_ref, reason = "as above")]
    pub(crate) unsafe fn rows(&self, rows: &Range<usize>, width: usize) -> &mut [T] {
        // SAFETY: the caller's promise.
        unsafe { self.slice(rows.start * width..rows.end * width) }
    }
}

/// Elements that one task of a parallel loop over rows should touch at least: several microseconds of work.
const GRAIN: usize = 16 * 1024;

/// How many rows of the given width make one task; depends on the shape alone.
pub(crate) fn rows_per_task(width: usize) -> usize {
    (GRAIN / width.max(1)).max(1)
}

/// Runs `f` on consecutive ranges that cover `0..rows`, in parallel.
pub(crate) fn for_row_ranges(rows: usize, per_task: usize, f: impl Fn(usize, Range<usize>) + Sync) {
    crate::team::parallel(rows.div_ceil(per_task), |task| {
        let start = task * per_task;
        f(task, start..rows.min(start + per_task));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_cover_every_row_once_and_parts_land_where_they_belong() {
        for rows in [0, 1, 7, 23] {
            let mut data = vec![0_usize; rows * 3];
            let parts = Disjoint::new(&mut data);
            for_row_ranges(rows, 5, |task, range| {
                // SAFETY: ranges of different tasks do not overlap.
                let part = unsafe { parts.rows(&range, 3) };
                part.iter_mut().for_each(|v| *v += task + 1);
            });
            assert!(data.iter().enumerate().all(|(i, &v)| v == i / 15 + 1));
        }
    }

    #[test]
    #[should_panic(expected = "part 2..5 of 4 elements")]
    fn a_part_past_the_end_is_refused() {
        let mut data = [0.0_f32; 4];
        let parts = Disjoint::new(&mut data);
        // SAFETY: the only part in use.
        unsafe { parts.slice(2..5) };
    }
}
