//! Attention in the config tree.

use formwork_attention::Biases;
use formwork_module::{Mask, choice};
use formwork_position::PositionConfig;
use serde::{Deserialize, Serialize};

use super::{is_zero, no_position};

choice! {
    /// Attention, `[b, t, d]` to `[b, t, d]`.
    pub enum AttentionConfig {
        /// Scaled dot-product attention of several heads.
        MultiHead(MultiHeadConfig) = "multi_head",
    }
}

/// Scaled dot-product attention: multi-head, grouped-query and multi-query are numbers here, not kinds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MultiHeadConfig {
    /// Query heads, `h`.
    pub heads: usize,
    /// Key and value heads, `g`, which must divide `heads`; `heads` if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kv_heads: Option<usize>,
    /// Width of a head, `e`; `dim / heads` if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head_dim: Option<usize>,
    /// Which keys a query sees.
    #[serde(default)]
    pub mask: Mask,
    /// Which projections have a bias.
    #[serde(default)]
    pub bias: Biases,
    /// Dropout on the probabilities, after the softmax, in training.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub dropout: f64,
    /// An encoding that acts on heads or scores: rotary, or none where embeddings carry positions.
    #[serde(default = "no_position")]
    pub position: PositionConfig,
}

impl MultiHeadConfig {
    /// Key and value heads, `g`.
    pub fn kv_heads(&self) -> usize {
        self.kv_heads.unwrap_or(self.heads)
    }

    /// Width of a head, `e`, in a model of width `dim`; 0 for 0 heads.
    pub fn head_dim(&self, dim: usize) -> usize {
        self.head_dim.unwrap_or_else(|| dim.checked_div(self.heads).unwrap_or(0))
    }
}
