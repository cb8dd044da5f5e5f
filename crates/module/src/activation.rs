//! The joint between a feed-forward layer and its activation.

use std::fmt::Debug;

use formwork_kernels::activation::Activation as Function;

use crate::{Result, Tensor};

/// An elementwise nonlinearity without parameters.
pub trait Activation: Debug + Send + Sync {
    /// `f(x)`, elementwise.
    ///
    /// # Errors
    /// None for numbers in host memory.
    fn apply(&self, x: &Tensor) -> Result<Tensor>;

    /// The kernels' own function that this is, if it is one of them: then a layer may compute it again in the backward
    /// instead of keeping the result.
    fn function(&self) -> Option<Function> {
        None
    }

    /// `f(gate) ⊙ up`, which a fused op computes in one pass.
    ///
    /// # Errors
    /// Shapes that differ.
    fn gated(&self, gate: &Tensor, up: &Tensor) -> Result<Tensor> {
        self.apply(gate)?.mul(up)
    }
}
