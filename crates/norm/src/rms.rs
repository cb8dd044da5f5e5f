//! Root-mean-square normalisation.
//!
//! `y = x / sqrt(mean(x²) + eps) · gain`, over the last axis; `x`, `y`: `[.., d]`, `gain`: `[d]`.
//!
//! Zhang & Sennrich 2019, <https://arxiv.org/abs/1910.07467>; `eps` is not in the paper and differs between published
//! models.
//!
//! ```
//! use formwork_module::{Module, Norm, Pass, Scope, Seed, Tensor};
//! use formwork_norm::{RmsConfig, RmsNorm};
//!
//! let norm = RmsNorm::new(&Scope::root(&Seed::new(1)), 2, &RmsConfig { eps: 1e-6 })?;
//! let [x, delta] = [[1.0f32, 4.0], [2.0, 0.0]].map(|row| Tensor::from_vec(row.to_vec(), &[1, 2]));
//! let (sum, y) = norm.add_norm(&x?, &delta?, &mut Pass::infer())?;
//! assert_eq!(sum.to_vec::<f32>()?, [3.0, 4.0]);
//! assert!((y.to_vec::<f32>()?[1] - 4.0 / 12.5f32.sqrt()).abs() < 1e-6);
//! # Ok::<(), formwork_module::Error>(())
//! ```

use formwork_module::{At, Init, Module, Norm, Param, Pass, Result, Scope, Tensor, Visit, VisitMut};
use serde::{Deserialize, Serialize};

use crate::{Normalise, Statistic, normalise::check_settings};

/// Settings of an [`RmsNorm`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RmsConfig {
    /// Added to the mean square; positive. It differs between published models, so there is no default.
    pub eps: f64,
}

/// Root-mean-square normalisation with a gain; see the [module](self).
#[derive(Debug)]
pub struct RmsNorm {
    /// `[d]`; named `weight`, drawn as ones.
    pub gain: Param,
    /// Added to the mean square.
    pub eps: f64,
}

impl RmsNorm {
    /// A norm of rows of width `dim`.
    ///
    /// # Errors
    /// A width of 0, an `eps` that is not a positive number, or what the source refuses.
    pub fn new(scope: &Scope<'_>, dim: usize, config: &RmsConfig) -> Result<Self> {
        check_settings(dim, config.eps).map_err(|e| scope.locate(e))?;
        Ok(Self { gain: scope.param("weight", &[dim], Init::Constant(1.0))?, eps: config.eps })
    }

    fn arithmetic(&self) -> Normalise {
        Normalise { statistic: Statistic::MeanSquare, eps: self.eps }
    }
}

impl Module for RmsNorm {
    fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        self.arithmetic().apply(x, &pass.take(&self.gain)?, None)
    }

    fn visit(&self, v: &mut dyn Visit) {
        v.param("weight", &self.gain);
    }

    fn visit_mut(&mut self, v: &mut dyn VisitMut) -> Result<()> {
        v.param("weight", &mut self.gain).at("weight")
    }
}

impl Norm for RmsNorm {
    fn add_norm(&self, x: &Tensor, delta: &Tensor, pass: &mut Pass<'_>) -> Result<(Tensor, Tensor)> {
        self.arithmetic().add_apply(x, delta, &pass.take(&self.gain)?, None)
    }
}
