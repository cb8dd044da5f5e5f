//! Sums and means over axes, or over everything.

use formwork_kernels::{
    Dest, Element, Write,
    elementwise::{column_sums, row_sums},
};

use super::{exactly, fresh, map};
use crate::{Buffer, Error, GradSink, Op, Outputs, Pool, Result, Saved, Scalar, Shape, Tensor, dispatch};

/// The sum over one axis (which then has length 1), or over all (a scalar), times a factor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sum {
    /// The axis to sum over, or `None` for all.
    pub axis: Option<usize>,
    /// What the sum is multiplied with: `1 / n` makes it a mean.
    pub scale: f64,
}

impl Op for Sum {
    fn name(&self) -> &'static str {
        "sum"
    }

    fn forward(&self, inputs: &[&Tensor], _: &mut Saved) -> Result<Outputs> {
        let [x] = exactly("sum", inputs)?;
        let shape = summed(x.shape(), self.axis)?;
        let x = x.compact()?;
        let y = dispatch!(x.dtype(), T => {
            let (v, scale) = (x.slice::<T>()?, <T as Element>::of(self.scale));
            fresh::<T>(&shape, x.pool(), |y| {
                match self.axis {
                    None => y[0] = total(v, x.pool()),
                    Some(axis) => along(v, x.shape(), axis, y),
                }
                y.iter_mut().for_each(|y| *y *= scale);
            })?
        });
        Ok(y.into())
    }

    /// dx = scale · dy, repeated over the summed axes.
    fn backward(&self, _: &Saved, grads: &[Option<&Tensor>], into: &mut GradSink<'_>) -> Result<()> {
        let dy = into.grad(grads, 0)?;
        let shape = into.shape(0)?;
        dispatch!(dy.dtype(), T => {
            let scale = <T as Element>::of(self.scale);
            if dy.len() == 1 {
                let d = scale * dy.slice::<T>()?[0];
                return into.give::<T>(0, |dx, write| match write {
                    Write::Store => dx.fill(d),
                    Write::Add => dx.iter_mut().for_each(|dx| *dx += d),
                });
            }
            let wide = dy.detached().expand(&shape)?.compact()?;
            let wide = wide.slice::<T>()?;
            into.give::<T>(0, |dx, write| map(dx, write, wide, |d| scale * d))
        })
    }
}

/// The sum of all numbers: of rows first, then of what they gave, so that the error grows with the logarithm of the length.
fn total<T: Scalar>(x: &[T], pool: Option<&Pool>) -> T {
    const ROW: usize = 1024;
    if x.len() <= ROW {
        let mut sum = [T::zero()];
        row_sums(x, x.len(), Dest::store(&mut sum));
        return sum[0];
    }
    let rows = x.len() / ROW;
    let (whole, rest) = x.split_at(rows * ROW);
    let mut sums = Buffer::<T>::new(rows + 1, pool);
    row_sums(whole, ROW, Dest::store(&mut sums[..rows]));
    row_sums(rest, rest.len(), Dest::store(&mut sums[rows..]));
    total(&sums, pool)
}

/// `y[o, i] = Σ_j x[o, j, i]`, where `o` counts the axes before `axis` and `i` those after it.
fn along<T: Scalar>(x: &[T], shape: &Shape, axis: usize, y: &mut [T]) {
    let (len, inner) = (shape[axis], shape[axis + 1..].iter().product::<usize>());
    if inner == 1 {
        return row_sums(x, len, Dest::store(y));
    }
    for (o, y) in y.chunks_exact_mut(inner.max(1)).enumerate() {
        column_sums(&x[o * len * inner..(o + 1) * len * inner], Dest::store(y));
    }
}

fn summed(shape: &Shape, axis: Option<usize>) -> Result<Shape> {
    let Some(axis) = axis else { return Shape::new(&[]) };
    let mut dims = shape.to_vec();
    match dims.get_mut(axis) {
        Some(d) => *d = 1,
        None => return Err(Error::invalid("sum", format_args!("an axis of {shape}"), axis)),
    }
    Shape::new(&dims)
}

impl Tensor {
    /// The sum of all elements, a scalar.
    ///
    /// # Errors
    /// None for numbers in host memory.
    pub fn sum(&self) -> Result<Tensor> {
        Tensor::apply1(Sum { axis: None, scale: 1.0 }, &[self])
    }

    /// The mean of all elements, a scalar; NaN if there is none.
    ///
    /// # Errors
    /// None for numbers in host memory.
    pub fn mean(&self) -> Result<Tensor> {
        Tensor::apply1(Sum { axis: None, scale: 1.0 / self.len() as f64 }, &[self])
    }

    /// The sum over one axis, which stays with length 1.
    ///
    /// # Errors
    /// An axis that does not exist.
    pub fn sum_axis(&self, axis: usize) -> Result<Tensor> {
        Tensor::apply1(Sum { axis: Some(axis), scale: 1.0 }, &[self])
    }

    /// The mean over one axis, which stays with length 1.
    ///
    /// # Errors
    /// An axis that does not exist.
    pub fn mean_axis(&self, axis: usize) -> Result<Tensor> {
        let count = self.shape().get(axis).copied().unwrap_or(1);
        Tensor::apply1(Sum { axis: Some(axis), scale: 1.0 / count as f64 }, &[self])
    }
}
