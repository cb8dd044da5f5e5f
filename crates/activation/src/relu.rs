//! The rectifier.
//!
//! `y = max(x, 0)`, elementwise; NaN stays NaN, and the slope at 0 is taken as 0.
//!
//! Nair & Hinton 2010, <https://www.cs.toronto.edu/~fritz/absps/reluICML.pdf>.
//!
//! ```
//! use formwork_activation::Relu;
//! use formwork_module::{Activation, Tensor};
//!
//! let y = Relu {}.apply(&Tensor::from_vec(vec![-1.0f64, 2.0], &[2])?)?.to_vec::<f64>()?;
//! assert_eq!(y, [0.0, 2.0]);
//! # Ok::<(), formwork_module::Error>(())
//! ```

use formwork_kernels::activation::Activation as Function;
use formwork_module::{Activation, Result, Tensor};
use serde::{Deserialize, Serialize};

use crate::op;

/// `max(x, 0)`; see the [module](self).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Relu {}

impl Activation for Relu {
    fn apply(&self, x: &Tensor) -> Result<Tensor> {
        op::apply(Function::Relu, x)
    }

    fn function(&self) -> Option<Function> {
        Some(Function::Relu)
    }

    fn gated(&self, gate: &Tensor, up: &Tensor) -> Result<Tensor> {
        op::gated(Function::Relu, gate, up)
    }
}
