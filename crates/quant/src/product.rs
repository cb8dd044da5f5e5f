//! `x·Wᵀ + bias` with a matrix in blocks, which does not learn.
//!
//! `x`: `[.., in]`, `W`: `[out, in]`, `bias`: `[out]`, output `[.., out]`. Backward is dx = dy·W and dbias = the sum
//! of dy over all rows; neither needs `x`, so nothing is kept for it.

use std::sync::Arc;

use formwork_kernels::{
    Dest, Write,
    blocks::multiply::{Matrix, linear, transposed},
    elementwise::column_sums,
};
use formwork_module::Blocks;
use formwork_tensor::{Error, GradSink, Kind, Op, Outputs, Result, Saved, Tensor, dispatch};

/// Inputs `x [.., in]` and optionally `bias [out]`; output `[.., out]`.
#[derive(Clone, Debug)]
pub(crate) struct Product(pub(crate) Arc<Blocks>);

pub(crate) fn matrix(blocks: &Blocks) -> Matrix<'_> {
    let [rows, cols] = blocks.shape();
    Matrix { format: blocks.format(), bytes: blocks.bytes(), rows, cols }
}

impl Op for Product {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn forward(&self, inputs: &[&Tensor], _: &mut Saved) -> Result<Outputs> {
        let (x, bias) = match *inputs {
            [x] => (x, None),
            [x, bias] => (x, Some(bias)),
            _ => return Err(Error::invalid("linear", "1 or 2 inputs", inputs.len())),
        };
        let [out, inp] = self.0.shape();
        if x.shape().last() != Some(&inp) {
            let expected = format!("x [.., {inp}] for weight [{out}, {inp}]");
            return Err(Error::shape("linear", expected, x.shape()));
        }
        if let Some(bias) = bias {
            if bias.dtype() != x.dtype() {
                let kind = Kind::DType { op: "linear", expected: x.dtype(), found: bias.dtype() };
                return Err(kind.into());
            }
            if **bias.shape() != [out] {
                return Err(Error::shape("linear", format_args!("bias [{out}]"), bias.shape()));
            }
        }
        let x = x.compact()?;
        let bias = bias.map(Tensor::compact).transpose()?;
        let shape = x.shape().with_last(out); // [.., out]
        let y = dispatch!(x.dtype(), T => {
            let pool = x.pool().or(bias.as_ref().and_then(Tensor::pool));
            let mut y = formwork_tensor::Buffer::<T>::new(shape.len(), pool);
            let write = match &bias {
                Some(bias) => {
                    let bias = bias.slice::<T>()?;
                    y.chunks_exact_mut(out.max(1)).for_each(|row| row.copy_from_slice(bias));
                    Write::Add
                }
                None => Write::Store,
            };
            linear(x.slice::<T>()?, matrix(&self.0), Dest { data: &mut y, write });
            Tensor::from_buffer(y, &shape)?
        });
        Ok(y.into())
    }

    /// dx = dy·W, dbias = the sum of dy over all rows; W gets none.
    fn backward(&self, _: &Saved, grads: &[Option<&Tensor>], into: &mut GradSink<'_>) -> Result<()> {
        let dy = into.grad(grads, 0)?;
        dispatch!(dy.dtype(), T => {
            let dy = dy.slice::<T>()?;
            into.give::<T>(0, |dx, write| transposed(dy, matrix(&self.0), Dest { data: dx, write }))?;
            if into.inputs() > 1 {
                into.give::<T>(1, |db, write| column_sums(dy, Dest { data: db, write }))?;
            }
            Ok(())
        })
    }
}
