//! Plain loops, for products so small that preparing anything for them would take longer than they do.
//!
//! A row of the output gathers rows of `b`, in the order of the depth: the bits are those of the tiles, which is why a
//! product comes here only if its depth is one block of theirs.

#![allow(
    clippy::needless_range_loop,
    reason = "an iterator's closure might not be compiled for the instruction set"
)]

use super::product::Product;
use super::{grid, rows};
use crate::isa::{self, Isa};
use crate::{Element, Write};

/// Multiplications of a product that comes here whatever its shape.
const TINY: usize = 2048;
/// The depth below which a register of partial sums would be mostly empty, and the rows or columns beside which nothing
/// that is prepared is used often enough.
const SHALLOW: usize = 8;
const FEW: usize = 16;

/// Whether a product comes here, by its shape and strides. Where rows of `a` meet rows of `w`, the number of rows must
/// not matter, or a row would have other bits alone than among others.
pub(super) fn take<T>(p: &Product<T>) -> bool {
    let by_rows = rows::take(p);
    let few = p.rows <= FEW || (p.cols <= FEW && (by_rows || p.a.row_stride == 1));
    (few && p.depth <= SHALLOW) || (tiny(p) && !by_rows && grid::blocks(p.depth).count() <= 1)
}

/// Whether a product is so small that even cutting it into tasks would take longer.
pub(super) fn tiny<T>(p: &Product<T>) -> bool {
    p.rows.saturating_mul(p.cols).saturating_mul(p.depth) <= TINY
}

/// Whether the columns of the transposed product make the better inner loop.
pub(super) fn exchange<T>(p: &Product<T>) -> bool {
    p.cols < p.rows && p.a.row_stride == 1 && (p.cols < SHALLOW || p.b.col_stride != 1)
}

/// # Safety
/// As [`Product`] says.
pub(super) unsafe fn run<T: Element>(p: Product<T>) {
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
    for i in 0..p.rows {
        let mut j = 0;
        // More columns at once would not stay in registers.
        // SAFETY: each call takes a part of a row.
        unsafe {
            while j + 16 <= p.cols {
                columns::<T, 16>(isa, &p, i, j);
                j += 16;
            }
            while j + 8 <= p.cols {
                columns::<T, 8>(isa, &p, i, j);
                j += 8;
            }
            while j + 2 <= p.cols {
                columns::<T, 2>(isa, &p, i, j);
                j += 2;
            }
            if j < p.cols {
                columns::<T, 1>(isa, &p, i, j);
            }
        }
    }
}

/// Row `i`, columns `j..j + N`.
///
/// # Safety
/// As [`run`].
#[inline(always)]
unsafe fn columns<T: Element, const N: usize>(isa: Isa, p: &Product<T>, i: usize, j: usize) {
    let mut sums = [T::zero(); N];
    // SAFETY: within the operands and the output, as the caller vouches; junk is not read before a store.
    unsafe {
        for k in 0..p.depth {
            let x = p.a.at(i, k);
            let right = p.b.from(k, j);
            let row: [T; N] = if right.col_stride == 1 {
                right.data.cast::<[T; N]>().read_unaligned()
            } else {
                std::array::from_fn(|l| right.at(0, l))
            };
            for l in 0..N {
                sums[l] = isa.mul_add(x, row[l], sums[l]);
            }
        }
        let to = p.out.add(i * p.out_stride + j * p.out_step);
        if p.out_step == 1 && p.write == Write::Store {
            to.cast::<[T; N]>().write_unaligned(sums.map(|sum| p.alpha * sum));
            return;
        }
        for l in 0..N {
            let element = to.add(l * p.out_step);
            *element = match p.write {
                Write::Store => p.alpha * sums[l],
                Write::Add => *element + p.alpha * sums[l],
            };
        }
    }
}
