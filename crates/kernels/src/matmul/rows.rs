//! A few rows against a transposed matrix: `out[i, j] = a[i] · w[j]`, both contiguous over the depth.
//!
//! Decoding is this and little else, and it is bound by reading `w` once: all rows of `a` meet a few rows of `w`
//! while those are in the first-level cache. Every sum runs over [`LANES`] partial sums in one order, so a row has
//! the same bits whether it comes alone or with others. For a row alone there is too little to do between two loads for
//! the CPU to look far ahead across the pages of a mapped file, so the next rows of `w` are asked for in advance.

use super::product::Product;
use crate::isa::{self, Isa, LANES, sum_lanes};
use crate::reduce::padded;
use crate::{Element, Write, prefetch};

/// The most rows that are always taken here, and the most where `w` has at least [`LARGE`] elements: packing it for tiles
/// then costs more than their faster inner loop wins. Measured at widths from 128 to 8192.
pub(super) const MOST: usize = 8;
const MOST_IF_LARGE: usize = 16;
const LARGE: usize = 1 << 18;
/// The most columns that are taken here in place of rows: most lanes of a tile would idle.
const COLUMNS: usize = 4;

/// Whether a product comes here, as it is or transposed, by its shape and strides.
pub(super) fn take<T>(p: &Product<T>) -> bool {
    p.a.col_stride == 1 && p.b.row_stride == 1 && (few(p) || p.cols <= COLUMNS)
}

/// Whether there are few rows.
pub(super) fn few<T>(p: &Product<T>) -> bool {
    p.rows <= if p.depth.saturating_mul(p.cols) < LARGE { MOST } else { MOST_IF_LARGE }
}

/// # Safety
/// As [`Product`] says; `a.col_stride` and `b.row_stride` are 1.
pub(super) unsafe fn run<T: Element>(p: Product<T>) {
    debug_assert!(
        p.a.col_stride == 1 && p.b.row_stride == 1,
        "rows: operands are not contiguous over the depth"
    );
    isa::dispatch(
        #[inline(always)]
        // SAFETY: handed on.
        |isa| unsafe { body(isa, p) },
    );
}

/// # Safety
/// As [`run`].
#[inline(always)]
unsafe fn body<T: Element>(isa: Isa, p: Product<T>) {
    // Plain loops: an iterator's closure might not be inlined, and then would not be compiled for the set.
    let mut j = 0;
    // SAFETY: each call takes a part of the product.
    unsafe {
        if p.rows == 1 {
            while j + 4 <= p.cols {
                block::<T, 1, 4>(isa, p.tile(0..1, j..j + 4));
                j += 4;
            }
            while j < p.cols {
                block::<T, 1, 1>(isa, p.tile(0..1, j..j + 1));
                j += 1;
            }
        } else {
            while j + 2 <= p.cols {
                pairs::<T, 2>(isa, p.tile(0..p.rows, j..j + 2));
                j += 2;
            }
            if j < p.cols {
                pairs::<T, 1>(isa, p.tile(0..p.rows, j..j + 1));
            }
        }
    }
}

/// All rows, at least two, of `C` columns.
///
/// # Safety
/// As [`run`].
#[inline(always)]
unsafe fn pairs<T: Element, const C: usize>(isa: Isa, p: Product<T>) {
    // More sums at once would not stay in the sixteen registers of AVX2.
    let mut i = 0;
    // SAFETY: each call takes a part of the product.
    unsafe {
        while p.rows - i > 3 || p.rows - i == 2 {
            block::<T, 2, C>(isa, p.tile(i..i + 2, 0..C));
            i += 2;
        }
        if i < p.rows {
            block::<T, 3, C>(isa, p.tile(i..i + 3, 0..C));
        }
    }
}

/// `R` rows of `C` columns.
///
/// # Safety
/// As [`run`].
#[inline(always)]
unsafe fn block<T: Element, const R: usize, const C: usize>(isa: Isa, p: Product<T>) {
    // SAFETY: row `i` of `a` and column `c` of `b` are `depth` contiguous elements that the caller vouches for.
    let a: [&[T]; R] = std::array::from_fn(|i| unsafe { slice(p.a.from(i, 0).data, p.depth) });
    // SAFETY: as above.
    let w: [&[T]; C] = std::array::from_fn(|c| unsafe { slice(p.b.from(0, c).data, p.depth) });
    let sums = dots(isa, &a, &w, C * p.b.col_stride);
    for (i, sums) in sums.into_iter().enumerate() {
        for (c, sum) in sums.into_iter().enumerate() {
            // SAFETY: within the output, which no other thread reaches; junk is not read before a store.
            unsafe {
                let element = p.out.add(i * p.out_stride + c * p.out_step);
                *element = match p.write {
                    Write::Store => p.alpha * sum,
                    Write::Add => *element + p.alpha * sum,
                };
            }
        }
    }
}

/// # Safety
/// `len` elements may be read from `data`, or `len` is 0.
#[inline(always)]
unsafe fn slice<'a, T>(data: *const T, len: usize) -> &'a [T] {
    if len == 0 {
        return &[];
    }
    // SAFETY: by the contract.
    unsafe { std::slice::from_raw_parts(data, len) }
}

/// `a[i] · w[c]` for all `i` and `c`; all slices have one length. What comes next in place of `w` stands `next` elements
/// behind it.
#[inline(always)]
fn dots<T: Element, const R: usize, const C: usize>(
    isa: Isa,
    a: &[&[T]; R],
    w: &[&[T]; C],
    next: usize,
) -> [[T; C]; R] {
    let blocks = w[0].len() / LANES;
    let a_blocks: [&[[T; LANES]]; R] = std::array::from_fn(|i| &a[i].as_chunks().0[..blocks]);
    let w_blocks: [&[[T; LANES]]; C] = std::array::from_fn(|c| &w[c].as_chunks().0[..blocks]);
    let mut lanes = [[[T::zero(); LANES]; C]; R];
    for p in 0..blocks {
        for c in 0..C {
            if R == 1 {
                prefetch::second(w_blocks[c][p].as_ptr().wrapping_add(next), LANES);
            }
            let w = w_blocks[c][p];
            for i in 0..R {
                add_products(isa, &mut lanes[i][c], &a_blocks[i][p], &w);
            }
        }
    }
    if !w[0].len().is_multiple_of(LANES) {
        // Zeros add nothing; indexing the sums by a length would force them out of their registers.
        let w = w.map(|w| padded(w.as_chunks::<LANES>().1));
        for i in 0..R {
            let a = padded(a[i].as_chunks::<LANES>().1);
            for c in 0..C {
                add_products(isa, &mut lanes[i][c], &a, &w[c]);
            }
        }
    }
    lanes.map(|row| row.map(sum_lanes))
}

#[inline(always)]
fn add_products<T: Element>(isa: Isa, sums: &mut [T; LANES], a: &[T; LANES], w: &[T; LANES]) {
    for l in 0..LANES {
        sums[l] = isa.mul_add(a[l], w[l], sums[l]);
    }
}
