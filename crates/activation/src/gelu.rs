//! The Gaussian error linear unit.
//!
//! `y = x · Φ(x)`, elementwise, with the exact normal distribution `Φ(x) = (1 + erf(x/√2)) / 2`.
//!
//! Hendrycks & Gimpel 2016, <https://arxiv.org/abs/1606.08415>. BERT uses this form, GPT-2 [the other](crate::GeluTanh).
//!
//! ```
//! use formwork_activation::Gelu;
//! use formwork_module::{Activation, Tensor};
//!
//! let y = Gelu {}.apply(&Tensor::from_vec(vec![-1.0f64, 2.0], &[2])?)?.to_vec::<f64>()?;
//! assert!((y[0] + 0.158_655_254).abs() < 1e-8 && (y[1] - 1.954_499_736).abs() < 1e-8);
//! # Ok::<(), formwork_module::Error>(())
//! ```

use formwork_kernels::activation::Activation as Function;
use formwork_module::{Activation, Result, Tensor};
use serde::{Deserialize, Serialize};

use crate::op;

/// `x · Φ(x)`; see the [module](self).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gelu {}

impl Activation for Gelu {
    fn apply(&self, x: &Tensor) -> Result<Tensor> {
        op::apply(Function::GeluErf, x)
    }

    fn function(&self) -> Option<Function> {
        Some(Function::GeluErf)
    }

    fn gated(&self, gate: &Tensor, up: &Tensor) -> Result<Tensor> {
        op::gated(Function::GeluErf, gate, up)
    }
}
