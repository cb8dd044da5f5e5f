//! Softmax over the last axis: `yᵢ = exp(xᵢ) / Σ exp(xⱼ)`.

use formwork_kernels::{
    Dest,
    softmax::{softmax, softmax_adjoint},
};

use super::{exactly, fresh};
use crate::{GradSink, Op, Outputs, Result, Saved, Tensor, dispatch};

/// Softmax over the last axis.
#[derive(Clone, Copy, Debug)]
pub struct Softmax;

impl Op for Softmax {
    fn name(&self) -> &'static str {
        "softmax"
    }

    fn forward(&self, inputs: &[&Tensor], saved: &mut Saved) -> Result<Outputs> {
        let [x] = exactly("softmax", inputs)?;
        let x = x.compact()?;
        let (_, width) = x.shape().rows();
        let y = dispatch!(x.dtype(), T => {
            let v = x.slice::<T>()?;
            fresh::<T>(x.shape(), x.pool(), |y| softmax(v, width, <T as num_traits::One>::one(), y))?
        });
        saved.keep([y.clone()]);
        Ok(y.into())
    }

    /// dx = y ⊙ (dy − Σ dy·y).
    fn backward(&self, saved: &Saved, grads: &[Option<&Tensor>], into: &mut GradSink<'_>) -> Result<()> {
        let dy = into.grad(grads, 0)?;
        let (_, width) = dy.shape().rows();
        dispatch!(dy.dtype(), T => {
            let (y, d) = (saved[0].slice::<T>()?, dy.slice::<T>()?);
            into.give::<T>(0, |dx, write| softmax_adjoint(y, d, width, <T as num_traits::One>::one(), Dest { data: dx, write }))
        })
    }
}

impl Tensor {
    /// Softmax over the last axis.
    ///
    /// # Errors
    /// None for numbers in host memory.
    pub fn softmax(&self) -> Result<Tensor> {
        Tensor::apply1(Softmax, &[self])
    }
}
