//! One product as addresses, so that threads can write tiles of one output whose rows interleave.

use super::{Batch, Mat};
use crate::Write;
use std::ops::Range;

/// A strided matrix to read, without its bounds.
#[derive(Clone, Copy)]
pub(super) struct View<T> {
    pub(super) data: *const T,
    pub(super) row_stride: usize,
    pub(super) col_stride: usize,
}

impl<T: Copy> View<T> {
    pub(super) fn of(mat: &Mat<'_, T>) -> Self {
        View { data: mat.data.as_ptr(), row_stride: mat.row_stride, col_stride: mat.col_stride }
    }

    /// # Safety
    /// `(i, j)` lies within the matrix.
    #[inline(always)]
    pub(super) unsafe fn at(self, i: usize, j: usize) -> T {
        // SAFETY: by the contract.
        unsafe { *self.data.add(i * self.row_stride + j * self.col_stride) }
    }

    /// The matrix that begins at `(i, j)`. Wrapping, since the corner of an empty matrix may lie anywhere.
    #[inline(always)]
    pub(super) fn from(self, i: usize, j: usize) -> Self {
        let offset = i.wrapping_mul(self.row_stride).wrapping_add(j.wrapping_mul(self.col_stride));
        View { data: self.data.wrapping_add(offset), ..self }
    }
}

/// `out[i, j] (+)= alpha · Σ_p a[i, p] · b[p, j]` for `i < rows`, `j < cols`, `p < depth`.
///
/// Whoever runs one vouches that all of `a` and `b` may be read, that `out[i · out_stride + j]` may be read and
/// written, and that nobody else reaches those elements of `out` meanwhile.
#[derive(Clone, Copy)]
pub(super) struct Product<T> {
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) depth: usize,
    pub(super) a: View<T>,
    pub(super) b: View<T>,
    pub(super) out: *mut T,
    pub(super) out_stride: usize,
    pub(super) alpha: T,
    pub(super) write: Write,
}

// SAFETY: addresses alone; who follows them from another thread vouches for it, as above.
unsafe impl<T: Sync + Send> Sync for Product<T> {}

impl<T: Copy> Product<T> {
    /// Product `i` of the batch that this is the first of.
    pub(super) fn of_batch(self, batch: &Batch, i: usize) -> Self {
        // Wrapping, since an empty `a` or `b` may have any step.
        Product {
            a: View { data: self.a.data.wrapping_add(i.wrapping_mul(batch.a_step)), ..self.a },
            b: View { data: self.b.data.wrapping_add(i.wrapping_mul(batch.b_step)), ..self.b },
            out: self.out.wrapping_add(i * batch.out_step),
            ..self
        }
    }

    /// The part that computes these rows and columns of the output.
    #[inline(always)]
    pub(super) fn tile(self, rows: Range<usize>, cols: Range<usize>) -> Self {
        Product {
            rows: rows.len(),
            cols: cols.len(),
            a: self.a.from(rows.start, 0),
            b: self.b.from(0, cols.start),
            out: self.out.wrapping_add(rows.start * self.out_stride + cols.start),
            ..self
        }
    }
}
