//! The Gaussian error linear unit, approximated.
//!
//! `y = x · (1 + tanh(√(2/π) · (x + 0.044715 x³))) / 2`, elementwise.
//!
//! Hendrycks & Gimpel 2016, <https://arxiv.org/abs/1606.08415>. It differs from [the exact form](crate::Gelu) by up to
//! 5e-4, so weights trained with one want that one.
//!
//! ```
//! use formwork_activation::GeluTanh;
//! use formwork_module::{Activation, Tensor};
//!
//! let y = GeluTanh {}.apply(&Tensor::from_vec(vec![-1.0f64, 2.0], &[2])?)?.to_vec::<f64>()?;
//! assert!((y[0] + 0.158_808).abs() < 1e-6 && (y[1] - 1.954_598).abs() < 1e-6);
//! # Ok::<(), formwork_module::Error>(())
//! ```

use formwork_kernels::activation::Activation as Function;
use formwork_module::{Activation, Result, Tensor};
use serde::{Deserialize, Serialize};

use crate::op;

/// GELU with `Φ` approximated by a hyperbolic tangent; see the [module](self).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GeluTanh {}

impl Activation for GeluTanh {
    fn apply(&self, x: &Tensor) -> Result<Tensor> {
        op::apply(Function::GeluTanh, x)
    }

    fn function(&self) -> Option<Function> {
        Some(Function::GeluTanh)
    }

    fn gated(&self, gate: &Tensor, up: &Tensor) -> Result<Tensor> {
        op::gated(Function::GeluTanh, gate, up)
    }
}
