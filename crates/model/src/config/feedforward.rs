//! Feed-forward layers in the config tree.

use formwork_activation::ActivationConfig;
use formwork_module::{Bias, choice};
use serde::{Deserialize, Serialize};

use super::is_zero;

choice! {
    /// A feed-forward layer, `[b, t, d]` to `[b, t, d]`.
    pub enum FeedForwardConfig {
        /// `down(act(up(x)))`.
        Mlp(MlpConfig) = "mlp",
        /// `down(act(gate(x)) ⊙ up(x))`: SwiGLU with SiLU, GEGLU with GELU.
        Gated(GatedMlpConfig) = "gated",
    }
}

/// Two projections with an activation between them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MlpConfig {
    /// Inner width, `f`.
    pub hidden: usize,
    /// The nonlinearity.
    pub activation: ActivationConfig,
    /// Whether the projections have a bias.
    #[serde(default)]
    pub bias: Bias,
    /// Dropout on the hidden numbers, after the activation, in training: T5 has it, GPT and LLaMA do not.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub dropout: f64,
}

/// Three projections, one of which gates another: Shazeer 2020, <https://arxiv.org/abs/2002.05202>.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatedMlpConfig {
    /// Inner width, `f`.
    pub hidden: usize,
    /// The nonlinearity of the gate.
    pub activation: ActivationConfig,
    /// Whether the projections have a bias.
    #[serde(default)]
    pub bias: Bias,
    /// Dropout on the hidden numbers, after the activation, in training: T5 has it, GPT and LLaMA do not.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub dropout: f64,
}

impl FeedForwardConfig {
    /// Inner width, `f`, if the layer is one of ours.
    pub fn hidden(&self) -> Option<usize> {
        match self {
            FeedForwardConfig::Mlp(config) => Some(config.hidden),
            FeedForwardConfig::Gated(config) => Some(config.hidden),
            FeedForwardConfig::Custom(_) => None,
        }
    }
}
