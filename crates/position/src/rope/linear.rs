//! Position interpolation: every frequency divided by one factor.
//!
//! `f'_i = f_i / factor`, which is the same as dividing the positions, so that a context `factor` times as long is
//! squeezed into the angles that the model knows. It wants some fine-tuning to work well.
//!
//! Chen et al. 2023, <https://arxiv.org/abs/2306.15595>.
//!
//! ```
//! use formwork_position::{LinearScaling, Pairs, RopeConfig, RopeScaling};
//! let scaling = Some(RopeScaling::Linear(LinearScaling { factor: 2.0 }));
//! let config = RopeConfig { scaling, ..RopeConfig::new(1e4, Pairs::Halves) };
//! assert!((config.spectrum(4, 1)?.frequencies[1] - 0.005).abs() < 1e-15); // 10000^(−2/4) / 2
//! # Ok::<(), formwork_module::Error>(())
//! ```

use formwork_module::Result;
use serde::{Deserialize, Serialize};

use super::scaling::{Base, Scale, Spectrum, check_factor};

/// Settings of linear scaling; see the [module](self).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinearScaling {
    /// The new context over the old one, 1 or more.
    pub factor: f64,
}

impl Scale for LinearScaling {
    fn check(&self, _: &Base) -> Result<()> {
        check_factor("linear", self.factor)
    }

    fn spectrum(&self, base: &Base, _: usize) -> Spectrum {
        base.frequencies().into_iter().map(|f| f / self.factor).collect::<Vec<_>>().into()
    }
}
