//! Layer normalisation.
//!
//! `y = (x − mean(x)) / sqrt(var(x) + eps) · gain + bias`, over the last axis, with the variance of the row itself
//! (divided by `d`, not `d − 1`); `x`, `y`: `[.., d]`, `gain`, `bias`: `[d]`.
//!
//! Ba, Kiros & Hinton 2016, <https://arxiv.org/abs/1607.06450>. Some models leave the bias out.
//!
//! ```
//! use formwork_module::{Module, Pass, Scope, Seed, Tensor};
//! use formwork_norm::{LayerConfig, LayerNorm};
//!
//! let norm = LayerNorm::new(&Scope::root(&Seed::new(1)), 2, &LayerConfig { eps: 1e-5, bias: Default::default() })?;
//! let x = Tensor::from_vec(vec![1.0f32, 5.0], &[1, 2])?; // mean 3, variance 4
//! norm.gain.set(&Tensor::from_vec(vec![1.0f32, 10.0], &[2])?)?;
//! let y = norm.forward(&x, &mut Pass::infer())?.to_vec::<f32>()?;
//! assert!((y[0] + 1.0).abs() < 1e-5 && (y[1] - 10.0).abs() < 1e-4);
//! # Ok::<(), formwork_module::Error>(())
//! ```

use formwork_module::{At, Bias, Init, Module, Norm, Param, Pass, Result, Scope, Tensor, Visit, VisitMut};
use serde::{Deserialize, Serialize};

use crate::{Normalise, Statistic, normalise::check_settings};

/// Settings of a [`LayerNorm`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerConfig {
    /// Added to the variance; positive. It differs between published models, so there is no default.
    pub eps: f64,
    /// Whether a learned vector is added at the end; no by default.
    #[serde(default)]
    pub bias: Bias,
}

/// Layer normalisation with a gain and, if the config says so, a bias; see the [module](self).
#[derive(Debug)]
pub struct LayerNorm {
    /// `[d]`; named `weight`, drawn as ones.
    pub gain: Param,
    /// `[d]`; named `bias`, drawn as zeros.
    pub bias: Option<Param>,
    /// Added to the variance.
    pub eps: f64,
}

impl LayerNorm {
    /// A norm of rows of width `dim`.
    ///
    /// # Errors
    /// A width of 0, an `eps` that is not a positive number, or what the source refuses.
    pub fn new(scope: &Scope<'_>, dim: usize, config: &LayerConfig) -> Result<Self> {
        check_settings(dim, config.eps).map_err(|e| scope.locate(e))?;
        let gain = scope.param("weight", &[dim], Init::Constant(1.0))?;
        let bias = match config.bias {
            Bias::None => None,
            Bias::Learned => Some(scope.param("bias", &[dim], Init::Constant(0.0))?),
        };
        Ok(Self { gain, bias, eps: config.eps })
    }

    fn parts(&self, pass: &mut Pass<'_>) -> Result<(Normalise, Tensor, Option<Tensor>)> {
        let norm = Normalise { statistic: Statistic::MeanAndVariance, eps: self.eps };
        Ok((norm, pass.take(&self.gain)?, self.bias.as_ref().map(|bias| pass.take(bias)).transpose()?))
    }
}

impl Module for LayerNorm {
    fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let (norm, gain, bias) = self.parts(pass)?;
        norm.apply(x, &gain, bias.as_ref())
    }

    fn visit(&self, v: &mut dyn Visit) {
        v.param("weight", &self.gain);
        if let Some(bias) = &self.bias {
            v.param("bias", bias);
        }
    }

    fn visit_mut(&mut self, v: &mut dyn VisitMut) -> Result<()> {
        v.param("weight", &mut self.gain).at("weight")?;
        match &mut self.bias {
            Some(bias) => v.param("bias", bias).at("bias"),
            None => Ok(()),
        }
    }
}

impl Norm for LayerNorm {
    fn add_norm(&self, x: &Tensor, delta: &Tensor, pass: &mut Pass<'_>) -> Result<(Tensor, Tensor)> {
        let (norm, gain, bias) = self.parts(pass)?;
        norm.add_apply(x, delta, &gain, bias.as_ref())
    }
}
