//! The joint between a block and its normalisation.

use crate::{Module, Pass, Result, Tensor};

/// A normalisation over the last axis.
pub trait Norm: Module {
    /// `(x + delta, norm(x + delta))`: the residual sum and its norm together, which a fused op computes in one pass.
    ///
    /// # Errors
    /// Shapes that differ, or that the norm does not fit.
    fn add_norm(&self, x: &Tensor, delta: &Tensor, pass: &mut Pass<'_>) -> Result<(Tensor, Tensor)> {
        let sum = x.add_scaled(delta, 1.0)?;
        let normed = self.forward(&sum, pass)?;
        Ok((sum, normed))
    }
}
