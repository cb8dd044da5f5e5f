//! The products as their definitions say them, for tests to compare with.

use super::Matrix;
use crate::{
    Element,
    blocks::decode,
    dest::Dest,
    matmul::{self, Mat, MatMut},
};

/// [`linear`](super::linear) over a matrix that is decoded as a whole, as nested loops on one thread.
///
/// # Panics
/// As [`linear`](super::linear).
pub fn linear<T: Element>(x: &[T], w: Matrix<'_>, y: Dest<'_, T>) {
    let (n, k) = (w.rows, w.cols);
    let m = y.data.len().checked_div(n).unwrap_or(0);
    let w = decoded::<T>(w);
    let Dest { data, write } = y;
    let (x, wt) = (Mat::row_major(x, m, k), Mat::row_major(&w, n, k).transposed());
    matmul::reference(MatMut::row_major(data, m, n), x, wt, T::one(), write);
}

/// [`transposed`](super::transposed) over a matrix that is decoded as a whole, as nested loops on one thread.
///
/// # Panics
/// As [`transposed`](super::transposed).
pub fn transposed<T: Element>(dy: &[T], w: Matrix<'_>, dx: Dest<'_, T>) {
    let (n, k) = (w.rows, w.cols);
    let m = dx.data.len().checked_div(k).unwrap_or(0);
    let w = decoded::<T>(w);
    let Dest { data, write } = dx;
    let out = MatMut::row_major(data, m, k);
    matmul::reference(out, Mat::row_major(dy, m, n), Mat::row_major(&w, n, k), T::one(), write);
}

fn decoded<T: Element>(w: Matrix<'_>) -> Vec<T> {
    let mut dense = vec![0.0_f32; w.rows * w.cols];
    decode(w.format, w.bytes, &mut dense);
    dense.into_iter().map(|v| T::of(f64::from(v))).collect()
}
