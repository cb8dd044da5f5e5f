//! Products with a matrix that stays in its blocks: `y = x·Wᵀ`, its adjoint `dx = dy·W`, and rows by id.
//!
//! `x`: `[m, k]`, `W`: `[n, k]` in blocks along `k`, `y`: `[m, n]`; activations are `f32` or `f64`, and a decoded
//! number is an `f32`, which `f64` holds exactly.
//!
//! Rows of `W` are decoded in panels into memory that each thread keeps, and a panel meets `x` in
//! [`matmul`](crate::matmul::matmul()) while it is in a cache: the first level where `x` has few rows, as when a model
//! writes, the second where it has many, as when it reads. `W` is decoded once for each 512 rows of `x`, and nothing
//! is allocated that grows with it. Work is cut by shape alone, so any number of threads gives the same bits, and up
//! to 64 rows have the same bits together as alone.
//!
//! ```
//! use formwork_kernels::{Dest, blocks::{Format, multiply::{Matrix, linear, transposed}}};
//!
//! let half = [0x00, 0x38, 0x00, 0x3c, 0x00, 0x40, 0x00, 0xc0]; // 0.5, 1, 2, −2 as f16
//! let w = Matrix { format: Format::F16, bytes: &half, rows: 2, cols: 2 };
//! let mut y = [f32::NAN; 2];
//! linear(&[1.0, 3.0], w, Dest::store(&mut y)); // [1, 2]
//! assert_eq!(y, [3.5, -4.0]);
//! let mut dx = [1.0_f64; 2];
//! transposed(&[1.0, 3.0], w, Dest::add(&mut dx)); // [1, 2]
//! assert_eq!(dx, [7.5, -4.0]);
//! ```

mod panel;
mod plan;
pub mod reference;
mod rows;
#[cfg(test)]
mod tests;

pub use rows::{dense, gather};

use plan::Plan;

use super::Format;
use crate::{
    Element, Write,
    dest::Dest,
    disjoint::Disjoint,
    matmul::{Mat, MatMut, matmul},
    scratch, team,
};

/// A matrix `[rows, cols]` whose rows, each of whole blocks, follow one another.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    /// How its numbers stand in `bytes`.
    pub format: Format,
    /// All rows, and nothing else.
    pub bytes: &'a [u8],
    /// Number of rows.
    pub rows: usize,
    /// Numbers in a row, a multiple of the format's block.
    pub cols: usize,
}

impl Matrix<'_> {
    /// Bytes of a row, for an operation of this name.
    ///
    /// # Panics
    /// If a row is no whole number of blocks, or the bytes are not those of all rows.
    #[track_caller]
    pub(crate) fn row_bytes(&self, operation: &str) -> usize {
        let row = self.format.row_bytes(self.cols);
        let all = row.and_then(|row| row.checked_mul(self.rows));
        assert!(
            all == Some(self.bytes.len()),
            "{operation}: expected [{}, {}] in {}, found {} bytes",
            self.rows,
            self.cols,
            self.format,
            self.bytes.len()
        );
        row.expect("a product with it was just compared")
    }
}

/// `y = x·Wᵀ`, stored or added; see the [module](self).
///
/// Not a number and infinity propagate as in a sum of products.
///
/// # Panics
/// If `x` is not `[m, k]`, `y` not `[m, n]`, or the bytes of `w` not those of its shape.
pub fn linear<T: Element>(x: &[T], w: Matrix<'_>, y: Dest<'_, T>) {
    let Dest { data: y, write } = y;
    let (n, k) = (w.rows, w.cols);
    let row_bytes = w.row_bytes("blocks");
    let m = rows_of("y", y.len(), n, ("x", x.len(), k));
    // The seam for products in integers: they choose their own plan here, before anything is decoded.
    let plan = Plan::linear(m, n, k);
    let y = Disjoint::new(y);
    team::parallel(plan.tasks(), |task| {
        let (rows, task_cols) = plan.part(task);
        with_two(plan.panel * k, plan.rows * plan.panel, |panel: &mut [T], tile| {
            for start in task_cols.clone().step_by(plan.panel) {
                let cols = start..task_cols.end.min(start + plan.panel);
                let panel = &mut panel[..cols.len() * k];
                panel::decode(w.format, &w.bytes[cols.start * row_bytes..cols.end * row_bytes], panel);
                let wt = Mat::row_major(panel, cols.len(), k).transposed();
                for start in rows.clone().step_by(plan.rows) {
                    let rows = start..rows.end.min(start + plan.rows);
                    let x = Mat::row_major(&x[rows.start * k..rows.end * k], rows.len(), k);
                    let tile = &mut tile[..rows.len() * cols.len()];
                    matmul(MatMut::row_major(tile, rows.len(), cols.len()), x, wt, T::one(), Write::Store);
                    for (row, tile) in rows.zip(tile.chunks_exact(cols.len())) {
                        // SAFETY: the plan's parts do not overlap, and a part's rows are written in turn.
                        put(unsafe { y.slice(row * n + cols.start..row * n + cols.end) }, tile, write);
                    }
                }
            }
        });
    });
}

/// `dx = dy·W`, stored or added: the adjoint of [`linear`] in `x`.
///
/// # Panics
/// If `dy` is not `[m, n]`, `dx` not `[m, k]`, or the bytes of `w` not those of its shape.
pub fn transposed<T: Element>(dy: &[T], w: Matrix<'_>, dx: Dest<'_, T>) {
    let Dest { data: dx, write } = dx;
    let (n, k) = (w.rows, w.cols);
    let row_bytes = w.row_bytes("blocks");
    let m = rows_of("dx", dx.len(), k, ("dy", dy.len(), n));
    let plan = Plan::transposed(m, n, k, w.format.block());
    let bytes_of = |numbers: usize| numbers / w.format.block() * w.format.block_bytes();
    let dx = Disjoint::new(dx);
    team::parallel(plan.tasks(), |task| {
        let (rows, cols) = plan.part(task);
        let width = cols.len();
        with_two(plan.panel * width, rows.len() * width, |panel: &mut [T], tile| {
            // Without any row of `W` there is still one product, of depth 0, which stores zeros.
            for start in (0..n.max(1)).step_by(plan.panel) {
                let depth = start..n.min(start + plan.panel);
                let panel = &mut panel[..depth.len() * width];
                for (row, out) in depth.clone().zip(panel.chunks_exact_mut(width)) {
                    let from = row * row_bytes + bytes_of(cols.start);
                    panel::decode(w.format, &w.bytes[from..from + bytes_of(width)], out);
                }
                let dy = Mat {
                    data: &dy[rows.start * n + start..],
                    rows: rows.len(),
                    cols: depth.len(),
                    row_stride: n,
                    col_stride: 1,
                };
                let write = if start == 0 { Write::Store } else { Write::Add };
                let tile = MatMut::row_major(tile, rows.len(), width);
                matmul(tile, dy, Mat::row_major(panel, depth.len(), width), T::one(), write);
            }
            for (row, tile) in rows.clone().zip(tile.chunks_exact(width)) {
                // SAFETY: the plan's parts do not overlap, and a part's rows are written in turn.
                put(unsafe { dx.slice(row * k + cols.start..row * k + cols.end) }, tile, write);
            }
        });
    });
}

/// Two pieces of this thread's working memory.
fn with_two<T: Element>(first: usize, second: usize, f: impl FnOnce(&mut [T], &mut [T])) {
    scratch::with(first, |first: &mut [T]| scratch::with(second, |second: &mut [T]| f(first, second)));
}

fn put<T: Element>(to: &mut [T], from: &[T], write: Write) {
    match write {
        Write::Store => to.copy_from_slice(from),
        Write::Add => to.iter_mut().zip(from).for_each(|(to, &from)| *to += from),
    }
}

/// The number of rows of an output of `len` elements, `width` a row, whose input must have as many.
fn rows_of(out: &str, len: usize, width: usize, (name, inputs, depth): (&str, usize, usize)) -> usize {
    let m = len.checked_div(width).unwrap_or(0);
    assert!(m * width == len, "blocks: expected {out} in rows of {width}, found {len} elements");
    // An output without width says nothing of the rows, and needs nothing from them.
    assert!(
        width == 0 || m * depth == inputs,
        "blocks: expected {name} [{m}, {depth}], found {inputs} elements"
    );
    m
}
