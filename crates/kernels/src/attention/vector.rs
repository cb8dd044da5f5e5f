//! Products and transposes of f32 tiles in the registers of one instruction set.
//!
//! Left to itself the compiler finds another order for the loops of a product, at a twentieth of the speed.
//! The safe twins are in [`super::tile`], whose tests run every path against one case table.

use super::tile::{Lanes, Matrix, WIDTH};
use crate::{Element, Write};
use std::any::TypeId;
use std::arch::x86_64::*;

/// The operands of a product of f32.
#[derive(Clone, Copy)]
pub(super) struct Factors {
    a: *const f32,
    row: usize,
    column: usize,
    b: *const f32,
    b_row: usize,
    out: *mut f32,
    rows: usize,
    depth: usize,
    write: Write,
}

impl Factors {
    /// The operands, if `T` is f32 and rows or columns of the left factor are contiguous.
    #[inline(always)]
    pub(super) fn of<T: Element>(
        (a, b): (Matrix<'_, T>, Matrix<'_, T>),
        depth: usize,
        out: &mut [Lanes<T>],
        write: Write,
    ) -> Option<Factors> {
        let fits = TypeId::of::<T>() == TypeId::of::<f32>() && (a.row == 1 || a.column == 1);
        fits.then(|| Factors {
            a: a.data.as_ptr().cast(),
            row: a.row,
            column: a.column,
            b: b.data.as_ptr().cast(),
            b_row: b.row,
            out: out.as_mut_ptr().cast(),
            rows: out.len(),
            depth,
            write,
        })
    }

    /// Where element `(i, k)` of the left factor lies. Which of the two strides is 1 is known when this is compiled:
    /// with both free, the addresses would take more instructions than the sums.
    ///
    /// # Safety
    /// `i < rows`, `k ≤ depth`, the largest element lies within the left factor, and the other stride is 1.
    #[inline(always)]
    unsafe fn a<const ROWS: bool>(&self, i: usize, k: usize) -> *const f32 {
        // SAFETY: the caller's promise.
        unsafe { if ROWS { self.a.add(i * self.row + k) } else { self.a.add(i + k * self.column) } }
    }
}

/// Defines a product whose blocks of up to `$rows` rows keep `$registers` registers of `$lanes` numbers a row, for one
/// part of the row's 32 after the other.
macro_rules! product {
    ($name:ident, $all:ident, $block:ident, $features:literal, $rows:literal, $registers:literal, $lanes:literal,
     $zero:ident, $load:ident, $store:ident, $splat:ident, $fma:ident) => {
        /// The product.
        ///
        /// # Safety
        /// The CPU has the instructions, and the last elements of both factors lie within them.
        #[target_feature(enable = $features)]
        #[inline]
        pub(super) unsafe fn $name(f: Factors) {
            // SAFETY: the caller's promise, and `Factors` has rows or columns that are contiguous.
            unsafe { if f.column == 1 { $all::<true>(f) } else { $all::<false>(f) } }
        }

        /// As many rows at a time as the registers hold, and then the rest.
        ///
        /// # Safety
        /// As for the product; `ROWS` says which stride of the left factor is 1.
        #[target_feature(enable = $features)]
        #[inline]
        unsafe fn $all<const ROWS: bool>(f: Factors) {
            let mut i = 0;
            // SAFETY: the caller's promise, and each block ends at or before the last row.
            unsafe {
                while i + $rows <= f.rows {
                    $block::<$rows, ROWS>(f, i);
                    i += $rows;
                }
                if i + 4 <= f.rows {
                    $block::<4, ROWS>(f, i);
                    i += 4;
                }
                if i + 2 <= f.rows {
                    $block::<2, ROWS>(f, i);
                    i += 2;
                }
                if i < f.rows {
                    $block::<1, ROWS>(f, i);
                }
            }
        }

        /// # Safety
        /// As for the product, and `i + R ≤ rows`.
        #[target_feature(enable = $features)]
        #[inline]
        unsafe fn $block<const R: usize, const ROWS: bool>(f: Factors, i: usize) {
            const { assert!(WIDTH.is_multiple_of($registers * $lanes) && $rows < 10) };
            for part in (0..WIDTH).step_by($registers * $lanes) {
                // SAFETY: rows i..i + R of `out` are whole rows of WIDTH numbers; the elements of `a` and the rows of
                // `b` are within them by the caller's promise.
                unsafe {
                    let out = f.out.add(i * WIDTH + part);
                    let mut sums = [[$zero(); $registers]; R];
                    if f.write == Write::Add {
                        for r in 0..R {
                            for v in 0..$registers {
                                sums[r][v] = $load(out.add(r * WIDTH + v * $lanes));
                            }
                        }
                    }
                    for k in 0..f.depth {
                        let mut b = [$zero(); $registers];
                        for v in 0..$registers {
                            b[v] = $load(f.b.add(k * f.b_row + part + v * $lanes));
                        }
                        for r in 0..R {
                            let x = $splat(*f.a::<ROWS>(i + r, k));
                            for v in 0..$registers {
                                sums[r][v] = $fma(x, b[v], sums[r][v]);
                            }
                        }
                    }
                    for r in 0..R {
                        for v in 0..$registers {
                            $store(out.add(r * WIDTH + v * $lanes), sums[r][v]);
                        }
                    }
                }
            }
        }
    };
}

// 16 of 32 registers hold sums, 2 the right factor.
product!(
    avx512,
    all512,
    block512,
    "avx512f",
    8,
    2,
    16,
    _mm512_setzero_ps,
    _mm512_loadu_ps,
    _mm512_storeu_ps,
    _mm512_set1_ps,
    _mm512_fmadd_ps
);
// 12 of 16 registers hold sums, 2 the right factor.
product!(
    avx2,
    all256,
    block256,
    "avx2,fma",
    6,
    2,
    8,
    _mm256_setzero_ps,
    _mm256_loadu_ps,
    _mm256_storeu_ps,
    _mm256_set1_ps,
    _mm256_fmadd_ps
);
