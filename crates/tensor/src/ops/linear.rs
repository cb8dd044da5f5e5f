//! `x·Wᵀ + bias`: the product with a weight that stands `[out, in]`, as published checkpoints store it.

use formwork_kernels::{
    Dest, Write,
    elementwise::column_sums,
    matmul::{Mat, MatMut, matmul},
};

use super::{arithmetic::same_dtype, fresh, pool_of};
use crate::{Error, GradSink, Op, Outputs, Result, Saved, Scalar, Tensor, dispatch};

/// Inputs `x [.., in]`, `w [out, in]`, and optionally `bias [out]`; output `[.., out]`.
#[derive(Clone, Copy, Debug)]
pub struct Linear;

impl Op for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn forward(&self, inputs: &[&Tensor]) -> Result<(Outputs, Saved)> {
        let (x, w, bias) = match *inputs {
            [x, w] => (x, w, None),
            [x, w, bias] => (x, w, Some(bias)),
            _ => return Err(Error::invalid("linear", "2 or 3 inputs", inputs.len())),
        };
        let [out, inp] = w.dims().map_err(|_| Error::shape("linear", "a weight [out, in]", w.shape()))?;
        same_dtype("linear", x, w)?;
        if x.shape().last() != Some(&inp) {
            let expected = format!("x [.., {inp}] for weight [{out}, {inp}]");
            return Err(Error::shape("linear", expected, x.shape()));
        }
        if let Some(bias) = bias {
            same_dtype("linear", x, bias)?;
            if **bias.shape() != [out] {
                return Err(Error::shape("linear", format_args!("bias [{out}]"), bias.shape()));
            }
        }
        let (x, w) = (x.compact()?, w.compact()?);
        let (rows, _) = x.shape().rows();
        let shape = x.shape().with_last(out); // [.., out]
        let y = dispatch!(x.dtype(), T => {
            let bias = bias.map(Tensor::compact).transpose()?;
            let bias = bias.as_ref().map(|b| b.slice::<T>()).transpose()?;
            let (xs, ws) = (x.slice::<T>()?, w.slice::<T>()?);
            fresh::<T>(&shape, pool_of(inputs), |y| {
                // The bias goes in first, so that the product adds to it while the tile is in registers.
                let write = match bias {
                    Some(bias) => { y.chunks_exact_mut(out.max(1)).for_each(|row| row.copy_from_slice(bias)); Write::Add }
                    None => Write::Store,
                };
                let w = Mat::row_major(ws, out, inp).transposed();
                matmul(MatMut::row_major(y, rows, out), Mat::row_major(xs, rows, inp), w, one(), write);
            })?
        });
        Ok((vec![y], vec![x, w]))
    }

    /// dx = dy·W, dW = dyᵀ·x, dbias = the sum of dy over all rows.
    fn backward(&self, saved: &Saved, grads: &[Option<&Tensor>], into: &mut GradSink<'_>) -> Result<()> {
        let dy = into.grad(grads, 0)?;
        let (x, w) = (&saved[0], &saved[1]);
        let ((rows, inp), (_, out)) = (x.shape().rows(), dy.shape().rows());
        dispatch!(dy.dtype(), T => {
            let (x, w, d) = (x.slice::<T>()?, w.slice::<T>()?, dy.slice::<T>()?);
            let d = || Mat::row_major(d, rows, out);
            into.give::<T>(0, |dx, write| {
                matmul(MatMut::row_major(dx, rows, inp), d(), Mat::row_major(w, out, inp), one(), write);
            })?;
            into.give::<T>(1, |dw, write| {
                matmul(MatMut::row_major(dw, out, inp), d().transposed(), Mat::row_major(x, rows, inp), one(), write);
            })?;
            if into.inputs() > 2 {
                into.give::<T>(2, |db, write| column_sums(d().data, Dest { data: db, write }))?;
            }
            Ok(())
        })
    }
}

fn one<T: Scalar>() -> T {
    T::one()
}

impl Tensor {
    /// `self·Wᵀ + bias` over the last axis; see [`Linear`].
    ///
    /// # Errors
    /// Shapes or types of numbers that do not fit.
    pub fn linear(&self, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        match bias {
            Some(bias) => Tensor::apply1(Linear, &[self, weight, bias]),
            None => Tensor::apply1(Linear, &[self, weight]),
        }
    }
}
