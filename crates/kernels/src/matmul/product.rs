//! One product as addresses, so that threads can write tiles of one output whose rows interleave.

use super::{Batch, Mat};
use crate::Write;
use std::ops::Range;

/// A strided matrix to read, without its bounds.
#[derive(Clone, Copy)]
pub(crate) struct View<T> {
    pub(crate) data: *const T,
    pub(crate) row_stride: usize,
    pub(crate) col_stride: usize,
}

// SAFETY: an address alone; who follows it from another thread vouches for it.
unsafe impl<T: Sync> Sync for View<T> {}

impl<T: Copy> View<T> {
    pub(crate) fn of(mat: &Mat<'_, T>) -> Self {
        View { data: mat.data.as_ptr(), row_stride: mat.row_stride, col_stride: mat.col_stride }
    }

    /// # Safety
    /// `(i, j)` lies within the matrix.
    #[inline(always)]
    pub(crate) unsafe fn at(self, i: usize, j: usize) -> T {
        // SAFETY: by the contract.
        unsafe { *self.data.add(i * self.row_stride + j * self.col_stride) }
    }

    pub(crate) fn transposed(self) -> Self {
        View { row_stride: self.col_stride, col_stride: self.row_stride, ..self }
    }

    /// The matrix that begins at `(i, j)`. Wrapping, since the corner of an empty matrix may lie anywhere.
    #[inline(always)]
    pub(crate) fn from(self, i: usize, j: usize) -> Self {
        let offset = i.wrapping_mul(self.row_stride).wrapping_add(j.wrapping_mul(self.col_stride));
        View { data: self.data.wrapping_add(offset), ..self }
    }
}

/// `out[i, j] (+)= alpha · Σ_p a[i, p] · b[p, j]` for `i < rows`, `j < cols`, `p < depth`.
///
/// Whoever runs one vouches that all of `a` and `b` may be read, that `out[i · out_stride + j · out_step]` may be read and
/// written, and that nobody else reaches those elements of `out` meanwhile.
#[derive(Clone, Copy)]
pub(crate) struct Product<T> {
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    pub(crate) depth: usize,
    pub(crate) a: View<T>,
    pub(crate) b: View<T>,
    pub(crate) out: *mut T,
    pub(crate) out_stride: usize,
    /// From a column of the output to the next: 1, but where rows and columns have changed places.
    pub(crate) out_step: usize,
    pub(crate) alpha: T,
    pub(crate) write: Write,
}

// SAFETY: addresses alone; who follows them from another thread vouches for it, as above.
unsafe impl<T: Sync + Send> Sync for Product<T> {}

impl<T: Copy> Product<T> {
    /// Product `i` of the batch that this is the first of.
    pub(crate) fn of_batch(self, batch: &Batch, i: usize) -> Self {
        // Wrapping, since an empty `a` or `b` may have any step.
        Product {
            a: View { data: self.a.data.wrapping_add(i.wrapping_mul(batch.a_step)), ..self.a },
            b: View { data: self.b.data.wrapping_add(i.wrapping_mul(batch.b_step)), ..self.b },
            out: self.out.wrapping_add(i * batch.out_step),
            ..self
        }
    }

    /// The transposed product: `outᵀ = bᵀ · aᵀ`.
    pub(crate) fn exchanged(self) -> Self {
        Product {
            rows: self.cols,
            cols: self.rows,
            a: self.b.transposed(),
            b: self.a.transposed(),
            out_stride: self.out_step,
            out_step: self.out_stride,
            ..self
        }
    }

    /// The part that computes these rows and columns of the output.
    #[inline(always)]
    pub(crate) fn tile(self, rows: Range<usize>, cols: Range<usize>) -> Self {
        Product {
            rows: rows.len(),
            cols: cols.len(),
            a: self.a.from(rows.start, 0),
            b: self.b.from(0, cols.start),
            out: self.out.wrapping_add(rows.start * self.out_stride + cols.start * self.out_step),
            ..self
        }
    }
}
