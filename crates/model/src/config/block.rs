//! One layer: how attention and feed-forward are wired into the residual stream.
//!
//! `kind` is the wiring: `pre_norm`, `post_norm`, or `custom` for a block from another crate.

use formwork_module::choice;
use formwork_norm::NormConfig;
use serde::{Deserialize, Serialize};

use super::{AttentionConfig, FeedForwardConfig, is_zero};

choice! {
    /// A layer, `[b, t, d]` to `[b, t, d]`, by its wiring.
    pub enum BlockConfig {
        /// `h = x + attn(attn_norm(x)); y = h + ffn(ffn_norm(h))`: GPT-2, GPT-3, LLaMA.
        PreNorm(ResidualConfig) = "pre_norm",
        /// `h = attn_norm(x + attn(x)); y = ffn_norm(h + ffn(h))`: GPT-1, BERT, the first transformer.
        PostNorm(ResidualConfig) = "post_norm",
    }
}

/// The parts of a layer with two residual branches.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResidualConfig {
    /// The norm of the attention branch.
    pub attn_norm: NormConfig,
    /// Attention.
    pub attn: AttentionConfig,
    /// The norm of the feed-forward branch.
    pub ffn_norm: NormConfig,
    /// Feed-forward.
    pub ffn: FeedForwardConfig,
    /// Dropout on what either branch adds to the stream, in training.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub dropout: f64,
}

impl BlockConfig {
    /// The parts, if the wiring is one of ours.
    pub fn residual(&self) -> Option<&ResidualConfig> {
        match self {
            BlockConfig::PreNorm(parts) | BlockConfig::PostNorm(parts) => Some(parts),
            BlockConfig::Custom(_) => None,
        }
    }

    /// The attention config, if it is one of ours.
    pub fn multi_head(&self) -> Option<&super::MultiHeadConfig> {
        match &self.residual()?.attn {
            AttentionConfig::MultiHead(config) => Some(config),
            AttentionConfig::Custom(_) => None,
        }
    }
}
