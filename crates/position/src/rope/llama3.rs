//! The scaling of LLaMA 3.1 and 3.2: slow pairs are interpolated, fast ones are left alone.
//!
//! With the original context `C`, a pair that turns less than `low_freq_factor` times within `C` gets `f_i / factor`, one
//! that turns more than `high_freq_factor` times keeps `f_i`, and in between, with `u = C · f_i / 2π` turns,
//! `s = (u − low) / (high − low)` and `f'_i = (1 − s) · f_i / factor + s · f_i`.
//!
//! The models are those of Grattafiori et al. 2024, <https://arxiv.org/abs/2407.21783>; the formula stands in Meta's
//! published code alone. 3.1 has factor 8, 3.2 has 32, both low 1, high 4 and an original context of 8192.
//!
//! ```
//! use formwork_position::{Llama3Scaling, Pairs, RopeConfig, RopeScaling};
//! let llama = Llama3Scaling { factor: 8.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original_context: 8192 };
//! let config = RopeConfig { scaling: Some(RopeScaling::Llama3(llama)), ..RopeConfig::new(5e5, Pairs::Halves) };
//! let frequencies = config.spectrum(128, 1)?.frequencies;
//! assert_eq!(frequencies[0], 1.0);
//! assert!((frequencies[63] * 8.0 - 5e5f64.powf(-126.0 / 128.0)).abs() < 1e-15);
//! # Ok::<(), formwork_module::Error>(())
//! ```

use std::f64::consts::TAU;

use formwork_module::{Error, Result};
use serde::{Deserialize, Serialize};

use super::scaling::{Base, Scale, Spectrum, check_context, check_factor, check_positive};

/// Settings of LLaMA 3.1's scaling; see the [module](self).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Llama3Scaling {
    /// The new context over the old one, 1 or more.
    pub factor: f64,
    /// Pairs that turn less often than this within the original context are interpolated.
    pub low_freq_factor: f64,
    /// Pairs that turn more often than this within the original context are left alone; above `low_freq_factor`.
    pub high_freq_factor: f64,
    /// The context that the model was trained on before it was scaled.
    pub original_context: usize,
}

impl Scale for Llama3Scaling {
    fn check(&self, _: &Base) -> Result<()> {
        check_factor("llama3", self.factor)?;
        check_context("llama3", self.original_context)?;
        check_positive("llama3", "low_freq_factor", self.low_freq_factor)?;
        check_positive("llama3", "high_freq_factor", self.high_freq_factor)?;
        match self.low_freq_factor < self.high_freq_factor {
            true => Ok(()),
            false => {
                let expected = format!("a high_freq_factor above low_freq_factor {}", self.low_freq_factor);
                Err(Error::invalid("llama3", expected, self.high_freq_factor)
                    .hint("the published models have 1 and 4"))
            }
        }
    }

    fn spectrum(&self, base: &Base, _: usize) -> Spectrum {
        let (low, high) = (self.low_freq_factor, self.high_freq_factor);
        let scaled = |f: f64| {
            let turns = self.original_context as f64 * f / TAU;
            let kept = ((turns - low) / (high - low)).clamp(0.0, 1.0);
            (1.0 - kept) * f / self.factor + kept * f
        };
        base.frequencies().into_iter().map(scaled).collect::<Vec<_>>().into()
    }
}
