//! `x·Wᵀ + bias`: the product with a weight that stands `[out, in]`, as published checkpoints store it.

use formwork_kernels::{
    Dest, Write,
    elementwise::column_sums,
    matmul::{Mat, MatMut},
    team,
};

use super::{CHUNK, Operands, arithmetic::same_dtype, fresh, pool_of};
use crate::{Error, GradSink, Op, Outputs, Pool, Result, Saved, Scalar, Tensor, dispatch};

/// Inputs `x [.., in]`, `w [out, in]`, and optionally `bias [out]`; output `[.., out]`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Linear {
    /// In which numbers the three products are computed.
    pub operands: Operands,
}

impl Op for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn forward(&self, inputs: &[&Tensor], saved: &mut Saved) -> Result<Outputs> {
        let (x, w, bias) = match *inputs {
            [x, w] => (x, w, None),
            [x, w, bias] => (x, w, Some(bias)),
            _ => return Err(Error::invalid("linear", "2 or 3 inputs", inputs.len())),
        };
        let (x, w) = (x.compact()?, w.compact()?);
        let y = product(&x, &w, bias, pool_of(inputs), self.operands)?;
        saved.keep([x, w]);
        Ok(y.into())
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
                self.operands.matmul(MatMut::row_major(dx, rows, inp), d(), Mat::row_major(w, out, inp), write);
            })?;
            into.give::<T>(1, |dw, write| {
                let x = Mat::row_major(x, rows, inp);
                self.operands.matmul(MatMut::row_major(dw, out, inp), d().transposed(), x, write);
            })?;
            if into.inputs() > 2 {
                into.give::<T>(2, |db, write| column_sums(d().data, Dest { data: db, write }))?;
            }
            Ok(())
        })
    }
}

/// `x·Wᵀ + bias`, for `x` and `w` that are row-major.
pub(super) fn product(
    x: &Tensor,
    w: &Tensor,
    bias: Option<&Tensor>,
    pool: Option<&Pool>,
    operands: Operands,
) -> Result<Tensor> {
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
    let (rows, _) = x.shape().rows();
    let shape = x.shape().with_last(out); // [.., out]
    Ok(dispatch!(x.dtype(), T => {
        let bias = bias.map(Tensor::compact).transpose()?;
        let bias = bias.as_ref().map(|b| b.slice::<T>()).transpose()?;
        let (xs, ws) = (x.slice::<T>()?, w.slice::<T>()?);
        fresh::<T>(&shape, pool, |y| {
            // The bias goes in first, so that the product adds to it while the tile is in registers.
            let write = match bias {
                Some(bias) => { repeat(bias, y); Write::Add }
                None => Write::Store,
            };
            let w = Mat::row_major(ws, out, inp).transposed();
            operands.matmul(MatMut::row_major(y, rows, out), Mat::row_major(xs, rows, inp), w, write);
        })?
    }))
}

/// Writes `row` over and over.
fn repeat<T: Scalar>(row: &[T], to: &mut [T]) {
    let width = row.len().max(1);
    let rows = (CHUNK / width).max(1);
    team::for_each_chunk(to, rows * width, |_, part| {
        part.chunks_exact_mut(width).for_each(|part| part.copy_from_slice(row));
    });
}

impl Tensor {
    /// `self·Wᵀ + bias` over the last axis; see [`Linear`].
    ///
    /// # Errors
    /// Shapes or types of numbers that do not fit.
    pub fn linear(&self, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        self.linear_in(weight, bias, Operands::Own)
    }

    /// [`linear`](Self::linear), with the numbers said in which the product and its gradients are computed.
    ///
    /// # Errors
    /// Shapes or types of numbers that do not fit.
    pub fn linear_in(&self, weight: &Tensor, bias: Option<&Tensor>, operands: Operands) -> Result<Tensor> {
        let op = Linear { operands };
        match bias {
            Some(bias) => Tensor::apply1(op, &[self, weight, bias]),
            None => Tensor::apply1(op, &[self, weight]),
        }
    }
}
