//! The joint between a feed-forward layer and its activation.

use std::fmt::Debug;

use crate::{Result, Tensor};

/// An elementwise nonlinearity without parameters.
pub trait Activation: Debug + Send + Sync {
    /// `f(x)`, elementwise.
    ///
    /// # Errors
    /// None for numbers in host memory.
    fn apply(&self, x: &Tensor) -> Result<Tensor>;

    /// `f(gate) ⊙ up`, which a fused op computes in one pass.
    ///
    /// # Errors
    /// Shapes that differ.
    fn gated(&self, gate: &Tensor, up: &Tensor) -> Result<Tensor> {
        self.apply(gate)?.mul(up)
    }
}
