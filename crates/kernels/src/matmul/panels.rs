//! Our own blocked product, compiled for each instruction set: what runs where one is forced.
//!
//! A panel of `b`, [`DEPTH`] × [`WIDTH`], is packed onto the stack; blocks of [`HEIGHT`] rows of `a` run down it
//! with their sums in registers. Every element is one sum over the depth in blocks of [`DEPTH`], in order,
//! whatever the shape around it.

use super::product::{Product, View};
use crate::isa::{self, Isa};
use crate::{Element, Write};

const HEIGHT: usize = 4;
const WIDTH: usize = 16;
const DEPTH: usize = 128;

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
/// As [`Product`] says.
#[inline(always)]
unsafe fn body<T: Element>(isa: Isa, p: Product<T>) {
    let mut panel = [[T::zero(); WIDTH]; DEPTH];
    let mut k = 0;
    // Once even for a depth of 0, which stores zeros.
    loop {
        let depth = DEPTH.min(p.depth - k);
        let write = if k == 0 { p.write } else { Write::Add };
        for j in (0..p.cols).step_by(WIDTH) {
            let width = WIDTH.min(p.cols - j);
            // SAFETY: [k, k + depth) × [j, j + width) lies within `b`.
            unsafe { pack(&mut panel[..depth], p.b.from(k, j), width) };
            for i in (0..p.rows).step_by(HEIGHT) {
                let block = Product { write, depth, a: p.a.from(0, k), ..p };
                let block = block.tile(i..(i + HEIGHT).min(p.rows), j..j + width);
                // SAFETY: a part of the product that the caller vouches for.
                unsafe {
                    match block.rows {
                        1 => rows::<T, 1>(isa, block, &panel[..depth]),
                        2 => rows::<T, 2>(isa, block, &panel[..depth]),
                        3 => rows::<T, 3>(isa, block, &panel[..depth]),
                        _ => rows::<T, HEIGHT>(isa, block, &panel[..depth]),
                    }
                }
            }
        }
        k += depth;
        if k == p.depth {
            return;
        }
    }
}

/// Copies `[panel.len(), width]` of `b`; what is beyond the width is left as it was, and never stored.
///
/// # Safety
/// So much of `b` may be read.
#[inline(always)]
unsafe fn pack<T: Element>(panel: &mut [[T; WIDTH]], b: View<T>, width: usize) {
    for (k, row) in panel.iter_mut().enumerate() {
        for (j, element) in row[..width].iter_mut().enumerate() {
            // SAFETY: within `b`.
            *element = unsafe { b.at(k, j) };
        }
    }
}

/// # Safety
/// As [`Product`] says, with `R` rows and up to [`WIDTH`] columns.
#[inline(always)]
unsafe fn rows<T: Element, const R: usize>(isa: Isa, p: Product<T>, panel: &[[T; WIDTH]]) {
    let mut sums = [[T::zero(); WIDTH]; R];
    for (k, b) in panel.iter().enumerate() {
        for (i, sums) in sums.iter_mut().enumerate() {
            // SAFETY: within `a`.
            let a = unsafe { p.a.at(i, k) };
            for (sum, &b) in sums.iter_mut().zip(b) {
                *sum = isa.mul_add(a, b, *sum);
            }
        }
    }
    for (i, sums) in sums.iter().enumerate() {
        for (j, &sum) in sums[..p.cols].iter().enumerate() {
            // SAFETY: within the output, which no other thread reaches; junk is not read before a store.
            unsafe {
                let element = p.out.add(i * p.out_stride + j);
                *element = match p.write {
                    Write::Store => p.alpha * sum,
                    Write::Add => *element + p.alpha * sum,
                };
            }
        }
    }
}
