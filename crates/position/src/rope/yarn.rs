//! YaRN: slow pairs are interpolated, fast ones are left alone, and the scores are sharpened.
//!
//! A pair that turns less than `beta_slow` times within the original context `C` gets `f_i / factor`, one that turns more
//! than `beta_fast` times keeps `f_i`, and in between the two are mixed along a ramp over the pair's number:
//!
//! `d(β) = w · ln(C / 2πβ) / (2 ln θ)`, `low = max(⌊d(beta_fast)⌋, 0)`, `high = min(⌈d(beta_slow)⌉, w − 1)`,
//! `r_i = clamp((i − low) / (high − low), 0, 1)`, `f'_i = f_i · ((1 − r_i) + r_i / factor)`.
//!
//! Cosines and sines are multiplied with `m = 0.1 ln(factor) + 1`, in queries and keys both, unless the settings say
//! otherwise: with `mscale` and `mscale_all_dim` (DeepSeek) `m` is the quotient of `0.1 mscale ln(factor) + 1` and the same
//! of `mscale_all_dim`.
//!
//! Peng et al. 2023, <https://arxiv.org/abs/2309.00071>, sections 3.2 and 3.4. The paper puts the factor into the softmax's
//! temperature, `1/√t` there; multiplying both sides of the product by it is the same.
//!
//! ```
//! use formwork_position::{Pairs, RopeConfig, RopeScaling, YarnScaling};
//! let scaling = Some(RopeScaling::Yarn(YarnScaling::new(4.0, 2048)));
//! let config = RopeConfig { scaling, ..RopeConfig::new(1e4, Pairs::Halves) };
//! let spectrum = config.spectrum(64, 1)?;
//! assert_eq!(spectrum.frequencies[0], 1.0); // the fastest is left alone
//! assert!((spectrum.frequencies[31] * 4.0 - 1e4f64.powf(-62.0 / 64.0)).abs() < 1e-15); // the slowest is interpolated
//! assert!((spectrum.scale - (0.1 * 4f64.ln() + 1.0)).abs() < 1e-15);
//! # Ok::<(), formwork_module::Error>(())
//! ```

use std::f64::consts::TAU;

use formwork_module::{Error, Result};
use serde::{Deserialize, Serialize};

use super::scaling::{Base, Scale, Spectrum, check_context, check_factor, check_positive};

/// Where the ramp between fast and slow pairs begins and ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ramp {
    /// At whole numbers of a pair, rounded outwards, as in the paper's code. Published configs say `truncate: true`.
    #[default]
    Whole,
    /// Wherever the formula says. Published configs say `truncate: false`.
    Exact,
}

/// Settings of YaRN; see the [module](self).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct YarnScaling {
    /// The new context over the old one, 1 or more.
    pub factor: f64,
    /// The context that the model was trained on before it was scaled.
    pub original_context: usize,
    /// Pairs that turn more often than this within the original context are left alone; 32 by default.
    #[serde(default = "beta_fast")]
    pub beta_fast: f64,
    /// Pairs that turn less often than this within the original context are interpolated; 1 by default.
    #[serde(default = "beta_slow")]
    pub beta_slow: f64,
    /// What cosines and sines are multiplied with, in place of what follows from the other settings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attention_factor: Option<f64>,
    /// Numerator of DeepSeek's attention factor; it counts only together with `mscale_all_dim`, and 0 is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mscale: Option<f64>,
    /// Denominator of DeepSeek's attention factor; it counts only together with `mscale`, and 0 is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mscale_all_dim: Option<f64>,
    /// Whether the ramp's ends are rounded.
    #[serde(default)]
    pub ramp: Ramp,
}

fn beta_fast() -> f64 {
    32.0
}

fn beta_slow() -> f64 {
    1.0
}

impl YarnScaling {
    /// The paper's settings for a context `factor` times as long.
    pub fn new(factor: f64, original_context: usize) -> Self {
        Self {
            factor,
            original_context,
            beta_fast: beta_fast(),
            beta_slow: beta_slow(),
            attention_factor: None,
            mscale: None,
            mscale_all_dim: None,
            ramp: Ramp::Whole,
        }
    }

    /// What cosines and sines are multiplied with.
    fn scale(&self) -> f64 {
        let sharper = |mscale: f64| match self.factor > 1.0 {
            true => 0.1 * mscale * self.factor.ln() + 1.0,
            false => 1.0,
        };
        let given = |mscale: Option<f64>| mscale.filter(|&mscale| mscale != 0.0);
        match (self.attention_factor, given(self.mscale), given(self.mscale_all_dim)) {
            (Some(factor), _, _) => factor,
            (None, Some(some), Some(all)) => sharper(some) / sharper(all),
            _ => sharper(1.0),
        }
    }

    /// The pairs between which the ramp rises.
    fn ends(&self, base: &Base) -> [f64; 2] {
        let w = base.width as f64;
        // The pair, not rounded, that turns so many times within the original context.
        let pair =
            |turns: f64| w * (self.original_context as f64 / (turns * TAU)).ln() / (2.0 * base.theta.ln());
        let (low, high) = match self.ramp {
            Ramp::Whole => (pair(self.beta_fast).floor(), pair(self.beta_slow).ceil()),
            Ramp::Exact => (pair(self.beta_fast), pair(self.beta_slow)),
        };
        let (low, high) = (low.max(0.0), high.min(w - 1.0));
        [low, if low == high { high + 0.001 } else { high }] // a step where there is no room for a ramp
    }
}

impl Scale for YarnScaling {
    fn check(&self, _: &Base) -> Result<()> {
        check_factor("yarn", self.factor)?;
        check_context("yarn", self.original_context)?;
        check_positive("yarn", "beta_fast", self.beta_fast)?;
        check_positive("yarn", "beta_slow", self.beta_slow)?;
        if self.beta_fast < self.beta_slow {
            let expected = format!("a beta_fast of at least beta_slow {}", self.beta_slow);
            return Err(Error::invalid("yarn", expected, self.beta_fast).hint("the paper uses 32 and 1"));
        }
        if let Some(factor) = self.attention_factor {
            check_positive("yarn", "attention_factor", factor)?;
        }
        for (field, value) in [("mscale", self.mscale), ("mscale_all_dim", self.mscale_all_dim)] {
            if let Some(value) = value.filter(|value| !(value.is_finite() && *value >= 0.0)) {
                return Err(Error::invalid("yarn", format_args!("{field} of 0 or more"), value));
            }
        }
        Ok(())
    }

    fn spectrum(&self, base: &Base, _: usize) -> Spectrum {
        let [low, high] = self.ends(base);
        let scaled = |(i, f): (usize, f64)| {
            let interpolated = ((i as f64 - low) / (high - low)).clamp(0.0, 1.0);
            f * (1.0 - interpolated) + f / self.factor * interpolated
        };
        let frequencies = base.frequencies().into_iter().enumerate().map(scaled).collect();
        Spectrum { frequencies, scale: self.scale() }
    }
}
