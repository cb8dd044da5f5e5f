//! The product as its definition says it, for tests to compare with.

use super::{Mat, MatMut};
use crate::Write;
use num_traits::Float;

/// [`matmul`](super::matmul) as three nested loops on one thread; slow, and nothing but plain indexing.
///
/// # Panics
/// If the shapes do not fit each other or a matrix reaches past its data.
///
/// ```
/// use formwork_kernels::{matmul::{Mat, MatMut, reference}, Write};
/// let mut out = [0.0_f32];
/// let (row, column) = (Mat::row_major(&[1.0, 2.0], 1, 2), Mat::row_major(&[3.0, 4.0], 2, 1));
/// reference(MatMut::row_major(&mut out, 1, 1), row, column, 2.0, Write::Store);
/// assert_eq!(out, [22.0]);
/// ```
pub fn reference<T: Float>(out: MatMut<'_, T>, a: Mat<'_, T>, b: Mat<'_, T>, alpha: T, write: Write) {
    assert_eq!((a.rows, a.cols, b.cols), (out.rows, b.rows, out.cols), "reference: shapes do not fit");
    let MatMut { data, rows, cols, row_stride } = out;
    for i in 0..rows {
        for j in 0..cols {
            let mut sum = T::zero();
            for p in 0..a.cols {
                sum = sum
                    + a.data[i * a.row_stride + p * a.col_stride]
                        * b.data[p * b.row_stride + j * b.col_stride];
            }
            let element = &mut data[i * row_stride + j];
            *element = match write {
                Write::Store => alpha * sum,
                Write::Add => *element + alpha * sum,
            };
        }
    }
}
