//! Matrix products: `out = alpha · A · B`, stored or added, in all transpositions, strided and batched.
//!
//! `A` is `[rows, depth]`, `B` is `[depth, cols]`, `out` is `[rows, cols]`; a transposition is a [`Mat`] with its
//! strides exchanged, and costs nothing. A linear layer is `y = x·Wᵀ`, its adjoints are `dy·W` and `dyᵀ·x`.
//!
//! One of three paths does the work, chosen by shape and strides alone:
//! - plain loops, for what is so small or so shallow that nothing can be prepared for it;
//! - up to eight rows against `Wᵀ` (up to 16 if `W` is large), which is what decoding does, or a few columns: dot
//!   products of rows as they lie, which give a row the same bits alone and in the batch;
//! - everything else: tiles in registers over panels packed for them, compiled for each instruction set.
//!
//! [`matmul_bf16`] rounds both operands to bf16 on their way into the panels. Nothing is taken from the system once the
//! threads have the memory for packing, a few megabytes each, and outputs are cut into tasks by shape alone, so any
//! number of threads gives the same bits, on any machine with the same instruction set.
//!
//! ```
//! use formwork_kernels::{matmul::{Mat, MatMut, matmul}, Write};
//! let dy = [1.0_f64, 2.0]; // [2, 1]
//! let x = [3.0_f64, 4.0, 5.0, 6.0]; // [2, 2]
//! let mut dw = [10.0_f64, 20.0]; // [1, 2]: one gradient is there already
//! matmul(
//!     MatMut::row_major(&mut dw, 1, 2),
//!     Mat::row_major(&dy, 2, 1).transposed(),
//!     Mat::row_major(&x, 2, 2),
//!     1.0,
//!     Write::Add,
//! );
//! assert_eq!(dw, [10.0 + 13.0, 20.0 + 16.0]);
//! ```

pub(crate) mod bf16;
pub(crate) mod grid;
mod numbers;
mod panels;
mod plain;
mod plan;
mod product;
mod reference;
mod register;
mod rows;
#[cfg(test)]
mod tests;
pub(crate) mod tile;

pub use reference::reference;

use crate::isa;
use crate::team::parallel;
use crate::{Element, Write};
use plan::Plan;
use product::{Product, View};

/// A matrix to read: element `(i, j)` is `data[i · row_stride + j · col_stride]`.
///
/// A stride of 0 repeats a row or a column.
#[derive(Clone, Copy, Debug)]
pub struct Mat<'a, T> {
    /// What the matrix lies in; it may be longer than needed.
    pub data: &'a [T],
    /// Number of rows.
    pub rows: usize,
    /// Number of columns.
    pub cols: usize,
    /// Elements from one row to the next.
    pub row_stride: usize,
    /// Elements from one column to the next.
    pub col_stride: usize,
}

impl<'a, T> Mat<'a, T> {
    /// A matrix whose rows follow one another in `data`.
    pub fn row_major(data: &'a [T], rows: usize, cols: usize) -> Self {
        Mat { data, rows, cols, row_stride: cols, col_stride: 1 }
    }

    /// The same memory with rows and columns exchanged.
    #[must_use]
    pub fn transposed(self) -> Self {
        Mat {
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
            ..self
        }
    }

    /// How many elements of `data` the matrix reaches over; `None` if that is beyond counting.
    fn extent(&self) -> Option<usize> {
        extent(self.rows, self.cols, self.row_stride, self.col_stride)
    }
}

/// A matrix to write: element `(i, j)` is `data[i · row_stride + j]`.
#[derive(Debug)]
pub struct MatMut<'a, T> {
    /// What the matrix lies in; it may be longer than needed, and what is between the rows is left alone.
    pub data: &'a mut [T],
    /// Number of rows.
    pub rows: usize,
    /// Number of columns.
    pub cols: usize,
    /// Elements from one row to the next, at least `cols`.
    pub row_stride: usize,
}

impl<'a, T> MatMut<'a, T> {
    /// A matrix whose rows follow one another in `data`.
    pub fn row_major(data: &'a mut [T], rows: usize, cols: usize) -> Self {
        MatMut { data, rows, cols, row_stride: cols }
    }
}

/// Several products of one shape: product `i` begins `i` steps into the data of each matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Number of products.
    pub count: usize,
    /// Elements from one `A` to the next; 0 uses the same one for all.
    pub a_step: usize,
    /// Elements from one `B` to the next; 0 uses the same one for all.
    pub b_step: usize,
    /// Elements from one output to the next, at least what one output reaches over.
    pub out_step: usize,
}

impl Batch {
    /// One product.
    fn one<T>(out: &MatMut<'_, T>) -> Self {
        Batch { count: 1, a_step: 0, b_step: 0, out_step: out.data.len() }
    }

    /// The batch of the transposed products.
    fn exchanged(self) -> Self {
        Batch { a_step: self.b_step, b_step: self.a_step, ..self }
    }
}

/// `out = alpha · a · b`, or `out += alpha · a · b`; see the [module](self).
///
/// Not a number and infinity propagate as in a sum of products. A depth of 0 stores zeros or adds nothing.
///
/// # Panics
/// If the shapes do not fit each other or a matrix reaches past its data.
pub fn matmul<T: Element>(out: MatMut<'_, T>, a: Mat<'_, T>, b: Mat<'_, T>, alpha: T, write: Write) {
    let batch = Batch::one(&out);
    matmul_batched(out, a, b, alpha, write, batch);
}

/// [`matmul`] for `batch.count` products; the matrices describe the first one and hold the data of all.
///
/// # Panics
/// As [`matmul`], for every product, and if two outputs would overlap.
pub fn matmul_batched<T: Element>(
    out: MatMut<'_, T>,
    a: Mat<'_, T>,
    b: Mat<'_, T>,
    alpha: T,
    write: Write,
    batch: Batch,
) {
    let Some(first) = first(out, &a, &b, alpha, write, &batch) else { return };
    // Few columns are few rows of the transposed product.
    if plain::take(&first) {
        let exchange = plain::exchange(&first);
        // SAFETY: `in_parts` hands out parts of a product all of which `first` showed to lie within its data.
        in_parts(first, batch, exchange, |part| unsafe { plain::run(part) });
    } else if rows::take(&first) {
        let exchange = first.rows > first.cols && !rows::few(&first);
        // SAFETY: as above; the strides are those that `take` saw.
        in_parts(first, batch, exchange, |part| unsafe { rows::run(part) });
    } else {
        // SAFETY: the current instruction set is one that the CPU has; the rest as above.
        unsafe { panels::batch(numbers::Plain::<T>::on(isa::current()), first, &batch) };
    }
}

/// [`matmul`] with both operands rounded to bf16 and sums in `f32`: about twice as fast where the CPU multiplies pairs
/// of bf16.
///
/// Rounding is to the nearest, ties to even; on every instruction set, of which those without such products widen the
/// rounded numbers again. With them, numbers and sums below the smallest normal `f32` count as 0.
///
/// # Panics
/// As [`matmul`].
///
/// ```
/// use formwork_kernels::{matmul::{Mat, MatMut, matmul_bf16}, Write};
/// let (a, b) = ([1.0 + 1.0 / 512.0, 3.0], [2.0, 0.5]); // the first rounds to 1
/// let mut out = [f32::NAN];
/// let (a, b) = (Mat::row_major(&a, 1, 2), Mat::row_major(&b, 2, 1));
/// matmul_bf16(MatMut::row_major(&mut out, 1, 1), a, b, 1.0, Write::Store);
/// assert_eq!(out, [3.5]);
/// ```
pub fn matmul_bf16(out: MatMut<'_, f32>, a: Mat<'_, f32>, b: Mat<'_, f32>, alpha: f32, write: Write) {
    let batch = Batch::one(&out);
    let Some(first) = first(out, &a, &b, alpha, write, &batch) else { return };
    let isa = isa::current();
    // SAFETY: the current instruction set is one that the CPU has; `first` showed that every matrix lies within its data.
    unsafe {
        match bf16::Dot::on(isa) {
            Some(dot) => panels::batch(dot, first, &batch),
            None => panels::batch(bf16::Widened::on(isa), first, &batch),
        }
    }
}

/// Runs `run` on parts of the products of a batch, as they are or transposed, no two of which share an element of an
/// output.
fn in_parts<T: Element>(first: Product<T>, batch: Batch, exchange: bool, run: impl Fn(Product<T>) + Sync) {
    let (first, batch) = if exchange { (first.exchanged(), batch.exchanged()) } else { (first, batch) };
    if batch.count == 1 && plain::tiny(&first) {
        run(first);
        return;
    }
    let plan = Plan::of(batch.count, first.rows, first.cols, first.depth);
    parallel(plan.tasks(), |task| {
        for part in plan.parts(task) {
            run(first.of_batch(&batch, part.index).tile(0..first.rows, part.cols));
        }
    });
}

/// The first product of a batch, all of which lie within their data; `None` if there is nothing to write.
///
/// # Panics
/// As [`matmul_batched`].
fn first<T: Element>(
    out: MatMut<'_, T>,
    a: &Mat<'_, T>,
    b: &Mat<'_, T>,
    alpha: T,
    write: Write,
    batch: &Batch,
) -> Option<Product<T>> {
    check(&out, a, b, batch);
    let MatMut { data, rows, cols, row_stride } = out;
    (batch.count > 0 && rows > 0 && cols > 0).then(|| Product {
        rows,
        cols,
        depth: a.cols,
        a: View::of(a),
        b: View::of(b),
        out: data.as_mut_ptr(),
        out_stride: row_stride,
        out_step: 1,
        alpha,
        write,
    })
}

/// How many elements a strided matrix reaches over; `None` if that is beyond counting.
fn extent(rows: usize, cols: usize, row_stride: usize, col_stride: usize) -> Option<usize> {
    if rows == 0 || cols == 0 {
        return Some(0);
    }
    (rows - 1).checked_mul(row_stride)?.checked_add((cols - 1).checked_mul(col_stride)?)?.checked_add(1)
}

/// Panics unless all products lie within the data and no two outputs overlap.
fn check<T>(out: &MatMut<'_, T>, a: &Mat<'_, T>, b: &Mat<'_, T>, batch: &Batch) {
    assert!(
        a.rows == out.rows && b.cols == out.cols && a.cols == b.rows,
        "matmul: expected [rows, depth] · [depth, cols] into [rows, cols], found [{}, {}] · [{}, {}] into [{}, {}]",
        a.rows,
        a.cols,
        b.rows,
        b.cols,
        out.rows,
        out.cols
    );
    let Some(last) = batch.count.checked_sub(1) else { return };
    assert!(
        out.rows <= 1 || out.row_stride >= out.cols,
        "matmul: expected a row stride of at least {} for the output, found {}",
        out.cols,
        out.row_stride
    );
    let out_extent = extent(out.rows, out.cols, out.row_stride, 1);
    assert!(
        batch.count == 1 || out_extent.is_some_and(|e| batch.out_step >= e),
        "matmul: expected outputs that do not overlap, found a step of {} over an extent of {out_extent:?}",
        batch.out_step
    );
    for (name, extent, step, len) in [
        ("a", a.extent(), batch.a_step, a.data.len()),
        ("b", b.extent(), batch.b_step, b.data.len()),
        ("out", out_extent, batch.out_step, out.data.len()),
    ] {
        let needed =
            extent.and_then(|e| if e == 0 { Some(0) } else { last.checked_mul(step)?.checked_add(e) });
        assert!(
            needed.is_some_and(|n| n <= len),
            "matmul: expected {name} to lie within its {len} elements, found that it needs {needed:?}"
        );
    }
}
