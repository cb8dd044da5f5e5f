//! The sigmoid-weighted linear unit, also called swish.
//!
//! `y = x · σ(x)`, elementwise, with `σ(x) = 1 / (1 + e⁻ˣ)`.
//!
//! Elfwing et al. 2017, <https://arxiv.org/abs/1702.03118>; gated, it is the SwiGLU of Shazeer 2020,
//! <https://arxiv.org/abs/2002.05202>.
//!
//! ```
//! use formwork_activation::Silu;
//! use formwork_module::{Activation, Tensor};
//!
//! let y = Silu {}.apply(&Tensor::from_vec(vec![-1.0f64, 2.0], &[2])?)?.to_vec::<f64>()?;
//! assert!((y[0] + 0.268_941_421).abs() < 1e-8 && (y[1] - 1.761_594_156).abs() < 1e-8);
//! # Ok::<(), formwork_module::Error>(())
//! ```

use formwork_kernels::activation::Activation as Function;
use formwork_module::{Activation, Result, Tensor};
use serde::{Deserialize, Serialize};

use crate::op;

/// `x · σ(x)`; see the [module](self).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Silu {}

impl Activation for Silu {
    fn apply(&self, x: &Tensor) -> Result<Tensor> {
        op::apply(Function::Silu, x)
    }

    fn function(&self) -> Option<Function> {
        Some(Function::Silu)
    }

    fn gated(&self, gate: &Tensor, up: &Tensor) -> Result<Tensor> {
        op::gated(Function::Silu, gate, up)
    }
}
