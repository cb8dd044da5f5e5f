//! The settings of a training run, as plain data.
//!
//! ```
//! use formwork_module::config;
//! use formwork_train::{NonFinite, TrainConfig, TrainPrecision};
//!
//! let config: TrainConfig = config::read(serde_json::json!({
//!     "seed": 1,
//!     "schedule": {"kind": "warmup_cosine", "peak": 1e-3, "floor": 1e-4, "warmup": 100, "steps": 2000},
//!     "adamw": {"beta2": 0.99, "weight_decay": 0.1},
//!     "clip": 1.0,
//! }))?;
//! assert_eq!((config.adamw.beta1, config.adamw.beta2), (0.9, 0.99));
//! assert_eq!((config.non_finite, config.precision), (NonFinite::Stop {}, TrainPrecision::F32));
//! # Ok::<(), formwork_module::Error>(())
//! ```

use formwork_module::{Error, Precision, Result};
use serde::{Deserialize, Serialize};

use crate::{AdamWConfig, ScheduleConfig};

/// What a [`Trainer`](crate::Trainer) needs to know beside the model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// The seed of dropout. Use it for the windows drawn as well; the streams are apart.
    pub seed: u64,
    /// The learning rate of each step.
    pub schedule: ScheduleConfig,
    /// The optimiser.
    #[serde(default)]
    pub adamw: AdamWConfig,
    /// The longest gradient, all parameters together: longer ones are shortened to this. Off by default.
    #[serde(default)]
    pub clip: Option<f64>,
    /// What to do about a loss or a gradient that is not finite.
    #[serde(default)]
    pub non_finite: NonFinite,
    /// In which numbers the products of a step are computed.
    #[serde(default)]
    pub precision: TrainPrecision,
}

/// In which numbers the products of a training step are computed, forward and backward. Parameters, moments, gradients,
/// sums and the residual stream are `f32` in each case; a model in `f64` trains in `f64`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TrainPrecision {
    /// `f32`.
    #[default]
    F32,
    /// Factors are rounded to bf16: mixed precision, about twice as fast where the CPU multiplies bf16.
    Bf16,
}

impl From<TrainPrecision> for Precision {
    fn from(precision: TrainPrecision) -> Self {
        match precision {
            TrainPrecision::F32 => Precision::AsStored,
            TrainPrecision::Bf16 => Precision::Bf16,
        }
    }
}

/// What to do about a loss or a gradient that is NaN or infinite. It is never applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum NonFinite {
    /// The step is an error, and nothing has changed.
    Stop {},
    /// The step counts, but changes no parameter and no moment.
    Skip {
        /// How many steps in a row may be skipped; one more is an error.
        limit: u64,
    },
}

impl Default for NonFinite {
    fn default() -> Self {
        NonFinite::Stop {}
    }
}

impl TrainConfig {
    /// Refuses a clip that is no length. The schedule and the optimiser check themselves where they are built.
    pub(crate) fn check(&self) -> Result<()> {
        match self.clip {
            Some(clip) if !(clip.is_finite() && clip > 0.0) => {
                Err(Error::invalid("clip", "a finite length above 0", clip)
                    .hint("leave it out for no clipping"))
            }
            _ => Ok(()),
        }
    }
}
