//! Dynamic NTK: a base that grows with the length of the text.
//!
//! Up to `original_context` tokens `C` nothing changes. A text of `L > C` tokens is encoded with the base
//! `θ' = θ · (factor · L/C − (factor − 1))^(w/(w−2))`: the fastest pair stays as it was and the slowest is interpolated,
//! as far as this length needs. First by bloc97 ("NTK-aware") and emozilla (dynamic) in public posts of 2023; Peng et al. 2023,
//! <https://arxiv.org/abs/2309.00071>, sections 3.1 and 3.3.
//!
//! **The angles of every token change when the text grows.** Keys are therefore cached unturned and turned anew in each
//! pass: a pass over a part of a text attends as a pass over all of the text up to there would. What earlier layers made
//! of earlier tokens stays as it was when they came, here as in any cache; only a text fed in one piece is encoded with one
//! base throughout. Past the original context every step makes its table anew and turns all keys, in time linear in the
//! text; YaRN costs nothing.
//!
//! The length is each row's own, so that a batch gives what its rows give alone; transformers takes the longest row's for
//! the whole batch, and keeps the largest base so far until a text is shorter than the original context again.
//!
//! ```
//! use formwork_position::{DynamicScaling, Pairs, RopeConfig, RopeScaling};
//! let scaling = Some(RopeScaling::Dynamic(DynamicScaling { factor: 2.0, original_context: 8 }));
//! let config = RopeConfig { scaling, ..RopeConfig::new(100.0, Pairs::Halves) };
//! let slowest = |length| config.spectrum(4, length).map(|spectrum| spectrum.frequencies[1]);
//! assert_eq!(slowest(8)?, slowest(3)?);
//! assert!((slowest(16)? - 1.0 / 30.0).abs() < 1e-15); // θ' = 100 · 3², and 900^(−2/4) = 1/30
//! # Ok::<(), formwork_module::Error>(())
//! ```

use formwork_module::{Error, Result};
use serde::{Deserialize, Serialize};

use super::scaling::{Base, Scale, Spectrum, check_context, check_factor};

/// Settings of dynamic NTK scaling; see the [module](self).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DynamicScaling {
    /// How fast the base grows with the text, 1 or more.
    pub factor: f64,
    /// The length up to which nothing changes: the context that the model was trained on.
    pub original_context: usize,
}

impl Scale for DynamicScaling {
    fn check(&self, base: &Base) -> Result<()> {
        check_factor("dynamic", self.factor)?;
        check_context("dynamic", self.original_context)?;
        match base.width {
            2 => Err(Error::invalid("dynamic", "a rotary width of 4 or more", 2)
                .hint("one pair has no slowest to interpolate; choose another kind of scaling")),
            _ => Ok(()),
        }
    }

    fn spectrum(&self, base: &Base, length: usize) -> Spectrum {
        if length <= self.original_context {
            return base.frequencies().into();
        }
        let (w, times) = (base.width as f64, length as f64 / self.original_context as f64);
        let growth = (self.factor * times - (self.factor - 1.0)).powf(w / (w - 2.0));
        Base { theta: base.theta * growth, ..*base }.frequencies().into()
    }

    fn grows_past(&self) -> Option<usize> {
        Some(self.original_context)
    }
}
