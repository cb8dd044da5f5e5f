//! A model as plain data: the config tree, which is also the module tree and the tree of names.
//!
//! Every struct here is written out with its fields; there is nothing to call. Widths: `dim` is the model's,
//! `hidden` the feed-forward's, `head_dim` one head's. [`ModelConfig::from_json`] and [`ModelConfig::from_toml`] read
//! files, where [`blocks`](ModelConfig::blocks) may be short for many layers (see [`ModelConfig::from_value`]).
//!
//! ```
//! use formwork_model::ModelConfig;
//!
//! let config = ModelConfig::from_json(r#"{
//!     "schema": 1, "name": "tiny", "vocab": 97, "context": 31, "dim": 12,
//!     "blocks": {"layers": 3, "each": {
//!         "kind": "pre_norm",
//!         "attn_norm": {"kind": "rms", "eps": 1e-5},
//!         "attn": {"kind": "multi_head", "heads": 6, "kv_heads": {"cycle": [6, 2]},
//!                  "position": {"kind": "rope", "theta": 1e4, "pairs": "halves"}},
//!         "ffn_norm": {"kind": "rms", "eps": 1e-5},
//!         "ffn": {"kind": "gated", "hidden": 32, "activation": {"kind": "silu"}}
//!     }},
//!     "norm": {"kind": "rms", "eps": 1e-5},
//!     "head": {"kind": "tied"},
//!     "init": {"std": 0.02}
//! }"#)?;
//! assert_eq!(config.blocks.len(), 3);
//! assert_eq!(ModelConfig::from_json(&config.to_json())?, config);
//!
//! let wrong = config.to_json().replace("theta", "teta");
//! let error = ModelConfig::from_json(&wrong).unwrap_err().to_string();
//! assert!(error.starts_with("blocks.0.attn.position.teta: expected one of the fields"), "{error}");
//! # Ok::<(), formwork_model::Error>(())
//! ```

mod attention;
mod block;
mod feedforward;
mod file;
mod once;
mod pattern;
mod validate;

use formwork_norm::NormConfig;
use formwork_position::PositionConfig;
use serde::{Deserialize, Serialize};

pub use attention::{AttentionConfig, MultiHeadConfig};
pub use block::{BlockConfig, ResidualConfig};
pub use feedforward::{FeedForwardConfig, GatedMlpConfig, MlpConfig};
pub(crate) use file::compact;
pub(crate) use pattern::MAX_LAYERS;

/// A language model: embeddings, blocks, a final norm, a head.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// The version of this tree: [`ModelConfig::SCHEMA`].
    pub schema: u32,
    /// What people call the model. It changes nothing.
    pub name: String,
    /// Number of token ids, `n`.
    pub vocab: usize,
    /// The longest text, in tokens.
    pub context: usize,
    /// Width of the model, `d`.
    pub dim: usize,
    /// What happens to tokens before the first block.
    #[serde(default)]
    pub embed: EmbedConfig,
    /// One entry per layer.
    pub blocks: Vec<BlockConfig>,
    /// The norm after the last block; `None` where the last block ends with its own (post-norm).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub norm: Option<NormConfig>,
    /// From hidden states to logits.
    pub head: HeadConfig,
    /// How a seed draws the parameters.
    pub init: InitConfig,
}

impl ModelConfig {
    /// The version of the config tree that this crate reads and writes.
    pub const SCHEMA: u32 = 1;
}

/// Token embeddings and what is added to them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EmbedConfig {
    /// An encoding that acts on embeddings: learned, or none where attention knows positions by itself.
    pub position: PositionConfig,
    /// A norm over the sum.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub norm: Option<NormConfig>,
    /// Dropout on the sum, in training.
    pub dropout: f64,
}

impl Default for EmbedConfig {
    fn default() -> Self {
        Self { position: no_position(), norm: None, dropout: 0.0 }
    }
}

/// The matrix from hidden states to logits, `[vocab, dim]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum HeadConfig {
    /// The token table itself: Press & Wolf 2016, <https://arxiv.org/abs/1608.05859>.
    Tied {},
    /// A matrix of its own, `head.weight`.
    Untied {},
}

/// How a seed draws the parameters: normal with mean 0; gains are 1, biases 0.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InitConfig {
    /// Standard deviation of every matrix and table.
    pub std: f64,
    /// Standard deviation of a learned position table, where it differs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position_std: Option<f64>,
    /// What happens to the projections that write into the residual stream.
    #[serde(default)]
    pub residual: ResidualInit,
}

/// The standard deviation of the two projections of a layer that write into the residual stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResidualInit {
    /// As any other matrix.
    #[default]
    Plain,
    /// Divided by `√(2·layers)`, so that the stream's variance does not grow with depth (GPT-2).
    DepthScaled,
}

/// The default wherever a position encoding may stand.
fn no_position() -> PositionConfig {
    PositionConfig::None(formwork_position::NoConfig {})
}

/// Left out of a file, as it is the default.
fn is_zero(rate: &f64) -> bool {
    *rate == 0.0
}
