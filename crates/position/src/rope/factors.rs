//! A divisor for each pair.
//!
//! `f'_i = f_i / factors[i]`, with as many divisors as there are pairs. Files in GGUF hold them as the tensor
//! `rope_freqs.weight`, whatever formula they came from (LLaMA 3.1's, as a rule).
//!
//! ```
//! use formwork_position::{FactorsScaling, Pairs, RopeConfig, RopeScaling};
//! let scaling = Some(RopeScaling::Factors(FactorsScaling { factors: vec![1.0, 8.0] }));
//! let config = RopeConfig { scaling, ..RopeConfig::new(100.0, Pairs::Halves) };
//! let frequencies = config.spectrum(4, 1)?.frequencies;
//! assert!((frequencies[1] - 0.1 / 8.0).abs() < 1e-15);
//! # Ok::<(), formwork_module::Error>(())
//! ```

use formwork_module::{Error, Result};
use serde::{Deserialize, Serialize};

use super::scaling::{Base, Scale, Spectrum, check_positive};

/// Settings of scaling by a list; see the [module](self).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FactorsScaling {
    /// What each pair's frequency is divided by, fastest pair first: half as many as the rotary width, each above 0.
    pub factors: Vec<f64>,
}

impl Scale for FactorsScaling {
    fn check(&self, base: &Base) -> Result<()> {
        if self.factors.len() != base.width / 2 {
            let expected = format!("{} factors, one for each pair of width {}", base.width / 2, base.width);
            return Err(Error::invalid("factors", expected, self.factors.len()));
        }
        self.factors.iter().try_for_each(|&factor| check_positive("factors", "divisors", factor))
    }

    fn spectrum(&self, base: &Base, _: usize) -> Spectrum {
        let frequencies = base.frequencies().into_iter().zip(&self.factors);
        frequencies.map(|(f, factor)| f / factor).collect::<Vec<_>>().into()
    }
}
