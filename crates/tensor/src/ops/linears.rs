//! Several products of one input: queries, keys and values, or a gate and what it lets through.
//!
//! `yᵢ = x·Wᵢᵀ + bᵢ`; `x`: `[.., in]`, `Wᵢ`: `[outᵢ, in]`, `bᵢ`: `[outᵢ]`, `yᵢ`: `[.., outᵢ]`. The same bits as one
//! [`Linear`](super::Linear) each, gradients included; what is gained is that `x` is saved once, and that a backward may
//! let the products' shares of `dx` meet in one destination.
//!
//! ```
//! use formwork_tensor::{Tensor, ops::{Linears, Operands}};
//! let x = Tensor::from_vec(vec![1.0f32, 2.0], &[1, 2])?;
//! let (v, w) = (Tensor::from_vec(vec![1.0f32, 1.0], &[1, 2])?, Tensor::from_vec(vec![3.0f32, 0.5], &[1, 2])?);
//! let [a, b] = Tensor::apply(Linears { products: 2, operands: Operands::Own }, &[&x, &v, &w])?.exactly()?;
//! assert_eq!((a.item()?, b.item()?), (3.0, 4.0));
//! # Ok::<(), formwork_tensor::Error>(())
//! ```

use formwork_kernels::{
    Dest,
    elementwise::column_sums,
    matmul::{Mat, MatMut},
};

use super::{Operands, linear::product, pool_of};
use crate::{Error, GradSink, Op, Outputs, Result, Saved, Tensor, dispatch};

/// Inputs `x [.., in]`, then a weight `[out, in]` for each product, then a bias `[out]` for each or for none; one output
/// `[.., out]` for each.
#[derive(Clone, Copy, Debug)]
pub struct Linears {
    /// How many products there are: at least one.
    pub products: usize,
    /// In which numbers all of them, and their gradients, are computed.
    pub operands: Operands,
}

impl Linears {
    /// Which input is the bias of product `i`, if there are biases.
    fn bias(self, inputs: usize, i: usize) -> Option<usize> {
        (inputs > 1 + self.products).then_some(1 + self.products + i)
    }
}

impl Op for Linears {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn forward(&self, inputs: &[&Tensor], saved: &mut Saved) -> Result<Outputs> {
        let n = self.products;
        if n == 0 || ![1 + n, 1 + 2 * n].contains(&inputs.len()) {
            let expected = format!("x, {n} weights, and a bias for each or for none");
            return Err(Error::invalid("linear", expected, format_args!("{} inputs", inputs.len())));
        }
        let x = inputs[0].compact()?;
        let one = |i: usize| {
            let w = inputs[1 + i].compact()?;
            let bias = self.bias(inputs.len(), i).map(|at| inputs[at]);
            product(&x, &w, bias, pool_of(inputs), self.operands) // [.., out]
        };
        let outputs = match n {
            1 => one(0)?.into(),
            2 => [one(0)?, one(1)?].into(),
            3 => [one(0)?, one(1)?, one(2)?].into(),
            _ => (0..n).map(one).collect::<Result<Vec<_>>>()?.into(),
        };
        if saved.wanted() {
            let weights = inputs[1..=n].iter().map(|w| w.compact()).collect::<Result<Vec<_>>>()?;
            saved.keep([x]);
            saved.keep(weights);
        }
        Ok(outputs)
    }

    /// dx = Σᵢ dyᵢ·Wᵢ, dWᵢ = dyᵢᵀ·x, dbᵢ = the sum of dyᵢ over all rows; a product that nothing used adds nothing.
    fn backward(&self, saved: &Saved, grads: &[Option<&Tensor>], into: &mut GradSink<'_>) -> Result<()> {
        let Some((x, weights)) = saved.split_first() else {
            return Err(Error::missing("the saved tensors of linear"));
        };
        let (rows, inp) = x.shape().rows();
        dispatch!(x.dtype(), T => {
            let xs = x.slice::<T>()?;
            // From the last to the first, as the reverse pass would meet one layer after the other: the same bits.
            for (i, (w, dy)) in weights.iter().zip(grads).enumerate().rev() {
                let Some(dy) = dy else { continue };
                let (out, _) = w.shape().rows();
                let (w, dy) = (w.slice::<T>()?, dy.slice::<T>()?);
                // The sink lets the first share be stored and the others be added.
                into.give::<T>(0, |dx, write| {
                    let (dy, w) = (Mat::row_major(dy, rows, out), Mat::row_major(w, out, inp));
                    self.operands.matmul(MatMut::row_major(dx, rows, inp), dy, w, write);
                })?;
                into.give::<T>(1 + i, |dw, write| {
                    let dy = Mat::row_major(dy, rows, out).transposed();
                    let x = Mat::row_major(xs, rows, inp);
                    self.operands.matmul(MatMut::row_major(dw, out, inp), dy, x, write);
                })?;
                if let Some(at) = self.bias(into.inputs(), i) {
                    into.give::<T>(at, |db, write| column_sums(dy, Dest { data: db, write }))?;
                }
            }
            Ok(())
        })
    }
}
