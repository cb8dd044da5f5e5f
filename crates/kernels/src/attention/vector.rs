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
    /// The operands, if `T` is f32.
    #[inline(always)]
    pub(super) fn of<T: Element>(
        (a, b): (Matrix<'_, T>, Matrix<'_, T>),
        depth: usize,
        out: &mut [Lanes<T>],
        write: Write,
    ) -> Option<Factors> {
        (TypeId::of::<T>() == TypeId::of::<f32>()).then(|| Factors {
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

    /// Element `(i, k)` of the left factor.
    ///
    /// # Safety
    /// `i < rows`, `k < depth`, and the largest such element lies within the left factor.
    #[inline(always)]
    unsafe fn a(&self, i: usize, k: usize) -> f32 {
        // SAFETY: the caller's promise.
        unsafe { *self.a.add(i * self.row + k * self.column) }
    }
}

/// The transpose of 32 × 32 numbers, in blocks of 8 × 8.
///
/// # Safety
/// The CPU has AVX2; `from` is readable and `to` writable for 32 rows of 32, and they do not overlap.
#[target_feature(enable = "avx2")]
#[inline]
pub(super) unsafe fn transpose(from: *const f32, to: *mut f32) {
    for block in 0..16 {
        let (row, column) = (block / 4 * 8, block % 4 * 8);
        let mut r = [_mm256_setzero_ps(); 8];
        for (i, r) in r.iter_mut().enumerate() {
            // SAFETY: row + i and column + 8 are at most 32.
            *r = unsafe { _mm256_loadu_ps(from.add((row + i) * WIDTH + column)) };
        }
        // Pairs of rows, then quadruples, then halves of registers change places.
        let mut pairs = r;
        for i in (0..8).step_by(2) {
            pairs[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
            pairs[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
        }
        let mut fours = r;
        for i in [0, 4] {
            for j in 0..2 {
                let (a, b) = (pairs[i + j], pairs[i + j + 2]);
                fours[i + 2 * j] = _mm256_shuffle_ps::<0x44>(a, b);
                fours[i + 2 * j + 1] = _mm256_shuffle_ps::<0xEE>(a, b);
            }
        }
        for i in 0..4 {
            let (a, b) = (fours[i], fours[i + 4]);
            // SAFETY: column + i + 4 is below 32, and row + 8 at most 32.
            unsafe {
                _mm256_storeu_ps(to.add((column + i) * WIDTH + row), _mm256_permute2f128_ps::<0x20>(a, b));
                _mm256_storeu_ps(
                    to.add((column + i + 4) * WIDTH + row),
                    _mm256_permute2f128_ps::<0x31>(a, b),
                );
            }
        }
    }
}

/// Defines a product whose blocks of rows keep `$registers` registers of `$lanes` numbers a row.
macro_rules! product {
    ($name:ident, $block:ident, $features:literal, $rows:literal, $registers:literal, $lanes:literal,
     $zero:ident, $load:ident, $store:ident, $splat:ident, $fma:ident) => {
        /// The product, eight or two rows at a time and the rest one by one.
        ///
        /// # Safety
        /// The CPU has the instructions, and the last elements of both factors lie within them.
        #[target_feature(enable = $features)]
        #[inline]
        pub(super) unsafe fn $name(f: Factors) {
            let whole = f.rows / $rows * $rows;
            for i in (0..whole).step_by($rows) {
                // SAFETY: the caller's promise; i + $rows ≤ rows.
                unsafe { $block::<$rows>(f, i) };
            }
            for i in whole..f.rows {
                // SAFETY: as above.
                unsafe { $block::<1>(f, i) };
            }
        }

        /// # Safety
        /// As for the product, and `i + R ≤ rows`.
        #[target_feature(enable = $features)]
        #[inline]
        unsafe fn $block<const R: usize>(f: Factors, i: usize) {
            const { assert!($registers * $lanes == WIDTH) };
            // SAFETY: rows i..i + R of `out` are whole rows of WIDTH numbers; the elements of `a` and the rows of
            // `b` are within them by the caller's promise.
            unsafe {
                let out = f.out.add(i * WIDTH);
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
                        b[v] = $load(f.b.add(k * f.b_row + v * $lanes));
                    }
                    for r in 0..R {
                        let x = $splat(f.a(i + r, k));
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
    };
}

// 16 of 32 registers hold sums, 2 the right factor.
product!(
    avx512,
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
// 8 of 16 registers hold sums, 4 the right factor.
product!(
    avx2,
    block256,
    "avx2,fma",
    2,
    4,
    8,
    _mm256_setzero_ps,
    _mm256_loadu_ps,
    _mm256_storeu_ps,
    _mm256_set1_ps,
    _mm256_fmadd_ps
);
